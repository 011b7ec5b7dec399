"""Unwrapping, texel maps and dilation: no overlap, padding kept, everything filled."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import trimesh
from scipy.ndimage import label

from stspbr.errors import StspbrError
from stspbr.scene import Corners
from stspbr.texture.atlas import rasterize_atlas, rasterize_layout
from stspbr.texture.dilate import dilate
from stspbr.texture.unwrap import unwrap

_SIZE, _PADDING = 128, 4


def _coverage(uvs: np.ndarray, faces: np.ndarray, size: int) -> list[tuple[int, np.ndarray, np.ndarray]]:
    """Per face: flat texels whose centres lie strictly inside, and their barycentrics. Brute force, double."""
    out = []
    rows, columns = np.mgrid[:size, :size] + 0.5
    for k, (a, b, c) in enumerate(uvs[faces].astype(np.float64) * size):
        area = (b - a)[0] * (c - a)[1] - (b - a)[1] * (c - a)[0]
        if area == 0:
            continue
        d = np.stack([columns, rows], -1)
        wb = ((d - a)[..., 0] * (c - a)[1] - (d - a)[..., 1] * (c - a)[0]) / area
        wc = ((b - a)[0] * (d - a)[..., 1] - (b - a)[1] * (d - a)[..., 0]) / area
        weights = np.stack([1 - wb - wc, wb, wc], -1)
        hit = (weights > 1e-9).all(-1)
        out.append((k, np.nonzero(hit.ravel())[0], weights[hit]))
    return out


def _brute_rasterize(clip, faces, resolution):
    """A stub of the backend's operation for flat triangles."""
    size = resolution[0]
    rast = torch.zeros(1, size * size, 4)
    for k, texels, weights in _coverage(clip[0, :, :2].numpy() / 2 + 0.5, faces.numpy(), size):
        rast[0, texels, :2] = torch.from_numpy(weights[:, :2]).float()
        rast[0, texels, 3] = k + 1
    return rast.view(1, size, size, 4), torch.zeros(1, size, size, 4)


@pytest.fixture(scope="module")
def unwrapped():
    mesh = trimesh.creation.icosphere(2)
    p, f = mesh.vertices.astype(np.float32), mesh.faces.astype(np.int32)
    return p, f, unwrap(p, f, _SIZE, _PADDING)


def test_charts_lie_in_the_square_unmirrored_and_repeat(unwrapped):
    p, f, uvs = unwrapped
    assert uvs.values.min() >= _PADDING / 2 / _SIZE
    assert uvs.values.max() <= 1 - _PADDING / 2 / _SIZE
    assert uvs.index.shape == f.shape
    assert uvs.values.dtype == np.float32
    assert uvs.index.dtype == np.int32
    a, b, c = (uvs.values[uvs.index[:, k]] for k in range(3))
    area = (b - a)[:, 0] * (c - a)[:, 1] - (b - a)[:, 1] * (c - a)[:, 0]
    assert (area < 0).all()  # counter-clockwise in the upright image: v points down
    assert -0.5 * area.sum() > 0.3  # most of the square is used
    again = unwrap(p, f, _SIZE, _PADDING)
    np.testing.assert_array_equal(uvs.values, again.values)
    np.testing.assert_array_equal(uvs.index, again.index)


def test_units_do_not_matter(unwrapped):
    p, f, uvs = unwrapped
    small = unwrap(p * np.float32(2.0**-12), f, _SIZE, _PADDING)
    np.testing.assert_array_equal(uvs.values, small.values)
    np.testing.assert_array_equal(uvs.index, small.index)


def test_charts_do_not_overlap(unwrapped):
    _, _, uvs = unwrapped
    hits = np.zeros(1024 * 1024, np.int32)
    for _, texels, _ in _sampled(uvs, 1024):
        hits[texels] += 1
    assert hits.max() == 1


def _sampled(uvs, size):
    """The same per face on its own bounding box: quick for many faces on a fine grid."""
    for k, corners in enumerate(uvs.values[uvs.index].astype(np.float64) * size):
        low, high = np.floor(corners.min(0)).astype(int), np.ceil(corners.max(0)).astype(int)
        rows, columns = np.mgrid[low[1] : high[1], low[0] : high[0]]
        a, b, c = corners
        d = np.stack([columns, rows], -1) + 0.5
        area = (b - a)[0] * (c - a)[1] - (b - a)[1] * (c - a)[0]
        wb = ((d - a)[..., 0] * (c - a)[1] - (d - a)[..., 1] * (c - a)[0]) / area
        wc = ((b - a)[0] * (d - a)[..., 1] - (b - a)[1] * (d - a)[..., 0]) / area
        hit = (wb > 1e-6) & (wc > 1e-6) & (1 - wb - wc > 1e-6)
        yield k, (rows * size + columns)[hit], None


def test_padding_is_kept_between_charts(unwrapped):
    _, _, uvs = unwrapped
    covered = np.zeros(_SIZE * _SIZE, bool)
    for _, texels, _ in _sampled(uvs, _SIZE):
        covered[texels] = True
    islands, count = label(covered.reshape(_SIZE, _SIZE), structure=np.ones((3, 3)))
    assert count > 1
    points = [np.argwhere(islands == k) for k in range(1, count + 1) if (islands == k).sum() > 4]
    for i, a in enumerate(points):
        for b in points[:i]:
            gap = np.abs(a[:, None] - b[None]).max(-1).min() - 1  # free texels between the two
            assert gap >= _PADDING


def test_face_budget_and_too_much_padding():
    mesh = trimesh.creation.icosphere(1)
    with pytest.raises(StspbrError, match="simplify"):
        unwrap(mesh.vertices, mesh.faces, 64, max_faces=10)
    with pytest.raises(StspbrError, match="do not fit"):
        unwrap(mesh.vertices, mesh.faces, 16, padding_px=12)


def test_slivers_get_texels_of_their_neighbours():
    mesh = trimesh.creation.icosphere(1)
    p, f = mesh.vertices.astype(np.float32), mesh.faces.astype(np.int32)
    a, b = f[0, 0], f[0, 1]
    across = next(k for k in range(1, len(f)) if {a, b} <= set(f[k]))
    p = np.concatenate([p, [(p[a] + p[b]) / 2]]).astype(np.float32)  # a vertex on an edge, with a flat face
    m, opposite = len(p) - 1, next(v for v in f[across] if v not in (a, b))
    f = np.delete(f, across, axis=0)
    f = np.concatenate([f, [[b, a, m], [b, m, opposite], [m, a, opposite]]]).astype(np.int32)
    uvs = unwrap(p, f, 128, 2)
    corners = uvs.values[uvs.index]
    assert np.linalg.norm(corners - np.roll(corners, 1, axis=1), axis=-1).max() < 0.6
    assert (corners > 0).any(axis=(1, 2)).all()


def test_texel_map_shows_the_right_points(unwrapped):
    p, f, uvs = unwrapped
    texels = rasterize_atlas(uvs, 64, _brute_rasterize)
    assert (texels.texel.diff() > 0).all()
    np.testing.assert_allclose(texels.barycentric.sum(1), 1, atol=1e-5)
    assert texels.barycentric.min() >= 0
    where = texels.interpolate(torch.from_numpy(uvs.values), torch.from_numpy(uvs.index)).numpy() * 64
    centres = np.stack([texels.texel.numpy() % 64, texels.texel.numpy() // 64], 1) + 0.5
    away = np.linalg.norm(where - centres, axis=1)
    inside = texels.inside.numpy()
    assert away[inside].max() < 1e-3
    assert 0 < away[~inside].max() <= np.sqrt(0.5) + 1e-5
    points = texels.interpolate(torch.from_numpy(p), torch.from_numpy(f)).numpy()
    assert np.linalg.norm(points, axis=1).min() > 0.93
    rast = texels.rast()
    assert rast.shape == (1, 1, len(texels.texel), 4)
    np.testing.assert_array_equal(rast[0, 0, :, 3].numpy() - 1, texels.triangle)


def test_every_touched_texel_is_in_the_map(unwrapped):
    _, _, uvs = unwrapped
    mask = rasterize_atlas(uvs, 32, _brute_rasterize).mask.numpy()
    for k in range(3):  # points on all edges
        a, b = uvs.values[uvs.index[:, k]], uvs.values[uvs.index[:, (k + 1) % 3]]
        for s in np.linspace(0, 1, 9):
            columns, rows = np.floor((a + s * (b - a)) * 32).astype(int).clip(0, 31).T
            assert mask[rows, columns].all()


def test_the_cpu_backend_gives_the_same_map(unwrapped):
    module = pytest.importorskip("stspbr.render.cpu.rasterize")
    _, _, uvs = unwrapped
    ours = rasterize_atlas(uvs, 64, module.rasterize)
    stub = rasterize_atlas(uvs, 64, _brute_rasterize)
    assert torch.equal(ours.mask, stub.mask)
    same = ours.triangle == stub.triangle
    assert same.float().mean() > 0.98
    np.testing.assert_allclose(ours.barycentric[same], stub.barycentric[same], atol=5e-3)


def test_scatter_puts_values_where_they_belong(unwrapped):
    _, _, uvs = unwrapped
    texels = rasterize_atlas(uvs, (32, 32), _brute_rasterize)
    image = texels.scatter(texels.triangle[:, None].float() + 1)
    np.testing.assert_array_equal(image[..., 0] > 0, texels.mask)


@pytest.mark.parametrize("shape", [(64, 64), (37, 50), (1, 9)])
def test_dilation_fills_everything_and_changes_nothing_covered(shape):
    rng = np.random.default_rng(0)
    image, mask = rng.uniform(0.2, 0.9, (*shape, 3)).astype(np.float32), rng.random(shape) < 0.02
    mask.flat[3] = True
    image[~mask] = np.nan
    out = dilate(image, mask, band=2)
    np.testing.assert_array_equal(out[mask], image[mask])
    assert out.dtype == np.float32
    assert np.isfinite(out).all()
    assert out.min() >= np.nanmin(image) - 1e-6
    assert out.max() <= np.nanmax(image) + 1e-6
    np.testing.assert_array_equal(out, dilate(image, mask, band=2))


def test_dilation_repeats_the_nearest_in_the_band_and_is_smooth_beyond():
    image, mask = np.zeros((64, 64, 1)), np.zeros((64, 64), bool)
    mask[:, 4], mask[:, 59] = True, True
    image[:, 59] = 1.0
    out = dilate(image, mask, band=6)[..., 0]
    assert (out[:, :11] == 0).all()
    assert (out[:, 53:] == 1).all()
    assert np.abs(np.diff(out, axis=1)).max() < 0.25
    assert 0.25 < out[:, 32].mean() < 0.75
    constant = dilate(np.full((64, 64, 1), 0.3), mask)
    np.testing.assert_allclose(constant, 0.3, rtol=1e-12)


def test_dilating_nothing_is_an_error():
    with pytest.raises(StspbrError, match="no texel"):
        dilate(np.zeros((4, 4, 3)), np.zeros((4, 4), bool))


# -- layouts that were not made for baking --------------------------------------------------------------------


def _quad(low, high, flip: bool = False) -> Corners:
    """UVs of an axis-parallel rectangle and its two faces."""
    (u0, v0), (u1, v1) = low, high
    uvs = np.array([(u0, v0), (u1, v0), (u1, v1), (u0, v1)], np.float32)
    faces = np.array([[0, 1, 2], [0, 2, 3]], np.int32)
    return Corners(uvs[[1, 0, 3, 2]] if flip else uvs, faces)


def _shown(texels, uvs):
    """The UV of each of a map's points, and the one of its texel's centre."""
    found = texels.interpolate(
        torch.from_numpy(np.asarray(uvs.values, np.float32)), torch.from_numpy(uvs.index)
    ).numpy()
    height, width = texels.resolution
    row, column = np.divmod(texels.texel.numpy(), width)
    return found, np.stack([(column + 0.5) / width, (row + 0.5) / height], axis=1)


def test_layout_of_charts_without_overlap_is_the_atlas():
    mesh = trimesh.creation.icosphere(subdivisions=2)
    uvs = unwrap(mesh.vertices, mesh.faces, _SIZE, _PADDING)
    atlas = rasterize_atlas(uvs, _SIZE, _brute_rasterize)
    layout = rasterize_layout(uvs, (_SIZE, _SIZE))
    assert torch.equal(layout.mask, atlas.mask)
    found, centre = _shown(layout, uvs)
    inside = layout.inside.numpy()
    np.testing.assert_allclose(found[inside], centre[inside], atol=1e-5)
    assert np.abs(found - centre)[~inside].max() <= 0.75 / _SIZE


def test_repeating_faces_come_back_into_the_square():
    uvs = _quad((-0.75, 1.25), (2.25, 3.25))  # 3 tiles wide, 2 high
    texels = rasterize_layout(uvs, (8, 16), limit=64)
    assert bool(texels.mask.all())
    assert torch.bincount(texels.texel).tolist() == [6] * 128  # on the diagonal too, where two faces meet
    found, centre = _shown(texels, uvs)
    np.testing.assert_allclose(found - np.round(found - centre), centre, atol=1e-5)
    few = rasterize_layout(uvs, (8, 16), limit=2)
    assert set(torch.bincount(few.texel).tolist()) == {2} and bool(few.mask.all())


def test_faces_that_repeat_without_end_stay_affordable():
    uvs = _quad((0, 0), (5e4, 5e4))
    texels = rasterize_layout(uvs, (16, 16))
    assert bool(texels.mask.all()) and len(texels.texel) <= 8 * 256


def test_shared_texels_take_the_mean_of_what_they_show():
    one, two = _quad((0.25, 0.25), (0.75, 0.75)), _quad((0.25, 0.25), (0.75, 0.75), flip=True)
    uvs = Corners(np.concatenate([one.values, two.values]), np.concatenate([one.index, two.index + 4]))
    texels = rasterize_layout(uvs, (16, 16))
    value = torch.where(texels.triangle < 2, 0.25, 0.75).unsqueeze(1)
    image = texels.scatter(value, fill=-1.0)[..., 0]
    assert torch.equal(image[4:12, 4:12], torch.full((8, 8), 0.5)) and bool((image[:3] == -1).all())
    only = rasterize_layout(uvs, (16, 16), faces=np.array([2, 3]))
    assert set(only.triangle.tolist()) == {2, 3}
    assert len(torch.unique(only.texel)) == len(torch.unique(texels.texel))


def test_faces_without_area_show_themselves_where_they_point():
    palette = np.array([[0.1, 0.1], [1.6, -0.4]], np.float32)  # a palette: each face is one texel's colour
    uvs = Corners(palette, np.array([[0, 0, 0], [1, 1, 1]], np.int32))
    texels = rasterize_layout(uvs, (4, 4))
    assert sorted(set(zip(texels.texel.tolist(), texels.triangle.tolist(), strict=True))) == [(0, 0), (10, 1)]


@pytest.mark.parametrize("wrong", [np.nan, np.inf, 1e30])
def test_layout_with_uvs_that_are_none_is_refused(wrong):
    uvs = _quad((0, 0), (1, wrong))
    with pytest.raises(StspbrError, match="NaN"):
        rasterize_layout(uvs, (4, 4))
