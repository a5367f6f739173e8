"""A run as one HTML file: thumbnails, both stages, their differences, filters.

The file loads nothing from elsewhere; a policy in its head forbids all foreign scripts. Its last part
has the run's rows as JSON lines, which `load_captions` reads.
"""

from __future__ import annotations

import base64
import hashlib
import html
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from captionkit import display
from captionkit.export.base import Export
from captionkit.export.formats.tables import json_lines, records_of
from captionkit.review import UNSUPPORTED, faults

#: Id of the element with the rows.
ROWS_ID = "captions"
_SCRIPT = """
const rows = [...document.querySelectorAll("tbody tr")];
const [words, video, faults] = ["words", "video", "faults"].map((id) => document.getElementById(id));
for (const name of new Set(rows.map((row) => row.dataset.video))) video.add(new Option(name, name));
const count = document.getElementById("count");
function show() {
  let shown = 0;
  for (const row of rows) {
    const hit = row.textContent.toLowerCase().includes(words.value.toLowerCase())
      && (!video.value || row.dataset.video === video.value)
      && (!faults.checked || row.dataset.faults === "1");
    row.hidden = !hit;
    shown += hit;
  }
  count.textContent = shown + " of " + rows.length + " windows shown";
}
for (const control of [words, video, faults]) control.addEventListener("input", show);
show();
"""
_STYLE = """
:root {color-scheme: light dark}
body {font: 15px/1.5 system-ui, sans-serif; margin: 2em auto; max-width: 1280px; padding: 0 1em}
.bar {display: flex; gap: 1em; flex-wrap: wrap; align-items: center; margin: 1em 0}
input, select {font: inherit; padding: 3px 6px}
:focus-visible {outline: 2px solid #1976d2; outline-offset: 1px}
.fault {font-weight: 600; color: color-mix(in srgb, #d32f2f 62%, CanvasText)}
.ck {width: 100%; font-size: 14px}
pre {white-space: pre-wrap; overflow-wrap: anywhere}
"""


def report(export: Export, path: Path) -> None:
    """Write the report of a run as one HTML file."""
    run, recipe = export.run, export.recipe
    heads = ["", "window", *(("stage 1", "stage 2") if recipe.stage2 else ("caption",)), "findings"]
    head = "".join(f'<th scope="col">{each}</th>' for each in heads)
    digest = base64.b64encode(hashlib.sha256(_SCRIPT.encode()).digest()).decode()
    policy = (
        f"default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'sha256-{digest}'"
    )
    title = display.escape(f"captionkit, run {run.id}")
    with path.open("w", encoding="utf-8") as page:
        page.write(f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>{title}</title>
<meta http-equiv="Content-Security-Policy" content="{policy}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<style>{display.STYLE}{_STYLE}</style></head><body>
<h1>{title}</h1><p>{display.escape(run.progress)}</p>
<details><summary>Recipe</summary><pre>{display.escape(recipe.to_toml())}</pre></details>
<div class="bar"><label>Text <input id="words" type="search"></label>
<label>Video <select id="video"><option value="">all</option></select></label>
<label><input id="faults" type="checkbox"> only with findings</label>
<output id="count" aria-live="polite"></output></div>
<table class="ck"><thead><tr>{head}</tr></thead><tbody>
""")
        for table in export.tables(by_window=True):
            verdicts = run.verdicts(table)
            found = faults(table, recipe.schema, verdicts[UNSUPPORTED])
            false = verdicts["places"]
            windows: dict[tuple[str, int], dict[Any, dict[str, Any]]] = {}
            for index, row in table.to_dict("index").items():
                windows.setdefault((row["video"], row["window"]), {})[index] = row
            for rows in windows.values():
                page.write(_row(export, rows, found, false) + "\n")
        page.write(f"""</tbody></table>
<details><summary>All columns, as JSON lines</summary>
<pre id="{ROWS_ID}">""")
        for table in export.tables():
            lines = json_lines(records_of(table), ascii_only=True).decode()
            page.write(html.escape(lines))
        page.write(f"</pre></details>\n<script>{_SCRIPT}</script></body></html>\n")


def _row(
    export: Export,
    rows: Mapping[Any, Mapping[str, Any]],
    found: dict[object, list[str]],
    false: pd.Series,
) -> str:
    """Return a window as a row of the page; false claims are underlined with a wave."""
    two = export.run.recipe.stage2 is not None
    first = next(iter(rows.values()))
    texts = {int(row["stage"]): row["text"] for row in rows.values() if isinstance(row["text"], str)}
    name = f"{first['video']}, window {first['window']}"
    cells = [display.picture(export.run.thumbnail, first["key"], name), display.where(first)]
    spans = {int(row["stage"]): false.get(index, ()) for index, row in rows.items()}
    if two and len(texts) == 2:
        pieces = display.word_diff(texts[1], texts[2])
        cells += display.diff_cells(pieces, (spans[1], spans[2]))
    else:
        cells += [
            display.marked_spans(texts.get(stage, ""), spans.get(stage, ()))
            for stage in export.run.recipe.stages
        ]
    findings = [
        f'<span class="fault">failed: {display.escape(error)}</span>'
        for error in (row["error"] for row in rows.values())
        if isinstance(error, str)
    ]
    findings += sorted({name for index in rows for name in found[index]})
    cells.append("\n".join(findings))
    video = display.escape(first["video"])
    mark = f' data-video="{video}" data-faults="{int(bool(findings))}"'
    return f"<tr{mark}>" + "".join(f"<td>{cell}</td>" for cell in cells) + "</tr>"
