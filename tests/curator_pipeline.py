"""Run NeMo Curator's reader, stride, previews and writer with captionkit's stages, on Curator's Ray.

One clip of each video is corrupted on the way.

``python tests/curator_pipeline.py VIDEOS OUTPUT``; a program, so that Ray's processes end with it.
"""

from __future__ import annotations

import sys

import ray
from nemo_curator.backends.ray_data import RayDataExecutor
from nemo_curator.pipeline import Pipeline
from nemo_curator.stages.base import ProcessingStage
from nemo_curator.stages.video.clipping.clip_extraction_stages import (
    ClipTranscodingStage,
    FixedStrideExtractorStage,
)
from nemo_curator.stages.video.io.clip_writer import ClipWriterStage
from nemo_curator.stages.video.io.video_reader import VideoReader
from nemo_curator.stages.video.preview.preview import PreviewStage
from nemo_curator.tasks.video import VideoTask

import captionkit as ck
from captionkit.scale.nemo_curator import CaptionGenerationStage, CaptionPreparationStage


class Corrupt(ProcessingStage[VideoTask, VideoTask]):
    """Replaces the bytes of the second clip."""

    name = "corrupt"

    def inputs(self):
        return ["data"], ["clips"]

    def outputs(self):
        return ["data"], ["clips"]

    def process(self, task):
        task.data.clips[1].buffer = b"no video at all"
        return task


def main(videos: str, output: str) -> None:
    # Share cores: each of Curator's stages takes a whole core, and small machines have two.
    ray.init(num_cpus=8, include_dashboard=False)
    recipe = ck.Recipe(prompt="short", stage2="Add what is missing: {caption}")
    pipeline = Pipeline(name="captionkit")
    pipeline.add_stage(VideoReader(input_video_path=videos))
    pipeline.add_stage(FixedStrideExtractorStage(8.5, 8.5, min_clip_length_s=2.0, limit_clips=0))
    pipeline.add_stage(ClipTranscodingStage(encoder="libvpx-vp9", num_cpus_per_worker=1.0))
    pipeline.add_stage(Corrupt())
    pipeline.add_stage(CaptionPreparationStage.from_recipe(recipe))
    pipeline.add_stage(PreviewStage(num_cpus_per_worker=1.0))
    pipeline.add_stage(CaptionGenerationStage.from_recipe(recipe))
    pipeline.add_stage(
        ClipWriterStage(
            output_path=output,
            input_path=videos,
            upload_clips=False,
            dry_run=False,
            generate_embeddings=False,
            generate_previews=True,
            generate_captions=True,
            caption_models=[recipe.model, f"{recipe.model}_stage1"],
            enhanced_caption_models=[],
        )
    )
    pipeline.run(RayDataExecutor())


if __name__ == "__main__":
    main(*sys.argv[1:])
