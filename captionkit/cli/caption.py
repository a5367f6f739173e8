"""``captionkit caption``: its options, and videos → captions on the terminal, in a file, or with Ray.

Imports stages, flow, exports and scale; called by `cli`.
"""

from __future__ import annotations

import argparse
import asyncio
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

from captionkit.runs.as_code import option
from captionkit.export import JsonLines
from captionkit.pipeline.caption import WindowResult, caption_windows
from captionkit.models.variants import get_variant
from captionkit.prompts import PROMPTS, STAGE2_DEFAULT
from captionkit.recipe import Recipe
from captionkit.stages import CaptionGenerationStage, CaptionPreparationStage
from captionkit.structured import EXAMPLES
from captionkit.stages.tasks import Clip, Video, VideoTask
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


class UsageError(Exception):
    """Bad usage that argparse cannot see; exit code 2."""


def add_parser(commands: Any) -> None:
    """The command with its options."""
    caption = commands.add_parser("caption", help="caption videos")
    caption.add_argument("videos", nargs="+", metavar="VIDEO", help="a video file")
    for field in fields(Recipe):
        settings = dict(_RECIPE_OPTIONS[field.name])
        caption.add_argument(option(field.name), dest=field.name, default=None, **settings)
    caption.add_argument("--batch-size", type=int, default=16, help="captions that run at once")
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
    add_model_dir(caption)
    caption.set_defaults(run=_caption)


def add_model_dir(parser: argparse.ArgumentParser) -> None:
    """The option for where weights are kept."""
    parser.add_argument(
        "--model-dir",
        default="models/qwen",
        metavar="DIR",
        help="where downloaded weights are kept",
    )


def _caption(options: argparse.Namespace, console: Console) -> int:
    recipe = _recipe(options)
    if options.batch_size < 1:
        raise UsageError(f"--batch-size is {options.batch_size}; give 1 or more")
    if options.ray:
        return _caption_with_ray(options, recipe, console)
    out = Path(options.out) if options.out else None
    if out and out.is_dir():
        raise UsageError(f"--out {out} is a folder; give a file, say captions.jsonl")
    preparation = CaptionPreparationStage.from_recipe(recipe, reader=options.reader)
    generation = CaptionGenerationStage.from_recipe(
        recipe,
        model_dir=options.model_dir,
        caption_batch_size=options.batch_size,
        endpoint=options.endpoint,
    )
    tasks = [_task(path) for path in options.videos]
    try:
        return _run(tasks, recipe, preparation, generation, out, console)
    finally:
        preparation.teardown()


def _caption_with_ray(options: argparse.Namespace, recipe: Recipe, console: Console) -> int:
    from captionkit.scale import caption_videos

    if options.endpoint:
        raise UsageError("--ray has engines of its own: leave --endpoint out")
    if not options.out:
        raise UsageError("--ray writes a folder of Parquet parts: give --out FOLDER")
    try:
        done = caption_videos(
            options.videos,
            recipe,
            options.out,
            actors=options.actors,
            batch_size=options.batch_size,
            model_dir=options.model_dir,
            address=options.ray,
        )
    except (ValueError, FileNotFoundError) as error:
        raise UsageError(str(error)) from error
    captioned, failed = done["captioned"], done["failed"]
    console.print(
        f"{captioned} windows captioned, {failed} rows with an error, in {escape(options.out)}; "
        f"{done['of this run']} of this run at {done['windows_per_s']} windows/s"
    )
    return 1 if failed else 0


def _recipe(options: argparse.Namespace) -> Recipe:
    try:
        recipe = Recipe.load(options.recipe) if options.recipe else Recipe()
        given = {name: getattr(options, name) for name in _RECIPE_OPTIONS}
        if given["schema"] is not None:
            given["schema"] = _schema(given["schema"])
        # An option that was not given is None, or False for a switch; 0 was given.
        changes = {k: v for k, v in given.items() if v is not None and v is not False}
        recipe = replace(recipe, **changes)
        get_variant(recipe.variant)
    except FileNotFoundError as error:
        raise UsageError(f"--recipe {options.recipe}: no such file") from error
    except (ValueError, OSError) as error:
        raise UsageError(str(error)) from error
    return recipe


def _schema(given: str) -> str:
    """What ``--schema`` means: a ready example, a schema itself, or the file that holds one."""
    if given in EXAMPLES or given.lstrip().startswith("{"):
        return given
    try:
        return Path(given).read_text(encoding="utf-8")
    except FileNotFoundError as error:
        raise UsageError(
            f"--schema {given}: no such file, and none of {', '.join(EXAMPLES)}"
        ) from error


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
        raise UsageError(str(error)) from error


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
            (f"{each.stage}: " if recipe.stage2_prompt else "") + printable(each.text)
            for each in captions
        )
        if any(each.finish_reason == "length" for each in captions):
            text += " …(cut off: raise --max-tokens)"
        cell = escape(text) + (f"[red]{escape(printable(result.error))}[/red]" if result.error else "")
        if window.warnings:
            cell += f"\n[yellow]{escape('; '.join(window.warnings))}[/yellow]"
        span = f"{window.start_s:.1f}-{window.end_s:.1f}"
        table.add_row(escape(printable(Path(result.clip.source_video).name)), span, cell)
    if done:
        Console(highlight=False).print(table)


def printable(text: str) -> str:
    """Text without control characters: captions and file names are not to steer a terminal."""
    return "".join(c if c.isprintable() or c == "\n" else "\N{REPLACEMENT CHARACTER}" for c in text)
