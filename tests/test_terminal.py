"""No line of any command steers the terminal, whatever files, captions and errors hold."""

from __future__ import annotations

import io
import json
import logging
import shutil
import warnings

import pyte
import pytest
from common import VIDEOS
from fakes import FakeBackend

from captionkit.cli import main, runs
from captionkit.cli.common import Printed
from captionkit.engine import EngineError
from captionkit.session import Session

# Title, clear, colour, bell, back to the line's start, reset, C1 codes, and text from right to left.
STEERING = "\x1b]0;owned\x07\x1b[2J\x1b[31m\a\r\x1bc\x9b2J\x9d0;owned\x9c\b\x0e\u202e"
# What a line of text does to a terminal.
HARMLESS = {"draw", "linefeed", "carriage_return"}


def events(text: str, allowed=frozenset()) -> list:
    """Return what a terminal would do with a text, besides showing lines and what is allowed."""
    log = io.StringIO()
    # A terminal's driver adds the carriage return.
    pyte.Stream(pyte.DebugScreen(to=log)).feed(text.replace("\n", "\r\n"))
    done = [json.loads(line) for line in log.getvalue().splitlines()]
    return [each for each in done if each[0] not in HARMLESS | allowed]


@pytest.fixture
def hostile(tmp_path, monkeypatch):
    """Return a folder of films, one of them broken, whose names and captions steer a terminal."""
    folder = tmp_path / f"films{STEERING}"
    folder.mkdir()
    shutil.copy(VIDEOS / "winter.mp4", folder / f"film{STEERING}.mp4")
    (folder / f"broken{STEERING}.mp4").write_bytes(b"not a film")
    backend = FakeBackend(lambda prompt, start, stage: f"{STEERING} at {start}")
    backend.fail = {"0.00"}
    monkeypatch.setattr(Session, "open_backend", lambda *_: backend)
    monkeypatch.chdir(tmp_path)
    return folder


def test_the_emulator_sees_each_kind_of_control():
    assert {name for name, *_ in events(STEERING)} >= {
        "set_title", "erase_in_display", "select_graphic_rendition", "bell", "reset", "backspace",
    }  # fmt: skip


@pytest.mark.parametrize("coloured", [False, True])
def test_no_command_lets_names_captions_or_errors_steer_the_terminal(
    hostile, capsys, monkeypatch, coloured
):
    if coloured:
        monkeypatch.setenv("FORCE_COLOR", "1")
    store = f"--store=runs{STEERING}.sqlite"
    commands = [
        (1, ["caption", str(hostile), store, "--prompt", f"Say {STEERING} now.", "--stage2"]),
        (1, ["caption", str(hostile), store, f"--out=lines{STEERING}.jsonl"]),
        (1, ["caption", str(hostile / "nowhere"), store]),
        (2, ["caption", str(hostile), store, f"--model={STEERING}"]),
        (2, ["caption", str(hostile), store, f"--recipe={STEERING}"]),
        (2, ["caption", str(hostile), store, f"--schema={STEERING}"]),
        (2, ["caption", str(hostile), store, f"--unknown{STEERING}"]),
        (1, ["caption", str(hostile), f"--spans={STEERING}.csv", store]),
        (0, ["runs", store]),
        (2, ["runs", f"--store={STEERING}"]),
        (0, ["export", "1", store, f"--out={STEERING}.csv"]),
        (1, ["export", "1", store, f"--out={STEERING}.csv"]),
        (1, ["export", "1", store, f"--format={STEERING}"]),
        (2, ["export", "77", store, "--out=a.csv"]),
        (None, ["doctor", f"--model-dir={STEERING}"]),
        (2, ["download", STEERING]),
        (2, ["serve", f"--model={STEERING}"]),
        (2, ["serve", f"--host={STEERING}"]),
        (2, ["bench", STEERING]),
        (2, [STEERING]),
    ]
    # Bars move the cursor and hide it meanwhile.
    allowed = {"select_graphic_rendition"} if coloured else set()
    for code, words in commands:
        try:
            found = main(words)
        except SystemExit as left:
            found = left.code
        shown = capsys.readouterr()
        assert code is None or found == code, (words, shown)
        assert shown.out + shown.err
        for text in (shown.out, shown.err):
            bars = {"cursor_up", "erase_in_line", "set_mode", "reset_mode"} if coloured else set()
            assert events(text, allowed | bars) == [], words
            assert not set("\a\x9b\x9d\b\x0e\u202e") & set(text), words


def test_warnings_and_errors_of_an_engine_do_not_steer_the_terminal(hostile, capsys, monkeypatch):
    def fail(*_):
        raise EngineError(f"the engine died\nLast lines of its log:\n{STEERING}")

    monkeypatch.setattr(Session, "open_backend", fail)
    assert main(["caption", str(hostile), "--store=runs.sqlite"]) == 1
    record = logging.LogRecord("captionkit", logging.WARNING, "", 0, "of %s", (STEERING,), None)
    Printed().handle(record)
    shown = capsys.readouterr().err
    assert "Last lines of its log" in shown
    assert "of �]0;owned" in shown
    assert events(shown) == []


def test_warnings_and_tracebacks_do_not_steer_the_terminal(hostile, capsys, monkeypatch):
    def fail(*_):
        warnings.warn(f"of {STEERING}\x1b]52;c;b3duZWQ=\x07", stacklevel=1)
        raise ZeroDivisionError(f"in {STEERING}\x1b]52;c;b3duZWQ=\x07")

    monkeypatch.setattr(runs, "existing_store", fail)
    printed = Printed()
    logging.getLogger("py.warnings").addHandler(printed)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("always")
            assert main(["runs"]) == 1
    finally:
        logging.getLogger("py.warnings").removeHandler(printed)
    shown = capsys.readouterr().err
    assert "UserWarning: of \ufffd]0;owned" in shown
    assert "Traceback" in shown
    assert "ZeroDivisionError: in \ufffd]0;owned" in shown
    assert events(shown) == []
    assert not set("\a\x9b\x9d\b\x0e\u202e") & set(shown)
