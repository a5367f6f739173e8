"""Admission of requests to an unpatched vLLM: number, order, and cancellation."""

from __future__ import annotations

import asyncio
import threading

import pytest

from captionkit.engine.admission import Admission


class Line:
    """Requests of an `Admission`; each holds its permit until its event is set."""

    def __init__(self):
        self.admission = Admission()
        self.order: list[str] = []
        self.running: set[str] = set()
        self._ends: dict[str, asyncio.Event] = {}
        self._tasks: dict[str, asyncio.Task] = {}

    async def add(self, name: str, priority: int = 0, batch_size: int = 1) -> None:
        self._ends[name] = asyncio.Event()
        self._tasks[name] = asyncio.create_task(self._hold(name, priority, batch_size))
        await settle()

    async def _hold(self, name: str, priority: int, batch_size: int) -> None:
        async with self.admission.permit(priority, batch_size):
            self.order.append(name)
            self.running.add(name)
            try:
                await self._ends[name].wait()
            finally:
                self.running.discard(name)

    async def end(self, *names: str) -> None:
        for name in names:
            self._ends[name].set()
            await self._tasks[name]
        await settle()

    async def cancel(self, name: str) -> None:
        self._tasks[name].cancel()
        await asyncio.gather(self._tasks[name], return_exceptions=True)
        await settle()

    async def end_all(self) -> None:
        for event in self._ends.values():
            event.set()
        await asyncio.gather(*self._tasks.values(), return_exceptions=True)


async def settle() -> None:
    """Let every ready task run."""
    for _ in range(10):
        await asyncio.sleep(0)


def test_at_most_the_batch_size_is_admitted_and_the_next_when_one_ends():
    async def check():
        line = Line()
        for name in "abcd":
            await line.add(name, batch_size=2)
        assert line.running == {"a", "b"}
        await line.end("a")
        assert line.running == {"b", "c"}
        await line.end("b", "c")
        assert line.running == {"d"}
        await line.end_all()

    asyncio.run(check())


def test_the_lowest_priority_value_goes_first_then_the_order_of_arrival():
    async def check():
        line = Line()
        for name, priority in (("first", 0), ("a", 0), ("b", 1), ("c", 0), ("looked at", -1)):
            await line.add(name, priority)
        for name in ("first", "looked at", "a", "c", "b"):
            assert line.running == {name}
            await line.end(name)

    asyncio.run(check())


def test_the_newest_request_decides_how_many_run():
    async def check():
        line = Line()
        for name in "abc":
            await line.add(name, batch_size=1)
        await line.add("d", batch_size=3)
        assert line.running == {"a", "b", "c"}
        # A lower limit takes effect as requests end.
        await line.add("e", batch_size=1)
        assert line.running == {"a", "b", "c"}
        await line.end("a", "b")
        assert line.running == {"c"}
        await line.end("c")
        assert line.running == {"d"}
        await line.end_all()
        assert line.order == list("abcde")

    asyncio.run(check())


@pytest.mark.parametrize("cancelled", ["running", "waiting"])
def test_a_cancelled_request_passes_its_permit_to_the_next(cancelled):
    async def check():
        line = Line()
        for name in ("running", "waiting", "next", "last"):
            await line.add(name)
        await line.cancel(cancelled)
        for name in [each for each in ("running", "waiting", "next", "last") if each != cancelled]:
            assert line.running == {name}
            await line.end(name)

    asyncio.run(check())


def test_a_permit_that_comes_while_its_request_is_cancelled_is_not_lost():
    async def check():
        line = Line()
        for name in ("running", "cancelled", "next"):
            await line.add(name)
        # The permit is granted and the request is cancelled before its task can run.
        line._ends["running"].set()
        await line._tasks["running"]
        await line.cancel("cancelled")
        assert line.running == {"next"}
        await line.end_all()

    asyncio.run(check())


def test_the_limit_holds_for_all_event_loops_together():
    admission, most, running = Admission(), [], []

    async def one() -> None:
        async with admission.permit(0, 2):
            running.append(None)
            most.append(len(running))
            await asyncio.sleep(0.001)
            running.pop()

    async def several() -> None:
        await asyncio.gather(*(one() for _ in range(20)))

    threads = [threading.Thread(target=asyncio.run, args=(several(),)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert len(most) == 80
    assert max(most) <= 2
