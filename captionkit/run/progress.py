"""Work of this room as something to wait for: a run, and the opening of films."""

from __future__ import annotations

from captionkit.run.run import Run
from captionkit.run.task import RunTask
from captionkit.run.watch import Watched, watch
from captionkit.sources import Sources


def follow(task: RunTask) -> Run:
    """Wait for a task; show a progress bar in a notebook or a terminal."""

    def wait(seconds: float) -> bool:
        try:
            task.wait(seconds)
        except TimeoutError:
            return False
        return True

    def state() -> tuple[int, int, str]:
        now = task.progress
        ended = "" if task.running else f" ({task.status})"
        return now.done + now.failed, now.total, f"{now}{ended}"

    watch(Watched(f"run {task.run.id}", wait, state, task.cancel))
    return task.run


def opening_of(sources: Sources, *, first: bool = False) -> Watched:
    """Return the opening of some videos as work to wait for, up to the end or to the first window."""

    def state() -> tuple[int, int, str]:
        now = sources.opening
        if first and now.windows and not now.ended:
            # The bar stays in the notebook as it is now, while the others are opened.
            return now.videos, now.videos, "the first windows are ready, others follow meanwhile"
        return now.opened, now.videos, str(now)

    return Watched("videos", lambda seconds: sources.wait(seconds, first=first), state, sources.stop)
