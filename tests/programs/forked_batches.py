"""Caption a video here, then in a forked process: ``forked_batches VIDEO``; prints its first text."""

import multiprocessing
import sys

from fakes import FakeBackend

import captionkit as ck


def caption(queue):
    queue.put(captions({"video": sys.argv[1:]})["text"])


captions = ck.scale.map_batches(ck.Recipe(prompt="Say it."), backend=FakeBackend())
forked = multiprocessing.get_context("fork")
here, there = forked.SimpleQueue(), forked.SimpleQueue()
caption(here)
process = forked.Process(target=caption, args=(there,))
process.start()
process.join(60)
assert process.exitcode == 0, "the forked process does not end"
texts = there.get()
assert texts == here.get()
sys.stdout.write(texts[0] + "\n")
