"""Errors of files with results."""


class ExportError(OSError):
    """Raised when a file cannot be written or read; earlier content stays intact."""
