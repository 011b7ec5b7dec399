"""Prepare an optimised mesh for unwrapping: one outer surface, no specks, as few faces as it needs."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy.spatial import cKDTree

from stspbr.errors import StspbrError
from stspbr.geometry.intersections import untangled
from stspbr.geometry.topology import connected, face_components, keep_faces, mesh_report, remove_small_components

_SHELL_SAMPLES = 16
_WELD_FRACTION = 1e-6  # of the mesh's diagonal


def clean(
    positions: np.ndarray,
    faces: np.ndarray,
    target_faces: int | None = None,
    floater_fraction: float = 0.01,
    remove_interior: bool = True,
) -> tuple[np.ndarray, np.ndarray, dict]:
    """Weld, drop degenerate faces, floaters and hidden shells, simplify; what is simplified is untangled, too.

    Args:
        positions: ``[V, 3]``; faces: ``[F, 3]``.
        target_faces: simplify to about this many if there are more; None: leave all.
        floater_fraction: drop components with less than this share of the largest one's area.
        remove_interior: whether to drop components inside another one, which no camera sees.

    Returns:
        ``positions [V', 3]`` float32, ``faces [F', 3]`` int32, and a report that JSON can hold: what each step
        removed, and ``mesh_report`` ``before`` and ``after``.

    Raises:
        StspbrError: positions that are not finite, or no face left.
    """
    positions, faces = np.asarray(positions, dtype=np.float32), np.asarray(faces, dtype=np.int32)
    if not np.isfinite(positions).all():
        raise StspbrError("the mesh has vertices that are NaN or infinite: clean or export it again")
    report: dict[str, Any] = {"before": mesh_report(positions, faces)}
    positions, faces, report["welded_vertices"] = weld(positions, faces)
    positions, faces, report["degenerate_faces"] = remove_degenerate(positions, faces)
    positions, faces, report["floaters"] = remove_floaters(positions, faces, floater_fraction)
    report["interior_shells"] = 0
    if remove_interior:
        positions, faces, report["interior_shells"] = remove_interior_shells(positions, faces)
    if len(faces) == 0:
        raise StspbrError("the mesh is empty after clean-up: the coarse stage found no surface")
    report["simplified_faces"] = 0
    if target_faces is not None and len(faces) > target_faces:
        before = len(faces)
        positions, tangled, _ = untangled(positions, faces)
        positions, faces = simplify(positions.astype(np.float32), faces, target_faces)
        found, made, left = untangled(positions, faces)
        positions = found.astype(np.float32) if made else positions
        report["simplified_faces"] = before - len(faces)
        report["intersections"] = {"before": tangled, "after_simplifying": made, "untangled": left}
    report["after"] = mesh_report(positions, faces)
    return positions, faces, report


def weld(
    positions: np.ndarray, faces: np.ndarray, tolerance: float | None = None
) -> tuple[np.ndarray, np.ndarray, int]:
    """Merge vertices closer than ``tolerance`` (None: a millionth of the diagonal), each into the first of its group.

    Returns:
        Positions, faces (some may be degenerate now), and the number of removed vertices.
    """
    used = np.unique(faces)
    if len(used) == 0:
        return positions[:0], faces, 0
    if tolerance is None:
        tolerance = _WELD_FRACTION * float(np.linalg.norm(np.ptp(positions[used], axis=0)))
    pairs = cKDTree(positions).query_pairs(tolerance, output_type="ndarray")
    _, group = connected(pairs[:, 0], pairs[:, 1], len(positions))
    _, first = np.unique(group, return_index=True)
    faces = first[group][faces].astype(np.int32)
    positions, faces = keep_faces(positions, faces, np.ones(len(faces), dtype=bool))
    return positions, faces, len(used) - len(positions)


def remove_degenerate(positions: np.ndarray, faces: np.ndarray) -> tuple[np.ndarray, np.ndarray, int]:
    """Drop faces that repeat a vertex, and faces on the same three vertices: all but one, or all if they cancel.

    Slivers stay: without them the surface would have holes.

    Returns:
        Positions, faces, and the number of removed faces.
    """
    distinct = ~(faces == np.roll(faces, 1, axis=1)).any(axis=1)
    index = np.nonzero(distinct)[0]
    corners = faces[index].astype(np.int64)
    turn = _winding(corners)
    _, group = np.unique(np.sort(corners, axis=1), axis=0, return_inverse=True)
    group = group.reshape(-1)
    net = np.sign(np.bincount(group, weights=turn))
    candidates = np.nonzero((turn == net[group]) & (net[group] != 0))[0]
    _, first = np.unique(group[candidates], return_index=True)
    keep = np.zeros(len(faces), dtype=bool)
    keep[index[candidates[first]]] = True
    removed = int(len(faces) - keep.sum())
    if removed == 0:
        return positions, faces, 0
    return *keep_faces(positions, faces, keep), removed


def remove_floaters(positions: np.ndarray, faces: np.ndarray, fraction: float) -> tuple[np.ndarray, np.ndarray, int]:
    """Drop components with less than ``fraction`` of the largest one's area; also returns their number."""
    before = len(np.unique(face_components(faces)))
    positions, faces = remove_small_components(positions, faces, fraction)
    return positions, faces, before - len(np.unique(face_components(faces)))


def remove_interior_shells(positions: np.ndarray, faces: np.ndarray) -> tuple[np.ndarray, np.ndarray, int]:
    """Drop components that are wholly inside another one (cavities and solids); also returns their number.

    The winding number around a few vertices of a component decides (Jacobson et al. 2013).
    """
    from igl import winding_number

    component = face_components(faces)
    labels = np.unique(component)
    hidden = []
    points = np.asarray(positions, dtype=np.float64)
    shells = [np.asarray(faces[component == c], np.int64) for c in labels]
    boxes = [(points[shell].min(axis=(0, 1)), points[shell].max(axis=(0, 1))) for shell in shells]
    for inner in labels:
        vertices = np.unique(shells[inner])
        samples = points[vertices[np.linspace(0, len(vertices) - 1, _SHELL_SAMPLES).astype(np.int64)]]
        for outer in labels:
            (low, high), (inner_low, inner_high) = boxes[outer], boxes[inner]
            if outer == inner or np.any(inner_low < low) or np.any(inner_high > high):
                continue
            if np.all(np.abs(winding_number(points, shells[outer], samples)) > 0.5):
                hidden.append(inner)
                break
    if not hidden:
        return positions, faces, 0
    return *keep_faces(positions, faces, ~np.isin(component, hidden)), len(hidden)


def simplify(positions: np.ndarray, faces: np.ndarray, target_faces: int) -> tuple[np.ndarray, np.ndarray]:
    """Collapse edges by quadric error (Garland and Heckbert 1997) until about ``target_faces`` are left.

    The boundary stays. If collapsing makes a manifold mesh non-manifold, fewer edges are collapsed; if that does not
    help, the mesh is returned unchanged.

    Raises:
        StspbrError: ``target_faces`` below 4.
    """
    import fast_simplification

    if target_faces < 4:
        raise StspbrError(f"target_faces is {target_faces}: give at least 4")
    if len(faces) <= target_faces:
        return positions, faces
    before = _defects(positions, faces)
    target = target_faces
    while target < len(faces):
        points, triangles = fast_simplification.simplify(
            np.ascontiguousarray(positions, dtype=np.float64),
            np.ascontiguousarray(faces, dtype=np.int64),
            target_count=target,
            agg=5,
        )
        points, triangles = keep_faces(points.astype(np.float32), triangles, np.ones(len(triangles), dtype=bool))
        points, triangles, _ = remove_degenerate(points, triangles)
        if len(triangles) and all(a <= b for a, b in zip(_defects(points, triangles), before, strict=True)):
            return points, triangles
        target = target + max(1, (len(faces) - target) // 4)
    return positions, faces


def _defects(positions: np.ndarray, faces: np.ndarray) -> tuple[int, int, int, int]:
    report = mesh_report(positions, faces)
    names = ("boundary_edges", "non_manifold_edges", "flipped_edges", "non_manifold_vertices")
    return tuple(report[name] for name in names)


def _winding(corners: np.ndarray) -> np.ndarray:
    """``[F]`` orientation: +1 if the corners ``[F, 3]`` are an even permutation of ascending order, −1 if odd."""
    a, b, c = corners.T
    return np.sign(b - a) * np.sign(c - b) * np.sign(c - a)
