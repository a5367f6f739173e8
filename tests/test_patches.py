"""Patches of vLLM are in one folder; each has a reason and a condition for its removal."""

from __future__ import annotations

import ast

from common import ROOT

PACKAGE = ROOT / "captionkit"
PATCHES = PACKAGE / "engine" / "cpu"
# Parts of vLLM that change without notice.
PRIVATE = ("vllm.v1", "vllm.model_executor", "vllm.multimodal", "vllm.ir")
# Nothing else tells how many tokens of a video a step encodes. Both are alike in vLLM 0.32 and 0.33.
NEEDED = {"vllm.multimodal", "vllm.multimodal.encoder_budget"}


def docstrings(path):
    """Yield (name, docstring) of a module and of its definitions."""
    tree = ast.parse(path.read_text())
    for node in (tree, *ast.walk(tree)):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef):
            yield f"{path.stem}.{getattr(node, 'name', '')}", ast.get_docstring(node) or ""


def test_each_patch_says_its_reason_its_place_upstream_and_when_it_goes():
    patches = {
        name: text
        for path in sorted(PATCHES.glob("*.py"))
        for name, text in docstrings(path)
        if "Reason:" in text
    }
    assert {name.split(".")[0] for name in patches} == {path.stem for path in PATCHES.glob("*.py")} - {
        "__init__",
        "worker",
    }
    for name, text in patches.items():
        order = [text.index(part) for part in ("Reason:", "Upstream:", "Goes when:")]
        assert order == sorted(order), name
        assert "https://github.com/vllm-project/vllm/" in text[order[1] : order[2]], name


def test_parts_of_vllm_that_change_without_notice_are_named_in_the_patches_only():
    found = []
    for path in PACKAGE.rglob("*.py"):
        if path.is_relative_to(PATCHES):
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom) and node.module:
                names = [node.module]
            private = [each for each in names if each.startswith(PRIVATE) and each not in NEEDED]
            found += [f"{path.name} imports {each}" for each in private]
    assert not found, "\n".join(found)
