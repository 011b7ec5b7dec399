"""The stages end to end on a tiny capture: what they write, and that a broken run goes on bit for bit."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest

from stspbr.errors import StspbrError
from stspbr.formats.gltf.reader import read_gltf
from stspbr.formats.images import read_image, read_pixels
from stspbr.settings import (
    BakeSettings,
    CoarseSettings,
    EvaluateSettings,
    SpecializeSettings,
    UnpackSettings,
    settings_for,
)
from stspbr.stages.bake import run_bake
from stspbr.stages.coarse import run_coarse
from stspbr.stages.evaluate import error_table, run_evaluate
from stspbr.stages.session import Session
from stspbr.stages.specialize import run_specialize
from stspbr.stages.unpack_orm import run_unpack_orm

GRIDS = [
    f"fields.{name}.{key}"
    for name in ("appearance", "reflectance", "joint")
    for key in ("levels=4", "log2_table_size=12", "finest_resolution=64")
]
STEPS = ["optimize.iterations=12", "optimize.batch=2", "optimize.checkpoint_every=4", "optimize.preview_every=6"]
COARSE = settings_for(CoarseSettings, [*GRIDS, *STEPS, "geometry.resolution=16", "light.mode=learned",
                                       "light.learned_resolution=16", "normals_from=0.5"])  # fmt: skip
SPECIALIZE = settings_for(SpecializeSettings, [*STEPS, "survey.steps=10", "light_solve.steps=10"])
BAKE = settings_for(BakeSettings, [*STEPS, "texture_resolution=128", "target_faces=600", "padding=2"])


def open_session(run, **options) -> Session:
    return Session.open(run, device="cpu", quiet=True, **options)


@pytest.fixture(scope="module")
def finished(tiny_run, tmp_path_factory):
    """A run in which every stage is done."""
    run = tmp_path_factory.mktemp("finished") / "run"
    shutil.copytree(tiny_run, run)
    session = open_session(run)
    artifacts = [run_coarse(session, COARSE), run_specialize(session, SPECIALIZE), run_bake(session, BAKE)]
    artifacts.append(run_unpack_orm(session, UnpackSettings()))
    return run, {artifact.stage: artifact for artifact in artifacts}


def test_bake_writes_an_asset_that_renders_as_it_was_trained(finished):
    _, done = finished
    metrics = json.loads(done["bake"].file("metrics.json").read_text())
    assert metrics["export_psnr"] >= 45.0
    asset = read_gltf(done["bake"].file("asset.glb"))
    material = asset.materials[0]
    assert material.albedo.shape == (128, 128, 3) and material.normal is not None
    assert asset.mesh.tangents is not None
    assert len(asset.mesh.faces) <= 600
    assert metrics["mesh"]["watertight"]


def test_unpacked_maps_are_the_asset_s_channels(finished):
    _, done = finished
    material = read_gltf(done["bake"].file("asset.glb")).materials[0]
    for name in ("roughness", "metallic"):
        grey = read_pixels(done["unpack-orm"].file(f"{name}.png"))
        np.testing.assert_allclose(grey[..., 0], getattr(material, name)[..., 0], atol=1e-6)
    assert "occlusion.png" in done["unpack-orm"].files


def test_learned_light_is_written(finished):
    _, done = finished
    radiance, _, _ = read_image(done["bake"].file("light.hdr"))
    assert radiance.shape[1] == 2 * radiance.shape[0]
    assert np.isfinite(radiance).all() and radiance.min() >= 0 and radiance.std() > 0


def test_evaluate_compares_with_the_captured_asset(finished):
    run, _ = finished
    settings = EvaluateSettings(reference_capture=True, samples=2000, views=1, map_resolution=64)
    artifact = run_evaluate(open_session(run), settings)
    errors = json.loads(artifact.file("errors.json").read_text())
    assert 0 < errors["material"]["lit"]["roughness_mae"] < 1
    assert len(error_table(errors)) > 5
    assert artifact.file("contact_sheet.png").stat().st_size > 1000


@pytest.mark.parametrize("stage", ["coarse", "specialize", "bake"])
def test_interrupted_stage_resumes_to_the_same_artifact(finished, tmp_path, interrupted, stage):
    source, done = finished
    run = tmp_path / "run"
    order = ["capture", "coarse", "specialize", "bake"]
    for name in order[: order.index(stage)]:
        shutil.copytree(source / name, run / name)
    stages = {"coarse": (run_coarse, COARSE), "specialize": (run_specialize, SPECIALIZE), "bake": (run_bake, BAKE)}
    execute, settings = stages[stage]

    with interrupted(7):
        execute(open_session(run), settings)
    assert not list((run / stage).glob("v*")) if (run / stage).exists() else True
    artifact = execute(open_session(run, resume=True), settings)
    assert artifact.manifest["files"] == done[stage].manifest["files"]
    assert artifact.content_hash == done[stage].content_hash
    assert artifact.settings == done[stage].settings and artifact.parents == done[stage].parents


def test_given_mesh_keeps_its_topology_and_uvs(finished, tmp_path):
    source, done = finished
    run = tmp_path / "run"
    shutil.copytree(source / "capture", run / "capture")
    glb = done["bake"].file("asset.glb")
    session = open_session(run)
    overrides = [*GRIDS, *STEPS, f"mesh={json.dumps(str(glb))}", "normals_from=2.0", "mesh_normal_map=ignore"]
    run_coarse(session, settings_for(CoarseSettings, overrides))
    run_specialize(session, SPECIALIZE)
    result = read_gltf(run_bake(session, BAKE).file("asset.glb"))
    given = read_gltf(glb)
    np.testing.assert_array_equal(result.mesh.faces.shape, given.mesh.faces.shape)
    np.testing.assert_allclose(np.sort(result.mesh.positions, axis=0), np.sort(given.mesh.positions, axis=0), atol=1e-5)
    assert result.materials[0].normal is None
    np.testing.assert_allclose(
        np.sort(result.mesh.uvs.values, axis=0), np.sort(given.mesh.uvs.values, axis=0), atol=1e-6
    )


def test_stage_without_its_parent_says_what_to_run(tmp_path):
    with pytest.raises(StspbrError, match="stspbr capture"):
        run_coarse(open_session(tmp_path / "empty"), COARSE)


def test_known_light_must_be_there(finished, tmp_path):
    source, _ = finished
    run = tmp_path / "run"
    shutil.copytree(source / "coarse", run / "coarse")
    with pytest.raises(StspbrError, match="capture"):
        run_specialize(open_session(run), SPECIALIZE)
