"""Which captions go into a training set, under which names, and what their texts are."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import pandas as pd

from captionkit import structured
from captionkit.captions import with_edits
from captionkit.export.dataset.options import DatasetOptions
from captionkit.export.errors import ExportError
from captionkit.export.names import file_name
from captionkit.prompts import placeholders, render
from captionkit.review import UNSUPPORTED, faults
from captionkit.review.checks.text import words_of
from captionkit.review.duplicates import near_duplicates
from captionkit.review.events import events_property, timed_texts
from captionkit.store.reviews import split as split_tags

TRAIN, VALIDATION = "train", "validation"


@dataclass(frozen=True)
class Sample:
    """A window with its text.

    Parameters
    ----------
    name
        File name without a suffix; no two samples have the same, also where case does not count.
    film_name
        Name of its film, of which no two films have the same.
    text
        The final text.
    split
        ``train``, ``validation``, or empty without a split.
    row
        The row of the caption, in the columns of `CaptionRow`.
    faults
        Names of the checks that found a fault.
    """

    name: str
    film_name: str
    text: str
    split: str
    row: dict[str, Any]
    faults: tuple[str, ...]

    @property
    def film(self) -> str:
        """What tells films apart: the path, or the name where there is none."""
        return str(self.row["path"] or self.row["video"])

    @property
    def timed(self) -> list[tuple[float, float, str]]:
        """The text with its start and end in seconds of the film; of a schema of events, each event."""
        schema = _schema_of(self.row["recipe"])
        if events_property(schema) is None:
            return [(self.row["start_s"], self.row["end_s"], self.text)]
        return timed_texts(self.row, schema)


@dataclass(frozen=True)
class Choice:
    """The samples in the order of the windows, and the number left out for each reason."""

    samples: list[Sample]
    left_out: Counter[str]


def choose(
    table: pd.DataFrame, options: DatasetOptions, stage: int | None = None, by_rating: bool = False
) -> Choice:
    """Choose samples from a table with the columns of `CaptionRow`, and ``unsupported`` if known.

    An edited text comes before the one of stage 2, that before the one of stage 1; of the repeats of a
    window, the one rated best comes first. ``stage`` takes only this stage; ``by_rating`` takes the
    stage rated best, as ``prefer_human`` of other formats.

    Raises
    ------
    ExportError
        If no caption is left, or the films cannot be split.
    """
    left_out: Counter[str] = Counter()
    # The checks look at the text that goes into the set.
    rows = with_edits(_final(table, stage, by_rating, left_out))
    found = faults(rows, _schema(rows), _verified(rows))
    kept: list[tuple[dict[str, Any], str, str, tuple[str, ...]]] = []
    for index, row in zip(rows.index, _records(rows), strict=True):
        own = row["text"]
        reason, text = _refused(row, own, found[index], options), ""
        if reason is None:
            text, reason = _text(row, own, options)
        if reason is None:
            kept.append((row, own, text, tuple(found[index])))
        else:
            left_out[reason] += 1
    if options.unlike is not None:
        near = near_duplicates([own for _, own, _, _ in kept], options.unlike)
        kept = [each for index, each in enumerate(kept) if index not in near]
        left_out["nearly the same as another caption"] += len(near)
    if not kept:
        listed = "; ".join(f"{count} {reason}" for reason, count in left_out.items() if count)
        raise ExportError(f"no caption is left for the data set: {listed or 'the table is empty'}")
    rows_of = [row for row, *_ in kept]
    names, splits = _names(rows_of), _splits(rows_of, options)
    samples = [
        Sample(name, film_name, text, split, row, bad)
        for (row, _, text, bad), (name, film_name), split in zip(kept, names, splits, strict=True)
    ]
    return Choice(samples, +left_out)


def _final(
    table: pd.DataFrame, stage: int | None, by_rating: bool, left_out: Counter[str]
) -> pd.DataFrame:
    """Return one row for each window."""
    same = table["key"].where(
        table["key"].notna(), table["path"].astype(str) + " " + table["window"].astype(str)
    )
    table = table.assign(_window=same)
    broken = table[table["error"].notna()][["_window", "repeat"]].drop_duplicates()
    good = table[table["text"].notna()]
    if stage is not None:
        good = good[good["stage"] == stage]
    edited = good["edited_text"].notna()
    # A window that failed has no final caption, unless a person wrote one.
    whole = good.set_index(["_window", "repeat"]).index
    failed = whole.isin(broken.set_index(["_window", "repeat"]).index)
    good = good.assign(_edited=edited, _rank=good["rating"].fillna(0).astype(int))[~failed | edited]
    first = ["_rank", "_edited"] if by_rating else ["_edited", "_rank"]
    if not by_rating:
        # Of a window's stages the rating does not choose, only of its repeats.
        good = good.sort_values(["_edited", "stage"], kind="stable")
        good = good.drop_duplicates(["_window", "repeat"], keep="last")
    good = good.assign(_earlier=-good["repeat"])
    good = good.sort_values([*first, "_earlier", "stage"], kind="stable")
    good = good.drop_duplicates("_window", keep="last").sort_index()
    lost = table["_window"].nunique() - len(good)
    if lost:
        left_out["without a caption"] += lost
    return good


def _verified(rows: pd.DataFrame) -> pd.Series | None:
    """Return the column ``unsupported``; other values than truth values, as of a file, are missing."""
    if UNSUPPORTED not in rows:
        return None
    known = {"True": True, "False": False}
    return pd.Series([known.get(str(each)) for each in rows[UNSUPPORTED]], rows.index, "boolean")


def _records(rows: pd.DataFrame) -> list[dict[str, Any]]:
    plain = rows.drop(columns=[name for name in rows if name.startswith("_") or name == UNSUPPORTED])
    records: list[dict[str, Any]] = plain.astype(object).where(plain.notna(), None).to_dict("records")
    return records


def _schema(rows: pd.DataFrame) -> str | None:
    """Return the schema of the rows' recipe, if they have one."""
    found = map(_schema_of, rows["recipe"].dropna().unique())
    return next((schema for schema in found if schema), None)


def _schema_of(recipe: str | None) -> str | None:
    """Return the schema of a recipe as JSON; a recipe that cannot be read has none."""
    try:
        schema = json.loads(recipe or "{}").get("schema")
        return structured.canonical(schema) if schema else None
    except (ValueError, AttributeError):
        return None


def _refused(row: dict[str, Any], text: str, bad: list[str], options: DatasetOptions) -> str | None:
    """Return the reason that a caption is left out, or None."""
    tags, words = set(split_tags(row["tags"])), len(words_of(text))
    if not text.strip():
        return "empty"
    if options.min_rating is not None and (row["rating"] or 0) < options.min_rating:
        return f"not rated {options.min_rating} or better"
    if options.tags and not tags & set(options.tags):
        return f"without a tag of {', '.join(options.tags)}"
    if tags & set(options.without_tags):
        return f"with a tag of {', '.join(options.without_tags)}"
    if set(bad) & set(options.faults):
        return f"with the fault {next(name for name in bad if name in options.faults)}"
    if options.min_words is not None and words < options.min_words:
        return f"shorter than {options.min_words} words"
    if options.max_words is not None and words > options.max_words:
        return f"longer than {options.max_words} words"
    return None


def _text(row: dict[str, Any], text: str, options: DatasetOptions) -> tuple[str, str | None]:
    """Return the final text, and the reason that there is none."""
    wanted = [name for name in placeholders(options.template) if name.startswith("json.")]
    content: Any = {}
    if wanted:
        try:
            content = json.loads(text)
        except (ValueError, RecursionError):
            content = None
        if not isinstance(content, dict):
            return "", "without a JSON object for the template"
    values: dict[str, object] = {
        "caption": text.strip(),
        "video": row["video"],
        "window": row["window"],
        "start": f"{row['start_s'] or 0:.2f}",
        "end": f"{row['end_s'] or 0:.2f}",
    }
    for name in wanted:
        value = content.get(name.removeprefix("json."))
        if value is None:
            return "", f"without {name} for the template"
        values[name] = _words(value)
    made = f"{options.prefix}{render(options.template, values)}{options.suffix}"
    return (f"{options.trigger}, {made}" if options.trigger else made), None


def _words(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(map(_words, value))
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _names(rows: Iterable[dict[str, Any]]) -> list[tuple[str, str]]:
    """Return a name for each row and one for its film; no two are equal, whatever their case."""
    films: dict[str, str] = {}
    stems: set[str] = set()
    taken: set[str] = set()
    names = []
    for row in rows:
        film = str(row["path"] or row["video"])
        if film not in films:
            films[film] = _free(plain_name(row["video"]), stems)
        names.append((_free(f"{films[film]}-{row['window']:04d}", taken), films[film]))
    return names


def plain_name(video: object) -> str:
    """Return a film's name as the beginning of its clips' names."""
    # WebDataset ends a name at its first dot; readers skip names that begin with . or __.
    return file_name(video).replace(".", "_").replace(" ", "_").lstrip("_") or "video"


def _free(name: str, taken: set[str]) -> str:
    """Return a name that is not taken, and take it."""
    free, number = name, 1
    while free.casefold() in taken:
        number += 1
        free = f"{name}-{number}"
    taken.add(free.casefold())
    return free


def _splits(rows: list[dict[str, Any]], options: DatasetOptions) -> list[str]:
    """Return the part of each row; the films of a part do not depend on the other films' captions."""
    if not options.validation:
        return [""] * len(rows)
    films = [str(row["path"] or row["video"]) for row in rows]
    # The name alone decides, so that another folder gives the same parts.
    rank = {film: _rank(str(row["video"]), options.seed) for film, row in zip(films, rows, strict=True)}
    if len(rank) < 2:
        raise ExportError(
            f"all captions are of one film, {rows[0]['video']}, and no film may be in both parts; "
            "export without validation, or caption more films"
        )
    count = min(len(rank) - 1, max(1, round(options.validation * len(rank))))
    held = set(sorted(rank, key=lambda film: (rank[film], film))[:count])
    return [VALIDATION if film in held else TRAIN for film in films]


def _rank(name: str, seed: int) -> str:
    return hashlib.sha256(f"{seed} {name}".encode()).hexdigest()
