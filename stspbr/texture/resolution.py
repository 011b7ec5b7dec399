"""How fine maps must be for the views that they are made from."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from stspbr.scene.attributes import smooth_normals
from stspbr.scene.camera import Camera
from stspbr.scene.mesh import Mesh

SMALLEST, LARGEST, STEP = 128, 8192, 64
_FILL = 0.65  # of the maps shows the surface
_SEEN = 0.02  # of the surface that a view must see to count


def resolution_of_views(mesh: Mesh, cameras: Sequence[Camera], poses: Sequence[np.ndarray]) -> tuple[int, str]:
    """The side of square maps with about one texel per pixel of the closest view, and the reason in words.

    A view's pixel is as large as at the median of the surface that it sees; parts that hide others are not noticed.

    Args:
        mesh: the surface that the maps cover; cameras, poses: the views and their ``object_to_world``.

    Returns:
        A multiple of 64 from 128 to 8192.
    """
    points, faces = np.asarray(mesh.positions, np.float64), mesh.faces
    normals = smooth_normals(mesh.positions, faces).astype(np.float64)
    corners = points[faces]
    doubled = np.linalg.norm(np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]), axis=1)
    area = np.bincount(faces.reshape(-1), np.repeat(doubled / 6.0, 3), len(points))
    smallest, closest = np.inf, -1
    for number, (camera, pose) in enumerate(zip(cameras, poses, strict=True)):
        pose = np.asarray(pose, np.float64)
        to_camera = camera.world_to_camera @ pose
        eye = np.linalg.solve(pose, np.append(camera.position, 1.0))[:3]
        clip = camera.clip_from_object(pose)
        projected = points @ clip[:, :3].T + clip[:, 3]
        seen = (np.abs(projected[:, :3]) <= projected[:, 3:]).all(axis=1)
        seen &= np.einsum("nk,nk->n", eye - points, normals) > 0
        if area[seen].sum() < _SEEN * area.sum() or area[seen].sum() <= 0:
            continue
        depth = np.abs(points[seen] @ to_camera[2, :3] + to_camera[2, 3])
        order = np.argsort(depth, kind="stable")
        share = np.cumsum(area[seen][order])
        middle = depth[order][np.searchsorted(share, 0.5 * share[-1])]
        unit = np.cbrt(abs(np.linalg.det(to_camera[:3, :3])))  # a pose may scale: world units per object unit
        pixel = middle / np.sqrt(camera.fx * camera.fy) / unit
        if pixel < smallest:
            smallest, closest = float(pixel), number
    if closest < 0:
        return 1024, "no view sees enough of the surface to tell"
    side = np.sqrt(area.sum() / _FILL) / smallest
    chosen = int(np.clip(np.ceil(side / STEP) * STEP, SMALLEST, LARGEST))
    limit = f", limited to {LARGEST}" if side > LARGEST else ""
    why = (
        f"view {closest} is the closest, with {np.sqrt(area.sum()) / smallest:.0f}² pixels for the whole surface{limit}"
    )
    return chosen, why
