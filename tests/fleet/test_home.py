"""Runs in an object store: what is complete arrives whole, what is not stays away, and checkpoints go along."""

from __future__ import annotations

import shutil

import pytest

from stspbr.artifacts import ArtifactStore
from stspbr.errors import StspbrError
from stspbr.fleet.home import SharedHome, StoreHome, open_home

pytest.importorskip("fsspec")


@pytest.fixture
def homes(tmp_path):
    """Two nodes and the store that both know."""
    address = f"file://{tmp_path / 'store'}"
    return [StoreHome(address, str(tmp_path / node)) for node in ("first", "second")]


def version(run, stage, text="payload", parents=()):
    with ArtifactStore(run).create(stage, settings={}, parents=parents, seed=0) as draft:
        (draft.path / "maps").mkdir()
        (draft.path / "maps" / "a.txt").write_text(text)
    return draft.artifact


def test_a_run_goes_from_node_to_node(homes, tmp_path):
    first, second = homes
    capture = version(first.run("jar"), "capture")
    version(first.run("jar"), "coarse", parents=[capture])
    (first.run("jar") / "logs" / "coarse" / "previews").mkdir(parents=True)
    (first.run("jar") / "logs" / "coarse" / "previews" / "x_000010.png").write_bytes(b"png")
    first.deliver("jar", last=False)
    assert first.run("jar").is_dir()

    second.fetch("jar")
    store = ArtifactStore(second.run("jar"))
    assert store.resolve("coarse").parents["capture"]["content_hash"] == capture.content_hash
    assert store.parent_of(store.resolve("coarse"), "capture").file("maps/a.txt").read_text() == "payload"
    manifests = second.manifests("jar")
    assert ArtifactStore(manifests).find("capture", {}, [], 0, payload=False) is not None
    assert not (manifests / "capture" / "v0001" / "maps").exists()
    assert (second.pictures("jar") / "logs/coarse/previews/x_000010.png").read_bytes() == b"png"

    version(second.run("jar"), "specialize")
    second.deliver("jar", last=True)
    assert not second.run("jar").exists(), "the node keeps nothing"
    first.fetch("jar")
    assert ArtifactStore(first.run("jar")).resolve("specialize").version == "v0001"


def test_a_version_without_its_manifest_is_none(homes, tmp_path):
    first, second = homes
    version(first.run("jar"), "capture")
    first.deliver("jar", last=False)
    (tmp_path / "store" / "jar" / "capture" / "v0001" / "manifest.json").unlink()
    second.fetch("jar")
    assert not (second.run("jar") / "capture").exists()
    first.deliver("jar", last=False)  # as the next node does that has it
    second.fetch("jar")
    assert ArtifactStore(second.run("jar")).resolve("capture")


def test_checkpoints_are_kept_and_forgotten(homes, tmp_path):
    first, second = homes
    kept = first.run("jar") / ".checkpoints" / "coarse" / "key.pt"
    kept.parent.mkdir(parents=True)
    for text in ("ten steps", "twenty steps"):
        kept.write_text(text)
        first.keep_checkpoints("jar")
    second.fetch("jar")
    there = second.run("jar") / ".checkpoints" / "coarse" / "key.pt"
    assert there.read_text() == "twenty steps"
    there.unlink()  # the stage has ended
    second.deliver("jar", last=False)
    shutil.rmtree(first.run("jar"))
    first.fetch("jar")
    assert not kept.exists()


def test_notes_and_files_of_both_kinds(homes, tmp_path):
    for home in (homes[0], SharedHome(str(tmp_path / "shared"))):
        assert home.read_note("jar") == {}
        home.note("jar", {"step": 3})
        assert home.read_note("jar") == {"step": 3}
        assert home.write("fleet.csv", "a,b\n").endswith("fleet.csv")
    assert (tmp_path / "store" / "fleet.csv").read_text() == (tmp_path / "shared" / "fleet.csv").read_text() == "a,b\n"


def test_no_such_store():
    with pytest.raises(StspbrError, match="nosuch://bucket"):
        open_home("nosuch://bucket")
