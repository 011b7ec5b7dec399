"""A diffuse floor under the object: it hides the light's lower half and sends up light, less in the object's shadow.

Far from the object the floor is evenly lit, so its radiance is that of a light whose lower half is one colour
(``FloorLight``). Near the object it is that radiance times a shade (``FloorGrid``), kept per pose like bounces.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn

from stspbr.fields.material_values import MaterialValues
from stspbr.render.cube_pyramid import texel_directions
from stspbr.render.prefilter import PrefilteredLight
from stspbr.scene import EnvironmentLight, Normalization
from stspbr.scene.light import latlong_to_direction
from stspbr.transport.cache import VisibilityCache
from stspbr.transport.neighbours import CopiesAround
from stspbr.transport.radiosity import Irradiance, Radiosity

if TYPE_CHECKING:
    from stspbr.transport.lookups import VisibleLookups

FIRST_GREY = 0.4
"""Albedo of the floor that learning starts from."""
_BRIGHTEST = 0.95
_PACE = 0.1  # one number lights half of all directions: its steps are a tenth of a texel's
_NODES = 41  # along each side of the grid; the outermost are infinitely far away
_LARGEST = 4.0  # shade, where the object sends light on to the floor
_CHUNK = 4096


@dataclass(frozen=True)
class Ground:
    """A horizontal plane in object space, which is the same in every pose.

    Attributes:
        up: ``[3]`` float64, unit.
        height: in the world; None: that of the object's lowest point.
        scale, shift: world height = ``scale`` · (up · point) + ``shift``.
    """

    up: np.ndarray
    height: float | None
    scale: float = 1.0
    shift: float = 0.0

    def normalized(self, normalization: Normalization) -> Ground:
        """The plane among the points of the normalised box."""
        middle = float(self.up @ normalization.centre)
        return replace(self, scale=self.scale * normalization.scale, shift=self.shift + self.scale * middle)

    def level(self, positions: Tensor) -> float:
        """Where the plane is along ``up``, below an object with points ``positions [..., 3]``."""
        if self.height is not None:
            return (self.height - self.shift) / self.scale
        return float((positions.detach().cpu().double() @ torch.from_numpy(self.up)).min())

    def world_height(self, positions: Tensor) -> float:
        """``level`` in the units of the world, along its up axis."""
        return self.scale * self.level(positions) + self.shift

    def world_lowest(self, positions: Tensor) -> float:
        """The height of the lowest of ``positions [..., 3]`` in the world."""
        return replace(self, height=None).world_height(positions)


class FloorLight(nn.Module):
    """The floor as distant light: albedo times the irradiance of the light's upper half, from all of the lower half.

    Args:
        below: a light that is 1 in the lower half and 0 in the upper one, prefiltered as the lights are that it joins.
        grey: ``[3]`` linear albedo to start from, in (0, 0.95).
    """

    def __init__(self, below: PrefilteredLight, grey: list[float]) -> None:
        super().__init__()
        self._below = below
        share = torch.tensor(grey, dtype=torch.float32).clamp(1e-3, _BRIGHTEST - 1e-3) / _BRIGHTEST
        self.slow = nn.Parameter(torch.logit(share) / _PACE)

    @property
    def grey(self) -> Tensor:
        """``[3]``: the floor's linear albedo, differentiable, in [0, 0.95]."""
        return _BRIGHTEST * torch.sigmoid(_PACE * self.slow)

    def joined(self, above: PrefilteredLight) -> PrefilteredLight:
        """A light that is black in its lower half, with the floor there; differentiable in both."""
        middle = above.diffuse.shape[1] // 2
        upward = above.diffuse[2, middle - 1 : middle + 1, middle - 1 : middle + 1].mean(dim=(0, 1))
        sent = self.grey.to(upward) * upward
        pairs = zip(above.specular, self._below.specular, strict=True)
        levels = [level + sent * below.to(upward) for level, below in pairs]
        return PrefilteredLight(levels, above.widths, above.diffuse + sent * self._below.diffuse.to(upward))


def upper_half(resolution: int) -> Tensor:
    """``[6, N, N, 1]``: 1 for the texels of a cube map in the light's upper half, else 0."""
    return (texel_directions(resolution)[..., 1:2] > 0).float()


def upper_light(light: EnvironmentLight) -> EnvironmentLight:
    """A light with black in place of its lower half."""
    return EnvironmentLight(np.where(_above(light), light.radiance, 0.0).astype(np.float32))


def lower_light(light: EnvironmentLight) -> EnvironmentLight:
    """1 in the lower half, 0 in the upper one, on a map of the size of ``light``."""
    return EnvironmentLight(np.where(_above(light), 0.0, np.ones_like(light.radiance)).astype(np.float32))


def floored_light(light: EnvironmentLight, grey: list[float]) -> EnvironmentLight:
    """A light with a floor of linear albedo ``grey [3]`` in place of its lower half."""
    y = _heights(light.radiance.shape[0])
    weight = np.where(y > 0, y * np.sqrt(1.0 - y * y), 0.0)  # cosine with up, times a row's solid angle
    sent = np.asarray(grey) * (weight @ light.radiance.mean(axis=1)) / weight.sum()
    return EnvironmentLight(np.where(_above(light), light.radiance, sent).astype(np.float32))


def _heights(rows: int) -> np.ndarray:
    v = (np.arange(rows) + 0.5) / rows
    return latlong_to_direction(np.stack([np.full(rows, 0.5), v], axis=1))[:, 1]


def _above(light: EnvironmentLight) -> np.ndarray:
    return (_heights(light.radiance.shape[0]) > 0)[:, None, None]


class FloorGrid:
    """The floor about one object: which light reaches places on it, and where rays end on it.

    The nodes are dense under the object and spread to infinity, where nothing casts a shadow: along each axis of the
    plane the coordinate is x / (reach + |x|).

    Args:
        ground: the plane; positions: ``[V, 3]``, faces: ``[F, 3]`` of the object in ``cache``.

    Attributes:
        rising, falling: int64, the cache's directions above and below the horizon.
        corners, shares: ``[M, 3]`` points of the object that the nodes see, and their weights; view: ``[M, 3]`` unit,
            from there to the node.
    """

    def __init__(self, ground: Ground, cache: VisibilityCache, positions: Tensor, faces: Tensor) -> None:
        self.up = torch.from_numpy(ground.up).float().to(positions.device)
        triangles = positions[faces.long()]
        points = triangles.reshape(-1, 3)  # without vertices that no face uses
        self.level = ground.level(points)
        self._axes = _axes(ground.up).to(positions.device)
        across = points @ self._axes.T
        low, high = across.amin(0), across.amax(0)
        self._middle = 0.5 * (low + high)
        diagonal = float((points.amax(0) - points.amin(0)).norm())
        self._reach = max(0.5 * float((high - low).norm()), 0.25 * diagonal)
        slope = cache.bins.directions @ self.up
        self.rising, self.falling = torch.nonzero(slope > 0).squeeze(1), torch.nonzero(slope < 0).squeeze(1)
        self._cast(cache, triangles)

    def _cast(self, cache: VisibilityCache, triangles: Tensor) -> None:
        """See from the inner nodes which rising directions are open, and where the others end."""
        steps = torch.linspace(-1.0, 1.0, _NODES, device=triangles.device)[1:-1]
        along = self._reach * steps / (1.0 - steps.abs())
        place = torch.stack(torch.meshgrid(along, along, indexing="ij"), dim=-1).reshape(-1, 2) + self._middle
        node = self.inner = place @ self._axes + (self.level + cache.offset) * self.up
        ways = cache.bins.directions[self.rising]
        self._open = (ways @ self.up) / torch.pi
        hits = cache.scene.closest(node.repeat_interleave(len(ways), 0), ways.repeat(len(node), 1))
        self._seen = torch.where(hits.found.view(len(node), -1), 0.0, self._open)
        a, b, c = triangles.unbind(1)
        outward = torch.linalg.cross(b - a, c - a)
        rows = torch.nonzero(hits.found).squeeze(1)
        rows = rows[(outward[hits.triangle[rows]] * ways[rows % len(ways)]).sum(1) < 0]  # fronts of triangles
        self.corners, self.shares = cache.points.corners(hits.triangle[rows], hits.barycentric[rows])
        self.view = -ways[rows % len(ways)]
        self._node = rows // len(ways)
        self._weight = (self._open * cache.bins.solid_angle[self.rising])[rows % len(ways), None]

    def shade(self, flux: Tensor, sent: Tensor | None = None, hidden: Tensor | None = None) -> Tensor:
        """``[N², 3]``: irradiance of the nodes over that of the floor far away.

        Args:
            flux: ``[B, 3]`` of the light's cells; sent: ``[M, 3]`` radiance of the object towards the nodes.
            hidden: ``[N, B]`` bool: rising directions that other objects block at the inner nodes.
        """
        rising = flux[self.rising]
        far = self._open @ rising
        far = torch.maximum(far, 1e-3 * far.mean()).clamp(min=1e-12)
        inner = (self._seen if hidden is None else torch.where(hidden, 0.0, self._seen)) @ rising
        if sent is not None:
            inner.index_add_(0, self._node, self._weight * sent)
        inner = (inner / far).clamp(0.0, _LARGEST)
        out = inner.new_ones(_NODES, _NODES, 3)
        out[1:-1, 1:-1] = inner.view(_NODES - 2, _NODES - 2, 3)
        return out.view(-1, 3)

    def nodes(self, origin: Tensor, ways: Tensor) -> tuple[Tensor, Tensor]:
        """The nodes ``[N, 4]`` int64 about the places where rays end that go down, and their shares ``[N, 4]``."""
        fall = (ways @ self.up).clamp(max=-1e-6)
        distance = ((self.level - origin @ self.up) / fall).clamp(min=0.0)  # a point under the floor is on it
        across = (origin + distance[:, None] * ways) @ self._axes.T - self._middle
        place = (across / (self._reach + across.abs()) + 1.0) * (0.5 * (_NODES - 1))
        cell = place.floor().clamp(0, _NODES - 2)
        (i, j), (u, v) = cell.long().unbind(1), (place - cell).unbind(1)
        first = i * _NODES + j
        index = torch.stack([first, first + 1, first + _NODES, first + _NODES + 1], dim=1)
        return index, torch.stack([(1 - u) * (1 - v), (1 - u) * v, u * (1 - v), u * v], dim=1)

    def at(self, shade: Tensor, origin: Tensor, ways: Tensor) -> Tensor:
        """``shade`` ``[N, 3]`` where rays end that go down."""
        index, share = self.nodes(origin, ways)
        return (shade.index_select(0, index.reshape(-1)).view(-1, 4, 3) * share[..., None]).sum(1)


class GroundedRadiosity(Radiosity):
    """Radiosity of an object on a floor; the light's lower half must be the floor far away (``FloorLight``).

    Attributes:
        shades: ``[N², 3]`` of the grid, by the bytes of the pose's rotation; ``bounced`` sets it.
    """

    def __init__(
        self, cache: VisibilityCache, material: MaterialValues, grid: FloorGrid, copies: CopiesAround | None = None
    ) -> None:
        super().__init__(cache, material, copies=copies)
        self.grid = grid
        self.shades: dict[bytes, Tensor] = {}
        self._ratios: dict[bytes, tuple[Tensor, Tensor]] = {}
        self._own_falling = cache.seen_weights[:, grid.falling]

    def arriving(self, light: PrefilteredLight, rotations: Tensor, number: int | None = None) -> tuple[Tensor, Tensor]:
        """As the base's; what arrives from the floor is shaded, in poses that ``bounced`` has seen."""
        open_, direct = super().arriving(light, rotations, number)
        flux = self.cache.bins.flux(light, rotations)[:, self.grid.falling]
        ratio = torch.stack([self._ratio(rotation) for rotation in rotations])
        if self.copies is None:
            return open_, direct + (ratio - 1.0) * torch.matmul(self._own_falling, flux)
        falling = [self._falling(turn, number) @ own for turn, own in zip(rotations, flux, strict=True)]
        return open_, direct + (ratio - 1.0) * torch.stack(falling)

    @torch.no_grad()
    def bounced(
        self, light: PrefilteredLight, rotation: Tensor, texture: Callable[..., Tensor], most_hits: int | None = None
    ) -> Tensor:
        """As the base's; it also sets the pose's shade, which one bounce from the object brightens."""
        key = _key(rotation)
        flux = self.cache.bins.flux(light, rotation[None])[0]
        hidden = self._hidden(rotation)
        self.shades[key] = self.grid.shade(flux, hidden=hidden)
        bounced = super().bounced(light, rotation, texture, most_hits)
        open_, direct = self.arriving(light, rotation[None])
        turned = rotation[None], self.grid.corners.new_zeros(len(self.grid.view))
        sent = self.leaving(
            self.grid.corners, self.grid.shares, self.grid.view, light, turned, texture,
            Irradiance(open_, direct + bounced),
        )  # fmt: skip
        self.shades[key] = self.grid.shade(flux, sent[0] + sent[1], hidden)
        if self.copies is not None:
            self.lit.pop(self.copies.number(rotation), None)  # it stood on a floor without shade
        return bounced

    def over_floor(self, lookups: VisibleLookups, rotations: Tensor) -> GroundedLookups:
        """``lookups`` over the floor; ``rotations`` ``[R, 3, 3]``: those that ``bounced`` has seen them in."""
        shades = torch.stack([self.shades[_key(rotation)] for rotation in rotations])
        return GroundedLookups(lookups, self.grid, shades)

    def _ratio(self, rotation: Tensor) -> Tensor:
        """``[P, 3]``: mean shade of the floor as each point sees it."""
        key = _key(rotation)
        shade = self.shades.get(key)
        if shade is None:
            return torch.ones_like(self.cache.points.position)
        kept = self._ratios.get(key)
        if kept is None or kept[0] is not shade:
            kept = self._ratios[key] = shade, self._mean(shade, self._falling(rotation))
        return kept[1]

    def _falling(self, rotation: Tensor, number: int | None = None) -> Tensor:
        """``[P, F]``: of the directions below the horizon, ``seen_weights``."""
        if self.copies is None:
            return self._own_falling
        return self.seen_weights(rotation, number)[:, self.grid.falling]

    def _hidden(self, rotation: Tensor) -> Tensor | None:
        """Which rising directions other copies block on the floor."""
        if self.copies is None:
            return None
        ways = self.cache.bins.directions[self.grid.rising]
        return self.copies.floor(self.copies.number(rotation), self.grid.inner, ways)

    @torch.no_grad()
    def _mean(self, shade: Tensor, falling: Tensor) -> Tensor:
        bins, position = self.cache.bins, self.cache.points.position
        weights = falling * bins.solid_angle[self.grid.falling]
        out = torch.zeros_like(position)
        for start in range(0, len(position), _CHUNK):
            part = weights[start : start + _CHUNK]
            point, way = torch.nonzero(part > 0).unbind(1)
            found = self.grid.at(shade, position[point + start], bins.directions[self.grid.falling[way]])
            out.index_add_(0, point + start, part[point, way][:, None] * found)
        total = weights.sum(1, keepdim=True)
        return torch.where(total > 0, out / total.clamp(min=1e-12), 1.0)


@dataclass
class GroundedLookups:
    """Visible look-ups over a floor, as ``shade`` takes them.

    Attributes:
        lookups: of the object alone, whose radiosity is grounded; shades: ``[R, N², 3]`` of its rotations.
    """

    lookups: VisibleLookups
    grid: FloorGrid
    shades: Tensor

    def __call__(self, found: Tensor, around: Tensor, directions: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
        """``found [K, N, 3]`` and ``around [N, 3]`` as they arrive over the floor and past the object."""
        own = self.lookups
        enclosed = own.radiosity.enclosed(own.rotations, own.rotation, own.corners)
        pixels = torch.nonzero(~enclosed).squeeze(1)  # the others get their ratio from ``lookups``
        _, ratio = own.irradiance.at(own.rotation[pixels], own.corners[pixels], own.shares[pixels])
        around = around.index_copy(0, pixels, around.index_select(0, pixels) * (1.0 + own.strength * (ratio - 1.0)))
        return own(found * self._shade(directions.detach()), around, directions, weights)

    @torch.no_grad()
    def _shade(self, directions: Tensor) -> Tensor:
        """``[K, N, 3]``: the floor's shade where look-ups go down, else 1."""
        own = self.lookups
        out = torch.ones_like(directions)
        number, pixel = torch.nonzero(directions[..., 1] < 0).unbind(1)
        rotation = own.rotation.index_select(0, pixel)
        ways = directions[number, pixel]
        ways = (ways[:, None] @ own.rotations.index_select(0, rotation))[:, 0]
        index, share = self.grid.nodes(own.origin.index_select(0, pixel), ways)
        places = (rotation[:, None] * self.shades.shape[1] + index).reshape(-1)
        shade = (self.shades.reshape(-1, 3).index_select(0, places).view(-1, 4, 3) * share[..., None]).sum(1)
        return out.index_put((number, pixel), 1.0 + own.strength * (shade - 1.0))


def _axes(up: np.ndarray) -> Tensor:
    """``[2, 3]``: unit vectors in the plane."""
    first = np.cross(up, np.eye(3)[np.argmin(np.abs(up))])
    first /= np.linalg.norm(first)
    return torch.from_numpy(np.stack([first, np.cross(up, first)])).float()


def _key(rotation: Tensor) -> bytes:
    return rotation.cpu().numpy().tobytes()
