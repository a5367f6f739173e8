"""A terminal that closes and a kernel that dies: finished captions stay, and the run can go on."""

from __future__ import annotations

import signal
import subprocess
import time
from contextlib import closing

import programs
import pytest
from common import VIDEOS

import captionkit as ck
from captionkit.store import Store

PROMPT = "Say what it is."


@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGTERM, signal.SIGKILL])
@pytest.mark.parametrize("program", ["fake_command", "fake_run"])
def test_a_program_that_dies_keeps_its_captions_and_frees_its_run(fake, tmp_path, program, number):
    path = tmp_path / "runs.sqlite"
    words = [VIDEOS, path]
    recipe = {"stage2": "More: {caption}", "batch_size": 2}
    if program == "fake_command":
        words = ["caption", VIDEOS, f"--store={path}", "--prompt", PROMPT, "--batch-size=2"]
        recipe.pop("stage2")
    # In a session of its own, as a terminal's: nothing else gets the signal.
    process = programs.start(
        program, *words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
    )
    with closing(Store(path)) as store:
        while not (kept := store.counts(1).done):
            assert process.poll() is None
            time.sleep(0.01)
        process.send_signal(number)
        assert process.wait(timeout=60) != 0
        run = ck.open_run(1, store)
        assert run.progress.done >= kept
        assert run.progress.done < run.progress.total
        # Nobody has to wait for the dead one's lease.
        assert run.status == "interrupted"
        before = run.captions.set_index("key")["text"]
    with closing(ck.Session(VIDEOS, store=path, backend=fake)) as session:
        resumed = session.caption(PROMPT, **recipe)
        assert (resumed.id, resumed.status) == (1, "done")
        after = resumed.captions
        assert len(after) == len(after[["key", "stage"]].drop_duplicates())
        same = after[after["key"].isin(before.index)]
        assert set(before) <= set(same["text"])
