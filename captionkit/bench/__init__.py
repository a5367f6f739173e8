"""Measurements: ``captionkit bench`` (speed), ``python -m captionkit.bench.store`` (the store)."""
