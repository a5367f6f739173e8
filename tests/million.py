"""Make a store of many captions with SQL, as fast as the disk allows: ``million STORE CAPTIONS``."""

from __future__ import annotations

import sys

from stores import window

from captionkit.recipe import Recipe
from captionkit.store import Store

_NUMBERS = "WITH RECURSIVE n (i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i < :count - 1) "
_TEXT = "'A red boat moves left over the sea by day, and a bird follows it; this is ' || i || '.'"


def fill(store: Store, count: int) -> None:
    """Add a run of ``count`` captioned windows in films of a thousand windows each."""
    recipe = Recipe()
    values = {
        "count": count, "facts": window(0).source.facts, "recipe": recipe.to_json(), "key": recipe.key,
    }  # fmt: skip
    with store._file.transaction() as db:
        for statement in (
            "INSERT INTO runs (id, key, recipe, recipe_key, repeats, batch_size, created) "
            "VALUES (1, 'k', :recipe, :key, 1, 16, '2026-01-01T00:00:00+00:00')",
            f"{_NUMBERS} INSERT INTO windows "
            "(key, path, clip, start_frame, end_frame, start_s, end_s, source) "
            "SELECT printf('w%08d', i), '/films/' || (i / 1000) || '.mp4', i / 1000 || '', "
            "i % 1000 * 256, i % 1000 * 256 + 255, i % 1000 * 8.5, i % 1000 * 8.5 + 8.5, :facts FROM n",
            f"{_NUMBERS} INSERT INTO results (id, recipe_key, window_key, repeat, done, created) "
            "SELECT i + 1, :key, printf('w%08d', i), 0, 1, '2026-01-01T00:00:00+00:00' FROM n",
            f"{_NUMBERS} INSERT INTO jobs "
            "(run, position, repeat, window_key, result, state, video, number) "
            "SELECT 1, i, 0, printf('w%08d', i), i + 1, 1, 'film-' || (i / 1000), i % 1000 FROM n",
            f"{_NUMBERS} INSERT INTO captions (result, stage, prompt, prompt_text, text, "
            "finish_reason, prompt_tokens, output_tokens, cached_tokens, queue_s, first_token_s, "
            f"seconds) SELECT i + 1, 1, '<chat>', 'Say it.', {_TEXT}, "
            "'stop', 300, 90, 256, 0.01, 0.1, 1.0 FROM n",
        ):
            db.execute(statement, values)


if __name__ == "__main__":
    made = Store(sys.argv[1])
    fill(made, int(sys.argv[2]))
    made.close()
