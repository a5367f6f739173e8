"""Recipes at scale: Ray Data, and stages for NeMo Curator's pipelines.

Ray (extra ``ray``) is imported at its first use; `scale.nemo_curator` needs the extra ``curator``.
"""

from __future__ import annotations

from captionkit.scale.batches import map_batches
from captionkit.scale.parts import ScaleError
from captionkit.scale.ray_data import caption_videos

__all__ = ["ScaleError", "caption_videos", "map_batches"]
