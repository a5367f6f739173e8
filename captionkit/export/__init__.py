"""Results as files: for spreadsheets, players, people and pipelines.

`export_run` writes a run, `load_captions` reads JSONL and Parquet back, `JsonLines` follows a run on
the command line. Imports runs' tables, display and checks; called by runs, widgets and the command
line.
"""

from captionkit.export.errors import ExportError
from captionkit.export.lines import JsonLines, window_row
from captionkit.export.tables import load_captions
from captionkit.export.whole_run import FORMATS, export_run

__all__ = ["FORMATS", "ExportError", "JsonLines", "export_run", "load_captions", "window_row"]
