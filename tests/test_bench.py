"""The benchmark: forced lengths, known windows, goals reported by their figures."""

from __future__ import annotations

import json
import os
import signal
import statistics
import subprocess
import sys
import threading
import time
import types
from concurrent.futures import ThreadPoolExecutor

import psutil
import pytest
from common import VIDEOS
from rich.console import Console

import captionkit as ck
from captionkit import cli
from captionkit.bench import growth, limit, real_size, speed
from captionkit.bench.claims import verify_known
from captionkit.bench.growth import Measured, missed, slopes
from captionkit.bench.opening import bench_opening
from captionkit.bench.real_size import real_size_model
from captionkit.bench.report import Goal, Report, new_report
from captionkit.bench.sides import Ours
from captionkit.bench.work import STAGE2, Work, films, lengths, planned, repeat_film
from captionkit.demo import videos


def test_mixed_lengths_go_from_16_to_256_and_are_the_same_each_time():
    mixed = lengths(64, None)
    assert min(mixed) == 16
    assert max(mixed) == 256
    assert mixed == lengths(64, None)
    assert lengths(3, 32) == [32, 32, 32]


def test_a_goal_is_met_or_missed_by_its_figure():
    assert Goal("faster", 2.0, 2.0).met
    assert not Goal("faster", 1.99, 2.0).met
    assert Goal("smaller", 0.4, 0.5, at_least=False).met
    assert not Goal("smaller", 0.6, 0.5, at_least=False).met


def test_the_report_prints_every_goal_and_is_written_as_json(tmp_path):
    report = Report({"date": "2026-11-23"})
    report.goals = [Goal("a", 2.0, 1.5), Goal("b", 0.8, 0.9)]
    report.cases = [{"case": "one", "side": "captionkit", "seconds": [1.0, 3.0, 2.0]}]
    with (tmp_path / "printed").open("w") as file:
        report.print(Console(file=file, width=120))
    printed = (tmp_path / "printed").read_text()
    assert printed.count("missed") == 1
    assert "2.00" in printed
    report.save(tmp_path / "bench.json")
    kept = json.loads((tmp_path / "bench.json").read_text())
    assert [goal["met"] for goal in kept["goals"]] == [True, False]
    assert statistics.median(kept["cases"][0]["seconds"]) == 2.0


def test_a_film_is_made_long_by_repeating_its_packets(tmp_path):
    repeat_film(VIDEOS / "winter.mp4", tmp_path / "long.mp4", 90)
    short, long = ck.probe(VIDEOS / "winter.mp4"), ck.probe(tmp_path / "long.mp4")
    assert long.duration >= 90
    assert long.num_frames % short.num_frames == 0
    frames = ck.read_frames(tmp_path / "long.mp4", [3, short.num_frames + 3], (64, 36))
    assert (frames.pixels[0] == frames.pixels[1]).all()


def test_work_with_more_windows_than_the_video_is_refused():
    with pytest.raises(ValueError, match="has 4 windows; the work needs 5"):
        planned(Work(str(VIDEOS / "harbour.mp4"), 5, [16] * 5))


@pytest.mark.engine
def test_our_side_forces_lengths_and_does_not_encode_known_windows_again(model):
    ours = Ours()
    work = Work(str(VIDEOS / "harbour.mp4"), 3, [5, 9, 17], stage2=STAGE2, salt="bench-test")
    first = ours.run(work)
    assert [len(stages) for stages in first["texts"]] == [2, 2, 2]
    assert 0 < first["first_s"] <= first["seconds"]
    counts = [len(stages[0].split()) for stages in first["texts"]]
    assert counts[0] < counts[1] < counts[2]
    ours.encoder_runs()
    ours.run(Work(**{**vars(work), "prompt": "List all things that are here."}))
    assert ours.encoder_runs() == 0
    known = Work(str(VIDEOS / "harbour.mp4"), 3, [17] * 3)
    seconds, claims, runs = verify_known(ours, known, 1)
    assert all(each > 0 for side in seconds.values() for each in side)
    assert (claims >= 3, runs) == (True, 0)


def test_the_bench_of_opening_measures_every_figure():
    found = bench_opening(clips=3, hours=0.02, windows=60)
    assert len(found) == 9
    assert float(found["variable rate: largest error of a told time"].removesuffix(" s")) <= 0.25
    assert found["3 clips of 1 s, second time: first windows / all"].endswith(" s")
    (size,) = (name for name in found if name.startswith("mp4 of 0.1 GB, 0.02 h"))
    assert " / " in found[size]


def test_the_bench_of_growth_runs_every_case_on_the_store_that_the_first_ones_made(tmp_path):
    found = [growth._measured(case, tmp_path / "30.sqlite", 30) for case in growth._CASES]
    assert [each.case for each in found][:2] == ["open a run", "add captions"]
    assert all(each.windows == 30 and each.seconds > 0 and each.resident_mb > 10 for each in found)
    assert len((tmp_path / "out.jsonl").read_text().splitlines()) == 30


def test_what_grows_faster_than_the_windows_is_named_with_its_slope():
    found = [
        Measured(case, size, seconds, seconds, added, 100.0)
        for case, size, seconds, added in (
            ("even", 1000, 0.1, 10), ("even", 10_000, 1.0, 100),
            ("steep", 1000, 0.1, 10), ("steep", 10_000, 10.0, 20),
            ("short", 1000, 0.0001, 0), ("short", 10_000, 0.009, 4),
        )
    ]  # fmt: skip
    assert slopes(found)["even"] == pytest.approx((1, 1))
    assert slopes(found)["short"] == (0, 0)
    assert missed(found) == ["steep: time grows faster than the windows (slope 2.00)"]
    assert growth._expected_s(found[2:4], 100_000) == pytest.approx(1000)
    # A case that is left out at all sizes but one has no slope, and costs no other one its own.
    assert slopes(found[:3]) == slopes(found[:2])


def test_a_size_whose_store_is_left_out_measures_no_empty_run(monkeypatch):
    monkeypatch.setattr(growth, "_expected_s", lambda before, size: 1e6 if size == 200 else 0.0)
    monkeypatch.setattr(growth, "ProcessPoolExecutor", lambda *_, **__: ThreadPoolExecutor(1))
    monkeypatch.setattr(
        growth, "_measured", lambda case, path, size: Measured(case, size, 1.0, 1.0, 1.0, 1.0)
    )
    found = list(growth.measure([20, 200], Console(quiet=True)))
    assert {each.windows for each in found} == {20}
    assert len(found) == len(growth._CASES)


def test_a_goal_of_growth_is_missed_by_seconds_or_by_the_memory_of_the_process():
    slow = [Measured("run.checks", size, 6.0, 1.0, 1.0, 500.0) for size in (10_000, 100_000)]
    large = [Measured("export jsonl", size, 60.0, 1.0, 1.0, 201.0) for size in (10_000, 100_000)]
    assert missed(slow) == ["run.checks: 6.00 s at 100,000 windows; goal 5"]
    assert missed(large) == ["export jsonl: 201.00 MB at 100,000 windows; goal 200"]


class FakeSide:
    """A side that takes ``window_s`` of a clock for each stage of a window."""

    def __init__(self, clock, window_s, start_s=20.0):
        self._clock, self._window_s, self.start_s = clock, window_s, start_s
        self.closed = False

    def wait(self):
        self._clock.now += self.start_s

    def run(self, *arguments, **how):
        work = next(each for each in arguments if isinstance(each, Work))
        stages = 2 if work.stage2 else 1
        seconds = self._window_s * stages * work.windows
        self._clock.now += seconds
        return {"seconds": seconds, "first_s": 1.0, "texts": [["a"] * stages] * work.windows}

    def encoder_runs(self):
        return 0

    def close(self):
        self.closed = True


@pytest.fixture
def quick(monkeypatch, tmp_path):
    """Run the quick bench with windows of some seconds; return its report, seconds, text and sides."""

    def run(window_s, plain_start_s=20.0):
        clock = types.SimpleNamespace(now=0.0)
        clock.monotonic = lambda: clock.now
        sides = []

        def ours(model):
            sides.append(FakeSide(clock, window_s / 2))
            sides[-1].wait()
            return sides[-1]

        def plain(log, model, dtype, profiles):
            sides.append(FakeSide(clock, window_s, plain_start_s))
            return sides[-1]

        monkeypatch.setenv("CAPTIONKIT_CACHE", str(tmp_path / "cache"))
        monkeypatch.setattr(videos, "write_film", lambda path, scenes, **how: path.write_bytes(b""))
        monkeypatch.setattr(limit, "time", clock)
        monkeypatch.setattr(speed, "Ours", ours)
        monkeypatch.setattr(speed, "Plain", plain)
        with (tmp_path / "printed").open("w") as file:
            speed.bench(report := new_report(), Console(file=file, width=200), quick=True)
        return report, clock.now, (tmp_path / "printed").read_text(), sides

    return run


@pytest.mark.parametrize(("window_s", "windows"), [(0.2, 24), (1.0, 19), (4.0, 4)])
def test_the_quick_bench_takes_the_windows_that_fit_five_minutes_and_says_so(quick, window_s, windows):
    report, seconds, printed, sides = quick(window_s)
    assert seconds < 300
    assert f"{windows} of 24 windows, for about 4 minutes" in printed
    assert any(f"{windows} windows" in case["case"] for case in report.cases)
    assert all(each.closed for each in sides)


def test_the_quick_bench_measures_an_edit_though_vllm_compiles_for_three_minutes_first(quick):
    # Figures of two cores of an AVX2 machine.
    report, seconds, _, _ = quick(3.0, plain_start_s=170.0)
    assert seconds < 300
    assert any(goal.name.startswith("prompt edit against the loop") for goal in report.goals)


def test_the_quick_bench_leaves_out_what_has_no_time_and_ends(quick):
    report, seconds, printed, _ = quick(40.0)
    assert seconds < 300
    assert printed.count("is left out") == 4
    assert [goal.name for goal in report.goals] == ["import captionkit"]


def test_an_interrupt_while_an_engine_starts_closes_the_others(monkeypatch, tmp_path):
    sides = []

    def side(*_, **__):
        sides.append(FakeSide(types.SimpleNamespace(now=0.0), 1.0))
        if len(sides) == 2:
            raise KeyboardInterrupt
        return sides[-1]

    monkeypatch.setattr(speed, "Ours", side)
    monkeypatch.setattr(speed, "Plain", side)
    monkeypatch.setattr(speed, "films", lambda folder, *windows: [folder / "film.mp4"])
    with pytest.raises(KeyboardInterrupt), (tmp_path / "printed").open("w") as file:
        speed.bench(new_report(), Console(file=file), quick=True)
    assert sides[0].closed


def test_on_a_processor_without_bfloat16_vllm_is_measured_in_both_precisions():
    clock = types.SimpleNamespace(now=0.0)
    sides = {"": FakeSide(clock, 4.0), ", float32": FakeSide(clock, 2.0)}
    made = speed._Bench(
        limit.Clock(Console(quiet=True), quick=True), Report({}), FakeSide(clock, 1.0), sides, repeats=1
    )
    made.two_stages(Work("film.mp4", 2, [8, 8]))
    assert {goal.name.partition("batch 16")[2]: goal.figure for goal in made.report.goals} == {
        "": 4.0,
        ", float32": 2.0,
    }


def test_the_quick_bench_ends_with_its_report_when_the_time_is_over(monkeypatch, tmp_path):
    monkeypatch.setattr(limit, "_MOST_S", 1)
    monkeypatch.setattr(speed, "Plain", lambda log, model, dtype, profiles: threading.Event().wait())
    with (tmp_path / "printed").open("w") as file:
        speed.bench(report := new_report(), Console(file=file), quick=True)
    assert report.goals == []
    assert " cores" in report.machine["machine"]
    assert "the five minutes are over" in (tmp_path / "printed").read_text()


@pytest.mark.parametrize("end", [KeyboardInterrupt, RuntimeError])
def test_a_bench_that_ends_early_prints_what_it_measured(monkeypatch, capsys, end):
    def measure(report, console, **how):
        report.goals.append(Goal("one stage against the loop", 1.9, 1.5))
        raise end("at the last case")

    monkeypatch.setattr("captionkit.cli.bench.bench", measure)
    assert cli.main(["bench"]) == (130 if end is KeyboardInterrupt else 1)
    printed = capsys.readouterr()
    assert "one stage against the loop" in printed.out
    assert "resumes" not in printed.err


def test_an_interrupted_bench_of_growth_prints_what_it_measured(monkeypatch, capsys, tmp_path):
    def measured(case, path, size):
        if case == "run.checks":
            raise KeyboardInterrupt
        return Measured(case, size, 1.25, 1.0, 1.0, 1.0)

    monkeypatch.setattr(growth, "ProcessPoolExecutor", lambda *_, **__: ThreadPoolExecutor(1))
    monkeypatch.setattr(growth, "_measured", measured)
    kept = tmp_path / "growth.json"
    with pytest.raises(KeyboardInterrupt):
        growth.main(["--windows", "20", "200", "--json", str(kept)])
    assert "1.25 s" in capsys.readouterr().out
    assert len(json.loads(kept.read_text())["measured"]) == 3


def test_growth_refuses_a_file_in_no_folder_before_it_measures(capsys, tmp_path):
    with pytest.raises(SystemExit):
        growth.main(["--figure", str(tmp_path / "none" / "x.png")])
    assert "there is no folder" in capsys.readouterr().err


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_a_signal_ends_a_bench_with_its_processes_and_folders(number, tmp_path):
    command = [sys.executable, "-m", "captionkit.bench", "growth", "--windows", "1000000", "2000000"]
    bench = subprocess.Popen(
        command,
        env={**os.environ, "TMPDIR": str(tmp_path)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    own, worker = psutil.Process(bench.pid), None
    while worker is None:
        assert bench.poll() is None
        of_spawn = [each for each in own.children() if "spawn_main" in " ".join(each.cmdline())]
        worker = next(iter(of_spawn), None)
        time.sleep(0.1)
    bench.send_signal(number)
    _, errors = bench.communicate()
    assert (bench.returncode, errors.splitlines()[-1]) == (130, "interrupted")
    worker.wait(60)
    assert not [each for each in tmp_path.rglob("*") if each.is_file()]


def test_a_file_in_a_folder_that_is_not_there_is_refused_before_anything_starts(capsys, tmp_path):
    assert cli.main(["bench", "--json", str(tmp_path / "none" / "x.json")]) == 2
    assert "there is no folder" in capsys.readouterr().err


def test_the_model_of_a_real_size_is_drawn_elsewhere_where_no_cache_can_be_written(
    monkeypatch, tmp_path
):
    monkeypatch.setattr(real_size, "_draw", lambda folder: folder.mkdir())
    monkeypatch.setenv("CAPTIONKIT_CACHE", "/dev/null/nowhere")
    assert real_size_model(tmp_path).parent == tmp_path
    monkeypatch.setenv("CAPTIONKIT_CACHE", str(tmp_path / "cache"))
    drawn = real_size_model(tmp_path)
    assert drawn.parent == tmp_path / "cache" / "bench"
    assert real_size_model(tmp_path) == drawn


def test_films_of_the_bench_are_rendered_once_and_kept(monkeypatch, tmp_path):
    made = []

    def write(path, scenes, **how):
        made.append(path.name)
        path.write_bytes(b"film")

    monkeypatch.setattr(videos, "write_film", write)
    monkeypatch.setenv("CAPTIONKIT_CACHE", str(tmp_path))
    for name in ("first", "second"):
        (tmp_path / name).mkdir()
        assert [film.read_bytes() for film in films(tmp_path / name, 2, 3)] == [b"film"] * 2
    assert len(made) == 2
    monkeypatch.setenv("CAPTIONKIT_CACHE", "/dev/null/nowhere")
    (film,) = films(tmp_path, 2)
    assert film.read_bytes() == b"film"
