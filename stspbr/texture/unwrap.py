"""UV charts by xatlas, packed into one square texture."""

from __future__ import annotations

import numpy as np

from stspbr.errors import StspbrError
from stspbr.geometry.topology import connected
from stspbr.scene import Corners
from stspbr.texture.packing import pack

MAX_FACES = 60_000  # xatlas' time grows faster than the face count: noisy meshes of 200k faces take hours
_COSTS = (2.0, 8.0, 32.0)  # higher ones allow larger, more distorted charts


def unwrap(
    positions: np.ndarray,
    faces: np.ndarray,
    resolution: int,
    padding_px: int = 4,
    max_faces: int = MAX_FACES,
    chart_iterations: int = 2,
    normals: Corners[np.ndarray] | None = None,
) -> Corners[np.ndarray]:
    """Unwrap a mesh into non-overlapping charts within one square.

    Args:
        positions: ``[V, 3]``; faces: ``[F, 3]``, clean (see ``cleanup.clean``).
        resolution: side of the texture in texels that the padding refers to.
        padding_px: free texels between charts at that resolution, and half as many along the border.
        max_faces: a limit of work instead of time, so that results do not depend on the machine.
        chart_iterations: how often xatlas improves its charts; more gives fewer seams and takes longer.
        normals: where they are split, charts end; None: nowhere.

    Returns:
        UVs ``[T, 2]`` float32 in [0, 1], glTF's convention (row 0 of the image is v = 0), charts not mirrored.
        Faces too thin for xatlas get UVs along a neighbour's edge.

    Raises:
        StspbrError: no faces, more than ``max_faces``, or charts that cannot fit.
    """
    import xatlas

    faces = np.ascontiguousarray(faces, dtype=np.int64)
    if len(faces) == 0:
        raise StspbrError("cannot unwrap a mesh without faces")
    if len(faces) > max_faces:
        raise StspbrError(
            f"the mesh has {len(faces)} faces, but unwrapping takes at most {max_faces}: simplify it first "
            f"(target_faces), or raise max_faces and be patient"
        )
    points = np.asarray(positions, dtype=np.float64)
    edge = np.linalg.norm(points[faces] - points[np.roll(faces, 1, axis=1)], axis=-1).mean()
    points = (points - points[faces].min(axis=(0, 1))) / max(edge, 1e-30)  # xatlas' thresholds are absolute
    atlas = xatlas.Atlas()
    charts, quick = xatlas.ChartOptions(), xatlas.PackOptions()
    if normals is None:
        atlas.add_mesh(np.ascontiguousarray(points, dtype=np.float32), faces.astype(np.uint32))
    else:
        rows, split = np.unique(np.stack([faces, normals.index], -1).reshape(-1, 2), axis=0, return_inverse=True)
        atlas.add_mesh(
            np.ascontiguousarray(points[rows[:, 0]], dtype=np.float32),
            split.reshape(-1, 3).astype(np.uint32),
            np.ascontiguousarray(normals.values[rows[:, 1]], dtype=np.float32),
        )
        charts.normal_seam_weight = 2000.0  # above 1000: xatlas never crosses them
    charts.max_iterations = chart_iterations
    quick.resolution, quick.texels_per_unit, quick.rotate_charts = 0, 1.0, False  # the axes swapped: a mirrored chart
    for cost in _COSTS:
        charts.max_cost = cost
        atlas.generate(charts, quick)
        if atlas.chart_count * (2 * padding_px) ** 2 < resolution**2:
            break
    _, uv_faces, uvs = atlas.get_mesh(0)
    uvs = np.asarray(uvs, np.float64) * [atlas.width, atlas.height]
    uv_faces = np.asarray(uv_faces, dtype=np.int64)
    packed = pack(points[faces], uv_faces, uvs, resolution, padding_px)
    # xatlas counts rows upwards for a counter-clockwise chart; images count them downwards.
    texels = packed.texels * [1.0, -1.0] + [0.0, resolution]
    uvs = np.clip(texels / resolution, 0.0, 1.0).astype(np.float32)
    return Corners(uvs, _adopt_unassigned(faces, uvs, uv_faces).astype(np.int32))


def atlas_report(uvs: Corners[np.ndarray], resolution: int) -> dict:
    """``charts`` and ``fill`` (share of the square inside of triangles) of an atlas without overlaps, for JSON."""
    start, end = uvs.index[:, :2].reshape(-1), uvs.index[:, 1:].reshape(-1)
    label = connected(start, end, len(uvs.values))[1]
    fill = 0.5 * float(np.abs(_uv_areas(uvs.values, uvs.index)).sum())
    return {"charts": len(np.unique(label[uvs.index[:, 0]])), "fill": fill, "texels": round(fill * resolution**2)}


def _adopt_unassigned(faces: np.ndarray, uvs: np.ndarray, uv_faces: np.ndarray) -> np.ndarray:
    """Give faces without area in UV space the UVs of a neighbour's edge, so that they sample the surface."""
    uv_faces = uv_faces.copy()
    pending = [int(f) for f in np.nonzero(_uv_areas(uvs, uv_faces) == 0)[0]]
    touching: dict[int, list[int]] = {}
    near = np.isin(faces, faces[pending]).any(axis=1)
    for close in np.nonzero(near)[0].tolist():
        for vertex in faces[close].tolist():
            touching.setdefault(vertex, []).append(close)
    waiting = set(pending)
    while pending:
        left: list[int] = []
        for face in pending:
            corners = faces[face].tolist()
            others = {g for vertex in corners for g in touching[vertex]} - waiting
            shared = [(len(set(corners) & set(faces[g].tolist())), -g) for g in others]
            if not shared:
                left.append(face)
                continue
            neighbour = -max(shared)[1]
            uv_of = dict(zip(faces[neighbour].tolist(), uv_faces[neighbour].tolist(), strict=True))
            fallback = next(uv_of[vertex] for vertex in corners if vertex in uv_of)
            uv_faces[face] = [uv_of.get(vertex, fallback) for vertex in corners]
            waiting.discard(face)
        if len(left) == len(pending):
            break  # an island of faces without area: nothing to sample
        pending = left
    return uv_faces


def _uv_areas(uvs: np.ndarray, uv_faces: np.ndarray) -> np.ndarray:
    a, b, c = (uvs[uv_faces[:, k]].astype(np.float64) for k in range(3))
    return (b - a)[:, 0] * (c - a)[:, 1] - (b - a)[:, 1] * (c - a)[:, 0]
