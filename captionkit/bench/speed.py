"""``captionkit bench``: captionkit, the reference's loop and vLLM's ceiling, side by side in one run.

All sides take the same windows, frames, prompts, output lengths and sampling on the same machine, in
alternating and repeated runs. A goal is a ratio of medians.
"""

from __future__ import annotations

import contextlib
import statistics
import subprocess
import sys
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from rich.console import Console

from captionkit.bench import curator
from captionkit.bench.claims import verify_known
from captionkit.bench.limit import Clock, five_minutes
from captionkit.bench.real_size import real_size_model
from captionkit.bench.report import Goal, Report
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
from captionkit.system import hardware
from captionkit.system.memory import PeakMemory
from captionkit.system.temp import TempFolder

_MEAN_TOKENS = 80


@dataclass(frozen=True)
class _Bounds:
    """What the goals ask for: times of the reference against ours, and ours against its start."""

    edit: float
    two_stages: float
    one_stage: float
    first: float
    ceiling: float
    engine_start: float


# One stage against the loop in batches of four, and of twelve windows.
_SMALL = 1.5
_TINY = _Bounds(15, 2.5, 1.9, 6, 1.15, 0.25)
_REAL = _Bounds(12, 1.9, 1.15, 6, 0.97, 0.25)
# Fewest and most windows of a case.
_QUICK_WINDOWS, _FULL_WINDOWS, _REAL_WINDOWS = (2, 24), (12, 64), (2, 12)


class _Bench:
    def __init__(
        self,
        clock: Clock,
        report: Report,
        ours: Ours,
        plain: Mapping[str, Plain],
        *,
        repeats: int,
        bounds: _Bounds = _TINY,
        kept: Path | None = None,
    ) -> None:
        self._say = clock.say
        self.report = report
        self._ours = ours
        # vLLM by itself, by what its kind adds to the name of a side.
        self._plain = plain
        self._repeats = repeats
        self._bounds = bounds
        self._kept = kept

    def warm_up(self, work: Work) -> None:
        """Run a little work on all sides before the measurements."""
        count = min(work.windows, 8)
        work = replace(work, windows=count, lengths=[32] * count, stage2=STAGE2)
        self._cold(work)
        for plain in self._plain.values():
            for side in ("reference", "ceiling"):
                plain.run(side, work)

    def start(self) -> None:
        """Measure the start of our engine; those of vLLM must have had the machine to themselves."""
        ratio, bound = self._ours.start_s / self._plain[""].start_s, self._bounds.engine_start
        self._goal("engine start against LLM(...)", ratio, bound, at_least=False)

    def imports(self) -> None:
        """Measure the import of the package."""
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
        for kind in self._plain:
            self._goal(name + kind, seconds[other + kind] / seconds["captionkit"], bound)

    def _beside(
        self, side: str, run: Callable[[Plain], dict[str, Any]]
    ) -> dict[str, Callable[[], dict[str, Any]]]:
        """Return a side's runs at each kind of plain vLLM, by their names."""
        return {side + kind: partial(run, plain) for kind, plain in self._plain.items()}

    def compare(self, case: str, sides: dict[str, Callable[[], dict[str, Any]]]) -> dict[str, Any]:
        """Run all sides in turn, several times; return each side's medians and first captions."""
        self._say(case)
        spent: dict[str, list[float]] = {name: [] for name in sides}
        firsts: dict[str, list[float]] = {name: [] for name in sides}
        texts: dict[str, list[list[str]]] = {}
        for _ in range(self._repeats):
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
            # Random weights may write tokens without a text; their number is forced.
            assert all(captions), f"{name} left windows without a caption"
        same = [sum(a == b for a, b in zip(some, each, strict=True)) for each in texts.values()]
        self.report.same_text[case] = f"{min(same)} of {len(some)} windows have the same text"
        self._keep()
        return {
            "median": {name: statistics.median(seconds) for name, seconds in spent.items()},
            "first": {name: statistics.median(seconds) for name, seconds in firsts.items()},
            "spent": spent,
        }

    def _cold(self, work: Work) -> dict[str, Any]:
        return self._ours.run(replace(work, salt=uuid.uuid4().hex))

    def _against(self, side: str, case: str, work: Work) -> dict[str, Any]:
        """Compare cold work, from the file, with a side of plain vLLM."""
        return self.compare(
            f"{case}, {_named(work)}",
            {
                "captionkit": lambda: self._cold(work),
                **self._beside(side, lambda plain: plain.run(side, work)),
            },
        )

    def one_stage(self, work: Work, bound: float, first: float | None = None) -> None:
        """Compare mixed lengths, from the file, with the loop; ``first`` bounds the first caption."""
        name = _named(work)
        found = self._against("reference", "one stage", work)
        self._faster(f"one stage against the loop, {name}", found["median"], "reference", bound)
        if first is not None:
            self._faster(f"first caption against the loop, {name}", found["first"], "reference", first)

    def beside_curator(self, work: Work) -> None:
        """Compare with NeMo Curator's own stages, at their fixed frame size."""
        work = replace(work, pixel_budget=640 * 360)
        self.compare(
            f"one stage at 640 x 360, {_named(work)}",
            {
                "captionkit": lambda: self._cold(work),
                "NeMo Curator's stages": lambda: self._plain[""].run("curator", work),
            },
        )

    def all_at_once(self, work: Work) -> None:
        """Compare all windows at once, from the file, with frames in memory."""
        work = replace(work, batch_size=work.windows)
        found = self._against("ceiling", "one stage", work)
        name = _named(work)
        self._faster(
            f"one stage against the ceiling, {name}", found["median"], "ceiling", self._bounds.ceiling
        )

    def two_stages(self, work: Work) -> None:
        """Compare mixed lengths and a second stage."""
        work = replace(work, stage2=STAGE2)
        found = self._against("reference", "two stages", work)
        name, bound = f"two stages against the loop, {_named(work)}", self._bounds.two_stages
        self._faster(name, found["median"], "reference", bound)

    def edits(self, work: Work) -> None:
        """Measure a new prompt, and a new stage-2 prompt, on known windows."""
        salt = uuid.uuid4().hex
        known = replace(work, salt=salt)
        self._ours.run(known)
        number = iter(range(1000))

        def edited() -> dict[str, Any]:
            # Edit only the last words, anew for each repeat.
            return self._ours.run(replace(known, prompt=f"{EDITED} {next(number)}"))

        def loop_again(plain: Plain) -> dict[str, Any]:
            # Start from the file, as the reference does, with vLLM's default caches.
            again = replace(work, prompt=f"{EDITED} {next(number)}")
            return plain.run("reference", again, fresh=False)

        def cold(plain: Plain) -> dict[str, Any]:
            return plain.run("ceiling", replace(work, prompt=f"{EDITED} {next(number)}"))

        for plain in self._plain.values():
            plain.run("reference", work)
        self._ours.encoder_runs()
        found = self.compare(
            f"prompt edit, {_named(work)}",
            {
                "captionkit": edited,
                **self._beside("reference", loop_again),
                **self._beside("ceiling, cold", cold),
            },
        )
        self._goal("vision encoder runs at prompt edits", self._ours.encoder_runs(), 0, at_least=False)
        median, name = found["median"], _named(work)
        self._faster(f"prompt edit against the loop, {name}", median, "reference", self._bounds.edit)
        self._faster(f"prompt edit against the cold ceiling, {name}", median, "ceiling, cold", 3)
        self._ours.run(replace(known, stage2=STAGE2))
        self._ours.encoder_runs()
        self._ours.run(replace(known, stage2=STAGE2_EDITED))
        self._goal("vision encoder runs at stage 2", self._ours.encoder_runs(), 0, at_least=False)

    def verification(self, work: Work) -> None:
        """Compare questions about each claim of known windows with captioning them cold."""
        self._say(f"verify, {_named(work)}")
        seconds, claims, runs = verify_known(self._ours, work, self._repeats)
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


def _named(work: Work) -> str:
    mixed = "mixed lengths" if len(set(work.lengths)) > 1 else f"{work.lengths[0]} tokens"
    return f"{work.windows} windows, {mixed}, batch {work.batch_size}"


def bench(
    report: Report,
    console: Console,
    *,
    quick: bool = False,
    real: bool = False,
    kept: Path | None = None,
) -> None:
    """Measure all goals into a report, and keep it in a file after each case.

    It times a first window and takes as many as half an hour has time for. ``quick`` has fewer repeats
    and cases, and ends after five minutes. ``real`` takes a model of 0.5 B parameters with random
    weights, and twelve windows at most.
    """
    report.machine["model"] = "0.5 B parameters, random" if real else "demo"
    with five_minutes(console, quick=quick), contextlib.ExitStack() as open_sides:
        clock = Clock(console, quick=quick, real=real)
        _measure(clock, report, open_sides, quick=quick, real=real, kept=kept)


def _measure(
    clock: Clock,
    report: Report,
    stack: contextlib.ExitStack,
    *,
    quick: bool,
    real: bool,
    kept: Path | None,
) -> None:
    folder = stack.enter_context(TempFolder("bench"))
    model, plain = "demo", dict[str, Plain]()

    def start_plain(kind: str, dtype: str) -> Plain:
        clock.say(f"starting plain vLLM{kind}")
        side = Plain(folder / f"plain-{dtype}.log", model, dtype, profiles=not real)
        plain[kind] = stack.enter_context(contextlib.closing(side))
        return side

    if real:
        clock.say("drawing the weights of 0.5 B parameters, unless they are in the cache")
        model = str(real_size_model(folder))
    if quick:
        # Its first start on a machine compiles for minutes; the rest goes on meanwhile.
        start_plain("", "auto")
    fewest, most = _REAL_WINDOWS if real else _QUICK_WINDOWS if quick else _FULL_WINDOWS
    clock.say("rendering films, unless they are in the cache")
    # Enough for the first window; more once their number is known.
    rendered = most if quick else SHORT
    (film,) = films(folder, rendered)
    clock.say("starting captionkit's engine")
    ours = stack.enter_context(contextlib.closing(Ours(model)))
    if not quick:
        emulated = not hardware.find_processor().bf16
        if real and emulated:
            # In the bfloat16 that it chooses, one step outlasts vLLM's own limit of five minutes.
            clock.say("vLLM is measured in float32 alone: this processor has no bfloat16")
        else:
            start_plain("", "auto").wait()
        if emulated:
            # captionkit computes in float32 here: vLLM is measured in both.
            start_plain(", float32", "float32").wait()
    bounds = _REAL if real else _TINY
    made = _Bench(
        clock,
        report,
        ours,
        plain,
        repeats=1 if quick else 3,
        bounds=bounds,
        kept=kept,
    )
    made.imports()
    if quick:
        clock.say("waiting for plain vLLM")
        plain[""].wait()
    elif not real:
        made.start()
    first = Work(str(film), 1, [_MEAN_TOKENS], stage2=STAGE2, model=model)
    ours.run(first)
    prompts = iter((PROMPT, EDITED))
    count = clock.fitting(
        lambda: next(iter(plain.values())).run("reference", replace(first, prompt=next(prompts))),
        fewest,
        most,
    )
    short = film
    if count > rendered:
        (film,) = films(folder, count)
    mixed = Work(str(film), count, lengths(count, None), model=model)
    if not quick:
        made.warm_up(mixed)
    cases: dict[str, Callable[[], None]] = {
        "prompt edit": lambda: made.edits(replace(mixed, lengths=lengths(count, 32))),
        "two stages": lambda: made.two_stages(mixed),
        "one stage": lambda: made.one_stage(mixed, bounds.one_stage, bounds.first),
        "ceiling": lambda: made.all_at_once(mixed),
    }
    for name, case in cases.items():
        if clock.has_time(name, count):
            case()
    if quick:
        return
    made.verification(replace(mixed, lengths=lengths(count, 32)))
    if real:
        return
    made.memory(film)
    made.one_stage(replace(mixed, batch_size=4), _SMALL)
    if count > SHORT:
        made.one_stage(Work(str(short), SHORT, lengths(SHORT, None)), _SMALL)
    if curator.is_there():
        made.beside_curator(Work(str(short), SHORT, lengths(SHORT, 32)))
