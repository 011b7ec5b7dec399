"""Errors of material, measured at points of the surface and so free of UV layout and views."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from stspbr.errors import StspbrError
from stspbr.metrics.material_reader import SurfaceReader
from stspbr.metrics.material_statistics import Values, albedo_scale, kinds_by_albedo, regions, unsettled
from stspbr.metrics.sampling import diagonal, face_normals, sample_surface, surface_tree, visible_points
from stspbr.scene.asset import Asset
from stspbr.scene.camera import Camera

_Views = tuple[Sequence[Camera], Sequence[np.ndarray] | None] | None
FIRST_ROUND, BACK_POINTS = 100_000, 50_000
DISC_POINTS = 16
_SPACING = np.sqrt(np.pi / DISC_POINTS)  # of a disc's points, in radii


def material_error(
    reference: Asset,
    estimate: Asset,
    *,
    samples: int | None = None,
    max_samples: int = 1_600_000,
    seed: int = 0,
    cameras: Sequence[Camera] | None = None,
    poses: Sequence[np.ndarray] | None = None,
    max_distance_fraction: float = 0.02,
    footprint: float = 0.0,
    back: bool = True,
) -> dict:
    """Compare two assets' materials at random points of the reference's surface, and of the estimate's.

    Each point takes the nearest point of the other surface; pairs that are too far apart, or whose faces look
    into opposite half-spaces, are left out and counted. Maps are read bilinearly, with wrap, on both sides.

    Without ``samples`` points are drawn in rounds, each doubling their number, until in region ``lit`` the
    standard errors of the MAE, RMSE and the normal angle are at most 1 % of the value (or 1e-6; 1e-4 degrees) and
    those of the rates 1 % or 0.0005.

    Args:
        reference, estimate: assets in the same space; each face reads its own material.
        samples: points, uniform by area; None: as many as it takes, up to ``max_samples``.
        seed: of the points.
        cameras, poses: training views with their ``object_to_world``; what none of them sees is kept apart. None:
            every point counts as seen.
        max_distance_fraction: largest distance of a pair, in diagonals of the reference's bounding box.
        footprint: object-space radius of a disc around each point that both materials are averaged over before
            they are compared (0: none), since an image cannot tell apart what lies within a pixel.
        back: also measure from the estimate to the reference.

    Returns:
        ``samples``, ``used``, ``unseen``, ``too_far``, ``opposed`` (counts; the last two among seen points),
        ``not_converged`` (names of values of ``lit`` whose standard error is above the limit),
        ``max_distance_fraction``, ``footprint``, ``albedo_scale`` (per RGB channel, the factor on the estimate that
        fits the reference best in the least-squares sense over all used points; the light's scale is its inverse),
        ``by_albedo`` (missed and false metal per band of albedo, see ``kinds_by_albedo``),
        the regions ``all``, ``lit`` (reference albedo luminance > 0.02), ``dark`` (< 0.1) and ``unseen_surface``
        (see ``material_statistics.regions``), and with ``back``: ``matched_back``, the share of the estimate's seen
        surface that has a partner, and ``back``: the same counts, and the values of ``all``, for points of the
        estimate, 50 000 at most. Albedo is linear.

    Raises:
        StspbrError: meshes without faces or area, textures without UVs, or fewer than one sample.
    """
    if samples is not None and samples < 1 or max_samples < 1:
        raise StspbrError("material errors need at least one sample")
    if footprint < 0 or max_distance_fraction <= 0:
        raise StspbrError("footprint must not be negative, and max_distance_fraction must be positive")
    limit = max_distance_fraction * diagonal(reference.mesh)
    sides = _Side(reference), _Side(estimate)
    views = None if cameras is None else (cameras, poses)
    forth = _Comparison(*sides, limit, footprint, views, seed)
    total = min(FIRST_ROUND, max_samples) if samples is None else samples
    forth.draw(total)
    while samples is None and total < max_samples and unsettled(forth.values()):
        grown = min(2 * total, max_samples)
        forth.draw(grown - total)
        total = grown
    scale = albedo_scale(forth.values())
    out = {
        **forth.report(scale),
        "not_converged": unsettled(forth.values()),
        "max_distance_fraction": float(max_distance_fraction),
        "footprint": float(footprint),
        "by_albedo": kinds_by_albedo(forth.values()),
        "albedo_scale": [float(s) for s in scale],
    }
    if back:
        other = _Comparison(*sides[::-1], limit, footprint, views, seed + 1, flipped=True)
        other.draw(min(total, BACK_POINTS))
        report = other.report(scale)
        out["back"] = {k: v for k, v in report.items() if not isinstance(v, dict)} | report["all"]
        seen = report["samples"] - report["unseen"]
        out["matched_back"] = report["used"] / seen if seen else None
    return out


def read_material(asset: Asset, face: np.ndarray, barycentric: np.ndarray) -> dict[str, np.ndarray]:
    """Albedo ``[N, 3]``, roughness and metallic ``[N]`` and shading normals ``[N, 3]`` (object space) at points of
    the surface, each face by its own material; see ``SurfaceReader``."""
    return SurfaceReader(asset).read(face, barycentric)


class _Side:
    """One asset with all that matching and reading need, built once."""

    def __init__(self, asset: Asset) -> None:
        self.asset, self.mesh = asset, asset.mesh
        self.tree, self.normals = surface_tree(asset.mesh), face_normals(asset.mesh)
        self.reader = SurfaceReader(asset)


@dataclass
class _Round:
    """Points of one round: their fate, and both sides' values at the matched ones."""

    seen: np.ndarray  # [n] bool
    far: np.ndarray
    opposed: np.ndarray
    truth: Values  # at the points that are neither far nor opposed
    guess: Values


class _Comparison:
    """Rounds of points on ``source``, each with its partner on ``target``; ``flipped``: the target is the truth."""

    def __init__(
        self,
        source: _Side,
        target: _Side,
        limit: float,
        footprint: float,
        views: _Views,
        seed: int,
        flipped: bool = False,
    ) -> None:
        self.source, self.target = source, target
        self.limit, self.footprint, self.views = limit, footprint, views
        self.seed, self.flipped = seed, flipped
        self.rounds: list[_Round] = []

    def draw(self, count: int) -> None:
        source, target = self.source, self.target
        points, face, barycentric = sample_surface(source.mesh, count, (self.seed, len(self.rounds)))
        normals = source.normals[face]
        seen = np.ones(count, bool)
        if self.views is not None:
            seen = visible_points(source.mesh, points, normals, *self.views, tree=source.tree)
        other, weights, distance = target.tree.closest(points)
        far = distance > self.limit
        opposed = ~far & (np.einsum("nk,nk->n", normals, target.normals[other]) <= 0.0)
        ok = ~far & ~opposed
        if self.footprint > 0:
            own, partner = self._over_discs(points[ok], normals[ok], (len(self.rounds), count))
        else:
            own = source.reader.read(face[ok], barycentric[ok])
            partner = target.reader.read(other[ok], weights[ok])
        truth, guess = (partner, own) if self.flipped else (own, partner)
        self.rounds.append(_Round(seen, far, opposed, truth, guess))

    def values(self, seen: bool = True) -> tuple[Values, Values]:
        """Truth and guess at the matched points that cameras saw, or at those that they did not."""
        chosen = [r.seen[~r.far & ~r.opposed] == seen for r in self.rounds]

        def gather(side: str) -> Values:
            maps = [getattr(r, side) for r in self.rounds]
            return {k: np.concatenate([m[k][c] for m, c in zip(maps, chosen, strict=True)]) for k in maps[0]}

        return gather("truth"), gather("guess")

    def report(self, scale: np.ndarray) -> dict:
        seen, far, opposed = (np.concatenate([getattr(r, k) for r in self.rounds]) for k in ("seen", "far", "opposed"))
        unseen = regions(self.values(seen=False), scale)["all"]
        unseen["unmatched"] = int((~seen & (far | opposed)).sum())
        return {
            "samples": len(seen),
            "used": int((seen & ~far & ~opposed).sum()),
            "unseen": int((~seen).sum()),
            "too_far": int((seen & far).sum()),
            "opposed": int((seen & opposed).sum()),
            **regions(self.values(), scale),
            "unseen_surface": unseen,
        }

    def _over_discs(self, points: np.ndarray, normals: np.ndarray, seed: tuple[int, int]) -> tuple[Values, Values]:
        """Both materials averaged over the same points of a disc of radius ``footprint`` laid onto both surfaces."""
        count, radius = len(points), self.footprint
        rng = np.random.default_rng((self.seed, *seed))
        number = np.arange(DISC_POINTS)
        turn = rng.uniform(0, 2 * np.pi, (count, 1)) + number * np.pi * (3 - np.sqrt(5))  # Vogel's even spiral
        reach = radius * np.sqrt((number + 0.5) / DISC_POINTS)
        axis = np.eye(3)[np.argmin(np.abs(normals), axis=1)]
        across = np.cross(normals, axis)
        across /= np.maximum(np.linalg.norm(across, axis=1, keepdims=True), 1e-30)
        along = np.cross(normals, across)
        x, y = (reach * np.cos(turn))[..., None], (reach * np.sin(turn))[..., None]
        spread = (points[:, None] + x * across[:, None] + y * along[:, None]).reshape(-1, 3)
        facing = np.repeat(normals, DISC_POINTS, axis=0)

        source, target = self.source, self.target
        face, barycentric, lift = source.tree.closest(spread)
        laid = np.einsum("nk,nkd->nd", barycentric, source.mesh.positions.astype(np.float64)[source.mesh.faces[face]])
        other, weights, distance = target.tree.closest(laid)
        # beyond an edge or a thin wall the disc would reach another part of the surface
        valid = (lift <= radius) & (distance <= self.limit)
        valid &= np.einsum("nk,nk->n", facing, source.normals[face]) > 0
        valid &= np.einsum("nk,nk->n", facing, target.normals[other]) > 0
        valid.reshape(count, -1)[~valid.reshape(count, -1).any(axis=1)] = True

        def averaged(maps: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
            share = valid.reshape(count, -1) / valid.reshape(count, -1).sum(axis=1, keepdims=True)
            out = {k: np.einsum("nk,nk...->n...", share, v.reshape(count, -1, *v.shape[1:])) for k, v in maps.items()}
            out["normal"] /= np.maximum(np.linalg.norm(out["normal"], axis=1, keepdims=True), 1e-30)
            return out

        width = radius * _SPACING
        own, partner = source.reader.read(face, barycentric, width), target.reader.read(other, weights, width)
        return averaged(own), averaged(partner)
