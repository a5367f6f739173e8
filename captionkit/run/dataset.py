"""Training sets of captions: of a run, or of a table such as Ray's rows."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from captionkit.export.dataset import DatasetExport, DatasetOptions
from captionkit.run.watch import Watched, watch
from captionkit.sources import PlannedWindow


def export_dataset(
    captions: pd.DataFrame,
    path: str | Path,
    layout: str = "sidecar",
    *,
    stage: int | None = None,
    prefer_human: bool = False,
    overwrite: bool = False,
    windows: Mapping[str, PlannedWindow] | None = None,
    **options: Any,
) -> Path:
    """Write the clips of captioned windows with their texts as a training set; return the folder.

    Each clip has exactly the frames of its window, with their sound. Shows a progress bar; an export
    that was interrupted resumes when it is called again. ``card.md`` in the folder lists what was left
    out.

    Parameters
    ----------
    captions
        Captions, with the columns of `captions.CaptionRow`: `Run.captions`, or `load_captions` of Ray's
        parts. An edited text comes before the one of stage 2, that before the one of stage 1.
    path
        The folder.
    layout
        ``sidecar``, ``videofolder``, ``musubi``, ``ltx``, ``cosmos``, ``webdataset``, ``events`` or
        ``coco``.
    stage
        Only the text of this stage.
    prefer_human
        Of a window with ratings, the stage rated best.
    overwrite
        Write into a folder that is there. Clips that stay as they are are not cut again.
    windows
        Windows of a session by key, whose films are taken instead of the rows' paths.
    options
        Filters, texts, parts and the form of clips; see `export.dataset.DatasetOptions`.

    Raises
    ------
    ExportError
        If an option does not fit, no caption is left, or the folder exists or cannot be written.
    """
    made = DatasetExport(
        captions,
        Path(path),
        DatasetOptions(layout=layout, **options),
        windows or {},
        stage=stage,
        by_rating=prefer_human,
        overwrite=overwrite,
    )
    watch(Watched("data set", made.wait, made.state, made.stop))
    return Path(path)
