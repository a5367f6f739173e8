"""Over five hundred files, damaged by a seed: no crash, no hang, no wrong frame."""

from __future__ import annotations

import json
import time
from collections import Counter

import barcodes
import numpy as np
import pytest
from common import ROOT

from captionkit.video import DecodePool, VideoError

FRAMES = 60
MUTANTS = 63
LIMIT_S = 20.0
FORMATS = {
    "h264.mp4": {"codec": "libx264", "options": {"g": "12", "preset": "ultrafast"}},
    "hevc.mp4": {
        "codec": "libx265",
        "options": {"x265-params": "keyint=12:log-level=none", "preset": "ultrafast"},
    },
    "vp9.webm": {
        "codec": "libvpx-vp9",
        "options": {"g": "12", "deadline": "realtime", "cpu-used": "8"},
    },
    "av1.mkv": {"codec": "libsvtav1", "options": {"g": "12", "preset": "12"}},
    "mpegts.ts": {"codec": "libx264", "options": {"g": "12", "preset": "ultrafast"}},
    "h264.mkv": {"codec": "libx264", "options": {"g": "12", "preset": "ultrafast"}},
    "mpeg4.avi": {"codec": "mpeg4", "options": {"g": "12"}},
    "grey.gif": {"codec": "gif", "pix_fmt": "rgb8"},
}
# A flip in the middle of a transport stream can change times, which are in every packet.
TIMES_ALL_OVER = {"mpegts.ts"}


def mutate(data: bytes, kind: str, rng: np.random.Generator) -> bytes:
    """Flip bytes in the middle, cut the end off, or overwrite bytes at the head or the tail."""
    changed = bytearray(data)
    if kind == "cut":
        return data[: int(rng.uniform(0.02, 0.98) * len(data))]
    span = (int(len(data) * 0.2), int(len(data) * 0.75))
    if kind == "header":
        span = (0, 600) if rng.random() < 0.5 else (max(0, len(data) - 1500), len(data))
    for _ in range(int(rng.integers(1, 12))):
        changed[int(rng.integers(*span))] = int(rng.integers(256))
    return bytes(changed)


def swapped(frame: np.ndarray, asked: int) -> bool:
    """Return whether a frame is intact, but another than the requested one."""
    number = barcodes.read_number(frame)
    if number == asked or number >= FRAMES:
        return False
    other = barcodes.picture(number).transpose(2, 0, 1).astype(int)
    return bool(np.abs(frame.astype(int) - other).mean() < 12)


@pytest.mark.parametrize("name", FORMATS)
def test_damaged_files_neither_crash_nor_hang_nor_pass_off_one_frame_as_another(name, tmp_path):
    source = barcodes.write(tmp_path / name, FRAMES, **FORMATS[name])
    data = source.read_bytes()
    rng = np.random.default_rng(sum(name.encode()))
    counts: Counter[str] = Counter()
    slowest = 0.0
    with DecodePool(workers=1, timeout_s=LIMIT_S) as pool:
        for turn in range(MUTANTS):
            kind = ("flip", "cut", "header")[turn % 3]
            path = tmp_path / f"{turn}-{name}"
            path.write_bytes(mutate(data, kind, rng))
            started = time.monotonic()
            outcome = _read(pool, path)
            slowest = max(slowest, time.monotonic() - started)
            counts[f"{kind}: {outcome}"] += 1
            path.unlink()
    artefacts = ROOT / ".artefacts"
    artefacts.mkdir(exist_ok=True)
    figures = {**counts, "slowest, s": round(slowest, 2)}
    (artefacts / f"mutated-{name}.json").write_text(json.dumps(figures, indent=1, sort_keys=True))
    assert sum(counts.values()) == MUTANTS
    for outcome in ("crashed", "hung"):
        assert not [key for key in counts if key.endswith(outcome)]
    # Exempt a changed header, which may renumber frames.
    assert not counts["cut: swapped"]
    if name not in TIMES_ALL_OVER:
        assert not counts["flip: swapped"]


def _read(pool: DecodePool, path) -> str:
    try:
        facts = pool.probe(path)
        asked = sorted({1, facts.num_frames // 2, facts.num_frames - 2} & set(range(facts.num_frames)))
        read = pool.read(path, asked, (barcodes.WIDTH, barcodes.HEIGHT))
    except VideoError as error:
        text = str(error)
        if "crashed" in text:
            return "crashed"
        return "hung" if "did not answer" in text else "refused"
    if read.damage:
        return "damage reported"
    if any(swapped(frame, number) for frame, number in zip(read.pixels, asked, strict=True)):
        return "swapped"
    return "read"


def test_a_header_that_claims_a_huge_picture_is_refused_in_bounded_memory(tmp_path):
    source = barcodes.write(tmp_path / "big.avi", 10, codec="mpeg4")
    data = bytearray(source.read_bytes())
    size = (barcodes.WIDTH).to_bytes(4, "little") + (barcodes.HEIGHT).to_bytes(4, "little")
    huge = (30_000).to_bytes(4, "little") * 2
    assert data.count(size)
    source.write_bytes(bytes(data).replace(size, huge))
    with DecodePool(workers=1, timeout_s=60) as pool:
        try:
            facts = pool.probe(source)
            pool.read(source, [0], (64, 64))
        except VideoError as error:
            assert "big.avi" in str(error)
        else:
            # Decoders prefer the stream's own header to the container's.
            assert (facts.width, facts.height) == (barcodes.WIDTH, barcodes.HEIGHT)


def test_a_claim_of_a_thousand_million_frames_is_not_believed(tmp_path):
    source = barcodes.write(tmp_path / "many.avi", 10, codec="mpeg4")
    data = source.read_bytes()
    count = (10).to_bytes(4, "little")
    many = (10**9).to_bytes(4, "little")
    head = data[:400].replace(count, many)
    assert head != data[:400]
    source.write_bytes(head + data[400:])
    with DecodePool(workers=1, timeout_s=60) as pool:
        try:
            assert pool.probe(source).num_frames <= 10
        except VideoError as error:
            assert "many.avi" in str(error)
