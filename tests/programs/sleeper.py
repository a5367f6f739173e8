"""Caption and decode with small limits on what counts as hanging; a test stops all processes meanwhile.

Prints "up" once captions are under way, and at the end what was restarted and what was lost.
"""

import json
import sys
import threading
from pathlib import Path

import psutil
from common import VIDEOS

import captionkit as ck
from captionkit.engine import Engine, client

LIMIT_S = client.HANG_S = float(sys.argv[1])


def processes() -> list[int]:
    return sorted(child.pid for child in psutil.Process().children(recursive=True))


session = ck.Session(VIDEOS, store=Path(sys.argv[2]) / "runs.sqlite")
pool = session.sources.pool
pool._limit = LIMIT_S
session.caption("Say it shortly.", windows=session.windows.head(1))
film = str(VIDEOS / "harbour.mp4")
pool.read(film, [0], (448, 252))
first_texts, ended = threading.Event(), threading.Event()
lost = []


def read() -> None:
    """Have a decoder at work at any moment."""
    while not ended.is_set():
        try:
            pool.read(film, list(range(0, 90, 3)), (448, 252))
        except Exception as error:
            lost.append(str(error))
            return


reader = threading.Thread(target=read)
reader.start()
before, engine = processes(), Engine.live().pid
task = session.start("dense", fresh=True, batch_size=2)
task.add_callback(lambda event: first_texts.set())
first_texts.wait(200)
print("up", flush=True)
run = task.wait()
ended.set()
reader.join()
print(
    json.dumps(
        {
            "restarted": Engine.live().pid != engine,
            "gone": sorted(set(before) - set(processes())),
            "lost": [*lost, *run.captions["error"].dropna()],
            "windows": len(run.captions["text"].dropna()) - len(session.windows),
        }
    ),
    flush=True,
)
session.close()
