"""What a fleet is made of: files of objects, folders, and every mistake as one line that names file and object."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from stspbr.errors import StspbrError
from stspbr.fleet.objects import read_fleet
from stspbr.settings import FleetSettings


def pictures(folder, count=3):
    folder.mkdir(parents=True)
    for number in range(count):
        Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(folder / f"{number}.jpg")


def test_a_file_of_objects(tmp_path):
    path = tmp_path / "museum.toml"
    path.write_text("""
recipe = "photos-fine"
set = ["coarse.optimize.iterations=10"]
needs = { coarse = { cores = 4, gpus = 0.5 } }
[[objects]]
name = "vase"
photos = "photos/vase"
[[objects]]
name = "jar"
recipe = "demo"
seed = 5
set = ["bake.padding=3"]
""")
    found = read_fleet([path], FleetSettings(recipe="photos-draft", set=["seed=1"], workers=3))
    assert (found.name, found.recipe, found.workers) == ("museum", "photos-draft", 3)
    assert found.set == ["coarse.optimize.iterations=10", "seed=1"], "those of the command line come last"
    assert (found.needs["coarse"].cores, found.needs["coarse"].gpus) == (4, 0.5)
    assert [(item.name, item.photos, item.recipe, item.seed) for item in found.objects] == [
        ("vase", "photos/vase", None, None), ("jar", None, "demo", 5),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[[objects]", "few.toml: not a TOML file"),
        ("objects = 3", "few.toml: objects must be tables"),
        ("name = 'few'", "few.toml has no objects"),
        ("engine = 'spark'\n[[objects]]\nname = 'a'", "few.toml: engine"),
        ("[[objects]]\nname = 'a'\nphoto = 'x'", "few.toml: object a: photo is not a setting; did you mean photos?"),
        ("[[objects]]\nphotos = 'x'", "few.toml: object 1: name is missing"),
        ("[[objects]]\nname = '../a'", "few.toml: object ../a: name"),
        ("[[objects]]\nname = 'a'\n[[objects]]\nname = 'A'", "few.toml: two objects are called A"),
        ("[[objects]]\nname = 'a'\nphotos = 'x'\nmesh = 'y'", "few.toml: object a: photos and mesh"),
        ("[needs.coarse]\ncores = 0\n[[objects]]\nname = 'a'", "few.toml: needs.coarse.cores"),
    ],
)
def test_a_mistake_is_one_line_that_names_it(tmp_path, monkeypatch, text, said):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "few.toml").write_text(text)
    with pytest.raises(StspbrError) as error:
        read_fleet(["few.toml"], FleetSettings())
    assert str(error.value).startswith(said) and "\n" not in str(error.value)


def test_folders_of_photographs_data_sets_runs_and_meshes(tmp_path):
    pictures(tmp_path / "all" / "green vase")
    (tmp_path / "all" / "lego").mkdir()
    (tmp_path / "all" / "lego" / "transforms_train.json").write_text("{}")
    for version in ("v0001", "v0002"):
        (tmp_path / "all" / "done" / "capture" / version).mkdir(parents=True)
        (tmp_path / "all" / "done" / "capture" / version / "transforms.json").write_text("{}")
    (tmp_path / "all" / "models").mkdir()
    for name in ("a.glb", "b.obj", "b.mtl"):
        (tmp_path / "all" / "models" / name).write_bytes(b"")
    pictures(tmp_path / "all" / "two", 2)
    (tmp_path / "all" / ".hidden").mkdir()
    found = read_fleet([tmp_path / "all"], FleetSettings())
    sources = {item.name: item.photos or item.mesh or item.capture for item in found.objects}
    assert found.name == "all" and sources == {
        "green_vase": str(tmp_path / "all" / "green vase"),
        "lego": {"kind": "nerf", "folder": str(tmp_path / "all" / "lego")},
        "done": {"kind": "nerfstudio", "folder": str(tmp_path / "all" / "done" / "capture" / "v0002")},
        "a": str(tmp_path / "all" / "models" / "a.glb"),
        "b": str(tmp_path / "all" / "models" / "b.obj"),
    }
    alone = read_fleet([tmp_path / "all" / "green vase"], FleetSettings())
    assert [item.name for item in alone.objects] == ["green_vase"]


def test_folders_that_hold_nothing(tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(StspbrError, match="empty: neither it nor its folders contain photographs"):
        read_fleet([tmp_path / "empty"], FleetSettings())
    with pytest.raises(StspbrError, match="nowhere is neither a TOML file nor a folder"):
        read_fleet([tmp_path / "nowhere"], FleetSettings())
    (tmp_path / "few.toml").write_text("")
    with pytest.raises(StspbrError, match="one file of objects, or folders, and not both"):
        read_fleet([tmp_path / "empty", tmp_path / "few.toml"], FleetSettings())
