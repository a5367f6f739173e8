"""The export formats, one file each."""

from captionkit.export.base import Format
from captionkit.export.formats.curator import curator
from captionkit.export.formats.report import report
from captionkit.export.formats.subtitles import srt, vtt
from captionkit.export.formats.tables import csv, jsonl, parquet

FORMATS: dict[str, Format] = {
    "jsonl": Format("JSON lines, one row for each window and stage", jsonl),
    "csv": Format("comma-separated, for spreadsheets", csv),
    "parquet": Format("Parquet", parquet),
    "vtt": Format("WebVTT subtitles, one file for each video", vtt, many=True),
    "srt": Format("SRT subtitles, one file for each video", srt, many=True),
    "html": Format("one page with thumbnails, stages side by side and filters", report),
    "nemo": Format("NeMo Curator's folders: metas/v0/<clip id>.json", curator, many=True),
}
