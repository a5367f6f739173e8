"""Temporary files: nobody else's links are followed, and a kill leaves nothing for long."""

from __future__ import annotations

import os
import stat

import pytest

from captionkit.system import temp


@pytest.fixture(autouse=True)
def shared(tmp_path, monkeypatch):
    """Return a temporary folder of the system, without captionkit's own yet."""
    monkeypatch.setattr(temp.tempfile, "gettempdir", lambda: str(tmp_path))
    return tmp_path


@pytest.mark.parametrize("trap", ["link", "open", "file"])
def test_a_folder_that_somebody_else_prepared_is_not_used(shared, trap):
    name = shared / f"captionkit-{os.getuid()}"
    victim = shared / "victim"
    victim.mkdir(mode=0o700)
    if trap == "link":
        name.symlink_to(victim)
    elif trap == "open":
        name.mkdir()
        name.chmod(0o777)
    else:
        name.touch()
    folder = temp.own_folder()
    assert folder not in (name, victim)
    assert stat.S_IMODE(folder.lstat().st_mode) == 0o700
    assert list(victim.iterdir()) == []


def test_a_link_in_the_place_of_a_log_is_replaced_and_not_followed(shared):
    victim = shared / "victim"
    victim.write_text("precious")
    log = temp.own_folder() / "engine.log"
    log.symlink_to(victim)
    with temp.create(log) as file:
        file.write(b"a log")
    assert victim.read_text() == "precious"
    assert log.read_bytes() == b"a log"
    assert stat.S_IMODE(log.stat().st_mode) == 0o600


def test_folders_of_killed_processes_are_swept_and_those_in_use_stay(shared):
    folder = temp.own_folder()
    left = folder / "bench-left"
    left.mkdir()
    (left / ".lock").touch()
    with temp.TempFolder("bench") as used:
        temp._sweep(folder.iterdir())
        assert list(folder.iterdir()) == [used]
    assert list(folder.iterdir()) == []
