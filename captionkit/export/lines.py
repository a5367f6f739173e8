"""JSON lines as the command line writes them: one window a line, the moment it is done.

Fields of a line:

========================  =====================================================================
``video``                 path as it was given
``clip``                  clip id
``window``                number of the window in its clip, from 0
``start_frame``           first frame, from the clip's start
``end_frame``             last frame, inclusive
``start_s``, ``end_s``    seconds in the source video
``variant``               model
``recipe``                content key of the recipe
``caption``               final caption, null where the window failed
``captions``              every stage: ``stage``, ``text``, ``prompt``, ``prompt_text``,
                          ``finish_reason``, ``prompt_tokens``, ``output_tokens``,
                          ``cached_tokens``, ``queue_s``, ``first_token_s``, ``seconds``
``warnings``              what the decoder reported
``error``                 why there is no caption, else null
========================  =====================================================================

Imports tasks and recipe; called by the command line.
"""

from __future__ import annotations

import contextlib
import json
from dataclasses import asdict
from pathlib import Path
from types import TracebackType
from typing import Any

from captionkit.export.errors import ExportError
from captionkit.recipe import Recipe
from captionkit.stages.tasks import Clip, Window


class JsonLines:
    """Writes windows to a file as they are done, each line whole or not at all.

    A file of that name that holds something is kept beside it as ``NAME.bak``.

    Parameters
    ----------
    path
        The file.
    recipe
        What the captions were made with.
    """

    def __init__(self, path: str | Path, recipe: Recipe) -> None:
        self.path = Path(path)
        self.lines = 0
        self._recipe = recipe
        self._end = 0
        try:
            if self.path.is_file() and self.path.stat().st_size:
                self.path.replace(self.path.with_name(self.path.name + ".bak"))
            self._file = self.path.open("wb", buffering=0)
        except OSError as error:
            raise ExportError(f"cannot write {self.path}: {error.strerror}") from error

    def write(self, clip: Clip, number: int, error: str | None) -> None:
        """Append one window.

        Raises
        ------
        ExportError
            It cannot be written (disk full, say); the lines before it are whole.
        """
        line = json.dumps(window_row(clip, number, error, self._recipe), ensure_ascii=False) + "\n"
        data = line.encode("utf-8", errors="replace")
        try:
            written = self._file.write(data)
            if written != len(data):
                # A full disk may take a part first; asking again says why.
                self._file.write(data[written:])
        except OSError as failure:
            with contextlib.suppress(OSError):  # /dev/stdout and its like cannot be cut
                self._file.truncate(self._end)
            raise ExportError(
                f"cannot write {self.path}: {failure.strerror}; the {self.lines} windows written "
                "before are in it"
            ) from failure
        self._end += len(data)
        self.lines += 1

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def __enter__(self) -> JsonLines:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def window_row(clip: Clip, number: int, error: str | None, recipe: Recipe) -> dict[str, Any]:
    """One window as a line of the file; see the module's table."""
    window: Window = clip.windows[number]
    return {
        "video": clip.source_video,
        "clip": str(clip.uuid),
        "window": number,
        "start_frame": window.start_frame,
        "end_frame": window.end_frame,
        "start_s": window.start_s,
        "end_s": window.end_s,
        "variant": recipe.variant,
        "recipe": recipe.key,
        "caption": None if error else window.caption.get(recipe.variant),
        "captions": [asdict(caption) for caption in window.captions.get(recipe.variant, [])],
        "warnings": window.warnings,
        "error": error,
    }
