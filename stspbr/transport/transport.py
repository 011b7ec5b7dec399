"""Transport of one object: what stands in the light's way, kept from one refresh to the next."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from scipy.spatial import cKDTree
from torch import Tensor

from stspbr.errors import StspbrError
from stspbr.fields.material_values import MaterialValues
from stspbr.kernel_dispatch import usable
from stspbr.render.gbuffer import GBuffer, Surface, surface_points
from stspbr.render.light import PrefilteredLight
from stspbr.render.raster_backend import RasterBackend
from stspbr.render.shading import Surroundings
from stspbr.scene import Corners
from stspbr.transport.bins import direction_bins
from stspbr.transport.cache import VisibilityCache, visibility
from stspbr.transport.ground import FloorGrid, Ground, GroundedRadiosity
from stspbr.transport.lookups import VisibleLookups
from stspbr.transport.neighbours import CopiesAround, Neighbours
from stspbr.transport.points import arrays
from stspbr.transport.radiosity import Irradiance, Radiosity

_FEW = 4  # poses of the object; of more, what hits mirror is drawn from fewer of them
_MOST_HITS = 40_000
_ROWS = 1024  # places whose distances to all points are held at a time on a GPU
_Bounced = dict[bytes, tuple[Tensor, Tensor]]  # a pose, and what the object sends on to itself in it


@dataclass
class _Snapshot:
    """The object at the last refresh; ``bounced`` is filled as poses come by, and cleared at each refresh."""

    surface: Surface
    material: MaterialValues
    radiosity: Radiosity
    face_normals: Tensor
    bounced: _Bounced

    @property
    def cache(self) -> VisibilityCache:
        return self.radiosity.cache


@dataclass
class Places:
    """Where N pixels lie in the object of the last refresh.

    Attributes:
        origin: ``[N, 3]`` where their rays start; outward: ``[N, 3]`` unit normals of their triangles.
        corners, shares: ``[N, 3]`` the points about each and their weights.
    """

    origin: Tensor
    outward: Tensor
    corners: Tensor
    shares: Tensor

    def at(self, index: Tensor | slice) -> Places:
        """Those of ``index``."""
        return Places(self.origin[index], self.outward[index], self.corners[index], self.shares[index])

    @classmethod
    def joined(cls, parts: Sequence[Places]) -> Places:
        """All of ``parts``, one after the other."""
        names = ("origin", "outward", "corners", "shares")
        return cls(*(torch.cat([getattr(part, name) for part in parts]) for name in names))


class Transport:
    """Shadows and bounces of a surface whose shape and material change slowly.

    Geometry, materials and the light's bounces are those of the last ``refresh`` and carry no gradient; light that
    arrives directly is today's and does.

    Args:
        backend: raster operations, to read materials.
        rays: backend of the rays; see ``ray_scene``.
        poses: how many orientations the object is seen in.
        ground: the floor under it; lights must come with it (``FloorLight``). None: there is none.
        neighbours: copies of the object that stand around it. None: it stands alone.
        why: that floor or none was chosen, for the log.

    Attributes:
        drift: degrees that an orientation may move before what is bounced in it is sought anew. While poses are
            refined, each step has new ones.
    """

    def __init__(
        self,
        backend: RasterBackend,
        rays: str = "auto",
        poses: int = 1,
        ground: Ground | None = None,
        why: str = "",
        neighbours: Neighbours | None = None,
    ) -> None:
        self._backend, self._rays, self._poses = backend, rays, poses
        self.ground, self.why, self.neighbours = ground, why, neighbours
        self.drift = 0.0
        self._snapshot: _Snapshot | None = None

    @property
    def cache(self) -> VisibilityCache | None:
        """Visibility at the last refresh; None before the first."""
        return None if self._snapshot is None else self._snapshot.cache

    @torch.no_grad()
    def refresh(self, surface: Surface, material: Callable[[GBuffer], MaterialValues]) -> None:
        """Look anew at ``surface``; ``material`` reads its material at a G-buffer's places."""
        kept = _detached(surface)
        cache = self._visibility(kept)
        points = cache.points
        found = material(surface_points(surface, points.triangle, points.barycentric, self._backend))
        self._take(kept, cache, replace(found, normal=points.normal, occlusion=None), {})

    def moved(self, surface: Surface) -> bool:
        """Whether a vertex has moved by more than a quarter of the mean edge since the last refresh."""
        if self._snapshot is None:
            return True
        before = self._snapshot.surface
        if not torch.equal(before.faces, surface.faces):
            return False  # of another topology nothing can be said; the regular refreshes must do
        moved = (surface.positions.detach() - before.positions).norm(dim=1).max()
        return bool(moved > 0.25 * _mean_edge(before))

    @torch.no_grad()
    def places(self, surface: Surface, gbuffer: GBuffer) -> Places | None:
        """Where the pixels of ``gbuffer``, a view of ``surface``, lie; None before the first refresh."""
        return None if self._snapshot is None else _places(self._snapshot, surface, gbuffer)

    def around(
        self, places: Places | None, rotations: Tensor, owner: Tensor, light: PrefilteredLight, strength: float = 1.0
    ) -> Surroundings | None:
        """What is around N pixels, for ``shade``; None if there is no transport yet.

        Args:
            places: of the pixels; rotations: ``[B, 3, 3]`` object to world; owner: ``[N]`` int64 into them.
            light: as ``shade`` gets it; differentiable as far as it arrives directly.
            strength: from 0, no transport, to 1.
        """
        snapshot = self._snapshot
        if snapshot is None or places is None or strength <= 0:
            return None
        distinct, number = _distinct(rotations)
        fixed = light.detach()
        known = torch.stack([self._known(snapshot, rotation) for rotation in distinct])
        bounced = torch.stack([self._bounced(snapshot, fixed, rotation) for rotation in known])
        open_, direct = snapshot.radiosity.arriving(light, known)
        lookups = VisibleLookups(
            snapshot.radiosity, Irradiance(open_, direct + bounced), fixed, self._backend.texture, distinct,
            number.index_select(0, owner), places.origin, places.outward, places.corners, places.shares, strength,
        )  # fmt: skip
        radiosity = snapshot.radiosity
        return radiosity.over_floor(lookups, known) if isinstance(radiosity, GroundedRadiosity) else lookups

    def seen(
        self, surface: Surface, gbuffer: GBuffer, light: PrefilteredLight, strength: float = 1.0
    ) -> Surroundings | None:
        """``around`` of the pixels of ``gbuffer``, a view of ``surface``."""
        places = self.places(surface, gbuffer) if strength > 0 else None
        return self.around(places, gbuffer.object_rotation, gbuffer.view, light, strength)

    def state(self) -> dict[str, Tensor]:
        """What a checkpoint holds; rays and visibility follow from it."""
        if self._snapshot is None:
            return {}
        surface, material = self._snapshot.surface, self._snapshot.material
        out = {"positions": surface.positions, "faces": surface.faces, "normals": surface.normals.values,
               "normal_index": surface.normals.index, "albedo": material.albedo, "roughness": material.roughness,
               "metallic": material.metallic}  # fmt: skip
        if self._snapshot.bounced:
            rotations, bounced = zip(*self._snapshot.bounced.values(), strict=True)
            out |= {"rotations": torch.stack(rotations), "bounced": torch.stack(bounced)}
            if isinstance(self._snapshot.radiosity, GroundedRadiosity):
                out["shades"] = torch.stack([self._snapshot.radiosity.shades[key] for key in self._snapshot.bounced])
        if self._snapshot.radiosity.lit:
            out["lit"] = torch.tensor(list(self._snapshot.radiosity.lit))
            kept = self._snapshot.radiosity.lit.values()
            out |= {"lit_open": torch.cat([i.open for i in kept]), "lit_total": torch.cat([i.total for i in kept])}
        return out

    def load_state(self, state: dict[str, Tensor]) -> None:
        """The inverse of ``state``."""
        if not state:
            self._snapshot = None
            return
        surface = Surface(state["positions"], state["faces"], Corners(state["normals"], state["normal_index"]))
        cache = self._visibility(surface)
        if len(cache.points.position) != len(state["albedo"]):
            raise StspbrError("the checkpoint's transport does not fit its mesh: start the stage without --resume")
        material = MaterialValues(state["albedo"], state["roughness"], state["metallic"], cache.points.normal)
        pairs = zip(state.get("rotations", []), state.get("bounced", []), strict=True)
        kept = {_key(rotation): (rotation, bounced) for rotation, bounced in pairs}
        self._take(surface, cache, material, kept)
        if self._snapshot is not None and isinstance(self._snapshot.radiosity, GroundedRadiosity):
            self._snapshot.radiosity.shades = dict(zip(kept, state.get("shades", []), strict=True))
        if self._snapshot is not None and "lit" in state:
            parts = zip(state["lit"].tolist(), state["lit_open"], state["lit_total"], strict=True)
            self._snapshot.radiosity.lit = {n: Irradiance(open_[None], total[None]) for n, open_, total in parts}

    def _visibility(self, surface: Surface) -> VisibilityCache:
        normals, bins = surface.normals, direction_bins(surface.positions.device)
        return visibility(surface.positions, surface.faces, normals.values, normals.index, bins, self._rays)

    def _take(self, surface: Surface, cache: VisibilityCache, material: MaterialValues, bounced: _Bounced) -> None:
        shape = surface.positions, surface.faces
        copies = None if self.neighbours is None else CopiesAround(cache, self.neighbours, *shape)
        radiosity = Radiosity(cache, material, copies=copies)
        if self.ground is not None:
            radiosity = GroundedRadiosity(cache, material, FloorGrid(self.ground, cache, *shape), copies)
        self._snapshot = _Snapshot(surface, material, radiosity, _face_normals(surface), bounced)

    def _known(self, snapshot: _Snapshot, rotation: Tensor) -> Tensor:
        """The nearest ``rotation [3, 3]`` that is ``drift`` away at most and whose bounces are known; or itself."""
        if self.drift <= 0 or not snapshot.bounced or _key(rotation) in snapshot.bounced:
            return rotation
        every = torch.stack([kept for kept, _ in snapshot.bounced.values()])
        # twice the sine of half the angle; the trace would lose its digits at a tenth of a degree
        chord = (every - rotation).pow(2).sum((1, 2)).sqrt() / math.sqrt(2.0)
        if self.neighbours is not None:  # two copies may be turned alike, but stand among others
            own = self.neighbours.number(rotation)
            others = [self.neighbours.number(kept) != own for kept in every]
            chord = torch.where(torch.tensor(others, device=chord.device), torch.inf, chord)
        nearest = int(chord.argmin())
        return every[nearest] if float(chord[nearest]) <= 2.0 * math.sin(math.radians(0.5 * self.drift)) else rotation

    def _bounced(self, snapshot: _Snapshot, light: PrefilteredLight, rotation: Tensor) -> Tensor:
        key = _key(rotation)
        if key not in snapshot.bounced:
            most = _MOST_HITS if self._poses > _FEW else None
            found = snapshot.radiosity.bounced(light, rotation, self._backend.texture, most)
            snapshot.bounced[key] = rotation, found
        return snapshot.bounced[key][1]


def _places(snapshot: _Snapshot, surface: Surface, gbuffer: GBuffer) -> Places:
    kept, points = snapshot.surface, snapshot.cache.points
    barycentric = gbuffer.barycentric()
    same = torch.equal(gbuffer.faces, kept.faces)  # the pixel's own triangle, where it was
    if same and usable("auto", kept.positions, barycentric, what="places"):
        from stspbr.transport.point_kernels import places_forward

        origin, outward, shares = barycentric.new_empty(3, len(barycentric), 3)
        corners = gbuffer.triangle.new_empty(len(barycentric), 3)
        places_forward(
            *arrays(gbuffer.triangle, barycentric, kept.positions, kept.faces, snapshot.face_normals),
            np.float32(snapshot.cache.offset), *points.grid(), *arrays(origin, outward, corners, shares),
        )  # fmt: skip
        return Places(origin, outward, corners, shares)
    weights = torch.cat([1.0 - barycentric.sum(1, keepdim=True), barycentric], dim=1)
    if same:
        corner = kept.positions[kept.faces.long()].index_select(0, gbuffer.triangle)
        outward = snapshot.face_normals.index_select(0, gbuffer.triangle)
        origin = (corner * weights[..., None]).sum(1) + snapshot.cache.offset * outward
        return Places(origin, outward, *points.corners(gbuffer.triangle, barycentric))
    # of another topology: the points next to the corners of the pixel's triangle; rays start well off the old surface
    nearest = _nearest(points.position, surface.positions.detach())
    owned = gbuffer.faces.long().index_select(0, gbuffer.triangle)
    outward = _face_normals(surface).index_select(0, gbuffer.triangle)
    origin = gbuffer.position.detach() + 0.5 * _mean_edge(kept) * outward
    return Places(origin, outward, nearest[owned], weights)


def _nearest(points: Tensor, places: Tensor) -> Tensor:
    """``[N]`` int64: the nearest of ``points [P, 3]`` to each of ``places [N, 3]``."""
    if places.device.type == "cpu":
        return torch.from_numpy(cKDTree(points.numpy()).query(places.numpy())[1])
    exact = "donot_use_mm_for_euclid_dist"  # products of matrices lose the digits of what is close
    return torch.cat([torch.cdist(some, points, compute_mode=exact).argmin(1) for some in places.split(_ROWS)])


def _face_normals(surface: Surface) -> Tensor:
    """``[F, 3]`` unit, without gradients."""
    a, b, c = surface.positions.detach()[surface.faces.long()].unbind(1)
    return torch.nn.functional.normalize(torch.linalg.cross(b - a, c - a), dim=1)


def _mean_edge(surface: Surface) -> float:
    corners = surface.positions[surface.faces.long()]
    return float((corners - corners.roll(1, 1)).norm(dim=-1).mean())


def _detached(surface: Surface) -> Surface:
    normals = surface.normals
    return replace(
        surface, positions=surface.positions.detach().clone(),
        normals=Corners(normals.values.detach().clone(), normals.index),
    )  # fmt: skip


def _distinct(rotations: Tensor) -> tuple[Tensor, Tensor]:
    """The different rotations ``[R, 3, 3]`` of a batch, in order, and the number of each view's ``[B]`` int64."""
    numbers: dict[bytes, int] = {}
    first: list[int] = []
    owner = []
    for view, rotation in enumerate(rotations.cpu()):  # one copy for all views
        number = numbers.setdefault(_key(rotation), len(numbers))
        if number == len(first):
            first.append(view)
        owner.append(number)
    return torch.stack([rotations[view] for view in first]), torch.tensor(owner).to(rotations.device)


def _key(rotation: Tensor) -> bytes:
    return rotation.cpu().numpy().tobytes()
