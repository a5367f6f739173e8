"""Recipes at scale: Ray Data, and stages for NeMo Curator's pipelines.

Each imports its package (extras ``ray`` and ``curator``) when it is used.
"""

from __future__ import annotations

from captionkit.scale.parts import ScaleError
from captionkit.scale.ray_data import caption_videos

__all__ = ["ScaleError", "caption_videos"]
