"""Rendered results in notebooks; ``python tests/notebook_results.py`` refreshes them.

Notebooks are committed without outputs, except in the cells tagged ``keep``, for readers without a
kernel. A run under nbmake compares its outputs with the kept ones. Cells tagged ``picture`` keep a
picture of what they show in JupyterLab, taken once the whole notebook has run there.
"""

from __future__ import annotations

import base64
import io
import re
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

import nbformat
from nbclient import NotebookClient
from PIL import Image

from captionkit.display.diff import overlap

NOTEBOOKS = Path(__file__).parents[1] / "notebooks"
MOST_BYTES = 300_000
# Allow a changed word, because other processors round differently, but not a changed table.
LEAST_ALIKE = 0.9
KEPT = {"keep", "picture"}
# Pixels of a picture, and of the page that it is taken of: wide enough for the workbench's two columns.
PICTURE_WIDTH, PAGE = 1100, {"width": 1900, "height": 1150}
ACTIVATE = "(index) => { window.jupyterapp.shell.currentWidget.content.activeCellIndex = index; }"


def kept(notebook: nbformat.NotebookNode) -> dict[str, list[nbformat.NotebookNode]]:
    """Return the outputs of tagged cells, by cell id."""
    return {
        cell["id"]: cell["outputs"]
        for cell in notebook["cells"]
        if "keep" in cell["metadata"].get("tags", [])
    }


def text_of(outputs: list[nbformat.NotebookNode]) -> str:
    """Return text and tables of a cell's outputs, without pictures, numbers of runs and times."""
    texts = []
    for output in outputs:
        data = output.get("data", {})
        texts.append(output.get("text") or data.get("text/html") or data.get("text/plain", ""))
    text = re.sub(r"<style.*?</style>|<[^>]*>", " ", "\n".join(texts), flags=re.S)
    return re.sub(r"run \d+|[\d.]+ windows/s", "", text)


def differences(committed: nbformat.NotebookNode, produced: nbformat.NotebookNode) -> list[str]:
    """Describe the kept results that a notebook does not produce."""
    found = []
    now = kept(produced)
    for cell, outputs in kept(committed).items():
        before, after = text_of(outputs), text_of(now[cell])
        if not before.strip():
            found.append(f"cell {cell} keeps no result")
        elif overlap(before, after) < LEAST_ALIKE:
            found.append(f"cell {cell} keeps\n{before}\nbut produces\n{after}")
    return found


def strip(notebook: nbformat.NotebookNode) -> None:
    """Remove all outputs except those of tagged cells."""
    notebook["metadata"].pop("widgets", None)
    for cell in notebook["cells"]:
        cell["metadata"].pop("execution", None)
        if cell["cell_type"] != "code":
            continue
        cell["execution_count"] = None
        if not KEPT & set(cell["metadata"].get("tags", [])):
            cell["outputs"] = []
        for output in cell["outputs"]:
            if "execution_count" in output:
                output["execution_count"] = None


def refresh(path: Path) -> None:
    """Run a notebook and keep the outputs of its tagged cells."""
    notebook = nbformat.read(path, 4)
    NotebookClient(notebook, timeout=300).execute(cwd=path.parent)
    cells = notebook["cells"]
    tags = [cell["metadata"].get("tags", []) for cell in cells]
    numbers = [number for number, each in enumerate(tags) if "picture" in each]
    for number, picture in zip(numbers, pictures(path, numbers), strict=True):
        cells[number]["outputs"] = [as_output(picture)]
    strip(notebook)
    nbformat.write(notebook, path)


def as_output(picture: bytes) -> nbformat.NotebookNode:
    """Return a picture as an output of a cell."""
    data = {"image/png": base64.b64encode(picture).decode(), "text/plain": "What this cell shows"}
    return nbformat.v4.new_output("display_data", data)


def pictures(path: Path, numbers: list[int]) -> list[bytes]:
    """Run a notebook in JupyterLab and return what some of its cells show, as PNG."""
    if not numbers:
        return []
    from lab import Lab, chromium
    from playwright.sync_api import sync_playwright

    with tempfile.TemporaryDirectory() as home, sync_playwright() as playwright:
        folder = Path(home)
        shutil.copytree(NOTEBOOKS.parent / "data" / "videos", folder / "data" / "videos")
        (folder / "notebooks").mkdir()
        shutil.copy(path, folder / "notebooks")
        browser = playwright.chromium.launch(executable_path=chromium(), args=["--no-sandbox"])
        lab = Lab(folder)
        try:
            notebook = lab.open(browser, f"notebooks/{path.name}")
            notebook.page.set_viewport_size(PAGE)
            run = "(command) => window.jupyterapp.commands.execute(`notebook:${command}`)"
            notebook.page.evaluate(run, "run-all-cells")
            found = []
            # A workbench that is opened again shows what the cells below it made, and closes the
            # session that they used: go upwards.
            for number in reversed(numbers):
                notebook.page.evaluate(ACTIVATE, number)
                notebook.page.evaluate(run, "run-cell")
                found.append(_picture(notebook.page))
            return found[::-1]
        finally:
            lab.close()
            browser.close()


def _picture(page: Any) -> bytes:
    """Take a picture of the active cell's first output, as far as it is on the page."""
    output = page.locator(".jp-Cell.jp-mod-active .jp-OutputArea-output").first
    failed = "application/vnd.jupyter.stderr"
    assert output.get_attribute("data-mime-type") != failed, output.text_content()
    output.evaluate("(each) => each.scrollIntoView({block: 'start'})")
    # Pictures come after their rows.
    page.wait_for_timeout(5000)
    box = output.bounding_box()
    box["height"] = min(box["height"], PAGE["height"] - box["y"] - 40)
    image = Image.open(io.BytesIO(page.screenshot(clip=box))).convert("RGB")
    image.thumbnail((PICTURE_WIDTH, PICTURE_WIDTH), Image.Resampling.LANCZOS)
    packed = io.BytesIO()
    image.quantize(128).save(packed, "PNG", optimize=True)
    return packed.getvalue()


if __name__ == "__main__":
    shutil.rmtree(NOTEBOOKS / ".captionkit", ignore_errors=True)
    for each in sys.argv[1:] or sorted(NOTEBOOKS.glob("*.ipynb")):
        refresh(Path(each))
