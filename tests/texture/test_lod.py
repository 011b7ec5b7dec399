"""Levels of detail: every corner is one of the full mesh's, seams and borders hold, and the picture stays."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from stspbr.errors import StspbrError
from stspbr.geometry.tangents import with_frames
from stspbr.geometry.topology import mesh_report
from stspbr.procedural.jar import demo_asset
from stspbr.scene import Corners, Mesh
from stspbr.stages.lod_error import lod_psnr
from stspbr.texture.lod import simplify_textured


def jar() -> Mesh:
    """Two materials with a border around the belly, MikkTSpace frames, a UV seam down the back."""
    mesh = demo_asset(16, around=40, along=40).mesh
    low = mesh.positions[mesh.faces][..., 1].mean(axis=1) < 0.0
    return with_frames(replace(mesh, tangents=None, face_material=low.astype(np.int32)))


def corner_rows(mesh: Mesh) -> np.ndarray:
    """``[F, 3, 12]`` everything that a corner has."""
    return np.concatenate(
        [
            mesh.positions[mesh.faces],
            mesh.uvs.values[mesh.uvs.index],
            mesh.normals.values[mesh.normals.index],
            mesh.tangents.values[mesh.tangents.index],
        ],
        axis=-1,
    )


@pytest.fixture(scope="module")
def full():
    return jar()


@pytest.fixture(scope="module")
def half(full):
    return simplify_textured(full, 1500)


def test_corners_are_rows_of_the_full_mesh_and_budgets_are_kept(full, half):
    assert len(full.faces) > 3000 and 1400 < len(half.faces) <= 1500
    known = {row.tobytes() for row in corner_rows(full).reshape(-1, 12)}
    assert {row.tobytes() for row in corner_rows(half).reshape(-1, 12)} <= known
    # A corner's material is that of a full face that has this corner.
    pairs = {
        (row.tobytes(), int(owner))
        for rows, owner in zip(corner_rows(full), full.face_material, strict=True)
        for row in rows
    }
    for rows, owner in zip(corner_rows(half), half.face_material, strict=True):
        assert all((row.tobytes(), int(owner)) in pairs for row in rows)


def test_the_surface_stays_closed_and_nothing_turns_over(full, half):
    report = mesh_report(half.positions, half.faces)
    assert (report["boundary_edges"], report["non_manifold_edges"], report["flipped_edges"]) == (0, 0, 0)

    def uv_areas(mesh):
        coords = mesh.uvs.values[mesh.uvs.index].astype(np.float64)
        first, second = coords[:, 1] - coords[:, 0], coords[:, 2] - coords[:, 0]
        return first[:, 0] * second[:, 1] - first[:, 1] * second[:, 0]

    assert (uv_areas(half) < 0).all()  # as in the full mesh: no chart is folded, none wraps around the seam
    assert uv_areas(half).sum() == pytest.approx(uv_areas(full).sum(), rel=0.03)


def test_the_border_between_materials_stays_where_it_is(full, half):
    def border(mesh):
        ends = np.sort(np.stack([mesh.faces, np.roll(mesh.faces, -1, axis=1)], -1).reshape(-1, 2), axis=1)
        edges, edge = np.unique(ends, axis=0, return_inverse=True)
        owners = np.zeros((len(edges), 2), bool)
        owners[edge.reshape(-1), np.repeat(mesh.face_material, 3)] = True
        return mesh.positions[edges[owners.all(axis=1)]]

    before, after = border(full), border(half)
    assert 4 < len(after) <= len(before)
    heights = np.unique(before[..., 1].round(5))
    assert len(heights) == 1 and np.unique(after[..., 1].round(5)) == heights


@pytest.mark.slow
def test_the_picture_stays(full):
    asset = demo_asset(64)
    asset.mesh = with_frames(asset.mesh)
    levels = [replace(asset, mesh=simplify_textured(asset.mesh, count)) for count in (6000, 3000)]
    same, fine, coarse = lod_psnr(asset, [asset, *levels])
    assert same == float("inf") and fine > 34 and coarse > 26 and fine > coarse


def test_the_same_mesh_gives_the_same_level_and_a_small_one_comes_back(full, half):
    again = simplify_textured(full, 1500)
    for name in ("positions", "faces", "face_material"):
        np.testing.assert_array_equal(getattr(again, name), getattr(half, name))
    for (_, a), (_, b) in zip(again.attributes(), half.attributes(), strict=True):
        np.testing.assert_array_equal(a.values, b.values)
        np.testing.assert_array_equal(a.index, b.index)
    assert simplify_textured(full, len(full.faces)) is full


def test_corners_where_seams_meet_stay_so_the_budget_may_be_missed():
    """A cube of six charts with hard edges: each of its vertices is needed."""
    corner = np.array([[x, y, z] for x in (0, 1) for y in (0, 1) for z in (0, 1)], np.float32)
    quads = np.array([[0, 1, 3, 2], [4, 6, 7, 5], [0, 4, 5, 1], [2, 3, 7, 6], [0, 2, 6, 4], [1, 5, 7, 3]])
    faces = quads[:, [0, 1, 2, 0, 2, 3]].reshape(-1, 3).astype(np.int32)
    own = (np.repeat(np.arange(6) * 4, 2)[:, None] + np.tile([[0, 1, 2], [0, 2, 3]], (6, 1))).astype(np.int32)
    uvs = np.random.default_rng(0).random((24, 2)).astype(np.float32)
    out = simplify_textured(Mesh(corner, faces, Corners(uvs, own)), 4)
    assert len(out.faces) == 12


def test_without_uvs_and_on_an_open_sheet():
    side = 12
    y, x = np.mgrid[0:side, 0:side].astype(np.float32)
    points = np.stack([x, y, np.zeros_like(x)], -1).reshape(-1, 3)
    first = (np.arange(side - 1)[:, None] * side + np.arange(side - 1)).reshape(-1)
    faces = np.concatenate(
        [np.stack([first, first + 1, first + side], 1), np.stack([first + 1, first + side + 1, first + side], 1)]
    ).astype(np.int32)
    out = simplify_textured(Mesh(points, faces), 4)
    area = np.cross(*(out.positions[out.faces][:, k] - out.positions[out.faces][:, 0] for k in (1, 2)))[:, 2]
    assert len(out.faces) < 40 and (area > 0).all() and area.sum() == pytest.approx(2 * (side - 1) ** 2)


def test_a_budget_of_nothing_is_refused(full):
    with pytest.raises(StspbrError, match="at least 4"):
        simplify_textured(full, 3)
