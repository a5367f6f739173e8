"""Recipe: everything that decides a caption, as one frozen value.

The same recipe on the same window is the same work, in a notebook, on the command line or at scale.
Imports `prompts` and `structured`; called by stages, sessions and the command line.
"""

from __future__ import annotations

import hashlib
import json
import math
import tomllib
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import tomli_w

from captionkit import prompts, structured


@dataclass(frozen=True)
class Recipe:
    """What decides a caption; the defaults reproduce the reference's sampling.

    Parameters
    ----------
    variant
        Model: a registered name, a folder with weights, or a repository id.
    prompt
        Name from the prompt library, or a text with ``{placeholders}``.
    stage2_prompt
        Text of a second stage that sees the video and ``{caption}``, or None for one stage.
    sampling_fps
        Frames a second that the model sees.
    window_size, remainder_threshold
        In frames; see `windows.compute_windows`.
    pixel_budget
        Most pixels of a frame that the model sees; None takes the model's own.
    max_output_tokens, temperature, top_p, repetition_penalty, seed
        vLLM's sampling parameters; a ``seed`` of None leaves it to vLLM.
    fp8
        Weights in fp8; needs a GPU that can.
    schema
        Captions are JSON objects of this schema: a name of `structured.EXAMPLES`, JSON text, a dict or
        a pydantic model, kept as JSON text. None for free text.

    Raises
    ------
    ValueError
        A value outside its range, an unknown prompt name or placeholder, a schema that is none.
    """

    variant: str = "demo"
    prompt: str = "default"
    stage2_prompt: str | None = None
    sampling_fps: float = 2.0
    window_size: int = 256
    remainder_threshold: int = 128
    pixel_budget: int | None = None
    max_output_tokens: int = 512
    temperature: float = 0.1
    top_p: float = 0.001
    repetition_penalty: float = 1.05
    seed: int | None = None
    fp8: bool = False
    schema: Any = None

    def __post_init__(self) -> None:
        _above("sampling_fps", self.sampling_fps, 0)
        _at_least("window_size", self.window_size, 4)
        _at_least("remainder_threshold", self.remainder_threshold, 0)
        _at_least("max_output_tokens", self.max_output_tokens, 1)
        _at_least("temperature", self.temperature, 0)
        _above("top_p", self.top_p, 0)
        _above("repetition_penalty", self.repetition_penalty, 0)
        if self.top_p > 1:
            raise ValueError(f"top_p is {self.top_p}; give a number above 0 and up to 1")
        if self.pixel_budget is not None:
            _at_least("pixel_budget", self.pixel_budget, 1)
        prompts.check_template(self.prompt_text, prompts.STAGE1_PLACEHOLDERS)
        if self.stage2_prompt is not None:
            if not self.stage2_prompt.strip():
                raise ValueError("stage2_prompt has no text; give a text, or None for one stage")
            prompts.check_template(self.stage2_prompt, prompts.STAGE2_PLACEHOLDERS)
        if self.schema is not None:
            object.__setattr__(self, "schema", structured.canonical(self.schema))

    @property
    def prompt_text(self) -> str:
        """The prompt's text, its library name resolved."""
        return prompts.resolve(self.prompt)

    @property
    def key(self) -> str:
        """Content key, 16 hexadecimal digits: equal where nothing that decides a caption differs."""
        content = {**asdict(self), "prompt": self.prompt_text}
        if self.schema is None:
            # Keys of before there were schemas hold on.
            del content["schema"]
        canonical = json.dumps(content, sort_keys=True, ensure_ascii=False)
        return hashlib.sha256(canonical.encode()).hexdigest()[:16]

    def save(self, path: str | Path) -> None:
        """Write as TOML; what is None is left out."""
        Path(path).write_text(toml(self), encoding="utf-8")

    @classmethod
    def load(cls, path: str | Path) -> Recipe:
        """Read what `save` wrote; what is missing has its default.

        Raises
        ------
        ValueError
            The file is no TOML, or has an unknown or unfit entry; the message names file and entry.
        FileNotFoundError
            There is no such file.
        """
        try:
            content = tomllib.loads(Path(path).read_text(encoding="utf-8"))
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise ValueError(f"{path} is not a recipe: no valid TOML ({error})") from error
        entries = content.get("recipe")
        if not isinstance(entries, dict):
            raise ValueError(f"{path} is not a recipe: it has no [recipe] table")
        known = {each.name for each in fields(cls)}
        unknown = sorted(set(entries) - known)
        if unknown:
            raise ValueError(
                f"{path}: unknown entry {', '.join(unknown)}; known: {', '.join(sorted(known))}"
            )
        for name, value in entries.items():
            _check_type(f"{path}: {name}", value, getattr(cls, name), name)
        try:
            return cls(**entries)
        except ValueError as error:
            raise ValueError(f"{path}: {error}") from error


def toml(recipe: Recipe) -> str:
    """A recipe as TOML; what is None is left out."""
    kept = {name: value for name, value in asdict(recipe).items() if value is not None}
    return tomli_w.dumps({"recipe": kept})


_OPTIONAL_TYPES: dict[str, type] = {
    "stage2_prompt": str,
    "pixel_budget": int,
    "seed": int,
    "schema": str,
}


def _check_type(where: str, value: Any, default: Any, name: str) -> None:
    wanted = _OPTIONAL_TYPES.get(name) or type(default)
    accepted = (int, float) if wanted is float else (wanted,)
    if not isinstance(value, accepted) or (isinstance(value, bool) and wanted is not bool):
        raise ValueError(f"{where} is {value!r}; give a {wanted.__name__}")


def _at_least(name: str, value: float, least: float) -> None:
    if not (math.isfinite(value) and value >= least):
        raise ValueError(f"{name} is {value}; give {least} or more")


def _above(name: str, value: float, bound: float) -> None:
    if not (math.isfinite(value) and value > bound):
        raise ValueError(f"{name} is {value}; give a number above {bound}")
