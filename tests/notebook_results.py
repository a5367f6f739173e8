"""The rendered results that the notebooks keep: refreshed by ``python tests/notebook_results.py``.

Notebooks are committed without outputs, but for the cells tagged ``keep``: a reader without a kernel
sees those. When a notebook runs under nbmake, they are compared with what it produces.
"""

from __future__ import annotations

import re
import shutil
import sys
from pathlib import Path

import nbformat
from nbclient import NotebookClient

from captionkit.display.diff import overlap

NOTEBOOKS = Path(__file__).parents[1] / "notebooks"
MOST_BYTES = 300_000
# Another processor rounds otherwise, so that a word may change; a table that changed does not pass.
LEAST_ALIKE = 0.9


def kept(notebook: nbformat.NotebookNode) -> dict[str, list[nbformat.NotebookNode]]:
    """The outputs of the cells that keep theirs, by cell id."""
    return {
        cell["id"]: cell["outputs"]
        for cell in notebook["cells"]
        if "keep" in cell["metadata"].get("tags", [])
    }


def text_of(outputs: list[nbformat.NotebookNode]) -> str:
    """Text and tables of a cell's outputs, without pictures, numbers of runs and times."""
    told = []
    for output in outputs:
        data = output.get("data", {})
        told.append(output.get("text") or data.get("text/html") or data.get("text/plain", ""))
    text = re.sub(r"<style.*?</style>|<[^>]*>", " ", "\n".join(told), flags=re.S)
    return re.sub(r"run \d+|[\d.]+ windows/s", "", text)


def differences(committed: nbformat.NotebookNode, produced: nbformat.NotebookNode) -> list[str]:
    """What a notebook keeps that it does not produce."""
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
    """Take all outputs away but those that are kept."""
    notebook["metadata"].pop("widgets", None)
    for cell in notebook["cells"]:
        cell["metadata"].pop("execution", None)
        if cell["cell_type"] != "code":
            continue
        cell["execution_count"] = None
        if "keep" not in cell["metadata"].get("tags", []):
            cell["outputs"] = []
        for output in cell["outputs"]:
            if "execution_count" in output:
                output["execution_count"] = None


def refresh(path: Path) -> None:
    """Run a notebook and keep what its tagged cells produce."""
    notebook = nbformat.read(path, 4)
    NotebookClient(notebook, timeout=300).execute(cwd=path.parent)
    strip(notebook)
    nbformat.write(notebook, path)


if __name__ == "__main__":
    shutil.rmtree(NOTEBOOKS / ".captionkit", ignore_errors=True)
    for each in sys.argv[1:] or sorted(NOTEBOOKS.glob("*.ipynb")):
        refresh(Path(each))
