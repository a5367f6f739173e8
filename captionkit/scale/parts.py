"""An output folder of Parquet parts: claim it for a recipe, read its contents, add parts.

A part appears complete or not at all, under a name derived from its windows; computing the same windows
again writes the same file. Failed windows have their own parts, which a later run replaces. A run
merges the small parts of its batches into large ones at its start and at its end. Works on local paths
and on fsspec addresses (``s3://``, ``gs://``, ``hf://``, with their usual packages).
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import posixpath
import uuid
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from captionkit.captions import COLUMNS, KINDS, CaptionRow
from captionkit.recipe import Recipe

RECIPE = "recipe.toml"
SUMMARY = "summary.json"
_TYPES = {int: pa.int64(), float: pa.float64(), str: pa.string()}
SCHEMA = pa.schema([(name, _TYPES[KINDS[name]]) for name in COLUMNS])
_FAILED = "failed-"
_MERGED = "merged-"
# End of a file that is being written.
_PART = ".part"
# Rows of a merged part: a few MB, and a hundred files for a million windows of two stages.
_MERGED_ROWS = 20_000
# Files that are read or deleted at once: an object store answers each one slowly, and many at a time.
_AT_ONCE = 32


class ScaleError(RuntimeError):
    """Raised when captioning at scale cannot start; the message names reason and remedy."""


class Parts:
    """The output folder.

    Parameters
    ----------
    address
        A local path, or an fsspec address.

    Raises
    ------
    ScaleError
        If the address cannot be used.
    """

    def __init__(self, address: str) -> None:
        import fsspec

        if "://" not in address:
            # Actors of a running cluster have another current folder.
            address = os.path.abspath(address)
        try:
            self._files, self._root = fsspec.core.url_to_fs(address)
        except (ImportError, ValueError) as error:
            raise ScaleError(f"the output {address} cannot be used: {error}") from error
        self.address = address

    def _path(self, *names: str) -> str:
        return posixpath.join(self._root, *names)

    def claim(self, recipe: Recipe) -> None:
        """Claim the folder for this recipe.

        Raises
        ------
        ScaleError
            If the folder has another recipe's captions, or cannot be written.
        """
        path = self._path(RECIPE)
        try:
            if self._files.exists(path):
                first = self._files.cat_file(path).decode().splitlines()[0]
                if first != _claim(recipe).splitlines()[0]:
                    raise ScaleError(
                        f"{self.address} holds captions of another recipe (see its {RECIPE}); give "
                        "another output folder"
                    )
                return
            if self._has_other_files():
                raise ScaleError(f"{self.address} holds other files; give an empty output folder")
            self._files.makedirs(self._path("parts"), exist_ok=True)
            self._put(path, _claim(recipe).encode())
        except OSError as error:
            raise ScaleError(f"the output {self.address} cannot be written: {error}") from error

    def _has_other_files(self) -> bool:
        """Whether the folder has more than what an interrupted `claim` leaves."""
        if not self._files.exists(self._root):
            return False
        paths = self._files.ls(self._root, detail=False)
        names = {posixpath.basename(each.rstrip("/")) for each in paths if not each.endswith(_PART)}
        return bool(names - {"parts"} or self._names())

    def done(self) -> dict[str, set[int]]:
        """Return the numbers of captioned windows, by the path of their video."""
        found: dict[str, set[int]] = {}
        for path, window, error in self._rows():
            if error is None:
                found.setdefault(path, set()).add(window)
        return found

    def counts(self) -> tuple[int, int]:
        """Count the captioned windows, and the failed windows and unreadable videos.

        A video that cannot be read counts whatever was captioned of it before: nobody knows what is
        missing. A try that reads it drops the part that says so.
        """
        done: set[tuple[str, int]] = set()
        failed: set[tuple[str, int]] = set()
        for path, window, error in self._rows():
            (done if error is None else failed).add((path, window))
        return len(done), len(failed - done)

    def failures(self) -> dict[str, set[str]]:
        """Return the parts of failed windows by name, with the paths of their videos."""
        return {
            name: set(self._read(name, ["path"])["path"].to_pylist())
            for name in self._names()
            if name.startswith(_FAILED)
        }

    def drop(self, names: Iterable[str]) -> None:
        """Delete parts of failed windows, after another try."""
        for name in names:
            self._remove(name)

    def _remove(self, name: str) -> None:
        # Another run on the same output may have deleted it.
        with contextlib.suppress(FileNotFoundError):
            self._files.rm(self._path("parts", name))

    def merge(self) -> None:
        """Merge small parts of captioned windows, in order of their names, into large ones.

        A merged part is written before the small ones are deleted. An interruption in between leaves
        windows in two parts, which all readers count once.
        """
        small = [name for name in self._names() if not name.startswith((_FAILED, _MERGED))]
        merged: list[str] = []
        tables: list[pa.Table] = []
        with ThreadPoolExecutor(_AT_ONCE) as threads:
            for begin in range(0, len(small), _AT_ONCE):
                some = small[begin : begin + _AT_ONCE]
                merged += some
                tables += threads.map(self._read, some)
                if sum(table.num_rows for table in tables) >= _MERGED_ROWS:
                    self._replace(merged, tables, threads)
                    merged, tables = [], []
            # Leave what is not yet large to the next run, if it is few files.
            if len(merged) > _AT_ONCE:
                self._replace(merged, tables, threads)

    def _replace(self, names: list[str], tables: list[pa.Table], threads: ThreadPoolExecutor) -> None:
        whole = pa.concat_tables(tables, promote_options="default")
        content = hashlib.sha256("\n".join(names).encode()).hexdigest()[:32]
        self._put_table(whole, f"{_MERGED}{content}")
        for _ in threads.map(self._remove, names):
            pass

    def write(self, rows: Sequence[CaptionRow]) -> None:
        """Write the rows of some windows: one part for captioned, one for failed windows."""
        bad = {(row.path, row.window) for row in rows if row.error is not None}
        done = [row for row in rows if (row.path, row.window) not in bad]
        names = "\n".join(sorted({f"{row.path}:{row.window}" for row in done}))
        self._write(done, hashlib.sha256(names.encode()).hexdigest()[:32])
        # Use a random name: the next run deletes the failed parts that existed at its start.
        failed = [row for row in rows if (row.path, row.window) in bad]
        self._write(failed, f"{_FAILED}{uuid.uuid4().hex}")

    def _write(self, rows: Sequence[CaptionRow], name: str) -> None:
        if not rows:
            return
        rows = sorted(rows, key=lambda row: (row.path or "", row.window, row.stage))
        self._put_table(pa.Table.from_pylist([asdict(row) for row in rows], schema=SCHEMA), name)

    def _put_table(self, table: pa.Table, name: str) -> None:
        sink = pa.BufferOutputStream()
        pq.write_table(table, sink)
        self._put(self._path("parts", f"{name}.parquet"), sink.getvalue().to_pybytes())

    def summarise(self, content: dict[str, Any]) -> None:
        """Write the summary file."""
        self._put(self._path(SUMMARY), (json.dumps(content, indent=1) + "\n").encode())

    def _names(self) -> list[str]:
        folder = self._path("parts")
        if not self._files.exists(folder):
            return []
        self._files.invalidate_cache(folder)
        paths = self._files.ls(folder, detail=False)
        return sorted(posixpath.basename(each) for each in paths if each.endswith(".parquet"))

    def _read(self, name: str, columns: list[str] | None = None) -> pa.Table:
        """Read a part, all columns or some."""
        path = self._path("parts", name)
        try:
            with self._files.open(path, "rb") as file:
                if "path" in pq.read_schema(file).names:
                    return pq.read_table(file, columns=columns)
        except FileNotFoundError:
            # Another run on the same output has merged it, or tried its windows again.
            return SCHEMA.empty_table().select(columns or COLUMNS)
        except pa.ArrowInvalid as error:
            raise ScaleError(
                f"{path} is damaged ({error}); delete it, and its windows are captioned again"
            ) from error
        raise ScaleError(
            f"{self.address} was written by captionkit 0.1; give another output folder, "
            "and read this one with load_captions"
        )

    def _rows(self) -> Iterable[tuple[str, int, str | None]]:
        """Yield path, window and error of each window of each part; an error means a failed window."""
        for name in self._names():
            table = self._read(name, ["path", "window", "error"])
            windows: dict[tuple[str, int], str | None] = {}
            for path, window, error in zip(*(each.to_pylist() for each in table.columns), strict=True):
                windows[path, window] = error or windows.get((path, window))
            yield from ((path, window, error) for (path, window), error in windows.items())

    def _put(self, path: str, data: bytes) -> None:
        # Rename a complete file: object stores show complete files only, and a disk then does the same.
        beside = f"{path}.{uuid.uuid4().hex[:8]}{_PART}"
        self._files.pipe_file(beside, data)
        self._files.mv(beside, path)


def _claim(recipe: Recipe) -> str:
    return f"# captionkit, recipe {recipe.key}\n{recipe.to_toml()}"
