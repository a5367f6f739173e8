"""A request as vLLM's prompt: the model's chat format, the frames, and how its processor takes them."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from PIL import Image

from captionkit.engine.protocol import EngineKey, Request, VideoInput
from captionkit.models.families import read_family

# In the order in which transformers' processors look for a template; the last is the tokenizer's.
_TEMPLATES = (
    "chat_template.jinja",
    "chat_template.json",
    "processor_config.json",
    "tokenizer_config.json",
)
_MARK = re.compile("<[^<>]*>")
_NO_THOUGHTS = "\n\n</think>\n\n"


class Chat:
    """Writes the prompts of one model.

    Parameters
    ----------
    key
        Settings of the engine.

    Raises
    ------
    ValueError
        If the model's family is not known, or the model has no chat template.
    """

    def __init__(self, key: EngineKey) -> None:
        self._pixels = key.processor_pixels
        folder = Path(key.model)
        self._family = read_family(folder)
        self._template = _template(folder)
        self._marks: frozenset[str] | None = None

    def prompt(self, tokenizer: Any, request: Request) -> dict[str, Any]:
        """Return the prompt of a request as vLLM takes it, for ``AsyncLLM.generate``.

        A window that vLLM knows comes without frames: its ids alone name it.
        """
        video = request.video
        text = self._text(tokenizer, request)
        prompt: dict[str, Any] = {
            "prompt": text,
            # Templates write all marks themselves; vLLM would add those of a text's beginning again.
            "prompt_token_ids": tokenizer.encode(text, add_special_tokens=False),
        }
        if video is None:
            return prompt
        kind, data, ids = self._media(video)
        prompt |= {"multi_modal_data": {kind: data}, "multi_modal_uuids": {kind: ids}}
        told = self._family.window_kwargs(self._pixels, len(video.metadata["frames_indices"]))
        return {**prompt, "mm_processor_kwargs": told} if told else prompt

    def _media(self, video: VideoInput) -> tuple[str, list[Any], list[str]]:
        """Return vLLM's name of the frames' kind, the frames or None, and their ids."""
        frames = video.frames
        if frames is not None and (self._family.images or self._family.channels_last):
            frames = frames.transpose(0, 2, 3, 1)
        if self._family.images:
            count = len(video.metadata["frames_indices"])
            data = [None] * count if frames is None else [Image.fromarray(each) for each in frames]
            return "image", data, [f"{video.uid}-{number}" for number in range(count)]
        return "video", [None if frames is None else (frames, video.metadata)], [video.uid]

    def _text(self, tokenizer: Any, request: Request) -> str:
        """Return the text in the model's own chat format, after the frames: see the prefix cache."""
        content: list[dict[str, str]] = []
        if request.video is not None and not self._family.images:
            content.append({"type": "video"})
        elif request.video is not None:
            for seconds in _times(request.video.metadata):
                content += [{"type": "text", "text": f"{seconds:.1f} s: "}, {"type": "image"}]
        if self._marks is None:
            self._marks = frozenset(tokenizer.get_added_vocab())
        content.append({"type": "text", "text": _disarm(self._marks, request.prompt)})
        text = str(
            tokenizer.apply_chat_template(
                [{"role": "user", "content": content}],
                chat_template=self._template,
                tokenize=False,
                add_generation_prompt=True,
                enable_thinking=False,
            )
        )
        # Some templates open a thought whatever they are told.
        opened = text.rstrip()
        return opened + _NO_THOUGHTS if opened.endswith("<think>") else text


def _template(folder: Path) -> str | None:
    """Return the processor's template, which old models keep apart; None for the tokenizer's own."""
    for name in _TEMPLATES:
        if (path := folder / name).exists():
            text = path.read_text(encoding="utf-8")
            template = text if path.suffix == ".jinja" else json.loads(text).get("chat_template")
            if template:
                return None if name == _TEMPLATES[-1] else str(template)
    raise ValueError(
        f"{folder} has no chat template ({', '.join(_TEMPLATES)}): is it a base model? Take the one "
        "that was trained to follow instructions"
    )


def _disarm(marks: frozenset[str], text: str) -> str:
    """Break the model's own marks in a text, so that ``<image>`` in a prompt is not a frame."""
    return _MARK.sub(lambda found: found[0] if found[0] not in marks else f"< {found[0][1:]}", text)


def _times(metadata: dict[str, Any]) -> list[float]:
    """Return the seconds of the frames, from the start of their window."""
    return [index / metadata["fps"] for index in metadata["frames_indices"]]
