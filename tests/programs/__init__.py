"""Programs that tests run in separate processes, as ``python -m programs.NAME`` with arguments.

A program of checks has functions named ``check_…``; `outcomes` runs them all in one process, because
the imports take longer than the checks.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

TESTS = Path(__file__).parents[1]


def start(name: str, *arguments: object, **settings: Any) -> subprocess.Popen[str]:
    """Start a program; ``settings`` go to `subprocess.Popen`, ``env`` extends this environment."""
    path = os.pathsep.join([str(TESTS), str(TESTS.parent)])
    environment = {**os.environ, "PYTHONPATH": path, **settings.pop("env", {})}
    command = [sys.executable, "-m", f"programs.{name}", *map(str, arguments)]
    return subprocess.Popen(command, env=environment, text=True, **settings)


def run(name: str, *arguments: object, **settings: Any) -> str:
    """Run a program to its end and return its output; fail with its errors if it fails."""
    process = start(name, *arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE, **settings)
    printed, errors = process.communicate()
    assert process.returncode == 0, errors[-3000:]
    return printed


def outcomes(name: str, *arguments: object) -> dict[str, str]:
    """Return the traceback of each check of a program, "" for a passed check."""
    printed = run("checks", name, *arguments)
    found: dict[str, str] = json.loads(printed.splitlines()[-1])
    return found
