"""Names of windows on the wire: in Python (video, number), on the page an index."""

from __future__ import annotations

from typing import Protocol

from captionkit.widgets.board import Board


class HasBoard(Protocol):
    """A view of a board."""

    board: Board


def ranges(indexes: list[int]) -> list[int]:
    """Pack ascending indexes as first, last, first, last, …: all of 10,000 windows are two numbers."""
    flat: list[int] = []
    for index in indexes:
        if flat and index == flat[-1] + 1:
            flat[-1] = index
        else:
            flat += [index, index]
    return flat


def selection_to_json(selection: list[tuple[str, int]], view: HasBoard) -> list[int]:
    """Pack names of windows as ranges of their indexes."""
    return ranges(sorted(view.board.index_of(*name) for name in selection))


def selection_from_json(flat: list[int], view: HasBoard) -> list[tuple[str, int]]:
    """Unpack `selection_to_json`."""
    return [
        view.board.windows[index].name
        for first, last in zip(flat[::2], flat[1::2], strict=True)
        for index in range(first, last + 1)
    ]


def value_to_json(value: tuple[str, int] | None, view: HasBoard) -> int:
    """Return the index of a window's name, -1 for None."""
    return -1 if value is None else view.board.index_of(*value)


def value_from_json(index: int, view: HasBoard) -> tuple[str, int] | None:
    """Return the name of a window's index, None for -1."""
    return None if index < 0 else view.board.windows[index].name
