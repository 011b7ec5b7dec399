"""A mesh that is given: its shape, and the normal map that belongs to it, come out as they went in."""

from __future__ import annotations

import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch

from stspbr.errors import StspbrError
from stspbr.formats.gltf import read_gltf
from stspbr.formats.gltf_writer import write_glb
from stspbr.recipe import BakeSettings, CoarseSettings, SpecializeSettings, settings_for
from stspbr.render.asset_renderer import AssetRenderer
from stspbr.render.prefilter import prefilter_latlong
from stspbr.scene import Asset
from stspbr.scene.procedural import demo_asset, demo_light
from stspbr.stages.bake import run_bake
from stspbr.stages.capture_mesh import single_view
from stspbr.stages.coarse import run_coarse
from stspbr.stages.model import load_capture
from stspbr.stages.session import Session
from stspbr.stages.specialize import run_specialize

STEPS = ["optimize.iterations=2", "optimize.batch=1"]
FIELDS = [f"fields.{n}.{k}" for n in ("appearance", "reflectance") for k in ("levels=2", "log2_table_size=10")]


def wavy_jar(shift: float = 0.0) -> Asset:
    """The jar with waves in its normal map; ``shift`` moves all UVs by whole tiles or parts of one."""
    asset = demo_asset()
    y, x = np.mgrid[0:256, 0:256] * (2.0 * np.pi * 3.0 / 256.0)
    waves = np.stack([0.3 * np.sin(x), 0.3 * np.cos(y), np.ones_like(x)], axis=-1)
    waves /= np.linalg.norm(waves, axis=-1, keepdims=True)
    mesh = replace(asset.mesh, uvs=asset.mesh.uvs + np.float32(shift))
    return Asset(mesh, [replace(asset.materials[0], normal=waves.astype(np.float32))])


def fit_given(source, tmp_path, asset: Asset, *, coarse: list[str] = ()) -> Asset:
    run = tmp_path / "run"
    shutil.copytree(source / "capture", run / "capture")
    path = tmp_path / "given.glb"
    write_glb(path, asset)
    session = Session.open(run, device="cpu", quiet=True)
    run_coarse(session, settings_for(CoarseSettings, [*STEPS, *FIELDS, f"mesh={path}", *coarse]))
    run_specialize(session, settings_for(SpecializeSettings, STEPS))
    bake = run_bake(session, settings_for(BakeSettings, [*STEPS, "texture_resolution=256"]))
    return read_gltf(bake.file("asset.glb"))


def seen_normals(source, asset: Asset) -> tuple[np.ndarray, np.ndarray]:
    """Shading normals and coverage in one view of the capture."""
    session = Session.open(source, device="cpu", quiet=True)
    frame = load_capture(session.parent("capture")).frames[0]
    camera = frame.camera.resized(128, 128)
    light = prefilter_latlong(demo_light(), base_resolution=128)
    out = AssetRenderer(asset, session.backend, torch.device("cpu")).render(
        single_view(camera, frame.object_to_world, torch.device("cpu")), light
    )
    return out["normal"][0].numpy(), out["alpha"][0].numpy() > 0.999


@pytest.mark.parametrize("shift", [0.0, 0.4], ids=["own-uvs", "new-atlas"])
def test_normal_map_of_the_given_mesh_is_kept(tiny_run, tmp_path, shift):
    given = wavy_jar(shift)
    asset = fit_given(tiny_run, tmp_path, given, coarse=["normals_from=2.0"])
    truth, inside = seen_normals(tiny_run, given)
    ours, _ = seen_normals(tiny_run, asset)
    flat, _ = seen_normals(tiny_run, Asset(given.mesh, demo_asset().materials))
    error = np.degrees(np.arccos(np.clip((truth * ours).sum(-1), -1, 1)))[inside[..., 0]]
    without = np.degrees(np.arccos(np.clip((truth * flat).sum(-1), -1, 1)))[inside[..., 0]]
    assert np.median(without) > 8.0  # the waves matter here
    assert np.median(error) < 1.0


def test_normal_map_can_be_ignored(tiny_run, tmp_path):
    asset = fit_given(tiny_run, tmp_path, wavy_jar(), coarse=["normals_from=2.0", "mesh_normal_map=ignore"])
    assert asset.materials[0].normal is None


def test_given_normals_are_the_start_of_learned_ones(tiny_run, tmp_path):
    asset = fit_given(tiny_run, tmp_path, wavy_jar(), coarse=["normals_from=0.0"])
    truth, inside = seen_normals(tiny_run, wavy_jar())
    ours, _ = seen_normals(tiny_run, asset)
    error = np.degrees(np.arccos(np.clip((truth * ours).sum(-1), -1, 1)))[inside[..., 0]]
    assert 0.0 < np.median(error) < 6.0  # two steps move them a little, and only a little


def test_several_materials_with_normal_maps_are_refused_by_name(tiny_run, tmp_path):
    one = wavy_jar()
    owner = np.arange(len(one.mesh.faces), dtype=np.int32) % 2
    two = Asset(replace(one.mesh, face_material=owner), [one.materials[0], replace(one.materials[0], name="second")])
    with pytest.raises(StspbrError, match="2 materials.*mesh_normal_map=ignore"):
        fit_given(tiny_run, tmp_path, two)
