"""Questions about windows under way: asked in the background, stored one by one."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import CancelledError, wait
from concurrent.futures import TimeoutError as FutureTimeoutError
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

from captionkit.engine import Backend
from captionkit.pipeline.backends import open_backend
from captionkit.pipeline.questions import Words, ask
from captionkit.recipe import Recipe
from captionkit.run.watch import Watched, watch
from captionkit.sources import PlannedWindow, Sources
from captionkit.store import Store
from captionkit.system import loop

logger = logging.getLogger(__name__)

#: Name of the model of imported captions, which cannot be asked.
IMPORTED = "imported"
# A window with the questions about it.
Questions = Sequence[tuple[str, Sequence[str]]]


class Askable(Protocol):
    """Whoever has windows and a model: a `session.Session`."""

    sources: Sources
    recipe: Recipe
    batch_size: int
    model_dir: str

    def find_windows(self, keys: Iterable[str], run: int) -> Mapping[str, PlannedWindow]:
        """Return the windows of a run by key."""

    def open_backend(self, recipe: Recipe, stop: threading.Event | None = None) -> Backend:
        """Start the backend of a recipe; the event ends the start."""

    def keep(self, asking: Asking) -> None:
        """Cancel questions that are under way when the session closes."""


@dataclass(frozen=True)
class Asker:
    """Who is asked: a recipe for model and frames, and where the model is.

    Parameters
    ----------
    recipe
        Model and frames; its prompt stands for any question.
    endpoint
        Address of a server, or None.
    session
        A session whose model is asked, instead of the one that has the windows.
    """

    recipe: Recipe
    endpoint: str | None = None
    session: Askable | None = field(default=None, compare=False)

    @classmethod
    def of(cls, by: str | Askable | None, cut: Recipe, own: Askable | None) -> Asker:
        """Return whom ``by`` names.

        Parameters
        ----------
        by
            None for the model of the captions, a model's name, an address as
            ``http://localhost:8000/v1``, or a session with another model.
        cut
            Recipe of the captions, whose windows and frames are asked about.
        own
            The session of the captions.

        Raises
        ------
        TypeError
            If ``by`` is something else.
        """
        base, endpoint, session = cut, None, None
        if cut.model == IMPORTED and own is not None:
            base = own.recipe
        if isinstance(by, str):
            if "://" in by:
                endpoint = by
            else:
                base = replace(base, model=by)
        elif by is not None:
            if not hasattr(by, "open_backend"):
                raise TypeError(
                    f"by is {by!r:.60}; give a model's name, an address such as "
                    "http://localhost:8000/v1, or a Session with the model"
                )
            base, session = by.recipe, by
        # Everything else decides captions, not answers.
        recipe = Recipe(
            model=base.model,
            sampling_fps=base.sampling_fps,
            pixel_budget=base.pixel_budget,
            # A server has its own precision.
            fp8=base.fp8 and endpoint is None,
            window_size=cut.window_size,
            remainder_threshold=cut.remainder_threshold,
            window_seconds=cut.window_seconds,
            temperature=0,
            repetition_penalty=1,
        )
        return cls(recipe, endpoint, session)

    def open(self, own: Askable, stop: threading.Event) -> Backend:
        """Start the model, or take the running one; ``own`` is the session of the windows."""
        if self.endpoint is not None:
            return open_backend(self.recipe, model_dir=own.model_dir, endpoint=self.endpoint, stop=stop)
        return (self.session or own).open_backend(self.recipe, stop)


class Asking:
    """Work under way on questions; starts at construction. Answers are stored as they come.

    Parameters
    ----------
    store
        Store of the answers.
    asker
        Who is asked.
    words
        The words of each answer.
    questions
        Window keys, each with the texts to ask.
    session
        Whose windows they are.
    run
        The run that the windows belong to, for messages.
    batch_size
        Questions that run at once; None takes the session's number.
    tokens
        Longest answer where probabilities tell.
    on_open
        Called once the model is there, or nothing is to be asked.
    """

    def __init__(
        self,
        store: Store,
        asker: Asker,
        words: Words,
        questions: Questions,
        session: Askable,
        run: int,
        *,
        batch_size: int | None = None,
        tokens: int = 1,
        on_open: Callable[[], object] = lambda: None,
    ) -> None:
        self._store, self._asker, self._words = store, asker, words
        self._session, self._run_id = session, run
        self._questions = questions
        self._batch_size = batch_size or session.batch_size
        self._tokens, self._on_open = tokens, on_open
        self.total = sum(len(texts) for _, texts in questions)
        #: Questions that were answered or failed.
        self.done = 0
        #: Errors by window key and question.
        self.errors: dict[tuple[str, str], str] = {}
        self._cancelled = threading.Event()
        self._callbacks: list[Callable[[], object]] = []
        self._stop: Callable[[], object] | None = None
        self._lock = threading.Lock()
        session.keep(self)
        self._future = loop.submit(self._run())

    def __repr__(self) -> str:
        return f"<Asking {self}>"

    def __str__(self) -> str:
        failed = f", {len(self.errors)} failed" if self.errors else ""
        return f"{self.done} of {self.total} questions answered{failed}"

    @property
    def running(self) -> bool:
        """Whether the work is still under way."""
        return not self._future.done()

    def add_callback(self, callback: Callable[[], object]) -> None:
        """Call a function after each answer, and at the end, in another thread."""
        self._callbacks.append(callback)
        self._future.add_done_callback(lambda _: callback())

    def wait(self, timeout_s: float | None = None) -> bool:
        """Wait until the work has ended; return whether it has.

        Raises
        ------
        EngineError, WeightsError, StoreError, ValueError
            If the work could not start or continue.
        """
        try:
            self._future.result(timeout_s)
        except CancelledError:
            pass
        except FutureTimeoutError:
            if self._future.done():
                raise
            return False
        return True

    def cancel(self) -> None:
        """Stop and wait until the work has ended; answers stay."""
        with self._lock:
            self._cancelled.set()
            if self._stop is not None:
                self._stop()
        wait([self._future])

    def follow(self, name: str) -> None:
        """Wait with a progress bar; an interrupt stops the work and keeps the answers."""
        watch(Watched(name, self.wait, lambda: (self.done, self.total, str(self)), self.cancel))

    async def _run(self) -> None:
        task, here = asyncio.current_task(), asyncio.get_running_loop()
        assert task is not None
        with self._lock:
            self._stop = lambda: here.call_soon_threadsafe(task.cancel)
        if self._cancelled.is_set():
            return
        if not self._questions:
            self._on_open()
            return
        known = await asyncio.to_thread(
            self._session.find_windows, [key for key, _ in self._questions], self._run_id
        )
        # Load in a thread: loading takes seconds to minutes, and other work shares the loop.
        backend = await asyncio.to_thread(self._asker.open, self._session, self._cancelled)
        self._on_open()
        asked = ask(
            ((known[key], texts) for key, texts in self._questions),
            self._words,
            self._asker.recipe,
            backend,
            self._session.sources.pool,
            batch_size=self._batch_size,
            tokens=self._tokens,
        )
        last = time.monotonic()
        async with contextlib.aclosing(asked):
            async for each in asked:
                if each.reply is None:
                    self.errors[each.window.key, each.question] = each.error or "no answer"
                else:
                    now = time.monotonic()
                    self._store.answers.add(
                        each.window.key, self._asker.recipe.key, each.question, each.reply, now - last
                    )
                    last = now
                self.done += 1
                for callback in self._callbacks:
                    self._call(callback)

    def _call(self, callback: Callable[[], Any]) -> None:
        try:
            callback()
        except Exception:
            logger.exception("a callback of questions about run %d failed", self._run_id)
