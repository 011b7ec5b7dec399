"""Refine as a stage: what it writes and refuses, who uses its asset, and that it resumes bit for bit."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest

from stspbr.errors import StspbrError
from stspbr.formats.gltf.reader import read_gltf
from stspbr.formats.images import read_pixels
from stspbr.optimize.path_refinement import PathRefinement
from stspbr.render.mitsuba_bsdf import llvm_status
from stspbr.report.records import read_record
from stspbr.settings import (
    BakeSettings,
    CaptureMeshSettings,
    CoarseSettings,
    EvaluateSettings,
    ExportSettings,
    RefineSettings,
    SpecializeSettings,
    UnpackSettings,
    load_recipe,
    settings_for,
)
from stspbr.stages.bake import run_bake
from stspbr.stages.capture import run_capture
from stspbr.stages.coarse import run_coarse
from stspbr.stages.evaluate import run_evaluate
from stspbr.stages.export_asset import export_asset
from stspbr.stages.refine import run_refine
from stspbr.stages.session import Session
from stspbr.stages.specialize import run_specialize
from stspbr.stages.unpack_orm import run_unpack_orm

FIELDS = ["fields.appearance.levels=3", "fields.reflectance.levels=3", "fields.appearance.log2_table_size=10",
          "fields.reflectance.log2_table_size=10", "geometry.resolution=16", "transport.rays=numba"]  # fmt: skip
LEARNED = ["light.mode=learned", "light.learned_resolution=16"]
STEPS = ["optimize.iterations=4", "optimize.batch=2", "optimize.preview_every=100"]
SPECIALIZE = [*STEPS, "survey.at=[]", "light_solve.steps=5"]
REFINE = ["rounds=1", "paths=8", "polish=2", "polish_pixels=256", "polish_paths=4", "gradient_paths=2", "max_depth=3",
          "optimize.iterations=5", "optimize.batch=2", "optimize.checkpoint_every=1",
          "optimize.preview_every=100"]  # fmt: skip


@pytest.fixture(scope="module")
def baked(tmp_path_factory):
    """A run with a path-traced capture and a bake of few steps, its light learned."""
    ok, message = llvm_status()
    if not ok:
        pytest.skip(f"path-traced reference: {message}")
    run = tmp_path_factory.mktemp("baked")
    session = Session.open(run, device="cpu", quiet=True)
    run_capture(session, CaptureMeshSettings(asset="procedural:demo", light="procedural:demo", renderer="mitsuba",
                                             views=4, test_views=1, resolution=32, samples=16))  # fmt: skip
    run_coarse(session, settings_for(CoarseSettings, [*FIELDS, *STEPS, *LEARNED]))
    run_specialize(session, settings_for(SpecializeSettings, SPECIALIZE))
    run_bake(session, settings_for(BakeSettings, [*STEPS, "texture_resolution=64"]))
    return run


def copied(baked, tmp_path, name="run", **options) -> Session:
    shutil.copytree(baked, tmp_path / name)
    return Session.open(tmp_path / name, device="cpu", quiet=True, **options)


def test_its_asset_is_the_one_that_later_stages_use(baked, tmp_path):
    session = copied(baked, tmp_path)
    bake = session.parent("bake")
    assert session.asset().path == bake.path
    refined = run_refine(session, settings_for(RefineSettings, REFINE))
    assert session.asset().path == refined.path
    assert {"asset.glb", "obj/asset.obj", "light.hdr", "light.safetensors", "metrics.json"} <= set(refined.files)
    before, after = (read_gltf(artifact.file("asset.glb")) for artifact in (bake, refined))
    assert np.array_equal(before.mesh.positions, after.mesh.positions)
    assert np.array_equal(before.mesh.uvs.values, after.mesh.uvs.values)
    assert np.array_equal(before.materials[0].normal, after.materials[0].normal)
    assert not np.array_equal(before.materials[0].albedo, after.materials[0].albedo)
    written = json.loads(refined.file("metrics.json").read_text())
    assert 0 < written["filled_share"] <= 1
    traced = written["path_traced"]
    assert traced["views"] == 1 and 5 < traced["psnr"] < 60 and 5 < traced["psnr_before"] < 60

    maps = run_unpack_orm(session, UnpackSettings())
    assert list(maps.parents) == ["refine"]
    assert np.array_equal(read_pixels(maps.file("roughness.png"))[..., :1], after.materials[0].roughness)
    evaluation = run_evaluate(session, EvaluateSettings(reference_capture=True, samples=1000, map_resolution=32))
    assert list(evaluation.parents) == ["refine"]
    record = read_record(session.run)
    assert record.asset_stage == "refine" and {"bake", "refine", "unpack-orm", "evaluate"} <= set(record.artifacts)
    report = export_asset(str(session.run), tmp_path / "out.glb", ExportSettings(to="glb"))
    exported = read_gltf(report.files[0])
    assert np.abs(exported.materials[0].albedo - after.materials[0].albedo).max() < 1e-6


def test_versions_name_a_bake_or_a_refinement(baked, tmp_path):
    session = copied(baked, tmp_path)
    refined = run_refine(session, settings_for(RefineSettings, REFINE))
    store = session.store
    assert store.finished().path == refined.path == store.finished("refine/v0001").path
    assert store.finished("v0001").stage == store.finished("bake/1").stage == "bake"
    with pytest.raises(StspbrError, match=r"refine/v0001"):
        store.finished("coarse/v0001")
    run_bake(session, settings_for(BakeSettings, [*STEPS, "texture_resolution=32"]))
    assert store.finished().path.parts[-2:] == ("bake", "v0002")  # the refinement is of another bake


@pytest.mark.parametrize("step", [pytest.param(2, marks=pytest.mark.slow), 4])  # before and in the polish
def test_it_resumes_bit_for_bit(baked, tmp_path, monkeypatch, step):
    expected = run_refine(copied(baked, tmp_path, "whole"), settings_for(RefineSettings, REFINE))
    original = PathRefinement.terms

    def interrupted(self, number, *rest):
        if number == step:
            raise KeyboardInterrupt
        return original(self, number, *rest)

    monkeypatch.setattr(PathRefinement, "terms", interrupted)
    with pytest.raises(KeyboardInterrupt):
        run_refine(copied(baked, tmp_path, "broken"), settings_for(RefineSettings, REFINE))
    monkeypatch.setattr(PathRefinement, "terms", original)
    again = Session.open(tmp_path / "broken", device="cpu", quiet=True, resume=True)
    resumed = run_refine(again, settings_for(RefineSettings, REFINE))
    assert resumed.content_hash == expected.content_hash


def test_a_capture_without_shadows_is_refused(baked, tmp_path):
    session = copied(baked, tmp_path)
    run_capture(session, CaptureMeshSettings(asset="procedural:demo", light="procedural:demo", views=3, test_views=1,
                                             resolution=32))  # fmt: skip
    run_coarse(session, settings_for(CoarseSettings, [*FIELDS, *STEPS]))
    run_specialize(session, settings_for(SpecializeSettings, SPECIALIZE))
    run_bake(session, settings_for(BakeSettings, [*STEPS, "texture_resolution=32"]))
    with pytest.raises(StspbrError, match="renderer=raster.*capture with --renderer mitsuba"):
        run_refine(session, RefineSettings())
    assert not (session.run / "refine").exists()


def test_settings_that_leave_no_step_for_the_rounds_are_refused():
    with pytest.raises(StspbrError, match="leaves no step for 5 rounds before 200 steps"):
        settings_for(RefineSettings, ["polish=200", "optimize.iterations=203"])


def test_a_recipe_refines_where_it_has_the_table(tmp_path):
    path = tmp_path / "recipe.toml"
    path.write_text('name = "a"\n[capture]\nkind = "mesh"\nasset = "procedural:demo"\nlight = "procedural:demo"\n')
    assert load_recipe(path).refine is None
    path.write_text(path.read_text() + "[refine]\npolish = 0\n")
    assert load_recipe(path).refine == RefineSettings(polish=0)
    assert load_recipe(path, ["refine.rounds=3"]).refine.rounds == 3


def test_a_run_with_a_floor_keeps_it(baked, tmp_path):
    session = copied(baked, tmp_path)
    run_coarse(session, settings_for(CoarseSettings, [*FIELDS, *STEPS, *LEARNED, "transport.ground=-1.5"]))
    run_specialize(session, settings_for(SpecializeSettings, SPECIALIZE))
    bake = run_bake(session, settings_for(BakeSettings, [*STEPS, "texture_resolution=32"]))
    refined = run_refine(session, settings_for(RefineSettings, REFINE))
    before, after = (json.loads(own.file("metrics.json").read_text())["ground"] for own in (bake, refined))
    assert before["height"] == after["height"] == pytest.approx(-1.5)
    assert after["grey"] == pytest.approx(before["grey"], abs=0.05) and after["grey"] != before["grey"]
