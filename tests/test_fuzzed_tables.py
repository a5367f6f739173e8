"""Files of captions with random damage: what is read is a caption, all else one clear error of ours."""

from __future__ import annotations

import contextlib
import json
import random
import re

import pytest
import stores

import captionkit as ck
from captionkit.captions import COLUMNS, captions_table, window_columns
from captionkit.export import ExportError
from captionkit.export.rows import foreign_rows
from captionkit.session.imports import match

ROWS = [
    {
        **dict.fromkeys(COLUMNS),
        **window_columns(stores.window(number)),
        "stage": 1,
        "repeat": 0,
        "text": f'A "boat", {number}.',
    }
    for number in range(4)
]
CUES = b"WEBVTT\n\n00:00:00.000 --> 00:00:08.500\nA boat.\n\n00:08.500 --> 00:17.000\n&lt;Two&gt;.\n"
METAS = {
    "source_video": "film.mp4",
    "duration_span": [0, 9],
    "framerate_source": 30,
    "windows": [{"start_frame": 0, "end_frame": 255, "qwen_caption": "A boat."}],
}
COCO = {
    "images": [{"id": 1, "file_name": "film.mp4"}],
    "annotations": [{"image_id": 1, "caption": "A boat."}],
}
EVENTS = {"film": {"timestamps": [[0, 8.5]], "sentences": ["A boat."]}}
SCENES = {"scenes": [{"start_s": 0, "end_s": 8.5, "text": "A boat."}]}
LIST = [{"video": "film.mp4", "start": 0, "end": 8.5, "caption": "A boat.", "stage": 1}] * 2
VALUE = re.compile(rb'-?\d+(\.\d+)?|"[^"]*"|null|\[[^\[\]]*\]|\{[^{}]*\}')
STRANGE = [
    *(b"NaN", b"1e999", b"-1", b"null", b"{}", b"[]", b'""', b'"', b",", b"\n", b"\x00", b"\xff"),
    *(b"\xed\xa0\x80", b"\\ud800", b"9" * 5000, b"[" * 3000, b"-->", b":", b"true", b'"x"', b"1.5"),
    b"99999999999999999999",
]


def sound(kind, folder):
    if kind in ("csv", "parquet"):
        path = folder / f"sound.{kind}"
        table = captions_table(ROWS)
        table.to_csv(path, index=False) if kind == "csv" else table.to_parquet(path, index=False)
        return path.read_bytes()
    if kind == "jsonl":
        return "\n".join(map(json.dumps, ROWS)).encode()
    if kind in ("vtt", "srt"):
        return CUES
    found = {"list": LIST, "metas": METAS, "coco": COCO, "events": EVENTS, "scenes": SCENES}[kind]
    return json.dumps(found).encode()


def damaged(content, rng):
    made = bytearray(content)
    for _ in range(rng.choice([1, 1, 2, 4])):
        at = rng.randrange(len(made) + 1)
        values = list(VALUE.finditer(bytes(made)))
        match rng.randrange(6):
            case 0:
                del made[at : at + rng.randrange(20)]
            case 1:
                made[at:at] = rng.choice(STRANGE)
            case 2 if made:
                made[at % len(made)] = rng.randrange(256)
            case 3:
                del made[at:]
            case _ if values:
                value = rng.choice(values)
                made[value.start() : value.end()] = rng.choice(STRANGE)
    return bytes(made)


TABLES = ["csv", "parquet", "jsonl"]
OTHERS = ["vtt", "srt", "list", "metas", "coco", "events", "scenes"]


@pytest.mark.parametrize("kind", [*TABLES, *OTHERS])
def test_a_damaged_file_is_read_or_refused_with_one_clear_error(kind, tmp_path):
    rng = random.Random(kind)
    content = sound(kind, tmp_path)
    path = tmp_path / f"film.{kind if kind in (*TABLES, 'vtt', 'srt') else 'json'}"
    path.write_bytes(content)
    assert all(row.text for row in foreign_rows(path))
    for _ in range(120):
        path.write_bytes(damaged(content, rng))
        with contextlib.suppress(ExportError):
            match(foreign_rows(path), stores.WINDOWS)
        if kind in TABLES:
            with contextlib.suppress(ExportError):
                assert set(COLUMNS) <= set(ck.load_captions(path))
