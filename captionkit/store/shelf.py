"""Prompts that were saved by name, and what a workbench keeps for its next opening."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from captionkit.store.file import StoreFile


@dataclass(frozen=True)
class SavedPrompt:
    """A prompt and the text of its second stage, or None for one stage."""

    name: str
    prompt: str
    stage2: str | None = None


class Shelf:
    """Saved prompts and kept values.

    Parameters
    ----------
    file
        The store's file.
    """

    def __init__(self, file: StoreFile) -> None:
        self._file = file

    def prompts(self) -> dict[str, SavedPrompt]:
        """Return the saved prompts by name, in the order of the names."""
        rows = self._file.rows("SELECT name, prompt, stage2 FROM prompts ORDER BY name")
        return {name: SavedPrompt(name, prompt, stage2) for name, prompt, stage2 in rows}

    def save_prompt(self, prompt: SavedPrompt) -> None:
        """Save a prompt; one of the same name is replaced."""
        now = datetime.now(UTC).isoformat(timespec="seconds")
        with self._file.transaction() as db:
            db.execute(
                "INSERT OR REPLACE INTO prompts (name, prompt, stage2, created) VALUES (?, ?, ?, ?)",
                (prompt.name, prompt.prompt, prompt.stage2, now),
            )

    def delete_prompt(self, name: str) -> None:
        """Delete a saved prompt; runs made with it keep its text."""
        with self._file.transaction() as db:
            db.execute("DELETE FROM prompts WHERE name = ?", (name,))

    def keep(self, name: str, value: Any) -> None:
        """Keep a value that JSON can hold."""
        with self._file.transaction() as db:
            db.execute("INSERT OR REPLACE INTO kept VALUES (?, ?)", (name, json.dumps(value)))

    def kept(self, name: str) -> Any:
        """Return a kept value; None for one that is missing or damaged."""
        rows = self._file.rows("SELECT value FROM kept WHERE name = ?", (name,))
        try:
            return json.loads(rows[0][0]) if rows else None
        except (ValueError, TypeError, RecursionError):
            return None
