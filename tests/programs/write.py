"""Caption 50 windows in four threads that share a run: ``write STORE SEED``."""

import sys
import time
from concurrent.futures import ThreadPoolExecutor

from stores import CAPTION, begin, window

from captionkit.recipe import Recipe
from captionkit.store import Store

store = Store(sys.argv[1])
run = begin(store, Recipe(seed=int(sys.argv[2])), [window(number) for number in range(50)])


def work(_: int) -> None:
    part = store.begin_work(run)
    while part.waiting():
        for job in part.claim(2):
            part.add_caption(job, CAPTION)
            part.finish(job, None)
        time.sleep(0.001)
    part.end()


with ThreadPoolExecutor(4) as threads:
    list(threads.map(work, range(4)))
