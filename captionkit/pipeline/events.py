"""Events of a window during captioning; each event carries its window."""

from __future__ import annotations

from dataclasses import dataclass

from captionkit.engine.protocol import Completion
from captionkit.sources import PlannedWindow


@dataclass(frozen=True, kw_only=True)
class Caption(Completion):
    """A window's caption: a completion of stage 1 or 2, with the readable part of its prompt."""

    stage: int
    prompt_text: str

    @classmethod
    def of_text(cls, text: str, origin: str) -> Caption:
        """Return a text of another source as a caption of stage 1; ``origin`` names the source."""
        return cls(
            prompt="",
            text=text,
            finish_reason="stop",
            prompt_tokens=0,
            output_tokens=0,
            cached_tokens=0,
            queue_s=0.0,
            first_token_s=0.0,
            seconds=0.0,
            stage=1,
            prompt_text=origin,
        )


@dataclass(frozen=True)
class TextGrew:
    """A stage's text grew; ``text`` is the whole text so far."""

    window: PlannedWindow
    stage: int
    text: str


@dataclass(frozen=True)
class StageDone:
    """A stage ended with its caption."""

    window: PlannedWindow
    caption: Caption


@dataclass(frozen=True)
class WindowDone:
    """A window ended, with a caption of each stage or with an ``error``.

    ``warnings`` has the decoder's reports.
    """

    window: PlannedWindow
    captions: tuple[Caption, ...]
    error: str | None
    warnings: tuple[str, ...] = ()


Event = TextGrew | StageDone | WindowDone
