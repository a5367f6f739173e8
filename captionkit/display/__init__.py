"""Captions, windows and measurements for people: as HTML, as figures, with what differs marked."""

from captionkit.display.diff import Piece, overlap, wilson, word_diff
from captionkit.display.figures import frames_figure, png, sweep_figure
from captionkit.display.html import (
    MOST_ROWS,
    STYLE,
    Images,
    comparison_html,
    diff_cells,
    escape,
    matrix_html,
    picture,
    place,
    run_html,
    table_html,
    visible,
    windows_html,
)

__all__ = [
    "MOST_ROWS",
    "STYLE",
    "Images",
    "Piece",
    "comparison_html",
    "diff_cells",
    "escape",
    "frames_figure",
    "matrix_html",
    "overlap",
    "picture",
    "place",
    "png",
    "run_html",
    "sweep_figure",
    "table_html",
    "visible",
    "wilson",
    "windows_html",
    "word_diff",
]
