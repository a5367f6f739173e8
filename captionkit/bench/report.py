"""The report of the benchmark: goals, cases and the machine, printed or as JSON."""

from __future__ import annotations

import json
import os
import platform
import statistics
import time
from dataclasses import asdict, dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from captionkit.system import hardware


@dataclass(frozen=True)
class Goal:
    """One row: a figure, its bound, and the seconds of both sides."""

    name: str
    figure: float
    bound: float
    at_least: bool = True
    unit: str = "x"
    seconds: dict[str, list[float]] = field(default_factory=dict)

    @property
    def met(self) -> bool:
        """True if the figure reaches the bound."""
        return self.figure >= self.bound if self.at_least else self.figure <= self.bound


@dataclass
class Report:
    """All goals, other measurements by name, and the machine."""

    machine: dict[str, str]
    goals: list[Goal] = field(default_factory=list)
    cases: list[dict[str, Any]] = field(default_factory=list)
    same_text: dict[str, str] = field(default_factory=dict)

    def print(self, console: Console) -> None:
        """Print the tables."""
        console.print(", ".join(f"{name}: {value}" for name, value in self.machine.items()))
        cases = Table("case", "side", "median s", "all s", title="Seconds")
        for case in self.cases:
            spent = case["seconds"]
            listed = " ".join(f"{each:.2f}" for each in spent)
            cases.add_row(case["case"], case["side"], f"{statistics.median(spent):.2f}", listed)
        goals = Table("goal", "figure", "wanted", "", title="Goals")
        for goal in self.goals:
            sign = "at least" if goal.at_least else "at most"
            goals.add_row(
                goal.name,
                f"{goal.figure:.2f} {goal.unit}",
                f"{sign} {goal.bound:g}",
                "met" if goal.met else "missed",
            )
        console.print(cases, goals)
        for name, share in self.same_text.items():
            console.print(f"{name}: {share}")

    def save(self, path: Path) -> None:
        """Write everything as JSON."""
        content = asdict(self)
        for goal, kept in zip(self.goals, content["goals"], strict=True):
            kept["met"] = goal.met
        path.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


def new_report() -> Report:
    """Return an empty report on this machine."""
    versions = {"python": platform.python_version()}
    versions |= {name: version(name) for name in ("vllm", "torch", "transformers")}
    return Report({"date": time.strftime("%Y-%m-%d"), "machine": _machine(), **versions})


def _machine() -> str:
    """Return the processor, its cores and what it can do."""
    found = hardware.find_processor()
    able = ", ".join(found.abilities) or "no known abilities"
    return f"{found.name}, {os.cpu_count()} cores, {able}"


def version(package: str) -> str:
    """Return the version of a package or of its build for CPUs; ``none`` if it is not there."""
    for name in (package, f"{package}-cpu"):
        try:
            return metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return "none"
