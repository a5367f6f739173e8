"""A whole set of captions at a glance: lengths, phrases, repeats, words, faults by video, names."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pandas as pd

from captionkit import display
from captionkit.review.checks import FAULTS, faults
from captionkit.review.checks.text import words_of
from captionkit.review.duplicates import near_duplicates

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_OPENING, _PHRASE = 3, 4
_MOST_SHOWN = 10


@dataclass(frozen=True)
class SetReport:
    """A report on the final captions of a run; a notebook shows it as tables.

    Parameters
    ----------
    summary
        Numbers of the set by name: captions, words a caption, different words, and so on.
    captions
        One row for each caption: video, window, words, ``same`` (the first caption with the same words,
        or None), ``near`` (the first caption that is nearly the same, or None), faults, and
        ``names`` (the given words that it has); after `Run.verify` also ``unsupported``.
    phrases, openings
        Phrases of four words, and first three words, with the number and the share of the captions that
        have them; most frequent first, without those of one caption.
    vocabulary
        Words with the number of captions that have them.
    videos
        Captions, mean number of words, captions near another one, and faults by check, one row a video.
    """

    summary: pd.Series
    captions: pd.DataFrame
    phrases: pd.DataFrame
    openings: pd.DataFrame
    vocabulary: pd.DataFrame
    videos: pd.DataFrame

    def figure(self) -> Figure:
        """Draw the lengths of captions, and how many share an opening."""
        return display.report_figure(self.captions["words"], self.openings.head(_MOST_SHOWN))

    def _repr_html_(self) -> str:
        parts = (
            ("Openings", self.openings.head(_MOST_SHOWN)),
            ("Phrases", self.phrases.head(_MOST_SHOWN)),
            ("Videos", self.videos),
        )
        tables = "".join(f"<h4>{name}</h4>{display.frame_html(table)}" for name, table in parts)
        facts = display.frame_html(self.summary.rename_axis("").reset_index(name="value"))
        return f"{facts}{tables}"


def report(
    table: pd.DataFrame,
    schema: str | None = None,
    names: Iterable[str] = (),
    near: float = 0.9,
    unsupported: pd.Series | None = None,
) -> SetReport:
    """Report on captions, one row for each window.

    Parameters
    ----------
    table
        Table with the columns of `CaptionRow`.
    schema
        Schema of the captions, or None.
    names
        Words or phrases that no caption should have, such as names of people.
    near
        Word overlap from which two captions count as nearly the same.
    unsupported
        Whether each caption has a false claim, missing where it was not asked; see `Run.verify`.

    Raises
    ------
    ValueError
        If there is no caption.
    """
    table = table.dropna(subset="text")
    asked = pd.Series(dtype="boolean") if unsupported is None else unsupported
    false = asked.reindex(table.index)
    table = table.reset_index(drop=True)
    if table.empty:
        raise ValueError("there is no caption to report on")
    words = [words_of(text) for text in table["text"]]
    found = faults(table, schema, false.set_axis(table.index))
    labels = [f"{row.video} {row.window}" for row in table.itertuples()]
    alike = near_duplicates(list(table["text"]), near)
    same = _exact(words)
    unwanted = [tuple(words_of(name)) for name in names]
    captions = display.TextTable(
        {
            "video": table["video"],
            "window": table["window"],
            "words": [len(each) for each in words],
            "same": _earlier(same, labels),
            "near": _earlier(alike, labels),
            "faults": [", ".join(found[index]) for index in table.index],
            "names": [_leaks(each, unwanted) for each in words],
        }
    )
    verified = {}
    if false.notna().any():
        captions["unsupported"] = list(false)
        verified = {"verified": int(false.notna().sum()), "with unsupported claims": int(false.sum())}
    vocabulary = _counted(([(word,) for word in each] for each in words), "word", len(words), least=1)
    summary = pd.Series(
        {
            "captions": len(captions),
            "fewest words": int(captions["words"].min()),
            "median words": float(captions["words"].median()),
            "most words": int(captions["words"].max()),
            "different words": len(vocabulary),
            "repeated captions": len(same),
            "nearly repeated captions": len(alike),
            "with faults": int((captions["faults"] != "").sum()),
            "with names": int((captions["names"] != "").sum()),
            **verified,
        }
    )
    return SetReport(
        summary,
        captions,
        _counted((_grams(each) for each in words), "phrase", len(words)),
        _counted(([tuple(each[:_OPENING])] for each in words if each), "opening", len(words)),
        vocabulary,
        _by_video(captions, found),
    )


def _earlier(found: dict[int, int], labels: Sequence[str]) -> pd.Series:
    """Return the label of the earlier caption for each caption, None without one."""
    earlier = [labels[found[n]] if n in found else None for n in range(len(labels))]
    return pd.Series(earlier, dtype=object)


def _exact(words: Sequence[list[str]]) -> dict[int, int]:
    """Return captions with the words of an earlier one, each with the first such caption."""
    first: dict[tuple[str, ...], int] = {}
    same = {}
    for index, each in enumerate(words):
        earlier = first.setdefault(tuple(each), index)
        if earlier != index:
            same[index] = earlier
    return same


def _grams(words: list[str]) -> list[tuple[str, ...]]:
    return [tuple(words[n : n + _PHRASE]) for n in range(len(words) - _PHRASE + 1)]


def _counted(
    groups: Iterable[Sequence[tuple[str, ...]]], name: str, total: int, least: int = 2
) -> pd.DataFrame:
    """Count in how many captions each phrase stands."""
    counts = Counter(phrase for group in groups for phrase in dict.fromkeys(group))
    rows = [
        (" ".join(phrase), count, count / total)
        for phrase, count in sorted(counts.items(), key=lambda item: (-item[1], item[0]))
        if count >= least
    ]
    return display.TextTable(rows, columns=[name, "captions", "share"])


def _leaks(words: list[str], unwanted: Sequence[tuple[str, ...]]) -> str:
    """Return the unwanted phrases that a caption has."""
    text = f" {' '.join(words)} "
    return ", ".join(" ".join(name) for name in unwanted if name and f" {' '.join(name)} " in text)


def _by_video(captions: pd.DataFrame, found: dict[object, list[str]]) -> pd.DataFrame:
    rows = []
    for video, group in captions.groupby("video", sort=False):
        counts = Counter(name for index in group.index for name in found[index])
        rows.append(
            {
                "video": video,
                "captions": len(group),
                "words": float(group["words"].mean()),
                "near": int(group["near"].notna().sum()),
                **{name: counts[name] for name in FAULTS},
            }
        )
    table = display.TextTable(rows)
    return table[[name for name in table if name not in FAULTS or table[name].any()]]
