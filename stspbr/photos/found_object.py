"""Where the object is if nobody says it: what the cameras look at, and what of the sparse points belongs to it.

1. The cameras' optical axes meet at the object. The largest sphere about that place which nearly all photos show whole
   holds it.
2. What it stands on is a plane that many points lie in and that the cameras look down on: what is on or below it is not
   the object.
3. Of the other points in the sphere, the object's are those that hang together and lie nearest to where the axes meet.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components
from scipy.spatial import cKDTree

from stspbr.errors import StspbrError
from stspbr.scene.camera import Camera

_TRIALS = 800
_THICK = 0.02  # sphere radii: points this near to the plane are of it
_TABLE_SHARE, _TABLE_LEAST = 0.3, 30  # of the points about the object that must lie in the plane
_NEIGHBOURS, _FAR = 6, 3.0  # points hang together that are nearer than this many times the usual distance
_WHOLE = 0.8  # share of the photos that show the sphere whole
_ROUNDS = 40
_FEWEST = 8


@dataclass(frozen=True)
class Plane:
    """Points ``x`` with ``normal · x = offset``; the cameras are on the side that ``normal`` points to."""

    normal: np.ndarray
    offset: float

    def height(self, points: np.ndarray) -> np.ndarray:
        """``[N]`` of points ``[N, 3]`` above the plane, negative below."""
        return points @ self.normal - self.offset


@dataclass(frozen=True)
class FoundObject:
    """Where the object is.

    Attributes:
        centre: ``[3]``; radius: of a sphere that holds it, in units of the poses.
        plane: what it stands on; None: nothing was found.
        on_object, beside: ``[P]`` bool: sparse points that are the object's, and that are not; of the rest nothing is
            known.
    """

    centre: np.ndarray
    radius: float
    plane: Plane | None
    on_object: np.ndarray
    beside: np.ndarray

    def may_be(self, points: np.ndarray) -> np.ndarray:
        """``[N]`` bool: places ``[N, 3]`` where the object can be."""
        inside = np.linalg.norm(points - self.centre, axis=1) <= self.radius
        return inside if self.plane is None else inside & (self.plane.height(points) > 0.0)


def find_object(cameras: Sequence[Camera], points: np.ndarray, needed: bool = True) -> FoundObject:
    """Find the object.

    Args:
        points: ``[P, 3]`` sparse points in the cameras' world.
        needed: whether there must be points of the object.

    Raises:
        StspbrError: the cameras look past each other, or at nothing that has sparse points.
    """
    centre = _looked_at(cameras)
    radius = _shown_whole(cameras, centre)
    near = np.linalg.norm(points - centre, axis=1) <= radius
    plane = _stood_on(cameras, points, centre, radius)
    above = near if plane is None else near & (plane.height(points) > _THICK * radius)
    chosen = np.flatnonzero(above)
    if len(chosen) < _FEWEST and needed:
        raise StspbrError(
            f"the object has {len(chosen)} sparse points where the cameras look, too few to find it by: give "
            "--masks DIR, or --mask grabcut --box x,y,width,height"
        )
    on_object = np.zeros(len(points), bool)
    if len(chosen) >= _FEWEST:
        on_object[chosen[_together(points[chosen], centre, radius)]] = True
    beside = ~near if plane is None else ~near | (plane.height(points) < 0.5 * _THICK * radius)
    return FoundObject(centre, radius, plane, on_object, beside)


def _looked_at(cameras: Sequence[Camera]) -> np.ndarray:
    """The point nearest to the optical axes, by least squares on the distance itself (iteratively reweighted)."""
    origins = np.stack([camera.position for camera in cameras])
    axes = -np.stack([camera.camera_to_world[:3, 2] for camera in cameras])
    across = np.eye(3) - axes[:, :, None] * axes[:, None, :]
    weights = np.ones(len(cameras))
    for _ in range(_ROUNDS):
        system = (weights[:, None, None] * across).sum(axis=0)
        if np.linalg.eigvalsh(system)[0] < 1e-3 * weights.sum():
            raise StspbrError(
                "all photos look the same way, so that nothing tells where the object is: take them from around it, or "
                "give --masks DIR"
            )
        centre = np.linalg.solve(system, np.einsum("f,fij,fj->i", weights, across, origins))
        distance = np.linalg.norm(np.einsum("fij,fj->fi", across, centre - origins), axis=1)
        weights = 1.0 / (distance + 1e-3 * np.median(np.linalg.norm(centre - origins, axis=1)) + 1e-12)
    if (((centre - origins) * axes).sum(axis=1) <= 0).mean() > 0.3:
        raise StspbrError("the photos look away from each other, not at one object: give --masks DIR")
    return centre


def _shown_whole(cameras: Sequence[Camera], centre: np.ndarray) -> float:
    """Radius of the largest sphere about ``centre`` that most photos show whole."""
    radii = []
    for camera in cameras:
        local = camera.world_to_camera[:3, :3] @ centre + camera.world_to_camera[:3, 3]
        if local[2] >= 0:
            continue
        x, y = camera.cx - camera.fx * local[0] / local[2], camera.cy + camera.fy * local[1] / local[2]
        sides = min(x / camera.fx, (camera.width - x) / camera.fx, y / camera.fy, (camera.height - y) / camera.fy)
        radii.append(-local[2] * np.sin(np.arctan(sides)))
    radius = float(np.quantile(radii, 1.0 - _WHOLE)) if radii else 0.0
    if radius <= 0:
        raise StspbrError("the photos show nothing in common in their middles: aim at the object, or give --masks DIR")
    return radius


def _stood_on(cameras: Sequence[Camera], points: np.ndarray, centre: np.ndarray, radius: float) -> Plane | None:
    """The plane under the object, by random triples of the points about it; None: too few points lie in any."""
    near = points[np.linalg.norm(points - centre, axis=1) < 2.0 * radius]
    if len(near) < _TABLE_LEAST:
        return None
    positions = np.stack([camera.position for camera in cameras])
    rng = np.random.default_rng(0)
    best, most = None, 0
    for _ in range(_TRIALS):
        a, b, c = near[rng.choice(len(near), 3, replace=False)]
        normal = np.cross(b - a, c - a)
        length = float(np.linalg.norm(normal))
        if length < 1e-12:
            continue
        heights = (near - a) @ (normal / length)
        on = np.abs(heights) < _THICK * radius
        if on.sum() <= most:
            continue
        seen_from = ((positions - a) @ normal) > 0
        if max(seen_from.mean(), 1.0 - seen_from.mean()) > 0.9:  # a table is seen from one side
            best, most = on, int(on.sum())
    if best is None or most < max(_TABLE_LEAST, _TABLE_SHARE * len(near)):
        return None
    middle = near[best].mean(axis=0)
    normal = np.linalg.svd(near[best] - middle, full_matrices=False)[2][2]
    normal = normal if np.median((positions - middle) @ normal) > 0 else -normal
    # the object stands on it: most of what is near and not of the plane lies above, about where the cameras look
    offset = float(np.median(near[best] @ normal))
    plane = Plane(normal, offset)
    return plane if plane.height(centre[None])[0] > -0.5 * radius else None


def _together(points: np.ndarray, centre: np.ndarray, radius: float) -> np.ndarray:
    """``[N]`` bool: the points of the cluster that weighs most, each point by how near to ``centre`` it is."""
    tree = cKDTree(points)
    found = tree.query(points, k=min(_NEIGHBOURS + 1, len(points)))
    distances, neighbours = (np.asarray(values) for values in found)
    limit = min(_FAR * float(np.median(distances[:, -1])) + 1e-12, radius)
    rows = np.repeat(np.arange(len(points)), distances.shape[1] - 1)
    kept = distances[:, 1:].ravel() <= limit
    edges = (np.ones(int(kept.sum())), (rows[kept], neighbours[:, 1:].ravel()[kept]))
    _, owner = connected_components(coo_matrix(edges, shape=(len(points),) * 2), directed=False)
    weight = np.exp(-4.0 * (np.linalg.norm(points - centre, axis=1) / radius) ** 2)
    return owner == int(np.bincount(owner, weights=weight).argmax())
