"""Run NeMo Curator's own stages around captionkit's two, from its reader to its writer.

One clip of each video is corrupted on the way. With ``enhanced``, NeMo Curator's enhancement follows
with a tiny model of random weights: what it writes is noise. It is for runs by hand, since it takes
100 s more: Ray's processes import vLLM.

``python tests/curator_pipeline.py VIDEOS OUTPUT [ray|xenna] [enhanced]``; a program, so that Ray's
processes end with it.
"""

from __future__ import annotations

import sys
from pathlib import Path

import ray
from nemo_curator.backends.ray_data import RayDataExecutor
from nemo_curator.backends.xenna import XennaExecutor
from nemo_curator.pipeline import Pipeline
from nemo_curator.stages.base import ProcessingStage
from nemo_curator.stages.resources import Resources
from nemo_curator.stages.video.clipping.clip_extraction_stages import (
    ClipTranscodingStage,
    FixedStrideExtractorStage,
)
from nemo_curator.stages.video.io.clip_writer import ClipWriterStage
from nemo_curator.stages.video.io.video_reader import VideoReader
from nemo_curator.stages.video.preview.preview import PreviewStage
from nemo_curator.tasks.video import VideoTask

import captionkit as ck
from captionkit.engine.torch_companions import reconcile
from captionkit.scale.nemo_curator import CaptionGenerationStage, CaptionPreparationStage

DEMO = str(Path(__file__).parents[1] / "data" / "demo-model")


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


class TinyModel:
    """A text model of two layers, for `QwenLM` of NeMo Curator, which would load vLLM once more."""

    def __init__(self):
        import torch
        from transformers import AutoTokenizer, Qwen2Config, Qwen2ForCausalLM

        self._tokenizer = AutoTokenizer.from_pretrained(DEMO, padding_side="left")
        torch.manual_seed(0)
        self._model = Qwen2ForCausalLM(
            Qwen2Config(
                vocab_size=len(self._tokenizer),
                hidden_size=32,
                intermediate_size=64,
                num_hidden_layers=2,
                num_attention_heads=2,
                num_key_value_heads=2,
            )
        )

    def generate(self, inputs):
        texts = self._tokenizer.apply_chat_template(inputs, tokenize=False, add_generation_prompt=True)
        tokens = self._tokenizer(texts, padding=True, return_tensors="pt")
        made = self._model.generate(**tokens, max_new_tokens=8, do_sample=False)
        new = made[:, tokens["input_ids"].shape[1] :]
        return self._tokenizer.batch_decode(new, skip_special_tokens=True)


def enhancement(model: str) -> ProcessingStage:
    """NeMo Curator's stage with a tiny model."""
    # Before vLLM, which NeMo Curator imports; Ray's processes do likewise.
    reconcile()
    from nemo_curator.stages.video.caption.caption_enhancement import CaptionEnhancementStage

    class Enhancement(CaptionEnhancementStage):
        def setup_on_node(self, node_info=None, worker_metadata=None):
            pass

        def _initialize_model(self):
            self.model = TinyModel()

    return Enhancement(captioning_model_variant=model).with_(resources=Resources(cpus=1.0))


def main(videos: str, output: str, executor: str = "ray", enhanced: str = "") -> None:
    # Share cores: each of Curator's stages takes a whole core, and small machines have two.
    hook = {"worker_process_setup_hook": f"{reconcile.__module__}.{reconcile.__name__}"}
    ray.init(
        num_cpus=10,
        include_dashboard=executor == "xenna",
        runtime_env=hook if enhanced else None,
    )
    recipe = ck.Recipe(prompt="short", stage2="Add what is missing: {caption}")
    pipeline = Pipeline(name="captionkit")
    pipeline.add_stage(VideoReader(input_video_path=videos))
    pipeline.add_stage(FixedStrideExtractorStage(4.3, 4.3, min_clip_length_s=2.0, limit_clips=0))
    pipeline.add_stage(ClipTranscodingStage(encoder="libvpx-vp9", num_cpus_per_worker=1.0))
    pipeline.add_stage(Corrupt())
    pipeline.add_stage(CaptionPreparationStage.from_recipe(recipe))
    pipeline.add_stage(PreviewStage(num_cpus_per_worker=1.0))
    pipeline.add_stage(CaptionGenerationStage.from_recipe(recipe))
    if enhanced:
        pipeline.add_stage(enhancement(recipe.model))
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
            enhanced_caption_models=["qwen_lm"] if enhanced else [],
        )
    )
    pipeline.run({"ray": RayDataExecutor, "xenna": XennaExecutor}[executor]())


if __name__ == "__main__":
    main(*sys.argv[1:])
