"""Artifacts: atomic, hashed over what they are, refused when they are not what they were."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
import threading
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import pytest

from stspbr.artifacts import SCHEMA, ArtifactStore, content_hash
from stspbr.errors import StspbrError


def write_one(store, stage="coarse", text="weights", settings=None, parents=(), **facts):
    facts = {"device": "cpu", "threads": 2, "seed": 7} | facts
    with store.create(stage, settings=settings or {"steps": 10}, parents=parents, **facts) as draft:
        (draft.path / "sub").mkdir()
        (draft.path / "sub" / "a.bin").write_text(text)
        (draft.path / "b.txt").write_text("b")
    return draft.artifact


def edit_manifest(artifact, change):
    place = artifact.path / "manifest.json"
    manifest = json.loads(place.read_text())
    change(manifest)
    place.write_text(json.dumps(manifest))


def test_what_is_written_is_read_again(tmp_path):
    store = ArtifactStore(tmp_path)
    parent = write_one(store, "capture", settings={"views": 3})
    settings = {"rate": 0.1, "box": (1, 2), "mesh": Path("a/b.glb"), "name": "übung"}
    made = write_one(store, "coarse", settings=settings, parents=[parent])
    read = store.resolve("coarse")
    assert made.path == read.path == tmp_path / "coarse" / "v0001"
    assert read.settings == {"rate": 0.1, "box": [1, 2], "mesh": "a/b.glb", "name": "übung"}
    assert read.parents == {"capture": {"version": "v0001", "content_hash": parent.content_hash}}
    assert sorted(read.files) == ["b.txt", "sub/a.bin"]
    assert read.file("sub/a.bin").read_text() == "weights"
    assert (read.manifest["device"], read.manifest["threads"], read.manifest["seed"]) == ("cpu", 2, 7)
    assert read.manifest["files"]["b.txt"]["size"] == 1
    # SHA-256 of "b", from the standard's own example table of one-byte messages (sha256sum agrees)
    assert read.manifest["files"]["b.txt"]["sha256"].startswith("3e23e8160039594a33894f6564e1b134")
    assert {"wall_seconds", "host", "started"} <= json.loads((read.path / "run.json").read_text()).keys()
    with pytest.raises(StspbrError, match="no file 'c.txt'"):
        read.file("c.txt")


def test_newest_version_or_the_one_asked_for(tmp_path):
    store = ArtifactStore(tmp_path)
    for text in "123":
        write_one(store, text=text)
    assert store.resolve("coarse").version == "v0003"
    for version in ("v0002", "2", 2, "0002"):
        assert store.resolve("coarse", version).file("sub/a.bin").read_text() == "2"
    with pytest.raises(StspbrError, match=r"no version v0009 \(it has: v0001, v0002, v0003\)"):
        store.resolve("coarse", 9)
    with pytest.raises(StspbrError, match="not a version: write it as v0003"):
        store.resolve("coarse", "newest")
    with pytest.raises(StspbrError, match="run `stspbr bake` first"):
        store.resolve("bake")


def test_the_same_work_gives_the_same_hash_elsewhere(tmp_path):
    first = write_one(ArtifactStore(tmp_path / "a"))
    again = write_one(ArtifactStore(tmp_path / "b"), device="cuda:1", threads=16)
    assert first.content_hash == again.content_hash


def test_other_work_gives_another_hash(tmp_path):
    store = ArtifactStore(tmp_path)
    parent, other = write_one(store, "capture"), write_one(store, "capture", text="other")
    made = [
        write_one(store),
        write_one(store, text="w"),
        write_one(store, settings={"steps": 11}),
        write_one(store, seed=8),
        write_one(store, parents=[parent]),
        write_one(store, parents=[other]),
        write_one(store, "bake"),
    ]
    assert len({artifact.content_hash for artifact in made}) == len(made)
    # A parent's version is where it lay; its hash is what it was.
    manifest = json.loads((made[4].path / "manifest.json").read_text())
    manifest["parents"]["capture"]["version"] = "v0099"
    assert content_hash(manifest) == made[4].content_hash


def test_an_exception_leaves_nothing(tmp_path):
    store = ArtifactStore(tmp_path)
    for error in (RuntimeError, KeyboardInterrupt):
        with pytest.raises(error), store.create("coarse", settings={}) as draft:
            (draft.path / "half.bin").write_text("half")
            assert draft.path.parent == tmp_path / "coarse" and draft.path.name.startswith(".v0001.partial-")
            raise error
    assert list((tmp_path / "coarse").iterdir()) == []


def test_a_partial_version_is_not_resolved_but_listed(tmp_path):
    store = ArtifactStore(tmp_path)
    with store.create("coarse", settings={}) as draft:
        (draft.path / "a").write_text("a")
        with pytest.raises(StspbrError, match="no finished 'coarse'"):
            store.resolve("coarse")
        assert [(row.version, row.state) for row in store.list()] == [("v0001", "unfinished")]
    assert store.resolve("coarse").version == "v0001"


def test_what_a_killed_process_left_is_removed_by_the_next(tmp_path):
    code = (
        "import os, sys; from stspbr.artifacts import ArtifactStore\n"
        "with ArtifactStore(sys.argv[1]).create('coarse', settings={}) as draft:\n"
        "    (draft.path / 'half').write_text('x'); os.kill(os.getpid(), 9)\n"
    )
    subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=False, cwd=Path(__file__).parents[1])
    left = list((tmp_path / "coarse").iterdir())
    assert len(left) == 1 and left[0].name.startswith(".v0001.partial-")
    write_one(ArtifactStore(tmp_path))
    assert [place.name for place in (tmp_path / "coarse").iterdir()] == ["v0001"]


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda a: (a.path / "b.txt").unlink(), r"b\.txt is missing"),
        (lambda a: (a.path / "b.txt").write_text(""), r"b\.txt was truncated"),
        (lambda a: (a.path / "b.txt").write_text("c"), r"b\.txt was edited"),
        (lambda a: (a.path / "b.txt").write_text("bb"), r"b\.txt was edited"),
        (lambda a: (a.path / "manifest.json").unlink(), r"manifest\.json is missing"),
        (lambda a: (a.path / "manifest.json").write_text('{"schema": 1'), r"manifest\.json is truncated"),
        (lambda a: (a.path / "manifest.json").write_text("[]"), "no schema"),
        (lambda a: edit_manifest(a, lambda m: m["settings"].update(steps=99)), r"manifest\.json was edited"),
        (lambda a: edit_manifest(a, lambda m: m.update(seed=1)), r"manifest\.json was edited"),
        (lambda a: edit_manifest(a, lambda m: m["files"].pop("b.txt")), r"manifest\.json was edited"),
        (lambda a: edit_manifest(a, lambda m: m["files"].update({"../x": {}})), r"manifest\.json was edited"),
        (lambda a: edit_manifest(a, lambda m: m.pop("parents")), r"manifest\.json was edited"),
        (lambda a: edit_manifest(a, lambda m: m.update(schema=SCHEMA + 1)), "install a newer stspbr"),
    ],
)
def test_damage_is_refused_with_one_line_that_names_the_file(tmp_path, damage, message):
    store = ArtifactStore(tmp_path)
    artifact = write_one(store)
    damage(artifact)
    with pytest.raises(StspbrError, match=message) as caught:
        store.resolve("coarse")
    assert "\n" not in str(caught.value) and str(artifact.path) in str(caught.value)
    (row,) = store.list()
    assert row.version == "v0001" and row.state == str(caught.value)
    assert store.find("coarse", {"steps": 10}, seed=7) is None


def test_find_knows_work_that_is_done(tmp_path):
    store = ArtifactStore(tmp_path)
    parent, other = write_one(store, "capture"), write_one(store, "capture", text="other")
    made = write_one(store, settings={"box": [1, 2]}, parents=[parent])
    assert store.find("coarse", {"box": (1, 2)}, [parent], seed=7).path == made.path
    assert store.find("coarse", {"box": (1, 2)}, [other], seed=7) is None
    assert store.find("coarse", {"box": (1, 3)}, [parent], seed=7) is None
    assert store.find("coarse", {"box": (1, 2)}, [parent], seed=8) is None
    assert store.find("coarse", {"box": (1, 2)}, [], seed=7) is None


def test_list_tells_size_age_settings_and_parents(tmp_path):
    store = ArtifactStore(tmp_path)
    parent = write_one(store, "capture")
    write_one(store, parents=[parent])
    (tmp_path / "logs").mkdir()
    rows = store.list()
    assert [(row.stage, row.version, row.state) for row in rows] == [
        ("capture", "v0001", "complete"),
        ("coarse", "v0001", "complete"),
    ]
    assert rows[1].parents == {"capture": "v0001"} and rows[1].settings == {"steps": 10}
    assert rows[1].size > len("weights") + 1 and 0 <= rows[1].age < 3600
    assert ArtifactStore(tmp_path / "nowhere").list() == []


def test_bad_names_and_values(tmp_path):
    store = ArtifactStore(tmp_path)
    for stage in ("", "Coarse", "a/b", "..", "a_b", "-a"):
        with pytest.raises(ValueError, match="stage name"), store.create(stage, settings={}):
            pass
    with pytest.raises(StspbrError, match="rate is nan"), store.create("a", settings={"rate": float("nan")}):
        pass
    with pytest.raises(TypeError, match="not plain JSON data"), store.create("a", settings={"x": object()}):
        pass
    for name in ("manifest.json", "run.json"):
        with pytest.raises(ValueError, match="the store uses itself"), store.create("a", settings={}) as draft:
            (draft.path / name).write_text("{}")
    with pytest.raises(ValueError, match="is a link"), store.create("a", settings={}) as draft:
        (draft.path / "link").symlink_to(tmp_path)
    assert not list((tmp_path / "a").iterdir())


def test_no_room_is_one_line(tmp_path, monkeypatch):
    store = ArtifactStore(tmp_path)
    with pytest.raises(StspbrError, match="No space left.*make room"), store.create("coarse", settings={}):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    (tmp_path / "file").write_text("")
    with pytest.raises(StspbrError, match="cannot write"), ArtifactStore(tmp_path / "file").create("a", settings={}):
        pass

    def refuse(*_):
        raise OSError(errno.EDQUOT, "quota")

    monkeypatch.setattr(os, "fsync", refuse)
    with pytest.raises(StspbrError, match="quota"):
        write_one(store)
    assert list((tmp_path / "coarse").iterdir()) == []


def _write_many(folder: str) -> list[str]:
    store = ArtifactStore(folder)
    return [write_one(store, text=f"{os.getpid()} {number}").version for number in range(8)]


def test_processes_writing_at_once_do_not_collide(tmp_path):
    with ProcessPoolExecutor(3, mp_context=get_context("fork")) as pool:
        versions = [v for made in pool.map(_write_many, [str(tmp_path)] * 3) for v in made]
    assert sorted(versions) == [f"v{number:04d}" for number in range(1, 25)]
    store = ArtifactStore(tmp_path)
    texts = {store.resolve("coarse", version).file("sub/a.bin").read_text() for version in versions}
    assert len(texts) == 24
    assert all(row.state == "complete" for row in store.list())


def test_threads_writing_at_once_do_not_collide(tmp_path):
    barrier = threading.Barrier(2)
    versions = []

    def work():
        with ArtifactStore(tmp_path).create("coarse", settings={}) as draft:
            barrier.wait(timeout=20)
            (draft.path / "a").write_text("a")
        versions.append(draft.artifact.version)

    workers = [threading.Thread(target=work) for _ in range(2)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert sorted(versions) == ["v0001", "v0002"]
