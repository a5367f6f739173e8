"""BlindView: two captions of a window, without their runs' names; choose the better one."""

from __future__ import annotations

from typing import Any

import ipywidgets as widgets

from captionkit.display import escape
from captionkit.review import AB, Choice
from captionkit.run import Run, ab
from captionkit.widgets.board import Board
from captionkit.widgets.parts import bad, flow, wide


class BlindView(widgets.VBox):
    """Pairs in random order with random sides; each choice is stored at once.

    A part of the compare view, which closes it.

    Parameters
    ----------
    board
        Whose store keeps the choices.
    run_a, run_b
        Where the two runs are chosen.
    """

    def __init__(self, board: Board, run_a: widgets.Dropdown, run_b: widgets.Dropdown) -> None:
        self._board = board
        self._runs = run_a, run_b
        self.ab: AB | None = None
        self._named: tuple[int | None, int | None] = (None, None)
        self.begin = widgets.Button(description="Begin", layout=wide("auto"))
        self.begin.on_click(lambda _: self._begin())
        self.note = widgets.HTML()
        self.left, self.right = (
            widgets.HTML(layout=widgets.Layout(flex="1 1 20em", min_width="0", padding="2px"))
            for _ in range(2)
        )
        self.pair = widgets.HBox(
            [self.left, self.right], layout=widgets.Layout(width="100%", flex_flow="row wrap")
        )
        self.choices = []
        for text, choice in (("Left is better", "left"), ("Tie", "tie"), ("Right is better", "right")):
            button = widgets.Button(description=text, layout=wide("auto"))
            button.on_click(lambda _, choice=choice: self._choose(choice))
            self.choices.append(button)
        self._choosing = widgets.HBox(self.choices, layout=flow())
        super().__init__(
            [self.begin, self.note, self.pair, self._choosing],
            layout=widgets.Layout(width="100%"),
        )
        self._show()

    def _begin(self) -> None:
        store, (a, b) = self._board.session.store, (each.value for each in self._runs)
        try:
            if a is None or a == b:
                raise ValueError("these are not two runs; caption with two prompts and choose both")
            self._named = a, b
            self.ab = ab(Run(store, a), Run(store, b))
        except (ValueError, KeyError) as error:
            self.ab = None
            self._show()
            self.note.value = bad(str(error.args[0]))
            return
        self._show()

    def _choose(self, choice: Choice) -> None:
        if self.ab is not None and (left := self.ab.open_pairs):
            self.ab.choose(left[0], choice)
            self._show()

    def _show(self) -> None:
        left = [] if self.ab is None else self.ab.open_pairs
        for part in (self.pair, self._choosing):
            part.layout.display = None if left else "none"
        if self.ab is None:
            self.note.value = '<div class="ck-note">Choose two runs and begin.</div>'
            return
        if not left:
            names = self._named
            self.note.value = f'<div role="status">{escape(_summary(names, self.ab.result))}</div>'
            return
        pair, number = self.ab.pairs[left[0]], len(self.ab) - len(left) + 1
        where = f"{pair.video}, window {pair.window}: pair {number} of {len(self.ab)}"
        self.note.value = f'<div role="status"><b>{escape(where)}</b></div>'
        for side, text in ((self.left, pair.left), (self.right, pair.right)):
            side.value = f'<div class="ck-side"><div class="t">{escape(text)}</div></div>'


def _summary(names: tuple[int | None, int | None], result: dict[str, Any]) -> str:
    share = f"{result['win_rate']:.0%} ({result['low']:.0%} to {result['high']:.0%})"
    return (
        f"Run {names[0]} was better {result['a']} times, run {names[1]} {result['b']} times, "
        f"{result['tie']} ties: run {names[0]} wins {share}."
    )
