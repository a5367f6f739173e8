"""``captionkit caption``: caption videos into a store, a terminal and a file; or with Ray."""

from __future__ import annotations

import argparse
import contextlib
import queue
import threading
import time
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Table

from captionkit.captions import caption_rows, window_columns
from captionkit.cli.common import (
    UsageError,
    add_limits,
    add_model_dir,
    add_store,
    add_tensor_parallel,
    output,
    refuse_limits,
)
from captionkit.display import MOST_ROWS
from captionkit.engine.several import Gpus, check_gpus
from captionkit.export import JsonLines
from captionkit.export.base import AT_ONCE
from captionkit.export.formats.tables import records_of
from captionkit.models.variants import get_variant
from captionkit.pipeline import Event, WindowDone
from captionkit.prompts import STAGE2_DEFAULT
from captionkit.recipe import SETTINGS, Recipe
from captionkit.run import Run, RunEnded, RunTask
from captionkit.run.as_code import option
from captionkit.scale import caption_videos
from captionkit.session import Session
from captionkit.sources import CUTS
from captionkit.structured import EXAMPLES
from captionkit.video import READERS

# Seconds between two looks at the counts, which take a while in a store of a million windows.
_LOOK_S = 0.5


def add_parser(commands: Any) -> None:
    """Add the command, with an option for each setting of a recipe."""
    caption = commands.add_parser("caption", help="caption videos")
    caption.add_argument(
        "videos", nargs="*", metavar="VIDEO", help="a video file, a folder, or a pattern"
    )
    caption.add_argument("--cut", choices=CUTS, default=CUTS[0], help="cut windows by frames or scenes")
    caption.add_argument(
        "--spans",
        metavar="FILE",
        help="take windows from a CSV (video, start_s, end_s; or PySceneDetect's) or clip metas",
    )
    caption.add_argument(
        "--meta",
        metavar="FILE",
        help="table (.csv, .parquet, .jsonl) whose columns prompts may have as {meta.COLUMN}",
    )
    for name, setting in SETTINGS.items():
        how: dict[str, Any] = {"type": setting.kind}
        if setting.kind is bool:
            how = {"action": "store_true"}
        elif name == "stage2":
            how = {"nargs": "?", "const": STAGE2_DEFAULT}
        elif name == "schema":
            how = {"metavar": "FILE"}
        caption.add_argument(option(name), dest=name, default=None, help=setting.help, **how)
    caption.add_argument(
        "--batch-size",
        type=int,
        help="captions that run at once in an engine; by default 16, or more on a GPU with room",
    )
    caption.add_argument(
        "--gpus",
        type=_gpus,
        metavar="GPUS",
        help="a number, indexes (0,2) or all: an engine on each; by default one on the first GPU",
    )
    caption.add_argument(
        "--decoders", type=int, help="processes that read frames; by default one a core, up to 32"
    )
    caption.add_argument("--reader", choices=READERS, default="pyav", help="video decoder")
    caption.add_argument("--recipe", type=Path, metavar="FILE", help="a saved recipe")
    caption.add_argument(
        "--out", metavar="FILE.jsonl", help="write captions here; with --ray a folder or address"
    )
    caption.add_argument(
        "--endpoint", metavar="URL", help="caption at a vLLM server, as captionkit serve starts one"
    )
    caption.add_argument(
        "--ray",
        nargs="?",
        const="local",
        metavar="ADDRESS",
        help="caption with Ray Data on this cluster, or on all of this machine",
    )
    caption.add_argument("--actors", type=int, help="with --ray: engines; by default one a GPU")
    add_store(caption)
    add_model_dir(caption)
    add_limits(caption)
    add_tensor_parallel(caption)
    caption.set_defaults(run=_caption)


def _caption(options: argparse.Namespace, console: Console) -> int:
    recipe = _recipe(options)
    for name in ("batch_size", "decoders"):
        if (count := getattr(options, name)) is not None and count < 1:
            raise UsageError(f"{option(name)} is {count}; give 1 or more")
    refuse_limits(options)
    try:
        check_gpus(options.gpus, options.tensor_parallel)
    except ValueError as error:
        raise UsageError(str(error)) from error
    if not (options.videos or options.spans):
        raise UsageError("there is no video; give a file, a folder or a pattern, or --spans FILE")
    if options.spans and options.cut != CUTS[0]:
        raise UsageError("--spans has the windows already: leave --cut out")
    if options.ray:
        return _caption_with_ray(options, recipe, console)
    out = Path(options.out) if options.out else None
    if out and out.is_dir():
        raise UsageError(f"--out {out} is a folder; give a file, say captions.jsonl")
    try:
        session = Session(
            options.videos,
            spans=options.spans,
            meta=options.meta,
            cut=options.cut,
            recipe=recipe,
            batch_size=options.batch_size,
            store=options.store,
            model_dir=options.model_dir,
            reader=options.reader,
            endpoint=options.endpoint,
            decoders=options.decoders,
            max_model_len=options.max_model_len,
            memory_share=options.memory_share,
            gpus=options.gpus,
            tensor_parallel=options.tensor_parallel,
        )
    except (FileNotFoundError, ValueError) as error:
        console.print(f"[red]captionkit: {escape(str(error))}[/red]")
        return 1
    with contextlib.closing(session):
        if out is None:
            return _run(session, None, console)
        _refuse_inputs(out, options.videos, session)
        with JsonLines(out) as lines:
            return _run(session, lines, console)


def _refuse_inputs(out: Path, videos: Iterable[str], session: Session) -> None:
    inputs = {Path(name).resolve() for name in (*videos, *session.sources.paths)}
    if out.resolve() in inputs:
        raise UsageError(f"--out {out} is one of the videos; give another file, say captions.jsonl")


def _caption_with_ray(options: argparse.Namespace, recipe: Recipe, console: Console) -> int:
    if options.spans or options.cut != CUTS[0]:
        raise UsageError("--ray cuts windows by frames: leave --spans and --cut out")
    if options.meta:
        raise UsageError("--ray fills in no {meta.COLUMN}: leave --meta out")
    if options.endpoint:
        raise UsageError("--ray starts its own engines: leave --endpoint out")
    if options.gpus is not None or options.decoders is not None:
        raise UsageError(
            "--ray places engines and decoders itself: give --actors, not --gpus, --decoders"
        )
    if not options.out:
        raise UsageError("--ray writes a folder of Parquet parts: give --out FOLDER")
    try:
        done = caption_videos(
            options.videos,
            recipe,
            options.out,
            actors=options.actors,
            batch_size=16 if options.batch_size is None else options.batch_size,
            model_dir=options.model_dir,
            address=options.ray,
            max_model_len=options.max_model_len,
            memory_share=options.memory_share,
            tensor_parallel=options.tensor_parallel,
        )
    except (ValueError, FileNotFoundError) as error:
        raise UsageError(str(error)) from error
    captioned, failed = done["captioned"], done["failed"]
    console.print(
        f"{captioned} windows captioned, {failed} failed, in {escape(options.out)}; "
        f"{done['of this run']} of this run at {done['windows_per_s']} windows/s"
    )
    _print_failures(done["problems"].values(), console)
    return 1 if failed or done["problems"] else 0


def _gpus(text: str) -> Gpus:
    """Return the GPUs of ``--gpus``: a number, indexes with commas (``0,`` is the first), or all."""
    if text == "all":
        return "all"
    try:
        return [int(each) for each in text.split(",") if each.strip()] if "," in text else int(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number, indexes (0,2) or all") from error


def _recipe(options: argparse.Namespace) -> Recipe:
    try:
        recipe = Recipe.load(options.recipe) if options.recipe else Recipe()
        given = {name: getattr(options, name) for name in SETTINGS}
        if given["schema"] is not None:
            given["schema"] = _schema(given["schema"])
        # Skip options that are absent: None, or False for a switch. A 0 is present.
        changes = {k: v for k, v in given.items() if v is not None and v is not False}
        recipe = replace(recipe, **changes)
        get_variant(recipe.model)
    except FileNotFoundError as error:
        raise UsageError(f"--recipe {options.recipe}: no such file") from error
    except (ValueError, OSError) as error:
        raise UsageError(str(error)) from error
    return recipe


def _schema(given: str) -> str:
    """Return the JSON schema of ``--schema``: an example's name, the text itself, or a file's text."""
    if given in EXAMPLES or given.lstrip().startswith("{"):
        return given
    try:
        return Path(given).read_text(encoding="utf-8")
    except FileNotFoundError as error:
        raise UsageError(
            f"--schema {given}: no such file, and not one of {', '.join(EXAMPLES)}"
        ) from error


def _run(session: Session, lines: JsonLines | None, console: Console) -> int:
    try:
        task = session.start(retry_failed=True)
        before = _follow(task, lines, console)
        run = task.wait()
    except ValueError as error:
        raise UsageError(str(error)) from error
    progress = run.progress
    _print_table(run)
    where = f"run {run.id} of {escape(str(session.store.path))}"
    if lines:
        where += f" and {escape(str(lines.path))}"
    known = "all of them were" if before == progress.done else f"{before} of them were"
    already = f"; {known} in the store already" if before else ""
    console.print(f"{progress.done} of {progress.total} windows captioned, in {where}{already}")
    failures = [
        f"{path}, window {window}: {error}"
        for path, window, error in run.store.results.failures(run.id)
    ]
    failures += [_with_name(name, reason) for name, reason in session.problems.items()]
    _print_failures(failures, console)
    return 1 if failures else 0


def _follow(task: RunTask, lines: JsonLines | None, console: Console) -> int:
    """Show a bar and write lines until the task ends; return how many windows the store had."""
    events: queue.SimpleQueue[WindowDone | RunEnded] = queue.SimpleQueue()
    loaded = threading.Event()

    def on_event(event: Event | RunEnded) -> None:
        loaded.set()
        if isinstance(event, (WindowDone, RunEnded)):
            events.put(event)

    # Subscribe before the query, so that no window ends between the two.
    task.add_callback(on_event)
    written = task.run.store.captioned_keys(task.run.id)
    before = len(written)
    if lines:
        _write_known(task.run, written, lines)
    bar = Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}"),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        console=console,
        refresh_per_second=5,
    )
    try:
        with bar:
            row = bar.add_task(f"loading {escape(task.run.recipe.model)}", total=None, rate="")
            event, due = None, 0.0
            while not isinstance(event, RunEnded):
                event = _next(events)
                if isinstance(event, WindowDone) and lines and event.window.key not in written:
                    lines.write(_records(task.run, event))
                    written.add(event.window.key)
                if isinstance(event, RunEnded) or time.monotonic() >= due:
                    now = task.progress
                    rate = f"{now.windows_per_s:.1f} windows/s" if now.windows_per_s else ""
                    bar.update(row, completed=now.done + now.failed, total=now.total, rate=rate)
                    if loaded.is_set():
                        bar.update(row, description="captioning")
                    due = time.monotonic() + _LOOK_S
    except BaseException:
        task.cancel()
        raise
    if lines:
        # Write the windows that another process finished for this run.
        done = {job.window_key for job in task.run.store.jobs(task.run.id) if job.done}
        _write_known(task.run, done - written, lines)
    return before


def _next(events: queue.SimpleQueue[WindowDone | RunEnded]) -> WindowDone | RunEnded | None:
    try:
        return events.get(timeout=_LOOK_S)
    except queue.Empty:
        return None


def _records(run: Run, event: WindowDone) -> list[dict[str, Any]]:
    rows = caption_rows(
        window_columns(event.window),
        run.recipe,
        event.captions,
        event.error,
        event.warnings,
        run=run.id,
    )
    return [vars(row) for row in rows]


def _write_known(run: Run, keys: set[str], lines: JsonLines) -> None:
    for table in run.tables(AT_ONCE) if keys else ():
        lines.write(records_of(table[table["key"].isin(keys)]))


def _print_table(run: Run) -> None:
    shown = Table(show_lines=run.recipe.stage2 is not None)
    for heading in ("video", "seconds", "caption"):
        shown.add_column(heading, overflow="fold")
    for _, rows in run.head(MOST_ROWS).groupby("key", sort=False):
        first = rows.iloc[0]
        texts = [_cell(row, len(run.recipe.stages)) for row in rows.itertuples()]
        if isinstance(first["warnings"], str):
            texts.append(f"[yellow]{escape(first['warnings'])}[/yellow]")
        span = f"{first['start_s']:.1f}-{first['end_s']:.1f}"
        shown.add_row(escape(Path(first["path"]).name), span, "\n".join(texts))
    console = output()
    if shown.row_count:
        console.print(shown)
    more = run.progress.done + run.progress.failed - shown.row_count
    if more > 0:
        console.print(f"… {more} more: captionkit export {run.id} --out captions.csv")


def _cell(row: Any, stages: int) -> str:
    if isinstance(row.error, str):
        return f"[red]{escape(row.error)}[/red]"
    number = f"{row.stage}: " if stages > 1 else ""
    cut = " …(cut off: raise --max-tokens)" if row.finish_reason == "length" else ""
    return escape(f"{number}{row.text}{cut}")


def _print_failures(failures: Iterable[str], console: Console) -> None:
    for failure in failures:
        console.print(f"[red]failed: {escape(failure)}[/red]")


def _with_name(name: str, reason: str) -> str:
    """Return name and reason; most reasons contain the name already."""
    return reason if name in reason else f"{name}: {reason}"
