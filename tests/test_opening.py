"""Opening collections: the first windows at once, the rest in order, stopped, kept and moved."""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import sqlite3
import subprocess
import threading

import numpy as np
import pandas as pd
import programs
import pytest
from common import VIDEOS

import captionkit as ck
from captionkit.run.progress import opening_of
from captionkit.session import session as session_module
from captionkit.sources import ClipRequest, CutRule, Sources, VideoRequest, earlier_key, whole_hash
from captionkit.sources.find import VIDEO_SUFFIXES, find_videos
from captionkit.store import Store
from captionkit.store.schema import TABLES
from captionkit.video import DecodePool, VideoError, VideoMetadata
from captionkit.video.cache import FileCache, file_cache, file_stamp

NAMES = ["harbour", "night", "street"]


class Films:
    """A pool without processes: each film is there when its gate opens."""

    workers = 4

    def __init__(self, broken: set[str] = frozenset(), same: set[str] = frozenset()) -> None:
        self.gates: dict[str, threading.Event] = {}
        self.broken, self.same = broken, same
        self.stopped = threading.Event()

    def probe(self, path: str) -> VideoMetadata:
        gate = self.gates.setdefault(path, threading.Event())
        while not gate.wait(0.01):
            if self.stopped.is_set():
                raise VideoError(f"{path}: the opening was stopped")
        if path in self.broken:
            raise VideoError(f"{path} is broken")
        content = "same" if path in self.same else path
        times = np.arange(300) / 30
        return VideoMetadata(64, 32, times, 30.0, 10.0, "h264", "mp4", 0, path, content=content)

    def stop_probing(self) -> None:
        self.stopped.set()

    def close(self) -> None:
        pass

    def open(self, *paths: str) -> None:
        for path in paths:
            self.gates.setdefault(path, threading.Event()).set()


def opened(pool: Films, *names: str) -> Sources:
    requests = [VideoRequest(name, (ClipRequest(name, name),)) for name in names]
    return Sources(requests, CutRule(ck.Recipe()), pool, {})


def test_windows_stand_in_the_order_of_the_videos_whichever_is_ready_first():
    pool = Films()
    sources = opened(pool, "a", "b", "c")
    pool.open("c", "b")
    assert not sources.wait(0.2, first=True)
    assert sources.opening.windows == 0
    pool.open("a")
    assert [each.video for each in sources.windows] == ["a", "b", "c"]
    assert str(sources.opening) == "3 of 3 videos opened, 3 windows"


def test_the_first_of_equal_videos_keeps_its_windows_even_if_it_is_ready_last():
    pool = Films(same={"a", "b"})
    sources = opened(pool, "a", "b", "c")
    pool.open("b", "c")
    assert not sources.wait(0.1)
    pool.open("a")
    assert [each.video for each in sources.windows] == ["a", "c"]
    assert sources.problems == {"b": "has the same content as a, whose captions apply; left out"}


def test_ready_windows_are_there_while_others_are_opened_and_listeners_hear_of_each():
    pool = Films()
    sources = opened(pool, "a", "b", "c")
    heard = threading.Event()
    pool.open("a")
    assert sources.wait(10, first=True)
    assert [each.video for each in sources.ready] == ["a"]
    assert str(sources.opening) == "opening 1 of 3 videos, 1 window so far"
    # Who waited for the first windows is not left with a bar that stands still.
    assert opening_of(sources, first=True).state() == (
        3, 3, "the first windows are ready, others follow meanwhile"
    )  # fmt: skip
    assert opening_of(sources).state()[:2] == (1, 3)
    sources.listen(heard.set)
    pool.open("b")
    assert heard.wait(10)
    pool.open("c")
    assert sources.wait(10)


def test_a_stop_keeps_what_is_ready_and_names_the_rest():
    pool = Films(broken={"b"})
    sources = opened(pool, *"abcdefgh")
    pool.open("a", "b")
    assert sources.wait(10, first=True)
    while sources.opening.opened < 2:
        sources.wait(0.01)
    sources.stop()
    assert [each.video for each in sources.windows] == ["a"]
    assert list(sources.problems) == list("bcdefgh")
    assert sources.problems["b"] == "b is broken"
    assert {sources.problems[name] for name in "cdefgh"} == {
        "was not opened: the opening was stopped; open the session again"
    }


def test_an_interrupt_while_waiting_stops_the_opening_and_leaves_the_session_usable(
    fake, tmp_path, monkeypatch
):
    session = ck.Session(VIDEOS / "harbour.mp4", store=tmp_path / "s", backend=fake)
    pool = Films()
    session.sources = opened(pool, "a", "b")
    pool.open("a")
    assert session.sources.wait(10, first=True)

    def interrupted(*_, **__):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(session.sources, "wait", interrupted)
        with pytest.raises(KeyboardInterrupt):
            len(session.windows)
    assert list(session.windows["video"]) == ["a"]
    assert list(session.problems) == ["b"]
    assert "1 left out" in repr(session)
    assert "1 left out (session.problems): b" in repr(session.windows)
    session.close()


@pytest.fixture
def growing(fake, tmp_path):
    """A session of which the first of three films is opened, and the pool that opens the others."""
    session = ck.Session(VIDEOS / "harbour.mp4", store=tmp_path / "s", backend=fake)
    session.sources.close()
    pool = Films(broken={"c"})
    session.sources = opened(pool, "a", "b", "c")
    pool.open("a")
    assert session.sources.wait(10, first=True)
    yield session, pool
    pool.open("b", "c")
    session.close()


def test_a_workbench_grows_while_videos_are_opened_and_shows_what_is_left_out(growing):
    session, pool = growing
    bench = ck.Workbench(session)
    assert bench.browser._total == 1
    assert bench.browser.value == ("a", 0)
    assert bench.board._ticks.join(30)
    assert bench.browser._status == "opening 1 of 3 videos, 1 window so far"
    assert bench.browser._busy
    assert not bench.tuner.stop.disabled
    assert bench.left_out.value == ""
    pool.open("b", "c")
    assert bench.board.idle(30)
    assert [row.name for row in bench.board.windows] == [("a", 0), ("b", 0)]
    assert bench.browser._total == bench.browser._count == 2
    assert bench.browser.value == ("a", 0)
    assert "All windows (2)" in bench.tuner.run_all.description
    assert "c is broken" in bench.left_out.value
    assert not bench.browser._busy
    bench.close()


def test_stop_in_the_workbench_stops_the_opening_if_no_run_is_under_way(growing):
    session, _ = growing
    bench = ck.Workbench(session)
    bench.tuner.stop.click()
    assert bench.board.idle(30)
    assert session.opening.ended
    assert "b: was not opened: the opening was stopped" in bench.left_out.value
    bench.close()


def test_ready_windows_can_be_captioned_while_others_are_opened(growing, fake):
    session, pool = growing
    ready = session.sources.ready[0]
    task = session.start("Say it.", windows=pd.DataFrame({"key": [ready.key]}))
    assert not session.opening.ended
    assert task.run.progress.total == 1
    task.cancel()
    pool.open("b", "c")
    with pytest.raises(ValueError, match="1 of these windows are not in this session"):
        session.start("Say it.", windows=pd.DataFrame({"key": ["unknown"]}))


def test_all_windows_are_captioned_by_a_call_that_names_none(growing):
    session, pool = growing
    threading.Timer(0.2, lambda: pool.open("b", "c")).start()
    task = session.start("Say it.")
    assert task.run.progress.total == 2
    task.cancel()


def test_a_stopped_probe_ends_at_once_and_the_pool_reads_on(films_of_a_folder):
    path = str(films_of_a_folder / "harbour.mp4")
    with DecodePool(1) as pool:
        pool.read(path, [0], (64, 32))
        process = pool._idle.queue[0]
        process.process.send_signal(19)  # SIGSTOP: a probe that does not end
        failed: list[Exception] = []

        def probe():
            try:
                pool.probe(str(shutil.copy(path, films_of_a_folder / "other.mp4")))
            except VideoError as error:
                failed.append(error)

        thread = threading.Thread(target=probe)
        thread.start()
        while not pool._probing:
            thread.join(0.01)
        pool.stop_probing()
        thread.join(30)
        assert "the opening was stopped" in str(failed[0])
        assert len(pool.read(path, [0], (64, 32)).pixels) == 1


def test_a_session_closes_while_it_opens(films_of_a_folder, fake, tmp_path, monkeypatch):
    monkeypatch.setattr(session_module, "_AT_ONCE_S", 0)
    for number in range(30):
        shutil.copy(VIDEOS / "night.mp4", films_of_a_folder / f"z{number}.mp4")
    session = ck.Session(films_of_a_folder, store=tmp_path / "s", backend=fake)
    session.close()
    assert session.opening.ended
    assert session.sources.windows[0].video == "harbour"


def test_no_video_that_can_be_captioned_is_an_error_with_all_reasons(tmp_path, fake):
    for name in "ab":
        (tmp_path / f"{name}.mp4").write_text("no film")
    with pytest.raises(ValueError, match=r"no video has a window .*a\.mp4.*b\.mp4"):
        ck.Session(tmp_path, store=tmp_path / "s", backend=fake)


@pytest.fixture
def films_of_a_folder(tmp_path):
    folder = tmp_path / "films"
    folder.mkdir()
    for name in NAMES:
        shutil.copy(VIDEOS / f"{name}.mp4", folder)
    return folder


def test_a_second_opening_takes_indexes_from_the_disk_and_no_process(
    films_of_a_folder, fake, tmp_path, monkeypatch
):
    first = ck.Session(films_of_a_folder, store=tmp_path / "s", backend=fake)
    before = first.windows
    first.close()

    def refuse(*_):
        pytest.fail("a known file was read again")

    with monkeypatch.context() as patch:
        patch.setattr(DecodePool, "_ask", refuse)
        second = ck.Session(films_of_a_folder, store=tmp_path / "s", backend=fake)
        after = second.windows
    assert after.equals(before)
    shown = [window.source.metadata.frame_times.tolist() for window in second.sources.windows]
    assert shown == [window.source.metadata.frame_times.tolist() for window in first.sources.windows]
    second.close()


def test_a_file_replaced_by_another_of_its_size_and_time_is_opened_anew(tmp_path, fake):
    film = tmp_path / "film.mp4"
    for name in ("harbour", "night"):
        shutil.copy(VIDEOS / f"{name}.mp4", tmp_path / "new.mp4")
        size = (VIDEOS / "harbour.mp4").stat().st_size
        with (tmp_path / "new.mp4").open("ab") as file:
            file.truncate(max(size, file.tell()))
        os.utime(tmp_path / "new.mp4", (1_000_000, 1_000_000))
        (tmp_path / "new.mp4").replace(film)
        session = ck.Session(film, store=tmp_path / "s", backend=fake)
        keys = set(session.windows["key"])
        session.close()
        if name == "harbour":
            before = keys
    assert not keys & before


def test_a_damaged_or_unusable_cache_costs_nothing_but_time(films_of_a_folder, fake, tmp_path, cache):
    def keys() -> list[str]:
        session = ck.Session(films_of_a_folder, store=tmp_path / "s", backend=fake)
        found = list(session.windows["key"])
        session.close()
        return found

    expected = keys()
    file_cache().close()
    (cache / "files.sqlite").write_bytes(b"not a database" * 500)
    assert keys() == expected
    with contextlib.closing(sqlite3.connect(cache / "files.sqlite", isolation_level=None)) as db:
        db.execute("UPDATE entries SET content = x'00'")
    assert keys() == expected
    file_cache().close()
    shutil.rmtree(cache)
    cache.write_text("a file in the folder's place")
    assert keys() == expected


def test_many_processes_and_threads_may_use_a_new_cache_at_once(tmp_path, cache):
    """Each of 4 processes keeps 50 entries and finds all of its own."""
    path = tmp_path / "film"
    path.write_bytes(b"a film")
    started = [programs.start("use_cache", path, number, stdout=subprocess.PIPE) for number in range(4)]
    found = [int(each.communicate(timeout=60)[0]) for each in started]
    # The first of all may find the new file locked.
    assert min(found) >= 45
    assert file_cache().get(path, "0-49", file_stamp(path)) == b"0-49"


def test_the_oldest_entries_of_a_large_cache_go(tmp_path):
    path = tmp_path / "film"
    path.touch()
    cache = FileCache(tmp_path / "files.sqlite", most_bytes=1 << 20)
    for number in range(2000):
        cache.put(path, f"{number}", "", bytes(4096))
    assert cache.get(path, "0", "") is None
    assert cache.get(path, "1999", "") is not None
    cache.close()
    assert (tmp_path / "files.sqlite").stat().st_size < 4 << 20


def test_a_folder_lists_every_kind_of_film_and_names_those_that_cannot_be_read(tmp_path):
    for suffix in sorted(VIDEO_SUFFIXES):
        (tmp_path / f"film{suffix.upper()}").touch()
    for name in ("notes.txt", "film.json", "poster.jpg", "song.mp3"):
        (tmp_path / name).touch()
    (tmp_path / "raw.braw").touch()
    found, problems = find_videos(tmp_path)
    assert len(found) == len(VIDEO_SUFFIXES)
    assert {".m2ts", ".mxf", ".vob", ".3g2", ".gif"} <= VIDEO_SUFFIXES
    (reason,) = problems.values()
    assert "raw.braw: .braw is a kind of film that the decoder does not know" in reason


def test_a_store_of_the_whole_file_keys_keeps_runs_captions_ratings_and_notes(
    films_of_a_folder, fake, tmp_path
):
    path = tmp_path / "runs.sqlite"
    with_store = {"store": path, "backend": fake}
    session = ck.Session(films_of_a_folder, **with_store)
    run = session.caption("Say it.")
    run.rate("harbour", 1, 5)
    session.annotate(session.windows.head(1), "a boat")
    captions, windows = run.captions, session.sources.windows
    session.close()
    make_earlier(path, windows)
    # Moved: captions follow the content, not the path.
    films_of_a_folder = films_of_a_folder.rename(tmp_path / "elsewhere")
    fake.calls.clear()
    session = ck.Session(films_of_a_folder, **with_store)
    again = session.caption("Say it.")
    assert fake.calls == []
    assert again.id == run.id
    assert again.captions["text"].equals(captions["text"])
    assert again.captions["rating"].dropna().tolist() == [5]
    assert session.windows["note"].tolist().count("a boat") == 1
    session.close()
    with sqlite3.connect(path) as db:
        assert db.execute("SELECT count(*) FROM windows WHERE key < 'g'").fetchone() == (0,)


def test_a_new_store_hashes_no_whole_file(films_of_a_folder, fake, tmp_path, monkeypatch):
    monkeypatch.setattr(
        "captionkit.store.earlier.whole_hash", lambda file: pytest.fail(f"{file} was read")
    )
    for _ in range(2):
        session = ck.Session(films_of_a_folder, store=tmp_path / "s", backend=fake)
        session.caption("Say it.")
        session.close()


def test_every_column_with_a_key_of_a_window_is_moved():
    from captionkit.store.earlier import _KEYS

    tables = [part.split("(")[0].split()[-1] for part in TABLES.split(";") if "window_key" in part]
    assert sorted(set(tables) & set(_KEYS)) == sorted(_KEYS)
    made = [part for part in TABLES.split(";") if "CREATE TABLE" in part and "window_key" in part]
    assert {part.split("(")[0].split()[-1] for part in made} == set(_KEYS)


def make_earlier(path, windows) -> None:
    """Give a store the keys of captionkit 0.1."""
    earlier = {each.key: earlier_key(each, whole_hash(each.source.file)) for each in windows}
    with sqlite3.connect(path) as db:
        for new, old in earlier.items():
            db.execute("UPDATE windows SET key = ? WHERE key = ?", (old, new))
            for table in ("jobs", "results", "choices"):
                db.execute(f"UPDATE {table} SET window_key = ? WHERE window_key = ?", (old, new))
        for run, recipe, repeats in db.execute("SELECT id, recipe_key, repeats FROM runs").fetchall():
            keys = [key for (key,) in db.execute("SELECT window_key FROM jobs WHERE run = ?", (run,))]
            work = "\n".join([recipe, str(repeats), *keys])
            key = hashlib.sha256(work.encode()).hexdigest()[:16]
            db.execute("UPDATE runs SET key = ? WHERE id = ?", (key, run))


def test_a_file_was_hashed_whole_as_captionkit_0_1_did():
    content = hashlib.blake2b((VIDEOS / "harbour.mp4").read_bytes(), digest_size=16).hexdigest()
    assert whole_hash(str(VIDEOS / "harbour.mp4")) == content


def test_a_run_of_100_000_windows_shows_its_first_rows_and_its_count(tmp_path):
    from captionkit.bench.store import imaginary_film

    store = Store(tmp_path / "runs.sqlite")
    windows = imaginary_film(2000)
    number = store.add_run(ck.Recipe(), windows, repeats=1, batch_size=16, fresh=False)
    with sqlite3.connect(store.path) as db:
        db.execute(
            "INSERT INTO results (recipe_key, window_key, repeat, done, created) "
            "SELECT recipe_key, window_key, repeat, 1, '' FROM jobs JOIN runs ON runs.id = run"
        )
        db.execute(
            "UPDATE jobs SET state = 1, result = (SELECT id FROM results r "
            "WHERE r.window_key = jobs.window_key)"
        )
        db.execute(
            "INSERT INTO captions SELECT id, 1, '', '', 'A red boat.', 'stop', 1, 1, 0, 0, 0, 0, NULL, "
            "NULL, NULL, NULL FROM results"
        )
    asked = []
    run = ck.open_run(number, store)
    html = run._repr_html_()
    assert html.count("A red boat.") == 50
    assert "2000 of 2000 windows captioned, the first 50 shown" in html
    assert len(run.captions) == 2000
    assert len(run.head(3)) == 3
    assert not asked
    store.close()
