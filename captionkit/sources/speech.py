"""What is said in a film: the subtitles or the transcript beside it, cut to a window."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from captionkit.sources.subtitles import cues, decoded

#: Kinds of files beside a film, in order of preference.
SUFFIXES = (".srt", ".vtt", ".json")
# Seconds that a text has to share with a window: cuts and clocks round.
_LEAST_SHARED_S = 0.1
# Voices, colours and places: <v Anna>, <i>, {\an8}.
_TAG = re.compile(r"</?[A-Za-z][^<>]*>|<[0-9:.]+>|\{\\[^{}]*\}")


class SpeechError(ValueError):
    """Raised if the file with the speech of a film cannot be read; names the file and the fault."""


@dataclass(frozen=True)
class Said:
    """Words with their start and end in seconds of the film; ``word`` if it is one word."""

    start_s: float
    end_s: float
    text: str
    word: bool = False


def speech_file(film: str) -> Path | None:
    """Return the file with the speech of a film; None without one.

    Beside ``film.mp4`` these are looked for: ``film.srt``, ``film.mp4.srt``, ``film.LANGUAGE.srt``;
    then the same with ``.vtt``, then with ``.json`` for transcripts as WhisperX and Whisper write them.

    Raises
    ------
    SpeechError
        If there are only files of several languages, since none can be preferred.
    """
    path = Path(film)
    if not path.parent.is_dir():
        return None
    for suffix in SUFFIXES:
        for each in (path.with_suffix(suffix), path.with_name(path.name + suffix)):
            if each.is_file() and (suffix != ".json" or _is_transcript(each)):
                return each
        language = re.compile(rf"{re.escape(path.stem)}\.[A-Za-z]{{2,3}}(-\w+)?{re.escape(suffix)}")
        found = sorted(each for each in path.parent.iterdir() if language.fullmatch(each.name))
        if len(found) > 1:
            names = ", ".join(each.name for each in found)
            raise SpeechError(
                f"{path.name} has speech in several languages ({names}); copy one of them to "
                f"{path.stem}{suffix}"
            )
        if found and (suffix != ".json" or _is_transcript(found[0])):
            return found[0]
    return None


def read_speech(path: Path) -> list[Said]:
    """Return what a file says, in the order of time.

    Raises
    ------
    SpeechError
        If the file cannot be read, is in another encoding than UTF-8 without a byte-order mark, or
        holds no readable cue.
    """
    try:
        text, _ = decoded(path.read_bytes())
    except OSError as error:
        raise SpeechError(f"cannot read {path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise SpeechError(f"{path} is not UTF-8 ({error}); save the file as UTF-8") from error
    if path.suffix.lower() == ".json":
        said = _transcript(path, text)
    else:
        said = []
        for cue in cues(text.replace("\0", ""), vtt=path.suffix.lower() == ".vtt"):
            if cue.problem is not None or not _is_span(cue.start_s, cue.end_s):
                shown = cue.problem or f"{cue.start_s:g} to {cue.end_s:g} s"
                raise SpeechError(f"{path}, cue {cue.number}: its times cannot be read: {shown!r}")
            said.append(Said(cue.start_s, cue.end_s, _plain(cue.text)))
        if not said and text.strip() and not text.startswith("WEBVTT"):
            raise SpeechError(f"{path} holds no cue with times; it is not {path.suffix[1:]} or damaged")
    return sorted(said, key=lambda each: each.start_s)


def speech_between(said: Sequence[Said], start_s: float, end_s: float) -> str:
    """Return what is said between two times, on one line.

    A word with times of its own counts where its middle is; a cue counts whole in every window of which
    it shares 0.1 s (or half of a shorter cue): what of it is said where is not known.
    """
    found = []
    for each in said:
        if each.start_s >= end_s:
            break
        if each.word:
            inside = start_s <= (each.start_s + each.end_s) / 2 < end_s
        else:
            shared = min(each.end_s, end_s) - max(each.start_s, start_s)
            inside = shared >= min(_LEAST_SHARED_S, (each.end_s - each.start_s) / 2) and shared > 0
        if inside and each.text:
            found.append(each.text)
    return " ".join(found)


def _is_transcript(path: Path) -> bool:
    """Return whether a JSON file is a transcript, or damaged; others are metas or truth of a film."""
    try:
        content = json.loads(path.read_bytes())
    except (ValueError, RecursionError, OSError):
        return True
    return isinstance(content, dict) and isinstance(content.get("segments"), list)


def _transcript(path: Path, text: str) -> list[Said]:
    """Read segments with their words; a word without times (a number, say) follows the one before."""
    said: list[Said] = []
    try:
        for segment in json.loads(text)["segments"]:
            begin, end = float(segment["start"]), float(segment["end"])
            words = segment.get("words") or []
            if not any("start" in word for word in words):
                said.append(_checked(Said(begin, end, _plain(segment["text"]))))
                continue
            for word in words:
                begin = float(word.get("start", begin))
                end = float(word.get("end", begin))
                said.append(_checked(Said(begin, end, _plain(word["word"]), word=True)))
                begin = end
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise SpeechError(
            f"{path} is not a transcript with segments of start, end and text: "
            f"{type(error).__name__}: {error}"
        ) from error
    return said


def _checked(said: Said) -> Said:
    if not _is_span(said.start_s, said.end_s):
        raise ValueError(f"{said.text!r} is from {said.start_s} to {said.end_s} s")
    return said


def _is_span(start_s: Any, end_s: Any) -> bool:
    return math.isfinite(start_s) and math.isfinite(end_s) and 0 <= start_s <= end_s


def _plain(text: str) -> str:
    return " ".join(_TAG.sub("", text).split())
