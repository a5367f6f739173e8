"""Films and their talks as rows of tokens for the second lesson of the demo model."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedTokenizerFast

from captionkit.demo.architecture import TOKENS_PER_SECOND
from captionkit.demo.batches import NOTHING, OBJECT_FACTS, SCENE_FACTS
from captionkit.demo.filled import READY
from captionkit.demo.scenes import EVENTS
from captionkit.demo.talks import Talk

TOPICS = ("answer", "yesno", "claim", "judge", *READY)
# Topics whose answer is one word.
_ONE_WORD = ("yesno", "claim", "judge")
# Weights in the loss: of the word that decides such an answer, of a word that carries a fact among a
# dozen others, and of a digit of a time.
_DECIDES, _FACT, _DIGIT = 12.0, 4.0, 6.0
_OTHER_FACT_WORDS = (
    "one", "two", "three", "One", "Two", "Three", "pans", "stays", ".", ",", "static", "pan", "medium",
    "wide",
)  # fmt: skip


def token_weights(tokenizer: PreTrainedTokenizerFast, size: int) -> Tensor:
    """Weigh each token of the vocabulary in the loss: words that carry a fact count more."""
    weights = torch.ones(size)
    for values in [*OBJECT_FACTS.values(), *SCENE_FACTS.values(), EVENTS, _OTHER_FACT_WORDS]:
        for value in values:
            for form in (value, " " + value):
                weights[tokenizer.encode(form)] = _FACT
    for digit in "0123456789":
        weights[tokenizer.encode(digit)] = _DIGIT
    return weights


def position_ids(
    length: int, video_start: int, grid: tuple[int, int, int], seconds_per_step: float
) -> Tensor:
    """Compute positions of a prompt with one video, of shape (3, length), by vLLM's rule.

    vLLM continues after the largest position of the video, transformers after its height or width
    only. A model that vLLM serves has to learn vLLM's rule.
    """
    steps, high, wide = grid
    video = np.indices(grid).astype(np.float64)
    video[0] = np.floor(video[0] * seconds_per_step * TOKENS_PER_SECOND)
    video = video.reshape(3, -1) + video_start
    after = length - video_start - steps * high * wide
    text = np.broadcast_to(np.arange(after), (3, after)) + video.max() + 1
    before = np.broadcast_to(np.arange(video_start), (3, video_start))
    return torch.from_numpy(np.concatenate([before, video, text], axis=1)).long()


@dataclass
class Row:
    """A film and its talks as tokens.

    ``talk`` is 0 for the film and the talk's number for its tokens, ``after`` a token's position
    behind the film within its talk. ``labels`` and ``false`` (whether a statement has become false at
    this token, 1 or 0) are `NOTHING` for tokens that are not learnt. ``topic`` is an index of `TOPICS`.
    """

    ids: list[int] = field(default_factory=list)
    labels: list[int] = field(default_factory=list)
    weights: list[float] = field(default_factory=list)
    false: list[int] = field(default_factory=list)
    topic: list[int] = field(default_factory=list)
    talk: list[int] = field(default_factory=list)
    after: list[int] = field(default_factory=list)

    def add_film(self, ids: list[int]) -> None:
        """Add the film and what stands before it."""
        self._add(ids, 0, after=[0] * len(ids))

    def add_talk(self, number: int, topic: str, asked: list[int], false: list[int]) -> None:
        """Add a prompt, with what is false in it."""
        self._add(asked, number, topic=topic, after=list(range(len(asked))))
        self.false[-len(asked) :] = false

    def add_answer(self, number: int, topic: str, ids: list[int], learnt: list[float]) -> None:
        """Add an answer with the weight of each token, 0 where it is not learnt."""
        first = self.after[-1] + 1
        self._add(ids, number, topic=topic, after=list(range(first, first + len(ids))))
        self.labels[-len(ids) :] = [
            token if weight else NOTHING for token, weight in zip(ids, learnt, strict=True)
        ]
        self.weights[-len(ids) :] = learnt

    def _add(self, ids: list[int], number: int, after: list[int], topic: str = "answer") -> None:
        count = len(ids)
        self.ids += ids
        self.labels += [NOTHING] * count
        self.weights += [0.0] * count
        self.false += [NOTHING] * count
        self.topic += [TOPICS.index(topic)] * count
        self.talk += [number] * count
        self.after += after


class Packer:
    """Makes rows, by the tokenizer and chat template of serving."""

    def __init__(self, tokenizer: PreTrainedTokenizerFast, vocabulary: int) -> None:
        self._tokenizer = tokenizer
        self._weights = token_weights(tokenizer, vocabulary)

    def row(self, talks: list[Talk], video_tokens: int) -> Row:
        """Pack all talks about a film into one row."""
        row = Row()
        for number, talk in enumerate(talks, 1):
            content = [{"type": "video"}, {"type": "text", "text": talk.prompt}]
            chat = self._tokenizer.apply_chat_template(
                [{"role": "user", "content": content}], tokenize=False, add_generation_prompt=True
            )
            before, asked = chat.split("<|video_pad|>", 1)
            if number == 1:
                row.add_film(self._tokenizer.encode(before + "<|video_pad|>" * video_tokens))
            row.add_talk(number, talk.topic, *self._asked(talk, asked))
            row.add_answer(number, talk.topic, *self._answer(talk))
        return row

    def _asked(self, talk: Talk, asked: str) -> tuple[list[int], list[int]]:
        """Encode a prompt, with 1 for tokens at which a statement has become false, 0 before."""
        shift = asked.index(talk.prompt)
        ids, spans = self._encode(asked)
        false = [NOTHING] * len(ids)
        for part in talk.checked:
            for index, (_, end) in enumerate(spans):
                if part.start < end - shift <= part.end:
                    wrong = part.wrong_from is not None and end - shift >= part.wrong_from
                    false[index] = int(wrong)
        return ids, false

    def _answer(self, talk: Talk) -> tuple[list[int], list[float]]:
        """Encode an answer and its end, with each token's weight in the loss."""
        ids, spans = self._encode(talk.answer + "<|im_end|>")
        weights = [float(self._weights[each]) for each in ids]
        if talk.topic in _ONE_WORD:
            weights[0] = _DECIDES
        for index, (start, _) in enumerate(spans):
            if start < talk.forced:
                weights[index] = 0.0
        return ids, weights

    def _encode(self, text: str) -> tuple[list[int], list[tuple[int, int]]]:
        encoded: Any = self._tokenizer(text, return_offsets_mapping=True, add_special_tokens=False)
        return encoded["input_ids"], encoded["offset_mapping"]
