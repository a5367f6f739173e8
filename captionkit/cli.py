"""The command line: ``captionkit caption | runs | export | download | doctor``.

Every error a user can cause is one line that names the file or option and the way out. Exit code 0:
all done; 1: something failed, what was done is on disk; 2: bad usage; 130: interrupted.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import time
import uuid
from dataclasses import fields, replace
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

from captionkit.as_code import option
from captionkit.doctor import examine
from captionkit.engine.errors import EngineError
from captionkit.export import FORMATS, ExportError, JsonLines
from captionkit.flow import WindowResult, caption_windows
from captionkit.history import open_run, runs
from captionkit.models.variants import get_variant
from captionkit.models.weights import WeightsError, ensure_weights
from captionkit.prompts import PROMPTS, STAGE2_DEFAULT
from captionkit.recipe import Recipe
from captionkit.stages import CaptionGenerationStage, CaptionPreparationStage
from captionkit.store import DEFAULT_PATH, StoreError
from captionkit.structured import EXAMPLES
from captionkit.tasks import Clip, Video, VideoTask
from captionkit.video import READERS

# Recipe fields that are options of their own, under another name where that reads better.
_RECIPE_OPTIONS: dict[str, dict[str, Any]] = {
    "variant": {"help": "model: a name, a folder or a repository id"},
    "prompt": {"help": f"a text, or one of {', '.join(PROMPTS)}"},
    "stage2_prompt": {
        "nargs": "?",
        "const": STAGE2_DEFAULT,
        "help": "caption twice; the text may place {caption}",
    },
    "sampling_fps": {"type": float, "help": "frames a second that the model sees"},
    "window_size": {"type": int, "help": "frames a window"},
    "remainder_threshold": {"type": int, "help": "frames from which a remainder is a window"},
    "pixel_budget": {"type": int, "help": "most pixels of a frame that the model sees"},
    "max_output_tokens": {"type": int, "help": "longest caption"},
    "temperature": {"type": float},
    "top_p": {"type": float},
    "repetition_penalty": {"type": float},
    "seed": {"type": int},
    "schema": {
        "metavar": "FILE",
        "help": f"captions as JSON: a file with a JSON schema, or one of {', '.join(EXAMPLES)}",
    },
    "fp8": {"action": "store_true", "help": "weights in fp8 (needs a GPU that can)"},
}


class _UsageError(Exception):
    """Bad usage that argparse cannot see; exit code 2."""


def main(argv: list[str] | None = None) -> int:
    """Run a command; returns the exit code."""
    options = _parser().parse_args(argv)
    console = Console(stderr=True, highlight=False, soft_wrap=True)
    try:
        return int(options.run(options, console))
    except _UsageError as error:
        _say_error(console, error)
        return 2
    except (EngineError, WeightsError, ExportError, StoreError) as error:
        _say_error(console, error)
        return 1
    except BrokenPipeError:
        return 1
    except KeyboardInterrupt:
        console.print("interrupted; what was captioned before is kept")
        return 130


def _say_error(console: Console, error: Exception) -> None:
    console.print(f"[red]captionkit: {escape(str(error))}[/red]")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="captionkit", description="Caption video windows with a vision-language model."
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    caption = commands.add_parser("caption", help="caption videos")
    caption.add_argument("videos", nargs="+", metavar="VIDEO", help="a video file")
    for field in fields(Recipe):
        settings = dict(_RECIPE_OPTIONS[field.name])
        caption.add_argument(option(field.name), dest=field.name, default=None, **settings)
    caption.add_argument("--batch-size", type=int, default=16, help="captions that run at once")
    caption.add_argument("--reader", choices=READERS, default="pyav", help="video decoder")
    caption.add_argument("--recipe", type=Path, metavar="FILE", help="a saved recipe")
    caption.add_argument("--out", type=Path, metavar="FILE.jsonl", help="write captions here")
    _add_model_dir(caption)
    caption.set_defaults(run=_caption)
    history = commands.add_parser("runs", help="list the runs of a store")
    _add_store(history)
    history.set_defaults(run=_runs)
    export = commands.add_parser("export", help="write a run's captions to a file")
    export.add_argument("number", type=int, metavar="RUN", help="its number, see captionkit runs")
    export.add_argument(
        "--out", type=Path, metavar="PATH", help="file or folder; by default run-RUN.FORMAT, here"
    )
    told = "; ".join(f"{name}: {what}" for name, what in FORMATS.items())
    export.add_argument("--format", help=f"by default the suffix of --out; {told}")
    export.add_argument("--stage", type=int, choices=(1, 2), help="this stage alone")
    export.add_argument("--checks", action="store_true", help="add what may be wrong")
    export.add_argument(
        "--prefer-human", action="store_true", help="edits and ratings win over generated text"
    )
    export.add_argument("--overwrite", action="store_true", help="replace what stands there")
    _add_store(export)
    export.set_defaults(run=_export)
    download = commands.add_parser("download", help="download a model's weights")
    download.add_argument("variant", metavar="VARIANT", help="for example qwen")
    _add_model_dir(download)
    download.set_defaults(run=_download)
    bench = commands.add_parser("bench", help="measure speed beside the reference's loop and vLLM")
    bench.add_argument("--quick", action="store_true", help="fewer windows, under five minutes")
    bench.add_argument("--json", type=Path, metavar="FILE", help="write all figures here")
    bench.set_defaults(run=_bench)
    doctor = commands.add_parser("doctor", help="say what this machine has and lacks")
    _add_model_dir(doctor)
    doctor.set_defaults(run=_doctor)
    return parser


def _add_model_dir(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--model-dir",
        default="models/qwen",
        metavar="DIR",
        help="where downloaded weights are kept",
    )


def _add_store(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--store", type=Path, default=DEFAULT_PATH, metavar="FILE", help="where the runs are kept"
    )


def _existing_store(options: argparse.Namespace) -> Path:
    store: Path = options.store
    if not store.is_file():
        raise _UsageError(f"there is no store {store}; run this where the session ran, or give --store")
    return store


def _runs(options: argparse.Namespace, console: Console) -> int:
    table = Table(highlight=False)
    for heading, fold in (
        ("run", "ellipsis"),
        ("created (UTC)", "fold"),
        ("model", "fold"),
        ("prompt", "fold"),
        ("stage 2", "fold"),
        ("captioned", "fold"),
        ("windows/s", "fold"),
    ):
        table.add_column(heading, overflow=fold)  # type: ignore[arg-type]
    for number, row in runs(_existing_store(options)).iterrows():
        failed = f", {row['failed']} failed" if row["failed"] else ""
        cells = (
            row["created"][:16].replace("T", " "),
            row["model"],
            row["prompt"],
            row["stage2"] if isinstance(row["stage2"], str) else "",
            f"{row['done']} of {row['windows']}{failed}",
            f"{row['windows_per_s']:.1f}" if row["windows_per_s"] == row["windows_per_s"] else "",
        )
        table.add_row(str(number), *(escape(_printable(cell)) for cell in cells))
    Console(highlight=False).print(table)
    return 0


def _export(options: argparse.Namespace, console: Console) -> int:
    try:
        run = open_run(options.number, _existing_store(options))
    except KeyError as error:
        raise _UsageError(error.args[0]) from error
    if options.out is None and options.format is None:
        raise _UsageError(f"give --out or --format, one of {', '.join(FORMATS)}")
    written = run.export(
        options.out or Path(f"run-{run.id}.{options.format}"),
        options.format,
        stage=options.stage,
        checks=options.checks,
        prefer_human=options.prefer_human,
        overwrite=options.overwrite,
    )
    console.print(f"run {run.id} is in {escape(str(written))}")
    return 0


def _caption(options: argparse.Namespace, console: Console) -> int:
    recipe = _recipe(options)
    if options.batch_size < 1:
        raise _UsageError(f"--batch-size is {options.batch_size}; give 1 or more")
    if options.out and options.out.is_dir():
        raise _UsageError(f"--out {options.out} is a folder; give a file, say captions.jsonl")
    preparation = CaptionPreparationStage.from_recipe(recipe, reader=options.reader)
    generation = CaptionGenerationStage.from_recipe(
        recipe, model_dir=options.model_dir, caption_batch_size=options.batch_size
    )
    tasks = [_task(path) for path in options.videos]
    try:
        return _run(tasks, recipe, preparation, generation, options.out, console)
    finally:
        preparation.teardown()


def _recipe(options: argparse.Namespace) -> Recipe:
    try:
        recipe = Recipe.load(options.recipe) if options.recipe else Recipe()
        given = {name: getattr(options, name) for name in _RECIPE_OPTIONS}
        if given["schema"] and Path(given["schema"]).is_file():
            given["schema"] = Path(given["schema"]).read_text(encoding="utf-8")
        # An option that was not given is None, or False for a switch; 0 was given.
        changes = {k: v for k, v in given.items() if v is not None and v is not False}
        recipe = replace(recipe, **changes)
        get_variant(recipe.variant)
    except FileNotFoundError as error:
        raise _UsageError(f"--recipe {options.recipe}: no such file") from error
    except (ValueError, OSError) as error:
        raise _UsageError(str(error)) from error
    return recipe


def _task(path: str) -> VideoTask:
    # A clip's id is made of its path, so that two runs can be laid side by side.
    clip = Clip(source_video=path, uuid=uuid.uuid5(uuid.NAMESPACE_URL, path))
    return VideoTask(Video(input_video=path, clips=[clip]), task_id=path)


def _run(
    tasks: list[VideoTask],
    recipe: Recipe,
    preparation: CaptionPreparationStage,
    generation: CaptionGenerationStage,
    out: Path | None,
    console: Console,
) -> int:
    for task in tasks:
        preparation.plan(task.data, task.data.clips[0])
    failed = [
        (task.data.clips[0].source_video, reason)
        for task in tasks
        for reason in task.data.clips[0].errors.values()
    ]
    total = sum(len(task.data.clips[0].windows) for task in tasks)
    lines = JsonLines(out, recipe) if out else None
    try:
        done: list[WindowResult] = []
        if total:
            with console.status(f"loading {escape(recipe.variant)} …"):
                _set_up(generation)
            done = asyncio.run(_follow(tasks, preparation, generation, lines, total, console))
    finally:
        if lines:
            lines.close()
    _print_table(done, recipe)
    failed += [
        (f"{result.clip.source_video}, window {result.window_index}", result.error)
        for result in done
        if result.error
    ]
    captioned = sum(not result.error for result in done)
    where = f", written to {escape(str(out))}" if out else ""
    console.print(f"{captioned} of {total} windows captioned{where}")
    for name, reason in failed:
        console.print(f"[red]failed: {escape(_once(name, reason))}[/red]")
    return 1 if failed else 0


def _once(name: str, reason: str) -> str:
    """Name and reason; most reasons of files name the file themselves."""
    return reason if reason.startswith(name) or f" {name}" in f" {reason}" else f"{name}: {reason}"


def _set_up(generation: CaptionGenerationStage) -> None:
    try:
        generation.setup()
    except ValueError as error:
        raise _UsageError(str(error)) from error


async def _follow(
    tasks: list[VideoTask],
    preparation: CaptionPreparationStage,
    generation: CaptionGenerationStage,
    lines: JsonLines | None,
    total: int,
    console: Console,
) -> list[WindowResult]:
    done: list[WindowResult] = []
    progress = Progress(
        TextColumn("captioning"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}"),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        console=console,
        refresh_per_second=5,
    )
    with progress:
        bar = progress.add_task("captioning", total=total, rate="")
        begun = time.monotonic()
        async for result in caption_windows(tasks, preparation, generation):
            done.append(result)
            if lines:
                lines.write(result.clip, result.window_index, result.error)
            rate = len(done) / (time.monotonic() - begun)
            progress.update(bar, advance=1, rate=f"{rate:.1f} windows/s")
    order = {id(task.data): place for place, task in enumerate(tasks)}
    return sorted(done, key=lambda result: (order[id(result.video)], result.window_index))


def _print_table(done: list[WindowResult], recipe: Recipe) -> None:
    table = Table(show_lines=recipe.stage2_prompt is not None)
    for heading in ("video", "seconds", "caption"):
        table.add_column(heading, overflow="fold")
    for result in done:
        window = result.window
        captions = window.captions.get(recipe.variant, [])
        text = "\n".join(
            (f"{each.stage}: " if recipe.stage2_prompt else "") + _printable(each.text)
            for each in captions
        )
        if any(each.finish_reason == "length" for each in captions):
            text += " …(cut off: raise --max-tokens)"
        cell = escape(text) + (f"[red]{escape(_printable(result.error))}[/red]" if result.error else "")
        if window.warnings:
            cell += f"\n[yellow]{escape('; '.join(window.warnings))}[/yellow]"
        span = f"{window.start_s:.1f}-{window.end_s:.1f}"
        table.add_row(escape(_printable(Path(result.clip.source_video).name)), span, cell)
    if done:
        Console(highlight=False).print(table)


def _printable(text: str) -> str:
    """Text without control characters: captions and file names are not to steer a terminal."""
    return "".join(c if c.isprintable() or c == "\n" else "\N{REPLACEMENT CHARACTER}" for c in text)


def _download(options: argparse.Namespace, console: Console) -> int:
    try:
        variant = get_variant(options.variant)
    except ValueError as error:
        raise _UsageError(str(error)) from error
    folder = ensure_weights(variant, options.model_dir)
    console.print(f"{escape(options.variant)} is in {escape(str(folder))}")
    return 0


def _bench(options: argparse.Namespace, console: Console) -> int:
    from captionkit.bench.speed import bench  # it renders films and starts engines; nothing else does

    report = bench(console, quick=options.quick)
    report.print(Console(highlight=False))
    if options.json:
        report.save(options.json)
    return 0


def _doctor(options: argparse.Namespace, console: Console) -> int:
    findings = examine(options.model_dir)
    table = Table("", "found", "what to do", highlight=False)
    for finding in findings:
        table.add_row(finding.topic, escape(finding.found), escape(finding.advice))
    Console(highlight=False).print(table)
    return 1 if any(finding.blocks for finding in findings) else 0


if __name__ == "__main__":
    sys.exit(main())
