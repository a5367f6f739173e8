"""An output folder of Parquet parts: which recipe it belongs to, what is in it, one more part.

A part appears whole or not at all, under a name that follows from the windows in it; whoever computes
the same windows again writes the same file. Works on local paths and on fsspec addresses (``s3://``,
``gs://``, ``hf://``, with their usual packages). Imports fsspec and pyarrow; called by `ray_data`.
"""

from __future__ import annotations

import hashlib
import json
import posixpath
import uuid
from collections.abc import Iterable
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from captionkit.recipe import Recipe, toml

RECIPE = "recipe.toml"
SUMMARY = "summary.json"
SCHEMA = pa.schema(
    [
        ("video", pa.string()),
        ("window", pa.int64()),
        ("start_frame", pa.int64()),
        ("end_frame", pa.int64()),
        ("start_s", pa.float64()),
        ("end_s", pa.float64()),
        ("variant", pa.string()),
        ("recipe", pa.string()),
        ("caption", pa.string()),
        ("stage1_caption", pa.string()),
        ("finish_reason", pa.string()),
        ("prompt", pa.string()),
        ("prompt_tokens", pa.int64()),
        ("output_tokens", pa.int64()),
        ("seconds", pa.float64()),
        ("warnings", pa.string()),
        ("error", pa.string()),
    ]
)


class ScaleError(RuntimeError):
    """Captioning at scale cannot begin; the message says why and what to do."""


class Parts:
    """The output folder.

    Parameters
    ----------
    address
        A local path, or an fsspec address.

    Raises
    ------
    ScaleError
        The address cannot be used.
    """

    def __init__(self, address: str) -> None:
        import fsspec

        try:
            self._files, self._root = fsspec.core.url_to_fs(address)
        except (ImportError, ValueError) as error:
            raise ScaleError(f"the output {address} cannot be used: {error}") from error
        self.address = address

    def _path(self, *names: str) -> str:
        return posixpath.join(self._root, *names)

    def claim(self, recipe: Recipe) -> None:
        """Make the folder this recipe's.

        Raises
        ------
        ScaleError
            It holds another recipe's captions, or cannot be written.
        """
        path = self._path(RECIPE)
        try:
            if self._files.exists(path):
                there = self._files.cat_file(path).decode()
                if there != _claim(recipe):
                    raise ScaleError(
                        f"{self.address} holds captions of another recipe (see its {RECIPE}); give an "
                        "output folder of its own"
                    )
                return
            if self._files.exists(self._root) and self._files.ls(self._root):
                raise ScaleError(f"{self.address} holds other files; give an empty output folder")
            self._files.makedirs(self._path("parts"), exist_ok=True)
            self._put(path, _claim(recipe).encode())
        except OSError as error:
            raise ScaleError(f"the output {self.address} cannot be written: {error}") from error

    def done(self) -> set[tuple[str, int]]:
        """(video, window) of all rows; a video that cannot be read has one with window -1."""
        found: set[tuple[str, int]] = set()
        for path in self._paths():
            with self._files.open(path, "rb") as file:
                table = pq.read_table(file, columns=["video", "window"])
            found |= set(zip(table["video"].to_pylist(), table["window"].to_pylist(), strict=True))
        return found

    def counts(self) -> tuple[int, int]:
        """How many windows are captioned, and how many rows are errors."""
        captioned = failed = 0
        for path in self._paths():
            with self._files.open(path, "rb") as file:
                errors = pq.read_table(file, columns=["error"])["error"]
            captioned += errors.null_count
            failed += len(errors) - errors.null_count
        return captioned, failed

    def _paths(self) -> list[str]:
        folder = self._path("parts")
        if not self._files.exists(folder):
            return []
        self._files.invalidate_cache(folder)
        return sorted(
            each for each in self._files.ls(folder, detail=False) if each.endswith(".parquet")
        )

    def write(self, rows: Iterable[dict[str, Any]]) -> None:
        """Write one part."""
        rows = sorted(rows, key=lambda row: (row["video"], row["window"]))
        table = pa.Table.from_pylist(rows, schema=SCHEMA)
        names = "\n".join(f"{row['video']}:{row['window']}" for row in rows)
        sink = pa.BufferOutputStream()
        pq.write_table(table, sink)
        name = hashlib.sha256(names.encode()).hexdigest()[:32]
        self._put(self._path("parts", f"{name}.parquet"), sink.getvalue().to_pybytes())

    def summarise(self, content: dict[str, Any]) -> None:
        """Write the summary file."""
        self._put(self._path(SUMMARY), (json.dumps(content, indent=1) + "\n").encode())

    def _put(self, path: str, data: bytes) -> None:
        # Object stores show a file when it is whole; on a disk a rename does the same.
        beside = f"{path}.{uuid.uuid4().hex[:8]}.part"
        self._files.pipe_file(beside, data)
        self._files.mv(beside, path)


def _claim(recipe: Recipe) -> str:
    return f"# captionkit, recipe {recipe.key}\n{toml(recipe)}"
