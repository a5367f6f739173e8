"""Recipe: everything that decides a caption, as one frozen value.

The same recipe on the same window is the same work, in a notebook, on the command line or at scale.
Help text, bounds and step of each setting stand once, in the metadata of its field; the command line,
the tuner and the checks below read them from `SETTINGS`.
"""

from __future__ import annotations

import hashlib
import json
import math
import tomllib
from collections.abc import Hashable
from dataclasses import MISSING, asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any

import tomli_w

from captionkit import prompts, structured
from captionkit.system.hints import hint, hinted_class

_KINDS = {str: "a text", int: "a whole number", float: "a number", bool: "true or false"}


@dataclass(frozen=True)
class Setting:
    """Help text, type, bounds and step of one field of `Recipe`.

    Parameters
    ----------
    help
        Meaning of the setting, as the end of "sets …".
    kind
        Type of the value; a field whose default is None may also be None.
    least, above, most
        Bounds: at least, more than, at most. None if unbounded.
    step
        Step of a form's arrows.
    """

    help: str
    kind: type
    least: float | None = None
    above: float | None = None
    most: float | None = None
    step: float | None = None

    def check(self, name: str, value: Any) -> None:
        """Refuse a value of another type or outside the bounds.

        Raises
        ------
        ValueError
            If the value does not fit; the message names the setting, the value and the bounds.
        """
        accepted: tuple[type, ...] = (int, float) if self.kind is float else (self.kind,)
        if not isinstance(value, accepted) or (isinstance(value, bool) and self.kind is not bool):
            raise ValueError(f"{name} is {value!r}; give {_KINDS[self.kind]}")
        if not isinstance(value, (int, float)):
            return
        fits = math.isfinite(value)
        fits = fits and (self.least is None or value >= self.least)
        fits = fits and (self.above is None or value > self.above)
        if not (fits and (self.most is None or value <= self.most)):
            raise ValueError(f"{name} is {value}; give {self._range()}")

    def _range(self) -> str:
        low = f"more than {self.above:g}" if self.above is not None else None
        low = f"{self.least:g} or more" if self.least is not None else low
        high = f"at most {self.most:g}" if self.most is not None else None
        return ", ".join(part for part in (low, high) if part) or "a finite number"


def _setting(default: Any, help: str, kind: type, **bounds: Any) -> Any:  # noqa: A002
    return field(default=default, metadata={"setting": Setting(help, kind, **bounds)})


# Frames of a window that the model sees: two pairs at least.
LEAST_FRAMES, MOST_FRAMES = 4, 768
_ORDINARY_FPS = 24.0

# What calls with settings take beside them, for hints.
_OF_A_CALL = ("windows", "recipe", "batch_size", "fresh", "repeats")

# Keep the names of captionkit 0.1, so that its content keys stay valid.
_OLD_NAMES = {"model": "variant", "stage2": "stage2_prompt", "max_tokens": "max_output_tokens"}


@hinted_class
@dataclass(frozen=True)
class Recipe:
    """Everything that decides a caption; the defaults reproduce the reference's sampling.

    Parameters
    ----------
    model
        A registered name, a folder with weights, or a repository id.
    prompt
        A name from the prompt library, or a text with ``{placeholders}``.
    stage2
        Text of a second stage that sees the video and ``{caption}``, or None for one stage.
    sampling_fps
        Frames a second that the model sees.
    window_size, remainder_threshold
        In frames; see `sources.windows.compute_windows`. At a variable rate 256 frames may last a
        second or an hour: then cut by ``window_seconds``.
    pixel_budget
        Most pixels of a frame that the model sees; None takes the model's own budget.
    max_tokens, temperature, top_p, repetition_penalty, seed
        vLLM's sampling parameters; a ``seed`` of None leaves the choice to vLLM.
    fp8
        Weights in fp8; needs a GPU with fp8 units.
    window_seconds
        Length of a window in seconds, by the frames' times, instead of ``window_size`` frames; a last
        window is at least the same share of it as ``remainder_threshold`` is of ``window_size``. None
        cuts by frames.
    given
        Key of a recipe whose captions in the store are stage 1, instead of the model's: of imported
        captions, say. Stage 2 then corrects them. None for captions of the model.
    text_only
        Stage 2 reads the caption of stage 1 alone, without the video.
    schema
        Captions are JSON objects of this schema: a name of `structured.EXAMPLES`, JSON text, a dict or
        a pydantic model, kept as JSON text. None for free text.

    Raises
    ------
    ValueError
        If a value is outside its range, a prompt name or placeholder is unknown, the schema is
        invalid, or ``given`` or ``text_only`` has no stage 2.

    Notes
    -----
    A whole number for a setting of type float becomes a float, so ``temperature=0`` and
    ``temperature=0.0`` are the same recipe.
    """

    model: str = _setting("demo", "model: a name, a folder or a repository id", str)
    prompt: str = _setting("default", f"a text, or one of {', '.join(prompts.PROMPTS)}", str)
    stage2: str | None = _setting(None, "caption twice; the text may place {caption}", str)
    sampling_fps: float = _setting(2.0, "frames a second that the model sees", float, above=0, step=0.5)
    window_size: int = _setting(256, "frames a window", int, least=4, step=1)
    remainder_threshold: int = _setting(
        128, "frames from which a remainder is a window", int, least=0, step=1
    )
    pixel_budget: int | None = _setting(
        None, "most pixels of a frame that the model sees", int, least=1, step=784
    )
    max_tokens: int = _setting(512, "longest caption, in tokens", int, least=1, step=16)
    temperature: float = _setting(
        0.1, "0 takes the likeliest token, more varies the text", float, least=0, step=0.1
    )
    top_p: float = _setting(
        0.001, "share of probability that tokens are drawn from", float, above=0, most=1, step=0.05
    )
    repetition_penalty: float = _setting(
        1.05, "above 1, tokens that were used become less likely", float, above=0, step=0.05
    )
    seed: int | None = _setting(None, "number that makes drawn tokens repeatable", int, step=1)
    fp8: bool = _setting(False, "weights in fp8 (needs a GPU with fp8 units)", bool)
    window_seconds: float | None = _setting(
        None, "seconds a window, instead of frames", float, above=0, step=1
    )
    given: str | None = _setting(
        None, "key of a recipe whose captions are stage 1, for stage 2 to correct", str
    )
    text_only: bool = _setting(False, "stage 2 reads the caption alone, without the video", bool)
    schema: Any = _setting(  # noqa: RUF009 (ruff does not see that this is a field)
        None,
        f"captions as JSON: a JSON schema, or one of {', '.join(structured.EXAMPLES)}",
        str,
    )

    def __post_init__(self) -> None:
        if self.schema is not None:
            object.__setattr__(self, "schema", structured.canonical(self.schema))
        for name, setting in SETTINGS.items():
            value = getattr(self, name)
            if value is not None or DEFAULTS[name] is not None:
                setting.check(name, value)
                if setting.kind is float:
                    # Store 0 as 0.0: the two differ in the JSON that the content key is a hash of.
                    object.__setattr__(self, name, float(value))
        prompts.check_template(self.prompt_text, prompts.STAGE1_PLACEHOLDERS)
        if self.stage2 is not None:
            if not self.stage2.strip():
                raise ValueError("stage2 has no text; give a text, or None for one stage")
            prompts.check_template(self.stage2, prompts.STAGE2_PLACEHOLDERS)
        elif self.given is not None:
            raise ValueError("captions are given for stage 1, and stage2 has no text; give a text")
        elif self.text_only:
            raise ValueError("text_only is about stage 2, and stage2 has no text; give a text")

    @property
    def prompt_text(self) -> str:
        """The prompt's text, with a library name resolved."""
        return prompts.resolve(self.prompt)

    @property
    def texts(self) -> tuple[str, ...]:
        """Placeholders for texts beside the picture: ``speech``, ``previous``, ``meta.COLUMN``."""
        return prompts.beside(self.prompt_text, self.stage2)

    def check_without_session(self, where: str) -> None:
        """Refuse what only a session has: texts beside the picture, and given captions.

        Raises
        ------
        ValueError
            If a prompt has the placeholder of such a text, or stage 1 is `given`; the message names it
            and ``where``.
        """
        if self.given is not None:
            raise ValueError(
                f"the recipe takes stage 1 from a session's store (given), which {where} does not "
                "read; correct those captions with Session.correct"
            )
        if self.texts:
            raise ValueError(
                f"the prompt has {{{self.texts[0]}}}, which {where} does not fill in; caption in a "
                "session, or with captionkit caption without --ray"
            )

    @property
    def stages(self) -> tuple[int, ...]:
        """The stages of a window: (1,) or (1, 2)."""
        return (1,) if self.stage2 is None else (1, 2)

    @property
    def sees_video(self) -> bool:
        """Whether any stage sees the video."""
        return self.given is None or not self.text_only

    @property
    def ordinary_frames(self) -> int:
        """Frames that the model sees of a whole window at 24 frames a second; slower video has more."""
        seconds = self.window_seconds or self.window_size / _ORDINARY_FPS
        wanted = max(LEAST_FRAMES, seconds * self.sampling_fps)
        return int(min(wanted, seconds * _ORDINARY_FPS, MOST_FRAMES))

    @property
    def key(self) -> str:
        """Content key, 16 hexadecimal digits; equal if nothing that decides a caption differs."""
        content = {**asdict(self), "prompt": self.prompt_text}
        for name, old in _OLD_NAMES.items():
            content[old] = content.pop(name)
        for name in ("schema", "window_seconds", "given"):
            if content[name] is None:
                # Keep keys from versions without the setting valid.
                del content[name]
        if not self.text_only:
            del content["text_only"]
        canonical = json.dumps(content, sort_keys=True, ensure_ascii=False)
        return hashlib.sha256(canonical.encode()).hexdigest()[:16]

    @property
    def frames_key(self) -> Hashable:
        """Key that is equal if the model sees the same frames of a file, in the same windows."""
        return (
            self.model,
            self.sampling_fps,
            self.pixel_budget,
            self.window_size,
            self.remainder_threshold,
            self.window_seconds,
        )

    def changed(
        self, prompt: str | None = None, stage2: str | bool | None = None, **settings: Any
    ) -> Recipe:
        """Return the recipe with changes; a ``stage2`` of True takes the library's, False takes none.

        A recipe without stage 2 is not ``text_only``.

        Raises
        ------
        TypeError
            If a setting is unknown; the message lists the known ones.
        """
        known = SETTINGS.keys() - {"prompt", "stage2"}
        unknown = sorted(settings.keys() - known)
        if unknown:
            near = hint(unknown[0], [*SETTINGS, *_OF_A_CALL])
            raise TypeError(
                f"unknown setting {', '.join(unknown)}{near}; there are: {', '.join(sorted(known))}"
            )
        if prompt is not None:
            settings["prompt"] = prompt
        if stage2 is not None:
            settings["stage2"] = prompts.STAGE2_DEFAULT if stage2 is True else stage2 or None
            if stage2 is False:
                settings["text_only"] = False
        return replace(self, **settings)

    def cut_by(self, window_size: int | None = None, window_seconds: float | None = None) -> Recipe:
        """Return the recipe with windows of so many frames, or of seconds; unchanged without either.

        A remainder is half a window at most.
        """
        if window_seconds is not None:
            return replace(self, window_seconds=window_seconds)
        if window_size is None:
            return self
        shorter = min(self.remainder_threshold, window_size // 2)
        return replace(self, window_size=window_size, remainder_threshold=shorter, window_seconds=None)

    def to_json(self) -> str:
        """Return all settings as one line of JSON, for `from_json`."""
        return json.dumps(asdict(self), ensure_ascii=False)

    @classmethod
    def from_json(cls, text: str) -> Recipe:
        """Read the output of `to_json`, from this version or from captionkit 0.1.

        Raises
        ------
        ValueError
            If the text is not the JSON of a recipe.
        """
        try:
            content = json.loads(text)
        except (RecursionError, TypeError) as error:
            raise ValueError(f"a recipe is a JSON object, not this: {error}") from error
        if not isinstance(content, dict):
            raise ValueError("a recipe is a JSON object")
        for name, old in _OLD_NAMES.items():
            if old in content:
                content[name] = content.pop(old)
        return cls(**_known(content, "the recipe"))

    def to_toml(self) -> str:
        """Return all settings as TOML, without those that are None."""
        kept = {name: value for name, value in asdict(self).items() if value is not None}
        return tomli_w.dumps({"recipe": kept})

    def save(self, path: str | Path) -> None:
        """Write all settings as TOML, without those that are None."""
        Path(path).write_text(self.to_toml(), encoding="utf-8")

    @classmethod
    def load(cls, path: str | Path) -> Recipe:
        """Read a file from `save`; a missing entry takes its default.

        Raises
        ------
        ValueError
            If the file is not TOML, or an entry is unknown or does not fit; the message names file
            and entry.
        FileNotFoundError
            If the file does not exist.
        """
        try:
            content = tomllib.loads(Path(path).read_text(encoding="utf-8"))
        except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as error:
            raise ValueError(f"{path} is not a recipe: it is not valid TOML ({error})") from error
        entries = content.get("recipe")
        if not isinstance(entries, dict):
            raise ValueError(f"{path} is not a recipe: it has no [recipe] table")
        try:
            return cls(**_known(entries, str(path)))
        except ValueError as error:
            where = "" if str(path) in str(error) else f"{path}: "
            raise ValueError(f"{where}{error}") from error


SETTINGS: dict[str, Setting] = {each.name: each.metadata["setting"] for each in fields(Recipe)}
DEFAULTS: dict[str, Any] = {
    each.name: None if each.default is MISSING else each.default for each in fields(Recipe)
}


def _known(entries: dict[str, Any], where: str) -> dict[str, Any]:
    """Return the entries of a file; refuse an unknown name, and name the new one of an old name."""
    renamed = {old: name for name, old in _OLD_NAMES.items()}
    for name in entries:
        if name in renamed:
            raise ValueError(f"{where}: {name} is called {renamed[name]} now; rename it")
    unknown = sorted(set(entries) - SETTINGS.keys())
    if unknown:
        near = hint(unknown[0], SETTINGS)
        raise ValueError(
            f"{where}: unknown entry {', '.join(unknown)}{near}; known: {', '.join(SETTINGS)}"
        )
    return entries
