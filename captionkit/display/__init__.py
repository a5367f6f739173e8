"""Captions, windows and measurements as HTML and figures, with differences marked."""

from captionkit.display.diff import Piece, marked, overlap, wilson, word_diff
from captionkit.display.figures import frames_figure, png, sweep_figure
from captionkit.display.html import (
    MOST_ROWS,
    STYLE,
    Images,
    WindowTable,
    comparison_html,
    diff_cells,
    escape,
    left_out_html,
    matrix_html,
    no_images,
    picture,
    run_html,
    table_html,
    visible,
    where,
    windows_html,
)

__all__ = [
    "MOST_ROWS",
    "STYLE",
    "Images",
    "Piece",
    "WindowTable",
    "comparison_html",
    "diff_cells",
    "escape",
    "frames_figure",
    "left_out_html",
    "marked",
    "matrix_html",
    "no_images",
    "overlap",
    "picture",
    "png",
    "run_html",
    "sweep_figure",
    "table_html",
    "visible",
    "where",
    "wilson",
    "windows_html",
    "word_diff",
]
