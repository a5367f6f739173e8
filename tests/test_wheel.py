"""The wheel, installed without this checkout, captions its sample films."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

import pytest
from common import ROOT

pytestmark = pytest.mark.engine


@pytest.fixture(scope="module")
def programs(tmp_path_factory) -> Path:
    """Return the folder of programs of an environment with the wheel.

    Installing vLLM takes minutes, so the environment borrows this one's packages by a .pth file.
    Python ignores .pth files among those packages, so the editable install of captionkit stays out.
    This proves that the wheel has all files and needs no file of the checkout. `.ci/run` proves that
    its list of dependencies is complete.
    """
    folder = tmp_path_factory.mktemp("wheel")
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    subprocess.run(build, cwd=ROOT, check=True, capture_output=True)
    (wheel,) = folder.glob("*.whl")
    environment = folder / "environment"
    venv.create(environment, symlinks=True)
    programs = environment / "bin"
    pip = [sys.executable, "-m", "pip", "--python", str(programs / "python")]
    subprocess.run([*pip, "install", "--no-deps", wheel], check=True, capture_output=True)
    (packages,) = environment.glob("lib/python*/site-packages")
    (packages / "borrowed.pth").write_text(sysconfig.get_path("purelib"))
    return programs


def test_the_wheel_captions_its_sample_films_and_the_command_finds_them_captioned(programs, tmp_path):
    bare = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    store = tmp_path / "runs.sqlite"
    # -P keeps the program's folder, a part of the checkout, off the path.
    session = subprocess.run(
        [programs / "python", "-P", ROOT / "tests" / "programs" / "samples.py", store],
        cwd=tmp_path, env=bare, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert session.returncode == 0, session.stderr[-3000:]
    made = json.loads(session.stdout.splitlines()[-1])
    installed = programs.parent
    assert all(Path(path).is_relative_to(installed) for path in [made["package"], *made["films"]])
    assert len(made["films"]) == 8
    assert made["captions"] == made["windows"] == 33
    command = subprocess.run(
        [programs / "captionkit", "caption", *made["films"], "--prompt", "short", "--store", store],
        cwd=tmp_path, env=bare, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert command.returncode == 0, command.stderr[-3000:]
    assert "in the store already" in command.stderr
