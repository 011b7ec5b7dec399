"""Rendering an asset: every face shows its own material, and what cannot be rendered says so."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from stspbr.errors import StspbrError
from stspbr.procedural.jar import demo_asset
from stspbr.render.asset_renderer import AssetRenderer
from stspbr.render.backend import get_backend
from stspbr.render.gbuffer import Surface, ViewBatch
from stspbr.render.light import EnvironmentCube
from stspbr.scene import Asset, Camera, Corners, Material, Mesh, look_at
from stspbr.scene.camera_rig import object_cameras

CPU = torch.device("cpu")
BACKEND = get_backend("cpu", CPU)


def constant(albedo, roughness, metallic, **maps) -> Material:
    def texel(*values):
        return np.array(values, dtype=np.float32).reshape(1, 1, -1)

    return Material(texel(*albedo), texel(roughness), texel(metallic), **maps)


RED, GREEN = constant((0.8, 0.1, 0.1), 0.3, 0.0), constant((0.1, 0.7, 0.2), 0.9, 1.0)


def two_quads(**changes) -> Mesh:
    """The unit square x, y in [−1, 1] that faces +Z, cut at x = 0; UVs cover it once."""
    positions = np.array([[x, y, 0] for y in (1, -1) for x in (-1, 0, 1)], np.float32)
    faces = np.array([[0, 3, 4], [0, 4, 1], [1, 4, 5], [1, 5, 2]], np.int32)
    uvs = (positions[:, :2] * (0.5, -0.5) + 0.5).astype(np.float32)
    return replace(
        Mesh(positions, faces, Corners(uvs, faces), face_material=np.array([0, 0, 1, 1], np.int32)), **changes
    )


def front(size: int = 32):
    camera = Camera(look_at((0, 0, 3), (0, 0, 0)), size, size, size / 2, size / 2, size, size)
    return ViewBatch.of([camera], [np.eye(4)], CPU)


@pytest.fixture(scope="module")
def light():
    cube = EnvironmentCube(16)
    cube.set_radiance(torch.rand(6, 16, 16, 3, generator=torch.Generator().manual_seed(0)) + 0.2)
    return cube.prefilter().detach()


def halves(image: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Pixels well inside the left and the right quad; the square spans columns and rows 5.3 to 26.7."""
    return image[0, 8:24, 8:14].reshape(-1, image.shape[3]), image[0, 8:24, 18:24].reshape(-1, image.shape[3])


@pytest.mark.parametrize("order", [[RED, GREEN], [GREEN, RED]], ids=["red first", "green first"])
def test_each_face_shows_its_own_material(light, order):
    out = AssetRenderer(Asset(two_quads(), order), BACKEND, CPU).render(front(), light)
    for pixels, material in zip(zip(*(halves(out[n]) for n in ("albedo", "roughness", "metallic")), strict=True), order,
                                strict=True):  # fmt: skip
        for found, wanted in zip(pixels, (material.albedo, material.roughness, material.metallic), strict=True):
            torch.testing.assert_close(found, torch.from_numpy(wanted).reshape(1, -1).expand_as(found))


def test_several_materials_shade_as_each_does_alone(light):
    both = AssetRenderer(Asset(two_quads(), [RED, GREEN]), BACKEND, CPU).render(front(), light)["rgb"]
    for number, material in enumerate((RED, GREEN)):
        alone = AssetRenderer(Asset(two_quads(face_material=None), [material]), BACKEND, CPU).render(front(), light)
        torch.testing.assert_close(halves(both)[number], halves(alone["rgb"])[number])
        assert not torch.allclose(halves(both)[1 - number], halves(alone["rgb"])[1 - number], atol=0.02)


def test_a_texture_beside_a_constant(light):
    top_down = np.linspace(0, 1, 64, dtype=np.float32)[:, None, None]
    ramp = Material(np.repeat(np.repeat(top_down, 64, 1), 3, 2), np.repeat(top_down, 64, 1), np.zeros((1, 1, 1), "f4"))
    out = AssetRenderer(Asset(two_quads(), [RED, ramp]), BACKEND, CPU).render(front(), light)
    left, right = (x.reshape(16, 6, 3) for x in halves(out["albedo"]))
    assert float((left - torch.from_numpy(RED.albedo)).abs().max()) < 1e-6
    assert bool((right[1:] > right[:-1]).all())  # row 0 of the map is at the top of the square
    wanted = (torch.arange(8, 24) + 0.5 - 16) * 3 / 32 / 2 + 0.5
    torch.testing.assert_close(right[:, 0, 0], wanted, atol=0.02, rtol=0)


def test_occlusion_dims_the_radiance(light):
    open_sky = AssetRenderer(Asset(two_quads(), [RED, RED]), BACKEND, CPU).render(front(), light)["rgb"]
    half = replace(RED, occlusion=np.full((1, 1, 1), 0.5, np.float32))
    dimmed = AssetRenderer(Asset(two_quads(), [RED, half]), BACKEND, CPU).render(front(), light)["rgb"]
    torch.testing.assert_close(halves(dimmed)[0], halves(open_sky)[0])
    torch.testing.assert_close(halves(dimmed)[1], 0.5 * halves(open_sky)[1])


def normal_map(x: float, y: float, z: float) -> np.ndarray:
    return np.broadcast_to(np.array([x, y, z], np.float32), (8, 8, 3)).copy()


def test_a_flat_normal_map_changes_nothing(light):
    asset = demo_asset(32, around=24, along=20)
    views = ViewBatch.of([object_cameras(asset.mesh, 2, 0, 48)[0][1]], [np.eye(4)], CPU)
    plain = AssetRenderer(asset, BACKEND, CPU).render(views, light)
    bare_mesh = replace(asset.mesh, tangents=None)
    for mesh in (asset.mesh, bare_mesh):  # own tangents, and made ones
        mapped = replace(asset, mesh=mesh, materials=[replace(asset.materials[0], normal=normal_map(0, 0, 1))])
        out = AssetRenderer(mapped, BACKEND, CPU).render(views, light)
        for name, image in plain.items():
            torch.testing.assert_close(out[name], image, atol=1e-5, rtol=1e-4, msg=name)


def test_a_normal_map_bends_along_the_square_s_axes(light):
    """+X of the map is right in the image, +Y up; both are the world's axes on this square."""
    for bent in ((0.6, 0.0, 0.8), (0.0, 0.6, 0.8)):
        material = replace(RED, normal=normal_map(*bent))
        asset = Asset(two_quads(face_material=None), [material])
        found = halves(AssetRenderer(asset, BACKEND, CPU).render(front(), light)["normal"])[0]
        torch.testing.assert_close(found, torch.tensor(bent).expand_as(found), atol=1e-5, rtol=0)


TEXTURE = np.full((4, 4, 1), 0.5, np.float32)


@pytest.mark.parametrize(
    "maps",
    [
        {"albedo": np.full((4, 4, 3), 0.5, np.float32)},
        {"roughness": TEXTURE},
        {"metallic": TEXTURE},
        {"occlusion": TEXTURE},
        {"normal": normal_map(0, 0, 1)},
    ],
    ids=lambda maps: next(iter(maps)),
)
def test_a_texture_without_uvs_is_an_error(maps):
    asset = Asset(two_quads(uvs=None), [RED, replace(GREEN, **maps)], name="square")
    with pytest.raises(StspbrError, match="square.*no UV"):
        AssetRenderer(asset, BACKEND, CPU)


def test_constants_need_no_uvs(light):
    asset = Asset(two_quads(uvs=None), [RED, GREEN])
    out = AssetRenderer(asset, BACKEND, CPU).render(front(), light)
    assert float(out["alpha"].sum()) == pytest.approx((2 * 32 / 3) ** 2, rel=0.02)


def test_an_empty_mesh_is_an_error():
    empty = Mesh(np.zeros((0, 3), np.float32), np.zeros((0, 3), np.int32))
    with pytest.raises(StspbrError, match="empty"):
        Surface.of(empty, CPU)
    with pytest.raises(StspbrError, match="empty"):
        AssetRenderer(Asset(empty, [RED]), BACKEND, CPU)


def test_missing_normals_are_the_faces_smooth_ones():
    surface = Surface.of(two_quads(), CPU)
    torch.testing.assert_close(surface.normals.values, torch.tensor([0.0, 0, 1]).expand(6, 3))
