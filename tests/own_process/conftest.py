"""Tests that replace parts of vLLM, in pytest processes of their own.

Replaced parts must not leak into other tests, and importing vLLM takes longer than all of these tests:
a file's tests share one process, which starts with the first of them and writes the results to a file.
The kernels run once more in a process with vLLM's kernels for AVX2 if the processor has others.
"""

from __future__ import annotations

import ast
import functools
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from captionkit.engine.torch_companions import reconcile

# Warnings are vLLM's own.
PYTEST = (sys.executable, "-m", "pytest", "-q", "-W", "ignore")
RESULTS = "CAPTIONKIT_TEST_RESULTS"
AVX2 = {"ATEN_CPU_CAPABILITY": "avx2", "ONEDNN_MAX_CPU_ISA": "AVX2", "CAPTIONKIT_TEST_AVX2": "1"}

if RESULTS in os.environ:
    reconcile()
    if AVX2.items() <= os.environ.items():
        import torch

        # vLLM picks its kernels by this, when it is imported.
        torch.cpu._is_avx512_supported = lambda: False


def pytest_pycollect_makemodule(module_path, parent):
    return None if RESULTS in os.environ else FileApart.from_parent(parent, path=module_path)


def pytest_runtest_logreport(report):
    if RESULTS in os.environ and (report.when == "call" or not report.passed):
        name = report.nodeid.rpartition("::")[2].partition("[")[0]
        line = json.dumps([name, report.outcome, report.longreprtext])
        with Path(os.environ[RESULTS]).open("a") as results:
            results.write(line + "\n")


class FileApart(pytest.File):
    """A file's tests by their names, without an import of the file."""

    def collect(self):
        kinds = ["", "avx2"] if "cpu_kernels" in self.path.name and _has_avx512() else [""]
        for node in ast.parse(self.path.read_text()).body:
            if isinstance(node, ast.FunctionDef) and node.name.startswith("test_"):
                for kind in kinds:
                    name = f"{node.name}[{kind}]" if kind else node.name
                    test = TestApart.from_parent(self, name=name)
                    test.where = (self.path, node.lineno - 1, name)
                    test.kind, test.short_name = kind, node.name
                    test.add_marker(pytest.mark.engine)
                    yield test


class TestApart(pytest.Item):
    """A test whose results come from the process of its file and kind."""

    def runtest(self):
        results, output = _results(self.path, self.kind)
        own = [(outcome, text) for name, outcome, text in results if name == self.short_name]
        assert own, f"no result\n{output}"
        failures = [text for outcome, text in own if outcome != "passed"]
        if failures:
            pytest.fail("\n".join(failures), pytrace=False)

    def repr_failure(self, excinfo):
        return str(excinfo.value)

    def reportinfo(self):
        return self.where


@functools.cache
def _results(path: Path, kind: str) -> tuple[list[list[str]], str]:
    """Results of all tests of a file, as (name, outcome, text), and what pytest printed."""
    with tempfile.TemporaryDirectory() as folder:
        results = Path(folder) / "results"
        # Without the options of this run, which pytest-xdist adds to.
        ours = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
        done = subprocess.run(
            [*PYTEST, "--confcutdir", Path(__file__).parent, path],
            env={**ours, RESULTS: str(results), **(AVX2 if kind else {})},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
            timeout=280,
        )
        lines = results.read_text().splitlines() if results.exists() else []
    return [json.loads(line) for line in lines], done.stdout[-5000:]


def _has_avx512() -> bool:
    cpu = Path("/proc/cpuinfo")
    return cpu.exists() and "avx512f" in cpu.read_text()
