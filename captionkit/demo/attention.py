"""Attention among the talks behind a film: each sees the film and itself, and no other is computed.

A row of the second lesson holds a film of some hundred tokens and twenty talks of fifty. Attention of
all tokens to all, with a mask, took 44% of a step.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from transformers import AttentionInterface

NAME = "captionkit_talks"
# Tokens that ask at once: more would see talks of others, fewer would be slow.
_ASKING = 256


@dataclass(frozen=True)
class Span:
    """Some tokens of all rows, and what they may see: the film, and the tokens since ``since``."""

    start: int
    end: int
    since: int
    mask: Tensor


def spans(seen: Tensor, talk: Tensor) -> list[Span]:
    """Divide rows into spans.

    Parameters
    ----------
    seen
        Whether a token sees another one, ``(rows, tokens, tokens)``.
    talk
        Number of each token's talk, ``(rows, tokens)``: 0 for the film, of one length in all rows, and
        -1 behind the last talk.
    """
    film, length = int((talk[0] == 0).sum()), talk.shape[1]
    found = [Span(0, film, film, seen[:, None, :film, :film])]
    for start in range(film, length, _ASKING):
        end = min(start + _ASKING, length)
        # Begin where the earliest of the rows' talks begins.
        since = int((talk == talk[:, start, None]).int().argmax(1).min())
        some = seen[:, None, start:end]
        mask = torch.cat((some[..., :film], some[..., since:end]), -1)
        found.append(Span(start, end, since, mask))
    return found


class TalkAttention:
    """Attention of a language model by `spans`, which are set before each step.

    Source: https://huggingface.co/docs/transformers/attention_interface
    """

    def __init__(self, config: Any) -> None:
        self.spans: list[Span] = []
        AttentionInterface.register(NAME, self.attend)
        config._attn_implementation = NAME

    def attend(
        self, module: Any, query: Tensor, key: Tensor, value: Tensor, mask: Any, **how: Any
    ) -> tuple[Tensor, None]:
        """Attend from and to ``(rows, heads, tokens, width)``; the mask is that of the spans."""
        film = self.spans[0].end
        times = module.num_key_value_groups
        key, value = (each.repeat_interleave(times, dim=1) for each in (key, value))
        parts = []
        for span in self.spans:
            k, v = (
                torch.cat((each[:, :, :film], each[:, :, span.since : span.end]), 2)
                for each in (key, value)
            )
            asking = query[:, :, span.start : span.end]
            parts.append(
                functional.scaled_dot_product_attention(asking, k, v, span.mask, scale=how["scaling"])
            )
        return torch.cat(parts, 2).transpose(1, 2), None
