"""What tests of the store share; imports little, for the processes that are killed."""

from __future__ import annotations

from dataclasses import replace

from captionkit.recipe import Recipe
from captionkit.store import Store, StoredWindow
from captionkit.stages.tasks import Caption

CAPTION = Caption(
    prompt="<chat>",
    text="A red boat.",
    finish_reason="stop",
    prompt_tokens=10,
    output_tokens=4,
    cached_tokens=0,
    queue_s=0.0,
    first_token_s=0.1,
    seconds=0.2,
    stage=1,
    prompt_text="Describe this video.",
)


def window(number: int, video: str = "film") -> StoredWindow:
    start = number * 8.5
    return StoredWindow(
        f"{video}-{number}", video, f"{video}.mp4", "clip", number, 0, 255, start, start + 8.5, "{}"
    )


WINDOWS = [window(number) for number in range(4)]


def begin(store: Store, recipe: Recipe | None = None, windows=WINDOWS, fresh: bool = False) -> int:
    return store.add_run(recipe or Recipe(), windows, repeats=1, batch_size=16, fresh=fresh)


def done(store: Store, run: int, position: int, text: str = "A red boat.") -> None:
    store.add_caption(run, position, 0, replace(CAPTION, text=text))
    store.finish(run, position, 0, None)
