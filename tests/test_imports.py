"""Captions of other tools as runs: matched to windows, compared, corrected; the rest is listed."""

from __future__ import annotations

import io
import json
import tarfile

import barcodes
import pandas as pd
import pytest
from fakes import FakeBackend

import captionkit as ck
from captionkit.cli import main
from captionkit.export import ExportError

TEXTS = {
    ("one", 0): "A red boat.",
    ("one", 1): "A gull, 'white'.",
    ("one", 2): "=Nothing",
    ("solo.v2", 0): "Ελλάδα",
}


@pytest.fixture(scope="module")
def films(tmp_path_factory):
    folder = tmp_path_factory.mktemp("films")
    barcodes.write(folder / "one.mp4", 96)
    barcodes.write(folder / "solo.v2.mp4", 40)
    return folder


def opened(films, folder) -> ck.Session:
    recipe = ck.Recipe(window_size=32, remainder_threshold=32)
    store = folder / "runs.sqlite"
    return ck.Session(films, store=store, backend=FakeBackend(), recipe=recipe)


@pytest.fixture
def session(films, tmp_path):
    session = opened(films, tmp_path)
    yield session
    session.close()


@pytest.fixture(scope="module")
def first(films, tmp_path_factory):
    """Return a run whose final texts people edited to `TEXTS`."""
    session = opened(films, tmp_path_factory.mktemp("store"))
    run = session.caption("Say it.", stage2="More: {caption}")
    for (video, window), text in TEXTS.items():
        run.edit(video, window, text)
    yield run
    session.close()


def imported(run) -> dict[tuple[str, int], str]:
    table = run.captions
    assert table["stage"].eq(1).all()
    return {(row.video, row.window): row.text for row in table.itertuples()}


@pytest.mark.parametrize("name", ["a.jsonl", "a.csv", "a.parquet", "a.html", "subtitles", "nemo"])
def test_own_exports_come_back_as_the_texts_that_they_hold(first, tmp_path, name):
    kind = {"subtitles": "srt"}.get(name) or (name if name == "nemo" else None)
    path = first.export(tmp_path / name, kind, prefer_human=True)
    run = first._session.import_captions(path)
    assert imported(run) == TEXTS
    assert run.unmatched.empty
    assert run.recipe.prompt.startswith(f"imported: {name.partition('.')[0]} (")
    assert run.status == "done"


@pytest.mark.parametrize(
    "layout", ["sidecar", "videofolder", "musubi", "ltx", "cosmos", "webdataset", "events", "coco"]
)
def test_own_training_sets_come_back(first, tmp_path, layout):
    path = first.export(tmp_path / "out", "dataset", layout=layout, validation=0.5)
    assert imported(first._session.import_captions(path)) == TEXTS


def test_tar_files_of_other_tools_are_read_sample_by_sample(session, tmp_path):
    members = {
        "a/one-0001.mp4": b"film",
        "a/one-0001.txt": "Grün.".encode(),
        "b/x.json": json.dumps(
            {"caption": "By time.", "path": "one.mp4", "start": 0, "end": 1}
        ).encode(),
        "solo.v2.caption": b"Dotted.",
        "c/one-0002.txt": "Größe".encode("latin-1"),
        "c/y.json": b"{broken",
        "c/z.json": b'{"score": 1}',
        "c/film.mp4": b"no text",
    }
    path = tmp_path / "shard-000000.tar"
    with tarfile.open(path, "w") as tar:
        for name, content in members.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    run = session.import_captions(path)
    assert imported(run) == {("one", 1): "Grün.", ("one", 0): "By time.", ("solo.v2", 0): "Dotted."}
    reasons = {row.where.rsplit(", ", 1)[1]: row.reason for row in run.unmatched.itertuples()}
    assert set(reasons) == {"c/one-0002", "c/y", "c/z"}
    assert "neither .txt nor a caption" in reasons["c/z"]
    path.write_bytes(path.read_bytes()[:700])
    with pytest.raises(ExportError, match="not a sound tar file"):
        session.import_captions(path)


def test_text_files_belong_to_films_or_to_numbered_windows(session, tmp_path):
    (tmp_path / "solo.v2.txt").write_text("One.\nTwo.\n")
    (tmp_path / "one-0001.txt").write_bytes("Grün".encode("utf-16"))
    (tmp_path / "one-0002.txt").write_bytes("Größe".encode("latin-1"))
    (tmp_path / "one.txt").write_text("Which window?")
    (tmp_path / "other.txt").write_text("Which film?")
    run = session.import_captions(tmp_path)
    assert imported(run) == {("solo.v2", 0): "One.\nTwo.", ("one", 1): "Grün"}
    reasons = {row.where.rsplit("/", 1)[1]: row.reason for row in run.unmatched.itertuples()}
    assert "not utf-8" in reasons["one-0002.txt"]
    assert "save the file as UTF-8" in reasons["one-0002.txt"]
    assert "one has 3 windows, and it tells no key" in reasons["one.txt"]
    assert "no film of this session is called" in reasons["other.txt"]
    run = session.import_captions(tmp_path / "one-0002.txt", encoding="latin-1")
    assert imported(run) == {("one", 2): "Größe"}


@pytest.mark.parametrize("kind", ["csv", "jsonl", "parquet", "json"])
def test_columns_of_any_tool_are_mapped(session, tmp_path, kind):
    table = pd.DataFrame(
        [
            {"clip_name": "folder/one.mp4", "from": 1.1, "to": 2.0, "what": "Middle."},
            {"clip_name": "solo.v2", "from": 0.0, "to": 1.3, "what": "Whole."},
        ]
    )
    path = tmp_path / f"table.{kind}"
    write = {
        "csv": lambda: table.to_csv(path, index=False),
        "jsonl": lambda: table.to_json(path, orient="records", lines=True),
        "json": lambda: table.to_json(path, orient="records"),
        "parquet": lambda: table.to_parquet(path),
    }
    write[kind]()
    columns = {"text": "what", "video": "clip_name", "start": "from", "end": "to"}
    run = session.import_captions(path, columns=columns)
    assert imported(run) == {("one", 1): "Middle.", ("solo.v2", 0): "Whole."}
    with pytest.raises(
        ExportError, match=r"no column 'whit' \(did you mean 'what'\?\); there are: clip"
    ):
        session.import_captions(path, columns={**columns, "text": "whit"})
    with pytest.raises(ExportError, match=r"mapped to 'txt' \(did you mean 'text'\?\)"):
        session.import_captions(path, columns={"txt": "what"})
    with pytest.raises(
        ExportError, match="no column is known to hold the caption; map one of clip_name"
    ):
        session.import_captions(path)


def test_times_decide_by_half_and_two_rows_never_share_a_window(session, tmp_path):
    path = tmp_path / "one.vtt"
    path.write_text(
        "WEBVTT\n\nNOTE from elsewhere\n\n1\n00:00.000 --> 00:01.000 align:start\nFirst &amp; best.\n\n"
        "00:01.100 --> 00:02.100\nSecond.\n\n00:01.000 --> 00:02.000\nAgain.\n\n"
        "00:01.700 --> 00:02.600\nBetween.\n\n00:09.000 --> 00:10.000\nBeyond.\n\n00:x --> 3\nNo.\n"
    )
    run = session.import_captions(path)
    assert imported(run) == {("one", 0): "First & best.", ("one", 1): "Second."}
    reasons = list(run.unmatched["reason"])
    assert [reason.split(" ")[0] for reason in reasons] == ["one", "no", "no", "its"]
    assert "has the caption of" in reasons[0]
    assert "no window of one lies at 1.7 to 2.6 s" in reasons[1]


def test_an_import_without_any_match_is_an_error_that_names_the_first_row(session, tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_text(json.dumps({"video": "elsewhere.mp4", "caption": "A."}) + "\n")
    with pytest.raises(ExportError, match=r"none of 1 captions .* line 1: no film .* elsewhere\.mp4"):
        session.import_captions(path)
    for name, content, message in (
        ("b.jsonl", "{", "line 1"),
        ("b.json", "7", "not a list of captions"),
        ("b.pdf", "x", r"is \.pdf; give one of"),
        ("b.parquet", "x", "not a sound Parquet"),
        ("b.csv", "", "holds no captions"),
    ):
        (tmp_path / name).write_text(content)
        with pytest.raises(ExportError, match=message):
            session.import_captions(tmp_path / name)
    with pytest.raises(ExportError, match="there is no file"):
        session.import_captions(tmp_path / "nowhere")
    assert ck.runs(session.store).empty


def write_rows(path, texts) -> None:
    rows = [
        {"video": video, "window": window, "caption": text} for (video, window), text in texts.items()
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def test_the_same_import_is_the_same_run_and_other_texts_are_another(session, tmp_path):
    write_rows(tmp_path / "a.jsonl", TEXTS)
    first = session.import_captions(tmp_path / "a.jsonl")
    assert session.import_captions(tmp_path / "a.jsonl").id == first.id
    write_rows(tmp_path / "a.jsonl", {**TEXTS, ("one", 0): "A blue boat."})
    second = session.import_captions(tmp_path / "a.jsonl")
    assert second.id != first.id
    assert imported(first) == TEXTS
    assert len(ck.compare(first, second).table) == 4


def test_stage_two_corrects_their_captions_and_gaps_are_filled(session, tmp_path):
    write_rows(tmp_path / "a.jsonl", {key: TEXTS[key] for key in (("one", 0), ("one", 2))})
    given = session.import_captions(tmp_path / "a.jsonl")
    given.rate("one", 0, 3)
    corrected = session.correct(given)
    asked = {request.prompt for request in session.backend.requests}
    assert asked == {"Correct this caption: A red boat.", "Correct this caption: =Nothing"}
    table = corrected.captions
    assert list(table["stage"]) == [1, 2, 1, 2]
    assert list(table["text"][::2]) == ["A red boat.", "=Nothing"]
    assert corrected.compare_stages().summary["windows"] == 2
    # Nothing is asked twice.
    session.correct(given)
    assert len(session.backend.requests) == 2
    gaps = session.gaps(given)
    assert [(row.video, row.window) for row in gaps.itertuples()] == [("one", 1), ("solo.v2", 0)]
    assert session.caption(windows=gaps).status == "done"


def test_a_correction_that_failed_is_tried_with_the_same_caption(session, tmp_path):
    write_rows(tmp_path / "a.jsonl", TEXTS)
    given = session.import_captions(tmp_path / "a.jsonl")
    session.backend.fail = {"1.07"}
    corrected = session.correct(given, "Better: {caption}")
    assert corrected.progress.failed == 1
    session.backend.fail = set()
    assert corrected.retry_failed().status == "done"
    assert session.backend.requests[-1].prompt == "Better: A gull, 'white'."
    # Without the imported captions no other text is taken for them.
    session.store.delete(given.id)
    again = session.correct(corrected, "Once more: {caption}")
    assert again.status == "done"
    lost = session.caption(recipe=corrected.recipe, fresh=True)
    assert lost.progress.failed == 4
    assert "not in the store; import it again" in lost.captions["error"].iloc[0]


def test_the_captions_of_a_film_become_one_of_the_whole_film(session):
    run = session.caption("Say it.")
    run.edit("one", 1, "Edited\nby hand.")
    summary = session.summarize(run)
    table = summary.captions
    assert list(table["stage"]) == [1, 2, 1, 2]
    assert list(table["video"].unique()) == ["one", "solo.v2"]
    listed = table["text"].iloc[0]
    assert listed == (
        "0.0 to 1.1 s: Say it. at 0.00.\n1.1 to 2.1 s: Edited by hand.\n2.1 to 3.2 s: Say it. at 2.13."
    )
    assert table["frames"].iloc[0] == 96
    asked = [request for request in session.backend.requests if "captions of this" in request.prompt]
    assert listed in {request.prompt.split("order:\n")[1].split("\nWrite")[0] for request in asked}
    assert session.summarize(run).id == summary.id
    assert len(session.backend.requests) == 4 + 2
    session.summarize(run, "Shorter: {caption}", max_tokens=20)
    assert len(session.backend.requests) == 4 + 4


def test_the_captions_of_a_film_become_one_without_its_frames(session):
    run = session.caption("Say it.")
    merged = session.summarize(run, "Merge:\n{caption}", text_only=True)
    asked = session.backend.requests[-2:]
    assert [request.video for request in asked] == [None, None]
    assert asked[0].prompt == f"Merge:\n{merged.captions['text'].iloc[0]}"
    assert list(merged.final["stage"]) == [2, 2]
    assert merged.progress.failed == 0
    # With frames is another work, which has its own captions.
    assert session.summarize(run, "Merge:\n{caption}").id != merged.id


def test_the_command_imports_and_lists_what_is_left_out(films, tmp_path, capsys):
    write_rows(tmp_path / "a.jsonl", {**TEXTS, ("elsewhere", 0): "Lost."})
    arguments = ["import", tmp_path / "a.jsonl", films, "--window-size", "32"]
    arguments += [
        "--remainder-threshold",
        "32",
        "--store",
        tmp_path / "runs.sqlite",
        "--name",
        "people",
    ]
    assert main([str(each) for each in arguments]) == 0
    printed = capsys.readouterr().err
    assert "line 5: no film of this session is called elsewhere" in printed
    run = ck.open_run(1, tmp_path / "runs.sqlite")
    assert imported(run) == TEXTS
    assert ck.runs(run.store)["prompt"].iloc[0].startswith("imported: people")
    assert main([*map(str, arguments), "--column", "text"]) == 2
    assert main([*map(str, arguments), "--column", "text=nothing"]) == 1
