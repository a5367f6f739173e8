"""Measurements: ``captionkit bench`` (speed), ``python -m captionkit.bench`` (opening, store)."""
