"""How far a surface is from another, and what kind of surface it is: distances, overlap, normals, topology."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from stspbr.errors import StspbrError
from stspbr.geometry.intersections import intersecting_pairs
from stspbr.geometry.topology import mesh_report
from stspbr.metrics.sampling import diagonal, face_normals, sample_surface, surface_tree, visible_points
from stspbr.scene.attributes import weld
from stspbr.scene.camera import Camera
from stspbr.scene.mesh import Mesh

SLIVER = 0.2
"""Triangles of a lower quality, 4√3 · area / sum of squared edges (1: equilateral), are slivers."""


def geometry_error(
    reference: Mesh,
    estimate: Mesh,
    samples: int = 100_000,
    seed: int = 0,
    cameras: Sequence[Camera] | None = None,
    poses: Sequence[np.ndarray] | None = None,
) -> dict:
    """Distances between two surfaces, from ``samples`` points on either, and the topology of both.

    Args:
        reference, estimate: meshes in the same space.
        samples: points on each surface, uniform by area; each takes the closest point of the other surface.
        seed: of the points.
        cameras, poses: training views with their ``object_to_world`` (None: identity). With them the result has
            ``seen``: the same distances of those points that a camera sees, each on its own surface. Walls inside the
            reference, which no view shows, count in the rest and not there.

    Returns:
        A dict that JSON can hold. ``chamfer_l1`` (mean of the two directed mean distances, in the meshes' unit)
        and its parts ``accuracy`` (estimate to reference) and ``completeness`` (reference to estimate), each with
        its standard error ``…_se``; ``f_score_0.5%`` and ``f_score_1%`` (harmonic mean of the two shares of points
        within that part of the reference's diagonal; Knapitsch et al. 2017, section 3.3); ``normal_consistency``
        (mean of n·n′ of the faces over both directions, 1 for the same, −1 for turned inside out); ``diagonal``
        (of the reference's box); and the values of ``topology_metrics``, those of the estimate at this level and
        those of the reference under ``reference``. ``seen`` has the distances and shares alone, None if one of the
        surfaces is not seen at all; and ``reference_share`` and ``estimate_share``, how much of each area is seen.

    Raises:
        StspbrError: a mesh has no face, no area, or vertices that are not finite.
    """
    length = diagonal(reference)
    meshes = estimate, reference
    trees = [surface_tree(mesh) for mesh in meshes]
    distances, cosines, seen = [], [], []
    for number, mesh in enumerate(meshes):
        points, face, _ = sample_surface(mesh, samples, seed + number)
        normals = face_normals(mesh)[face]
        other, _, distance = trees[1 - number].closest(points)
        distances.append(distance)
        cosines.append(np.sum(normals * face_normals(meshes[1 - number])[other], axis=-1))
        if cameras is not None:
            seen.append(visible_points(mesh, points, normals, cameras, poses, tree=trees[number]))
    out = _agreement(distances, cosines, length) | {"diagonal": length}
    if cameras is not None:
        part = None
        if all(own.any() for own in seen):
            near, alike = ([v[own] for v, own in zip(vs, seen, strict=True)] for vs in (distances, cosines))
            part = _agreement(near, alike, length)
            part |= {"estimate_share": float(seen[0].mean()), "reference_share": float(seen[1].mean())}
        out["seen"] = part
    return {**out, **topology_metrics(estimate), "reference": topology_metrics(reference)}


def _agreement(distances: Sequence[np.ndarray], cosines: Sequence[np.ndarray], length: float) -> dict:
    """Distances and shares from those of the estimate's points, then those of the reference's; ``length`` is 100 %."""
    means = [float(d.mean()) for d in distances]
    errors = [float(d.std() / np.sqrt(len(d))) for d in distances]
    out = {
        "chamfer_l1": 0.5 * (means[0] + means[1]),
        "chamfer_l1_se": 0.5 * float(np.hypot(errors[0], errors[1])),
        "accuracy": means[0],
        "accuracy_se": errors[0],
        "completeness": means[1],
        "completeness_se": errors[1],
        "normal_consistency": 0.5 * float(cosines[0].mean() + cosines[1].mean()),
    }
    for name, fraction in (("0.5%", 0.005), ("1%", 0.01)):
        precision, recall = (float(np.mean(d <= fraction * length)) for d in distances)
        out[f"f_score_{name}"] = 2.0 * precision * recall / (precision + recall) if precision + recall > 0 else 0.0
    return out


def topology_metrics(mesh: Mesh) -> dict:
    """What kind of surface a mesh is, once vertices at equal positions are one.

    Faces that are a line or a point then are left out (a pole's, for instance).

    Returns:
        ``vertices``, ``faces``; ``components`` (joined by vertices); ``watertight`` (every edge has two faces that run
        along it in opposite directions); ``boundary_edges`` (one face), ``non_manifold_edges`` (more than two);
        ``self_intersections`` (pairs of triangles that share no vertex but have a point in common); ``slivers`` (share
        of triangles of quality below ``SLIVER``); ``euler`` (V − E + F); ``genus`` (handles, the sum over the
        components, from their Euler characteristics V − E + F = 2 − 2·genus; None where the surface is not a closed
        manifold) and ``genus_reason`` (why it is None).
    """
    positions, faces = welded(mesh)
    report = mesh_report(positions, faces)
    kept = ("vertices", "faces", "components", "watertight", "boundary_edges", "non_manifold_edges")
    out = {name: report[name] for name in kept} | {"self_intersections": self_intersections(positions, faces)}
    out["slivers"] = sliver_share(positions, faces)
    out["euler"], out["genus"] = report["euler"], report["genus"]
    wrong = ("boundary_edges", "non_manifold_edges", "flipped_edges", "non_manifold_vertices")
    found = ", ".join(f"{report[name]} {name.replace('_', ' ')}" for name in wrong if report[name])
    out["genus_reason"] = None if report["genus"] is not None else f"not a closed manifold: {found or 'no face'}"
    return out


def welded(mesh: Mesh) -> tuple[np.ndarray, np.ndarray]:
    """Positions ``[V, 3]`` float64, all different, and faces ``[F, 3]`` int64 with three different vertices each.

    Raises:
        StspbrError: a vertex is not finite.
    """
    if not np.isfinite(mesh.positions).all():
        raise StspbrError("cannot measure a mesh with NaN or infinite vertices")
    joined = weld(Mesh(np.asarray(mesh.positions, dtype=np.float64), np.asarray(mesh.faces).reshape(-1, 3)))
    return joined.positions, joined.faces.astype(np.int64)


def sliver_share(positions: np.ndarray, faces: np.ndarray) -> float:
    """The share of ``faces [F, 3]`` that are slivers, see ``SLIVER``; 0 without faces."""
    corners = np.asarray(positions, np.float64)[faces]
    edges = np.roll(corners, -1, axis=1) - corners
    doubled = np.linalg.norm(np.cross(edges[:, 0], edges[:, 1]), axis=-1)
    squares = (edges**2).sum(axis=(1, 2))
    return float(np.mean(2.0 * np.sqrt(3.0) * doubled < SLIVER * squares)) if len(faces) else 0.0


def self_intersections(positions: np.ndarray, faces: np.ndarray) -> int:
    """How many pairs of triangles have a point in common although they share no vertex, by exact predicates.

    Triangles are closed: touching counts, as a point in common does. Pairs that share a vertex, even if they are
    folded onto each other, and triangles without area are left out.

    Args:
        positions, faces: as :func:`welded` gives them.
    """
    return len(intersecting_pairs(positions, faces))
