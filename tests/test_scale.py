"""A recipe at scale: Ray Data with actors and drivers that die, and NeMo Curator's own pipeline."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
import types

import fsspec
import pandas as pd
import programs
import psutil
import pytest
from common import ROOT, VIDEOS, is_engine

import captionkit as ck
from captionkit import cli
from captionkit.captions import COLUMNS
from captionkit.export.errors import ExportError
from captionkit.scale import ScaleError, caption_videos
from captionkit.scale.cluster import connect
from captionkit.scale.parts import Parts
from captionkit.scale.ray_data import _Prepare
from captionkit.sources import find_videos

NAMES = ("winter", "river", "harbour", "desert")
WINDOWS = {"winter": 3, "river": 3, "harbour": 4, "desert": 4}


@pytest.fixture
def films(tmp_path):
    folder = tmp_path / "films"
    folder.mkdir()
    for name in NAMES:
        shutil.copy(VIDEOS / f"{name}.mp4", folder)
    (folder / "broken.mp4").write_bytes(b"no video at all")
    return folder


def start(tmp_path, films, output, actors):
    with (tmp_path / "job.log").open("ab") as log:
        return programs.start(
            "ray_job", films, output, actors,
            stdout=subprocess.PIPE, stderr=log, cwd=ROOT, env={"RAY_AUTH_MODE": "disabled"},
        )  # fmt: skip


def summary(job, tmp_path):
    printed = job.communicate(timeout=240)[0]
    assert job.returncode == 0, (tmp_path / "job.log").read_text()[-4000:]
    return json.loads(printed.split("SUMMARY ")[1].splitlines()[0])


def rows(output):
    """Return all rows of all parts, unchanged."""
    return pd.concat([pd.read_parquet(path) for path in (output / "parts").glob("*.parquet")])


def until(condition, seconds=150):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.05)


def actors_of(job):
    """Return the processes with a client of an engine."""
    found = []
    for process in psutil.process_iter(["pid", "cmdline"]):
        if is_engine(process.info["cmdline"]):
            found += [p for p in process.parents() if any("MapWorker" in w for w in p.cmdline())][:1]
    return found


@pytest.mark.parametrize(("failures", "starts"), [(0, 1), (2, 3), (3, 3)])
def test_ray_is_started_again_where_it_outlasts_its_own_limit(failures, starts):
    calls = []

    def init(**_):
        calls.append("init")
        if calls.count("init") <= failures:
            raise Exception("The current node timed out during startup.")

    ray = types.SimpleNamespace(
        init=init, is_initialized=lambda: False, shutdown=lambda: calls.append("shutdown")
    )
    if failures == 3:
        with pytest.raises(ScaleError, match="did not start on this machine in 3 tries: The current"):
            connect(ray, None)
    else:
        connect(ray, None)
    assert calls.count("init") == starts
    assert calls.count("shutdown") == failures


@pytest.mark.engine
def test_killed_actors_and_drivers_lose_no_caption_and_another_run_computes_nothing(tmp_path, films):
    output = tmp_path / "out"
    job = start(tmp_path, films, output, 2)
    until(lambda: any((output / "parts").glob("*.parquet")) if output.exists() else False)
    victims = actors_of(job)
    assert victims
    victims[0].kill()
    done = summary(job, tmp_path)
    table = ck.load_captions(output)
    assert tuple(table.columns) == COLUMNS
    good = table[table["error"].isna()]
    assert good.groupby("video")["window"].nunique().to_dict() == WINDOWS
    assert not good.duplicated(["path", "window", "stage"]).any()
    assert good["text"].str.len().gt(0).all()
    assert sorted(good["stage"].unique()) == [1, 2]
    (bad,) = table[table["error"].notna()].itertuples()
    assert bad.path == str(films / "broken.mp4")
    assert bad.window == -1
    assert (done["captioned"], done["failed"]) == (14, 1)
    assert json.loads((output / "summary.json").read_text()) == done
    # Keys equal those of a session, so that captions can be joined.
    session = ck.Session([films / f"{name}.mp4" for name in NAMES], store=tmp_path / "runs.sqlite")
    assert set(good["key"]) == set(session.windows["key"])
    session.close()
    # Only what failed or is new is captioned, also after a kill of the driver with parts of it written.
    shutil.copy(VIDEOS / "night.mp4", films / "broken.mp4")
    shutil.copy(VIDEOS / "street.mp4", films / "new.mp4")
    before = set((output / "parts").glob("*.parquet"))
    job = start(tmp_path, films, output, 1)
    until(lambda: set((output / "parts").glob("*.parquet")) - before)
    job.send_signal(signal.SIGKILL)
    job.communicate()
    kept = rows(output)
    left = 23 - kept[kept["error"].isna()][["path", "window"]].drop_duplicates().shape[0]
    again = summary(start(tmp_path, films, output, 1), tmp_path)
    assert again["of this run"] <= left
    assert (again["captioned"], again["failed"]) == (23, 0)
    table = ck.load_captions(output)
    assert table["error"].isna().all()
    assert not table.duplicated(["path", "window", "stage"]).any()
    assert table.groupby("video")["window"].nunique().to_dict() == {**WINDOWS, "broken": 4, "new": 5}
    assert not [path for path in (output / "parts").iterdir() if path.name.startswith("failed-")]
    with pytest.raises(ScaleError, match="another recipe"):
        caption_videos(str(films / "*"), ck.Recipe(prompt="dense"), output)


def row_of(path, number, error=None, stage=1):
    nothing = dict.fromkeys(COLUMNS)
    window = {"video": "film", "path": path, "window": number, "stage": stage, "repeat": 0}
    return ck.CaptionRow(**{**nothing, **window, "text": None if error else "A boat.", "error": error})


def test_parts_work_at_any_fsspec_address_and_are_complete():
    parts = Parts("memory://captions")
    recipe = ck.Recipe()
    parts.claim(recipe)
    assert parts.done() == {}
    # Writing the same windows again writes the same file.
    for _ in range(2):
        parts.write([row_of("s3://films/a.mp4", 3), row_of("s3://films/a.mp4", 3, stage=2)])
    parts.write([row_of("s3://films/b.mp4", -1, "no video")])
    assert parts.done() == {"s3://films/a.mp4": {3}}
    assert parts.counts() == (1, 1)
    Parts("memory://captions").claim(recipe)
    with pytest.raises(ScaleError, match="another recipe"):
        Parts("memory://captions").claim(ck.Recipe(prompt="dense"))
    table = ck.load_captions("memory://captions")
    assert sorted(table["path"]) == ["s3://films/a.mp4", "s3://films/a.mp4", "s3://films/b.mp4"]
    with pytest.raises(ExportError, match="cannot read memory://nothing"):
        ck.load_captions("memory://nothing")


def test_an_address_with_a_slash_behind_it_stands_for_its_films_and_one_without_is_refused():
    files = fsspec.filesystem("memory")
    for name in ("a.mp4", "deep/b.mkv", "notes.txt"):
        files.pipe_file(f"/bucket/{name}", b"x")
    found, problems = find_videos(["memory://bucket/", "memory://none/"])
    assert found == ["memory:///bucket/a.mp4", "memory:///bucket/deep/b.mkv"]
    assert list(problems) == ["memory://none/"]
    (row,) = _Prepare(ck.Recipe(), "models")._windows("memory://bucket/deep", "deep", set())
    assert "put a slash behind it" in json.loads(row["content"][0])["error"]


def test_a_window_that_failed_is_not_done_and_later_captions_replace_its_error(tmp_path):
    parts = Parts(str(tmp_path))
    parts.claim(ck.Recipe())
    parts.write([row_of("a.mp4", 0), row_of("a.mp4", 1), row_of("a.mp4", 1, "stage 2 broke", stage=2)])
    parts.write([row_of("b.mp4", -1, "cannot be read")])
    assert parts.done() == {"a.mp4": {0}}
    assert parts.counts() == (1, 2)
    table = ck.load_captions(tmp_path)
    assert [(row.path, row.window, row.stage) for row in table.itertuples()] == [
        ("a.mp4", 0, 1), ("a.mp4", 1, 1), ("a.mp4", 1, 2), ("b.mp4", -1, 1),
    ]  # fmt: skip
    failures = parts.failures()
    assert sorted(of for paths in failures.values() for of in paths) == ["a.mp4", "b.mp4"]
    parts.write([row_of("a.mp4", 1), row_of("a.mp4", 1, stage=2), row_of("b.mp4", 0)])
    # Windows that failed before do not count, even if a kill prevented the deletion of their parts. A
    # film that could not be read does: nobody knows which of its windows are missing.
    assert parts.counts() == (3, 1)
    table = ck.load_captions(tmp_path / "parts")
    assert list(table[table["error"].notna()]["path"]) == ["b.mp4"]
    assert len(table) == 5
    parts.drop(failures)
    assert parts.counts() == (3, 0)
    assert ck.load_captions(tmp_path)["error"].isna().all()


def test_a_film_that_cannot_be_read_on_resume_counts_as_failed_beside_its_captions(tmp_path):
    parts = Parts(str(tmp_path))
    parts.claim(ck.Recipe())
    parts.write([row_of("a.mp4", 0), row_of("a.mp4", 1)])
    parts.write([row_of("a.mp4", -1, "access denied")])
    assert parts.counts() == (2, 1)
    table = ck.load_captions(tmp_path)
    assert list(table["error"].dropna()) == ["access denied"]


def test_after_an_interrupted_claim_the_same_command_takes_the_folder(tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(Parts, "_put", lambda *_: (_ for _ in ()).throw(OSError("no space left")))
        with pytest.raises(ScaleError, match="no space left"):
            Parts(str(tmp_path)).claim(ck.Recipe())
    (tmp_path / "recipe.toml.1234.part").touch()
    Parts(str(tmp_path)).claim(ck.Recipe())
    assert (tmp_path / "recipe.toml").exists()


def test_a_damaged_part_is_named_with_the_way_out(tmp_path):
    parts = Parts(str(tmp_path))
    parts.claim(ck.Recipe())
    parts.write([row_of("a.mp4", 0)])
    (tmp_path / "parts" / "half.parquet").touch()
    with pytest.raises(ScaleError, match=r"half\.parquet is damaged.*delete it"):
        parts.done()


def test_a_part_that_another_run_took_away_stops_nothing(tmp_path, monkeypatch):
    parts = Parts(str(tmp_path))
    parts.claim(ck.Recipe())
    parts.write([row_of("a.mp4", 0)])
    names = parts._names()
    monkeypatch.setattr(parts, "_names", lambda: [*names, "gone.parquet", "failed-gone.parquet"])
    assert parts.done() == {"a.mp4": {0}}
    assert parts.counts() == (1, 0)
    parts.drop(parts.failures())


def test_a_relative_output_is_the_drivers_wherever_an_actor_works(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert Parts("out").address == str(tmp_path / "out")


def test_small_parts_become_large_ones_and_nothing_is_lost_by_an_interruption(tmp_path, monkeypatch):
    monkeypatch.setattr(sys.modules[Parts.__module__], "_MERGED_ROWS", 100)
    monkeypatch.setattr(sys.modules[Parts.__module__], "_AT_ONCE", 8)
    parts = Parts(str(tmp_path))
    parts.claim(ck.Recipe())
    for batch in range(60):
        parts.write([row_of("a.mp4", 4 * batch + number) for number in range(4)])
    parts.write([row_of("b.mp4", 0, "stage 1 broke")])
    before, table = parts.done(), ck.load_captions(tmp_path)
    small = set((tmp_path / "parts").iterdir())
    with monkeypatch.context() as patch:
        patch.setattr(parts._files, "rm", lambda name: (_ for _ in ()).throw(OSError("no more")))
        with pytest.raises(OSError, match="no more"):
            parts.merge()
    # One large part is there beside its small ones: each window counts once.
    assert len(set((tmp_path / "parts").iterdir()) - small) == 1
    assert ck.load_captions(tmp_path).equals(table)
    parts.merge()
    parts.merge()
    names = sorted(path.name for path in (tmp_path / "parts").iterdir())
    assert [name.split("-")[0] for name in names] == ["failed", "merged", "merged"]
    assert parts.done() == before == {"a.mp4": set(range(240))}
    assert parts.counts() == (240, 1)
    assert ck.load_captions(tmp_path).equals(table)


def test_a_folder_with_other_files_is_left_alone(tmp_path):
    (tmp_path / "mine.txt").write_text("keep me")
    with pytest.raises(ScaleError, match="other files"):
        Parts(str(tmp_path)).claim(ck.Recipe())
    assert sorted(path.name for path in tmp_path.iterdir()) == ["mine.txt"]


def test_bad_input_is_refused_before_anything_starts(tmp_path, monkeypatch):
    film = VIDEOS / "winter.mp4"
    with pytest.raises(ScaleError, match="does not answer"):
        caption_videos(film, ck.Recipe(), tmp_path / "a", address="127.0.0.1:9")
    with pytest.raises(ScaleError, match="cannot be used"):
        caption_videos(film, ck.Recipe(), "nosuchscheme://bucket")
    with pytest.raises(FileNotFoundError, match="nothing matches"):
        caption_videos(str(tmp_path / "*.mp4"), ck.Recipe(), tmp_path / "b")
    with pytest.raises(ValueError, match="batch_size"):
        caption_videos(film, ck.Recipe(), tmp_path / "c", batch_size=0)
    with pytest.raises(ValueError, match="takes stage 1 from a session's store"):
        caption_videos(film, ck.Recipe(stage2="More: {caption}", given="0123456789abcdef"), tmp_path)
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(ScaleError, match=r"captionkit\[ray\]"):
        caption_videos(film, ck.Recipe(), tmp_path / "d")
    # The command line prints the same error in one line.
    assert cli.main(["caption", str(film), "--ray", "--out", str(tmp_path / "d")]) == 1


def test_an_old_ray_is_refused(tmp_path, monkeypatch):
    ray = pytest.importorskip("ray")
    monkeypatch.setattr(ray, "__version__", "2.9.1")
    with pytest.raises(ScaleError, match=r"2\.9\.1"):
        caption_videos(VIDEOS / "winter.mp4", ck.Recipe(), tmp_path / "out")


@pytest.mark.engine
def test_nemo_curators_own_pipeline_has_both_stages_and_a_corrupt_clip_costs_itself(
    tmp_path,
):
    assert shutil.which("ffmpeg"), "no ffmpeg here, which NeMo Curator needs: apt-get install ffmpeg"
    (tmp_path / "in").mkdir()
    # Small and short, since NeMo Curator's encoder is slow: three clips of one window each.
    subprocess.run(
        [
            "ffmpeg", "-v", "error", "-i", str(VIDEOS / "winter.mp4"), "-t", "12.9",
            "-vf", "scale=320:-2", "-crf", "12", "-preset", "ultrafast", str(tmp_path / "in/film.mp4"),
        ],
        check=True,
    )  # fmt: skip
    done = subprocess.run(
        [
            sys.executable, str(ROOT / "tests" / "curator_pipeline.py"),
            str(tmp_path / "in"), str(tmp_path / "out"),
        ],
        capture_output=True, text=True, timeout=240, cwd=ROOT,
        env={**os.environ, "RAY_AUTH_MODE": "disabled"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-4000:]
    metas = [json.loads(path.read_text()) for path in (tmp_path / "out/metas/v0").glob("*.json")]
    assert len(metas) == 3
    (bad,) = (meta for meta in metas if "errors" in meta)
    assert (bad["valid"], bad["windows"]) == (False, [])
    windows = [window for meta in metas for window in meta["windows"]]
    assert len(windows) == 2
    # The first stage alone writes one short sentence without the background.
    assert all("snow" in window["demo_caption"] for window in windows)
    assert all("snow" not in window["demo_stage1_caption"] for window in windows)
    assert len(list((tmp_path / "out/previews").rglob("*.webp"))) == 2
