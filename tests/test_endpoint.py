"""A shared engine: vLLM's own server on loopback, and sessions that caption through it."""

from __future__ import annotations

import asyncio
import contextlib
import http.server
import json
import os
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request

import numpy as np
import pytest
from common import ROOT, VIDEOS

import captionkit as ck
from captionkit.cli import main
from captionkit.engine import (
    Completion,
    Engine,
    EngineError,
    Request,
    RequestError,
    ServerBackend,
    VideoInput,
)
from captionkit.engine.server import _body

pytest.importorskip("openai", reason='needs openai: pip install -e ".[cpu,test]"')
engine = pytest.mark.engine
KEY = "a-key-of-the-test"
STAGE2 = "Add what is missing: {caption}"


def free_port():
    """Return a loopback address, of IPv6 where the machine has it, and a free port."""
    for family, host in ((socket.AF_INET6, "::1"), (socket.AF_INET, "127.0.0.1")):
        with contextlib.suppress(OSError), socket.socket(family) as probe:
            probe.bind((host, 0))
            return host, probe.getsockname()[1]
    raise OSError("no loopback")


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """A server that `captionkit serve` started; gives its address."""
    host, port = free_port()
    address = f"http://{f'[{host}]' if ':' in host else host}:{port}"
    log = tmp_path_factory.mktemp("serve") / "log"
    with log.open("wb") as out:
        process = subprocess.Popen(
            [sys.executable, "-m", "captionkit", "serve", "--host", host, "--port", str(port)],
            stdout=out,
            stderr=out,
            cwd=ROOT,
            env={**os.environ, "VLLM_API_KEY": KEY},
        )
    until = time.monotonic() + 200
    while True:
        with contextlib.suppress(OSError):
            urllib.request.urlopen(f"{address}/health", timeout=2).close()
            break
        assert process.poll() is None, log.read_text()[-3000:]
        assert time.monotonic() < until, log.read_text()[-3000:]
        time.sleep(0.3)
    assert KEY not in log.read_text()
    yield f"{address}/v1"
    assert KEY not in log.read_text()
    process.terminate()
    try:
        process.wait(30)
    except subprocess.TimeoutExpired:
        process.kill()


@pytest.fixture
def keyed(monkeypatch):
    monkeypatch.setenv("CAPTIONKIT_API_KEY", KEY)


def ask(server, body=None, **headers):
    """Return status and text of a request with the key."""
    words = {"Authorization": f"Bearer {KEY}", "Content-Type": "application/json", **headers}
    data = json.dumps(body).encode() if body else None
    path = "chat/completions" if body else "models"
    request = urllib.request.Request(f"{server}/{path}", data, words)
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()


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
def test_a_server_reports_the_probabilities_of_answers_as_our_own_engine(server, keyed, tmp_path):
    far = session_at(server, tmp_path)
    run = far.caption("short", temperature=0)
    far.sources.pool.read = lambda *_: pytest.fail("decoded a window that the server knows")
    ask = {"question": "Is there a car in this video? {claim}"}
    found = run.verify(**ask).claims
    assert found["p_true"].notna().all()
    near = session_at(None, tmp_path, "near").caption("short", temperature=0).verify(**ask)
    # Doubts differ by the rounding of bfloat16: a server computes in other batches.
    assert list(found["p_true"]) == pytest.approx(list(near.claims["p_true"]), abs=0.15)
    judged = ck.judge(run, far.caption("objects", temperature=0))
    assert judged.errors == {}
    far.close()


@engine
def test_structured_captions_and_cancelling_work_at_a_server(server, keyed, tmp_path):
    session = session_at(server, tmp_path)
    run = session.caption("objects", schema="tags", max_tokens=500)
    assert run.structured["invalid"].isna().all()
    long = session.start("dense", fresh=True, max_tokens=4000, schema="shot", temperature=1.5)
    heard = threading.Event()
    long.add_callback(lambda event: heard.set())
    assert heard.wait(120)
    long.cancel()
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


@engine
def test_a_server_on_loopback_refuses_other_names_and_fetches_nothing(server):
    with http.server.ThreadingHTTPServer(
        ("127.0.0.1", 0), http.server.BaseHTTPRequestHandler
    ) as elsewhere:
        elsewhere.timeout = 0.1
        visits = []
        elsewhere.process_request = lambda request, address: visits.append(address)
        thread = threading.Thread(target=elsewhere.serve_forever)
        thread.start()
        for kind in ("video_url", "image_url"):
            for url in (f"http://127.0.0.1:{elsewhere.server_address[1]}/a", "file:///etc/hostname"):
                content = [{"type": kind, kind: {"url": url}}, {"type": "text", "text": "Say it."}]
                asked = {"model": "demo", "messages": [{"role": "user", "content": content}]}
                status, text = ask(server, asked)
                assert status >= 400
                # The demo model takes no images at all.
                assert "allowed" in text or "At most 0 image" in text
        elsewhere.shutdown()
        thread.join()
    assert visits == []
    for host in ("evil.example", "evil.example:80", "127.0.0.1.evil.example", "[::2]:1", ""):
        assert ask(server, Host=host)[0] in (400, 403), host
    for host in ("localhost:1", "127.0.0.1", "[::1]:8000"):
        assert ask(server, Host=host)[0] == 200, host


@engine
def test_a_window_with_more_tokens_than_a_server_encodes_is_refused_at_once_with_the_budget_that_fits(
    server, keyed
):
    frames = 90
    metadata = {
        "fps": 2.0,
        "frames_indices": list(range(frames)),
        "total_num_frames": frames,
        "duration": frames / 2,
        "do_sample_frames": False,
    }
    video = VideoInput("large", metadata, np.zeros((frames, 3, 560, 1008), np.uint8))
    made = ServerBackend.get(server, ("demo",))

    async def both():
        async with made._client():
            asked = (say(made, Request("Describe.", video)), say(made, request("Describe.")))
            return await asyncio.gather(*asked, return_exceptions=True)

    refused, good = asyncio.run(both())
    assert isinstance(refused, RequestError)
    assert "has 32400 video tokens, and this engine encodes at most 32256" in str(refused)
    assert "a pixel budget of 561971 (" in str(refused)
    # Others are not affected.
    assert good[-1].text
    # The server answers before it begins to stream.
    body = _body("demo", Request("Describe.", video), known=False)
    more = body.pop("extra_body")
    status, text = ask(server, {**body, **more})
    assert (status, "32400" in text) == (400, True), text
    made.close()


class FakeServer(http.server.ThreadingHTTPServer):
    """Lists its models, and says a word of each caption when it may."""

    daemon_threads = True

    def __init__(self, models):
        super().__init__(("127.0.0.1", 0), Handler)
        self.models = models
        self.refuses_logprobs = False
        self.lock, self.running, self.most, self.asked = threading.Lock(), 0, 0, []
        # Each permit lets a caption end.
        self.permits = threading.Semaphore(0)
        self.address = f"http://127.0.0.1:{self.server_address[1]}/v1"

    def handle_error(self, request, client_address):
        """Say nothing of connections that a client closed."""


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self._head("application/json", json.dumps(self.server.models).encode())

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        content = body["messages"][0]["content"]
        text = content if isinstance(content, str) else content[1]["text"]
        with self.server.lock:
            self.server.running += 1
            self.server.most = max(self.server.most, self.server.running)
            self.server.asked.append(text)
        try:
            if body.get("logprobs") and self.server.refuses_logprobs:
                self._head("application/json", b'{"error": {"message": "no logprobs here"}}', 400)
                return
            if text == "refuse":
                self._head("application/json", b'{"error": {"message": "too long"}}', 400)
                return
            self._head("text/event-stream")
            self._say({"delta": {"content": f"A {text}"}, "finish_reason": None})
            self.server.permits.acquire()
        finally:
            with self.server.lock:
                self.server.running -= 1
        self._say({"delta": {"content": "."}, "finish_reason": "stop"})
        self.wfile.write(b"data: [DONE]\n\n")

    def _say(self, choice):
        usage = {"prompt_tokens": 7, "completion_tokens": 2, "total_tokens": 9}
        about = {"id": "1", "object": "chat.completion.chunk", "created": 0, "model": "demo"}
        chunk = {**about, "choices": [{"index": 0, **choice}], "usage": usage}
        self.wfile.write(b"data: " + json.dumps(chunk).encode() + b"\n\n")
        self.wfile.flush()

    def _head(self, kind, body=None, status=200):
        self.send_response(status)
        self.send_header("Content-Type", kind)
        if body is not None:
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body or b"")

    def log_message(self, *_):
        pass


@contextlib.contextmanager
def other_server(models):
    with FakeServer(models) as made:
        threading.Thread(target=made.serve_forever, daemon=True).start()
        try:
            yield made
        finally:
            made.permits.release(100)
            made.shutdown()


def listed(owner):
    model = {"id": "demo", "object": "model", "created": 0, "owned_by": owner, "max_model_len": 4096}
    return {"object": "list", "data": [model]}


@pytest.fixture
def fake_server():
    with other_server(listed("vllm")) as made:
        yield made


@pytest.fixture
def backend(fake_server):
    made = ServerBackend.get(fake_server.address, ("demo",))
    yield made
    made.close()


def request(prompt, uid="w", priority=0, batch_size=16, frames=True):
    pixels = np.zeros((2, 3, 28, 28), np.uint8) if frames else None
    video = VideoInput(uid, {"fps": 2.0}, pixels)
    return Request(prompt, video, priority=priority, batch_size=batch_size)


async def say(backend, made):
    return [item async for item in backend.stream(made)]


async def until(true):
    end = time.monotonic() + 60
    while not true():
        assert time.monotonic() < end
        await asyncio.sleep(0.01)


def test_text_grows_and_ends_with_its_completion_and_the_window_is_known(fake_server, backend):
    assert backend.info["max_model_len"] == 4096
    fake_server.permits.release()
    *texts, completion = asyncio.run(say(backend, request("boat")))
    assert texts == ["A boat", "A boat."]
    assert isinstance(completion, Completion)
    assert completion.text == "A boat."
    assert (completion.finish_reason, completion.output_tokens) == ("stop", 2)
    assert backend.knows("w")
    fake_server.permits.release()
    assert asyncio.run(say(backend, request("bird", frames=False)))[-1].text == "A bird."


def test_a_text_alone_is_sent_as_plain_text_and_is_no_window_that_is_known(fake_server, backend):
    fake_server.permits.release()
    asked = Request("boat", None)
    assert asyncio.run(say(backend, asked))[-1].text == "A boat."
    assert not backend.knows(asked.uid)
    body = _body("demo", asked, known=False)
    assert body["messages"] == [{"role": "user", "content": "boat"}]
    assert "media_io_kwargs" not in body["extra_body"]


def test_a_server_that_refuses_probabilities_answers_by_text(fake_server, tmp_path):
    fake_server.refuses_logprobs = True
    session = session_at(fake_server.address, tmp_path)
    fake_server.permits.release(100)
    run = session.caption("short", max_tokens=50)
    found = run.verify(question="boat {claim}", words={"yes": "boat", "no": "car"})
    assert found.errors == {}
    assert found.claims["verdict"].all()
    assert found.claims["p_true"].isna().all()
    session.close()


def test_a_refused_request_costs_no_other_one(fake_server, backend):
    async def both():
        asked = (say(backend, request(text, uid=text)) for text in ("refuse", "boat"))
        return await asyncio.gather(*asked, return_exceptions=True)

    fake_server.permits.release()
    refused, made = asyncio.run(both())
    assert isinstance(refused, RequestError)
    assert "too long" in str(refused)
    assert made[-1].text == "A boat."


def test_no_more_run_than_the_batch_size_and_a_window_that_is_looked_at_goes_first(
    fake_server, backend
):
    async def run():
        tasks = []
        for priority, name in [*((0, f"w{n}") for n in range(6)), (-1, "looked at")]:
            asked = request(name, uid=name, priority=priority, batch_size=2)
            tasks.append(asyncio.create_task(say(backend, asked)))
            await asyncio.sleep(0)
        await until(lambda: len(fake_server.asked) == 2)
        fake_server.permits.release()
        await until(lambda: len(fake_server.asked) == 3)
        fake_server.permits.release(100)
        await asyncio.gather(*tasks)

    asyncio.run(run())
    assert fake_server.most == 2
    assert fake_server.asked[2] == "looked at"
    assert len(fake_server.asked) == 7


def test_close_fails_what_is_under_way_and_may_be_called_twice(fake_server, backend):
    async def run():
        asked = (request(f"w{n}", uid=f"w{n}", batch_size=2) for n in range(4))
        tasks = [asyncio.create_task(say(backend, each)) for each in asked]
        await until(lambda: len(fake_server.asked) == 2)
        backend.close()
        backend.close()
        return await asyncio.gather(*tasks, return_exceptions=True)

    for each in asyncio.run(run()):
        assert isinstance(each, EngineError)
        assert "was closed" in str(each)
    with pytest.raises(EngineError, match="was closed"):
        asyncio.run(say(backend, request("later")))


def test_after_a_close_get_connects_again(fake_server, backend):
    assert ServerBackend.get(fake_server.address, ("demo",)) is backend
    backend.close()
    again = ServerBackend.get(fake_server.address, ("demo",))
    assert again is not backend
    fake_server.permits.release()
    assert asyncio.run(say(again, request("boat")))[-1].text == "A boat."
    again.close()


def test_an_endpoint_that_is_not_a_vllm_server_is_refused_before_anything_runs(tmp_path):
    before = Engine.live()
    with pytest.raises(EngineError, match="captionkit serve"):
        session_at(f"http://127.0.0.1:{free_port()[1]}/v1", tmp_path).caption("short")
    with (
        other_server(listed("somebody")) as other,
        pytest.raises(EngineError, match="not a vLLM server"),
    ):
        session_at(other.address, tmp_path).caption("short")
    with (
        other_server({"detail": "a page of something else"}) as other,
        pytest.raises(EngineError, match=r"does not answer|has no model"),
    ):
        session_at(other.address, tmp_path).caption("short")
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
