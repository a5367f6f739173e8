"""Widgets for notebooks: everything that the sessions API can do, by hand."""

from captionkit.widgets.browser import Browser
from captionkit.widgets.compare import CompareView
from captionkit.widgets.export import ExportPanel
from captionkit.widgets.search_view import SearchView
from captionkit.widgets.sweep_view import SweepView
from captionkit.widgets.tuner import Tuner
from captionkit.widgets.workbench_view import Workbench, workbench

__all__ = [
    "Browser",
    "CompareView",
    "ExportPanel",
    "SearchView",
    "SweepView",
    "Tuner",
    "Workbench",
    "workbench",
]
