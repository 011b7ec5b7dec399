"""The procedural objects and lights: clean meshes, the materials that they promise, and their names."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter

import numpy as np
import pytest

from stspbr.errors import StspbrError
from stspbr.procedural.by_name import LIGHTS, OBJECTS, is_procedural, procedural_asset, procedural_light
from stspbr.procedural.objects import GOLD, SILVER, dark_gloss, letters, ramp

MAKERS = {"dark-gloss": dark_gloss, "letters": letters, "ramp": ramp}


@pytest.fixture(scope="module")
def assets():
    return {name: make(256) for name, make in MAKERS.items()}


def test_numpy_only():
    code = (
        "import sys, stspbr.procedural.by_name;"
        "sys.exit(any(m in sys.modules for m in ('torch', 'numba', 'scipy', 'mitsuba', 'PIL')))"
    )
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


@pytest.mark.parametrize("name", list(MAKERS))
def test_mesh_is_closed_oriented_and_has_one_chart(assets, name):
    mesh = assets[name].mesh
    f = mesh.faces
    edges = np.concatenate([f[:, [0, 1]], f[:, [1, 2]], f[:, [2, 0]]])
    directed = Counter(map(tuple, edges.tolist()))
    assert all(n == 1 and directed[(b, a)] == 1 for (a, b), n in directed.items())
    assert len(mesh.positions) - len(edges) // 2 + len(f) == 2
    assert 4000 <= len(f) <= 20000
    p = mesh.positions.astype(np.float64)
    a, b, c = p[f[:, 0]], p[f[:, 1]], p[f[:, 2]]
    assert np.sum(a * np.cross(b, c)) / 6.0 > 0.8  # outwards
    assert np.linalg.norm(p, axis=-1).max() < 1.0
    face_normal = np.cross(b - a, c - a)
    assert np.linalg.norm(face_normal, axis=-1).min() > 1e-7
    face_normal /= np.linalg.norm(face_normal, axis=-1, keepdims=True)
    assert (mesh.normals.values[mesh.normals.index] * face_normal[:, None]).sum(-1).min() > 0.75
    uv = mesh.uvs.values[mesh.uvs.index].astype(np.float64)
    assert uv.min() >= 0.0 and uv.max() <= 1.0
    d1, d2 = uv[:, 1] - uv[:, 0], uv[:, 2] - uv[:, 0]
    signed = 0.5 * (d1[:, 0] * d2[:, 1] - d1[:, 1] * d2[:, 0])
    assert (signed < 0).all() and 0.96 < -signed.sum() <= 1.0 + 1e-6  # nothing mirrored, nothing laid over another


@pytest.mark.parametrize("name", list(MAKERS))
def test_maps_are_in_range_and_metals_are_bright(assets, name):
    material = assets[name].materials[0]
    for image, channels in ((material.albedo, 3), (material.roughness, 1), (material.metallic, 1)):
        assert image.shape == (256, 256, channels) and image.dtype == np.float32
        assert image.min() >= 0 and image.max() <= 1
    metal = material.metallic[..., 0] > 0.99
    luminance = material.albedo @ np.array([0.2126, 0.7152, 0.0722])
    assert luminance[metal].min(initial=1.0) > 0.5
    assert material.albedo.min() > 0.02  # the image can decide about every dielectric of the suite
    # the left and the right edge of the maps meet at the seam: no harder a step there than elsewhere
    steps = np.abs(np.diff(material.albedo, axis=1)).max()
    assert np.abs(material.albedo[:, 0] - material.albedo[:, -1]).max() <= 1.05 * steps


def test_dark_gloss_is_dark_glossy_and_no_metal(assets):
    material = assets["dark-gloss"].materials[0]
    assert not material.metallic.any()
    dark = material.albedo.max(-1) <= 0.08
    assert 0.8 < dark.mean() < 0.97  # and a few lighter marks
    assert material.albedo.max() > 0.4
    roughness = material.roughness[..., 0]
    assert roughness.min() >= 0.08 and roughness.max() <= 0.3 and roughness[dark].std() > 0.04
    correlation = np.corrcoef(roughness[dark], material.albedo[dark].mean(-1))[0, 1]
    assert abs(correlation) < 0.5  # colour does not give the roughness away


def test_letters_are_metal_and_paint_of_like_colours(assets):
    material = assets["letters"].materials[0]
    albedo, metallic = material.albedo, material.metallic[..., 0]
    assert 0.03 < (metallic > 0.5).mean() < 0.2
    for colour in (GOLD, SILVER):
        here = np.abs(albedo - colour).max(-1) < 1e-3
        assert here.sum() > 100 and (metallic[here] > 0.99).all()
    ochre = np.abs(albedo - (0.72, 0.50, 0.14)).max(-1) < 1e-3
    black = np.abs(albedo - (0.035, 0.034, 0.036)).max(-1) < 1e-3
    assert ochre.sum() > 100 and black.sum() > 100
    assert not metallic[ochre].any() and not metallic[black].any()


def test_letters_are_upright_and_not_mirrored():
    """The bar of the E at azimuth 60°: its spine is on the left for one who looks at the ball from outside."""
    resolution = 512
    material = letters(resolution).materials[0]
    white = np.abs(material.albedo - (0.78, 0.77, 0.73)).max(-1) < 1e-3
    rows, columns = np.nonzero(white & (np.arange(resolution)[:, None] < resolution // 2))
    # from outside, u grows to the right; azimuth 60° from −Z towards +X lies at u = 1 − 60/360
    middle = (1.0 - 60.0 / 360.0) * resolution
    near = np.abs(columns - middle) < 60
    assert near.sum() > 200
    left, right = (columns[near] < middle - 8).sum(), (columns[near] > middle + 8).sum()
    assert left > 1.3 * right
    upper, lower = rows[near].min(), rows[near].max()
    in_columns = np.bincount(columns[near], minlength=resolution)
    assert in_columns.argmax() < middle and in_columns.max() > 0.9 * (lower - upper)  # the spine is whole


def test_ramp_runs_from_smooth_to_rough_and_is_half_metal(assets):
    material = assets["ramp"].materials[0]
    roughness, metallic = material.roughness[..., 0], material.metallic[..., 0]
    assert roughness[0].max() < 0.06 and roughness[-1].min() > 0.89
    assert (np.diff(roughness, axis=0) >= -1e-6).all()  # monotonic from the top down
    np.testing.assert_allclose(metallic.mean(), 0.5, atol=0.01)
    inner = metallic[:, 8:120]
    assert (inner == 1).all() and (metallic[:, 136:248] == 0).all()
    bands = np.unique(np.round(material.albedo[0, 20::43], 2), axis=0)
    assert len(bands) == 6


def test_lights_are_finite_limited_and_show_every_flip():
    for name in ("studio", "sunset", "window"):
        light = LIGHTS[name](64).radiance
        assert light.shape == (64, 128, 3) and light.dtype == np.float32
        assert light.min() > 0 and 10 < light.max() < 120 and 0.1 < light.mean() < 1, name
        for other in (light[::-1], light[:, ::-1], np.roll(light, 64, axis=1), np.roll(light, 32, axis=1)):
            assert np.abs(other - light).mean() > 0.2 * light.mean(), name
        fine = LIGHTS[name](128).radiance.reshape(64, 2, 128, 2, 3).mean((1, 3))
        assert abs(fine.mean() / light.mean() - 1) < 0.03, name


def test_names_are_looked_up():
    assert is_procedural("procedural:letters") and not is_procedural("letters.glb")
    assert procedural_asset("procedural:ceramic-trim").name == "ceramic-trim"
    assert procedural_light("procedural:sunset").radiance.shape == (256, 512, 3)
    for find, table in ((procedural_asset, OBJECTS), (procedural_light, LIGHTS)):
        with pytest.raises(StspbrError, match="procedural:kettle.*procedural:" + next(reversed(table))):
            find("procedural:kettle")


def test_the_same_every_time(assets):
    again = letters(256)
    assert np.array_equal(again.mesh.positions, assets["letters"].mesh.positions)
    assert np.array_equal(again.materials[0].albedo, assets["letters"].materials[0].albedo)
    assert np.array_equal(LIGHTS["window"](32).radiance, LIGHTS["window"](32).radiance)


def test_capture_accepts_every_name():
    from stspbr.settings import CaptureMeshSettings
    from stspbr.stages.capture_mesh import load_asset, load_light

    for name in OBJECTS:
        settings = CaptureMeshSettings(asset=f"procedural:{name}", light="procedural:studio", roughness=0.4)
        asset = load_asset(settings)
        assert asset.materials[0].roughness.tolist() == [[[pytest.approx(0.4)]]]
        assert asset.materials[0].albedo.shape[-1] == 3
    assert load_light("procedural:window").radiance.max() > 10
