"""Several engines in one session, GPUs that share a model, and processes that read frames."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
from collections import Counter
from concurrent.futures import Future
from pathlib import Path

import numpy as np
import psutil
import pytest
from common import DATA, VIDEOS, noise_inputs

import captionkit as ck
from captionkit.cli.app import main
from captionkit.engine import (
    CacheMissError,
    Completion,
    Engine,
    EngineError,
    EngineGoneError,
    Request,
    Sampling,
    VideoInput,
    process,
)
from captionkit.engine.several import Engines, device_groups, start_together
from captionkit.pipeline import backends
from captionkit.scale.cluster import engine_count
from captionkit.scale.parts import ScaleError
from captionkit.system import hardware
from captionkit.system.cores import usable_cores
from captionkit.system.hardware import Gpu
from captionkit.video import DecodePool

CARDS = [Gpu(f"L4 {n}", 8.9, 23_034, index=index) for n, index in enumerate((2, 3, 5, 7))]
QWEN = DATA / "demo-model"


class Member:
    """An engine that captions at once, or when its gate opens."""

    def __init__(self, name: str, *, open_: bool = True) -> None:
        self.name, self.closed, self.load = name, False, 0
        self.info = {"max_model_len": 4096, "device": "fake", "devices": [name], "start_s": len(name)}
        self.windows: list[str] = []
        self.known: set[str] = set()
        self.under_way: Counter[str] = Counter()
        self.cancelled: list[str] = []
        self.dies = False
        self.gate = asyncio.Event()
        if open_:
            self.gate.set()

    def knows(self, uid: str) -> bool:
        return uid in self.known

    def works_on(self, uid: str) -> bool:
        return self.under_way[uid] > 0

    async def stream(self, request: Request):
        uid = request.uid
        self.windows.append(uid)
        self.load += 1
        self.under_way[uid] += 1
        try:
            yield "A "
            await self.gate.wait()
            if self.dies:
                self.closed = True
                raise EngineGoneError("the engine could not be started again")
            if request.lacks_frames and uid not in self.known:
                raise CacheMissError(uid)
        except GeneratorExit:
            self.cancelled.append(uid)
            raise
        finally:
            self.load -= 1
            self.under_way[uid] -= 1
        self.known.add(uid)
        yield Completion(request.prompt, f"A boat ({self.name}).", "stop", 9, 3, 0, 0.0, 0.1, 0.2)

    def close(self) -> None:
        self.closed = True


def window(name: str, *, frames: bool = True, prompt: str = "Say it.") -> Request:
    pixels = np.zeros((2, 3, 28, 28), np.uint8) if frames else None
    return Request(prompt, VideoInput(name, {}, pixels))


async def answer(engines: Engines, request: Request) -> str:
    async for item in engines.stream(request):
        if isinstance(item, Completion):
            return item.text
    raise AssertionError("no completion")


async def caption(engines: Engines, *requests: Request) -> list[str]:
    return await asyncio.gather(*(answer(engines, each) for each in requests))


def test_new_windows_are_spread_evenly_even_one_at_a_time():
    members = [Member("a"), Member("b"), Member("c")]
    engines = Engines(members)

    async def one_by_one():
        for n in range(9):
            await answer(engines, window(f"w{n}"))

    asyncio.run(one_by_one())
    assert [len(each.windows) for each in members] == [3, 3, 3]


def test_a_new_window_goes_to_the_engine_with_the_fewest_requests():
    async def work():
        busy, idle = Member("busy", open_=False), Member("idle", open_=False)
        busy.load = 5
        engines = Engines([busy, idle])
        tasks = [asyncio.create_task(answer(engines, window(f"w{n}"))) for n in range(5)]
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert (len(busy.windows), len(idle.windows)) == (0, 5)
        idle.gate.set()
        await asyncio.gather(*tasks)

    asyncio.run(work())


def test_texts_alone_are_spread_as_new_windows_are():
    members = [Member("a"), Member("b")]
    engines = Engines(members)

    async def one_by_one():
        for _ in range(4):
            await answer(engines, Request("Shorten it.", None))

    asyncio.run(one_by_one())
    assert [len(each.windows) for each in members] == [2, 2]


def test_a_known_window_goes_to_the_engine_that_knows_it_however_busy():
    members = [Member("a"), Member("b")]
    engines = Engines(members)
    asyncio.run(caption(engines, *(window(f"w{n}") for n in range(6))))
    homes = {uid: each for each in members for uid in each.windows}
    assert len(homes) == 6
    for each in members:
        each.windows.clear()
    members[0].load = 50
    assert all(engines.knows(uid) for uid in homes)
    assert not engines.knows("new")
    asyncio.run(caption(engines, *(window(uid, frames=False, prompt="Again.") for uid in homes)))
    for uid, home in homes.items():
        assert uid in home.windows
    assert sum(len(each.windows) for each in members) == 6


def test_a_second_prompt_for_a_window_under_way_goes_to_the_same_engine():
    async def work():
        members = [Member("a", open_=False), Member("b", open_=False)]
        engines = Engines(members)
        requests = [window("w"), window("x"), window("w", prompt="Or this.")]
        tasks = [asyncio.create_task(answer(engines, each)) for each in requests]
        for _ in range(5):
            await asyncio.sleep(0)
        assert sorted(each.windows for each in members) == [["w", "w"], ["x"]]
        for each in members:
            each.gate.set()
        await asyncio.gather(*tasks)

    asyncio.run(work())


def test_one_dead_engine_costs_no_caption():
    members = [Member("a"), Member("b"), Member("c")]
    engines = Engines(members)
    members[1].dies = True
    texts = asyncio.run(caption(engines, *(window(f"w{n}") for n in range(12))))
    assert len(texts) == 12
    assert not any("(b)" in text for text in texts)
    assert not engines.closed


def test_a_window_that_only_the_dead_engine_knew_is_asked_for_its_frames():
    members = [Member("a"), Member("b")]
    engines = Engines(members)
    members[0].known.add("w")
    members[0].dies = True
    with pytest.raises(CacheMissError, match="give its frames"):
        asyncio.run(answer(engines, window("w", frames=False)))
    assert not engines.knows("w")
    assert asyncio.run(answer(engines, window("w"))) == "A boat (b)."


def test_with_no_engine_left_the_error_is_the_engines():
    members = [Member("a"), Member("b")]
    engines = Engines(members)
    for each in members:
        each.dies = True
    with pytest.raises(EngineGoneError, match="could not be started again"):
        asyncio.run(answer(engines, window("w")))
    assert engines.closed
    with pytest.raises(EngineGoneError, match="all engines were closed"):
        asyncio.run(answer(engines, window("w")))


def test_close_ends_all_and_leaving_a_stream_cancels_its_request():
    async def leave():
        member = Member("a", open_=False)
        async for _ in (stream := Engines([member]).stream(window("w"))):
            break
        await stream.aclose()
        assert (member.cancelled, member.load) == (["w"], 0)

    asyncio.run(leave())
    members = [Member("a"), Member("b")]
    Engines(members).close()
    assert all(each.closed for each in members)


def test_info_is_of_one_engine_with_the_number_and_devices_of_all():
    info = Engines([Member("a"), Member("bbb")]).info
    assert info["engines"] == 2
    assert info["devices"] == ["a", "bbb"]
    assert (info["start_s"], info["max_model_len"], info["device"]) == (3, 4096, "fake")


def test_each_engine_gets_its_own_batch_of_windows_under_way(tmp_path):
    members = [Member("a", open_=False), Member("b", open_=False)]
    engines = Engines(members)
    session = ck.Session(VIDEOS, backend=engines, batch_size=2, store=tmp_path / "runs.sqlite")
    assert len(session.windows) > 8
    task = session.start(temperature=0)
    for _ in range(2000):
        if sum(each.load for each in members) >= 5:
            break
        task.progress  # noqa: B018 (takes a moment)
        psutil.Process().cpu_percent(interval=0.01)
    loads = [each.load for each in members]
    task.cancel()
    session.close()
    assert min(loads) >= 2
    assert sum(loads) <= 2 * 2 * 2


@pytest.mark.parametrize(
    ("gpus", "size", "groups"),
    [
        (1, 1, [[2]]),
        (3, 1, [[2], [3], [5]]),
        ("all", 1, [[2], [3], [5], [7]]),
        ("all", 2, [[2, 3], [5, 7]]),
        ("all", 4, [[2, 3, 5, 7]]),
        ([3, 0], 1, [[7], [2]]),
        ((1, 2), 2, [[3, 5]]),
        (None, 2, [[2, 3]]),
        (None, 1, [[2]]),
    ],
)
def test_the_gpus_of_each_engine(monkeypatch, gpus, size, groups):
    monkeypatch.setattr(hardware, "find_gpus", lambda: CARDS)
    assert [[gpu.index for gpu in group] for group in device_groups(gpus, size)] == groups


@pytest.mark.parametrize(
    ("gpus", "size", "said"),
    [
        (5, 1, r"gpus is 5, but this process sees the GPUs 0: L4 0, .*3: L4 3 .*CUDA_VISIBLE_DEVICES"),
        ([0, 4], 1, r"gpus is \[0, 4\], but"),
        ([-1], 1, r"gpus is \[-1\], but"),
        (0, 1, "gpus is 0; give 1 or more"),
        (-2, 1, "gpus is -2; give 1 or more"),
        ([], 1, r"gpus is \[\]; give a number of GPUs, a list of their indexes"),
        ("two", 1, "gpus is 'two'; give a number"),
        (True, 1, "gpus is True; give a number"),
        (1.5, 1, "gpus is 1.5; give a number"),
        (["0"], 1, "gpus is .*; give a number"),
        ([1, 1], 1, "a GPU is named twice"),
        (3, 2, "3 GPUs .* cannot be divided into groups of 2"),
        ("all", 3, "4 GPUs cannot be divided into groups of 3"),
        (None, 8, "tensor_parallel is 8, but this process sees the GPUs"),
        (None, 0, "tensor_parallel is 0; give 1 or more"),
        (None, 1.5, "tensor_parallel is 1.5; give 1 or more"),
    ],
)
def test_gpus_that_are_not_there_or_do_not_fit_are_refused(monkeypatch, gpus, size, said):
    monkeypatch.setattr(hardware, "find_gpus", lambda: CARDS)
    with pytest.raises(ValueError, match=said):
        device_groups(gpus, size)


def test_a_session_refuses_gpus_before_it_opens_videos(tmp_path):
    for options, said in (
        ({"gpus": "most"}, "gpus is 'most'"),
        ({"gpus": 3, "tensor_parallel": 2}, "cannot be divided"),
        ({"tensor_parallel": 0}, "tensor_parallel is 0"),
        ({"decoders": 0}, "decoders is 0"),
    ):
        with pytest.raises(ValueError, match=said):
            ck.Session(tmp_path / "nothing.mp4", **options)


def test_a_machine_without_gpus_says_so(monkeypatch, harbour, tmp_path):
    monkeypatch.setattr(hardware, "find_gpus", lambda **_: [])
    session = ck.Session(harbour, gpus=2, store=tmp_path / "runs.sqlite")
    with pytest.raises(ValueError, match="gpus is 2, but this process sees no GPU"):
        session.open_backend(session.recipe)
    session.close()


def test_a_server_has_its_own_gpus():
    with pytest.raises(ValueError, match="gpus is the server's to choose"):
        backends.open_backend(ck.Recipe(), model_dir="", endpoint="http://localhost:1/v1", gpus=2)
    with pytest.raises(ValueError, match="tensor_parallel is the server's to choose"):
        backends.open_backend(
            ck.Recipe(), model_dir="", endpoint="http://localhost:1/v1", tensor_parallel=2
        )


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--gpus", "x"], "'x' is not a number, indexes (0,2) or all"),
        (["--gpus", "1,y"], "'1,y' is not a number"),
        (["--gpus", "0"], "gpus is 0; give 1 or more"),
        (["--gpus", "0,0"], "named twice"),
        (["--gpus", "3", "--tensor-parallel", "2"], "cannot be divided"),
        (["--decoders", "0"], "--decoders is 0; give 1 or more"),
        (["--batch-size", "0"], "--batch-size is 0; give 1 or more"),
        (["--ray", "--gpus", "2", "--out", "x"], "--ray places engines and decoders itself"),
    ],
)
def test_bad_options_of_the_command_are_bad_usage(harbour, words, said, capsys):
    try:
        code = main(["caption", harbour, *words])
    except SystemExit as ended:
        code = ended.code
    assert code == 2
    assert said in " ".join(capsys.readouterr().err.split())


def test_options_of_the_command_reach_the_session(harbour, monkeypatch):
    given = {}

    def session(videos, **options):
        given.update(options)
        raise ValueError("enough")

    monkeypatch.setattr("captionkit.cli.caption.Session", session)
    words = ["--gpus", "2,0", "--decoders", "3", "--tensor-parallel", "2"]
    assert main(["caption", harbour, *words]) == 1
    assert (given["gpus"], given["decoders"], given["tensor_parallel"]) == ([2, 0], 3, 2)
    assert given["batch_size"] is None
    main(["caption", harbour, "--gpus", "all"])
    assert (given["gpus"], given["tensor_parallel"]) == ("all", 1)


def test_serve_with_more_gpus_than_there_are_is_bad_usage(monkeypatch, capsys):
    monkeypatch.setattr(hardware, "find_gpus", lambda **_: CARDS[:1])
    assert main(["serve", "--tensor-parallel", "2"]) == 2
    assert "tensor_parallel is 2, but this process sees the GPUs 0: L4 0" in capsys.readouterr().err


def test_engines_see_their_own_gpus_in_the_order_of_nvidia_smi(monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2,3")
    assert process.environment(None)["CUDA_VISIBLE_DEVICES"] == "2,3"
    made = process.environment(None, ("3", "5"))
    assert (made["CUDA_VISIBLE_DEVICES"], made["CUDA_DEVICE_ORDER"]) == ("3,5", "PCI_BUS_ID")


def test_a_started_engine_is_not_left_when_another_fails_or_a_stop_comes():
    started = Member("a")

    def works(_):
        return started

    def fails(_):
        raise EngineError("no room on the card")

    def waits(stop):
        assert stop.wait(60)
        raise EngineGoneError("stopped")

    with pytest.raises(EngineError, match="no room"):
        start_together([waits, works, fails])
    assert started.closed
    started.closed = False
    stop = threading.Event()
    stop.set()
    with pytest.raises(EngineGoneError):
        start_together([works, waits], stop)
    assert started.closed


@pytest.mark.parametrize(
    ("nodes", "size", "count"),
    [([8, 8], 1, 16), ([8, 8], 2, 8), ([3, 3], 2, 2), ([], 0, 1), ([8], 0, 1), ([0], 1, 1)],
)
def test_ray_gets_as_many_engines_as_nodes_have_gpus_for(nodes, size, count):
    assert engine_count(nodes, size) == count


def test_ray_without_a_node_for_a_divided_model_says_so():
    with pytest.raises(ScaleError, match="tensor_parallel is 4, but a node here has at most 2 GPUs"):
        engine_count([2, 2], 4)


def test_a_model_whose_heads_are_not_divisible_is_refused_with_what_fits(tmp_path):
    with pytest.raises(ValueError, match=r"tensor_parallel is 3, .* heads .* give one of 1"):
        backends.check_parallel(ck.Recipe(model="qwen"), tmp_path, 3)
    backends.check_parallel(ck.Recipe(model="qwen"), tmp_path, 4)


@pytest.mark.parametrize(("mib", "sizes"), [(23_034, (16, 16)), (81_559, (64, 64))])
def test_the_default_batch_size_follows_the_card(monkeypatch, tmp_path, mib, sizes):
    monkeypatch.setattr(backends, "runs_on_cpu", lambda: False)
    card = Gpu("a card", 9.0, mib, free_mib=100)
    monkeypatch.setattr(hardware, "find_gpus", lambda: [card])
    size = backends.default_batch_size(ck.Recipe(model="qwen"), tmp_path)
    assert sizes[0] <= size <= sizes[1]
    assert size.bit_count() == 1


def test_without_a_gpu_or_with_a_model_that_does_not_fit_the_batch_size_is_16(monkeypatch, tmp_path):
    assert backends.default_batch_size(ck.Recipe(), tmp_path) == 16
    monkeypatch.setattr(backends, "runs_on_cpu", lambda: False)
    monkeypatch.setattr(hardware, "find_gpus", lambda: [Gpu("small", 9.0, 4000)])
    assert backends.default_batch_size(ck.Recipe(model="qwen"), tmp_path) == 16
    assert ck.QwenVL(model_variant="demo").caption_batch_size == 16


def write(root: Path, name: str, text: str) -> None:
    (root / name).parent.mkdir(parents=True, exist_ok=True)
    (root / name).write_text(text)


@pytest.mark.parametrize(
    ("files", "cores"),
    [
        ({}, 64),
        ({"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.max": "400000 100000"}, 4),
        ({"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.max": "max 100000"}, 64),
        ({"proc/self/cgroup": "0::/a/b\n", "sys/fs/cgroup/a/cpu.max": "250000 100000"}, 2),
        ({"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.max": "50000 100000"}, 1),
        (
            {
                "proc/self/cgroup": "3:cpu,cpuacct:/docker/x\n2:memory:/\n",
                "sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us": "800000",
                "sys/fs/cgroup/cpu,cpuacct/cpu.cfs_period_us": "100000",
            },
            8,
        ),
        (
            {
                "proc/self/cgroup": "3:cpu:/\n",
                "sys/fs/cgroup/cpu/cpu.cfs_quota_us": "-1",
                "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000",
            },
            64,
        ),
        ({"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.max": "nonsense"}, 64),
    ],
)
def test_usable_cores_are_those_of_the_container(tmp_path, monkeypatch, files, cores):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(64)), raising=False)
    for name, text in files.items():
        write(tmp_path, name, text)
    assert usable_cores(tmp_path) == cores


def test_usable_cores_are_those_of_the_affinity(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {3, 5}, raising=False)
    assert usable_cores(tmp_path) == 2


@pytest.mark.parametrize(("cores", "workers"), [(1, 1), (6, 6), (24, 24), (96, 32)])
def test_decoders_scale_with_usable_cores(monkeypatch, cores, workers):
    monkeypatch.setattr("captionkit.video.pool.usable_cores", lambda: cores)
    assert DecodePool().workers == workers
    assert DecodePool(3).workers == 3


def test_a_session_takes_a_number_of_decoders_and_keeps_it_when_cut_anew(harbour, tmp_path):
    with_three = ck.Session(harbour, decoders=3, store=tmp_path / "runs.sqlite")
    again = with_three.recut(128)
    assert with_three.sources.pool.workers == again.sources.pool.workers == 3
    again.close()
    with_three.close()


# Real engines.


def request(seed: int, prompt: str = "Describe this video.") -> Request:
    inputs = noise_inputs(seed)
    video = VideoInput(
        inputs["multi_modal_uuids"]["video"],
        inputs["video_metadata"],
        inputs["multi_modal_data"]["video"],
    )
    return Request(prompt, video, Sampling(max_tokens=12, temperature=0))


@pytest.mark.engine
def test_two_real_engines_share_a_session(tmp_path, monkeypatch):
    monkeypatch.setattr(Engine, "_live", ())
    monkeypatch.setattr(backends, "_groups", lambda **_: [[CARDS[0]], [CARDS[1]]])
    session = ck.Session(VIDEOS, store=tmp_path / "runs.sqlite", gpus=[0, 1], batch_size=4)
    backend = session.open_backend(session.recipe)
    assert isinstance(backend, Engines)
    first, second = backend.engines
    try:
        for engine, device in ((first, "2"), (second, "3")):
            environ = psutil.Process(engine.pid).environ()
            assert environ["CUDA_VISIBLE_DEVICES"] == device
            assert environ["CUDA_DEVICE_ORDER"] == "PCI_BUS_ID"
            assert engine.key.engines == 2
        # Windows are spread, and each is captioned.
        windows = session.windows.head(8)
        run = session.caption(windows=windows, temperature=0, max_tokens=8)
        assert run.progress.done == 8
        spread = [each.encoder_runs() for each in (first, second)]
        assert sum(spread) == 8
        assert min(spread) >= 2
        # The same engines, which know the windows: another prompt encodes nothing.
        again = session.caption("What moves?", windows=windows, temperature=0, max_tokens=8)
        assert session.open_backend(session.recipe).engines == [first, second]
        assert again.progress.done == 8
        assert [each.encoder_runs() for each in (first, second)] == [0, 0]
        # One that dies under way starts again: no caption is lost.
        done: Future[list[str]] = Future()

        async def work():
            # On a busy machine it could answer before it dies.
            os.kill(first.pid, signal.SIGSTOP)
            tasks = [asyncio.create_task(answer(backend, request(9100 + n))) for n in range(8)]
            while not first.load:
                await asyncio.sleep(0.01)
            os.kill(first.pid, signal.SIGKILL)
            done.set_result(await asyncio.gather(*tasks))

        asyncio.run(work())
        assert all(done.result())
        pids = [each.pid for each in backend.engines]
        backend.close()
        assert not any(psutil.pid_exists(pid) for pid in pids)
    finally:
        session.close()
        for each in Engine._live:
            each.close()
