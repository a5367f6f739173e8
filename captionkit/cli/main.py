"""The command line: ``captionkit caption | runs | export | download | bench | doctor``.

Every error a user can cause is one line that names the file or option and the way out. Exit code 0:
all done; 1: something failed, what was done is on disk; 2: bad usage; 130: interrupted.
"""

from __future__ import annotations

import argparse
import os
import socket
import sys
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from captionkit.cli import caption as cli_caption
from captionkit.system import hardware
from captionkit.cli.caption import UsageError, add_model_dir, printable
from captionkit.cli.doctor import examine
from captionkit.engine.errors import EngineError
from captionkit.engine.process import environment, require_vllm
from captionkit.export import FORMATS, ExportError
from captionkit.runs.history import open_run, runs
from captionkit.models.variants import get_variant
from captionkit.models.weights import WeightsError, ensure_weights
from captionkit.scale.parts import ScaleError
from captionkit.store import DEFAULT_PATH, StoreError


def main(argv: list[str] | None = None) -> int:
    """Run a command; returns the exit code."""
    options = _parser().parse_args(argv)
    console = Console(stderr=True, highlight=False, soft_wrap=True)
    try:
        return int(options.run(options, console))
    except UsageError as error:
        _say_error(console, error)
        return 2
    except (EngineError, WeightsError, ExportError, StoreError, ScaleError) as error:
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
    cli_caption.add_parser(commands)
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
    add_model_dir(download)
    download.set_defaults(run=_download)
    serve = commands.add_parser("serve", help="serve a model to several notebooks: Session(endpoint=…)")
    serve.add_argument("--model", default="demo", help="a name, a folder or a repository id")
    serve.add_argument(
        "--host", default="127.0.0.1", help="by default this machine alone; others need VLLM_API_KEY"
    )
    serve.add_argument("--port", type=int, default=8000)
    serve.add_argument("--fp8", action="store_true", help="weights in fp8 (needs a GPU that can)")
    add_model_dir(serve)
    serve.set_defaults(run=_serve)
    bench = commands.add_parser("bench", help="measure speed beside the reference's loop and vLLM")
    bench.add_argument("--quick", action="store_true", help="fewer windows, under five minutes")
    bench.add_argument("--json", type=Path, metavar="FILE", help="write all figures here")
    bench.set_defaults(run=_bench)
    doctor = commands.add_parser("doctor", help="say what this machine has and lacks")
    add_model_dir(doctor)
    doctor.set_defaults(run=_doctor)
    return parser


def _add_store(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--store", type=Path, default=DEFAULT_PATH, metavar="FILE", help="where the runs are kept"
    )


def _existing_store(options: argparse.Namespace) -> Path:
    store: Path = options.store
    if not store.is_file():
        raise UsageError(f"there is no store {store}; run this where the session ran, or give --store")
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
        table.add_row(str(number), *(escape(printable(cell)) for cell in cells))
    Console(highlight=False).print(table)
    return 0


def _export(options: argparse.Namespace, console: Console) -> int:
    try:
        run = open_run(options.number, _existing_store(options))
    except KeyError as error:
        raise UsageError(error.args[0]) from error
    if options.out is None and options.format is None:
        raise UsageError(f"give --out or --format, one of {', '.join(FORMATS)}")
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


def _download(options: argparse.Namespace, console: Console) -> int:
    try:
        variant = get_variant(options.variant)
    except ValueError as error:
        raise UsageError(str(error)) from error
    folder = ensure_weights(variant, options.model_dir)
    console.print(f"{escape(options.variant)} is in {escape(str(folder))}")
    return 0


def _serve(options: argparse.Namespace, console: Console) -> int:
    try:
        variant = get_variant(options.model)
        if options.fp8:
            hardware.require_fp8()
    except ValueError as error:
        raise UsageError(str(error)) from error
    if options.host not in ("127.0.0.1", "localhost", "::1") and not os.environ.get("VLLM_API_KEY"):
        raise UsageError(
            f"--host {options.host} lets other machines in: set VLLM_API_KEY to a key of your making, "
            "and CAPTIONKIT_API_KEY to the same where sessions run"
        )
    with socket.socket() as probe:
        # As the server binds: a port whose last server just ended is free.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((options.host, options.port))
        except OSError as error:
            raise UsageError(
                f"{options.host}:{options.port} cannot be listened on ({error.strerror}); give another "
                "--port"
            ) from error
    require_vllm()
    folder = ensure_weights(variant, options.model_dir)
    address = f"http://{options.host}:{options.port}/v1"
    console.print(
        f"serving {escape(variant.name)}; when it is up: "
        f"ck.Session(videos, model={variant.name!r}, endpoint={address!r})"
    )
    words = [str(folder.resolve()), "--name", variant.name, "--host", options.host]
    words += ["--port", str(options.port), *(["--fp8"] if options.fp8 else [])]
    command = [sys.executable, "-m", "captionkit.engine.serve", *words]
    # In place of this process, so that a stop reaches the server itself.
    os.execve(sys.executable, command, environment(os.cpu_count() or 1))  # noqa: S606


def _bench(options: argparse.Namespace, console: Console) -> int:
    from captionkit.bench.speed import bench  # it renders films and starts engines; nothing else does

    report = bench(console, quick=options.quick, kept=options.json)
    report.print(Console(highlight=False))
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
