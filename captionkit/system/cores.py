"""Processor cores that this process may use, by its affinity and the limit of its container."""

from __future__ import annotations

import os
from pathlib import Path


def usable_cores(root: Path = Path("/")) -> int:
    """Return the cores that this process may use, at least 1.

    Parameters
    ----------
    root
        Root of the file system with ``proc`` and ``sys``, for the limits of cgroup v1 and v2.
    """
    affinity = getattr(os, "sched_getaffinity", None)
    cores = len(affinity(0)) if affinity else os.cpu_count() or 1
    return max(1, min([cores, *_limits(root)]))


def _limits(root: Path) -> list[int]:
    """Return the limit of each control group around this process that has one, in whole cores."""
    base = root / "sys/fs/cgroup"
    try:
        lines = (root / "proc/self/cgroup").read_text().splitlines()
    except OSError:
        return []
    groups: list[Path] = []
    for _, controllers, path in (line.split(":", 2) for line in lines if line.count(":") >= 2):
        if controllers == "":
            tops = [base]
        elif "cpu" in controllers.split(","):
            tops = [base / "cpu", base / controllers]
        else:
            continue
        for top in tops:
            # In a container, the path of the host may be hidden and the group be the top itself.
            folder = top / path.lstrip("/")
            groups += (each for each in (folder, *folder.parents) if each.is_relative_to(top))
    return [limit for group in groups if (limit := _limit(group)) is not None]


def _limit(group: Path) -> int | None:
    try:
        if (group / "cpu.max").exists():
            quota, period = (group / "cpu.max").read_text().split()
        else:
            quota = (group / "cpu.cfs_quota_us").read_text()
            period = (group / "cpu.cfs_period_us").read_text()
        # "max" (version 2) and -1 (version 1) stand for no limit.
        cores = float(quota) / float(period)
    except (OSError, ValueError, ZeroDivisionError):
        return None
    return int(cores) if cores > 0 else None
