"""Prompts that were saved by name, and what a workbench keeps for its next opening."""

from __future__ import annotations

import json
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tomli_w

from captionkit import prompts
from captionkit.store.file import StoreFile, now

_READ = "SELECT value FROM kept WHERE name = ?"
_WRITE = "INSERT OR REPLACE INTO kept VALUES (?, ?)"


@dataclass(frozen=True)
class SavedPrompt:
    """A prompt and the text of its second stage, or None for one stage."""

    name: str
    prompt: str
    stage2: str | None = None

    def check(self) -> None:
        """Refuse a prompt that no recipe may have.

        Raises
        ------
        ValueError
            If the name or a text is empty, or a placeholder is unknown.
        """
        if not self.name.strip():
            raise ValueError("the prompt has no name; give one to find it by")
        texts = (
            ("", self.prompt, prompts.STAGE1_PLACEHOLDERS),
            ("stage 2 of ", self.stage2, prompts.STAGE2_PLACEHOLDERS),
        )
        for which, text, known in texts:
            if text is not None and not text.strip():
                raise ValueError(f"{which}the prompt {self.name!r} has no text")
            if text is not None:
                prompts.check_template(text, known)


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
        return {row[0]: SavedPrompt(*row) for row in self._prompts() if _is_prompt(*row)}

    def damaged_prompts(self) -> list[str]:
        """Return the names of saved prompts that cannot be read, which `prompts` leaves out."""
        return [str(row[0]) for row in self._prompts() if not _is_prompt(*row)]

    def _prompts(self) -> list[tuple[Any, ...]]:
        return self._file.rows("SELECT name, prompt, stage2 FROM prompts ORDER BY name")

    def save_prompt(self, prompt: SavedPrompt) -> None:
        """Save a prompt; one of the same name is replaced. Raise as `SavedPrompt.check`."""
        prompt.check()
        with self._file.transaction() as db:
            db.execute(
                "INSERT OR REPLACE INTO prompts (name, prompt, stage2, created) VALUES (?, ?, ?, ?)",
                (prompt.name, prompt.prompt, prompt.stage2, now()),
            )

    def delete_prompt(self, name: str) -> None:
        """Delete a saved prompt; runs made with it keep its text."""
        with self._file.transaction() as db:
            db.execute("DELETE FROM prompts WHERE name = ?", (name,))

    def export_prompts(self, path: str | Path) -> int:
        """Write all saved prompts as TOML, a table each; return their number."""
        saved = self.prompts()
        content = {
            name: {"prompt": each.prompt, **({} if each.stage2 is None else {"stage2": each.stage2})}
            for name, each in saved.items()
        }
        Path(path).write_text(tomli_w.dumps({"prompts": content}, multiline_strings=True), "utf-8")
        return len(saved)

    def import_prompts(self, path: str | Path) -> int:
        """Save all prompts of a file from `export_prompts`; return their number.

        Raises
        ------
        ValueError
            If the file is not TOML of prompts, or one of them is unfit; then none is saved.
        OSError
            If the file cannot be read.
        """
        try:
            content = tomllib.loads(Path(path).read_text(encoding="utf-8"))
        except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as error:
            raise ValueError(f"{path} holds no prompts: it is not valid TOML ({error})") from error
        tables = content.get("prompts")
        if not isinstance(tables, dict) or not tables:
            raise ValueError(f"{path} holds no prompts: it has no table [prompts.NAME]")
        found = [_prompt_of(name, table, path) for name, table in tables.items()]
        for each in found:
            self.save_prompt(each)
        return len(found)

    def keep(self, name: str, value: Any) -> None:
        """Keep a value that JSON can hold."""
        with self._file.transaction() as db:
            db.execute(_WRITE, (name, json.dumps(value)))

    def kept(self, name: str) -> Any:
        """Return a kept value; None for one that is missing.

        Raises
        ------
        ValueError
            If it is damaged.
        """
        rows = self._file.rows(_READ, (name,))
        value = _loaded(rows[0][0]) if rows else None
        if not _is_sound(value):
            raise ValueError(f"the kept value {name!r} is damaged")
        return value

    def keep_entry(self, table: str, name: str, value: dict[str, Any] | None) -> None:
        """Keep a value by name in a table of such values; None deletes it."""
        with self._file.transaction() as db:
            found = db.execute(_READ, (table,)).fetchone()
            try:
                entries = _loaded(found[0]) if found else {}
            except ValueError:
                entries = {}
            # Damaged entries stay as they are; they may be of a newer version.
            entries = entries if isinstance(entries, dict) else {}
            entries.pop(name, None)
            if value is not None:
                entries[name] = value
            db.execute(_WRITE, (table, json.dumps(entries)))

    def entries(self, table: str) -> tuple[dict[str, dict[str, Any]], list[str]]:
        """Return a table's values by name, sorted, and the names of those that are damaged."""
        rows = self._file.rows(_READ, (table,))
        try:
            found = _loaded(rows[0][0]) if rows else {}
        except ValueError:
            found = None
        if not isinstance(found, dict):
            return {}, [table]
        sound = {
            name: each
            for name, each in sorted(found.items())
            if isinstance(each, dict) and _is_sound((name, each))
        }
        return sound, [name for name in found if name not in sound]


def _is_prompt(name: Any, prompt: Any, stage2: Any) -> bool:
    """Whether a row of a stranger's store holds texts; a damaged one must not hide the others."""
    return isinstance(name, str) and isinstance(prompt, str) and isinstance(stage2, str | None)


def _loaded(text: Any) -> Any:
    try:
        return json.loads(text)
    except (ValueError, TypeError, RecursionError) as error:
        raise ValueError(f"a kept value is damaged: {error}") from error


def _is_sound(value: Any) -> bool:
    """Whether a page can be sent a value: its numbers are finite, and its characters whole."""
    try:
        json.dumps(value, allow_nan=False, ensure_ascii=False).encode()
    except (ValueError, RecursionError):
        return False
    return True


def _prompt_of(name: str, table: Any, path: str | Path) -> SavedPrompt:
    entries = table if isinstance(table, dict) else {"prompt": table}
    unknown = sorted(set(entries) - {"prompt", "stage2"})
    if (
        unknown
        or not all(isinstance(each, str) for each in entries.values())
        or "prompt" not in entries
    ):
        raise ValueError(
            f"{path}: the prompt {name!r} has {', '.join(entries) or 'nothing'}; "
            'give prompt = "…", and stage2 = "…" for a second stage'
        )
    made = SavedPrompt(name, **entries)
    try:
        made.check()
    except ValueError as error:
        raise ValueError(f"{path}: the prompt {name!r}: {error}") from error
    return made
