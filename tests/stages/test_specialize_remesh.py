"""Specialize on a surface that is remeshed first: even triangles in a budget, the same bits if it is interrupted."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest

from stspbr.geometry.intersections import intersecting_pairs
from stspbr.geometry.topology import mesh_report
from stspbr.settings import CoarseSettings, SpecializeSettings, settings_for
from stspbr.stages.coarse import run_coarse
from stspbr.stages.session import Session
from stspbr.stages.specialize import run_specialize
from stspbr.stages.state import load_mesh

GRIDS = [
    f"fields.{name}.{size}" for name in ("appearance", "reflectance") for size in ("levels=2", "log2_table_size=8")
]
STEPS = ["optimize.iterations=10", "optimize.batch=2", "optimize.checkpoint_every=4", "optimize.preview_every=1000"]
COARSE = settings_for(CoarseSettings, [*GRIDS, *STEPS, "geometry.resolution=16"])
SURVEYED = [*STEPS, "survey.steps=10"]
REMESHED = settings_for(SpecializeSettings, [*SURVEYED, "remesh=adaptive", "target_faces=300"])


def open_session(run, **options) -> Session:
    return Session.open(run, device="cpu", quiet=True, **options)


@pytest.fixture(scope="module")
def learned(tiny_run, tmp_path_factory):
    """A run whose coarse stage is done, and that stage."""
    run = tmp_path_factory.mktemp("learned") / "run"
    shutil.copytree(tiny_run, run)
    return run, run_coarse(open_session(run, threads=1), COARSE)


@pytest.fixture(scope="module")
def remeshed(learned):
    return run_specialize(open_session(learned[0], threads=1), REMESHED)


def worst_quality(mesh) -> float:
    """The least of 4√3 · area / sum of squared edges: 1 for equal sides, 0 for a sliver."""
    corners = mesh.positions[mesh.faces].astype(np.float64)
    sides = np.roll(corners, -1, axis=1) - corners
    area = 0.5 * np.linalg.norm(np.cross(sides[:, 0], sides[:, 1]), axis=1)
    return float((4 * np.sqrt(3) * area / np.square(sides).sum(axis=(1, 2))).min())


def test_the_triangles_are_even_and_within_the_budget(learned, remeshed):
    before, after = load_mesh(learned[1].file("mesh.safetensors")), load_mesh(remeshed.file("mesh.safetensors"))
    report = mesh_report(after.positions, after.faces)
    assert report["watertight"] and len(after.faces) <= 300 < len(before.faces)
    assert worst_quality(after) > 5 * worst_quality(before)
    assert report["volume"] == pytest.approx(mesh_report(before.positions, before.faces)["volume"], rel=0.05)
    metrics = json.loads(remeshed.file("metrics.json").read_text())
    assert metrics["cleanup"]["remesh"]["faces"] == len(after.faces)
    assert metrics["cleanup"]["before"]["faces"] == len(before.faces)


def test_resumed_to_the_same_bits(learned, remeshed, tmp_path, interrupted):
    run = tmp_path / "run"
    for name in ("capture", "coarse"):
        shutil.copytree(learned[0] / name, run / name)
    with interrupted(7):
        run_specialize(open_session(run, threads=1), REMESHED)
    assert run_specialize(open_session(run, threads=1, resume=True), REMESHED).content_hash == remeshed.content_hash


def test_off_keeps_the_learned_triangles(learned):
    settings = settings_for(SpecializeSettings, SURVEYED)
    assert settings.remesh == "off"
    artifact = run_specialize(open_session(learned[0], threads=1), settings)
    before, after = load_mesh(learned[1].file("mesh.safetensors")), load_mesh(artifact.file("mesh.safetensors"))
    np.testing.assert_array_equal(before.faces, after.faces)
    assert "cleanup" not in json.loads(artifact.file("metrics.json").read_text())


def test_vertices_that_cross_each_other_are_smoothed_in_the_end(learned):
    wild = ["optimize.rates.geometry.rate=0.02", "folding=0", "laplacian=0", "remesh=off"]
    done = run_specialize(open_session(learned[0], threads=1), settings_for(SpecializeSettings, [*SURVEYED, *wild]))
    mesh, facts = load_mesh(done.file("mesh.safetensors")), json.loads(done.file("metrics.json").read_text())
    found = facts["intersections"]
    assert found["untangled"] == len(intersecting_pairs(mesh.positions, mesh.faces)) < 0.5 * found["after_moving"]
