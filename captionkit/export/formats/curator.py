"""NeMo Curator's layout: a metadata file for each clip, as the reference's ``ClipWriterStage``."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pandas as pd

from captionkit.export.base import AT_ONCE, Export
from captionkit.export.names import file_name


def curator(export: Export, folder: Path) -> None:
    """Write the files of a run.

    The last stage is ``<variant>_caption``, the first of two ``<variant>_stage1_caption``. The recipe
    and the faults of a caption have names of captionkit's own.
    """
    metas = folder / "metas" / "v0"
    metas.mkdir(parents=True)
    last = export.run.store.results.last_positions(export.run.id)
    begun: dict[str, list[pd.DataFrame]] = {}
    for turn, table in enumerate(export.tables(by_window=True), 1):
        for clip, group in table.groupby("clip", sort=False):
            begun.setdefault(clip, []).append(group)
        for clip in [each for each in begun if last.get(each, 0) < turn * AT_ONCE]:
            rows = pd.concat(begun.pop(clip), ignore_index=True)
            (metas / f"{file_name(clip)}.json").write_bytes(_clip(rows, export))


def _clip(rows: pd.DataFrame, export: Export) -> bytes:
    recipe = export.recipe
    variant = Path(recipe.model).name
    found = export.faults(rows) if export.checks else {}
    key = rows["key"].iloc[0]
    source = export.run.store.results.facts([key])[key]
    windows = []
    errors: list[str] = []
    for number, group in rows.groupby("window", sort=False):
        window = {
            "start_frame": int(group["start_frame"].iloc[0]),
            "end_frame": int(group["end_frame"].iloc[0]),
        }
        windows.append({**window, **_captions(group, variant, found)})
        errors += [f"window-{number}: {why}" for why in group["error"].dropna()]
    meta = {
        "span_uuid": rows["clip"].iloc[0],
        "source_video": rows["path"].iloc[0],
        "duration_span": source.get("span"),
        "width_source": source.get("width"),
        "height_source": source.get("height"),
        "framerate_source": source.get("fps"),
        **({"errors": errors} if errors else {}),
        "windows": windows,
        "valid": any(f"{variant}_caption" in window for window in windows),
        "recipe": asdict(recipe),
    }
    return json.dumps(meta, ensure_ascii=False, indent=4).encode("utf-8")


def _captions(group: pd.DataFrame, variant: str, found: dict[Any, list[str]]) -> dict[str, Any]:
    captions: dict[str, Any] = {}
    texts = group.dropna(subset="text")
    for count, (index, row) in enumerate(texts.iterrows(), 1):
        if count < len(texts):
            captions[f"{variant}_stage{row['stage']}_caption"] = row["text"]
            continue
        captions[f"{variant}_caption"] = row["text"]
        if found:
            captions["checks"] = found[index]
    return captions
