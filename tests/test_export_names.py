"""Names in exports: a row leads to its film, and nothing that is sent away shows the home folder."""

from __future__ import annotations

import ast
import json
import shutil

import pytest
from common import ROOT, VIDEOS
from fakes import FakeBackend

import captionkit as ck
from captionkit.engine import EngineError
from captionkit.export.names import film_path, found_film, without_home


@pytest.fixture
def home(tmp_path, monkeypatch):
    home = tmp_path / "people" / "anna"
    (home / "films").mkdir(parents=True)
    monkeypatch.setenv("HOME", str(home))
    return home


@pytest.mark.parametrize(
    ("film", "folder", "named"),
    [
        ("~/films/a.mp4", "~/work", "../films/a.mp4"),
        ("~/work/films/a.mp4", "~/work", "films/a.mp4"),
        ("~/films/a.mp4", "/sent", "~/films/a.mp4"),
        ("~/films/a.mp4", "~/..", "~/films/a.mp4"),
        ("/data/films/a.mp4", "/data/exports", "../films/a.mp4"),
        ("/data/films/a.mp4", "~/work", "/data/films/a.mp4"),
        ("s3://films/a.mp4", "/data", "s3://films/a.mp4"),
    ],
)
def test_a_film_is_named_from_the_export_and_never_through_the_home_folder(home, film, folder, named):
    film, folder = (each.replace("~", str(home)) for each in (film, folder))
    assert film_path(film, folder) == named


def test_the_home_folder_is_hidden_where_a_text_names_it_and_nowhere_else(home):
    texts = {
        f"cannot read {home}/a b.mp4: it broke": "cannot read ~/a b.mp4: it broke",
        f"nothing in '{home}'.": "nothing in '~'.",
        f"file://{home}/a.mp4": "file://~/a.mp4",
        f"{home}2/a.mp4": f"{home}2/a.mp4",
        f"/copy{home}/a.mp4": f"/copy{home}/a.mp4",
    }
    assert {text: without_home(text) for text in texts} == texts


@pytest.mark.parametrize("name", ["jsonl", "csv", "parquet", "html", "nemo", "vtt"])
def test_no_export_shows_the_home_folder(home, tmp_path, name):
    film = shutil.copy(VIDEOS / "harbour.mp4", home / "films" / "harbour.mp4")
    backend = FakeBackend(lambda prompt, start, stage: "A boat.")
    backend.fail = {"8.53"}
    say = backend.stream

    async def stream(request):
        try:
            async for each in say(request):
                yield each
        except EngineError as error:
            raise type(error)(f"{home}/films/harbour.mp4 broke") from error

    backend.stream = stream
    session = ck.Session(film, store=tmp_path / "runs.sqlite", backend=backend)
    run = session.caption(f"Say what {home}/notes.txt tells.")
    written = run.export(tmp_path / "sent" / f"out.{name}", name)
    files = [written] if written.is_file() else [each for each in written.rglob("*") if each.is_file()]
    assert files
    for each in files:
        assert str(home).encode() not in each.read_bytes()
    session.close()


@pytest.mark.parametrize("suffix", ["jsonl", "csv", "parquet", "html"])
def test_a_moved_export_still_leads_to_the_films_that_moved_with_it(tmp_path, suffix):
    before = tmp_path / "before"
    (before / "films").mkdir(parents=True)
    film = shutil.copy(VIDEOS / "harbour.mp4", before / "films" / "harbour.mp4")
    session = ck.Session(film, store=tmp_path / "runs.sqlite", backend=FakeBackend())
    written = session.caption("Say it.").export(before / "out" / f"captions.{suffix}")
    session.close()
    before.rename(tmp_path / "after")
    moved = tmp_path / "after" / "out" / written.name
    assert set(ck.load_captions(moved)["path"]) == {str(tmp_path / "after" / "films" / "harbour.mp4")}
    (row, *_) = ck.export.foreign_rows(moved)
    assert row.video == str(tmp_path / "after" / "films" / "harbour.mp4")
    assert found_film("harbour", tmp_path) == "harbour"


def test_a_clip_id_of_a_stranger_writes_no_file_outside_the_folder(session, tmp_path):
    run = session.caption("Say it.")
    with session.store._file.transaction() as db:
        db.execute("UPDATE windows SET clip = '../../../escaped'")
    folder = run.export(tmp_path / "out", "nemo")
    (meta,) = (folder / "metas" / "v0").iterdir()
    assert json.loads(meta.read_text())["span_uuid"] == "../../../escaped"
    assert not list(tmp_path.glob("**/escaped*"))


def test_one_module_makes_all_temporary_files():
    makers = [
        str(path.relative_to(ROOT))
        for path in (ROOT / "captionkit").rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Import) and "tempfile" in {each.name for each in node.names}
    ]
    assert makers == ["captionkit/system/temp.py"]
