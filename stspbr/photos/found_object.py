"""Where the object is if nobody says it: what the cameras look at, and what of the sparse points belongs to it.

1. The cameras' optical axes meet at the object. The largest sphere about that place which nearly all photos show whole
   holds it; where photos are closer than that, the sphere grows as long as it meets points that most photos look at.
2. What it stands on is a plane that many points lie in, that the cameras look down on, and below which there is hardly
   a point: what is on or below it is not the object.
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
from stspbr.photos.consensus_hull import pixels_of
from stspbr.scene.camera import Camera

_TRIALS, _CHUNK, _JUDGES = 8000, 500, 1500  # random planes, so many at once, and points that judge them
_THICK = 0.02  # sphere radii: points this near to the plane are of it
_TABLE_SHARE, _TABLE_LEAST = 0.3, 30  # of the points about the object that must lie in the plane
_NEIGHBOURS, _FAR = 6, 3.0  # points hang together that are nearer than this many times the usual distance
_WHOLE = 0.8  # share of the photos that show the sphere whole
_COMMON = 0.7  # share of the photos in whose frame a point lies that they look at
_GROWTH, _CUT = 1.25, 0.1  # of the sphere; points in a shell this thick, over those inside, show that it cuts something
_NEAREST = 0.8  # of the cameras' usual distance: no sphere is larger
_FEW_BELOW, _OPEN_SHARE = 0.02, 0.05  # of the points: so few lie below a plane that is a table with so few on it
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
    common = _looked_upon(cameras, points)
    farthest = _NEAREST * float(np.median([np.linalg.norm(camera.position - centre) for camera in cameras]))
    distance = np.linalg.norm(points - centre, axis=1)
    while True:
        near = distance <= radius
        plane = _stood_on(cameras, points, centre, radius)
        above = near if plane is None else near & (plane.height(points) > _THICK * radius)
        shell = common & ~near & (distance <= _GROWTH * radius)
        if plane is not None:
            shell &= plane.height(points) > _THICK * radius
        if _GROWTH * radius > farthest or shell.sum() <= max(_CUT * above.sum(), _FEWEST):
            break
        radius *= _GROWTH
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


def _looked_upon(cameras: Sequence[Camera], points: np.ndarray) -> np.ndarray:
    """``[P]`` bool: points that lie in the frames of most photos, whether they are seen there or hidden."""
    inside = np.zeros(len(points), np.int64)
    for camera in cameras:
        inside += pixels_of(points, camera)[2]
    return inside >= _COMMON * len(cameras)


def _stood_on(cameras: Sequence[Camera], points: np.ndarray, centre: np.ndarray, radius: float) -> Plane | None:
    """The plane under the object, by random triples of the points about it; None: too few points lie in any.

    Many points make a plane a table; fewer do if hardly a point lies below it, as no photo sees through a table.
    """
    near = points[np.linalg.norm(points - centre, axis=1) < 2.0 * radius]
    if len(near) < _TABLE_LEAST:
        return None
    rng = np.random.default_rng(0)
    judges = near if len(near) <= _JUDGES else near[rng.choice(len(near), _JUDGES, replace=False)]
    positions = np.stack([camera.position for camera in cameras])
    normals, offsets = _planes(near, positions, rng)
    count, below = np.zeros(len(normals), np.int64), np.zeros(len(normals), np.int64)
    for first in range(0, len(normals), _CHUNK):
        part = slice(first, first + _CHUNK)
        heights = normals[part] @ judges.T - offsets[part, None]
        count[part] = (np.abs(heights) < _THICK * radius).sum(axis=1)
        below[part] = (heights < -2.0 * _THICK * radius).sum(axis=1)
    for share, fits in ((_TABLE_SHARE, count), (_OPEN_SHARE, np.where(below <= _FEW_BELOW * len(judges), count, 0))):
        best = int(fits.argmax()) if len(fits) else 0
        if len(fits) and fits[best] >= share * len(judges):
            on = np.abs(near @ normals[best] - offsets[best]) < _THICK * radius
            if on.sum() >= _TABLE_LEAST and (plane := _through(near[on], positions)).height(centre[None])[0] > (
                -0.5 * radius  # the object stands on it: its middle is not far below
            ):
                return plane
    return None


def _planes(points: np.ndarray, positions: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Unit normals ``[T, 3]``, towards the cameras, and offsets ``[T]`` of planes that nearly all cameras are above."""
    corners = points[rng.integers(len(points), size=(_TRIALS, 3))]
    normals = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    length = np.linalg.norm(normals, axis=1)
    kept = length > 1e-12
    normals, corners = normals[kept] / length[kept, None], corners[kept]
    offsets = (normals * corners[:, 0]).sum(axis=1)
    above = (normals @ positions.T > offsets[:, None]).mean(axis=1)
    sign = np.where(above >= 0.5, 1.0, -1.0)
    seen = np.maximum(above, 1.0 - above) > 0.9  # a table is seen from one side
    return (sign[:, None] * normals)[seen], (sign * offsets)[seen]


def _through(points: np.ndarray, positions: np.ndarray) -> Plane:
    """The plane of points that lie in one, towards the cameras."""
    middle = points.mean(axis=0)
    normal = np.linalg.svd(points - middle, full_matrices=False)[2][2]
    normal = normal if np.median((positions - middle) @ normal) > 0 else -normal
    return Plane(normal, float(np.median(points @ normal)))


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
