"""Training sets: each layout read back, with the frames of windows and the texts of captions."""

from __future__ import annotations

import gc
import json
import os
import shutil
import subprocess
import tarfile
import threading
from pathlib import Path

import av
import barcodes
import programs
import pytest
from fakes import FakeBackend
from hub import REPOSITORY, Hub, environment

import captionkit as ck
from captionkit.cli import main
from captionkit.export import ExportError
from captionkit.export.dataset import DatasetExport, DatasetOptions
from captionkit.export.dataset import export as export_module
from captionkit.video import DecodePool

SIZE = 32
# Frames of each film: windows of 32, of which the last one may be longer.
FILMS = {"one": 96, "two": 64, "three.v2": 40}
WINDOWS = {"one": [(0, 31), (32, 63), (64, 95)], "two": [(0, 31), (32, 63)], "three.v2": [(0, 39)]}


@pytest.fixture(scope="module")
def pool():
    with DecodePool(workers=1) as pool:
        yield pool


@pytest.fixture(scope="module")
def films(tmp_path_factory):
    folder = tmp_path_factory.mktemp("films")
    for name, frames in FILMS.items():
        # Films of another size each, so that their frames are told apart.
        barcodes.write(folder / f"{name}.mp4", frames, clicks=[0.1], options={"crf": str(frames)[:1]})
    return folder


def words(prompt: str, start: str, stage: int) -> str:
    return f"A boat at {start} s,\twith two\nlines."


def opened(films: Path, folder: Path) -> ck.Session:
    recipe = ck.Recipe(window_size=SIZE, remainder_threshold=SIZE)
    store = folder / "runs.sqlite"
    return ck.Session(films, store=store, backend=FakeBackend(words), recipe=recipe)


def captioned(session: ck.Session) -> ck.Run:
    return session.caption("Say it.", stage2="More: {caption}")


@pytest.fixture(scope="module")
def run(films, tmp_path_factory):
    """Return a run that no test changes."""
    session = opened(films, tmp_path_factory.mktemp("store"))
    run = captioned(session)
    run.rate("one", 1, 4)
    yield run
    session.close()


@pytest.fixture
def own(films, tmp_path):
    """Return a run to rate and to edit."""
    session = opened(films, tmp_path)
    yield captioned(session)
    session.close()


def text_of(name: str, window: int) -> str:
    """The last stage's text of a window; 30 frames a second."""
    start = WINDOWS[name][window][0] / 30
    return f"A boat at {start:.2f} s,\twith two\nlines. More of it."


def line_of(name: str, window: int) -> str:
    return " ".join(text_of(name, window).split())


def samples() -> dict[str, tuple[str, int]]:
    """File names without a suffix of all windows."""
    return {
        f"{name.replace('.', '_')}-{window:04d}": (name, window)
        for name, spans in WINDOWS.items()
        for window in range(len(spans))
    }


def check_frames(path: Path, stem: str, pool: DecodePool) -> None:
    first, last = WINDOWS[samples()[stem][0]][samples()[stem][1]]
    assert barcodes.numbers(path, pool) == list(range(first, last + 1))


def test_a_sidecar_folder_has_each_clip_beside_its_text(run, tmp_path, pool):
    folder = run.export(tmp_path / "out", "dataset", layout="sidecar")
    clips = {path.stem: path for path in folder.rglob("*.mp4")}
    assert set(clips) == set(samples())
    for stem, path in clips.items():
        check_frames(path, stem, pool)
        text = path.with_suffix(".txt").read_text(encoding="utf-8")
        assert text == line_of(*samples()[stem]) + "\n"
    with av.open(str(clips["one-0000"])) as container:
        assert container.streams.audio
    assert barcodes.heard_clicks(clips["one-0000"]) == pytest.approx([0.1], abs=0.02)


@pytest.fixture
def collected():
    """Collect what a reader leaves open here, where a warning of it is ignored, not in a later test."""
    yield
    gc.collect()


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.usefixtures("collected")
@pytest.mark.parametrize("metadata", ["jsonl", "csv", "parquet"])
def test_datasets_reads_a_videofolder_with_its_parts(run, tmp_path, pool, metadata, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    import datasets

    # Nothing is decoded here, and its decoder may be built for another machine.
    monkeypatch.setattr(datasets.config, "TORCHCODEC_AVAILABLE", False)
    options = {"layout": "videofolder", "metadata": metadata, "validation": 0.3}
    folder = run.export(tmp_path / "out", "dataset", **options)
    read = datasets.load_dataset("videofolder", data_dir=str(folder), cache_dir=str(tmp_path / "cache"))
    assert set(read) == {"train", "validation"}
    seen = {}
    for part in read.values():
        for row in part.cast_column("video", datasets.Video(decode=False)):
            stem = Path(row["video"]["path"]).stem
            seen[stem] = row
            check_frames(Path(row["video"]["path"]), stem, pool)
            assert row["caption"].replace("\r\n", "\n") == text_of(*samples()[stem])
    assert set(seen) == set(samples())
    assert seen["one-0001"]["rating"] == 4
    assert seen["three_v2-0000"]["copied"]
    assert seen["one-0001"]["start_s"] == pytest.approx(32 / 30)
    parts = [{row["film"] for row in part.remove_columns("video")} for part in read.values()]
    assert parts[0] & parts[1] == set()


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.usefixtures("collected")
def test_webdataset_reads_the_tar_files(run, tmp_path, pool):
    import webdataset

    folder = run.export(tmp_path / "out", "dataset", layout="webdataset", shard_mb=1)
    shards = sorted(map(str, folder.glob("*.tar")))
    seen = set()
    for sample in webdataset.WebDataset(shards, shardshuffle=False):
        stem = sample["__key__"]
        seen.add(stem)
        clip = tmp_path / "clip.mp4"
        clip.write_bytes(sample["mp4"])
        check_frames(clip, stem, pool)
        assert sample["txt"].decode() == line_of(*samples()[stem])
        facts = json.loads(sample["json"])
        assert facts["caption"] == text_of(*samples()[stem])
        assert (
            facts["frames"]
            == len(range(*WINDOWS[facts["film"].removesuffix(".mp4")][facts["window"]])) + 1
        )
    assert seen == set(samples())
    assert not (folder / ".clips").exists()


def test_tar_files_stay_within_their_size(run, tmp_path, monkeypatch):
    monkeypatch.setattr(export_module, "_MEGABYTE", 1000)
    folder = run.export(tmp_path / "out", "dataset", layout="webdataset", shard_mb=20)
    shards = sorted(folder.glob("*.tar"))
    assert len(shards) > 1
    for path in shards:
        with tarfile.open(path) as tar:
            names = tar.getnames()
        assert len(names) % 3 == 0
        assert path.stat().st_size <= 30_000 or len(names) == 3


def test_musubi_lists_whole_paths_and_captions(run, tmp_path, pool):
    folder = run.export(tmp_path / "out", "dataset", layout="musubi")
    rows = [json.loads(line) for line in (folder / "dataset.jsonl").read_text().splitlines()]
    assert len(rows) == len(samples())
    for row in rows:
        assert set(row) == {"video_path", "caption"}
        path = Path(row["video_path"])
        assert path.is_absolute()
        check_frames(path, path.stem, pool)
        assert row["caption"] == text_of(*samples()[path.stem])


def test_ltx_lists_relative_paths_in_a_file_for_each_part(run, tmp_path, pool):
    folder = run.export(tmp_path / "out", "dataset", layout="ltx", validation=0.3)
    seen = []
    for name in ("dataset.json", "validation.json"):
        for row in json.loads((folder / name).read_text()):
            path = folder / row["media_path"]
            check_frames(path, path.stem, pool)
            assert row["caption"] == text_of(*samples()[path.stem])
            seen.append(path.stem)
    assert sorted(seen) == sorted(samples())


def test_cosmos_has_videos_and_metas_of_the_same_names(run, tmp_path, pool):
    folder = run.export(tmp_path / "out", "dataset", layout="cosmos")
    for stem, where in samples().items():
        check_frames(folder / "videos" / f"{stem}.mp4", stem, pool)
        assert (folder / "metas" / f"{stem}.txt").read_text() == line_of(*where) + "\n"


def test_events_have_times_and_sentences_of_each_film_and_no_clips(run, tmp_path):
    folder = run.export(tmp_path / "out", "dataset", layout="events")
    films = json.loads((folder / "events.json").read_text())
    assert {name: len(film["sentences"]) for name, film in films.items()} == {
        "one": 3, "two": 2, "three_v2": 1
    }  # fmt: skip
    one = films["one"]
    assert one["duration"] == pytest.approx(3.2)
    assert one["timestamps"][1] == pytest.approx([32 / 30, 64 / 30])
    assert one["sentences"][1] == line_of("one", 1)
    assert not list(folder.rglob("*.mp4"))


def test_coco_has_an_image_and_a_caption_for_each_clip(run, tmp_path, pool):
    folder = run.export(tmp_path / "out", "dataset", layout="coco")
    content = json.loads((folder / "captions.json").read_text())
    files = {image["id"]: image["file_name"] for image in content["images"]}
    for each in content["annotations"]:
        path = folder / files.pop(each["image_id"])
        check_frames(path, path.stem, pool)
        assert each["caption"] == text_of(*samples()[path.stem])
    assert not files


def texts(folder: Path) -> dict[str, str]:
    return {path.stem: path.read_text().strip() for path in folder.rglob("*.txt")}


def test_an_edit_comes_before_stage_two_and_that_before_stage_one(own, tmp_path):
    own.edit("one", 0, "Edited.", stage=1)
    folder = own.export(tmp_path / "a", "dataset", layout="sidecar")
    assert texts(folder)["one-0000"] == "Edited."
    assert texts(folder)["one-0001"] == line_of("one", 1)
    folder = own.export(tmp_path / "b", "dataset", layout="sidecar", stage=1)
    assert texts(folder)["one-0001"] == line_of("one", 1).removesuffix(" More of it.")
    own.rate("one", 1, 5, stage=1)
    own.rate("one", 1, 2, stage=2)
    folder = own.export(tmp_path / "c", "dataset", layout="sidecar", prefer_human=True)
    assert texts(folder)["one-0001"] == line_of("one", 1).removesuffix(" More of it.")


def test_filters_choose_by_rating_tag_check_and_length(own, tmp_path):
    own.rate("one", 0, 5)
    own.rate("one", 1, 2)
    own.tag("two", 0, "good", "sea")
    own.tag("two", 1, "good", "bad")
    own.edit("three.v2", 0, "No, no, no, no, no, no, no, no, no, no, no, no, no, no.")

    def kept(name: str, **options: object) -> set[str]:
        folder = own.export(tmp_path / name, "dataset", layout="events", **options)
        films = json.loads((folder / "events.json").read_text())
        return {
            f"{film} {stamp[0]:.2f}" for film, facts in films.items() for stamp in facts["timestamps"]
        }

    assert kept("rating", min_rating=3) == {"one 0.00"}
    assert kept("tag", tags="good", without_tags=["bad"]) == {"two 0.00"}
    assert "three_v2 0.00" not in kept("checks", without_faults="repeats")
    assert kept("long", min_words=14) == {"three_v2 0.00"}
    assert "three_v2 0.00" not in kept("short", max_words=13)
    # Captions of a film differ by their time alone.
    assert len(kept("unlike", unlike=0.8)) == 2
    card = (tmp_path / "unlike" / "card.md").read_text()
    assert "4 nearly the same as another caption" in card
    with pytest.raises(ExportError, match="no caption is left for the data set: 6 not rated 3"):
        own.rate("one", 0, None)
        kept("none", min_rating=3)


def test_texts_get_a_trigger_a_prefix_a_suffix_and_a_template(run, tmp_path):
    folder = run.export(
        tmp_path / "out", "dataset", layout="sidecar", trigger="ohwx", prefix="<", suffix=">",
        template="{video} {window} {start}: {caption} {{x}}",
    )  # fmt: skip
    assert texts(folder)["one-0001"] == f"ohwx, <one 1 1.07: {line_of('one', 1)} {{x}}>"


def test_a_template_takes_properties_of_captions_with_a_schema(films, tmp_path):
    schema = {"type": "object", "properties": {"place": {"type": "string"}, "who": {"type": "array"}}}
    answers = ['{"place": "a {caption} quay", "who": ["a boat", "a gull"]}', '{"who": []}', "not JSON"]
    backend = FakeBackend(lambda prompt, start, stage: answers[int(float(start) + 0.5)])
    recipe = ck.Recipe(window_size=SIZE, schema=schema)
    with_schema = ck.Session(
        films / "one.mp4", store=tmp_path / "runs.sqlite", backend=backend, recipe=recipe
    )
    run = with_schema.caption("Say it.")
    folder = run.export(
        tmp_path / "out", "dataset", template="{json.who} at {json.place}", layout="sidecar"
    )
    assert texts(folder) == {"one-0000": "a boat, a gull at a {caption} quay"}
    card = (folder / "card.md").read_text()
    assert "1 without json.place for the template" in card
    assert "1 without a JSON object for the template" in card
    with_schema.close()


def test_no_film_is_in_both_parts_and_the_seed_decides(run, tmp_path):
    def validation(name: str, **options: object) -> set[str]:
        folder = run.export(tmp_path / name, "dataset", layout="events", **options)
        parts = [set(json.loads((folder / f"{n}.json").read_text())) for n in ("train", "validation")]
        assert not parts[0] & parts[1]
        assert parts[0] | parts[1] == {"one", "two", "three_v2"}
        return parts[1]

    chosen = [validation(f"a{seed}", validation=0.3, seed=seed) for seed in range(6)]
    assert len({*map(frozenset, chosen)}) > 1
    assert validation("again", validation=0.3, seed=3) == chosen[3]
    assert len(validation("more", validation=0.6)) == 2


def test_one_film_cannot_be_split(run, tmp_path):
    table = run.captions
    table = table[table["video"] == "one"]
    with pytest.raises(ExportError, match=r"one film, one, and no film may be in both parts"):
        ck.export_dataset(table, tmp_path / "out", validation=0.2)
    assert not (tmp_path / "out").exists()


def test_the_card_tells_what_the_set_is_made_of(own, tmp_path):
    own.edit("one", 0, "Edited.")
    folder = own.export(tmp_path / "out", "dataset", layout="sidecar", validation=0.3, crf=20)
    card = (folder / "card.md").read_text()
    for part in (
        "Licence: TO FILL IN", "6 windows of 3 films", "6 captions by demo", '"prompt": "Say it."',
        "1 caption edited by a person", "crf 20", "- validation: 0.3", "Findings of the checks",
    ):  # fmt: skip
        assert part in card, part
    assert "three_v2-0000" in next(line for line in card.splitlines() if line.startswith("- Copied: "))


def test_rows_of_a_file_are_enough_and_another_film_is_refused(run, tmp_path, films, pool, caplog):
    written = run.export(tmp_path / "captions.parquet")
    folder = ck.export_dataset(ck.load_captions(written), tmp_path / "out", "sidecar")
    for path in folder.glob("*.mp4"):
        check_frames(path, path.stem, pool)
    moved = tmp_path / "moved"
    shutil.copytree(films, moved)
    barcodes.write(moved / "one.mp4", 96, options={"g": "10"})
    (moved / "two.mp4").unlink()
    table = ck.load_captions(written)
    table["path"] = [path.replace(str(films), str(moved)) for path in table["path"]]
    folder = ck.export_dataset(table, tmp_path / "other", "sidecar")
    assert set(texts(folder)) == {"three_v2-0000"}
    assert "5 of 6 windows are left out" in caplog.text
    card = (folder / "card.md").read_text()
    assert "is not the film that was captioned" in card
    assert "no such file" in card


def test_a_clip_that_cannot_be_cut_costs_no_other(run, tmp_path, monkeypatch, caplog):
    cut = DecodePool.excerpt

    def broken(self, source, first, *rest):
        if first == 32:
            raise ck.VideoError(f"{source}: some frames cannot be decoded")
        return cut(self, source, first, *rest)

    monkeypatch.setattr(DecodePool, "excerpt", broken)
    folder = run.export(tmp_path / "out", "dataset", layout="videofolder")
    rows = (folder / "metadata.jsonl").read_text().splitlines()
    assert len(rows) == len(list(folder.glob("*.mp4"))) == 4
    assert "2 of 6 windows are left out" in caplog.text
    assert "some frames cannot be decoded" in (folder / "card.md").read_text()
    monkeypatch.setattr(DecodePool, "excerpt", cut)
    run.export(folder, "dataset", layout="videofolder", overwrite=True)
    assert len((folder / "metadata.jsonl").read_text().splitlines()) == 6


def counted(monkeypatch) -> list[int]:
    """Count the clips that are cut, by their first frames."""
    cut, firsts = DecodePool.excerpt, []

    def counting(self, source, first, *rest):
        firsts.append(first)
        return cut(self, source, first, *rest)

    monkeypatch.setattr(DecodePool, "excerpt", counting)
    return firsts


def test_a_finished_set_is_kept_and_its_clips_are_not_cut_again(own, tmp_path, monkeypatch):
    folder = own.export(tmp_path / "out", "dataset", layout="sidecar")
    (folder / "own.txt").write_text("mine")
    with pytest.raises(ExportError, match="is there already; give overwrite=True"):
        own.export(folder, "dataset", layout="sidecar")
    firsts = counted(monkeypatch)
    own.edit("one", 0, "Edited.")
    own.rate("two", 0, 1)
    own.rate("two", 1, 1)
    # Damage one clip: its hash tells.
    with (folder / "one-0002.mp4").open("ab") as file:
        file.write(b"x")
    own.edit("three.v2", 0, "The word boat is left out.")
    own.export(folder, "dataset", layout="sidecar", overwrite=True)
    assert firsts == [64]
    assert texts(folder)["one-0000"] == "Edited."
    # A clip that is no longer chosen goes; a person's own file stays.
    own.export(folder, "dataset", layout="sidecar", overwrite=True, max_words=5)
    assert set(texts(folder)) == {"one-0000", "own"}
    assert {path.stem for path in folder.glob("*.mp4")} == {"one-0000"}


def test_an_export_that_was_stopped_resumes(run, tmp_path, monkeypatch):
    cut = DecodePool.excerpt

    def full(self, source, first, *rest):
        if first == 64:
            raise OSError(28, "No space left on device")
        return cut(self, source, first, *rest)

    monkeypatch.setattr(DecodePool, "excerpt", full)
    with pytest.raises(
        ExportError, match=r"No space left on device; \d+ clips are complete, export ag"
    ):
        run.export(tmp_path / "out", "dataset", layout="sidecar")
    assert not list((tmp_path / "out").rglob(".captionkit-part-*"))
    assert not (tmp_path / "out" / "card.md").exists()
    kept = {path.name for path in (tmp_path / "out").glob("*.mp4")}
    # A kill leaves half a clip and half a line.
    (tmp_path / "out" / ".captionkit-part-x.mp4").write_bytes(b"half")
    with (tmp_path / "out" / ".captionkit-dataset.jsonl").open("ab") as file:
        file.write(b'{"file": "one-00')
    monkeypatch.setattr(DecodePool, "excerpt", cut)
    firsts = counted(monkeypatch)
    folder = run.export(tmp_path / "out", "dataset", layout="sidecar")
    assert set(texts(folder)) == set(samples())
    assert len(firsts) == len(samples()) - len(kept)
    assert not list(folder.rglob(".captionkit-part-*"))


@pytest.mark.skipif(os.geteuid() != 0 or not shutil.which("mount"), reason="needs a mount of its own")
def test_a_disk_that_fills_is_named_and_keeps_complete_clips_only(run, tmp_path):
    disk = tmp_path / "disk"
    disk.mkdir()
    if subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=28k", "tmpfs", disk], check=False
    ).returncode:
        pytest.skip("cannot mount here")
    try:
        with pytest.raises(ExportError, match=r"(?i)no space left on device.* export again"):
            run.export(disk / "out", "dataset", layout="sidecar", copy=False)
        with DecodePool(workers=1) as own:
            for path in (disk / "out").glob("*.mp4"):
                check_frames(path, path.stem, own)
        assert not list(disk.rglob(".captionkit-part-*"))
    finally:
        subprocess.run(["umount", disk], check=True)


def test_a_stop_keeps_the_clips_under_way_and_the_next_export_resumes(run, tmp_path, monkeypatch):
    cut, reached, go_on = DecodePool.excerpt, threading.Event(), threading.Event()

    def waiting(self, *arguments):
        reached.set()
        go_on.wait(60)
        return cut(self, *arguments)

    monkeypatch.setattr(DecodePool, "excerpt", waiting)
    made = DatasetExport(run.captions, tmp_path / "out", DatasetOptions(), {})
    assert reached.wait(60)
    stopping = threading.Thread(target=made.stop)
    stopping.start()
    assert made._stopped.wait(60)
    go_on.set()
    stopping.join(60)
    with pytest.raises(ExportError, match=r"was stopped; \d+ clips are complete, export again"):
        made.wait()
    kept = {path.stem for path in (tmp_path / "out").glob("*.mp4")}
    assert 0 < len(kept) < len(samples())
    monkeypatch.setattr(DecodePool, "excerpt", cut)
    firsts = counted(monkeypatch)
    run.export(tmp_path / "out", "dataset")
    assert len(firsts) == len(samples()) - len(kept)


def test_clips_of_a_film_and_films_in_memory_are_cut_as_windows_were(films, tmp_path, pool):
    one = str(films / "one.mp4")
    spans = [ck.Clip(one, span=(1.0, 2.0)), ck.Clip(one, span=(2.0, 3.2))]
    memory = ck.Clip("mem", buffer=(films / "two.mp4").read_bytes())
    tasks = [
        ck.VideoTask(ck.Video(one, clips=spans)),
        ck.VideoTask(ck.Video("in memory", clips=[memory])),
    ]
    recipe = ck.Recipe(window_size=SIZE, remainder_threshold=SIZE)
    store = tmp_path / "runs.sqlite"
    session = ck.Session(tasks, store=store, backend=FakeBackend(words), recipe=recipe)
    run = session.caption("Say it.")
    folder = run.export(tmp_path / "a", "dataset")
    read = {path.stem: barcodes.numbers(path, pool) for path in folder.glob("*.mp4")}
    assert read == {
        "one-0000": list(range(30, 60)), "one-0001": list(range(60, 96)),
        "in_memory-0000": list(range(32)), "in_memory-0001": list(range(32, 64)),
    }  # fmt: skip
    session.close()
    table = ck.open_run(run.id, store).captions
    folder = ck.export_dataset(table, tmp_path / "b", "sidecar")
    assert {path.stem for path in folder.glob("*.mp4")} == {"one-0000", "one-0001"}
    assert barcodes.numbers(folder / "one-0001.mp4", pool) == list(range(60, 96))
    assert "in_memory-0000: no such file: mem" in (folder / "card.md").read_text()


def test_two_processes_do_not_write_one_folder(run, tmp_path):
    folder = run.export(tmp_path / "out", "dataset", layout="events")
    from captionkit.export.dataset.folder import DatasetFolder

    held = DatasetFolder(folder, overwrite=True)
    with pytest.raises(ExportError, match="another process is writing"):
        run.export(folder, "dataset", layout="events", overwrite=True)
    held.close()
    foreign = tmp_path / "foreign"
    foreign.mkdir()
    (foreign / "a.txt").write_text("mine")
    with pytest.raises(ExportError, match="is there already"):
        run.export(foreign, "dataset", layout="events")
    assert [path.name for path in foreign.iterdir()] == ["a.txt"]
    with pytest.raises(ExportError, match="is a file; give a folder"):
        run.export(foreign / "a.txt", "dataset")


def test_films_of_one_name_get_names_of_their_own(run, tmp_path):
    table = run.captions
    table["video"] = table["video"].replace({"two": "ONE", "three.v2": "one"})
    folder = ck.export_dataset(table, tmp_path / "out", "sidecar")
    stems = [path.stem for path in folder.glob("*.mp4")]
    assert len(stems) == len({stem.casefold() for stem in stems}) == 6


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"layout": "sidecars"}, r"layout is 'sidecars' \(did you mean 'sidecar'\?\)"),
        ({"crf": 60}, "crf is 60; give 0 to 51"),
        ({"size": (8, 8)}, "at least 16 pixels"),
        ({"validation": 1.0}, "validation is 1.0; give 0 to 0.9"),
        ({"without_faults": "repeat"}, r"no check is named 'repeat' \(did you mean 'repeats'\?\)"),
        ({"template": "{video}"}, r"places no \{caption\}"),
        ({"template": "{caption} {vidoe}"}, r"\{vidoe\}.*did you mean 'video'"),
    ],
)
def test_options_that_do_not_fit_are_refused_before_anything_is_written(
    run, tmp_path, options, message
):
    with pytest.raises(ExportError, match=message):
        run.export(tmp_path / "out", "dataset", **options)
    assert not (tmp_path / "out").exists()


def test_unknown_options_name_the_nearest(run, tmp_path):
    with pytest.raises(TypeError, match=r"no argument 'layuot' \(did you mean 'layout'\?\)"):
        run.export(tmp_path / "out", "dataset", layuot="sidecar")
    with pytest.raises(TypeError, match=r"'layout' \(only with the format"):
        run.export(tmp_path / "out.csv", layout="sidecar")
    with pytest.raises(TypeError, match=r"no argument 'overwrit' \(did you mean 'overwrite'\?\)"):
        run.export(tmp_path / "out.csv", overwrit=True)


def test_the_command_writes_the_same_set_from_a_run_and_from_a_file(run, tmp_path, capsys):
    wanted = texts(run.export(tmp_path / "code", "dataset", size=(96, 96), trigger="ohwx"))
    arguments = ["--format", "dataset", "--size", "96x96", "--trigger", "ohwx"]
    store = str(run.store.path)
    assert (
        main(["export", str(run.id), "--store", store, "--out", str(tmp_path / "a"), *arguments]) == 0
    )
    assert texts(tmp_path / "a") == wanted
    file = str(run.export(tmp_path / "captions.jsonl"))
    assert main(["export", file, "--out", str(tmp_path / "b"), *arguments]) == 0
    assert texts(tmp_path / "b") == wanted
    assert main(["export", str(run.id), "--store", store, "--format", "csv", "--crf", "3"]) == 2
    assert "--crf is an option of data sets" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main(["export", str(run.id), "--format", "dataset", "--size", "big"])
    assert "is not a size" in capsys.readouterr().err


def test_a_set_is_uploaded_whole_to_a_private_data_set(run, tmp_path):
    hub = Hub()
    captions = run.export(tmp_path / "captions.jsonl")
    arguments = ["push", captions, tmp_path / "out", REPOSITORY]
    told = {**environment(hub.address, tmp_path), "HF_TOKEN": "hf_test"}
    programs.run(*arguments, env=told)
    assert hub.created["type"] == "dataset"
    # Earlier clients send the first, later ones the second.
    assert hub.created.get("private") or hub.created.get("visibility") == "private"
    folder = tmp_path / "out"
    files = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
    assert set(hub.uploaded) == {name for name in files if not name.startswith(".")} | {"README.md"}
    for name, content in hub.uploaded.items():
        assert content == (folder / name.replace("README.md", "card.md")).read_bytes()
    hub.server.shutdown()
    hub.server.server_close()
    process = programs.start(*arguments, env=told, stderr=subprocess.PIPE)
    assert "complete in" in process.communicate()[1]
    assert process.returncode == 1
