"""Convert between the reference and captionkit: keywords and recipes, clips and windows, inputs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from captionkit import prompts
from captionkit.engine import RequestError, VideoInput
from captionkit.models.families import Family
from captionkit.pipeline.prepared import PreparedWindow
from captionkit.recipe import Recipe
from captionkit.sources import (
    CUTS,
    ClipRequest,
    Cut,
    PlannedWindow,
    SourceClip,
    Spans,
    VideoRequest,
    WindowSpan,
    check_scenes,
    find_videos,
    search_videos,
    short_names,
    span_requests,
)
from captionkit.stages.tasks import Clip, LlmInputs, VideoTask
from captionkit.video import Source

# The reference's keywords, and the settings of a recipe that they become.
_KEYWORDS = {
    "model_variant": "model",
    "fp8": "fp8",
    "max_output_tokens": "max_tokens",
    "sampling_fps": "sampling_fps",
    "window_size": "window_size",
    "remainder_threshold": "remainder_threshold",
    "pixel_budget": "pixel_budget",
}


def take_over(stage: Any) -> Recipe:
    """Return the recipe of a stage or model with the reference's keywords as attributes.

    A ``recipe`` that is new to the stage sets the keywords. From then on the keywords decide, also
    those that are set later or with `dataclasses.replace`; settings without a keyword stay as in
    ``recipe``.

    Raises
    ------
    ValueError
        If a value does not fit a recipe; the message names the keyword.
    """
    if stage.recipe != getattr(stage, "_taken", None):
        if stage.recipe is not None:
            _set_keywords(stage, stage.recipe)
        stage._taken = stage.recipe
    return _from_keywords(stage, stage.recipe or Recipe())


def _set_keywords(stage: Any, recipe: Recipe) -> None:
    for keyword, name in _KEYWORDS.items():
        if hasattr(stage, keyword):
            setattr(stage, keyword, getattr(recipe, name))
    if hasattr(stage, "prompt_text"):
        stage.prompt_text = recipe.prompt_text
    if hasattr(stage, "stage2_prompt_text"):
        stage.stage2_prompt_text = recipe.stage2
        stage.generate_stage2_caption = recipe.stage2 is not None


def _from_keywords(stage: Any, base: Recipe) -> Recipe:
    settings = {
        name: getattr(stage, keyword) for keyword, name in _KEYWORDS.items() if hasattr(stage, keyword)
    }
    if hasattr(stage, "prompt_text"):
        given = stage.prompt_text
        settings["prompt"] = prompts.resolve(stage.prompt_variant if given is None else given)
    try:
        if hasattr(stage, "stage2_prompt_text"):
            text = stage.stage2_prompt_text
            # Check an unused text here as well, not in the middle of a pipeline.
            Recipe(stage2=text)
            used = prompts.STAGE2_DEFAULT if text is None else text
            settings["stage2"] = stage.generate_stage2_caption and used
        return base.changed(**settings)
    except ValueError as error:
        reason = str(error)
        for keyword, name in _KEYWORDS.items():
            if reason.startswith(f"{name} is "):
                reason = keyword + reason.removeprefix(name)
        raise ValueError(reason) from error


def file_of(clip: Clip) -> Source:
    """Return the source of a clip: its bytes if present, else its file."""
    return clip.source_video if clip.buffer is None else clip.buffer


def video_requests(
    source: str | Path | VideoTask | Sequence[str | Path | VideoTask],
    spans: Spans | None = None,
    cut: Cut = "frames",
) -> tuple[list[VideoRequest], dict[str, str]]:
    """Return the videos of a session's source, and the problems of the rest.

    Raises
    ------
    ValueError, FileNotFoundError
        As `sources.find_videos`.
    """
    given = [source] if isinstance(source, (str, Path, VideoTask)) else source
    tasks = [each for each in given if isinstance(each, VideoTask)]
    files = [each for each in given if not isinstance(each, VideoTask)]
    if cut not in CUTS:
        raise ValueError(f"cut is {cut!r}; give one of {', '.join(CUTS)}")
    if cut == "scenes":
        check_scenes()
    if spans is not None:
        if tasks or cut == "scenes":
            raise ValueError("spans= has the windows already; leave out tasks and cut=")
        return span_requests(spans, files)
    paths, problems = search_videos(files) if tasks else find_videos(files)
    clips: dict[str, tuple[ClipRequest, ...]] = {}
    for path in paths:
        if "://" in path:
            problems[path] = f"{path} is not on this machine; caption it with Ray, or download it"
        else:
            clips[path] = (ClipRequest(path, path),)
    names = short_names([*clips, *(str(task.data.input_video) for task in tasks)])
    requests = []
    for name, each in zip(names, [*clips.values(), *map(_clips_of, tasks)], strict=True):
        if each:
            requests.append(VideoRequest(name, each))
        else:
            problems[name] = (
                f"the task of {name} has no clip; add one for the whole video: "
                "Video(path, clips=[Clip(path)])"
            )
    return requests, problems


def _clips_of(task: VideoTask) -> tuple[ClipRequest, ...]:
    """Return a task's clips with their windows."""
    return tuple(
        ClipRequest(
            file_of(clip),
            clip.source_video,
            clip.span if clip.buffer is None else None,
            tuple(WindowSpan(window.start_frame, window.end_frame) for window in clip.windows),
        )
        for clip in task.data.clips
    )


def planned(clip: Clip, source: SourceClip, number: int) -> PlannedWindow:
    """Return a clip's window, identified within its task."""
    window = clip.windows[number]
    start_s, end_s = source.times(window.start_frame, window.end_frame)
    return PlannedWindow(
        key=f"{clip.uuid}:{number}",
        video=clip.source_video,
        path=clip.source_video,
        clip=str(clip.uuid),
        number=number,
        start_frame=window.start_frame,
        end_frame=window.end_frame,
        start_s=start_s,
        end_s=end_s,
        source=source,
    )


def to_inputs(prepared: PreparedWindow) -> LlmInputs:
    """Convert a prepared window to the inputs of the reference's stages."""
    return LlmInputs(
        prompt=prepared.prompt,
        multi_modal_data={"video": prepared.video.frames},
        multi_modal_uuids={"video": prepared.video.uid},
        video_metadata=prepared.video.metadata,
        values=prepared.values,
    )


def from_inputs(inputs: LlmInputs, family: Family | None) -> PreparedWindow:
    """Convert inputs to a prepared window; frames must fit ``family``, unless it is None.

    Raises
    ------
    RequestError
        If the inputs lack an entry, or the frames do not fit the model: vLLM accepts broken frames
        silently.
    """
    try:
        frames = inputs["multi_modal_data"]["video"]
        values = inputs["values"]
        video = VideoInput(
            inputs["multi_modal_uuids"]["video"],
            inputs["video_metadata"],
            frames,
            f"a window of {values['video']} at {values.get('start', 'an unknown number of')} s",
        )
        prepared = PreparedWindow(inputs["prompt"], values, video)
    except (KeyError, TypeError) as error:
        raise RequestError(
            f"the window's inputs lack {error}; make them with CaptionPreparationStage"
        ) from error
    if frames is not None:
        _check_frames(frames, family)
    return prepared


def _check_frames(frames: np.ndarray, family: Family | None) -> None:
    if frames.dtype.kind == "f" and not np.isfinite(frames).all():
        raise RequestError("the frames hold NaN or infinite values")
    if frames.dtype != np.uint8:
        raise RequestError(f"the frames are {frames.dtype}; give uint8 from 0 to 255")
    if frames.ndim != 4 or frames.shape[1] != 3 or 0 in frames.shape:
        raise RequestError(f"the frames have the shape {frames.shape}; give (frames, 3, height, width)")
    count, _, height, width = frames.shape
    if count < 2 or count % 2:
        raise RequestError(f"there are {count} frames; the model reads an even number, 2 or more")
    if family is not None and (problem := family.size_problem(width, height)):
        raise RequestError(f"the frames have {width} x {height} pixels; {problem}")
