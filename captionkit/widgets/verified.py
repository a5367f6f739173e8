"""Verified: a board's shown captions, asked claim by claim whether they are true of their windows."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Iterable, Mapping

import pandas as pd

from captionkit.display import Spans
from captionkit.engine import EngineError
from captionkit.models.weights import WeightsError
from captionkit.run import Run
from captionkit.run.asking import Asking
from captionkit.run.verification import Verification
from captionkit.session import Session
from captionkit.store import StoredStage, StoreError
from captionkit.widgets.job_thread import JobThread
from captionkit.widgets.rows import Row, Rows

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

    def set_supported(self) -> list[int]:
        """Note at each window which share of its caption's claims was verified; return those with one.

        A sort by ``supported`` then lists the worst first. Slow, for a job thread.
        """
        for row in self.windows:
            row.supported = None
        found: list[int] = []
        for number, some in self._captioned_by_run(range(len(self.windows))).items():
            if (known := self._run(number).verified) is not None:
                self._take(known, some)
                found += [index for index in some if self.windows[index].supported is not None]
        return found

    def false_places(self, row: Row, run: int, caption: StoredStage) -> Spans:
        """Return the places of false claims in a stored caption of a window, if it was verified."""
        about = {"video": row.name[0], "window": row.name[1], "key": row.window.key, "repeat": 0}
        table = pd.DataFrame([{**about, "stage": caption.stage, "text": caption.text}])
        places: Mapping[int, Spans] = Run(self.session.store, run).unsupported(table)
        return places.get(0, ())

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
                asking.add_callback(self._tick)
                self._tick()
                asking.wait()
                if asking.errors:
                    self.report(next(iter(asking.errors.values())), view)
                verdicts = made.claims["verdict"].dropna()
                claims, false = claims + len(verdicts), false + int((~verdicts).sum())
                self._take(made, some)
        except (ValueError, StoreError, EngineError, WeightsError) as error:
            self.report(str(error), view)
        finally:
            self.asking = None
            self.verified = f"{claims} claims verified, {false} unsupported"
            with self._lock:
                self._ended = True
            self._tick()

    def _take(self, made: Verification, indexes: Iterable[int]) -> None:
        table = made.captions
        shares = dict(zip(table["key"], table["supported"], strict=True))
        for index in indexes:
            share = shares.get(self.windows[index].window.key, math.nan)
            self.windows[index].supported = None if math.isnan(share) else share
