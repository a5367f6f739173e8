"""Inputs of windows, to and from the formats of NeMo Curator's own stages.

From version 1.3 its inputs hold the whole prompt in the model's chat format and the frames as decoded,
with their times. Up to 1.2 they hold frames that are resized and normalised, without times.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
import warnings
from typing import Any

import numpy as np
from numpy.typing import NDArray

from captionkit import prompts
from captionkit.engine import RequestError
from captionkit.models.variants import get_variant
from captionkit.recipe import Recipe
from captionkit.stages import LlmInputs

# Holds captionkit's own inputs, less frames and prompt, inside those of NeMo Curator.
_OURS = "captionkit"
_USERS_TURN = re.compile(r"<\|vision_end\|>(.*)<\|im_end\|>\s*<\|im_start\|>assistant\s*\Z", re.DOTALL)
_CHAT_MARKS = re.compile(r"<\|[^<>|\s]{1,64}\|>|<video>|<image>|\[INST\]|<s>")
_VIDEO = "<|im_start|>user\n<|vision_start|><|video_pad|><|vision_end|>"
_ANSWER = "<|im_end|>\n<|im_start|>assistant\n"
# What the chat templates of the models that NeMo Curator knows begin with, by its names.
_SYSTEM = {"qwen2.5": "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n", "qwen3": ""}
# Mean and deviation of CLIP's colours, with which versions up to 1.2 normalise frames.
_MEAN = np.array([0.48145466, 0.4578275, 0.40821073]).reshape(3, 1, 1)
_DEVIATION = np.array([0.26862954, 0.26130258, 0.27577711]).reshape(3, 1, 1)
# Whole numbers that normalised colours, which lie between -2 and 3, become as uint8.
_CUT_OFF = (0, 1, 2, 254, 255)
_DEFAULT_FPS = 2.0
_NO_TIMES = (
    "these windows hold frames without times, as NeMo Curator up to 1.2 makes them: they are told to "
    "the model as 2 frames a second; sample at sampling_fps=2, or prepare with captionkit's "
    "CaptionPreparationStage"
)


def to_curator(inputs: LlmInputs, name: str) -> dict[str, Any]:
    """Return inputs that NeMo Curator's own generation from 1.3 captions as well as captionkit's.

    Parameters
    ----------
    inputs
        Inputs from `stages.CaptionPreparationStage`, with frames.
    name
        Model by NeMo Curator's name; inputs of other models stay as they are.
    """
    frames = inputs["multi_modal_data"]["video"]
    if name not in _SYSTEM or frames is None:
        return dict(inputs)
    told = inputs["video_metadata"]
    own = {key: value for key, value in inputs.items() if key != "multi_modal_data"}
    return {
        "prompt": f"{_SYSTEM[name]}{_VIDEO}{prompts.disarm(inputs['prompt'])}{_ANSWER}",
        "multi_modal_data": {"video": (np.ascontiguousarray(frames.transpose(0, 2, 3, 1)), told)},
        "multi_modal_uuids": inputs["multi_modal_uuids"],
        _OURS: own,
    }


def is_foreign(inputs: Any) -> bool:
    """Return whether NeMo Curator's own preparation made these inputs."""
    return isinstance(inputs, dict) and _OURS not in inputs and "values" not in inputs


def from_curator(
    inputs: Any, recipe: Recipe, values: dict[str, str], *, model_resizes: bool = False
) -> LlmInputs:
    """Return inputs for captionkit's generation.

    Parameters
    ----------
    inputs
        Inputs of captionkit's preparation or of NeMo Curator's own.
    recipe
        Decides the size of foreign frames.
    values
        Placeholders of a stage-2 text, as far as they are known for foreign inputs.
    model_resizes
        Leave frames at their size, for the model's processor.

    Raises
    ------
    RequestError
        If inputs lack an entry or have a format that cannot be read back exactly.
    """
    if not isinstance(inputs, dict):
        raise RequestError(f"the window's inputs are a {type(inputs).__name__}; give a dict")
    try:
        return _read(inputs, recipe, values, model_resizes=model_resizes)
    except RequestError:
        raise
    # What a stranger's stage made may have any shape, and costs its own window only.
    except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
        lacks = f"lack {error}" if isinstance(error, KeyError) else f"cannot be read ({error})"
        raise RequestError(
            f"the window's inputs {lacks}; make them with a CaptionPreparationStage"
        ) from error


def _read(
    inputs: dict[str, Any], recipe: Recipe, values: dict[str, str], *, model_resizes: bool
) -> LlmInputs:
    if _OURS in inputs:
        video = inputs["multi_modal_data"]["video"][0]
        frames = np.ascontiguousarray(np.asarray(video).transpose(0, 3, 1, 2))
        own: LlmInputs = inputs[_OURS]
        return {**own, "multi_modal_data": {"video": frames}}
    if not is_foreign(inputs):
        return inputs  # type: ignore[return-value]
    prompt, video = inputs["prompt"], inputs["multi_modal_data"]["video"]
    if isinstance(video, list) and len(video) == 1 and isinstance(video[0], tuple):
        # vLLM takes a list of videos as well.
        (video,) = video
    told = None
    if isinstance(video, tuple):
        video, told = video
    frames = _pixels(video, channels_last=told is not None)
    if not model_resizes:
        frames = _resized(frames, recipe)
    metadata = _metadata(len(frames), told or {})
    if len(frames) % 2:
        # As processors of Qwen do: the last frame stands for two.
        frames = np.concatenate([frames, frames[-1:]])
        metadata["frames_indices"].append(metadata["frames_indices"][-1])
    content = hashlib.sha256(json.dumps([frames.shape, metadata], default=str).encode())
    content.update(frames.data)
    return LlmInputs(
        prompt=_question(prompt),
        multi_modal_data={"video": frames},
        multi_modal_uuids={"video": content.hexdigest()[:40]},
        video_metadata=metadata,
        values=values,
    )


def _question(prompt: Any) -> str:
    """Return the user's text of a prompt in Qwen's chat format, or a text without any format."""
    text = str(prompt)
    if found := _USERS_TURN.search(text):
        return found[1]
    if mark := _CHAT_MARKS.search(text):
        raise RequestError(
            f"the window's prompt has a chat format that captionkit does not read ({mark[0]}); prepare "
            "the window with captionkit's CaptionPreparationStage"
        )
    return text


def _pixels(video: Any, *, channels_last: bool) -> NDArray[np.uint8]:
    """Return frames as uint8 of shape (frames, 3, height, width)."""
    if hasattr(video, "detach"):
        video = video.detach().cpu()
        video = video.float() if video.is_floating_point() else video
    frames = np.asarray(video)
    if frames.ndim == 4 and (channels_last or (frames.shape[-1] == 3 and frames.shape[1] != 3)):
        frames = frames.transpose(0, 3, 1, 2)
    if frames.ndim != 4 or frames.shape[1] != 3 or 0 in frames.shape or frames.dtype.kind not in "uif":
        raise RequestError(
            f"the window's frames are {frames.dtype} of the shape {frames.shape}; NeMo Curator's "
            "preparation makes (frames, height, width, 3), up to 1.2 (frames, 3, height, width)"
        )
    if frames.dtype.kind == "f" and not np.isfinite(frames).all():
        raise RequestError("the frames hold NaN or infinite values")
    if frames.dtype == np.uint8:
        if not channels_last and np.isin(frames, _CUT_OFF).all():
            raise RequestError(
                "the frames were normalised and then cut to whole numbers, which leaves no picture; "
                "leave preprocess_dtype='uint8' off, or set model_does_preprocess"
            )
        return np.ascontiguousarray(frames)
    if frames.min() < 0:
        frames = (frames * _DEVIATION + _MEAN) * 255
    if frames.min() < -1.5 or frames.max() > 256.5:
        raise RequestError(
            f"the frames have values from {frames.min():g} to {frames.max():g}, neither colours from 0 "
            "to 255 nor those normalised for CLIP; prepare the window again"
        )
    return np.ascontiguousarray(np.clip(np.round(frames), 0, 255).astype(np.uint8))


def _resized(frames: NDArray[np.uint8], recipe: Recipe) -> NDArray[np.uint8]:
    """Return frames at the size that the recipe's model sees, scaled as when captionkit decodes."""
    import av
    from av.video.reformatter import Interpolation

    _, _, height, width = frames.shape
    try:
        wide, high = get_variant(recipe.model).frame_size(width, height, recipe.pixel_budget)
    except ValueError as error:
        raise RequestError(str(error)) from error
    if (wide, high) == (width, height):
        return frames
    scaled = [
        av.VideoFrame.from_ndarray(np.ascontiguousarray(each.transpose(1, 2, 0)), format="rgb24")
        .reformat(width=wide, height=high, interpolation=Interpolation.BICUBIC)
        .to_ndarray()
        .transpose(2, 0, 1)
        for each in frames
    ]
    return np.ascontiguousarray(scaled)


def _given(told: dict[str, Any], name: str, default: Any) -> Any:
    return default if told.get(name) is None else told[name]


def _metadata(count: int, told: dict[str, Any]) -> dict[str, Any]:
    """Return vLLM's metadata; versions that give no times read frames as two a second."""
    fps = float(told.get("fps") or _DEFAULT_FPS)
    indices = [int(each) for each in _given(told, "frames_indices", range(count))]
    total = int(_given(told, "total_num_frames", count))
    if len(indices) != count or not 0 < fps < math.inf:
        raise RequestError(
            f"the window has {count} frames, {len(indices)} frames_indices and {fps:g} frames a second;"
            " give as many indices as frames, and a rate above 0"
        )
    if not told.get("fps"):
        warnings.warn(_NO_TIMES, stacklevel=2)
    return {
        "fps": fps,
        "frames_indices": indices,
        "total_num_frames": total,
        "duration": total / fps,
        "do_sample_frames": False,
    }
