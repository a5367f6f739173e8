"""Measurements: ``captionkit bench`` (speed), ``python -m captionkit.bench NAME`` (all others)."""
