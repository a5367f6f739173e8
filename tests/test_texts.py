"""Texts beside the picture: speech, columns, the caption before, and what is stored."""

from __future__ import annotations

import json
import logging
import time

import barcodes
import pandas as pd
import pytest
from fakes import FakeBackend

import captionkit as ck
from captionkit.cli import main
from captionkit.sources.speech import SpeechError, read_speech, speech_between, speech_file
from captionkit.stages import CaptionPreparationStage

SRT = """1
00:00:00,200 --> 00:00:00,900
<i>The boat</i>
leaves.

2
00:00:01,200 --> 00:00:01,900
Two gulls follow.
"""


@pytest.fixture
def films(tmp_path):
    folder = tmp_path / "films"
    folder.mkdir()
    barcodes.write(folder / "one.mp4", 96)
    barcodes.write(folder / "two.mp4", 64)
    return folder


@pytest.fixture
def opened(films, tmp_path):
    """Return a function that opens the films, in windows of 32 frames."""
    sessions = []

    def make(**how) -> ck.Session:
        how.setdefault("backend", FakeBackend())
        recipe = ck.Recipe(window_size=32, remainder_threshold=32)
        sessions.append(ck.Session(films, store=tmp_path / "runs.sqlite", recipe=recipe, **how))
        return sessions[-1]

    yield make
    for session in sessions:
        session.close()


def asked(run, stage: int = 1) -> dict[tuple[str, int], str]:
    table = run.captions
    return {(row.video, row.window): row.prompt for row in table[table["stage"] == stage].itertuples()}


def until(condition) -> None:
    end = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


def length_of(session, video: str = "one") -> float:
    return float(session.windows.query(f"video == '{video}'")["end_s"].iloc[0])


def test_speech_beside_a_film_is_cut_to_each_window_in_both_stages(films, opened):
    session = opened()
    at = length_of(session)
    (films / "one.srt").write_text(
        f"1\n00:00:00,000 --> 00:00:00,{round(at * 500):03}\n<i>The boat</i>\nleaves.\n\n"
        f"2\n00:00:0{at * 1.2:.3f} --> 00:00:0{at * 1.8:.3f}\nTwo gulls.\n",
        encoding="utf-8-sig",
    )
    run = session.caption("Said: {speech}!", stage2="Again {speech}: {caption}")
    assert asked(run)["one", 0] == "Said: The boat leaves.!"
    assert asked(run)["one", 1] == "Said: Two gulls.!"
    assert asked(run)["one", 2] == "Said: !"
    assert asked(run, 2)["one", 1].startswith("Again Two gulls.: Said: Two gulls.!")


def test_only_windows_with_a_changed_text_are_captioned_again(films, opened):
    session = opened()
    at = length_of(session)
    cue = "1\n00:00:00,000 --> 00:00:00,{:03}\n{}\n"
    (films / "one.srt").write_text(cue.format(round(at * 900), "A boat."))
    first = session.caption("Said: {speech}!")
    calls = session.backend.calls
    assert len(calls) == 5
    assert session.caption("Said: {speech}!").id == first.id
    assert len(calls) == 5
    (films / "one.srt").write_text(cue.format(round(at * 900), "A ship."))
    second = session.caption("Said: {speech}!")
    assert second.id != first.id
    assert calls[5:] == [("0.00", 1)]
    assert asked(second)["one", 0] == "Said: A ship.!"
    assert asked(first)["one", 0] == "Said: A boat.!"
    (films / "one.srt").write_text(cue.format(round(at * 900), "A boat."))
    assert session.caption("Said: {speech}!").id == first.id
    assert len(calls) == 6
    texts = session.texts(first.recipe, list(session))
    keys = [each.key for each in session]
    assert session.store.captioned_by(first.recipe.key, keys, texts.known()) == set(keys)


def test_missing_texts_are_told_before_the_run_and_a_damaged_file_fails_its_film_only(
    films, opened, caplog
):
    (films / "two.srt").write_bytes("1\n00:00:00,000 --> 00:00:01,000\nÄrger\n".encode("latin-1"))
    session = opened()
    with caplog.at_level(logging.WARNING):
        run = session.caption("Said: {speech}!")
    told = caplog.text
    assert "{speech} is empty in 3 of 5 windows (one): no .srt" in told
    assert "{speech} fails in 2 windows" in told
    assert "two.srt is not UTF-8" in told
    assert run.progress.failed == 2
    assert run.captions.query("video == 'two'")["error"].str.contains("save the file as UTF-8").all()
    assert run.captions.query("video == 'one'")["error"].isna().all()
    (films / "two.srt").write_text("1\n00:00:00,000 --> 00:00:01,000\nÄrger\n", encoding="utf-8")
    assert run.retry_failed().progress.failed == 0
    assert asked(run)["two", 0] == "Said: Ärger!"


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("one.srt", "1\n00:00:xx --> 00:00:01,000\nHello\n", "cue 0: its times"),
        ("one.srt", "1\n00:00:02,000 --> 00:00:01,000\nHello\n", "cue 0: its times"),
        ("one.srt", "Hello", "no cue"),
        ("one.json", '{"segments": [{"start": 0', "not a transcript"),
        ("one.json", '{"segments": [{"start": NaN, "end": 1, "text": "a"}]}', "not a transcript"),
        ("one.json", '{"segments": [{"text": "a"}]}', "not a transcript"),
    ],
)
def test_a_damaged_transcript_is_named_with_its_fault(films, name, content, reason):
    (films / name).write_text(content)
    with pytest.raises(SpeechError, match=reason):
        read_speech(speech_file(str(films / "one.mp4")))


def test_words_of_a_transcript_count_where_they_are_said(films):
    words = [
        {"word": " Two", "start": 0.5, "end": 0.9},
        {"word": "3", "score": 0.1},
        {"word": " gulls", "start": 1.1, "end": 1.4},
    ]
    segment = {"start": 0.5, "end": 1.4, "text": " Two 3 gulls", "words": words}
    (films / "one.json").write_text(json.dumps({"segments": [segment]}))
    said = read_speech(speech_file(str(films / "one.mp4")))
    assert speech_between(said, 0, 1) == "Two 3"
    assert speech_between(said, 1, 2) == "gulls"
    # The truth or the metas of a film are not what is said in it.
    (films / "one.json").write_text('{"scenes": []}')
    assert speech_file(str(films / "one.mp4")) is None


def test_subtitles_of_several_languages_are_not_guessed(films):
    (films / "one.en.srt").write_text(SRT)
    assert speech_file(str(films / "one.mp4")).name == "one.en.srt"
    (films / "one.de.srt").write_text(SRT)
    with pytest.raises(SpeechError, match=r"one.de.srt, one.en.srt.*one.srt"):
        speech_file(str(films / "one.mp4"))


def test_columns_of_a_table_fill_prompts_by_film_by_time_and_by_key(opened):
    session = opened()
    at = length_of(session)
    keys = dict(session.windows.set_index(["video", "window"])["key"])
    rows = [
        {"file_name": "one.mp4", "start": at, "end": 2 * at, "place": "a bridge"},
        {"file_name": "one.mp4", "place": "a harbour", "year": 1999.0},
        {"key": keys["two", 1], "place": "Köln {caption}"},
    ]
    session = opened(meta=pd.DataFrame(rows))
    run = session.caption("In {meta.place}, {meta.year}:", stage2="{meta.place}: {caption}")
    assert asked(run) == {
        ("one", 0): "In a harbour, 1999:",
        ("one", 1): "In a bridge, :",
        ("one", 2): "In a harbour, 1999:",
        ("two", 0): "In , :",
        ("two", 1): "In Köln {caption}, :",
    }
    assert asked(run, 2)["two", 1].startswith("Köln {caption}: In")
    why = "the table has no row for it, or an empty cell"
    assert session.texts(run.recipe, list(session)).missing() == [
        "1 more rows are about windows of one, with other values; the first row counts",
        f"{{meta.place}} is empty in 1 of 5 windows (two): {why}",
        f"{{meta.year}} is empty in 3 of 5 windows (one, two): {why}",
    ]


def test_a_column_that_no_table_has_is_refused_before_the_run(films, opened, tmp_path):
    with pytest.raises(ValueError, match=r"\{meta.place\}, but there is no table.*--meta"):
        opened().caption("In {meta.place}.")
    table = tmp_path / "facts.csv"
    table.write_text("video,plase\none,Rome\n")
    session = opened(meta=table)
    with pytest.raises(ValueError, match=r"no column 'place'.*plase"):
        session.caption("In {meta.place}.")
    assert ck.runs(session.store).empty
    with pytest.raises(ValueError, match=r"\{spech\}.*known here: .*\{speech\}, \{previous\}"):
        ck.Recipe(prompt="In {spech}.")


def test_spans_of_the_users_own_table_give_their_columns(films, tmp_path):
    rows = [
        {"video": "one", "start_s": 0.0, "end_s": 0.5, "place": "Rome"},
        {"video": "one", "start_s": 0.5, "end_s": 1.0, "place": "Oslo"},
    ]
    path = tmp_path / "spans.csv"
    pd.DataFrame(rows).to_csv(path, index=False)
    for spans in (pd.DataFrame(rows), path):
        store = tmp_path / "spans.sqlite"
        session = ck.Session(films, spans=spans, store=store, backend=FakeBackend())
        run = session.caption("In {meta.place}.")
        session.close()
        assert list(asked(ck.open_run(run.id, store)).values()) == ["In Rome.", "In Oslo."]


def test_each_window_has_the_caption_of_the_one_before_it_in_its_film(opened):
    session = opened()
    run = session.caption("Then ({previous})", batch_size=4)
    texts = {(row.video, row.window): row.text for row in run.captions.itertuples()}
    assert asked(run)["one", 0] == asked(run)["two", 0] == "Then ()"
    for key in (("one", 1), ("one", 2), ("two", 1)):
        assert asked(run)[key] == f"Then ({texts[key[0], key[1] - 1]})"


def test_a_story_over_some_windows_takes_over_what_had_the_same_text_before(opened):
    session = opened()
    whole = session.caption("Then ({previous})")
    calls = len(session.backend.calls)
    table = session.windows
    begun = session.caption("Then ({previous})", windows=table[table["window"] < 2])
    assert begun.id != whole.id
    assert len(session.backend.calls) == calls
    last = session.caption("Then ({previous})", windows=table.query("video == 'one' and window == 2"))
    assert asked(last)["one", 2] == "Then ()"
    assert len(session.backend.calls) == calls + 1


def test_after_a_failed_window_previous_is_empty_and_told_and_a_retry_goes_on_from_there(opened):
    session = opened()
    broken = f"{session.windows['start_s'].iloc[1]:.2f}"
    session.backend.fail.add(broken)
    run = session.caption("Then ({previous})", windows=session.windows.query("video == 'one'"))
    table = run.captions.set_index("window")
    assert isinstance(table["error"][1], str)
    assert table["prompt"][2] == "Then ()"
    assert table["warnings"][2] == "the window before failed, so {previous} is empty"
    session.backend.fail.clear()
    run.retry_failed()
    table = run.captions.set_index("window")
    assert table["error"].isna().all()
    assert table["prompt"][2] == f"Then ({table['text'][1]})"
    assert table["warnings"][2] is None
    # Windows whose text before stays the same are not captioned again.
    assert session.backend.calls.count(("0.00", 1)) == 1


def test_two_workers_keep_the_order_of_a_film(opened):
    first, second = opened(), opened(backend=FakeBackend())
    task = first.start("Then ({previous})", batch_size=1)
    other = second.open(task.run.id).resume()
    task.wait(30)
    other.wait(30)
    texts = {(row.video, row.window): row.text for row in task.run.captions.itertuples()}
    assert len(texts) == 5
    assert asked(task.run)["one", 2] == f"Then ({texts['one', 1]})"


def test_what_cannot_fill_in_texts_says_so_by_name(films, opened, tmp_path):
    recipe = ck.Recipe(prompt="Said: {speech}")
    with pytest.raises(ValueError, match=r"\{speech\}, which captioning with Ray does not fill in"):
        ck.scale.caption_videos(films, recipe, tmp_path / "out")
    with pytest.raises(ValueError, match=r"\{speech\}, which map_batches"):
        ck.scale.map_batches(recipe)
    stage = CaptionPreparationStage.from_recipe(recipe)
    with pytest.raises(ValueError, match=r"\{speech\}, which CaptionPreparationStage"):
        stage.process(None)
    with pytest.raises(ValueError, match=r"cannot fill in \{previous\}"):
        opened().sweep(prompts=["Then ({previous})"])


def test_the_command_takes_a_table_and_tells_what_is_missing(films, tmp_path, caplog, monkeypatch):
    monkeypatch.setattr(ck.Session, "open_backend", lambda *_, **__: FakeBackend())
    table = tmp_path / "facts.csv"
    table.write_text("video,place\none,Rome\n")
    store = tmp_path / "runs.sqlite"
    assert main([
        "caption", str(films), "--window-size", "32", "--remainder-threshold", "32",
        "--prompt", "In {meta.place}.", "--meta", str(table), "--store", str(store),
    ]) == 0  # fmt: skip
    assert "{meta.place} is empty in 2 of 5 windows" in caplog.text
    assert asked(ck.open_run(1, store))["one", 0] == "In Rome."


def test_the_workbench_shows_what_fills_the_prompt_here_and_names_a_damaged_file(films, opened):
    (films / "one.srt").write_text("1\n00:00:00,000 --> 00:00:00,900\nTwo <b>gulls</b> & a boat.\n")
    session = opened(meta=pd.DataFrame([{"video": "one", "place": "Rome"}]))
    bench = ck.Workbench(session)
    bench.tuner.recipe = session.recipe.changed(prompt="In {meta.place}: {speech}")
    until(lambda: "{speech} here: Two gulls &amp; a boat." in bench.tuner.note.value)
    assert "{meta.place} here: Rome" in bench.tuner.note.value
    assert "<b>{meta.place}</b>" in bench.tuner.note.value
    bench.tuner.run_all.click()
    assert bench.board.idle(30)
    assert asked(ck.open_run(1, session.store))["one", 0] == "In Rome: Two gulls & a boat."
    (films / "one.srt").write_bytes(b"1\n00:00:00,000 --> 00:00:00,900\n\xff\n")
    bench.tuner.prompt.value = "Said: {speech}"
    until(lambda: "one.srt is not UTF-8" in bench.tuner.cost.value)
    bench.close()
