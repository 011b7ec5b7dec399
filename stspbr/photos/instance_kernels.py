"""Numba kernel that draws points with depth."""

from __future__ import annotations

from stspbr.kernel_cache import kernel


@kernel()
def draw_points(points, values, normals, pose, fx, fy, cx, cy, cell, depth, out):
    """Draw ``points [P, 3]`` that face the camera as squares of side ``cell``, the nearest in front.

    ``pose [3, 4]`` leads to the camera's OpenGL axes. ``depth [h, w]`` starts at infinity; ``out [h, w]`` takes the
    ``values [P]``.
    """
    height, width = depth.shape
    for p in range(points.shape[0]):
        px, py, pz = points[p, 0], points[p, 1], points[p, 2]
        x = pose[0, 0] * px + pose[0, 1] * py + pose[0, 2] * pz + pose[0, 3]
        y = pose[1, 0] * px + pose[1, 1] * py + pose[1, 2] * pz + pose[1, 3]
        z = -(pose[2, 0] * px + pose[2, 1] * py + pose[2, 2] * pz + pose[2, 3])
        if z <= 1e-6:
            continue
        nx = pose[0, 0] * normals[p, 0] + pose[0, 1] * normals[p, 1] + pose[0, 2] * normals[p, 2]
        ny = pose[1, 0] * normals[p, 0] + pose[1, 1] * normals[p, 1] + pose[1, 2] * normals[p, 2]
        nz = pose[2, 0] * normals[p, 0] + pose[2, 1] * normals[p, 1] + pose[2, 2] * normals[p, 2]
        if nx * x + ny * y - nz * z > 0.0:
            continue
        column, row = cx + fx * x / z, cy - fy * y / z
        half = 0.5 * cell * fx / z
        left, right = int(max(column - half, 0.0)), int(min(column + half, width - 1.0))
        top, bottom = int(max(row - half, 0.0)), int(min(row + half, height - 1.0))
        if column + half < 0.0 or row + half < 0.0:
            continue
        for i in range(top, bottom + 1):
            for j in range(left, right + 1):
                if z < depth[i, j]:
                    depth[i, j] = z
                    out[i, j] = values[p]
