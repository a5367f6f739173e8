"""``captionkit search``: find the best recipe for a budget."""

from __future__ import annotations

import argparse
import contextlib
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from captionkit.cli.common import UsageError, add_model_dir, add_store, output
from captionkit.recipe import SETTINGS, Recipe
from captionkit.run.as_code import option
from captionkit.search import METRICS, Choice, Found, propose
from captionkit.session import Session

_NONE = "none"
# What may vary, each with several values; the others come from --recipe.
_AXES = ("prompt", "stage2", "sampling_fps", "pixel_budget", "max_tokens", "temperature")


def add_parser(commands: Any) -> None:
    """Add the command."""
    parser = commands.add_parser("search", help="find the best recipe for a budget")
    parser.add_argument("videos", nargs="+", metavar="VIDEO", help="a video file, folder or pattern")
    for name in _AXES:
        note = f"; {_NONE} and default are values, too" if name == "stage2" else ""
        note = f"; {_NONE} is a value, too" if name == "pixel_budget" else note
        parser.add_argument(
            option(name), dest=name, nargs="+", metavar="VALUE", default=None,
            help=f"values to compare: {SETTINGS[name].help}{note}",
        )  # fmt: skip
    parser.add_argument(
        "--propose", type=int, metavar="N", help="also N prompts proposed from the first one"
    )
    parser.add_argument("--model", help=SETTINGS["model"].help)
    parser.add_argument("--recipe", type=Path, metavar="FILE", help="a saved recipe for all the rest")
    parser.add_argument("--metric", choices=METRICS, default="truth", help="what counts")
    parser.add_argument("--reference", type=int, metavar="RUN", help="run of people's captions")
    parser.add_argument("--windows", type=int, default=60, help="windows that decide; by default 60")
    parser.add_argument("--budget-s", type=float, metavar="SECONDS", help="end after so many seconds")
    parser.add_argument(
        "--budget-windows", type=int, metavar="N", help="caption so many windows at most, of all"
    )
    parser.add_argument("--seed", type=int, default=0, help="choice of the windows")
    parser.add_argument("--under-tokens", type=float, help="take the best that costs so many a window")
    parser.add_argument("--save", type=Path, metavar="FILE.toml", help="write the best recipe here")
    parser.add_argument("--figure", type=Path, metavar="FILE.png", help="draw quality and cost here")
    parser.add_argument("--endpoint", metavar="URL", help="caption at a vLLM server")
    add_store(parser)
    add_model_dir(parser)
    parser.set_defaults(run=_search)


def _search(options: argparse.Namespace, console: Console) -> int:
    axes: dict[str, Any] = {
        name: _values(name, given) for name in _AXES if (given := getattr(options, name))
    }
    for name in ("save", "figure"):
        path = getattr(options, name)
        if path is not None and not path.resolve().parent.is_dir():
            raise UsageError(f"--{name} {path}: there is no folder {path.parent}")
    try:
        recipe = Recipe.load(options.recipe) if options.recipe else Recipe()
        session = Session(
            options.videos, options.model, recipe=recipe, store=options.store,
            model_dir=options.model_dir, endpoint=options.endpoint,
        )  # fmt: skip
    except (FileNotFoundError, ValueError) as error:
        raise UsageError(str(error)) from error
    with contextlib.closing(session):
        try:
            if options.propose:
                proposed = propose(session, axes.get("prompt", recipe.prompt), options.propose)
                console.print(f"{options.propose} prompts {escape(proposed.how)}")
                axes["prompt"] = proposed
            found = session.search(
                metric=options.metric,
                reference=None if options.reference is None else session.open(options.reference),
                windows=options.windows,
                budget_s=options.budget_s,
                budget_windows=options.budget_windows,
                seed=options.seed,
                **axes,
            )
            best = found.best
            if options.under_tokens is not None:
                best = found.best_under(tokens=options.under_tokens)
        except (ValueError, KeyError) as error:
            raise UsageError(str(error.args[0])) from error
        _print(found, best)
        if options.save:
            best.recipe.save(options.save)
        if options.figure:
            found.figure().savefig(options.figure)
    return 0


def _values(name: str, given: list[str]) -> list[Any]:
    """Return the values of an option in their type."""
    kind = SETTINGS[name].kind
    made: list[Any] = []
    for text in given:
        if name in ("stage2", "pixel_budget") and text == _NONE:
            made.append(None)
        elif name == "stage2" and text == "default":
            made.append(True)
        else:
            try:
                made.append(kind(text))
            except ValueError as error:
                raise UsageError(f"{option(name)} {text} is not a number") from error
    return made


def _print(found: Found, best: Choice) -> None:
    shown = Table(highlight=False)
    for heading in ("setting", "windows", found.metric, "behind", "verdict", "tokens", "s", "run"):
        shown.add_column(heading, overflow="fold")
    for row in found.table.to_dict("records"):
        figures = (f"{row[found.metric]:.3f}", f"{row['behind']:.3f}")
        price = (f"{row['tokens']:.0f}", f"{row['seconds']:.2f}")
        verdict = row["error"] or row["verdict"]
        cells = (
            row["setting"], str(row["windows"]), *figures, verdict, *price, str(row["run"]),
        )  # fmt: skip
        shown.add_row(*(escape(each) for each in cells))
    console = output()
    console.print(shown)
    console.print(escape(best.sentence))
