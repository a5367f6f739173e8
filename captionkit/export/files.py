"""Write a whole run in one of several formats, all or nothing."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path

import pandas as pd

from captionkit.export.base import Export, Exportable, without_home
from captionkit.export.errors import ExportError
from captionkit.export.formats import FORMATS
from captionkit.system.hints import hint


def export_run(
    run: Exportable,
    path: str | Path,
    format: str | None = None,  # noqa: A002
    *,
    stage: int | None = None,
    checks: bool = False,
    prefer_human: bool = False,
    overwrite: bool = False,
) -> Path:
    """Write a run's captions and return the path.

    Parameters
    ----------
    run
        The run.
    path
        The file; for ``nemo``, and for subtitles of several videos, a folder.
    format
        One of `FORMATS`; None takes the path's suffix.
    stage
        Only this stage, 1 or 2. None takes all stages, and for subtitles the last one.
    checks
        Add the findings of `review.checks`: as columns, or as a line below a subtitle.
    prefer_human
        Prefer an edited text to the generated one. For a window with ratings, write only the stage
        rated best; without ratings, write the last stage.
    overwrite
        Replace an existing file.

    Raises
    ------
    ExportError
        If the format is unknown, the run has no captions, or the path exists or is not writable.
        No file is left half written.
    """
    path = Path(path)
    name = format or path.suffix.lower().lstrip(".")
    if name not in FORMATS:
        given = f"{name!r}" if name else f"without a suffix ({path})"
        raise ExportError(
            f"the format is {given}{hint(name, [*FORMATS, 'dataset'])}; give one of "
            f"{', '.join(FORMATS)}, dataset"
        )
    written = FORMATS[name].write(Export(run, _table(run, stage, prefer_human), checks))
    if isinstance(written, bytes):
        return _write(path, written, overwrite)
    if path.suffix.lower() != f".{name}":
        return _write_folder(path, written, overwrite)
    if len(written) > 1:
        raise ExportError(
            f"run {run.id} has {len(written)} videos, and {name} has one file for each: give a "
            f"folder instead of {path}"
        )
    return _write(path, next(iter(written.values())), overwrite)


def _table(run: Exportable, stage: int | None, prefer_human: bool) -> pd.DataFrame:
    table = run.captions
    if table["text"].isna().all():
        reasons = table["error"].dropna()
        first = f"; the first failed: {reasons.iloc[0]}" if len(reasons) else ""
        raise ExportError(f"run {run.id} has no caption to export: {run.progress}{first}")
    if stage is not None:
        table = table[(table["stage"] == stage) | table["error"].notna()]
        if table["text"].isna().all():
            raise ExportError(
                f"run {run.id} has no captions of stage {stage}; its recipe has one stage"
            )
    if prefer_human:
        # Sort stably: among equal ratings the later stage wins, and no rating ranks lowest.
        ranked = table.assign(_rank=table["rating"].fillna(0)).sort_values("_rank", kind="stable")
        kept = ranked.drop_duplicates(["repeat", "key"], keep="last").index.sort_values()
        table = table.loc[kept]
        table = table.assign(
            text=table["edited_text"].where(table["edited_text"].notna(), table["text"])
        )
    return table.assign(path=table["path"].map(without_home)).reset_index(drop=True)


def _write(path: Path, data: bytes, overwrite: bool) -> Path:
    if path.is_dir():
        raise ExportError(f"{path} is a folder; give a file")
    if path.exists() and not overwrite:
        raise ExportError(f"{path} is there already; give overwrite=True to replace it")
    write_file(path, data)
    return path


def write_file(path: Path, data: bytes) -> None:
    """Write a file, whole or not at all; an earlier one is replaced.

    Raises
    ------
    ExportError
        If the file cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        number, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name[:100]}.")
        try:
            with os.fdopen(number, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            os.chmod(name, 0o644)
            os.replace(name, path)
        except BaseException:
            os.unlink(name)
            raise
    except OSError as error:
        raise ExportError(f"cannot write {path}: {error.strerror}; nothing was changed") from error


def _write_folder(path: Path, files: dict[str, bytes], overwrite: bool) -> Path:
    """Write all files beside their targets first, so that a full disk leaves no half-done folder."""
    taken = [name for name in files if (path / name).exists()]
    if path.is_file() or (taken and not overwrite):
        where = path / taken[0] if taken else path
        raise ExportError(f"{where} is there already; give overwrite=True to replace it")
    try:
        path.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=path, prefix=".export-") as folder:
            for name, data in files.items():
                target = Path(folder) / name
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_bytes(data)
            for name in files:
                (path / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.move(Path(folder) / name, path / name)
    except OSError as error:
        raise ExportError(f"cannot write to {path}: {error.strerror}") from error
    return path
