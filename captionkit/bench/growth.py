"""Measure costs that grow: ``python -m captionkit.bench growth``.

Opens, fills, reads, shows, filters, exports and reports on runs of 1,000, 10,000 and 100,000 windows,
without films and without an engine. Each case runs in a process of its own, so that its memory is its
own.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import itertools
import json
import math
import multiprocessing
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd
import psutil
from rich.console import Console
from rich.table import Table

from captionkit import display
from captionkit.bench.store import CAPTION, imaginary_films
from captionkit.recipe import Recipe
from captionkit.review import Comparison
from captionkit.run import Run
from captionkit.sources import PlannedWindow, windows_table
from captionkit.store import Store
from captionkit.system.lifetime import leave_with_spawner
from captionkit.system.memory import PeakMemory
from captionkit.system.temp import TempFolder
from captionkit.system.terminal import SafeConsole
from captionkit.widgets.rows import Row, Rows, listed, load_stored

_SIZES = (1000, 10_000, 100_000)
_FILMS_OF = 1000
_CLAIMED = 64
_EVERY_S = 0.01
_LONGEST_S = 600.0
_MB = 1e6
# Growth by n log n, a little memory that all sizes need, and a busy machine stay below this slope.
_LINEAR = 1.2
_WORDS = (
    "red|blue|green|white|old|small|striped|wooden|rusty|yellow",
    "boat|truck|dog|child|train|bicycle|crane|ferry|cyclist|horse",
    "moves left|moves right|waits|turns round|stops|speeds up|comes closer|leaves the view",
    "sea|road|pier|field|bridge|harbour|station|market|river|yard",
    "by day|at night|at dusk|in the rain|in the snow|in fog|at noon|under low clouds",
)


@dataclass(frozen=True)
class Measured:
    """A case at a size: its time, the memory that it added, and the memory of its process at most.

    ``cpu_s`` is the time of the processor alone, which another program's load changes little.
    """

    case: str
    windows: int
    seconds: float
    cpu_s: float
    added_mb: float
    resident_mb: float


@dataclass(frozen=True)
class _Given:
    """What a case may use: the store, its only run, and the windows."""

    store: Store
    size: int
    folder: Path

    @functools.cached_property
    def windows(self) -> list[PlannedWindow]:
        # Made on demand: the times of all frames take 200 MB for 100,000 windows.
        return imaginary_films(self.size, _FILMS_OF)

    @property
    def run(self) -> Run:
        return Run(self.store, 1)

    def rows(self) -> Rows:
        rows = Rows()
        new = [Row(each) for each in self.windows]
        load_stored(self.store, new)
        rows.add(new)
        return rows


def _added(given: _Given) -> Callable[[], object]:
    windows = given.windows
    return lambda: given.store.add_run(Recipe(), windows, repeats=1, batch_size=16, fresh=False)


def _add_captions(given: _Given) -> None:
    texts = captions_of(given.size)
    work = given.store.begin_work(1)
    while jobs := work.claim(_CLAIMED):
        for job in jobs:
            work.add_caption(job, replace(CAPTION, text=next(texts)))
            work.finish(job, None)
    work.end()


def _shown(given: _Given) -> Callable[[], object]:
    """Return a function that shows a run, its captions, its windows and a comparison."""
    run = given.run
    captions, table = run.captions, windows_table(given.windows, {})
    table.images = display.no_images
    both = captions[["video", "window", "key", "start_s", "end_s"]].assign(
        before=captions["text"], after=captions["text"], same=True, overlap=1.0
    )
    shown = [run, captions, table, Comparison(both, ("a", "b"))]
    # Pandas imports its formats at the first table.
    captions.head(1)._repr_html_()
    return lambda: [(repr(each), each._repr_html_()) for each in shown]


def _loaded(given: _Given) -> Callable[[], object]:
    # Plan the windows before the measurement.
    assert given.windows
    return given.rows


def _filters(given: _Given) -> Callable[[], object]:
    rows = given.rows()
    wanted = ({"search": "boat"}, {"check": "repeats"}, {"state": "done", "sort": "longest"})
    return lambda: [listed(rows, each) for each in wanted]


#: Each case by its name: prepares, and returns what is measured. The first two make the store.
_CASES: dict[str, Callable[[_Given], Callable[[], object]]] = {
    "open a run": _added,
    "add captions": lambda given: lambda: _add_captions(given),
    "run.captions": lambda given: lambda: given.run.captions,
    "run.checks": lambda given: lambda: given.run.checks,
    "show": _shown,
    "workbench: load": _loaded,
    "workbench: three filters": _filters,
    "export jsonl": lambda given: lambda: given.run.export(given.folder / "out.jsonl", overwrite=True),
    "report": lambda given: lambda: given.run.report(),
}

# Without these, the others would read an empty run.
_MAKE_STORE = {"open a run", "add captions"}

#: What a case at 100,000 windows may take: seconds, or MB of its process.
_GOALS = {
    "open a run": (2.0, "s"),
    "run.captions": (1.5, "s"),
    "run.checks": (5.0, "s"),
    "show": (0.2, "s"),
    "export jsonl": (200.0, "MB"),
}
_GOAL_AT = 100_000


def captions_of(count: int) -> Iterator[str]:
    """Yield different texts of about fifty words, the same ones each time."""
    rng = np.random.default_rng(0)
    kinds = [each.split("|") for each in _WORDS]
    for picks in rng.integers(0, 1 << 30, (count, 4, len(kinds))).tolist():
        yield " ".join(
            "A {} {} {} near the {} {}.".format(
                *(kind[pick % len(kind)] for kind, pick in zip(kinds, sentence, strict=True))
            )
            for sentence in picks
        )


@contextlib.contextmanager
def _ending_children() -> Iterator[None]:
    """End the process of a case when this one is interrupted; a pool would wait for the case."""
    try:
        yield
    except KeyboardInterrupt:
        # One that starts is no child of multiprocessing's yet. Its resource tracker ends by itself.
        for child in psutil.Process().children():
            with contextlib.suppress(psutil.Error):
                if "spawn_main" in " ".join(child.cmdline()):
                    child.kill()
        raise


def measure(sizes: Sequence[int], console: Console) -> Iterator[Measured]:
    """Measure all cases at all sizes, each in its own process; yield each as it is there.

    Leaves out, and says so, what would take more than ten minutes by its growth so far.
    """
    found: list[Measured] = []
    spawn = multiprocessing.get_context("spawn")
    with (
        TempFolder("bench") as folder,
        ProcessPoolExecutor(1, spawn, leave_with_spawner, max_tasks_per_child=1) as pool,
        _ending_children(),
    ):
        for size in sizes:
            for case in _CASES:
                expected = _expected_s([each for each in found if each.case == case], size)
                if expected <= _LONGEST_S:
                    console.print(f"[dim]{size:,} windows: {case}[/dim]")
                    path = folder / f"{size}.sqlite"
                    found.append(pool.submit(_measured, case, path, size).result())
                    yield found[-1]
                    continue
                console.print(f"{size:,} windows: {case} is left out, of about {expected:,.0f} s")
                if case in _MAKE_STORE:
                    break


def _expected_s(before: Sequence[Measured], size: int) -> float:
    """Return the expected time of a case from the sizes before."""
    if not before:
        return 0.0
    slope = max(1.0, slopes(before)[before[0].case][0]) if len(before) > 1 else 1.0
    return before[-1].seconds * (size / before[-1].windows) ** slope


def _measured(case: str, path: Path, size: int) -> Measured:
    """Run one case in this process, which begins with it and ends after it."""
    own = psutil.Process()
    store = Store(path)
    work = _CASES[case](_Given(store, size, path.parent))
    before = own.memory_info().rss
    with PeakMemory(lambda: int(own.memory_info().rss), _EVERY_S) as memory:
        started, begun = time.perf_counter(), time.process_time()
        kept = work()
        spent, cpu_s = time.perf_counter() - started, time.process_time() - begun
    del kept
    store.close()
    return Measured(case, size, spent, cpu_s, (memory.most - before) / _MB, memory.most / _MB)


def slopes(found: Sequence[Measured]) -> dict[str, tuple[float, float]]:
    """Return the slopes of CPU time and of added memory by case, over the two largest sizes.

    A slope of 1 is a cost that grows as the number of windows. What takes less than 10 ms or 5 MB
    counts as that much.
    """
    made = {}
    for case, of_case in itertools.groupby(sorted(found, key=lambda each: each.case), lambda m: m.case):
        some = sorted(of_case, key=lambda each: each.windows)
        if len(some) < 2:
            # Larger sizes were left out.
            continue
        one, two = some[-2:]
        ratio = math.log(two.windows / one.windows)
        made[case] = (
            math.log(max(two.cpu_s, 0.01) / max(one.cpu_s, 0.01)) / ratio,
            math.log(max(two.added_mb, 5) / max(one.added_mb, 5)) / ratio,
        )
    return made


def missed(found: Sequence[Measured]) -> list[str]:
    """Return what misses a goal or grows faster than the number of windows, in words."""
    said = []
    for each in found:
        bound, unit = _GOALS.get(each.case, (math.inf, "s"))
        figure = each.seconds if unit == "s" else each.resident_mb
        if each.windows == _GOAL_AT and figure > bound:
            said.append(f"{each.case}: {figure:.2f} {unit} at {_GOAL_AT:,} windows; goal {bound:g}")
    for case, of_case in slopes(found).items():
        said += [
            f"{case}: {name} grows faster than the windows (slope {slope:.2f})"
            for name, slope in zip(("time", "memory"), of_case, strict=True)
            if slope > _LINEAR
        ]
    return said


def _table(found: Sequence[Measured]) -> Table:
    sizes = sorted({each.windows for each in found})
    heads = (*(f"{size:,}" for size in sizes), "slope", "slope of MB")
    table = Table("", *heads, title="Costs by the number of windows")
    steep = slopes(found)
    for case in _CASES:
        some = sorted((each for each in found if each.case == case), key=lambda each: each.windows)
        cells = {each.windows: f"{each.seconds:.2f} s, {each.added_mb:.0f} MB" for each in some}
        table.add_row(
            case,
            *(cells.get(size, "left out") for size in sizes),
            *(f"{slope:.2f}" for slope in steep.get(case, ())),
        )
    return table


def main(argv: list[str] | None = None) -> int:
    """Measure and print a table, of a part if it is interrupted; return 1 if a goal is missed."""
    parser = argparse.ArgumentParser(prog="python -m captionkit.bench growth", description=__doc__)
    parser.add_argument("--windows", type=int, nargs="+", default=_SIZES, help="two sizes or more")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all figures here")
    parser.add_argument("--figure", type=Path, metavar="FILE", help="draw the slopes here, as PNG")
    options = parser.parse_args(argv)
    if len(set(options.windows)) < 2 or min(options.windows) < 1:
        parser.error("--windows takes two different numbers or more, each above 0")
    for path in filter(None, (options.json, options.figure)):
        if not path.parent.is_dir():
            parser.error(f"there is no folder {path.parent}")
    console = SafeConsole()
    found: list[Measured] = []
    try:
        for measured in measure(sorted(set(options.windows)), console):
            found.append(measured)  # noqa: PERF402 - an interrupt leaves what was measured
    finally:
        console.print(_table(found))
        wrong = missed(found)
        for each in wrong:
            console.print(f"missed: {each}")
        if options.json:
            content = {"measured": [asdict(each) for each in found], "missed": wrong}
            options.json.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    if options.figure:
        table = pd.DataFrame(map(asdict, found))
        options.figure.write_bytes(display.png(display.growth_figure(table, slopes(found))))
    return 1 if wrong else 0
