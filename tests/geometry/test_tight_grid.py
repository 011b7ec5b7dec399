"""The grid in the tight box of tall, flat and cubic objects."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from stspbr.geometry.dmtet import DMTet
from stspbr.geometry.tet_grid import grid_cells, tet_grid, tight_grid
from stspbr.geometry.topology import mesh_report
from stspbr.geometry.visual_hull import estimate_box, visual_hull_sdf
from stspbr.scene import Camera, Frame, Normalization, look_at
from stspbr.scene.capture import Capture

SHAPES = {
    "cube": (1.0, 1.0, 1.0),
    "tall": (0.33, 1.0, 0.33),
    "plate": (1.0, 0.02, 1.0),
    "pole": (0.02, 0.02, 1.0),
    "brick": (1.0, 0.6, 0.5),
}


@pytest.mark.parametrize("resolution", [16, 40, 64, 128])
@pytest.mark.parametrize("name", list(SHAPES))
def test_cells_are_cubic_and_as_many_as_the_cubes(name, resolution):
    extent = np.array(SHAPES[name])
    finer, half = tight_grid(resolution, 3.0 * extent, DMTet.per_cell)
    cells, cube = (
        grid_cells(finer, -half, half, DMTet.per_cell),
        grid_cells(resolution, -np.ones(3), np.ones(3), DMTet.per_cell),
    )
    assert half.max() == 1.0 and finer >= resolution
    np.testing.assert_allclose(2.0 * half / cells, 2.0 / cells.max(), rtol=1e-12)  # whole cubic cells
    assert 0.65 * cube.prod() < cells.prod() <= cube.prod()
    cell = 2.0 / finer
    free = half - extent / extent.max()
    assert (free[half < 1.0] > 1.9 * cell).all() and (2.0 * half > 8.0 * cell).all()
    if name in ("tall", "plate", "pole") and resolution >= 40:
        assert finer > 1.35 * resolution


def test_a_cube_and_a_near_cube_keep_their_grid_bit_for_bit():
    for extent in ((2.0, 2.0, 2.0), (0.95, 1.0, 0.91)):
        resolution, half = tight_grid(64, np.array(extent), DMTet.per_cell)
        old = tet_grid(64, np.full(3, -1.0), np.full(3, 1.0))
        assert resolution == 64
        for a, b in zip(tet_grid(resolution, -half, half), old, strict=True):
            np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("name", ["cube", "tall", "plate"])
def test_extraction_is_watertight_at_the_bounds(name):
    resolution, half = tight_grid(24, np.array(SHAPES[name]), DMTet.per_cell)
    geometry = DMTet(resolution, -half, half, torch.Generator().manual_seed(0))
    noise = np.random.default_rng(1).standard_normal(len(geometry.sdf))
    for values in (noise, np.full(len(noise), -0.3)):
        with torch.no_grad():
            geometry.sdf.copy_(torch.from_numpy(values.astype(np.float32)))
            positions, faces = (x.numpy() for x in geometry.extract())
        assert mesh_report(positions, faces)["watertight"]
        assert (np.abs(positions) < half + 0.5 * geometry.cell).all()
    geometry.init_sphere(0.7)
    report = mesh_report(*(x.detach().numpy() for x in geometry.extract()))
    assert report["watertight"] and (report["genus"], report["components"]) == (0, 1)
    assert report["volume"] == pytest.approx(4 / 3 * np.pi * 0.7**3 * half.prod(), rel=0.25)


@pytest.mark.parametrize("name", list(SHAPES))
def test_the_hull_starts_inside(name):
    extent = np.array(SHAPES[name])
    capture = Capture(_frames(0.4 * extent))
    low, high = estimate_box(capture.frames, margin=0.0)
    normalization = Normalization(0.5 * (low + high), float(0.55 * (high - low).max()))
    resolution, half = tight_grid(40, high - low, DMTet.per_cell)
    geometry = DMTet(resolution, -half, half)
    geometry.init_sdf(visual_hull_sdf(geometry.grid.numpy(), normalization.capture(capture).frames))
    positions, faces = (x.detach().numpy() for x in geometry.extract())
    report = mesh_report(positions, faces)
    assert report["watertight"] and report["components"] == 1
    found = np.ptp(positions, axis=0) * normalization.scale
    pixel = 2.5 / 180.0
    assert (found > 0.8 * extent - 2 * pixel).all() and (
        found < 0.9 * extent + 4 * pixel
    ).all()  # the hull of few views
    assert (np.abs(positions) < half - 0.5 * geometry.cell).all()  # nothing is cut off by the box


def _frames(half: np.ndarray, count: int = 24, size: int = 128) -> list[Frame]:
    """Exact masks of a box around the origin."""
    frames = []
    for k in range(count):
        y = 1 - 2 * (k + 0.5) / count
        angle, s = k * np.pi * (3 - np.sqrt(5)), np.sqrt(1 - y * y)
        camera = Camera(look_at(2.5 * np.array([s * np.cos(angle), y, s * np.sin(angle)]), (0, 0, 0)),
                        180.0, 180.0, size / 2, size / 2, size, size)  # fmt: skip
        rows, columns = np.mgrid[:size, :size] + 0.5
        local = np.stack([(columns - camera.cx) / camera.fx, -(rows - camera.cy) / camera.fy, -np.ones_like(rows)], -1)
        ray, eye = local @ camera.camera_to_world[:3, :3].T, camera.camera_to_world[:3, 3]
        ends = np.sort(np.stack([(-half - eye) / ray, (half - eye) / ray]), axis=0)
        alpha = (ends[0].max(-1) < ends[1].min(-1)).astype(np.float32)[..., None]
        frames.append(Frame(f"view_{k}", camera, np.repeat(alpha, 3, axis=2), alpha, np.eye(4)))
    return frames
