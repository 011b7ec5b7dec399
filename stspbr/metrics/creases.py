"""How exact a surface is beside the sharp edges of its reference: the shading normals on both sides of each."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from stspbr.geometry.topology import inner_edges
from stspbr.metrics.geometry import welded
from stspbr.metrics.material_reader import SurfaceReader
from stspbr.metrics.sampling import diagonal, face_normals, surface_tree, visible_points
from stspbr.scene.asset import Asset
from stspbr.scene.camera import Camera
from stspbr.scene.mesh import Mesh

_REACH = 1.5  # a side has to be flat up to so many times the distance at which it is compared
_FLAT = np.cos(np.radians(5.0))


def crease_error(
    reference: Asset,
    estimate: Asset,
    samples: int = 20_000,
    seed: int = 0,
    cameras: Sequence[Camera] | None = None,
    poses: Sequence[np.ndarray] | None = None,
    least_degrees: float = 30.0,
    fraction: float = 0.01,
) -> dict | None:
    """Compare shading normals on both sides of the reference's creases, normal maps included.

    Points are drawn on the creases, uniformly by length. From each, a step into either face leads to two points, whose
    normals are compared with those of the closest points of the estimate. A point counts only if both of its sides are
    flat over one and a half steps (narrow bevels are not) and a camera sees both.

    Args:
        reference, estimate: assets in the same space.
        samples: points on creases; seed: of the points.
        cameras, poses: training views with their ``object_to_world``; None: every point counts as seen.
        least_degrees: a crease is an edge whose two faces' normals differ by at least so much.
        fraction: the step, in diagonals of the reference's box.

    Returns:
        ``samples``; ``too_narrow`` and ``unseen`` (counts of points left out), ``used``; ``step`` (its length, in the
        meshes' unit); over the sides of the used points ``angle_mean`` and ``angle_median`` in degrees; over the points
        ``both_within_2_degrees`` and ``both_within_5_degrees``, shares of those whose two sides are that exact. These
        are None if no point is used. None in place of all if the reference has no crease.

    Raises:
        StspbrError: a mesh without faces, or textures without UVs.
    """
    step = fraction * diagonal(reference.mesh)
    ends, inward = _creases(reference.mesh, least_degrees)
    if len(ends) == 0:
        return None
    rng = np.random.default_rng(seed)
    lengths = np.linalg.norm(ends[:, 1] - ends[:, 0], axis=-1)
    edge = np.searchsorted(np.cumsum(lengths) / lengths.sum(), rng.uniform(size=samples), side="right")
    edge = np.minimum(edge, len(ends) - 1)
    along = rng.uniform(size=(samples, 1))
    points = (1.0 - along) * ends[edge, 0] + along * ends[edge, 1]

    own_tree, own_normals = surface_tree(reference.mesh), face_normals(reference.mesh)
    flat, seen = np.ones(samples, bool), np.ones(samples, bool)
    sides = []
    for side in range(2):
        way, normal = inward[edge, side, 0], inward[edge, side, 1]
        for far in (1.0, _REACH):
            face, _, distance = own_tree.closest(points + far * step * way)
            flat &= (distance < 0.01 * step) & ((own_normals[face] * normal).sum(-1) > _FLAT)
        beside = points + step * way
        if cameras is not None:
            seen &= visible_points(reference.mesh, beside, normal, cameras, poses, tree=own_tree)
        sides.append(beside)
    used = flat & seen
    out = {
        "samples": samples,
        "too_narrow": int((~flat).sum()),
        "unseen": int((flat & ~seen).sum()),
        "used": int(used.sum()),
        "step": step,
    }
    names = ("angle_mean", "angle_median", "both_within_2_degrees", "both_within_5_degrees")
    if not used.any():
        return out | dict.fromkeys(names)
    truth, guess = SurfaceReader(reference), SurfaceReader(estimate)
    other_tree = surface_tree(estimate.mesh)
    angles = []
    for beside in sides:
        face, weights, _ = own_tree.closest(beside[used])
        own = truth.read(face, weights)["normal"]
        face, weights, _ = other_tree.closest(beside[used])
        cosine = (own * guess.read(face, weights)["normal"]).sum(-1)
        angles.append(np.degrees(np.arccos(np.clip(cosine, -1.0, 1.0))))
    both, worse = np.concatenate(angles), np.maximum(*angles)
    values = (both.mean(), np.median(both), np.mean(worse <= 2.0), np.mean(worse <= 5.0))
    return out | dict(zip(names, map(float, values), strict=True))


def _creases(mesh: Mesh, least_degrees: float) -> tuple[np.ndarray, np.ndarray]:
    """Ends ``[E, 2, 3]`` of the edges between faces that meet at an angle; of either side ``[E, 2, 2, 3]`` the unit
    vector from the edge into the face, across the edge, and the face's normal."""
    positions, faces = welded(mesh)
    left, right, start, end = inner_edges(faces, len(positions))
    normals = face_normals(Mesh(positions, faces))
    sharp = (normals[left] * normals[right]).sum(-1) < np.cos(np.radians(least_degrees))
    sharp &= (normals[left] != 0).any(-1) & (normals[right] != 0).any(-1)
    ends = np.stack([positions[start[sharp]], positions[end[sharp]]], axis=1)
    edge = ends[:, 1] - ends[:, 0]
    edge = edge / np.maximum(np.linalg.norm(edge, axis=-1, keepdims=True), 1e-300)
    inward = np.empty((len(ends), 2, 2, 3))
    for side, face in enumerate((left[sharp], right[sharp])):
        way = positions[faces[face]].mean(axis=1) - ends[:, 0]
        way -= (way * edge).sum(-1, keepdims=True) * edge
        inward[:, side, 0] = way / np.maximum(np.linalg.norm(way, axis=-1, keepdims=True), 1e-300)
        inward[:, side, 1] = normals[face]
    return ends, inward
