"""``captionkit export``: write a run's captions to a file, or as a data set to train on."""

from __future__ import annotations

import argparse
from dataclasses import fields
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape

from captionkit.cli.common import UsageError, add_store, existing_store
from captionkit.export import FORMATS, load_captions
from captionkit.export.dataset import LAYOUTS, DatasetOptions
from captionkit.run import Run, export_dataset, open_run

_DATASET = "dataset"


def add_parser(commands: Any) -> None:
    """Add the command."""
    parser = commands.add_parser(
        "export", help="write a run's captions to a file, or clips to train on"
    )
    parser.add_argument(
        "run_or_path",
        metavar="RUN",
        help="run's number, see captionkit runs; for a data set also a file or a folder of captions",
    )
    parser.add_argument(
        "--out", type=Path, metavar="PATH", help="file or folder; by default ./run-RUN.FORMAT"
    )
    listed = "; ".join(f"{name}: {each.description}" for name, each in FORMATS.items())
    parser.add_argument(
        "--format",
        help=f"by default the suffix of --out; {listed}; {_DATASET}: clips with captions to train on",
    )
    parser.add_argument("--stage", type=int, choices=(1, 2), help="only this stage")
    parser.add_argument("--checks", action="store_true", help="add the findings of the checks")
    parser.add_argument(
        "--prefer-human", action="store_true", help="prefer edits and ratings to generated text"
    )
    parser.add_argument("--overwrite", action="store_true", help="replace an existing file")
    layouts = "; ".join(f"{name}: {each.description}" for name, each in LAYOUTS.items())
    group = parser.add_argument_group("data sets", f"options of --format dataset. Layouts: {layouts}")
    for each in fields(DatasetOptions):
        _add(group, each.name, each.metadata)
    add_store(parser)
    parser.set_defaults(run=_export)


def _add(group: Any, name: str, about: Any) -> None:
    """Add an option of `DatasetOptions`; what is not given keeps its default there."""
    flag, kind = f"--{name.replace('_', '-')}", about["kind"]
    settings: dict[str, Any] = {"default": None, "help": about["help"].replace("%", "%%")}
    if kind is bool:
        settings["action"] = argparse.BooleanOptionalAction
    elif kind == "names":
        settings |= {"nargs": "+", "metavar": "NAME"}
    elif kind == "size":
        settings |= {"type": _size, "metavar": "WxH"}
    else:
        settings |= {"type": kind, "choices": about.get("choices")}
        if "choices" not in about:
            settings["metavar"] = name.upper()
    group.add_argument(flag, **settings)


def _size(text: str) -> tuple[int, int]:
    width, _, height = text.lower().partition("x")
    if not (width.isdigit() and height.isdigit()):
        raise argparse.ArgumentTypeError(f"{text!r} is not a size; give width and height, as 832x480")
    return int(width), int(height)


def _export(options: argparse.Namespace, console: Console) -> int:
    given = {each.name: getattr(options, each.name) for each in fields(DatasetOptions)}
    dataset = {name: value for name, value in given.items() if value is not None}
    common = {name: getattr(options, name) for name in ("stage", "prefer_human", "overwrite")}
    if dataset and options.format != _DATASET:
        flag = next(iter(dataset)).replace("_", "-")
        raise UsageError(f"--{flag} is an option of data sets; give --format dataset")
    if options.out is None and options.format is None:
        raise UsageError(f"give --out or --format, one of {', '.join(FORMATS)}, {_DATASET}")
    name = options.run_or_path
    if options.format == _DATASET and not name.isdigit():
        out = options.out or Path(f"{Path(name).stem}-{_DATASET}")
        written = export_dataset(load_captions(name), out, **common, **dataset)
        console.print(f"the captions of {escape(name)} are in {escape(str(written))}")
        return 0
    run = _opened(name, options)
    if options.format == _DATASET:
        out = options.out or Path(f"run-{run.id}-{_DATASET}")
        written = run.export(out, _DATASET, **common, **dataset)
    else:
        out = options.out or Path(f"run-{run.id}.{options.format}")
        written = run.export(out, options.format, checks=options.checks, **common)
    console.print(f"run {run.id} is in {escape(str(written))}")
    return 0


def _opened(name: str, options: argparse.Namespace) -> Run:
    if not name.isdigit():
        raise UsageError(f"{name!r} is not the number of a run, see captionkit runs")
    try:
        return open_run(int(name), existing_store(options))
    except KeyError as error:
        raise UsageError(error.args[0]) from error
