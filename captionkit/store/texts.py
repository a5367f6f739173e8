"""Texts beside the picture in the key of a result: another text of a window is another caption.

A result is of a recipe, a window, a repeat and `texts_key` of the texts that filled in the window's
prompt. A caption that came after another one (``{previous}``) has that one's text among these.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import sqlite3
from collections.abc import Mapping, Sequence

from captionkit.prompts import PREVIOUS
from captionkit.sources import PlannedWindow
from captionkit.store import queries


def texts_key(values: Mapping[str, str]) -> str:
    """Return the key of the texts in a window's prompt, by placeholder; empty without texts."""
    if not values:
        return ""
    content = json.dumps(dict(sorted(values.items())), ensure_ascii=False)
    return hashlib.sha256(content.encode(errors="surrogatepass")).hexdigest()[:16]


def chains(windows: Sequence[PlannedWindow]) -> list[list[int]]:
    """Return the positions of each film's windows in the order of time."""
    films: dict[str, list[int]] = {}
    for position, window in enumerate(windows):
        films.setdefault(window.video, []).append(position)
    for film in films.values():
        film.sort(key=lambda position: (windows[position].start_s, windows[position].number))
    return list(films.values())


def take_over_in_order(
    db: sqlite3.Connection,
    run: int,
    recipe_key: str,
    repeats: int,
    windows: Sequence[PlannedWindow],
    texts: Mapping[str, Mapping[str, str]],
) -> None:
    """Give free jobs what was captioned before after the same text, film by film.

    Parameters
    ----------
    texts
        Texts of each window by its key, with an empty ``previous``.
    """
    values = {"run": run, "recipe": recipe_key}
    for repeat in range(repeats):
        for film in chains(windows):
            for before, position in itertools.pairwise(film):
                state, text = db.execute(queries.ENDED, (run, repeat, before)).fetchone()
                if state == 0:
                    break
                own = {
                    **texts.get(windows[position].key, {}),
                    PREVIOUS: text or "" if state == 1 else "",
                }
                one = {"repeat": repeat, "position": position, "texts": texts_key(own)}
                db.execute(queries.TAKE_OVER_ONE, values | one)
