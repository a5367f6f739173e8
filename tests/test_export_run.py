"""Runs as files: every format, complete and never half written."""

from __future__ import annotations

import csv
import io
import json
import os
import re
import shutil
import subprocess
from pathlib import Path

import pandas as pd
import pytest
from common import VIDEOS
from fakes import FakeBackend

import captionkit as ck
from captionkit.captions import COLUMNS
from captionkit.cli import main
from captionkit.export import FORMATS, ExportError
from captionkit.recipe import Recipe

ODD = [
    "=HYPERLINK(\"http://example.org\")",
    'Quotes " and \' and ""double"", commas, semicolons; tabs\tand\nnew lines\r\n\n--> end',
    "Emoji 🚤🌊, e\u0301, Ελληνικά, 漢字, עברית ימינה, \u202eright to left",
    "</td></table><script>alert('x')</script> & <b>bold</b>",
]  # fmt: skip
STARTS = ["0.00", "8.53", "17.07", "25.60"]


@pytest.fixture
def fake():
    return FakeBackend(lambda prompt, start, stage: ODD[STARTS.index(start)])


@pytest.fixture
def run(session):
    run = session.caption("Say it.", stage2="More: {caption}")
    run.rate("harbour", 0, 5, stage=1)
    run.edit("harbour", 0, "=1+1 is edited", stage=1)
    return run


@pytest.mark.parametrize("suffix", ["jsonl", "csv", "parquet", "html"])
def test_written_captions_are_read_back_to_the_last_character(run, suffix, tmp_path, monkeypatch):
    # Paths below the home folder are written relative to it.
    monkeypatch.setenv("HOME", str(VIDEOS.parent))
    written = run.export(tmp_path / f"captions.{suffix}")
    assert str(VIDEOS) not in written.read_bytes().decode(errors="replace")
    loaded = ck.load_captions(written)
    assert Recipe.from_json(loaded["recipe"].iloc[0]) == run.recipe
    pd.testing.assert_frame_equal(loaded, run.captions)
    assert list(loaded["text"][::2]) == ODD
    assert loaded["rating"].dtype == "Int64"


def test_failed_windows_are_in_the_file_with_their_reason(session, fake, tmp_path):
    fake.fail = {"8.53"}
    run = session.caption("Say it.")
    for suffix in ("jsonl", "csv", "parquet", "html"):
        loaded = ck.load_captions(run.export(tmp_path / f"captions.{suffix}"))
        assert loaded["error"].notna().tolist() == [False, True, False, False]
        assert pd.isna(loaded["text"].iloc[1])


def test_no_cell_of_a_csv_runs_in_a_spreadsheet(run, tmp_path):
    written = run.export(tmp_path / "captions.csv", checks=True)
    data = written.read_bytes()
    assert data.startswith(b"\xef\xbb\xbf")
    rows = list(csv.DictReader(io.StringIO(data.decode("utf-8-sig"), newline="")))
    assert rows[0]["text"] == "'" + ODD[0]
    assert [row["text"] for row in rows[2::2]] == ODD[1:]
    assert not [cell for row in rows for cell in row.values() if cell.startswith(("=", "+", "-", "@"))]
    assert rows[0]["edited_text"] == "'=1+1 is edited"
    assert rows[0]["truncated"] == "False"


def test_webvtt_has_one_cue_for_each_window(run, tmp_path):
    text = run.export(tmp_path / "harbour.vtt").read_text(encoding="utf-8")
    blocks = text.strip().split("\n\n")
    assert blocks[0] == "WEBVTT"
    assert blocks[1].startswith("NOTE captionkit recipe\n{")
    assert len(blocks) == 2 + 4
    assert blocks[3].startswith("00:00:08.533 --> 00:00:17.067\n")
    assert text.count("-->") == 4
    assert "<b>" not in text
    first = run.export(tmp_path / "first.vtt", stage=1).read_text(encoding="utf-8")
    assert "More of it." not in first


def test_srt_cues_are_numbered_and_end_where_they_should(run, tmp_path):
    text = run.export(tmp_path / "harbour.srt").read_text(encoding="utf-8")
    cues = re.findall(r"(?m)^(\d+)\n(\S+) --> (\S+)\n(?:.+\n)+?$", text + "\n")
    assert [cue[0] for cue in cues] == ["1", "2", "3", "4"]
    assert cues[1][1:] == ("00:00:08,533", "00:00:17,067")
    assert text.count("-->") == 4


def test_ffmpeg_reads_the_subtitles(run, tmp_path):
    import av

    for suffix in ("srt", "vtt"):
        path = run.export(tmp_path / f"harbour.{suffix}")
        with av.open(str(path)) as container:
            packets = [p for p in container.demux() if p.size]
        assert len(packets) == 4


def test_subtitles_of_several_videos_go_into_a_folder(fake, tmp_path):
    fake.say = lambda prompt, start, stage: "Seen."
    session = ck.Session(VIDEOS, store=tmp_path / "runs.sqlite", backend=fake)
    run = session.caption("Say it.")
    with pytest.raises(ExportError, match=r"8 videos.*give a folder"):
        run.export(tmp_path / "all.vtt")
    folder = run.export(tmp_path / "subtitles", format="srt")
    assert len(list(folder.glob("*.srt"))) == 8
    session.close()


def test_the_nemo_layout_has_the_fields_of_curators_writer(run, tmp_path):
    folder = run.export(tmp_path / "out", format="nemo", checks=True)
    (path,) = (folder / "metas" / "v0").glob("*.json")
    meta = json.loads(path.read_text())
    assert meta["span_uuid"] == path.stem == run.captions["clip"].iloc[0]
    assert meta["source_video"].endswith("harbour.mp4")
    assert meta["duration_span"] == [0.0, pytest.approx(1024 / 30)]
    assert (meta["width_source"], meta["height_source"], meta["framerate_source"]) == (640, 360, 30)
    assert meta["valid"] is True
    first = meta["windows"][0]
    assert (first["start_frame"], first["end_frame"]) == (0, 255)
    assert first["demo_caption"] == ODD[0] + " More of it."
    assert first["demo_stage1_caption"] == ODD[0]
    assert Recipe(**meta["recipe"]) == run.recipe


def test_the_report_is_one_harmless_file(run, tmp_path):
    page = run.export(tmp_path / "report.html").read_text(encoding="utf-8")
    assert page.count("<script>") == page.count("</script>") == 1
    assert "default-src 'none'" in page
    assert page.count("data:image/jpeg;base64,") == 4
    assert not re.search(r"""(src|href)=["']?(https?:)?//""", page)
    assert "<ins>" in page
    assert page.count("<tr data-video=") == 4


def test_prefer_human_prefers_edits_and_ratings(run, tmp_path):
    plain = ck.load_captions(run.export(tmp_path / "plain.jsonl"))
    human = ck.load_captions(run.export(tmp_path / "human.jsonl", prefer_human=True))
    assert len(plain) == 8
    assert list(human["stage"]) == [1, 2, 2, 2]
    assert human["text"].iloc[0] == "=1+1 is edited"
    assert list(human["text"][1:]) == [f"{text} More of it." for text in ODD[1:]]


def test_findings_of_checks_are_in_subtitles_report_and_the_nemo_layout(session, fake, tmp_path):
    fake.say = lambda prompt, start, stage: "A boat moves"
    fake.finish_reason = "length"
    run = session.caption("Say it.")
    text = run.export(tmp_path / "a.vtt", checks=True).read_text(encoding="utf-8")
    assert text.count("[truncated, unfinished]") == 4
    page = run.export(tmp_path / "a.html").read_text(encoding="utf-8")
    assert page.count('data-faults="1"') == 4
    (path,) = run.export(tmp_path / "out", format="nemo", checks=True).rglob("*.json")
    assert json.loads(path.read_text())["windows"][0]["checks"] == ["truncated", "unfinished"]
    assert "[truncated" not in run.export(tmp_path / "b.vtt").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", sorted(FORMATS))
def test_an_existing_file_is_replaced_with_overwrite_only(run, name, tmp_path):
    path = tmp_path / ("folder" if name == "nemo" else f"captions.{name}")
    run.export(path, name)
    with pytest.raises(ExportError, match="is there already; give overwrite=True"):
        run.export(path, name)
    run.export(path, name, overwrite=True)
    assert not list(tmp_path.rglob(".*"))


def test_a_full_disk_leaves_nothing_behind(run):
    disk = Path("/dev/full")
    if not disk.exists():
        pytest.skip("needs /dev/full")
    with pytest.raises(ExportError, match="is there already"):
        run.export(disk, "jsonl")


@pytest.mark.skipif(os.geteuid() != 0 or not shutil.which("mount"), reason="needs a mount of its own")
def test_a_disk_that_fills_up_leaves_no_partial_file(run, tmp_path):
    disk = tmp_path / "disk"
    disk.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8k", "tmpfs", disk], check=False).returncode:
        pytest.skip("cannot mount here")
    try:
        for path, name in ((disk / "report.html", "html"), (disk, "nemo"), (disk / "a.jsonl", "jsonl")):
            (disk / "filler").write_bytes(b"x" * 7000)
            with pytest.raises(ExportError, match="cannot write"):
                run.export(path, name)
            assert [each.name for each in disk.iterdir() if each.is_file()] == ["filler"]
    finally:
        subprocess.run(["umount", "-l", disk], check=True)


@pytest.mark.parametrize(
    ("path", "options", "message"),
    [
        ("captions.xlsx", {}, "the format is 'xlsx'; give one of jsonl, csv, parquet"),
        ("captions", {}, "without a suffix"),
        ("captions.jsonl", {"format": "xml"}, "the format is 'xml'"),
        (".", {"format": "csv"}, "is a folder; give a file"),
    ],
)
def test_a_bad_format_or_path_is_refused(run, path, options, message, tmp_path):
    with pytest.raises(ExportError, match=message):
        run.export(tmp_path / path, **options)


def test_a_run_without_captions_is_refused_with_its_reasons(session, fake, tmp_path):
    fake.fail = set(STARTS)
    run = session.caption("Say it.")
    with pytest.raises(
        ExportError, match=r"no caption to export: 0 of 4 .*4 failed.*at 0\.00 is broken"
    ):
        run.export(tmp_path / "captions.jsonl")
    assert not (tmp_path / "captions.jsonl").exists()
    fake.fail = set()
    with pytest.raises(ExportError, match="no captions of stage 2"):
        session.caption("Say more.").export(tmp_path / "captions.jsonl", stage=2)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.jsonl", '{"video": "a", "window": 0, "stage": 1}\n{"vid', "a.jsonl, line 2"),
        ("a.jsonl", "[1]\n", "line 1: not a JSON object"),
        ("a.jsonl", '{"video": "a"}\n', "line 1: the row lacks window"),
        ("a.jsonl", "", "holds no captions"),
        (
            "a.jsonl",
            '{"video": "a", "window": "x", "stage": 1, "text": "A boat."}\n',
            "window is 'x', which is not a whole number",
        ),
        ("a.jsonl", "[" * 100_000, "line 1: "),
        (
            "a.csv",
            'video,window,stage,text\na,0,1,"A" boat.\n',
            "not a sound CSV file, in or behind line 1",
        ),
        (
            "a.csv",
            "video,window,stage,text\na,many,1,A boat.\n",
            "line 2: window is 'many', which is not",
        ),
        ("a.html", "<p>a page of something else</p>", "holds no captions"),
        ("a.parquet", "no parquet", "not a sound Parquet file"),
        ("a.txt", "", "give one of .jsonl, .csv, .parquet, .html"),
    ],
)
def test_a_file_that_cannot_be_read_is_named(name, content, message, tmp_path):
    (tmp_path / name).write_text(content)
    with pytest.raises(ExportError, match=message):
        ck.load_captions(tmp_path / name)
    with pytest.raises(ExportError, match="there is no file"):
        ck.load_captions(tmp_path / "nowhere.jsonl")


OLD = {
    "exported.jsonl": {
        "run": 1, "video": "harbour", "clip": "c", "window": 2, "start_s": 17.0, "end_s": 25.5,
        "stage": 1, "prompt": "Say it.", "text": "A boat.", "finish_reason": "stop", "error": None,
        "rating": 4, "recipe": json.dumps({"variant": "demo", "prompt": "Say it.",
                                           "stage2_prompt": None, "max_output_tokens": 9}),
    },
    "lines.jsonl": {
        "video": "films/harbour.mp4", "clip": "c", "window": 2, "start_frame": 512, "end_frame": 767,
        "start_s": 17.0, "end_s": 25.5, "variant": "demo", "recipe": "f169e4b11c2f5618",
        "caption": "A boat.", "captions": [{"stage": 1, "text": "A boat.", "prompt": "<chat>",
                                            "prompt_text": "Say it.", "finish_reason": "stop"}],
        "warnings": ["damaged"], "error": None,
    },
    "part.parquet": {
        "video": "films/harbour.mp4", "window": 2, "start_frame": 512, "end_frame": 767,
        "start_s": 17.0, "end_s": 25.5, "variant": "demo", "recipe": "f169e4b11c2f5618",
        "caption": "A boat.", "stage1_caption": None, "finish_reason": "stop", "prompt": "Say it.",
        "prompt_tokens": 9, "output_tokens": 4, "seconds": 0.5, "warnings": "", "error": None,
    },
}  # fmt: skip


@pytest.mark.parametrize("name", OLD)
def test_files_of_captionkit_0_1_are_read_with_the_columns_of_today(name, tmp_path):
    path = tmp_path / name
    if name.endswith(".jsonl"):
        path.write_text(json.dumps(OLD[name]) + "\n")
    else:
        pd.DataFrame([OLD[name]]).to_parquet(path)
    table = ck.load_captions(path)
    assert tuple(table.columns) == COLUMNS
    row = table.iloc[0]
    assert (row["video"], row["window"], row["stage"], row["text"]) == ("harbour", 2, 1, "A boat.")
    assert (row["prompt"], row["start_s"], row["model"]) == ("Say it.", 17.0, "demo")
    assert row["recipe"] in ("f169e4b11c2f5618", Recipe(prompt="Say it.", max_tokens=9).to_json())


def test_a_failed_line_of_captionkit_0_1_keeps_its_error(tmp_path):
    line = {**OLD["lines.jsonl"], "error": "it broke"}
    (tmp_path / "lines.jsonl").write_text(json.dumps(line) + "\n")
    table = ck.load_captions(tmp_path / "lines.jsonl")
    assert list(table["stage"]) == [1, 2]
    assert list(table["error"]) == [None, "it broke"]


def test_the_command_line_lists_and_exports_runs(run, session, tmp_path, capsys, monkeypatch):
    store = str(session.store.path)
    assert main(["runs", "--store", store]) == 0
    assert "Say it." in capsys.readouterr().out
    out = tmp_path / "cli.jsonl"
    arguments = ["export", "1", "--out", str(out), "--store", store]
    assert main([*arguments, "--checks", "--prefer-human"]) == 0
    assert "words" in ck.load_captions(out)
    assert main(arguments) == 1
    assert "is there already" in capsys.readouterr().err
    assert main([*arguments, "--overwrite"]) == 0
    monkeypatch.chdir(tmp_path)
    assert main(["export", "1", "--format", "srt", "--store", store]) == 0
    assert (tmp_path / "run-1.srt").exists()
    assert main(["export", "1", "--store", store]) == 2
    assert "give --out or --format" in capsys.readouterr().err
    assert main(["export", "7", "--out", str(out), "--store", store]) == 2
    assert "no run 7; there are: 1" in capsys.readouterr().err
    assert main(["runs", "--store", str(tmp_path / "nowhere.sqlite")]) == 2
    assert "there is no store" in capsys.readouterr().err


def structured_run(session, fake, answers, **properties):
    """Run with an answer for each window of one video, by a schema with these properties."""
    fake.say = lambda prompt, start, stage: answers[STARTS.index(start)]
    return session.caption("Say it.", schema={"type": "object", "properties": properties})


@pytest.mark.parametrize(
    ("values", "written"),
    [
        (["1", '"one"', '["é"]', "null"], ["1", '"one"', '["é"]', None]),
        (["true", "2.5", "1", "null"], ["true", "2.5", "1", None]),
        ([str(10**23), "1", "-1", "null"], [str(10**23), "1", "-1", None]),
        ([str(2**53 + 1), "0.5", "1", "1"], [str(2**53 + 1), "0.5", "1", "1"]),
        ([str(2**53), "0.5", "1", "1"], [2.0**53, 0.5, 1.0, 1.0]),
        ([str(2**63 - 1), "1", "1", str(1 - 2**63)], [2**63 - 1, 1, 1, 1 - 2**63]),
        (['["a"]', '"a"', '{"b": 1}', "[]"], ['["a"]', "a", '{"b": 1}', "[]"]),
        ([r'"\ud800"', r'["\ud800"]', '"a"', '"a"'], ["?", '["?"]', "a", "a"]),
    ],
)
def test_values_of_any_type_are_in_every_table(session, fake, tmp_path, values, written):
    run = structured_run(session, fake, [f'{{"n": {value}}}' for value in values], n={})
    kept = pd.read_parquet(run.export(tmp_path / "a.parquet"))["json.n"]
    assert kept.astype(object).where(kept.notna(), None).tolist() == written
    assert ck.load_captions(tmp_path / "a.parquet")["json.n"].notna().tolist() == kept.notna().tolist()
    for suffix in ("csv", "jsonl"):
        loaded = ck.load_captions(run.export(tmp_path / f"a.{suffix}"))["json.n"]
        assert loaded.notna().tolist() == kept.notna().tolist()


def test_a_property_named_invalid_keeps_its_column_beside_the_error(session, fake, tmp_path):
    answers = ['{"invalid": "none", "invalid_": 1}', "not JSON", '{"invalid": 2}', "{}"]
    run = structured_run(session, fake, answers, invalid={"type": "string"}, invalid_={})
    for suffix in ("jsonl", "csv", "parquet"):
        loaded = ck.load_captions(run.export(tmp_path / f"a.{suffix}", checks=True))
        added = [name for name in loaded if name.startswith("json.")]
        assert added == ["json.invalid", "json.invalid_", "json.invalid__"]
        assert loaded["json.invalid"].notna().tolist() == [True, False, True, False]
        assert loaded["json.invalid"].iloc[0] in ("none", '"none"')
        assert loaded["json.invalid__"].notna().tolist() == [False, True, True, False]
        assert loaded["json.invalid__"].iloc[1].startswith("not JSON")
        assert loaded["invalid"].astype(str).tolist() == ["False", "True", "True", "False"]
