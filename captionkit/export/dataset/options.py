"""What goes into a training set, and how."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import Any

from captionkit.export.dataset.layouts import LAYOUTS
from captionkit.export.errors import ExportError
from captionkit.prompts import check_template, placeholders
from captionkit.review import FAULTS
from captionkit.system.hints import hint, hinted_class
from captionkit.video.encoding import Encoding

METADATA = ("jsonl", "csv", "parquet")
#: Placeholders of ``template``, besides ``{json.NAME}``.
PLACEHOLDERS = ("caption", "video", "window", "start", "end")


def _option(default: Any, help: str, kind: Any, **more: Any) -> Any:  # noqa: A002
    return field(default=default, metadata={"help": help, "kind": kind, **more})


@hinted_class
@dataclass(frozen=True)
class DatasetOptions:
    """What goes into a training set, and how.

    Parameters
    ----------
    layout
        A name of `layouts.LAYOUTS`.
    size, fps, crf, copy
        How clips are written; see `video.encoding.Encoding`.
    min_rating
        Least rating; captions without one are left out.
    tags, without_tags
        Take only captions with one of these tags, and none with one of those.
    without_faults
        Leave out captions in which these checks of `review.FAULTS` find a fault; ``all`` for each one.
    min_words, max_words
        Least and most words of a caption.
    unlike
        Leave out captions whose word overlap with an earlier one is this or more (0 to 1).
    prefix, suffix
        Text before and behind each caption, as it is.
    trigger
        Word to train, put first with a comma.
    template
        The text of a caption, with ``{caption}``, ``{video}``, ``{window}``, ``{start}``, ``{end}`` and
        ``{json.NAME}`` (a property of captions with a schema).
    validation
        Share of the films for validation; no film is in both parts.
    seed
        Decides which films are for validation.
    metadata
        Format of the layout videofolder's table: ``jsonl``, ``csv`` or ``parquet``.
    shard_mb
        Most megabytes of a tar file of the layout webdataset.
    push_to_hub
        Name of a data set on the Hugging Face hub (``owner/name``) to upload to; created as a private
        one if missing.

    Raises
    ------
    ExportError
        If a value does not fit; the message says what does.
    """

    layout: str = _option("sidecar", "form of the folder", str, choices=LAYOUTS)
    size: tuple[int, int] | None = _option(None, "most width and height of clips, as 832x480", "size")
    fps: float | None = _option(None, "frames a second of clips; by default all frames", float)
    crf: int = _option(18, "quality of clips, 0 to 51; less is better", int)
    copy: bool = _option(True, "copy a stream where that is exact", bool)
    min_rating: int | None = _option(None, "least rating, 1 to 5", int)
    tags: tuple[str, ...] = _option((), "only captions with one of these tags", "names")
    without_tags: tuple[str, ...] = _option((), "no captions with one of these tags", "names")
    without_faults: tuple[str, ...] = _option((), "no captions with these faults, or all", "names")
    min_words: int | None = _option(None, "least words of a caption", int)
    max_words: int | None = _option(None, "most words of a caption", int)
    unlike: float | None = _option(
        None, "no captions that overlap an earlier one so far, 0 to 1", float
    )
    prefix: str = _option("", "text before each caption", str)
    suffix: str = _option("", "text behind each caption", str)
    trigger: str = _option("", "word to train, put first with a comma", str)
    template: str = _option("{caption}", "text of a caption, with {caption}, {video}, {json.NAME}", str)
    validation: float = _option(0.0, "share of the films for validation", float)
    seed: int = _option(0, "decides which films are for validation", int)
    metadata: str = _option("jsonl", "format of videofolder's table", str, choices=METADATA)
    shard_mb: int = _option(1000, "most megabytes of a tar file of webdataset", int)
    push_to_hub: str | None = _option(None, "data set on the Hugging Face hub to upload to", str)

    def __post_init__(self) -> None:
        for each in fields(self):
            if each.metadata["kind"] == "names":
                value = getattr(self, each.name)
                object.__setattr__(self, each.name, (value,) if isinstance(value, str) else (*value,))
            choices = each.metadata.get("choices")
            if choices and getattr(self, each.name) not in choices:
                value = getattr(self, each.name)
                raise ExportError(
                    f"{each.name} is {value!r}{hint(value, choices)}; give one of {', '.join(choices)}"
                )
        for name, least, most in _BOUNDS:
            value = getattr(self, name)
            if value is not None and not least <= value <= most:
                raise ExportError(f"{name} is {value}; give {least:g} to {most:g}")
        if self.size is not None and (len(self.size) != 2 or min(self.size) < 16):
            raise ExportError(f"size is {self.size}; give (width, height) of at least 16 pixels each")
        unknown = [name for name in self.without_faults if name not in (*FAULTS, "all")]
        if unknown:
            raise ExportError(
                f"no check is named {unknown[0]!r}{hint(unknown[0], FAULTS)}; there are: "
                f"{', '.join(FAULTS)}, and all"
            )
        used = placeholders(self.template)
        if not any(name == "caption" or name.startswith("json.") for name in used):
            raise ExportError(f"the template {self.template!r} places no {{caption}} and no {{json.…}}")
        try:
            check_template(self.template, (*PLACEHOLDERS, *(n for n in used if n.startswith("json."))))
        except ValueError as error:
            raise ExportError(f"the template: {error}") from error

    @property
    def encoding(self) -> Encoding:
        """How clips are written."""
        return Encoding(self.crf, self.size, self.fps, self.copy)

    @property
    def faults(self) -> tuple[str, ...]:
        """The faults that leave a caption out."""
        return FAULTS if "all" in self.without_faults else self.without_faults


_BOUNDS = (
    ("crf", 0, 51), ("fps", 0.1, 240), ("min_rating", 1, 5), ("unlike", 0.1, 1), ("validation", 0, 0.9),
    ("min_words", 0, 100_000), ("max_words", 0, 100_000), ("shard_mb", 1, 1_000_000),
)  # fmt: skip
