"""Wire: what the browser's page is sent of a window: its row, its whole texts, its frames."""

from __future__ import annotations

import io
from typing import Any

from PIL import Image

from captionkit import display
from captionkit.display import visible
from captionkit.recipe import Recipe
from captionkit.session import Session
from captionkit.store import Store
from captionkit.widgets.rows import Row, load_before

# A list shows the beginning of a caption; its whole text crosses for the chosen window only.
_SHOWN = 240


def row_message(index: int, row: Row) -> dict[str, Any]:
    """Return what a line of the list shows."""
    window = row.window
    return {
        "index": index,
        "video": visible(window.video),
        "window": window.number,
        "start": window.start_s,
        "end": window.end_s,
        "state": row.state,
        "stage": row.stage,
        "text": visible(row.text[:_SHOWN]),
        "cut": len(row.text) > _SHOWN,
        "error": visible(row.error[:_SHOWN]),
        "faults": row.marks,
        "rating": row.rating,
        "edited": row.edited,
        "tags": [visible(each) for each in row.tags],
        "noted": bool(row.note),
        "windowTags": [visible(each) for each in row.window_tags],
        "windowNoted": bool(row.window_note),
        "elsewhere": row.elsewhere,
    }


def detail_message(index: int, row: Row, store: Store) -> dict[str, Any]:
    """Return what is shown beside the player, with the text of the run before."""
    before = load_before(store, row)
    text, earlier = visible(row.text), visible(before.text) if before else ""
    # Marks would flicker while a text grows.
    marks = display.marked(earlier, text) if earlier and row.state == "done" else []
    return {
        "kind": "detail",
        "index": index,
        "text": text,
        "raw": row.text,
        "error": visible(row.error),
        "run": row.run,
        "marks": marks,
        "tags": visible(", ".join(row.tags)),
        "note": visible(row.note),
        "windowTags": visible(", ".join(row.window_tags)),
        "windowNote": visible(row.window_note),
        "before": {"run": before.run, "text": earlier, "rating": before.rating} if before else None,
        "row": row_message(index, row),
    }


def frames_message(
    index: int, row: Row, session: Session, recipe: Recipe
) -> tuple[dict[str, Any], list[bytes]]:
    """Return the frames that the model sees, as JPEG, and their times; slow, for a job thread.

    Raises
    ------
    ValueError, KeyError
        If the frames cannot be read.
    """
    found = session.frames(*row.name, recipe)
    packed = []
    for pixels in found.pixels:
        file = io.BytesIO()
        # Quality 92 looks the same; lossless is more than a notebook server passes on at once.
        Image.fromarray(pixels.transpose(1, 2, 0)).save(file, "JPEG", quality=92, subsampling=0)
        packed.append(file.getvalue())
    start, end = row.window.start_s, row.window.end_s
    size = [int(side) for side in found.pixels.shape[:1:-1]]
    facts = {"seconds": found.seconds, "start": start, "end": end, "size": size}
    return {"kind": "frames", "index": index, **facts}, packed
