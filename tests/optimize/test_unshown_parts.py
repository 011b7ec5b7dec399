"""Parts that no mask shows go; parts that one does, and surfaces of masks that are known everywhere, stay."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from stspbr.optimize.unshown_parts import without_unshown
from stspbr.optimize.views import ViewSet
from stspbr.render.backend import get_backend
from stspbr.render.gbuffer import Surface
from stspbr.scene import Camera, Corners, Frame, Mesh, look_at

CPU = torch.device("cpu")
CENTRES = np.array([[-0.3, 0.0, 0.0], [0.6, 0.0, 0.0]])


def two_boxes() -> Mesh:
    corners = np.array([[x, y, z] for x in (-1, 1) for y in (-1, 1) for z in (-1, 1)], np.float32)
    quads = [(0, 1, 3, 2), (4, 6, 7, 5), (0, 4, 5, 1), (2, 3, 7, 6), (0, 2, 6, 4), (1, 5, 7, 3)]
    faces = np.array([tri for a, b, c, d in quads for tri in ((a, b, c), (a, c, d))], np.int32)
    positions = np.concatenate([0.3 * corners + CENTRES[0], 0.12 * corners + CENTRES[1]]).astype(np.float32)
    return Mesh(positions, np.concatenate([faces, faces + 8]))


def problem(shown: int, unknown: bool) -> SimpleNamespace:
    """Six views from the front; the first ``shown`` of them have the small box in their masks, too."""
    size, frames = 48, []
    for k in range(6):
        camera = Camera(look_at((0.2 * k - 0.5, 0.3, 3.0), (0, 0, 0)), 60.0, 60.0, size / 2, size / 2, size, size)
        alpha = np.zeros((size, size, 1), np.float32)
        known = np.ones_like(alpha)
        for box, (centre, half) in enumerate(zip(CENTRES, (0.35, 0.16), strict=True)):
            local = camera.world_to_camera @ np.append(centre, 1.0)
            x, y = (camera.cx - 60 * local[0] / local[2], camera.cy + 60 * local[1] / local[2])
            reach = 60 * half / -local[2]
            part = slice(int(y - reach), int(y + reach) + 1), slice(int(x - reach), int(x + reach) + 1)
            (alpha if box == 0 or k < shown else known)[part] = float(box == 0 or k < shown)
        frame = Frame(f"view_{k}", camera, np.repeat(alpha, 3, axis=2), alpha, np.eye(4))
        frames.append(replace(frame, known=known) if unknown else frame)
    mesh = two_boxes()
    positions, faces = torch.from_numpy(mesh.positions), torch.from_numpy(mesh.faces)
    surface = Surface(positions, faces, Corners(torch.nn.functional.normalize(positions, dim=1), faces))
    return SimpleNamespace(
        views=ViewSet(frames, 1, CPU),
        geometry=SimpleNamespace(surface=lambda: surface),
        backend=get_backend("cpu", CPU),
        seen=lambda views, ids: views,
    )


@pytest.mark.parametrize(("shown", "unknown", "parts"), [(0, True, 1), (1, True, 2), (0, False, 2)])
def test_only_what_no_mask_shows_goes(shown, unknown, parts):
    mesh, dropped = without_unshown(problem(shown, unknown), two_boxes())  # type: ignore[arg-type]
    assert len(mesh.faces) == 12 * parts and dropped == 2 - parts
    assert len(mesh.positions) == 8 * parts and (mesh.positions[:8] == two_boxes().positions[:8]).all()
