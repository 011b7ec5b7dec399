"""The examples run, and do what they say."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

import stspbr
from stspbr.artifacts import ArtifactStore
from stspbr.formats.gltf.writer import write_glb
from stspbr.formats.images import read_pixels
from stspbr.optimize import losses
from stspbr.procedural.jar import demo_asset

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"


def example(name: str):
    spec = importlib.util.spec_from_file_location(f"example_{name}", EXAMPLES / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_every_example_is_tested_here():
    imported = {"phone_camera", "photo_set", "photo_table"}  # by make_photo_set, with tests of their own
    assert {path.stem for path in EXAMPLES.glob("*.py")} - imported == {
        "compose_scenes", "custom_loss", "fit_texture", "make_photo_set", "make_pile", "plot_artifact",
        "texture_teapot",
    }  # fmt: skip


@pytest.mark.parametrize("name", ["custom_loss", "fit_texture"])
def test_the_process_is_prepared_before_torch_is_imported(name):
    script = (
        "import os, sys\n"
        "class Watch:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name == 'torch': sys.exit(print(os.environ.get('OMP_WAIT_POLICY')))\n"
        "sys.meta_path.insert(0, Watch())\n"
        f"import {name}"
    )
    environment = {key: value for key, value in os.environ.items() if key != "OMP_WAIT_POLICY"}
    paths = os.pathsep.join([str(EXAMPLES), str(Path(stspbr.__file__).parents[1])])
    done = subprocess.run([sys.executable, "-c", script], env=environment | {"PYTHONPATH": paths},
                          capture_output=True, text=True, check=True)  # fmt: skip
    assert done.stdout == "passive\n"


def test_fit_texture_recovers_the_texture():
    module = example("fit_texture")
    assert module.main() < 0.05
    assert module.main(steps=1) > 0.2


def test_custom_loss_drives_a_stage(tmp_path):
    try:
        folder = example("custom_loss").main(tmp_path / "run", steps=3)
    finally:
        losses._losses.pop("cauchy", None)
    artifact = ArtifactStore(tmp_path / "run").resolve("coarse")
    assert artifact.path == folder
    assert artifact.settings["optimize"]["losses"]["appearance"]["cauchy"] == 0.5
    assert artifact.settings["optimize"]["iterations"] == 3


def test_plot_artifact_draws_a_bake(tmp_path):
    pytest.importorskip("matplotlib")
    with ArtifactStore(tmp_path / "run").create("bake", settings={}) as draft:
        write_glb(draft.path / "asset.glb", demo_asset(16, around=12, along=12))
    out = example("plot_artifact").main(tmp_path / "run", tmp_path / "maps.png")
    assert out == tmp_path / "maps.png"
    picture = read_pixels(out)
    assert picture.shape[0] > 200 and picture.shape[1] > 2 * picture.shape[0]
    assert 0.001 < (picture[..., :3].min(axis=2) < 0.5).mean() < 0.5  # axes and bars on white


@pytest.mark.slow
def test_make_photo_set(tmp_path):
    pytest.importorskip("mitsuba")
    module = example("make_photo_set")
    options = module.PhotoSetOptions(views=3, size=(48, 32), samples=1)
    assert module.main(tmp_path, "procedural:demo", "procedural:demo", options).name == "truth.json"
    assert len(list((tmp_path / "images").iterdir())) == len(list((tmp_path / "masks").iterdir())) == 3


def test_a_teapot_gets_its_maps_from_a_text(tmp_path):
    found = example("texture_teapot").main(
        tmp_path, prior="bank", size=32, steps=[3], views=2, survey=0, turntable=1, lights=["procedural:studio"]
    )
    assert {name: part["prompt"] for name, part in found.items()} == {"body": "polished brass", "handle": "black"}


def test_compose_scenes_asks_for_a_run(tmp_path):
    found = subprocess.run(
        [sys.executable, str(EXAMPLES / "compose_scenes.py"), str(tmp_path)], capture_output=True, text=True,
        env={**os.environ, "PYTHONPATH": str(EXAMPLES.parent)},
    )  # fmt: skip
    assert "there is no trained model here: run `stspbr scenes train` first" in found.stderr
