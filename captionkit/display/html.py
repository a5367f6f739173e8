"""Windows and captions as HTML for people.

All text from a model or a file is escaped. Colours are readable on a light and a dark ground and are
never the only mark.
"""

from __future__ import annotations

import base64
import html
from collections.abc import Callable, Iterable, Sequence

import pandas as pd

from captionkit.display.diff import Piece, word_diff

Images = Callable[[str, int], "bytes | None"]

MOST_ROWS = 50
STYLE = """
.ck {border-collapse: collapse; font: 13px/1.45 system-ui, sans-serif}
.ck th, .ck td {text-align: left; vertical-align: top; padding: 5px 9px;
  border-bottom: 1px solid rgba(128, 128, 128, .35); white-space: pre-wrap;
  overflow-wrap: anywhere; max-width: 34em}
.ck img {display: block; width: 128px; border-radius: 4px}
.ck ins {background: rgba(46, 160, 67, .22); text-decoration: underline; font-weight: 600}
.ck del {background: rgba(218, 54, 51, .20); text-decoration: line-through}
.ck .e {color: #d1242f; font-weight: 600}
.ck-m {font: 13px/1.6 system-ui, sans-serif; margin: 2px 0 6px}
"""


# Control marks and marks that turn the direction of writing are shown, not obeyed.
_VISIBLE = {
    **{code: chr(0x2400 + code) for code in range(32) if code not in (9, 10)},
    **{code: f"[U+{code:04X}]" for code in range(0x80, 0xA0)},
    **{
        code: f"[U+{code:04X}]"
        for code in (0x61C, 0x200E, 0x200F, *range(0x202A, 0x202F), *range(0x2066, 0x206A))
    },
    127: "\u2421",
}


def visible(text: str) -> str:
    """Text with its control and direction marks made visible."""
    return text.replace("\r\n", "\n").translate(_VISIBLE)


def escape(text: object) -> str:
    """Untrusted text as HTML."""
    return html.escape(visible(str(text)))


def picture(images: Images, video: str, window: int) -> str:
    """A thumbnail as an image element with a text for those who do not see it; else nothing."""
    data = images(video, window)
    if data is None:
        return ""
    text = escape(f"{video}, window {window}")
    return f'<img alt="{text}" src="data:image/jpeg;base64,{base64.b64encode(data).decode()}">'


def table_html(heads: Sequence[str], rows: Iterable[Sequence[str]], caption: str = "") -> str:
    """A table; cells are HTML already, heads and caption are text."""
    head = "".join(f'<th scope="col">{escape(each)}</th>' for each in heads)
    body = "".join("<tr>" + "".join(f"<td>{cell}</td>" for cell in row) + "</tr>" for row in rows)
    said = f'<div class="ck-m">{escape(caption)}</div>' if caption else ""
    return (
        f'<style>{STYLE}</style>{said}<table class="ck"><thead><tr>{head}</tr></thead>'
        f"<tbody>{body}</tbody></table>"
    )


def diff_cells(pieces: Sequence[Piece]) -> tuple[str, str]:
    """Both sides of a word diff as HTML; removed words struck through, added ones underlined."""
    left = right = ""
    for piece in pieces:
        before, after = escape(piece.before), escape(piece.after)
        same = piece.kind == "same"
        left += before if same or not before else f"<del>{before}</del>"
        right += after if same or not after else f"<ins>{after}</ins>"
    return left, right


def windows_html(table: pd.DataFrame, images: Images) -> str:
    """Windows with thumbnails."""
    rows = []
    for row in table.head(MOST_ROWS).itertuples():
        cells = [picture(images, row.video, row.window), escape(row.video), str(row.window)]
        if "start" in table and "end" in table:
            cells.append(f"{row.start:.1f} to {row.end:.1f} s")
        if "frames" in table:
            cells.append(str(row.frames))
        if "note" in table:
            cells.append(escape(row.note))
        rows.append(cells)
    heads = ["", "video", "window"]
    heads += ["time"] if "start" in table and "end" in table else []
    heads += [name for name in ("frames", "note") if name in table]
    return table_html(heads, rows, _count(len(table), "window"))


def run_html(table: pd.DataFrame, images: Images, *, two_stages: bool, said: str) -> str:
    """The captions of a run (`Run.captions`) with thumbnails; ``said`` stands above them."""
    rows = []
    groups = table.groupby(["video", "window"], sort=False)
    for (video, window), group in list(groups)[:MOST_ROWS]:
        cells = [_stage(group, stage) for stage in ((1, 2) if two_stages else (1,))]
        rows.append([picture(images, video, window), place(group.iloc[0]), *cells])
    heads = ["", "window", *(["stage 1", "stage 2"] if two_stages else ["caption"])]
    return table_html(heads, rows, said)


def _stage(group: pd.DataFrame, stage: int) -> str:
    told = []
    for row in group[group["stage"] == stage].itertuples():
        if isinstance(row.error, str):
            told.append(f'<span class="e">failed: {escape(row.error)}</span>')
        else:
            told.append(escape(row.text))
    return "\n".join(told)


def place(row: pd.Series) -> str:
    """Where a window is, from a row of captions."""
    span = f"{row['start_s']:.1f} to {row['end_s']:.1f} s".replace(" ", "&nbsp;")
    return f"{escape(row['video'])} {row['window']}\n{span}"


def comparison_html(table: pd.DataFrame, names: tuple[str, str], said: str, images: Images) -> str:
    """Two captions of each window (`Comparison.table`), with what differs marked."""
    rows = []
    for _, row in table.head(MOST_ROWS).iterrows():
        cells = diff_cells(word_diff(row["before"], row["after"]))
        rows.append([picture(images, row["video"], row["window"]), place(row), *cells])
    return table_html(["", "window", *names], rows, f"{_count(len(table), 'window')}, {said}")


def matrix_html(table: pd.DataFrame, images: Images) -> str:
    """Windows against prompts (`Matrix.table`)."""
    rows = []
    for (video, window), row in table.head(MOST_ROWS).iterrows():
        cells = [
            escape(text) if isinstance(text, str) else '<span class="e">failed</span>' for text in row
        ]
        place = f"{escape(video)} {window}"
        rows.append([picture(images, video, window), place, *cells])
    return table_html(["", "window", *map(str, table.columns)], rows, _count(len(table), "window"))


def _count(count: int, what: str) -> str:
    shown = f", the first {MOST_ROWS} shown" if count > MOST_ROWS else ""
    return f"{count} {what}{'' if count == 1 else 's'}{shown}"
