"""UV charts by xatlas, packed so that they fit one square texture with a padding counted in its texels."""

from __future__ import annotations

import numpy as np

from stspbr.errors import StspbrError
from stspbr.scene import Corners

MAX_FACES = 60_000  # xatlas' time grows faster than the face count: noisy meshes of 200k faces take hours
_PACKING_ROUNDS = 8


def unwrap(
    positions: np.ndarray,
    faces: np.ndarray,
    resolution: int,
    padding_px: int = 4,
    max_faces: int = MAX_FACES,
    chart_iterations: int = 2,
) -> Corners[np.ndarray]:
    """Unwrap a mesh into non-overlapping charts within one square.

    Args:
        positions: ``[V, 3]``; faces: ``[F, 3]``, clean (see ``cleanup.clean``).
        resolution: side of the texture in texels that the padding refers to.
        padding_px: texels left free between charts at that resolution, and half as many along the border.
        max_faces: the budget; a limit by work and not by the clock, so that results do not depend on the machine.
        chart_iterations: how often xatlas improves its charts; more gives fewer seams and takes longer.

    Returns:
        UVs ``[T, 2]`` float32 in [0, 1], glTF's convention (row 0 of the image is v = 0), charts not mirrored.
        Faces too thin for xatlas get UVs along a neighbour's edge.

    Raises:
        StspbrError: no faces, more than the budget, or charts that cannot fit.
    """
    import xatlas

    faces = np.ascontiguousarray(faces, dtype=np.int64)
    if len(faces) == 0:
        raise StspbrError("cannot unwrap a mesh without faces")
    if len(faces) > max_faces:
        raise StspbrError(
            f"the mesh has {len(faces)} faces and unwrapping takes at most {max_faces}: simplify it first "
            f"(target_faces), or raise max_faces and be patient"
        )
    points = np.asarray(positions, dtype=np.float64)
    edge = np.linalg.norm(points[faces] - points[np.roll(faces, 1, axis=1)], axis=-1).mean()
    points = (points - points[faces].min(axis=(0, 1))) / max(edge, 1e-30)  # xatlas' thresholds are absolute
    atlas = xatlas.Atlas()
    atlas.add_mesh(np.ascontiguousarray(points, dtype=np.float32), faces.astype(np.uint32))
    for cost, padding in [(2.0, padding_px), (8.0, padding_px), (32.0, padding_px), (32.0, (padding_px + 1) // 2)]:
        if _pack(atlas, resolution, padding, cost, chart_iterations):
            break
    else:
        raise StspbrError(
            f"{atlas.chart_count} charts with a padding of {padding} texels do not fit {resolution}²: "
            "take a larger texture (texture_resolution) or fewer faces (target_faces)"
        )
    _, uv_faces, uvs = atlas.get_mesh(0)
    texels = np.asarray(uvs, dtype=np.float64) * [atlas.width, atlas.height]
    uv_faces = np.asarray(uv_faces, dtype=np.int64)
    # xatlas counts rows upwards for a counter-clockwise chart; images count them downwards.
    texels[:, 1] = atlas.height - texels[:, 1]
    uvs = np.clip((texels + 0.5 * padding) / resolution, 0.0, 1.0).astype(np.float32)
    return Corners(uvs, _adopt_unassigned(faces, uvs, uv_faces).astype(np.int32))


def _pack(atlas, resolution: int, padding: int, cost: float, chart_iterations: int) -> bool:  # noqa: ANN001
    """Chart and pack; whether it all fits one square. A higher ``cost`` allows larger, more distorted charts."""
    import xatlas

    charts, packing = xatlas.ChartOptions(), xatlas.PackOptions()
    charts.max_iterations, charts.max_cost = chart_iterations, cost
    room = resolution - padding  # half the padding stays free at the square's border: textures repeat
    packing.resolution, packing.padding = max(room, 1), padding
    packing.rotate_charts = False  # xatlas "rotates" by swapping the axes, which mirrors the chart
    for _ in range(_PACKING_ROUNDS):
        atlas.generate(charts, packing)
        size = max(atlas.width, atlas.height)
        if atlas.atlas_count == 1 and size <= room:
            return True
        if atlas.chart_count * (3 * padding) ** 2 > resolution**2:
            return False  # so many charts that their paddings alone nearly fill it: shrinking takes long and fails
        # With a density given, xatlas makes one atlas as large as it needs: shrink until that is small enough.
        shrink = min(0.99, 0.98 * (room - padding) / max(size - padding, 1))
        packing.texels_per_unit = atlas.texels_per_unit * max(shrink, 0.25)
        packing.resolution = 0
    return False


def _adopt_unassigned(faces: np.ndarray, uvs: np.ndarray, uv_faces: np.ndarray) -> np.ndarray:
    """Give faces without area in UV space the texels of a neighbour's edge, so that they sample the surface."""
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
