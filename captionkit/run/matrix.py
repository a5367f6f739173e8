"""Captions of several prompts on the same windows, one column for each prompt."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import pandas as pd

from captionkit import display
from captionkit.display import Images, TextTable
from captionkit.review import mean_scores, scores
from captionkit.run.run import Run, last_stages


@dataclass(frozen=True)
class Matrix:
    """The final captions of several prompts; a notebook shows the matrix as HTML.

    ``runs`` maps each prompt to its run.
    """

    runs: Mapping[str, Run]
    images: Images = field(repr=False, default=display.no_images)

    @property
    def table(self) -> pd.DataFrame:
        """One row for each window (index video, window), one column for each prompt; None if failed."""
        return _columns({prompt: run.captions for prompt, run in self.runs.items()})

    def scores(self, reference: Run) -> pd.DataFrame:
        """Compare each prompt with a reference: one row a prompt, with the means of `Run.scores`.

        The columns are windows (with a reference) and `review.MEASURES`; the prompt nearest to the
        reference comes first.
        """
        rows = {}
        for prompt, run in self.runs.items():
            measured = scores(run.final, reference.human)
            means = mean_scores(measured.assign(prompt=prompt), ["prompt"]).loc[prompt]
            rows[prompt] = {"windows": len(measured), **means}
        return TextTable.from_dict(rows, orient="index").sort_values("overlap", ascending=False)

    @property
    def keys(self) -> dict[tuple[str, int], str]:
        """Keys of the windows by (video, number)."""
        return {
            (video, number): key
            for run in self.runs.values()
            for key, video, number in run.store.results.names(run.id)
        }

    def _repr_html_(self) -> str:
        heads = {prompt: run.head() for prompt, run in self.runs.items()}
        keys = {
            (row.video, row.window): row.key for table in heads.values() for row in table.itertuples()
        }
        total = max((run.progress.total // run.repeats for run in self.runs.values()), default=0)
        return display.matrix_html(_columns(heads), keys, self.images, total)


def _columns(captions: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """Return the last stage of each window, one column for each prompt."""
    columns = {
        prompt: last_stages(table).set_index(["video", "window"])["text"]
        for prompt, table in captions.items()
    }
    return TextTable(pd.concat(columns, axis=1, sort=False))
