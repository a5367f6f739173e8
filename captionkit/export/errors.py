"""What may go wrong with files of results."""


class ExportError(OSError):
    """A file cannot be written or read; what was written before is intact."""
