"""Coarse with cells that are halved around the surface: resumed, threaded, and stored like any other result."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
from safetensors.numpy import load_file

from stspbr.errors import StspbrError
from stspbr.geometry.dmtet import DMTet
from stspbr.geometry.flexicubes import FlexiCubes
from stspbr.geometry.shapes import SHAPES
from stspbr.optimize.checkpoint import Checkpoints
from stspbr.settings import CoarseSettings, settings_for
from stspbr.stages.coarse import run_coarse
from stspbr.stages.session import Session

SMALL = [
    *(f"fields.{name}.{size}" for name in ("appearance", "reflectance") for size in ("levels=2", "log2_table_size=8")),
    "geometry.resolution=14",
    "optimize.iterations=24",
    "optimize.batch=2",
    "optimize.checkpoint_every=4",
    "optimize.preview_every=1000",
    "optimize.rates.geometry.rate=0.02",  # far enough for the band to move
]
BAND = [*SMALL, "geometry.levels=2", "geometry.subdivide_at=[0.25, 0.5]", "geometry.band=1", "geometry.band_refresh=3"]


def coarse(run, overrides, **options):
    session = Session.open(run, device="cpu", quiet=True, **options)
    return run_coarse(session, settings_for(CoarseSettings, overrides))


@pytest.fixture(scope="module", params=[DMTet, FlexiCubes])
def kind(request):
    """A class of shapes, and the settings that choose it."""
    name = next(name for name, shape in SHAPES.items() if shape is request.param)
    return request.param, [*BAND, f"geometry.kind={name}"]


@pytest.fixture(scope="module")
def whole(kind, tiny_run, tmp_path_factory):
    """The result without an interruption, on one thread."""
    run = tmp_path_factory.mktemp("whole")
    shutil.copytree(tiny_run / "capture", run / "capture")
    return coarse(run, kind[1], threads=1)


def test_the_cells_are_finer_and_the_surface_closed(whole, kind):
    state = load_file(whole.file("geometry.safetensors"))
    resolution = 14 / kind[0].per_cell
    assert state["shape.counts"].max() == 4 * round(resolution)
    assert len(state["shape.cells"]) < 0.8 * state["shape.counts"].prod()
    mesh = json.loads(whole.file("metrics.json").read_text(encoding="utf-8"))["mesh"]
    assert mesh["watertight"] and mesh["genus"] is not None


@pytest.mark.parametrize("saved", [pytest.param(1, marks=pytest.mark.slow), 2, 4])
def test_resumed_before_and_after_a_halving_to_the_same_bits(whole, kind, tiny_run, tmp_path, monkeypatch, saved):
    """Step 4 is on the first grid, step 8 after the first halving (6), step 16 after the second (12)."""
    shutil.copytree(tiny_run / "capture", tmp_path / "run" / "capture")
    save, count = Checkpoints.save, 0

    def interrupted(self, state):
        nonlocal count
        save(self, state)
        count += 1
        if count == saved:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Checkpoints, "save", interrupted)
        with pytest.raises(KeyboardInterrupt):
            coarse(tmp_path / "run", kind[1], threads=1)
    again = coarse(tmp_path / "run", kind[1], threads=1, resume=True)
    assert again.content_hash == whole.content_hash


def test_without_levels_the_grid_stays_whole(tiny_run, tmp_path):
    """The times have no effect, and nothing of a band is stored."""
    shutil.copytree(tiny_run / "capture", tmp_path / "capture")
    states = []
    for changes in (["geometry.subdivide_at=[]"], ["geometry.subdivide_at=[0.1]", "geometry.band_refresh=1"]):
        found = coarse(tmp_path, [*SMALL, "geometry.levels=0", "optimize.iterations=6", *changes], threads=1)
        states.append(load_file(found.file("geometry.safetensors")))
    assert states[0].keys() == {"shape.sdf", "shape.deform", "shape.box_min", "shape.box_max"}
    for name, values in states[0].items():
        np.testing.assert_array_equal(values, states[1][name])


def test_a_whole_grid_of_cubes(tiny_run, tmp_path):
    """Weights follow the surface without a band, too; the mesh that is written has two triangles per quad."""
    shutil.copytree(tiny_run / "capture", tmp_path / "capture")
    found = coarse(tmp_path, [*SMALL, "geometry.kind=flexicubes", "geometry.band_refresh=2"], threads=1)
    state = load_file(found.file("geometry.safetensors"))
    assert len(state["shape.weights"]) == len(state["shape.weighted"]) > 0 and np.abs(state["shape.weights"]).max() > 0
    mesh = load_file(found.file("mesh.safetensors"))
    faces = mesh["faces"]
    np.testing.assert_array_equal(faces[0::2][:, [0, 2]], faces[1::2][:, [0, 1]])  # halves of quads
    report = json.loads(found.file("metrics.json").read_text(encoding="utf-8"))["mesh"]
    assert report["watertight"] and report["non_manifold_vertices"] == 0


@pytest.mark.parametrize("wrong", ["[0.5]", "[0.6, 0.3]"])
def test_every_level_has_its_time_in_order(wrong):
    with pytest.raises(StspbrError, match="subdivide_at"):
        settings_for(CoarseSettings, ["geometry.levels=2", f"geometry.subdivide_at={wrong}"])


def test_a_start_carved_by_stereo_is_the_same_for_one_thread_and_two(tiny_run, tmp_path):
    found = []
    for threads in (1, 2):
        run = tmp_path / f"{threads}"
        shutil.copytree(tiny_run / "capture", run / "capture")
        short = [*SMALL, "geometry.initial=stereo", "optimize.iterations=1"]
        found.append(coarse(run, short, threads=threads).content_hash)
    assert found[0] == found[1]
