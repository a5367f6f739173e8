"""``captionkit bench``: captionkit, the reference's loop and vLLM's ceiling, side by side in one run.

All sides take the same windows, frames, prompts, output lengths and sampling on the same machine, in
alternating and repeated runs. A goal is a ratio of medians.
"""

from __future__ import annotations

import contextlib
import math
import signal
import statistics
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from rich.console import Console

from captionkit.bench.claims import verify_known
from captionkit.bench.real_size import real_size_model
from captionkit.bench.report import Goal, Report, new_report, version
from captionkit.bench.sides import Ours, Plain, memory_beside_the_engine
from captionkit.bench.work import (
    EDITED,
    PROMPT,
    SHORT,
    STAGE2,
    STAGE2_EDITED,
    Work,
    films,
    lengths,
    repeat_film,
)
from captionkit.system.memory import PeakMemory

# Of the five minutes, the films, the start of Python and the end of the engines take some.
_QUICK_S, _MOST_S = 270, 285
_FEWEST = 4
_MEAN_TOKENS = 80
# What each case costs, in runs of all its windows of two stages at the reference.
_WINDOW_RUNS = {"two stages": 2.0, "one stage": 1.1, "prompt edit": 3.0, "ceiling": 1.1}


@dataclass(frozen=True)
class _Bounds:
    """What the goals ask for: times of the reference against ours, and ours against its start."""

    edit: float
    two_stages: float
    one_stage: float
    first: float
    ceiling: float
    engine_start: float


_TINY = _Bounds(15, 2.5, 1.9, 6, 1.15, 0.25)
_REAL = _Bounds(12, 1.9, 1.15, 6, 0.97, 0.25)
_REAL_WINDOWS = 12


class _Bench:
    def __init__(
        self,
        console: Console,
        report: Report,
        log: Path,
        *,
        began: float,
        quick: bool,
        real: bool = False,
        kept: Path | None = None,
    ) -> None:
        self._console = console
        self._repeats = 1 if quick else 3
        self._kept = kept
        self._began = began
        self._end = began + _QUICK_S if quick else math.inf
        # Seconds of one window of two stages by itself at the reference.
        self._window_s = 0.0
        self.report = report
        self._bounds = _REAL if real else _TINY
        self.model = "demo"
        if real:
            self._say("drawing the weights of 0.5 B parameters, unless they are in the cache")
            self.model = str(real_size_model())
        self._say("starting the engines")
        self.ours = Ours(self.model)
        try:
            self.plain = Plain(log, self.model)
        except BaseException:
            self.ours.close()
            raise

    def _say(self, text: str) -> None:
        spent = int(time.monotonic() - self._began)
        self._console.print(f"[dim]{spent // 60}:{spent % 60:02} {text}[/dim]")

    def fitting(self, film: Path, most: int) -> int:
        """Time a first window, and return how many windows all cases have time for; at least four."""
        first = Work(str(film), 1, [_MEAN_TOKENS], stage2=STAGE2, model=self.model)
        # Run it twice: the first window of an engine also pays for what is made once, as ours does.
        self._cold(first)
        for prompt in (PROMPT, EDITED):
            started = time.monotonic()
            self.plain.run("reference", replace(first, prompt=prompt))
            self._window_s = time.monotonic() - started
        left = self._end - time.monotonic()
        count = max(_FEWEST, min(most, int(left / (self._window_s * sum(_WINDOW_RUNS.values())))))
        self._say(
            f"a window of two stages takes {self._window_s:.1f} s at the reference: {count} of {most} "
            f"windows fit the {_QUICK_S // 60} minutes"
        )
        return count

    def has_time(self, case: str, windows: int) -> bool:
        """Return whether there is time for a case, by the first window; say so if there is not."""
        expected = _WINDOW_RUNS[case] * windows * self._window_s
        fits = time.monotonic() + expected < self._end
        if not fits:
            self._console.print(
                f"{case} is left out: of about {expected:.0f} s, there is no time for it"
            )
        return fits

    def warm_up(self, work: Work) -> None:
        """Run a little work on all sides before the measurements."""
        work = replace(work, windows=8, lengths=[32] * 8, stage2=STAGE2)
        self._cold(work)
        for side in ("reference", "ceiling"):
            self.plain.run(side, work)

    def engines(self) -> None:
        """Measure start-up and import."""
        ours, plain = self.ours.start_s, self.plain.start_s
        bound = self._bounds.engine_start
        self._goal("engine start against LLM(...)", ours / plain, bound, at_least=False)
        code = "import time; t = time.perf_counter(); import captionkit; print(time.perf_counter() - t)"
        seconds = [
            float(subprocess.run([sys.executable, "-c", code], capture_output=True, check=True).stdout)
            for _ in range(3)
        ]
        self._goal("import captionkit", min(seconds), 0.5, at_least=False, unit="s")

    def _goal(self, name: str, figure: float, bound: float, **how: Any) -> None:
        self.report.goals.append(Goal(name, figure, bound, **how))
        self._keep()

    def _keep(self) -> None:
        """Save the measurements so far, for an interrupted run."""
        if self._kept:
            self.report.save(self._kept)

    def _faster(self, name: str, seconds: dict[str, float], other: str, bound: float) -> None:
        self._goal(name, seconds[other] / seconds["captionkit"], bound)

    def compare(
        self, case: str, sides: dict[str, Callable[[], dict[str, Any]]], repeats: int | None = None
    ) -> dict[str, Any]:
        """Run all sides in turn, several times; return each side's medians and first captions."""
        self._say(case)
        spent: dict[str, list[float]] = {name: [] for name in sides}
        firsts: dict[str, list[float]] = {name: [] for name in sides}
        texts: dict[str, list[list[str]]] = {}
        for _ in range(repeats or self._repeats):
            for name, work in sides.items():
                done = work()
                texts[name] = done["texts"]
                spent[name].append(done["seconds"])
                firsts[name].append(done["first_s"])
        for name, seconds in spent.items():
            self.report.cases.append({"case": case, "side": name, "seconds": seconds})
        some = next(iter(texts.values()))
        for name, captions in texts.items():
            assert len(captions) == len(some)
            assert all(all(each) for each in captions), f"{name} left windows without a caption"
        same = [sum(a == b for a, b in zip(some, each, strict=True)) for each in texts.values()]
        self.report.same_text[case] = f"{min(same)} of {len(some)} windows have the same text"
        self._keep()
        return {
            "median": {name: statistics.median(seconds) for name, seconds in spent.items()},
            "first": {name: statistics.median(seconds) for name, seconds in firsts.items()},
            "spent": spent,
        }

    def _cold(self, work: Work) -> dict[str, Any]:
        return self.ours.run(replace(work, salt=uuid.uuid4().hex))

    def one_stage(self, work: Work, *, goals: bool = True) -> None:
        """Compare mixed lengths, from the file, with the loop; only once without ``goals``."""
        found = self.compare(
            f"one stage, {_named(work)}",
            {
                "captionkit": lambda: self._cold(work),
                "reference": lambda: self.plain.run("reference", work),
            },
            None if goals else 1,
        )
        if not goals:
            return
        name = _named(work)
        self._faster(
            f"one stage against the loop, {name}", found["median"], "reference", self._bounds.one_stage
        )
        self._faster(
            f"first caption against the loop, {name}", found["first"], "reference", self._bounds.first
        )

    def beside_curator(self, work: Work) -> None:
        """Compare with NeMo Curator's own stages, at their fixed frame size."""
        work = replace(work, pixel_budget=640 * 360)
        self.compare(
            f"one stage at 640 x 360, {_named(work)}",
            {
                "captionkit": lambda: self._cold(work),
                "NeMo Curator's stages": lambda: self.plain.run("curator", work),
            },
        )

    def all_at_once(self, work: Work) -> None:
        """Compare all windows at once, from the file, with frames in memory."""
        work = replace(work, batch_size=work.windows)
        found = self.compare(
            f"one stage, {_named(work)}",
            {
                "captionkit": lambda: self._cold(work),
                "ceiling": lambda: self.plain.run("ceiling", work),
            },
        )
        name = _named(work)
        self._faster(
            f"one stage against the ceiling, {name}", found["median"], "ceiling", self._bounds.ceiling
        )

    def two_stages(self, work: Work, *, goals: bool = True) -> None:
        """Compare mixed lengths and a second stage; only once without ``goals``."""
        work = replace(work, stage2=STAGE2)
        found = self.compare(
            f"two stages, {_named(work)}",
            {
                "captionkit": lambda: self._cold(work),
                "reference": lambda: self.plain.run("reference", work),
            },
            None if goals else 1,
        )
        if not goals:
            return
        name, bound = f"two stages against the loop, {_named(work)}", self._bounds.two_stages
        self._faster(name, found["median"], "reference", bound)

    def edits(self, work: Work) -> None:
        """Measure a new prompt, and a new stage-2 prompt, on known windows."""
        salt = uuid.uuid4().hex
        known = replace(work, salt=salt)
        self.ours.run(known)
        number = iter(range(1000))

        def edited() -> dict[str, Any]:
            # Edit only the last words, anew for each repeat.
            return self.ours.run(replace(known, prompt=f"{EDITED} {next(number)}"))

        def loop_again() -> dict[str, Any]:
            # Start from the file, as the reference does, with vLLM's default caches.
            again = replace(work, prompt=f"{EDITED} {next(number)}")
            return self.plain.run("reference", again, fresh=False)

        def cold() -> dict[str, Any]:
            return self.plain.run("ceiling", replace(work, prompt=f"{EDITED} {next(number)}"))

        self.plain.run("reference", work)
        self.ours.encoder_runs()
        found = self.compare(
            f"prompt edit, {_named(work)}",
            {"captionkit": edited, "reference": loop_again, "ceiling, cold": cold},
        )
        self._goal("vision encoder runs at prompt edits", self.ours.encoder_runs(), 0, at_least=False)
        median, name = found["median"], _named(work)
        self._faster(f"prompt edit against the loop, {name}", median, "reference", self._bounds.edit)
        self._faster(f"prompt edit against the cold ceiling, {name}", median, "ceiling, cold", 3)
        self.ours.run(replace(known, stage2=STAGE2))
        self.ours.encoder_runs()
        self.ours.run(replace(known, stage2=STAGE2_EDITED))
        self._goal("vision encoder runs at stage 2", self.ours.encoder_runs(), 0, at_least=False)

    def verification(self, work: Work) -> None:
        """Compare questions about each claim of known windows with captioning them cold."""
        self._say(f"verify, {_named(work)}")
        seconds, claims, runs = verify_known(self.ours, work, self._repeats)
        name = f"verify {claims} claims of {work.windows} known windows against captions, cold"
        share = statistics.median(seconds["verify"]) / statistics.median(seconds["captions, cold"])
        self._goal(name, share, 0.1, at_least=False, seconds=seconds)
        self._goal("vision encoder runs at verifying", runs, 0, at_least=False)

    def memory(self, film: Path) -> None:
        """Measure peak memory outside the engine, an hour against ten minutes."""
        self._say("memory: ten minutes and an hour")
        peaks = []
        for seconds in (600, 3600):
            path = film.with_name(f"long-{seconds}.mp4")
            repeat_film(film, path, seconds)
            windows = int(seconds * 30) // 256
            with PeakMemory(memory_beside_the_engine) as memory:
                self._cold(Work(str(path), windows, lengths(windows, 8)))
            peaks.append(memory.most)
        self._goal("memory, an hour against ten minutes", peaks[1] / peaks[0], 1.1, at_least=False)

    def close(self) -> None:
        """End both engines."""
        self.plain.close()
        self.ours.close()


def _named(work: Work) -> str:
    mixed = "mixed lengths" if len(set(work.lengths)) > 1 else f"{work.lengths[0]} tokens"
    return f"{work.windows} windows, {mixed}, batch {work.batch_size}"


def bench(
    console: Console, *, quick: bool = False, real: bool = False, kept: Path | None = None
) -> Report:
    """Measure all goals, and keep the report in a file after each case.

    ``quick`` has fewer repeats and cases, as many windows as five minutes have time for, and ends when
    these are over. ``real`` takes a model of 0.5 B parameters with random weights, and twelve windows.
    """
    report = new_report()
    try:
        with _at_most(_MOST_S if quick else 0):
            _measure(console, report, quick=quick, real=real, kept=kept)
    except _TimeUp:
        console.print("the five minutes are over; this is what was measured")
    return report


class _TimeUp(KeyboardInterrupt):
    """Raised when the time of the quick bench is over; ends all work as Ctrl-C does."""


@contextlib.contextmanager
def _at_most(seconds: int) -> Iterator[None]:
    """Raise `_TimeUp` in a block after some seconds; 0 waits for ever."""

    def end(*_: object) -> None:
        raise _TimeUp

    before = signal.signal(signal.SIGALRM, end)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def _measure(console: Console, report: Report, *, quick: bool, real: bool, kept: Path | None) -> None:
    count, most = (_REAL_WINDOWS, _REAL_WINDOWS) if real else (24, 24) if quick else (64, 256)
    began = time.monotonic()
    console.print("[dim]rendering the films, unless they are in the cache[/dim]")
    with films(most) as folder:
        film = folder / "film.mp4"
        made = _Bench(
            console, report, folder / "plain.log", began=began, quick=quick, real=real, kept=kept
        )
        try:
            made.engines()
            if quick:
                count = made.fitting(film, count)
            mixed = Work(str(film), count, lengths(count, None), model=made.model)
            if not quick:
                made.warm_up(mixed)
            cases: dict[str, Callable[[], None]] = {
                "two stages": lambda: made.two_stages(mixed),
                "one stage": lambda: made.one_stage(mixed),
                "prompt edit": lambda: made.edits(replace(mixed, lengths=lengths(count, 32))),
                "ceiling": lambda: made.all_at_once(mixed),
            }
            for name, case in cases.items():
                if made.has_time(name, count):
                    case()
            if quick:
                return
            made.verification(replace(mixed, lengths=lengths(count, 32)))
            if real:
                return
            made.memory(film)
            for batch_size in (8, 4):
                made.one_stage(replace(mixed, batch_size=batch_size), goals=False)
                made.two_stages(replace(mixed, batch_size=batch_size), goals=False)
            for windows in (12, most):
                made.one_stage(Work(str(film), windows, lengths(windows, None)), goals=False)
            if version("nemo-curator") != "none":
                made.beside_curator(Work(str(folder / "short.mp4"), SHORT, lengths(SHORT, 32)))
        finally:
            made.close()
