"""Results as files: write captions for spreadsheets, players, people and pipelines, and read them back.

A new format is one file in ``formats/`` and one line in `FORMATS`.
"""

from captionkit.export.errors import ExportError
from captionkit.export.files import export_run
from captionkit.export.formats import FORMATS
from captionkit.export.lines import JsonLines
from captionkit.export.load import load_captions
from captionkit.export.rows import ForeignRow, foreign_rows

__all__ = [
    "FORMATS",
    "ExportError",
    "ForeignRow",
    "JsonLines",
    "export_run",
    "foreign_rows",
    "load_captions",
]
