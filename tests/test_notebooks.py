"""Rules for the notebooks as files; nbmake runs them."""

from __future__ import annotations

import base64
import copy
import json

import nbformat
import pytest
from notebook_results import MOST_BYTES, NOTEBOOKS, differences, kept, strip

PATHS = sorted(NOTEBOOKS.glob("*.ipynb"))
NAMES = [
    "01_first_captions",
    "02_browse_and_tune",
    "03_two_stages",
    "04_batch_size_and_fp8",
    "05_export_and_scale",
    "06_your_own_video_and_model",
    "07_at_scale",
    "08_a_training_set",
    "09_which_caption_is_true",
    "10_find_the_recipe",
]


def test_all_tutorials_exist():
    assert [path.stem for path in PATHS] == NAMES


@pytest.mark.parametrize("path", PATHS, ids=lambda path: path.stem)
def test_a_notebook_keeps_a_small_rendered_result_and_no_other_output(path):
    notebook = nbformat.read(path, 4)
    nbformat.validate(notebook)
    assert path.stat().st_size < MOST_BYTES
    results = kept(notebook)
    assert results
    assert all(results.values())
    stripped = copy.deepcopy(notebook)
    strip(stripped)
    assert json.dumps(stripped) == json.dumps(notebook)


def test_workbench_comparison_and_sweep_are_kept_as_small_pictures():
    found = []
    for path in PATHS:
        for cell in nbformat.read(path, 4)["cells"]:
            for output in cell.get("outputs", []):
                if "image/png" in output.get("data", {}):
                    picture = base64.b64decode(output["data"]["image/png"])
                    assert picture.startswith(b"\x89PNG")
                    assert len(picture) < 150_000
                    found.append(cell["source"].splitlines()[-1])
    assert {"bench", "ck.compare(short, dense)", "sweep.figure()"} <= set(found)


@pytest.mark.parametrize("path", PATHS, ids=lambda path: path.stem)
def test_a_notebook_begins_with_a_title_and_ends_with_a_next_step(path):
    cells = nbformat.read(path, 4)["cells"]
    assert cells[0]["source"].startswith("# ")
    assert "**Try next:**" in cells[-1]["source"]
    assert sum(cell["cell_type"] == "markdown" for cell in cells) >= len(cells) / 4


def test_a_result_that_a_notebook_does_not_produce_is_reported():
    notebook = nbformat.read(PATHS[0], 4)
    other = copy.deepcopy(notebook)
    (outputs,) = kept(other).values()
    outputs[0]["data"]["text/html"] = "<p>quite another thing</p>"
    assert len(differences(notebook, other)) == 1
    assert differences(notebook, copy.deepcopy(notebook)) == []
