"""One caption for a whole film, merged from the captions of its windows."""

from __future__ import annotations

import abc
from typing import Any

import pandas as pd

from captionkit.run.run import Run
from captionkit.session.imports import SessionImports
from captionkit.sources import PlannedWindow

SUMMARY = (
    "Here are captions of this video's parts, in order:\n{caption}\n"
    "Write one caption of the whole video that keeps what matters and says nothing twice."
)
# Frames of a film that the model sees beside the captions: enough to check them, few in an hour.
_MOST_FRAMES = 64


class SessionSummaries(SessionImports):
    """What a session makes of whole films; a part of `Session`."""

    @abc.abstractmethod
    def recut(
        self,
        window_size: int | None = None,
        cut: Any = None,
        window_seconds: float | None = None,
    ) -> SessionSummaries:
        """Return a session on the same videos and store."""

    @abc.abstractmethod
    def close(self) -> None:
        """Stop all work."""

    def summarize(self, run: Run, prompt: str = SUMMARY, **settings: Any) -> Run:
        """Merge the captions of each film's windows into one; return the run of the summaries.

        The run has one window a film. Stage 1 is the list of the film's captions with their times, as
        people edited them, and stage 2 the summary, for which the model sees that list and up to 64
        frames of the film; with ``text_only=True`` it sees the list alone. The same captions are not
        summarized twice.

        Parameters
        ----------
        run
            A run of this session.
        prompt
            Text of the summary; ``{caption}`` is the list.
        settings
            Other fields of `Recipe`, such as ``max_tokens``.

        Raises
        ------
        ValueError
            If the run has no caption of this session's films.
        """
        table = run.human.dropna(subset="text").drop_duplicates("key").sort_values("start_s")
        own = table[table["key"].isin([window.key for window in self])]
        shown = [self.sources.by_key[key].source.metadata for key in own["key"]]
        if not shown:
            raise ValueError(f"run {run.id} has no caption of this session's films")
        longest = max(each.duration for each in shown)
        films = self.recut(window_size=max(each.num_frames for each in shown), cut="frames")
        try:
            texts = [(film, text) for film in films if (text := _listed(own, film))]
            listed = Run(self.store, films.keep_texts(f"captions of run {run.id}", texts))
            few = min(self.recipe.sampling_fps, _MOST_FRAMES / longest)
            made = films.correct(listed, prompt, **{"sampling_fps": few, **settings})
        finally:
            films.close()
        self.store.note_run(made.id, f"summaries of the films of run {run.id}")
        return Run(self.store, made.id)


def _listed(captions: pd.DataFrame, film: PlannedWindow) -> str:
    """Return the captions of a film's windows, a line each."""
    inside = (captions["start_s"] < film.end_s) & (captions["end_s"] > film.start_s)
    return "\n".join(
        f"{row.start_s:.1f} to {row.end_s:.1f} s: {' '.join(row.text.split())}"
        for row in captions[inside & (captions["path"] == film.path)].itertuples()
    )
