"""Windows and captions as HTML for people.

All text from a model or a file is escaped. Colours are readable on light and dark backgrounds and never
the only mark.
"""

from __future__ import annotations

import base64
import html
import itertools
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

import pandas as pd

from captionkit.display.diff import LEAST_OVERLAP, Piece, overlap, word_diff

# Function from a window's key to its thumbnail, or None.
Images = Callable[[str], "bytes | None"]
# Stretches of a text: first character, and the one behind the last.
Spans = Sequence[tuple[int, int]]

MOST_ROWS = 50
_SHORT = 24
STYLE = """
.ck {border-collapse: collapse; font: 13px/1.45 system-ui, sans-serif}
.ck th, .ck td {text-align: left; vertical-align: top; padding: 5px 9px;
  border-bottom: 1px solid rgba(128, 128, 128, .35); white-space: pre-wrap;
  overflow-wrap: break-word; max-width: 34em}
.ck img {display: block; width: 128px; border-radius: 4px}
.ck ins {background: rgba(46, 160, 67, .14); text-decoration: underline; color: inherit}
.ck del {background: rgba(218, 54, 51, .12); text-decoration: line-through; color: inherit}
.ck u {text-decoration: underline wavy #d32f2f; text-decoration-skip-ink: none; color: inherit}
.ck mark {background: rgba(128, 128, 128, .16); border-bottom: 1px dotted; color: inherit}
"""
# Styles inside the tags: sanitizers of code hosts remove style sheets, or show them as text.
_TABLE = "border-collapse:collapse;font:13px/1.45 system-ui,sans-serif"
_CELL = (
    "text-align:left;vertical-align:top;padding:5px 9px;border-bottom:1px solid rgba(128,128,128,.35);"
    "white-space:pre-wrap;overflow-wrap:break-word;max-width:34em"
)
_NOTE = "font:13px/1.6 system-ui,sans-serif;margin:2px 0 6px"
_MARKS = {
    "<ins>": "background:rgba(46,160,67,.14);text-decoration:underline;color:inherit",
    "<del>": "background:rgba(218,54,51,.12);text-decoration:line-through;color:inherit",
    "<u>": "text-decoration:underline wavy #d32f2f;text-decoration-skip-ink:none;color:inherit",
    "<mark>": "background:rgba(128,128,128,.16);border-bottom:1px dotted;color:inherit",
}
# Mixed with the colour of the text around it, red is readable on light and on dark.
_FAULT = "font-weight:600;color:color-mix(in srgb,#d32f2f 62%,currentcolor)"


# Show control characters and direction marks instead of obeying them.
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
    """Make control characters and direction marks of a text visible."""
    return text.replace("\r\n", "\n").translate(_VISIBLE)


def escape(text: object) -> str:
    """Escape untrusted text as HTML."""
    return html.escape(visible(str(text)))


def no_images(key: str) -> bytes | None:
    """Return None: windows without readable frames have no thumbnails."""
    return None


def picture(images: Images, key: str, name: str) -> str:
    """Return a window's thumbnail as an image with its name as alternative text, or an empty text."""
    data = images(key)
    if data is None:
        return ""
    source = f"data:image/jpeg;base64,{base64.b64encode(data).decode()}"
    return f'<img alt="{escape(name)}" width="128" src="{source}">'


def table_html(heads: Sequence[str], rows: Iterable[Sequence[str]], caption: str = "") -> str:
    """Return a table as HTML; ``rows`` are HTML already, ``heads`` and ``caption`` text."""
    head = "".join(f'<th scope="col" style="{_CELL}">{escape(each)}</th>' for each in heads)
    body = "".join(
        "<tr>" + "".join(f'<td style="{_CELL}">{cell}</td>' for cell in row) + "</tr>" for row in rows
    )
    for tag, style in _MARKS.items():
        body = body.replace(tag, f'{tag[:-1]} style="{style}">')
    above = f'<div style="{_NOTE}">{escape(caption)}</div>' if caption else ""
    return (
        f'{above}<table class="ck" style="{_TABLE}">'
        f"{f'<thead><tr>{head}</tr></thead>' if heads else ''}<tbody>{body}</tbody></table>"
    )


def frame_html(table: pd.DataFrame) -> str:
    """Return a table of figures and texts, without its index, as HTML; what is missing stays empty."""

    def cell(value: object) -> str:
        if pd.api.types.is_scalar(value) and pd.isna(value):
            return ""
        text = escape(f"{value:.3g}" if isinstance(value, float) else value)
        # Beside many columns of figures, a text would get the width of its longest word.
        return f'<div style="min-width:16em">{text}</div>' if len(text) > _SHORT else text

    return table_html(
        [str(name) for name in table.columns],
        [[cell(value) for value in row] for row in table.itertuples(index=False)],
    )


def marked_spans(text: str, spans: Spans, start: int = 0) -> str:
    """Return a text as HTML, with stretches underlined by a wave: what a video does not support.

    ``spans`` are first and last character (exclusive) of stretches; ``start`` is where the text begins.
    """
    borders = {each - start for span in spans for each in span}
    inside = sorted({0, len(text), *(each for each in borders if 0 < each < len(text))})
    shown = ""
    for first, last in itertools.pairwise(inside):
        part = escape(text[first:last])
        false = any(begin - start <= first and last <= end - start for begin, end in spans)
        shown += f"<u>{part}</u>" if false and part.strip() else part
    return shown


def diff_cells(pieces: Sequence[Piece], unsupported: tuple[Spans, Spans] = ((), ())) -> tuple[str, str]:
    """Return both sides of a word diff as HTML; removed words struck through, added ones underlined.

    Where the texts share little, the words that they share are marked instead; see `diff.marked`.
    ``unsupported`` are stretches of both sides, see `marked_spans`.
    """
    left = right = ""
    at = [0, 0]

    def shown(piece: Piece) -> tuple[str, str]:
        made = []
        for side, text in enumerate((piece.before, piece.after)):
            made.append(marked_spans(text, unsupported[side], at[side]))
            at[side] += len(text)
        return made[0], made[1]

    sides = ("".join(piece.before for piece in pieces), "".join(piece.after for piece in pieces))
    if overlap(*sides) < LEAST_OVERLAP:
        for piece in pieces:
            before, after = shown(piece)
            shared = piece.kind == "same" and before.strip()
            left += f"<mark>{before}</mark>" if shared else before
            right += f"<mark>{after}</mark>" if shared else after
        return left, right
    for piece in pieces:
        before, after = shown(piece)
        same = piece.kind == "same"
        left += before if same or not before else f"<del>{before}</del>"
        right += after if same or not after else f"<ins>{after}</ins>"
    return left, right


class TextTable(pd.DataFrame):
    """A table of pandas that a notebook shows aligned left, as are tables that are made from it.

    A class of its own, since pandas aligns by an option that would change other tables, too;
    ``pandas.DataFrame(table)`` is the same table without it.
    """

    @property
    def _constructor(self) -> Callable[..., TextTable]:
        return TextTable

    def _repr_html_(self) -> str | None:
        html = super()._repr_html_()
        if html is None:
            return None
        return re.sub(r"<(t[hd])(?=[ >])", r'<\1 style="text-align:left"', html)


class WindowTable(TextTable):
    """Windows as rows, kept through operations of pandas; a notebook shows thumbnails."""

    _metadata = ["images", "left_out"]  # noqa: RUF012
    images: Images | None = None
    #: What the session left out, with the reasons.
    left_out: Mapping[str, str] | None = None

    @property
    def _constructor(self) -> Callable[..., WindowTable]:
        return WindowTable

    def _repr_html_(self) -> str | None:
        if self.images is None or not {"video", "window", "key"} <= set(self.columns):
            return super()._repr_html_()
        return windows_html(self, self.images) + left_out_html(self.left_out or {})

    def __repr__(self) -> str:
        text = super().__repr__()
        if not self.left_out:
            return text
        return f"{text}\n{len(self.left_out):,} left out (session.problems): {_names(self.left_out)}"


def windows_html(table: pd.DataFrame, images: Images) -> str:
    """Return windows with thumbnails."""
    timed = {"start_s", "end_s"} <= set(table.columns)
    rows = []
    for row in table.head(MOST_ROWS).itertuples():
        name = f"{row.video}, window {row.window}"
        cells = [picture(images, row.key, name), escape(row.video), str(row.window)]
        if timed:
            cells.append(f"{row.start_s:.1f} to {row.end_s:.1f} s")
        cells += [escape(getattr(row, each)) for each in ("frames", "note", "tags") if each in table]
        rows.append(cells)
    heads = ["", "video", "window", *(["time"] if timed else [])]
    heads += [name for name in ("frames", "note", "tags") if name in table]
    return table_html(heads, rows, _count(len(table), "window"))


def run_html(
    table: pd.DataFrame,
    images: Images,
    *,
    two_stages: bool,
    summary: str,
    total: int = 0,
    unsupported: Mapping[Any, Spans] = MappingProxyType({}),
) -> str:
    """Return the first captions of a run (`Run.head`) with thumbnails, below the summary.

    ``total`` is the number of windows of the whole run; ``unsupported`` are stretches of captions by
    the table's index, see `marked_spans`.
    """
    shown = table[table["key"].isin(table["key"].drop_duplicates().head(MOST_ROWS))]
    rows = []
    for key, group in shown.groupby("key", sort=False):
        first = group.iloc[0]
        cells = [_stage(group, stage, unsupported) for stage in ((1, 2) if two_stages else (1,))]
        name = f"{first['video']}, window {first['window']}"
        rows.append([picture(images, key, name), where(first), *cells])
    heads = ["", "window", *(["stage 1", "stage 2"] if two_stages else ["caption"])]
    return table_html(heads, rows, summary + _first(total))


def _stage(group: pd.DataFrame, stage: int, unsupported: Mapping[Any, Spans]) -> str:
    texts = []
    for row in group[group["stage"] == stage].itertuples():
        if isinstance(row.error, str):
            texts.append(f'<span style="{_FAULT}">failed: {escape(row.error)}</span>')
        else:
            texts.append(marked_spans(row.text, unsupported.get(row.Index, ())))
    return "\n".join(texts)


def where(row: pd.Series | Mapping[str, Any]) -> str:
    """Return name and time of a window, from a row of captions."""
    span = f"{row['start_s']:.1f} to {row['end_s']:.1f} s".replace(" ", "&nbsp;")
    return f"{escape(row['video'])} {row['window']}\n{span}"


def comparison_html(table: pd.DataFrame, names: tuple[str, str], summary: str, images: Images) -> str:
    """Return two captions of each window (`Comparison.table`), with differences marked.

    Also marks what a window does not support, where the table has ``unsupported`` stretches of both.
    """
    rows = []
    for _, row in table.head(MOST_ROWS).iterrows():
        unsupported = row["unsupported"] if "unsupported" in table else ((), ())
        cells = diff_cells(word_diff(row["before"], row["after"]), unsupported)
        name = f"{row['video']}, window {row['window']}"
        rows.append([picture(images, row["key"], name), where(row), *cells])
    return table_html(["", "window", *names], rows, f"{_count(len(table), 'window')}, {summary}")


def matrix_html(
    table: pd.DataFrame, keys: Mapping[tuple[str, int], str], images: Images, total: int
) -> str:
    """Return windows against prompts (`Matrix.table`); ``keys`` are keys by (video, number).

    ``total`` is the number of all windows.
    """
    rows = []
    for index, row in table.head(MOST_ROWS).iterrows():
        video, number = index
        cells = [
            escape(text) if isinstance(text, str) else f'<span style="{_FAULT}">failed</span>'
            for text in row
        ]
        shown = picture(images, keys[index], f"{video}, window {number}")
        rows.append([shown, f"{escape(video)} {number}", *cells])
    return table_html(["", "window", *map(str, table.columns)], rows, _count(total, "window"))


def left_out_html(problems: Mapping[str, str]) -> str:
    """Return what a session left out, folded below a line with the number; empty if nothing is."""
    if not problems:
        return ""
    shown = list(problems.items())[:MOST_ROWS]
    items = [
        f"<li>{escape(reason if name in reason else f'{name}: {reason}')}</li>"
        for name, reason in shown
    ]
    if len(problems) > len(shown):
        items.append(f"<li>… {len(problems) - len(shown):,} more in session.problems</li>")
    return (
        f'<details style="{_NOTE}"><summary style="{_FAULT}">{len(problems):,} left out: '
        f"{escape(_names(problems))}</summary><ul>{''.join(items)}</ul></details>"
    )


def _names(problems: Iterable[str], most: int = 3) -> str:
    names = [each.rsplit("/", 1)[-1] for each in problems]
    return ", ".join(names[:most]) + (" …" if len(names) > most else "")


def _count(count: int, noun: str) -> str:
    return f"{count:,} {noun}{'' if count == 1 else 's'}{_first(count)}"


def _first(count: int) -> str:
    return f", the first {MOST_ROWS} shown" if count > MOST_ROWS else ""
