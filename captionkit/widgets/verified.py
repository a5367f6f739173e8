"""Verified: a board's shown captions, asked claim by claim whether they are true of their windows."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable

import pandas as pd

from captionkit.engine import EngineError
from captionkit.models.weights import WeightsError
from captionkit.run import Run
from captionkit.run.asking import Asking
from captionkit.session import Session
from captionkit.store import StoreError
from captionkit.widgets.job_thread import JobThread
from captionkit.widgets.rows import Rows

# Captions whose claims are counted for an estimate.
_COUNTED = 100


class Verified:
    """The part of a board that verifies captions."""

    session: Session
    windows: Rows
    batch_size: Callable[[], int]
    long: JobThread
    report: Callable[[str, str], None]
    table: Callable[[Iterable[int]], pd.DataFrame]
    refresh: Callable[[Iterable[int]], None]
    _tick: Callable[[], None]
    _lock: threading.Lock
    _ended: bool

    #: Questions under way.
    asking: Asking | None = None
    #: How the last verification ended, in words.
    verified = ""
    _asked = 0

    def verify(self, indexes: Iterable[int], view: str = "browser") -> None:
        """Begin to verify the shown captions of some windows, each in its run; returns at once.

        Raises
        ------
        ValueError
            If no window among them has a caption.
        """
        by_run = self._captioned_by_run(indexes)
        self._asked += 1
        number, self.verified = self._asked, ""
        self.report("", view)
        self.long.submit("verify", lambda: self._verify(by_run, number, view))

    def cost_of_verify(self, indexes: Iterable[int]) -> str:
        """Return what `verify` would ask, in words; of many captions, by a sample.

        Slow, for a job thread.
        """
        asked = captions = 0
        try:
            by_run = self._captioned_by_run(indexes)
        except ValueError:
            return ""
        for number, some in by_run.items():
            captions += len(some)
            sample = some[:: max(1, len(some) // _COUNTED)]
            made = self._run(number).verification(windows=self.table(sample))
            asked += round(made.cost.questions * len(some) / len(sample))
        if not asked:
            return f"{captions} captions are verified"
        return f"to verify {captions} captions asks about {asked:,} questions"

    def load_supported(self) -> list[int]:
        """Read verdicts again, since a notebook may have verified; return windows with a share.

        A sort by ``supported`` lists the worst first. Slow, for a job thread.
        """
        self.refresh(range(len(self.windows)))
        return [index for index, row in enumerate(self.windows) if row.supported is not None]

    def stop_asking(self) -> None:
        """Stop questions under way and those that wait; answers stay."""
        self._asked += 1
        if (asking := self.asking) is not None:
            asking.cancel()

    def _run(self, number: int) -> Run:
        return Run(self.session.store, number, self.session)

    def _captioned_by_run(self, indexes: Iterable[int]) -> dict[int, list[int]]:
        by_run: dict[int, list[int]] = {}
        for index in indexes:
            row = self.windows[index]
            if row.run is not None and row.text and row.state == "done":
                by_run.setdefault(row.run, []).append(index)
        if not by_run:
            raise ValueError("there is no finished caption to verify; caption first")
        return by_run

    def _verify(self, by_run: dict[int, list[int]], number: int, view: str) -> None:
        claims = false = 0
        try:
            for run, some in by_run.items():
                if number != self._asked:
                    break
                asking, made = self._run(run).start_verify(
                    windows=self.table(some), batch_size=self.batch_size()
                )
                self.asking = asking
                if number != self._asked:
                    # Stopped while it started.
                    asking.cancel()
                asking.add_callback(self._tick)
                self._tick()
                asking.wait()
                if asking.errors:
                    self.report(next(iter(asking.errors.values())), view)
                verdicts = made.claims["verdict"].dropna()
                claims, false = claims + len(verdicts), false + int((~verdicts).sum())
                self.refresh(some)
        except (ValueError, StoreError, EngineError, WeightsError) as error:
            self.report(str(error), view)
        finally:
            self.asking = None
            self.verified = f"{claims} claims verified, {false} unsupported"
            with self._lock:
                self._ended = True
            self._tick()
