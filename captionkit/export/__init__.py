"""Results as files: write captions for spreadsheets, players, people and pipelines, and read them back.

A new format is one file in ``formats/`` and one line in `FORMATS`.
"""

from captionkit.export.errors import ExportError
from captionkit.export.files import export_run
from captionkit.export.formats import FORMATS
from captionkit.export.lines import JsonLines
from captionkit.export.load import load_captions

__all__ = ["FORMATS", "ExportError", "JsonLines", "export_run", "load_captions"]
