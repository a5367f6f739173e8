"""NeMo Curator's own caption stages as a side of the benchmark, if the package is installed.

The stages decode all windows at the film's own size, then caption in blocking chunks. Their frame size
is fixed, so this case measures captionkit at the same size. Their second stage repeats the first prompt
and is left out.
"""

from __future__ import annotations

import time
import uuid
from pathlib import Path
from typing import Any

from captionkit.bench.report import version
from captionkit.bench.work import SAMPLING_FPS, Work

_VARIANT = "qwen2.5"


def is_there() -> bool:
    """Whether a version is installed that has the variant; 1.3 was the first."""
    found = version("nemo-curator")
    return found != "none" and tuple(map(int, found.split(".")[:2])) >= (1, 3)


class Curator:
    """NeMo Curator's stages, with the demo model's weights under the name of a known variant."""

    def __init__(self, model: str, **settings: Any) -> None:
        from nemo_curator.models import prompt_formatter, qwen_vl
        from nemo_curator.stages.video.caption.caption_generation import CaptionGenerationStage

        for known in (prompt_formatter.VARIANT_MAPPING, qwen_vl._QWEN_VARIANTS_INFO):
            known[_VARIANT] = str(Path(model).resolve())
        self.generation = CaptionGenerationStage(model_variant=_VARIANT, vllm_kwargs=settings)
        self.generation.setup()

    def run(self, work: Work) -> dict[str, Any]:
        """Caption a film with the windows of the work; all captions have the same length."""
        from nemo_curator.stages.video.caption.caption_preparation import CaptionPreparationStage
        from nemo_curator.tasks.video import Clip, Video, VideoTask
        from vllm import SamplingParams

        self.generation.model.sampling_params = SamplingParams(
            temperature=0, repetition_penalty=1.05, max_tokens=work.lengths[0], ignore_eos=True
        )
        self.generation.caption_batch_size = work.batch_size
        preparation = CaptionPreparationStage(
            model_variant=_VARIANT,
            prompt_text=work.prompt,
            sampling_fps=SAMPLING_FPS,
            generate_previews=False,
        )
        preparation.setup()
        path = Path(work.path)
        started = time.monotonic()
        clip = Clip(uuid=uuid.uuid4(), source_video=path.name, span=(0, 0), buffer=path.read_bytes())
        task = VideoTask(dataset_name="bench", data=Video(input_video=path, clips=[clip]))
        self.generation.process(preparation.process(task))
        texts = [[window.caption[_VARIANT]] for window in clip.windows]
        return {"seconds": time.monotonic() - started, "first_s": 0.0, "texts": texts}
