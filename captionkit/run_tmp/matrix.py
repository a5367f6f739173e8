"""Prompts against windows: one column a prompt.

Imports runs; called by sessions.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import pandas as pd

from captionkit.display import html as display
from captionkit.display import Images
from captionkit.runs.run import Run


@dataclass(frozen=True)
class Matrix:
    """The final captions of several prompts; shows itself as HTML in a notebook.

    ``runs`` maps each prompt to its run.
    """

    runs: Mapping[str, Run]
    images: Images = field(repr=False, default=lambda video, window: None)

    @property
    def table(self) -> pd.DataFrame:
        """One row a window (index video, window), one column a prompt; None where one failed."""
        columns = {
            prompt: run.final.set_index(["video", "window"])["text"]
            for prompt, run in self.runs.items()
        }
        return pd.concat(columns, axis=1, sort=False)

    def _repr_html_(self) -> str:
        return display.matrix_html(self.table, self.images)
