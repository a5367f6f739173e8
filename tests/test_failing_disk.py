"""A disk that fails once while a film is read: an error or the right frames, no neighbour lost."""

from __future__ import annotations

import shutil
import subprocess

import pytest
from common import VIDEOS

import captionkit as ck
from captionkit.video import DecodePool, VideoError

# Fails one read of the film, as soon as somebody has put the file ARMED there.
SHIM = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
ssize_t read(int file, void *to, size_t count) {
    static ssize_t (*real)(int, void *, size_t);
    char link[64], path[4096];
    if (!real) real = dlsym(RTLD_NEXT, "read");
    snprintf(link, sizeof link, "/proc/self/fd/%d", file);
    ssize_t length = readlink(link, path, sizeof path - 1);
    if (length > 0 && getenv("ARMED")) {
        path[length] = 0;
        if (strstr(path, "failing.mp4") && !unlink(getenv("ARMED"))) { errno = EIO; return -1; }
    }
    return real(file, to, count);
}
"""


@pytest.fixture
def armed(tmp_path, monkeypatch):
    """Return the file that lets the next read of ``failing.mp4`` in a new process fail."""
    compiler = shutil.which("cc")
    if compiler is None:
        pytest.skip("there is no C compiler to build a disk that fails")
    source = tmp_path / "shim.c"
    source.write_text(SHIM)
    shim = tmp_path / "shim.so"
    subprocess.run([compiler, "-shared", "-fPIC", "-o", shim, source, "-ldl"], check=True)
    monkeypatch.setenv("LD_PRELOAD", str(shim))
    monkeypatch.setenv("ARMED", str(tmp_path / "armed"))
    return tmp_path / "armed"


def test_a_read_that_fails_gives_an_error_or_the_right_frames_and_the_next_one_works(armed, tmp_path):
    film = shutil.copy(VIDEOS / "harbour.mp4", tmp_path / "failing.mp4")
    numbers = list(range(0, 200, 20))
    with DecodePool(workers=1) as pool:
        identity = pool.probe(film).identity
        right = pool.read(film, numbers, (64, 36), identity)
    for number in (0, 1):
        with DecodePool(workers=1) as pool:
            if number:
                pool.read(film, numbers[:1], (64, 36), identity)
            armed.touch()
            try:
                frames = pool.read(film, numbers, (64, 36), identity)
                assert (frames.pixels == right.pixels).all() or frames.damage
            except VideoError as error:
                assert "failing.mp4" in str(error)
            again = pool.read(film, numbers, (64, 36), identity)
            assert (again.pixels == right.pixels).all()
            assert again.damage is None
        armed.unlink(missing_ok=True)


def test_a_disk_that_fails_in_a_run_costs_no_neighbour(armed, tmp_path, fake):
    films = tmp_path / "films"
    films.mkdir()
    shutil.copy(VIDEOS / "harbour.mp4", films / "failing.mp4")
    shutil.copy(VIDEOS / "winter.mp4", films / "sound.mp4")
    session = ck.Session(films, store=tmp_path / "runs.sqlite", backend=fake)
    total = len(session.windows)
    armed.touch()
    run = session.caption("Say it.")
    assert not armed.exists()
    table = run.captions
    lost = table[table["error"].notna()]
    assert len(table) == total
    assert len(lost) <= 1
    assert set(lost["video"]) <= {"failing"}
    # The same call tries a window that the disk has failed again.
    assert run.retry_failed().status == "done" if len(lost) else run.status == "done"
    assert run.captions["error"].isna().all()
    session.close()
