"""The card of a training set: what is in it, where it comes from, and what was left out."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import Any

from captionkit.export.dataset.layouts import LAYOUTS, Clip
from captionkit.export.dataset.options import DatasetOptions
from captionkit.models.variants import get_variant
from captionkit.recipe import Recipe
from captionkit.review import FAULTS
from captionkit.review.checks.text import words_of

_MOST_LISTED = 200


def card(
    clips: Sequence[Clip],
    options: DatasetOptions,
    left_out: Counter[str],
    problems: Mapping[str, str],
) -> bytes:
    """Return the card as Markdown; the licence is for a person to fill in."""
    films = {clip.sample.film for clip in clips}
    seconds = sum(clip.sample.row["end_s"] - clip.sample.row["start_s"] for clip in clips)
    words = [len(words_of(clip.sample.text)) for clip in clips]
    lines = [
        "# Data set of video clips with captions",
        "",
        "Licence: TO FILL IN (of the films, and of the captions)",
        "",
        f"- Layout: {options.layout}, {LAYOUTS[options.layout].description}",
        f"- {_count(len(clips), 'window')} of {_count(len(films), 'film')}, {seconds:,.1f} seconds",
        *_parts(clips),
        f"- {min(words)} to {max(words)} words a caption, {sum(words) / len(words):.1f} on average",
        *_of_clips(clips, options),
        "",
        "## Captions",
        "",
        *_origin(clips),
        *(f"- {name}: {value!r}" for name, value in _changed(options).items()),
        *_of_people(clips),
        *_of_checks(clips),
    ]
    if left_out or problems:
        lines += ["", "## Left out", "", *(f"- {count} {why}" for why, count in left_out.items())]
        lines += [
            f"- {_line(name)}: {_line(why)}" for name, why in list(problems.items())[:_MOST_LISTED]
        ]
        if len(problems) > _MOST_LISTED:
            lines.append(f"- and {len(problems) - _MOST_LISTED} more")
    return ("\n".join(lines) + "\n").encode("utf-8", "replace")


def _count(number: int, what: str) -> str:
    return f"{number:,} {what}{'' if number == 1 else 's'}"


def _line(text: str) -> str:
    return " ".join(text.split())


def _parts(clips: Sequence[Clip]) -> list[str]:
    parts = Counter(clip.sample.split for clip in clips)
    films = {part: len({c.sample.film for c in clips if c.sample.split == part}) for part in parts}
    return [
        f"- {part}: {_count(count, 'window')} of {_count(films[part], 'film')}"
        for part, count in parts.items()
        if part
    ]


def _of_clips(clips: Sequence[Clip], options: DatasetOptions) -> list[str]:
    made = [clip.made for clip in clips if clip.made is not None]
    if not made:
        return []
    copied = sum(each.copied for each in made)
    lines = [
        f"- Clips: {copied} copied from their films, {len(made) - copied} encoded as H.264 (crf "
        f"{options.crf}); {sum(each.sound == 'kept' for each in made)} with sound"
    ]
    names = [clip.sample.name for clip in clips if clip.made is not None and clip.made.copied]
    if names:
        more = f" and {copied - _MOST_LISTED} more" if copied > _MOST_LISTED else ""
        lines.append(f"- Copied: {', '.join(names[:_MOST_LISTED])}{more}")
    lines += [
        f"- {clip.sample.name}: {_line(what)}"
        for clip in clips
        if clip.made is not None
        for what in (clip.made.damage, clip.made.sound)
        if what not in (None, "kept", "none")
    ]
    return lines


def _origin(clips: Sequence[Clip]) -> list[str]:
    """Return a line for each recipe, with the revision of its model where one is pinned."""
    lines = []
    for text, count in Counter(clip.sample.row["recipe"] for clip in clips).items():
        try:
            recipe = Recipe.from_json(text)
        except (ValueError, TypeError):
            lines.append(f"- {_count(count, 'caption')} of an unknown recipe")
            continue
        try:
            revision = get_variant(recipe.model).revision
        except ValueError:
            revision = None
        pinned = f", revision {revision}" if revision else ""
        lines += [
            f"- {_count(count, 'caption')} by {recipe.model}{pinned}, with this recipe:",
            "",
            "```json",
            json.dumps(json.loads(recipe.to_json()), ensure_ascii=False, indent=1),
            "```",
            "",
        ]
    return lines


def _changed(options: DatasetOptions) -> dict[str, Any]:
    """Return the options that differ from their defaults."""
    return {
        each.name: getattr(options, each.name)
        for each in fields(options)
        if getattr(options, each.name) != each.default and each.name not in ("layout", "push_to_hub")
    }


def _of_people(clips: Sequence[Clip]) -> list[str]:
    edited = sum(clip.sample.row["edited_text"] is not None for clip in clips)
    rated = sum(clip.sample.row["rating"] is not None for clip in clips)
    return [f"- {_count(edited, 'caption')} edited by a person, {rated} rated"]


def _of_checks(clips: Sequence[Clip]) -> list[str]:
    found = Counter(name for clip in clips for name in clip.sample.faults)
    listed = ", ".join(f"{name} {found[name]}" for name in FAULTS if found[name])
    return [f"- Findings of the checks: {listed or 'none'}"]
