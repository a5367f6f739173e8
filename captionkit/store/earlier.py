"""Windows of earlier versions: their keys hash whole files, those of this version what opening reads.

A window's captions, runs and notes move to its new key when a session first opens its file; the hash of
the whole file, read once for this, proves that the window is the same.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence

from captionkit.sources import KEY_MARK, PlannedWindow, earlier_key, whole_hash
from captionkit.store.file import StoreFile

# Columns with the key of a window, besides that of `windows` itself.
_KEYS = ("jobs", "results", "choices", "changes", "answers")
_INDEXES = "CREATE INDEX IF NOT EXISTS {0}_by_window ON {0} (window_key)"
_KINDS = """
SELECT DISTINCT start_frame, end_frame,
    json_extract(source, '$.width'), json_extract(source, '$.height')
FROM windows WHERE key < ? AND json_valid(source)
"""
_COPY = """
INSERT INTO windows (key, path, clip, start_frame, end_frame, start_s, end_s, source, note, tags)
SELECT :new, path, :clip, start_frame, end_frame, start_s, end_s, source, note, tags
FROM windows WHERE key = :old
ON CONFLICT (key) DO UPDATE SET note = CASE note WHEN '' THEN excluded.note ELSE note END,
    tags = CASE tags WHEN '' THEN excluded.tags ELSE tags END
"""

Kind = tuple[int, int, int, int]


def earlier_kinds(file: StoreFile) -> set[Kind]:
    """Return frames and sizes of the windows with earlier keys; mostly an empty set."""
    return set(file.rows(_KINDS, (KEY_MARK,)))


def adopt(file: StoreFile, kinds: set[Kind], windows: Sequence[PlannedWindow]) -> None:
    """Move what the store has of some windows under earlier keys to their keys.

    Parameters
    ----------
    file
        The store.
    kinds
        From `earlier_kinds`: only files with such a window are hashed.
    windows
        Windows of one video.
    """
    wanted = [each for each in windows if _kind(each) in kinds]
    hashes = {each: whole_hash(each) for each in dict.fromkeys(one.source.file for one in wanted)}
    pairs = [(earlier_key(each, hashes[each.source.file]), each) for each in wanted]
    known = {
        key for old, _ in pairs for (key,) in file.rows("SELECT key FROM windows WHERE key = ?", (old,))
    }
    moved = [(old, each) for old, each in pairs if old in known]
    if not moved:
        return
    with file.transaction() as db:
        for table in _KEYS:
            db.execute(_INDEXES.format(table))
        for old, window in moved:
            db.execute(_COPY, {"new": window.key, "old": old, "clip": window.clip})
            # A run without a key gets its new one before the next run is looked up.
            db.execute(
                "UPDATE runs SET key = '' WHERE id IN (SELECT run FROM jobs WHERE window_key = ?)",
                (old,),
            )
            for table in _KEYS:
                db.execute(
                    f"UPDATE OR IGNORE {table} SET window_key = ? WHERE window_key = ?",  # noqa: S608
                    (window.key, old),
                )
            db.execute("DELETE FROM choices WHERE window_key = ?", (old,))
            db.execute("DELETE FROM windows WHERE key = ?", (old,))


def runs_without_key(db: sqlite3.Connection) -> list[tuple[int, str, int, list[str]]]:
    """Return id, recipe key, repeats and window keys of the runs whose windows got new keys."""
    runs = db.execute("SELECT id, recipe_key, repeats FROM runs WHERE key = ''").fetchall()
    query = "SELECT window_key FROM jobs WHERE run = ? AND repeat = 0 ORDER BY position"
    return [
        (number, recipe_key, repeats, [key for (key,) in db.execute(query, (number,))])
        for number, recipe_key, repeats in runs
    ]


def _kind(window: PlannedWindow) -> Kind:
    shown = window.source.metadata
    return window.start_frame, window.end_frame, shown.width, shown.height
