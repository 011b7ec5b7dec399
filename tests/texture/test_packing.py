"""Packing: dense, even, gutters that hold in mips; and maps as fine as the views."""

from __future__ import annotations

import numpy as np
import pytest
import trimesh

from stspbr.errors import StspbrError
from stspbr.geometry.topology import connected
from stspbr.scene import Mesh
from stspbr.scene.camera import Camera
from stspbr.texture.atlas import rasterize_layout
from stspbr.texture.dilate import dilate
from stspbr.texture.packing import pack
from stspbr.texture.resolution import resolution_of_views
from stspbr.texture.unwrap import atlas_report, unwrap


def _strips(widths, heights) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Rectangles of two triangles each, their corners in space and in charts of other scales."""
    corners, faces, uvs = [], [], []
    for n, (w, h) in enumerate(zip(widths, heights, strict=True)):
        square = np.array([[0, 0, 0], [w, 0, 0], [w, h, 0], [0, h, 0.0]])
        corners += [square[[0, 1, 2]], square[[0, 2, 3]]]
        faces += [[4 * n, 4 * n + 1, 4 * n + 2], [4 * n, 4 * n + 2, 4 * n + 3]]
        angle = 0.3 * n
        turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
        uvs.append((1 + n) * square[:, :2] @ turn.T + 7.0)
    return np.array(corners), np.array(faces), np.concatenate(uvs)


def test_rectangles_fill_the_square_at_one_density():
    rng = np.random.default_rng(0)
    corners, faces, uvs = _strips(rng.uniform(0.2, 1.0, 40), rng.uniform(0.2, 1.0, 40))
    packed = pack(corners, faces, uvs, 512, 2)
    placed = packed.texels[faces]
    sides = np.linalg.norm(placed - np.roll(placed, 1, axis=1), axis=-1)
    np.testing.assert_allclose(
        sides, packed.density * np.linalg.norm(corners - np.roll(corners, 1, axis=1), axis=-1), rtol=1e-9
    )
    first, second = placed[:, 1] - placed[:, 0], placed[:, 2] - placed[:, 0]
    areas = 0.5 * (first[:, 0] * second[:, 1] - first[:, 1] * second[:, 0])
    assert (areas > 0).all()  # not mirrored
    assert areas.sum() > 0.75 * 512**2
    assert packed.charts == 40
    boxes = np.stack([placed.reshape(40, -1, 2).min(axis=1), placed.reshape(40, -1, 2).max(axis=1)], axis=1)
    assert boxes.min() >= 1.0 - 1e-9 and boxes.max() <= 511.0 + 1e-9
    for n in range(40):
        for m in range(n):  # rectangles stand upright, so that their boxes tell
            assert (np.maximum(boxes[n, 0], boxes[m, 0]) - np.minimum(boxes[n, 1], boxes[m, 1])).max() >= 2.0 - 1e-6
    np.testing.assert_array_equal(packed.texels, pack(corners, faces, uvs, 512, 2).texels)


def test_too_many_charts_are_refused():
    corners, faces, uvs = _strips(np.ones(100), np.ones(100))
    with pytest.raises(StspbrError, match="do not fit"):
        pack(corners, faces, uvs, 32, 8)


@pytest.fixture(scope="module")
def atlas():
    body = trimesh.creation.capsule(1.0, 0.5, count=[24, 24])
    positions, faces = body.vertices.astype(np.float32), body.faces.astype(np.int32)
    return positions, faces, unwrap(positions, faces, 512, 4)


def test_an_atlas_is_full_even_and_of_few_charts(atlas):
    positions, faces, uvs = atlas
    report = atlas_report(uvs, 512)
    assert report["charts"] <= 16
    assert report["fill"] > 0.5  # round charts
    corners, image = positions[faces].astype(np.float64), uvs.values[uvs.index].astype(np.float64)
    surface = np.linalg.norm(np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]), axis=1)
    first, second = image[:, 1] - image[:, 0], image[:, 2] - image[:, 0]
    density = np.sqrt(np.abs(first[:, 0] * second[:, 1] - first[:, 1] * second[:, 0]) / surface)
    low, high = np.quantile(density, [0.02, 0.98])
    assert high < 2.0 * low


def test_gutters_hold_under_four_mips(atlas):
    _, _, uvs = atlas
    texels = rasterize_layout(uvs, (512, 512))
    chart = connected(uvs.index[:, :2].reshape(-1), uvs.index[:, 1:].reshape(-1), len(uvs.values))[1]
    _, owner = np.unique(chart[uvs.index[:, 0]], return_inverse=True)
    count = owner.max() + 1
    assert count > 1
    image = np.zeros((512 * 512, count))
    flat, own = texels.texel.numpy(), owner[texels.triangle.numpy()]
    image[flat] = np.eye(count)[own]
    mask = np.zeros(512 * 512, bool)
    mask[flat] = True
    level = dilate(image.reshape(512, 512, count), mask.reshape(512, 512))
    undilated = image.reshape(512, 512, count)
    lost = 0.0
    for number in range(1, 5):
        size = 512 >> number
        level, undilated = (x.reshape(size, 2, size, 2, count).mean(axis=(1, 3)) for x in (level, undilated))
        at = (flat // 512 >> number) * size + (flat % 512 >> number)
        shown = level.reshape(-1, count)[at]
        np.testing.assert_allclose(shown.sum(axis=1), 1.0, atol=1e-6)  # charts' colours alone, no background
        lost = max(lost, 1.0 - undilated.reshape(-1, count)[at].sum(axis=1).min())
        if number <= 2:  # the padding is 4 texels: other charts stay outside, too
            assert (shown[np.arange(len(own)), own] > 0.5).all()
    assert lost > 0.5  # without gutters there would be background


def _looking_from(distance: float, focal: float) -> Camera:
    pose = np.eye(4)
    pose[2, 3] = distance
    return Camera(pose, focal, focal, 128.0, 128.0, 256, 256)


def test_maps_are_as_fine_as_the_closest_view():
    ball = trimesh.creation.icosphere(4, 1.0)
    mesh = Mesh(ball.vertices.astype(np.float32), ball.faces.astype(np.int32))
    far, near = _looking_from(6.0, 300.0), _looking_from(3.0, 300.0)
    side, why = resolution_of_views(mesh, [far], [np.eye(4)])
    # pixels of 5.3 / 300 on average: 4π over them, 65 % of the maps filled
    assert side % 64 == 0 and side == pytest.approx(np.sqrt(4 * np.pi / 0.65) * 300 / 5.3, abs=64)
    assert "view 0" in why
    closer, why = resolution_of_views(mesh, [far, near], [np.eye(4)] * 2)
    assert "view 1" in why
    assert 1.8 * side < closer < 3 * side
    twice = np.diag([2.0, 2.0, 2.0, 1.0])
    half = Mesh(mesh.positions / 2, mesh.faces)
    assert resolution_of_views(half, [far], [twice])[0] == side
    away = _looking_from(-6.0, 300.0)
    assert resolution_of_views(mesh, [away], [np.eye(4)])[0] == 1024
    huge = Camera(near.camera_to_world, 2e5, 2e5, 1e5, 1e5, 200_000, 200_000)
    assert resolution_of_views(mesh, [huge], [np.eye(4)])[0] == 8192
