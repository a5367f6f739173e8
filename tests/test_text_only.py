"""Second stages that read the caption alone: no frame is read or sent for them."""

from __future__ import annotations

import pytest
from common import VIDEOS

import captionkit as ck
from captionkit.engine import RequestError
from captionkit.stages import CaptionEnhancementStage, Clip, Video, VideoTask, Window

REWRITE = "Shorter: {caption}"
STARTS = ("0.00", "8.53", "17.07")


@pytest.fixture
def session(fake, tmp_path):
    session = ck.Session(VIDEOS / "winter.mp4", store=tmp_path / "runs.sqlite", backend=fake)
    yield session
    session.close()


def test_text_only_is_part_of_a_recipes_key_and_needs_a_second_stage():
    plain = ck.Recipe(stage2=REWRITE)
    without = ck.Recipe(stage2=REWRITE, text_only=True)
    assert plain.key != without.key
    assert ck.Recipe.from_json(without.to_json()) == without
    assert without.sees_video
    assert without.changed(stage2=False) == ck.Recipe()
    with pytest.raises(ValueError, match="text_only is about stage 2, and stage2 has no text"):
        ck.Recipe(text_only=True)


def test_stage2_of_a_text_only_recipe_has_the_caption_and_no_video(session, fake):
    run = session.caption("Say it.", stage2=REWRITE, text_only=True)
    assert all(request.video.frames is not None for request in fake.requests if request.video)
    second = [request for request in fake.requests if request.video is None]
    assert {request.prompt for request in second} == {f"Shorter: Say it. at {s}." for s in STARTS}
    assert (len(fake.requests), len(second)) == (6, 3)
    assert list(run.captions["stage"]) == [1, 2] * 3
    assert run.captions["error"].isna().all()


def test_captions_are_rewritten_by_a_model_that_sees_nothing_without_reading_the_film(
    session, fake, monkeypatch
):
    run = session.caption("Say it.")
    with monkeypatch.context() as patch:
        patch.setattr(session.sources.pool, "read", lambda *_: pytest.fail("read a film"))
        # No file of this model is here: its kind is not asked for, since it gets no frames.
        made = session.correct(run, REWRITE, text_only=True, model="Qwen/Qwen2.5-14B-Instruct")
    assert made.progress.failed == 0
    assert [request.video for request in fake.requests[3:]] == [None] * 3
    assert made.recipe.model == "Qwen/Qwen2.5-14B-Instruct"
    # The same correction with the video is another run.
    assert session.correct(run, REWRITE).id != made.id
    assert all(request.video for request in fake.requests[6:])


def test_a_film_is_summarized_from_its_captions_alone(session, fake):
    run = session.caption("Say it.")
    session.summarize(run, text_only=True)
    (asked,) = fake.requests[3:]
    assert asked.video is None
    assert "8.5 to 17.1 s: Say it. at 8.53." in asked.prompt


def test_a_stage_rewrites_a_tasks_captions_with_another_model_and_one_failure_costs_itself(fake):
    windows = [Window(0, 99), Window(100, 199), Window(200, 299)]
    windows[0].caption["qwen"], windows[2].caption["qwen"] = "A boat.", "A gull."
    clip = Clip("films/winter.mp4", windows=windows)
    task = VideoTask(Video("films/winter.mp4", clips=[clip, Clip("films/empty.mp4")]))

    def say(prompt, start, stage):
        if "gull" in prompt:
            raise RequestError("no gulls here")
        return "A boat, rewritten."

    fake.say = say
    stage = CaptionEnhancementStage(
        model_variant="Qwen/Qwen2.5-14B-Instruct", prompt_text="Of {video}", backend=fake
    )
    assert stage.process(task) is task
    assert windows[0].enhanced_caption == {"Qwen/Qwen2.5-14B-Instruct": "A boat, rewritten."}
    assert clip.errors == {
        "enhancement-1": "no caption of qwen; caption the window first",
        "enhancement-2": "no gulls here",
    }
    assert (fake.requests[0].prompt, fake.requests[0].video) == ("Of winter.mp4\nA boat.", None)
    for bad, reason in (
        ({"prompt_text": "At {start}: {caption}"}, "unknown placeholder"),
        ({"model_batch_size": 0}, "model_batch_size is 0"),
        ({"model_variant": "qwenn"}, "Unsupported model variant"),
    ):
        with pytest.raises(ValueError, match=reason):
            CaptionEnhancementStage(**bad)


@pytest.mark.engine
def test_the_engine_answers_texts_beside_windows(model, tmp_path):
    session = ck.Session(VIDEOS / "winter.mp4", store=tmp_path / "runs.sqlite")
    run = session.caption("short", stage2=REWRITE, text_only=True, max_tokens=24)
    table = run.captions
    session.close()
    assert table["error"].isna().all()
    assert table.loc[table["stage"] == 2, "text"].str.len().gt(0).all()
    tokens = table.groupby("stage")["prompt_tokens"].max()
    # No token of a video is among those of the second prompt.
    assert tokens[2] < 100 < tokens[1]
