"""Write a whole run in one of several formats, all or nothing."""

from __future__ import annotations

import os
from pathlib import Path

from captionkit.export.base import Export, Exportable
from captionkit.export.errors import ExportError
from captionkit.export.formats import FORMATS
from captionkit.system.hints import hint
from captionkit.system.temp import TempFolder


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
    """Write a run's captions and return the path; some windows at a time are in memory.

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
        Add the findings of `Run.checks`: as columns, or as a line below a subtitle.
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
    made = FORMATS[name]
    into_folder = made.many and path.suffix.lower() != f".{name}"
    _refuse_taken(path, into_folder=into_folder, overwrite=overwrite)
    _require_captions(run, stage)
    folder = path if into_folder else path.parent
    export = Export(run, folder, stage, checks, prefer_human)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        # Write all files beside their targets first, so that a full disk leaves none half done.
        with TempFolder("export", folder) as beside:
            written = beside / "written"
            if made.many:
                written.mkdir()
            made.write(export, written)
            if into_folder:
                _move_all(written, path, overwrite=overwrite)
            else:
                _move(_only_file(written, run, name) if made.many else written, path)
    except ExportError:
        raise
    except OSError as error:
        raise ExportError(f"cannot write {path}: {error.strerror or error}; try again") from error
    return path


def _require_captions(run: Exportable, stage: int | None) -> None:
    results = run.store.results
    if not results.has_caption(run.id):
        why = "".join(f"; the first failed: {error}" for *_, error in results.failures(run.id, most=1))
        raise ExportError(f"run {run.id} has no caption to export: {run.progress}{why}")
    if stage is not None and not results.has_caption(run.id, stage):
        raise ExportError(f"run {run.id} has no captions of stage {stage}; its recipe has one stage")


def _refuse_taken(path: Path, *, into_folder: bool, overwrite: bool) -> None:
    if path.is_dir() and not into_folder:
        raise ExportError(f"{path} is a folder; give a file")
    if path.exists() and (path.is_file() if into_folder else not overwrite):
        raise ExportError(f"{path} is there already; give overwrite=True to replace it")


def write_file(path: Path, data: bytes) -> None:
    """Write a file, whole or not at all; an earlier one is replaced.

    Raises
    ------
    ExportError
        If the file cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with TempFolder("export", path.parent) as beside:
            (beside / "written").write_bytes(data)
            _move(beside / "written", path)
    except OSError as error:
        raise ExportError(f"cannot write {path}: {error.strerror}; nothing was changed") from error


def _only_file(written: Path, run: Exportable, name: str) -> Path:
    files = [each for each in written.rglob("*") if each.is_file()]
    if len(files) > 1:
        raise ExportError(
            f"run {run.id} has {len(files)} videos, and {name} has one file for each: give a folder"
        )
    return files[0]


def _move(written: Path, path: Path) -> None:
    with written.open("rb") as file:
        os.fsync(file.fileno())
    written.chmod(0o644)
    written.replace(path)


def _move_all(written: Path, path: Path, *, overwrite: bool) -> None:
    files = [each.relative_to(written) for each in sorted(written.rglob("*")) if each.is_file()]
    for name in files:
        if (path / name).exists() and not overwrite:
            raise ExportError(f"{path / name} is there already; give overwrite=True to replace it")
    for name in files:
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        _move(written / name, path / name)
