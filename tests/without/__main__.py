"""Measure each patch of vLLM and each rule of the scheduler: ``python tests/without``.

Captions windows of two stages cold, and again with a new prompt, with all parts and then without each
one, in turns. A part that brings under 3% on both models, on all kinds of processors, is to go.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import uuid
from dataclasses import replace
from pathlib import Path

from left_out import PARTS
from rich.table import Table

from captionkit.bench.real_size import real_size_model
from captionkit.bench.sides import Ours
from captionkit.bench.work import EDITED, STAGE2, Work, films, lengths
from captionkit.system.temp import TempFolder
from captionkit.system.terminal import SafeConsole

AVX2 = {"ATEN_CPU_CAPABILITY": "avx2", "ONEDNN_MAX_CPU_ISA": "AVX2", "ONLY_AVX2": "1"}


def once(film: str, windows: int, model: str) -> dict[str, float]:
    """Return the seconds of both cases in this process, after a warm-up."""
    ours = Ours(model)
    try:
        work = Work(film, windows, lengths(windows, None), stage2=STAGE2, model=model)
        ours.run(replace(work, windows=2, lengths=work.lengths[:2], salt="warm"))
        work = replace(work, salt=uuid.uuid4().hex)
        cold = ours.run(work)["seconds"]
        edited = replace(work, stage2=None, prompt=EDITED, lengths=lengths(windows, 32))
        return {"two stages": cold, "prompt edit": ours.run(edited)["seconds"]}
    finally:
        ours.close()


def apart(part: str, film: Path, options: argparse.Namespace, model: str) -> dict[str, float]:
    """Return `once` of a process without a part; an empty name leaves out nothing."""
    ours = {**os.environ, "WITHOUT": part, **(AVX2 if options.avx2 else {})}
    ours["PYTHONPATH"] = os.pathsep.join([str(Path(__file__).parent), ours.get("PYTHONPATH", "")])
    command = [sys.executable, __file__, "--once", str(film), str(options.windows), model]
    done = subprocess.run(command, env=ours, stdout=subprocess.PIPE, check=True, text=True)
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def main() -> None:
    """Print a table: what each part saves, as a share of the time without it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--real", action="store_true", help="the model of 0.5 B parameters")
    parser.add_argument("--avx2", action="store_true", help="as a processor without AVX-512")
    parser.add_argument("--windows", type=int, default=24)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--once", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.once:
        film, windows, model = options.once
        sys.stdout.write(json.dumps(once(film, int(windows), model)) + "\n")
        return
    spent: dict[str, dict[str, list[float]]] = {}
    with TempFolder("bench") as folder:
        model = str(real_size_model(folder)) if options.real else "demo"
        (film,) = films(folder, options.windows)
        for _ in range(options.repeats):
            for part in ("", *PARTS):
                measured = apart(part, film, options, model)
                sys.stderr.write(f"without {part or 'nothing'}: {measured}\n")
                for case, seconds in measured.items():
                    spent.setdefault(part, {}).setdefault(case, []).append(seconds)
    table = Table("without", *(f"{case}, s (saved)" for case in spent[""]))
    for part, cases in spent.items():
        cells = []
        for case, seconds in cases.items():
            without, full = statistics.median(seconds), statistics.median(spent[""][case])
            cells.append(f"{without:.2f} ({1 - full / without:+.0%})")
        table.add_row(part or "nothing", *cells)
    SafeConsole().print(table)


if __name__ == "__main__":
    main()
