"""``captionkit verify`` and ``captionkit judge``: which captions are true, and which are better."""

from __future__ import annotations

import argparse
import contextlib
import math
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from captionkit.cli.common import UsageError, add_model_dir, add_store, existing_store, output
from captionkit.display import MOST_ROWS
from captionkit.prompts import QUESTIONS
from captionkit.recipe import Recipe
from captionkit.run import Judgement, Run, judge, open_run
from captionkit.run.asking import IMPORTED
from captionkit.session import Session
from captionkit.sources import CUTS
from captionkit.store import Store

_SUFFIXES = (".csv", ".jsonl", ".parquet")


def add_parser(commands: Any) -> None:
    """Add both commands."""
    verify = commands.add_parser("verify", help="ask whether each claim of a run's captions is true")
    verify.add_argument("run_number", metavar="RUN", type=int, help="run's number, see captionkit runs")
    verify.add_argument("--stage", type=int, choices=(1, 2), help="only this stage")
    verify.add_argument(
        "--question",
        default="claim",
        metavar="TEXT",
        help="a text with {claim}; by default the ready one",
    )
    verify.add_argument("--yes", action="append", metavar="WORD", help="word for true, as ja")
    verify.add_argument("--no", action="append", metavar="WORD", help="word for false, as nein")
    verify.set_defaults(run=_verify)
    compare = commands.add_parser("judge", help="ask which caption of two runs is better")
    for name in ("first", "second"):
        compare.add_argument(
            f"{name}_run", metavar=f"{name.upper()}_RUN", type=int, help="run's number"
        )
    named = ", ".join(name for name in QUESTIONS if name != "claim")
    compare.add_argument(
        "--rubric", default="judge", metavar="TEXT", help=f"a text with {{a}} and {{b}}, or {named}"
    )
    compare.set_defaults(run=_judge)
    for parser in (verify, compare):
        parser.add_argument(
            "videos", nargs="*", metavar="VIDEO", help="films of the run, if they are elsewhere by now"
        )
        parser.add_argument(
            "--by",
            metavar="MODEL",
            help="model that is asked, or a server's address; by default the run's",
        )
        parser.add_argument("--batch-size", type=int, help="questions at once; by default 16")
        parser.add_argument("--cut", choices=CUTS, default=CUTS[0], help="as for captionkit caption")
        parser.add_argument("--spans", metavar="FILE", help="as for captionkit caption")
        parser.add_argument(
            "--out", type=Path, metavar="FILE", help="write all rows: .csv, .jsonl, .parquet"
        )
        add_store(parser)
        add_model_dir(parser)


def _verify(options: argparse.Namespace, console: Console) -> int:
    words = None
    if options.yes or options.no:
        words = {"yes": options.yes or [], "no": options.no or []}
    with _session(options, options.run_number) as run:
        how = {"stage": options.stage, "question": options.question, "words": words}
        try:
            before = run.verification(options.by, **how)
            console.print(f"run {run.id}: {escape(str(before.cost))}")
            made = run.verify(options.by, batch_size=options.batch_size, **how)
        except ValueError as error:
            raise UsageError(str(error)) from error
        claims = made.claims
        false = claims[claims["verdict"].eq(False).fillna(False)]
        table = Table("video", "window", "claim", "p", highlight=False, title="Unsupported")
        for row in false.head(MOST_ROWS).itertuples():
            share = "" if math.isnan(row.p_true) else f"{row.p_true:.2f}"
            table.add_row(escape(row.video), str(row.window), escape(row.claim), share)
        if len(false):
            output().print(table)
        console.print(escape(repr(made).strip("<>")))
        return _end(options, console, claims, made.errors)


def _judge(options: argparse.Namespace, console: Console) -> int:
    with _session(options, options.first_run) as run:
        other = _opened(options.second_run, run.store)
        try:
            made: Judgement = judge(
                run, other, options.by, rubric=options.rubric, batch_size=options.batch_size
            )
        except ValueError as error:
            raise UsageError(str(error)) from error
        console.print(escape(repr(made).strip("<>")))
        return _end(options, console, made.table, made.errors)


@contextlib.contextmanager
def _session(options: argparse.Namespace, number: int) -> Iterator[Run]:
    """Open a session on the films of a run, which can ask; close it at the end."""
    if options.batch_size is not None and options.batch_size < 1:
        raise UsageError(f"--batch-size is {options.batch_size}; give 1 or more")
    if options.out is not None and options.out.suffix.lower() not in _SUFFIXES:
        raise UsageError(f"--out {options.out}: give a file of {', '.join(_SUFFIXES)}")
    with contextlib.closing(Store(existing_store(options))) as store:
        run = _opened(number, store)
        films = options.videos or list(run.captions["path"].dropna().unique())
        if not films:
            raise UsageError(f"run {number} has no captions")
        recipe = run.recipe
        if recipe.model == IMPORTED:
            if options.by is None:
                raise UsageError(f"run {number} has captions of no model: say whom to ask with --by")
            recipe = replace(recipe, model=Recipe().model if "://" in options.by else options.by)
        try:
            session = Session(
                films, recipe=recipe, spans=options.spans, cut=options.cut, store=store,
                model_dir=options.model_dir,
            )  # fmt: skip
        except (ValueError, FileNotFoundError) as error:
            raise UsageError(f"{error} (give the films of run {number} behind it)") from error
        try:
            yield session.open(number)
        finally:
            session.close()


def _opened(number: int, store: Store) -> Run:
    try:
        return open_run(number, store)
    except KeyError as error:
        raise UsageError(error.args[0]) from error


def _end(
    options: argparse.Namespace, console: Console, table: pd.DataFrame, errors: dict[Any, str]
) -> int:
    """Write the rows, and say what failed."""
    if options.out is not None:
        match options.out.suffix.lower():
            case ".csv":
                table.to_csv(options.out, index=False)
            case ".jsonl":
                table.to_json(options.out, orient="records", lines=True, force_ascii=False)
            case _:
                table.to_parquet(options.out, index=False)
        console.print(f"{len(table)} rows are in {escape(str(options.out))}")
    for reason in dict.fromkeys(errors.values()):
        console.print(f"[red]{escape(reason)}[/red]")
    return 1 if errors else 0
