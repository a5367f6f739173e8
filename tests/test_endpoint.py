"""A shared engine: vLLM's own server on loopback, and sessions that caption through it."""

from __future__ import annotations

import contextlib
import http.server
import json
import os
import socket
import subprocess
import sys
import threading
import time
import urllib.request

import pytest
from common import ROOT, VIDEOS

import captionkit as ck
from captionkit.cli import main
from captionkit.engine.client import Engine
from captionkit.engine.errors import EngineError

pytest.importorskip("openai", reason='needs openai: pip install -e ".[cpu,test]"')
engine = pytest.mark.engine
KEY = "a-key-of-the-test"
STAGE2 = "Add what is missing: {caption}"


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """A server that `captionkit serve` started; gives its address."""
    port = free_port()
    log = tmp_path_factory.mktemp("serve") / "log"
    with log.open("wb") as out:
        process = subprocess.Popen(
            [sys.executable, "-m", "captionkit", "serve", "--port", str(port)],
            stdout=out,
            stderr=out,
            cwd=ROOT,
            env={**os.environ, "VLLM_API_KEY": KEY},
        )
    until = time.monotonic() + 200
    while True:
        with contextlib.suppress(OSError):
            urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=2).close()
            break
        assert process.poll() is None, log.read_text()[-3000:]
        assert time.monotonic() < until, log.read_text()[-3000:]
        time.sleep(0.3)
    yield f"http://127.0.0.1:{port}/v1"
    process.terminate()
    try:
        process.wait(30)
    except subprocess.TimeoutExpired:
        process.kill()


@pytest.fixture
def keyed(monkeypatch):
    monkeypatch.setenv("CAPTIONKIT_API_KEY", KEY)


def session_at(endpoint, tmp_path, name="runs", **how):
    return ck.Session(
        VIDEOS / "winter.mp4", store=tmp_path / f"{name}.sqlite", endpoint=endpoint, **how
    )


@engine
def test_a_server_says_what_an_engine_of_our_own_says_and_knows_windows_by_their_id(
    server, keyed, tmp_path
):
    far = session_at(server, tmp_path)
    run = far.caption("short", stage2=STAGE2, temperature=0)
    near = session_at(None, tmp_path, "near").caption("short", stage2=STAGE2, temperature=0)
    names = ["window", "stage", "text", "prompt_tokens", "output_tokens", "finish_reason"]
    assert run.captions["error"].isna().all()
    assert run.captions[names].equals(near.captions[names])
    # A new text on windows that the server knows: no frame is decoded or sent.
    far.sources.pool.read = lambda *_: pytest.fail("decoded a window that the server knows")
    edited = far.caption("objects", temperature=0)
    assert edited.captions["error"].isna().all()
    # The key is nowhere in what is kept.
    assert KEY.encode() not in (tmp_path / "runs.sqlite").read_bytes()
    assert KEY not in repr(far) + json.dumps(run.recipe.__dict__)


@engine
def test_structured_captions_and_cancelling_work_at_a_server(server, keyed, tmp_path):
    session = session_at(server, tmp_path)
    run = session.caption("objects", schema="tags", max_tokens=500)
    assert run.structured["invalid"].isna().all()
    long = session.start("dense", fresh=True, max_tokens=4000, schema="shot", temperature=1.5)
    time.sleep(0.3)
    begun = time.monotonic()
    long.cancel()
    assert time.monotonic() - begun < 5
    assert session.caption("short").status == "done"


@engine
def test_a_key_that_is_wrong_or_a_model_that_is_not_there_is_told(server, keyed, tmp_path, monkeypatch):
    with pytest.raises(EngineError, match="has no model 'qwen'; it has: demo"):
        session_at(server, tmp_path, model="qwen").caption("short")
    with pytest.raises(ValueError, match="fp8 is the server's to choose"):
        session_at(server, tmp_path, recipe=ck.Recipe(fp8=True)).caption("short")
    monkeypatch.setenv("CAPTIONKIT_API_KEY", "wrong")
    with pytest.raises(EngineError, match="CAPTIONKIT_API_KEY"):
        session_at(server, tmp_path).caption("short")


@contextlib.contextmanager
def other_server(answer):
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            body = json.dumps(answer).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as made:
        threading.Thread(target=made.serve_forever, daemon=True).start()
        try:
            yield f"http://127.0.0.1:{made.server_address[1]}/v1"
        finally:
            made.shutdown()


def test_an_endpoint_that_does_not_answer_or_is_no_vllm_is_told_before_anything_runs(tmp_path):
    before = Engine.live()
    with pytest.raises(EngineError, match="captionkit serve"):
        session_at(f"http://127.0.0.1:{free_port()}/v1", tmp_path).caption("short")
    model = {"id": "demo", "object": "model", "created": 0, "owned_by": "somebody"}
    with (
        other_server({"object": "list", "data": [model]}) as address,
        pytest.raises(EngineError, match="no vLLM server"),
    ):
        session_at(address, tmp_path).caption("short")
    with (
        other_server({"detail": "a page of something else"}) as address,
        pytest.raises(EngineError, match=r"does not answer|has no model"),
    ):
        session_at(address, tmp_path).caption("short")
    assert Engine.live() is before


def test_serve_refuses_a_port_in_use_and_a_host_for_others_without_a_key(capsys, monkeypatch):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        assert main(["serve", "--port", str(taken.getsockname()[1])]) == 2
    monkeypatch.delenv("VLLM_API_KEY", raising=False)
    assert main(["serve", "--host", "0.0.0.0"]) == 2
    said = capsys.readouterr().err
    assert "another --port" in said
    assert "VLLM_API_KEY" in said
