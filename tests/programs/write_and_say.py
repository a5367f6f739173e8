"""Caption 4,000 windows and print the number of each finished one: ``write_and_say STORE``."""

import sys
from dataclasses import replace

from stores import CAPTION, begin, window

from captionkit.store import Store

store = Store(sys.argv[1])
run = begin(store, windows=[window(number) for number in range(4000)])
work = store.begin_work(run)
while jobs := work.claim(16):
    for job in jobs:
        work.add_caption(job, replace(CAPTION, text=f"Caption {job.position}."))
        work.finish(job, None)
        print(job.position, flush=True)
