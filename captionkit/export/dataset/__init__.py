"""Training sets: clips of captioned windows beside their texts, in the layouts that trainers read."""

from captionkit.export.dataset.export import DatasetExport
from captionkit.export.dataset.layouts import LAYOUTS, Layout
from captionkit.export.dataset.options import DatasetOptions

__all__ = ["LAYOUTS", "DatasetExport", "DatasetOptions", "Layout"]
