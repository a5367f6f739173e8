"""One HTML file that shows a run: thumbnails, both stages, what changed, filters.

Everything is in the file and nothing is loaded from elsewhere; a policy in its head forbids all
scripts but its own. Imports display; called by `export.whole_run`.
"""

from __future__ import annotations

import base64
import hashlib

import pandas as pd

from captionkit.review import checks
from captionkit.display import html as display
from captionkit.display.diff import word_diff
from captionkit.export.source import Exportable
from captionkit.recipe import toml

_SCRIPT = """
const rows = [...document.querySelectorAll("tbody tr")];
const [words, video, faults] = ["words", "video", "faults"].map((id) => document.getElementById(id));
const said = document.getElementById("said");
function show() {
  let shown = 0;
  for (const row of rows) {
    const hit = row.textContent.toLowerCase().includes(words.value.toLowerCase())
      && (!video.value || row.dataset.video === video.value)
      && (!faults.checked || row.dataset.faults === "1");
    row.hidden = !hit;
    shown += hit;
  }
  said.textContent = shown + " of " + rows.length + " windows shown";
}
for (const control of [words, video, faults]) control.addEventListener("input", show);
show();
"""
_STYLE = """
:root {color-scheme: light dark}
body {font: 15px/1.5 system-ui, sans-serif; margin: 2em auto; max-width: 1280px; padding: 0 1em}
.bar {display: flex; gap: 1em; flex-wrap: wrap; align-items: center; margin: 1em 0}
input, select {font: inherit; padding: 3px 6px}
.ck {width: 100%; font-size: 14px}
pre {white-space: pre-wrap; overflow-wrap: anywhere}
"""


def report(run: Exportable, table: pd.DataFrame) -> bytes:
    """The report of a run as one HTML file; ``table`` holds its captions as they are to be shown."""
    images = run.thumbnails
    found = checks.faults(table, run.recipe.schema)
    two = run.recipe.stage2_prompt is not None
    rows, videos = [], []
    for name, group in table.groupby(["video", "window"], sort=False):
        video, window = str(name[0]), int(name[1])
        texts = {int(row.stage): row.text for row in group.itertuples() if isinstance(row.text, str)}
        faults = sorted({name for index in group.index for name in found[index]})
        cells = [display.picture(images, video, window), display.place(group.iloc[0])]
        if two and len(texts) == 2:
            cells += display.diff_cells(word_diff(texts[1], texts[2]))
        else:
            cells += [display.escape(texts.get(stage, "")) for stage in ((1, 2) if two else (1,))]
        errors = [error for error in group["error"] if isinstance(error, str)]
        told = [f'<span class="e">failed: {display.escape(error)}</span>' for error in errors]
        told += [display.escape(name) for name in faults]
        cells.append("\n".join(told))
        mark = f' data-video="{display.escape(video)}" data-faults="{int(bool(told))}"'
        rows.append(f"<tr{mark}>" + "".join(f"<td>{cell}</td>" for cell in cells) + "</tr>")
        if video not in videos:
            videos.append(video)
    heads = ["", "window", *(("stage 1", "stage 2") if two else ("caption",)), "findings"]
    head = "".join(f'<th scope="col">{each}</th>' for each in heads)
    choices = "".join(f"<option>{display.escape(each)}</option>" for each in videos)
    digest = base64.b64encode(hashlib.sha256(_SCRIPT.encode()).digest()).decode()
    policy = (
        f"default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'sha256-{digest}'"
    )
    title = display.escape(f"captionkit, run {run.id}")
    page = f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>{title}</title>
<meta http-equiv="Content-Security-Policy" content="{policy}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<style>{display.STYLE}{_STYLE}</style></head><body>
<h1>{title}</h1><p>{display.escape(run.progress)}</p>
<details><summary>Recipe</summary><pre>{display.escape(toml(run.recipe))}</pre></details>
<div class="bar"><label>Text <input id="words" type="search"></label>
<label>Video <select id="video"><option value="">all</option>{choices}</select></label>
<label><input id="faults" type="checkbox"> only with findings</label>
<output id="said" aria-live="polite"></output></div>
<table class="ck"><thead><tr>{head}</tr></thead><tbody>
{"".join(rows)}
</tbody></table><script>{_SCRIPT}</script></body></html>
"""
    return page.encode("utf-8")
