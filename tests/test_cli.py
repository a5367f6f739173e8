"""The command line: exit codes, one-line errors, no lost captions."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import barcodes
import psutil
import pytest
from common import SHARED, VIDEOS, is_engine

import captionkit as ck
from captionkit.captions import COLUMNS
from captionkit.cli import main
from captionkit.engine import Engine
from captionkit.recipe import SETTINGS, Recipe
from captionkit.system import hardware


@pytest.fixture(autouse=True)
def a_folder_of_its_own(tmp_path, monkeypatch):
    """Work in an empty folder, which has the project's store."""
    (tmp_path / "project").mkdir()
    monkeypatch.chdir(tmp_path / "project")


def run(*arguments: str, **settings) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, "-m", "captionkit", *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=300,
        **settings,
    )


def rows(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (["--batch-size", "0"], "--batch-size"),
        (["--batch-size", "-3"], "--batch-size"),
        (["--window-size", "0"], "window_size"),
        (["--sampling-fps", "-1"], "sampling_fps"),
        (["--max-tokens", "0"], "max_tokens is 0"),
        (["--batch", "4"], "unrecognized arguments: --batch"),
        (["--temp", "1"], "unrecognized arguments: --temp"),
        (["--prompt", ""], "no text"),
        (["--prompt", "nonesuch"], "default, av"),
        (["--stage2", "Say {it} again"], "{caption}"),
        (["--model", "nonesuch"], "Unsupported model variant: nonesuch"),
        (["--recipe", "/nowhere/recipe.toml"], "no such file"),
        (["--out", "/"], "is a folder"),
        (["--window-size", "many"], "--window-size"),
        (["--fp8"], "fp8 needs an NVIDIA GPU"),
    ],
)
def test_bad_usage_is_one_clear_line_and_exit_code_2(arguments, word, harbour, capsys):
    try:
        code = main(["caption", harbour, *arguments])
    except SystemExit as leaving:  # raised by argparse
        code = leaving.code
    printed = capsys.readouterr().err
    assert code == 2
    assert word in printed
    assert "Traceback" not in printed


def test_options_cannot_be_abbreviated_in_any_command(capsys):
    for words in (
        ["doctor", "--mod", "qwen"],
        ["runs", "--sto", "x"],
        ["export", "1", "--form", "csv"],
    ):
        with pytest.raises(SystemExit):
            main(words)
        assert f"unrecognized arguments: {words[-2]}" in capsys.readouterr().err


def test_every_setting_is_an_option_with_the_help_of_the_recipe(capsys):
    with pytest.raises(SystemExit):
        main(["caption", "--help"])
    printed = " ".join(capsys.readouterr().out.split())
    for name, setting in SETTINGS.items():
        assert f"--{name.replace('_', '-')}" in printed
        assert setting.help in printed


def test_files_that_cannot_be_captioned_are_listed_and_exit_code_is_1(tmp_path, capsys):
    (tmp_path / "nothing").mkdir()
    (tmp_path / "empty.mp4").touch()
    (tmp_path / "text.mp4").write_text("no film")
    one = barcodes.write(tmp_path / "one.mp4", 1)
    bad = [
        tmp_path / "none.mp4",
        tmp_path / "nothing",
        tmp_path / "empty.mp4",
        tmp_path / "text.mp4",
        one,
    ]
    assert main(["caption", *map(str, bad)]) == 1
    printed = capsys.readouterr().err
    for path in bad:
        assert str(path) in printed
    for reason in ("no such file", "holds no video", "is empty", "cannot be read", "at least 4"):
        assert reason in printed
    assert "Traceback" not in printed


def test_weights_without_a_config_are_bad_usage(tmp_path, harbour, capsys):
    assert main(["caption", harbour, "--model", str(tmp_path)]) == 2
    assert "config.json" in capsys.readouterr().err


def test_without_vllm_the_error_names_the_extra_to_install(harbour, monkeypatch, capsys):
    import importlib.util

    real = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *a: None if name == "vllm" else real(name, *a)
    )
    monkeypatch.setattr(Engine, "_live", ())
    assert main(["caption", harbour]) == 1
    assert "captionkit[cpu]" in capsys.readouterr().err


def test_doctor_lists_findings_and_remedies(tmp_path):
    done = run("doctor", "--model-dir", tmp_path, env={**os.environ, "COLUMNS": "200"})
    for word in ("Python", "torch", "vLLM", "GPU", "fp8", "window cache", "PyAV", "weights demo"):
        assert word in done.stdout
    assert "captionkit download qwen" in done.stdout
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("words", [["serve"], ["caption", "FILM"]])
def test_a_model_that_does_not_fit_is_refused_before_it_loads_with_the_numbers(
    words, harbour, monkeypatch, capsys
):
    monkeypatch.setattr(Engine, "_live", ())
    small = hardware.Processor("laptop", 16_000, 2000)
    monkeypatch.setattr(hardware, "find_processor", lambda: small)
    assert main([harbour if word == "FILM" else word for word in words]) == 1
    printed = " ".join(capsys.readouterr().err.split())
    assert "the model does not fit into laptop: the engine needs" in printed
    assert "close other programs" in printed
    assert (
        main([*(harbour if word == "FILM" else word for word in words), "--max-model-len", "99"]) == 2
    )


def test_download_of_the_demo_model_finds_it_and_of_an_unknown_one_lists_the_known(capsys):
    assert main(["download", "demo"]) == 0
    assert "demo-model" in capsys.readouterr().err
    assert main(["download", "nonesuch"]) == 2
    assert "known: demo" in capsys.readouterr().err


engine = pytest.mark.engine


@engine
def test_captions_are_written_as_lines_with_everything_recorded(tmp_path, harbour, model, capsys):
    out = tmp_path / "captions.jsonl"
    assert main(["caption", harbour, "--stage2", "--out", str(out)]) == 0
    written = rows(out)
    assert sorted((row["window"], row["stage"]) for row in written) == [
        (window, stage) for window in range(4) for stage in (1, 2)
    ]
    texts = {(row["window"], row["stage"]): row["text"] for row in written}
    for row in written:
        assert tuple(row) == COLUMNS
        assert (row["video"], row["path"], row["error"]) == ("harbour", harbour, None)
        if row["stage"] == 2:
            assert texts[row["window"], 1] in row["prompt"]
        assert row["end_s"] > row["start_s"]
    printed = capsys.readouterr()
    assert "4 of 4 windows captioned" in printed.err
    assert "harbour.mp4" in printed.out


@engine
def test_the_same_command_again_ends_at_once_and_is_listed_as_one_run(tmp_path, model, capsys):
    folder = tmp_path / "films"
    folder.mkdir()
    for name in ("winter", "river"):
        (folder / f"{name}.mp4").write_bytes((VIDEOS / f"{name}.mp4").read_bytes())
    assert main(["caption", str(folder), "--max-tokens", "20"]) == 0
    capsys.readouterr()
    out = tmp_path / "again.jsonl"
    # A quoted pattern finds the same videos, and known captions are written too.
    assert main(["caption", str(folder / "*.mp4"), "--max-tokens", "20", "--out", str(out)]) == 0
    printed = capsys.readouterr().err
    assert "6 of 6 windows captioned" in printed
    assert "all of them were in the store already" in printed
    assert len(rows(out)) == 6
    assert list(ck.runs()["done"]) == [6]
    assert main(["runs"]) == 0
    assert "6 of 6" in capsys.readouterr().out
    # A session finds the same run.
    session = ck.Session(folder, recipe=ck.Recipe(max_tokens=20))
    assert session.caption().id == 1
    session.close()


@engine
def test_a_killed_command_resumes(tmp_path, model):
    words = ["caption", str(VIDEOS), "--stage2", "--batch-size"]
    command = [sys.executable, "-m", "captionkit", *words, "1"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while not (Path(".captionkit/runs.sqlite").exists() and ck.runs()["done"].sum() >= 2):
        assert process.poll() is None
        time.sleep(0.05)
    process.kill()
    process.wait()
    before = ck.open_run(1).progress.done
    assert 2 <= before < 33
    out = tmp_path / "out.jsonl"
    assert main([*words, "16", "--out", str(out)]) == 0
    assert list(ck.runs()["done"]) == [33]
    assert len({row["key"] for row in rows(out)}) == 33


@engine
def test_an_earlier_result_is_kept_beside_the_new_one(tmp_path, harbour, model):
    out = tmp_path / "captions.jsonl"
    out.write_text("earlier\n")
    assert main(["caption", harbour, "--max-tokens", "4", "--out", str(out)]) == 0
    assert (tmp_path / "captions.jsonl.bak").read_text() == "earlier\n"
    assert len(rows(out)) == 4


@engine
def test_one_bad_file_leaves_good_files_captioned(tmp_path, harbour, model, capsys):
    (tmp_path / "bad.mp4").write_text("no film")
    odd = tmp_path / "my film 🎬 [x].mp4"
    odd.write_bytes((VIDEOS / "street.mp4").read_bytes())
    out = tmp_path / "out.jsonl"
    code = main(["caption", harbour, str(tmp_path / "bad.mp4"), str(odd), "--out", str(out)])
    printed = capsys.readouterr()
    assert code == 1
    assert "9 of 9 windows captioned" in printed.err
    assert "bad.mp4 cannot be read as a video" in printed.err
    # Beside the export a film is named by the way from there.
    assert {str(tmp_path / row["path"]) for row in rows(out)} == {harbour, str(odd)}


@engine
def test_a_recipe_file_and_options_decide_together(tmp_path, harbour, model):
    path, out = tmp_path / "r.toml", tmp_path / "out.jsonl"
    Recipe(prompt="objects", max_tokens=20, window_size=512).save(path)
    arguments = ["caption", harbour, "--recipe", path, "--prompt", "short", "--out", out]
    assert main([str(each) for each in arguments]) == 0
    wanted = Recipe(prompt="short", max_tokens=20, window_size=512)
    assert {row["recipe"] for row in rows(out)} == {wanted.to_json()}
    assert len(rows(out)) == 2


@engine
def test_max_tokens_beyond_the_model_are_bad_usage(harbour, model, capsys):
    assert main(["caption", harbour, "--max-tokens", "99999"]) == 2
    assert "holds 32768 tokens" in capsys.readouterr().err


@engine
def test_a_full_disk_is_one_line_and_written_lines_stay_complete(harbour, model, capsys):
    if not Path("/dev/full").exists():
        pytest.skip("no /dev/full here")
    assert main(["caption", harbour, "--max-tokens", "4", "--out", "/dev/full"]) == 1
    printed = capsys.readouterr().err
    assert "cannot write /dev/full: No space left on device" in printed
    assert "Traceback" not in printed


@engine
def test_killing_the_engine_in_mid_run_loses_no_window(tmp_path):
    out = tmp_path / "out.jsonl"
    films = sorted(map(str, VIDEOS.glob("*.mp4")))
    process = subprocess.Popen(
        [
            *(sys.executable, "-m", "captionkit", "caption", *films, "--batch-size", "2"),
            *("--prompt", "dense", "--stage2", "--out", str(out)),
        ],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    deadline = time.monotonic() + 120
    while not (out.exists() and out.stat().st_size):
        assert time.monotonic() < deadline, process.poll()
        time.sleep(0.02)
    victims = [c for c in psutil.Process(process.pid).children() if is_engine(c.cmdline())]
    assert victims
    for each in victims:
        each.send_signal(signal.SIGKILL)
    printed = process.communicate(timeout=240)[0]
    assert process.returncode == 0, printed
    written = rows(out)
    assert len(written) == len({(row["key"], row["stage"]) for row in written}) == 66
    assert all(row["text"] for row in written)


@engine
def test_real_videos_get_a_caption_or_a_clear_error(tmp_path, model, capsys):
    if not SHARED.is_dir():
        pytest.skip("no real videos beside this checkout")
    films = [path for path in sorted(SHARED.iterdir()) if path.suffix in (".mp4", ".mkv", ".mov")]
    out = tmp_path / "out.jsonl"
    code = main(["caption", *map(str, films), "--out", str(out)])
    printed = capsys.readouterr().err
    captioned = {row["path"] for row in rows(out) if row["text"]}
    # One film has three frames only. The corrupted one is captioned in part or has a reason.
    assert code == 1
    for film in films:
        assert str(film) in captioned or str(film) in printed
    assert len(captioned) >= 5
