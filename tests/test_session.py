"""Sessions, runs and tasks. The fake backend serves tests of bookkeeping only."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import subprocess
import threading
import time
from pathlib import Path

import pandas as pd
import programs
import psutil
import pytest
from common import DATA, ROOT, VIDEOS
from fakes import FakeBackend
from stores import CAPTION, window

import captionkit as ck
from captionkit.captions import COLUMNS
from captionkit.demo.recall import fact_recall, summary
from captionkit.engine import EngineError
from captionkit.pipeline import StageDone, TextGrew, WindowDone
from captionkit.prompts import STAGE2_DEFAULT
from captionkit.run import RunEnded
from captionkit.store import Store
from captionkit.system import loop
from captionkit.system.memory import PeakMemory
from captionkit.widgets.sweep_view import _table as sweep_table

engine = pytest.mark.engine
SHORT = "Say what it is."


def starts(run) -> list[float]:
    return [round(start, 2) for start in run.captions["start_s"]]


def test_windows_are_a_table_with_thumbnails(session):
    table = session.windows
    assert list(table.columns) == [
        "video", "window", "start_s", "end_s", "frames", "note", "tags", "key", "path", "clip",
        "start_frame", "end_frame", "fps",
    ]  # fmt: skip
    assert list(table["video"]) == ["harbour"] * 4
    assert list(table["frames"]) == [256] * 4
    assert table["end_s"].iloc[-1] == pytest.approx(1024 / 30)
    html = table.query("window > 1")._repr_html_()
    assert html.count("data:image/jpeg;base64,") == 2
    assert "2 windows" in html


@pytest.mark.parametrize(
    "source",
    [
        str(DATA / "*.mp4"),
        str(VIDEOS / "*.mp4"),
        str(VIDEOS),
        sorted(VIDEOS.glob("*.mp4")),
        [str(VIDEOS / "*.mp4"), VIDEOS / "harbour.mp4"],
    ],
)
def test_a_pattern_a_folder_and_a_list_mean_the_same_videos(source, fake, tmp_path):
    session = ck.Session(source, store=tmp_path / "runs.sqlite", backend=fake)
    assert len(session.windows) == 33
    assert session.windows["video"].nunique() == 8
    session.close()


def test_tasks_are_a_source_too_with_their_clips_and_windows(fake, tmp_path):
    path = str(VIDEOS / "harbour.mp4")
    clips = [ck.Clip(path, span=(0, 10)), ck.Clip(path, span=(10, 20))]
    task = ck.VideoTask(ck.Video(path, clips=clips))
    session = ck.Session(task, store=tmp_path / "runs.sqlite", backend=fake)
    assert list(session.windows["window"]) == [0, 1]
    run = session.caption("short")
    assert run.captions["clip"].nunique() == 2
    assert starts(run) == [0.0, 10.0]
    session.close()


def test_videos_with_equal_names_get_different_short_names(tmp_path):
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        shutil.copy(
            VIDEOS / f"{'harbour' if folder == 'a' else 'street'}.mp4", tmp_path / folder / "x.mp4"
        )
    session = ck.Session(tmp_path, store=tmp_path / "runs.sqlite")
    assert list(session.windows["video"].unique()) == ["a/x.mp4", "b/x.mp4"]
    session.close()


def test_a_copy_of_a_video_is_left_out_and_listed_as_a_problem(tmp_path):
    shutil.copy(VIDEOS / "harbour.mp4", tmp_path / "copy.mp4")
    session = ck.Session([VIDEOS / "harbour.mp4", tmp_path / "copy.mp4"], store=tmp_path / "s.sqlite")
    assert list(session.windows["video"].unique()) == ["harbour"]
    assert session.problems == {
        "copy": "has the same content as harbour, whose captions apply; left out"
    }
    session.close()


def test_one_bad_video_is_a_problem_and_good_videos_stay(tmp_path):
    (tmp_path / "bad.mp4").write_bytes(b"no video" * 100)
    long = "x" * 300 + ".mp4"
    given = [tmp_path / "bad.mp4", "nowhere.mp4", long, "s3://films/far.mp4", VIDEOS / "harbour.mp4"]
    session = ck.Session(given, store=tmp_path / "s.sqlite")
    assert len(session.windows) == 4
    assert sorted(session.problems) == ["bad", "nowhere.mp4", "s3://films/far.mp4", long]
    assert "no such file" in session.problems[long]
    assert "no such file: nowhere.mp4" in session.problems["nowhere.mp4"]
    assert "caption it with Ray" in session.problems["s3://films/far.mp4"]
    session.close()


@pytest.mark.parametrize(
    ("source", "error", "message"),
    [
        ("nowhere.mp4", FileNotFoundError, "no such file: nowhere.mp4"),
        ("nowhere/*.mp4", FileNotFoundError, "nothing matches"),
        ([], ValueError, "there is no video"),
        (str(ROOT / "tests"), FileNotFoundError, "holds no video"),
        (str(ROOT / "README.md"), ValueError, "no video has a window"),
    ],
)
def test_a_source_without_videos_is_a_clear_error(source, error, message, tmp_path):
    with pytest.raises(error, match=message):
        ck.Session(source, store=tmp_path / "runs.sqlite")


def test_captions_record_everything(session):
    run = session.caption(SHORT, stage2="Add what is missing: {caption}")
    table = run.captions
    assert tuple(table.columns) == COLUMNS
    assert list(table["stage"]) == [1, 2] * 4
    assert list(table["window"]) == [0, 0, 1, 1, 2, 2, 3, 3]
    assert table["prompt"].iloc[0] == SHORT
    assert table["text"].iloc[2] == f"{SHORT} at 8.53."
    assert table["error"].isna().all()
    assert len(run.final) == 4
    assert (run.status, str(run.progress)) == ("done", "4 of 4 windows captioned")
    assert repr(run) == f"<Run {run.id}: demo, done, 4 of 4 windows captioned>"
    first = table.iloc[0]
    assert (first["video"], first["path"]) == ("harbour", str(VIDEOS / "harbour.mp4"))
    assert first["key"] == session.windows["key"].iloc[0]
    assert ck.Recipe.from_json(first["recipe"]) == run.recipe


def test_a_caption_is_not_computed_twice(session, fake):
    first = session.caption(SHORT)
    again = session.caption(SHORT)
    assert first.id == again.id
    assert len(fake.calls) == 4
    part = session.caption(SHORT, windows=session.windows.query("window < 2"))
    assert (part.id != first.id, len(part.captions), len(fake.calls)) == (True, 2, 4)
    fresh = session.caption(SHORT, fresh=True)
    assert (fresh.id in (first.id, part.id), len(fake.calls)) == (False, 8)
    session.caption(SHORT, temperature=0)
    assert len(fake.calls) == 12


def test_a_window_is_known_by_its_content_wherever_its_file_is(session, fake, tmp_path):
    session.caption(SHORT)
    moved = tmp_path / "moved.mp4"
    shutil.copy(VIDEOS / "harbour.mp4", moved)
    other = ck.Session(moved, store=session.store, backend=fake)
    assert len(other.caption(SHORT).captions) == 4
    assert len(fake.calls) == 4
    times = os.stat(moved)
    shutil.copy(VIDEOS / "night.mp4", moved)
    os.utime(moved, ns=(times.st_atime_ns, times.st_mtime_ns))
    changed = ck.Session(moved, store=session.store, backend=fake)
    changed.caption(SHORT)
    assert len(fake.calls) == 8


def test_failed_windows_have_a_reason_and_can_be_tried_again_alone(session, fake):
    fake.fail = {"8.53", "25.60"}
    run = session.caption(SHORT)
    assert (run.status, run.progress.done, run.progress.failed) == ("failed", 2, 2)
    failed = run.captions.dropna(subset="error")
    assert list(failed["window"]) == [1, 3]
    assert "the window at 8.53 is broken" in failed["error"].iloc[0]
    fake.fail = {"25.60"}
    before = len(fake.calls)
    run.retry_failed()
    assert len(fake.calls) == before + 1
    assert (run.progress.done, run.progress.failed) == (3, 1)
    session.caption(SHORT)
    assert len(fake.calls) == before + 1


def test_work_in_the_background_emits_events_and_can_be_cancelled(session, fake):
    fake.gate = asyncio.Event()
    task = session.start(SHORT, batch_size=1)
    events = []
    task.add_callback(events.append)
    assert task.status == "running"
    # Any kernel sees that work is under way.
    assert ck.open_run(task.run.id, session.store.path).status == "running"
    with pytest.raises(TimeoutError, match="still runs"):
        task.wait(0.2)
    assert task.run.resume() is task
    task.cancel()
    assert task.status == task.run.status == "interrupted"
    assert events == [RunEnded(None)]
    assert task.run.captions.empty
    fake.gate = None
    again = session.start(SHORT)
    seen = []
    again.add_callback(seen.append)
    assert again.wait().id == task.run.id
    assert again.status == "done"
    assert isinstance(seen[-1], RunEnded)


def test_events_carry_their_window_and_text_that_grows(session, fake):
    fake.gate = asyncio.Event()
    task = session.start(SHORT, stage2="More: {caption}")
    events = []
    task.add_callback(events.append)
    loop.run(fake.open_gate())
    task.wait()
    for window_ in session.sources.windows:
        mine = [each for each in events if getattr(each, "window", None) is window_]
        kinds = [(type(each), getattr(each, "stage", None)) for each in mine]
        assert kinds == [
            (TextGrew, 1), (StageDone, None), (TextGrew, 2), (StageDone, None), (WindowDone, None),
        ]  # fmt: skip
        assert [each.text for each in mine[-1].captions] == [mine[1].caption.text, mine[3].caption.text]
        assert mine[1].caption.text.startswith(mine[0].text)


def test_the_same_work_is_found_while_it_runs_even_if_other_work_started_since(session, fake):
    fake.gate = asyncio.Event()
    one = session.start(SHORT, stage2="More: {caption}")
    other = session.start("Say more of it.", stage2="More: {caption}")
    assert session.start(SHORT, stage2="More: {caption}") is one
    loop.run(fake.open_gate())
    assert [task.wait().status for task in (one, other)] == ["done", "done"]
    assert len(fake.calls) == 16


def test_threads_with_the_same_work_share_a_run(fake, tmp_path):
    store = tmp_path / "runs.sqlite"
    sessions = [ck.Session(VIDEOS, store=store, backend=fake) for _ in range(4)]
    runs: list[ck.Run] = []

    def ask(session):
        runs.append(session.caption(SHORT, stage2="More: {caption}", batch_size=2))

    threads = [threading.Thread(target=ask, args=(each,)) for each in sessions]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert {run.id for run in runs} == {1}
    assert {run.status for run in runs} == {"done"}
    assert len(fake.calls) == 66
    for each in sessions:
        each.close()


def test_two_kernels_on_one_store_share_a_run(fake, tmp_path):
    store = tmp_path / "runs.sqlite"
    with_fake = [programs.start("fake_run", VIDEOS, store, stdout=subprocess.PIPE) for _ in range(2)]
    printed = [process.communicate(timeout=120)[0].split() for process in with_fake]
    assert [each[0] for each in printed] == ["done", "done"]
    # Each window and stage was requested once, by one of the two kernels.
    assert sum(int(each[1]) for each in printed) == 66
    assert list(ck.runs(store)["done"]) == [33]


def test_a_run_may_be_cancelled_at_any_moment(session):
    for pause in (0.0, 0.0, 0.001, 0.01, 0.05, 0.2):
        task = session.start(SHORT, fresh=True)
        time.sleep(pause)
        task.cancel()
        assert task.status in ("interrupted", "done")
    assert session.caption(SHORT).status == "done"


def test_a_failing_callback_loses_no_caption(session, fake, caplog):
    fake.gate = asyncio.Event()
    task = session.start(SHORT)
    task.add_callback(lambda event: 1 / 0)
    loop.run(fake.open_gate())
    assert task.wait().status == "done"
    assert "ZeroDivisionError" in caplog.text


def test_work_can_be_followed_with_async_for(session, fake):
    async def follow():
        fake.gate = asyncio.Event()
        task = session.start(SHORT)
        asyncio.get_running_loop().call_later(0.2, lambda: loop.submit(fake.open_gate()))
        return [(event.window.number, event.captions[-1].text) async for event in task]

    seen = asyncio.run(follow())
    assert sorted(number for number, _ in seen) == [0, 1, 2, 3]
    assert all(text.startswith(SHORT) for _, text in seen)


def test_a_backend_that_cannot_start_is_raised_by_wait(session, fake, monkeypatch):
    def refuse(recipe, stop):
        raise EngineError("no engine today")

    monkeypatch.setattr(session, "open_backend", refuse)
    with pytest.raises(EngineError, match="no engine today"):
        session.caption(SHORT)
    assert session.open(1).status == "interrupted"
    assert fake.calls == []


def test_a_window_forgotten_by_the_backend_is_sent_again_with_its_frames(session, fake):
    session.caption(SHORT)
    fake.known = {each.video.uid for each in fake.requests}
    session.caption("Say it again.")
    assert [each.video.frames is None for each in fake.requests[4:]] == [True] * 4

    class Forgetful(FakeBackend):
        def knows(self, uid):
            return True

    forgetful = ck.Session(VIDEOS / "harbour.mp4", store=session.store, backend=Forgetful())
    run = forgetful.caption("Say it anew.")
    assert run.status == "done"
    assert all(each.video.frames is not None for each in forgetful.backend.requests)


def test_a_sample_is_spread_over_videos_and_repeatable(tmp_path):
    session = ck.Session(VIDEOS, store=tmp_path / "runs.sqlite")
    sample = session.sample(8, seed=3)
    assert sample["video"].nunique() == 8
    assert sample.equals(session.sample(8, seed=3))
    assert not sample.equals(session.sample(8, seed=4))
    assert len(session.sample(500)) == 33
    assert session.sample(17)["video"].value_counts().max() <= 3
    with pytest.raises(ValueError, match="count is 0"):
        session.sample(0)
    session.close()


def test_notes_ratings_and_edits_are_kept(session, tmp_path):
    session.annotate(session.windows.query("window == 2"), "backlight")
    run = session.caption(SHORT)
    run.rate("harbour", 2, 4)
    run.edit("harbour", 2, "A better text.")
    run.set_note("harbour", 2, "look again")
    other = ck.Session(VIDEOS / "harbour.mp4", store=tmp_path / "runs.sqlite")
    assert list(other.windows["note"]) == ["", "", "backlight", ""]
    row = other.open(run.id).captions.query("window == 2").iloc[0]
    assert (row["rating"], row["edited_text"], row["note"]) == (4, "A better text.", "look again")
    run.rate("harbour", 2, None)
    assert run.captions["rating"].isna().all()
    with pytest.raises(ValueError, match="rating is 6"):
        run.rate("harbour", 2, 6)
    with pytest.raises(KeyError, match="no window 9"):
        run.rate("harbour", 9, 3)
    with pytest.raises(KeyError, match="no caption of stage 2"):
        run.rate("harbour", 2, 3, stage=2)


def test_windows_of_another_session_are_refused(session, tmp_path):
    other = ck.Session(VIDEOS / "night.mp4", store=tmp_path / "other.sqlite")
    with pytest.raises(ValueError, match=r"4 of these windows are not in this session .*'night'"):
        session.caption(windows=other.windows)
    with pytest.raises(ValueError, match="takes rows of the session's table"):
        session.caption(windows=[1, 2])
    with pytest.raises(ValueError, match="there is no window to caption"):
        session.caption(windows=session.windows.query("window > 99"))


@pytest.mark.parametrize(
    ("settings", "error", "message"),
    [
        ({"colour": "red"}, TypeError, "unknown setting colour; there are: "),
        ({"temperature": -1}, ValueError, "temperature is -1"),
        ({"window_size": 64}, ValueError, "windows were cut with 256"),
        ({"repeats": 0}, ValueError, "repeats is 0"),
        ({"batch_size": 0}, ValueError, "batch_size is 0"),
        ({"prompt": "nonesuch"}, ValueError, "no prompt is named 'nonesuch'"),
    ],
)
def test_bad_settings_are_refused_before_anything_runs(session, fake, settings, error, message):
    with pytest.raises(error, match=message):
        session.caption(**settings)
    assert fake.calls == []
    assert ck.runs(session.store).empty


def test_the_best_recipe_can_be_saved_and_used_again(session, tmp_path):
    run = session.caption(SHORT, stage2=True, temperature=0)
    assert run.recipe.stage2 == STAGE2_DEFAULT
    run.recipe.save(tmp_path / "recipe.toml")
    recipe = ck.Recipe.load(tmp_path / "recipe.toml")
    assert recipe == run.recipe
    assert session.caption(recipe=recipe).id == run.id


def test_repeats_have_seeds_of_their_own_and_a_stability(session, fake):
    numbers = iter(range(100))
    fake.say = lambda prompt, start, stage: f"Boat {next(numbers) if start == '0.00' else 1}."
    run = session.caption(SHORT, repeats=3)
    table = run.captions
    assert list(table["repeat"]) == [0] * 4 + [1] * 4 + [2] * 4
    stability = run.stability().set_index("window")
    assert stability.loc[0, "same"] == 0
    assert stability.loc[1, "same"] == 1
    assert list(stability["repeats"]) == [3] * 4
    with pytest.raises(ValueError, match="repeats=3"):
        session.caption(SHORT).stability()


def test_a_matrix_has_a_column_for_each_prompt(session):
    matrix = session.matrix(["short", SHORT])
    assert list(matrix.table.columns) == ["short", SHORT]
    assert list(matrix.table.index) == [("harbour", number) for number in range(4)]
    assert matrix._repr_html_().count("<tr>") == 5
    with pytest.raises(ValueError, match="there is no prompt"):
        session.matrix([])


def test_a_run_of_other_videos_can_be_opened_but_not_resumed(session, fake, tmp_path):
    fake.fail = {"0.00"}
    run = session.caption(SHORT)
    alone = ck.open_run(run.id, session.store)
    assert len(alone.captions) == 4
    with pytest.raises(ValueError, match="has no session"):
        alone.retry_failed()
    other = ck.Session(VIDEOS / "night.mp4", store=session.store)
    with pytest.raises(ValueError, match="not in this session"):
        other.open(run.id).retry_failed()


def test_a_stop_in_the_kernel_keeps_finished_captions_and_the_next_run_is_right(tmp_path):
    printed = programs.run("stopped_run", VIDEOS / "harbour.mp4", tmp_path / "s.sqlite")
    assert printed.splitlines() == [
        "interrupted 2",
        f"done {[f'Say what. at {start}.' for start in ('0.00', '8.53', '17.07', '25.60')]}",
    ]


@engine
def test_a_tuning_session_runs_as_the_documentation_prints_it(model, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data").symlink_to(DATA)
    s = ck.Session("data/*.mp4", model="demo")
    assert len(s.windows) == 33
    run = s.caption(prompt="default", stage2="Add what is missing: {caption}")
    assert len(run.captions) == 66
    short = s.caption(prompt="short", windows=s.windows.query("video == 'harbour'"))
    assert len(short.captions) == 4
    assert ck.compare(run, short).summary["windows"] == 4
    assert run.compare_stages().summary["windows"] == 33
    run.recipe.save("recipe.toml")
    assert Path("recipe.toml").exists()
    assert (tmp_path / ".captionkit" / "runs.sqlite").exists()
    s.close()


@engine
def test_recall_ranks_one_prompt_above_another(model, tmp_path):
    session = ck.Session(VIDEOS, store=tmp_path / "runs.sqlite")
    short = session.caption("short", stage2="Add what is missing: {caption}", temperature=0)
    table = summary(short)
    assert table.loc[2, "recall"] > table.loc[1, "recall"] + 0.1
    assert table.loc[1, "background"] == 0
    assert len(fact_recall(short)) == 66
    session.close()


def test_videos_without_truth_have_no_recall(session, tmp_path):
    shutil.copy(VIDEOS / "harbour.mp4", tmp_path / "plain.mp4")
    other = ck.Session(tmp_path / "plain.mp4", store=session.store, backend=session.backend)
    with pytest.raises(ValueError, match="no video of run 1 has a truth file"):
        fact_recall(other.caption(SHORT))


def test_a_sweep_on_a_gpu_measures_the_memory_of_the_gpu_in_use(session, fake, smi):
    smi(
        "0, GPU-a, NVIDIA L4, 8.9, 23034, 3034, 570.86.15, [N/A]",
        "1, GPU-b, NVIDIA L4, 8.9, 23034, 1034, 570.86.15, [N/A]",
    )
    fake.info["device"] = "cuda"
    sweep = session.sweep(batch_sizes=[2], prompts=[SHORT], temperature=0)
    assert list(sweep.table["peak_memory_gb"]) == [20_000 * 2**20 / 1e9] * len(sweep.table)
    assert {len(each) for each in sweep.table["peak_memory_each_gb"]} == {1}
    # One engine on both, and two engines of one each: the fullest, and each.
    for several in ({"tensor_parallel": 2}, {"devices": ["0", "1"]}):
        fake.info |= several
        table = session.sweep(batch_sizes=[2], prompts=[SHORT], temperature=0).table
        used = (20_000 * 2**20 / 1e9, 22_000 * 2**20 / 1e9)
        assert list(table["peak_memory_each_gb"]) == [used] * len(table)
        assert list(table["peak_memory_gb"]) == [used[1]] * len(table)
        assert "21, 23.1" in sweep_table(table)
    assert "each_gb" not in sweep_table(sweep.table)
    fake.info |= {"devices": ["1"]}
    table = session.sweep(batch_sizes=[2], prompts=[SHORT], temperature=0).table
    assert list(table["peak_memory_each_gb"]) == [used[1:]] * len(table)
    smi("0, GPU-a, NVIDIA L4, 8.9, 23034, [N/A], 570.86.15, [N/A]")
    fake.info |= {"devices": []}
    assert session.sweep(batch_sizes=[2], prompts=[SHORT]).table["peak_memory_gb"].isna().all()


@engine
def test_a_sweep_separates_cold_from_warm_and_refused_fp8_is_a_row(model, tmp_path):
    session = ck.Session(VIDEOS / "harbour.mp4", store=tmp_path / "runs.sqlite")
    sweep = session.sweep(batch_sizes=[1, 4], fp8=[False, True], prompts=["short"], temperature=0)
    table = sweep.table
    ran = table[table["error"].isna()]
    assert list(zip(ran["batch_size"], ran["cache"], strict=True)) == [
        (1, "cold"), (1, "warm"), (4, "cold"), (4, "warm"),
    ]  # fmt: skip
    assert (ran["windows"] == 4).all()
    assert (ran["agreement"] == 1).all()
    warm = ran.set_index(["batch_size", "cache"])["cached_tokens"]
    assert warm[1, "warm"] > warm[1, "cold"]
    assert warm[4, "cold"] == warm[1, "cold"]
    assert (ran["peak_memory_gb"] > 0.3).all()
    refused = table[table["error"].notna()]
    assert list(refused["fp8"]) == [True, True]
    assert "GPU" in refused["error"].iloc[0]
    sweep.figure().savefig(tmp_path / "sweep.png")
    assert (tmp_path / "sweep.png").stat().st_size > 10_000
    assert ck.runs(session.store).empty
    session.close()


def test_memory_is_measured_for_a_setting_that_ends_before_the_first_sample():
    with PeakMemory(lambda: 7) as memory:
        pass
    assert memory.most == 7


@pytest.mark.parametrize(
    ("axes", "message"),
    [
        ({"batch_sizes": [0]}, "batch_sizes holds 0"),
        ({"prompts": ["nonesuch"]}, "no prompt is named"),
        ({"fp8": []}, "fp8 is empty"),
    ],
)
def test_an_invalid_sweep_is_refused(session, axes, message):
    with pytest.raises(ValueError, match=message):
        session.sweep(**axes)


def test_a_sweep_without_a_setting_that_can_run_raises_the_reasons(tmp_path):
    session = ck.Session(VIDEOS / "harbour.mp4", store=tmp_path / "runs.sqlite")
    with pytest.raises(ValueError, match=r"no setting of the sweep can run: .*GPU"):
        session.sweep(fp8=[True])
    session.close()


def test_ten_thousand_windows_are_one_table(tmp_path):
    store = Store(tmp_path / "runs.sqlite")
    windows = [window(number) for number in range(10_000)]
    run = store.add_run(ck.Recipe(), windows, repeats=1, batch_size=16, fresh=True)
    work = store.begin_work(run)
    for job in work.claim(10_000)[::50]:
        work.add_caption(job, CAPTION)
        work.finish(job, None)
    work.end()
    table = ck.open_run(run, store).captions
    assert len(table) == 200
    assert isinstance(table, pd.DataFrame)
    store.close()


def start_kernel(tmp_path, then):
    return programs.start(
        "engine_run",
        VIDEOS / "street.mp4",
        tmp_path / "runs.sqlite",
        then,
        stdout=subprocess.PIPE,
        start_new_session=True,
    )


@engine
def test_a_kernel_killed_in_mid_run_leaves_no_engine_a_sound_store_and_a_run_to_resume(model, tmp_path):
    child = start_kernel(tmp_path, "sleep")
    family = psutil.Process(child.pid).children(recursive=True)
    worker = psutil.Process(int(child.stdout.readline()))
    family += [worker, *psutil.Process(child.pid).children(recursive=True)]
    child.kill()
    child.communicate()
    _, alive = psutil.wait_procs(family, timeout=30)
    assert alive == []
    session = ck.Session(VIDEOS / "street.mp4", store=tmp_path / "runs.sqlite")
    session.store.check()
    run = session.open(1)
    # A dead process does not count as work under way.
    assert run.status == "interrupted"
    before = run.captions["text"].dropna().tolist()
    assert before
    run.resume().wait()
    assert run.status == "done"
    assert len(run.captions) == 10
    assert set(before) <= set(run.captions["text"])
    session.close()


@engine
def test_two_interrupts_in_a_row_end_the_run_and_leave_no_engine(tmp_path):
    child = start_kernel(tmp_path, "wait")
    worker = psutil.Process(int(child.stdout.readline()))
    for _ in range(2):
        os.killpg(child.pid, signal.SIGINT)
        time.sleep(0.05)
    child.communicate(timeout=60)
    assert child.returncode != 0
    worker.wait(timeout=30)
    store = Store(tmp_path / "runs.sqlite")
    store.check()
    assert ck.open_run(1, store).captions["text"].notna().sum() >= 1
    store.close()
