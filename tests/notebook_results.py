"""Rendered results in notebooks; ``python tests/notebook_results.py`` refreshes them.

Notebooks are committed without outputs, except in the cells tagged ``keep``, for readers without a
kernel. A run under nbmake compares its outputs with the kept ones.
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
# Allow a changed word, because other processors round differently, but not a changed table.
LEAST_ALIKE = 0.9


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
        if "keep" not in cell["metadata"].get("tags", []):
            cell["outputs"] = []
        for output in cell["outputs"]:
            if "execution_count" in output:
                output["execution_count"] = None


def refresh(path: Path) -> None:
    """Run a notebook and keep the outputs of its tagged cells."""
    notebook = nbformat.read(path, 4)
    NotebookClient(notebook, timeout=300).execute(cwd=path.parent)
    strip(notebook)
    nbformat.write(notebook, path)


if __name__ == "__main__":
    shutil.rmtree(NOTEBOOKS / ".captionkit", ignore_errors=True)
    for each in sys.argv[1:] or sorted(NOTEBOOKS.glob("*.ipynb")):
        refresh(Path(each))
