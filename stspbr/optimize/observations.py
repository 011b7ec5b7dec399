"""The training views' observations of the surface, pixel by pixel, and the small cells over which they are summed."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from stspbr.fields.material_values import MaterialValues
from stspbr.optimize.views import FULL_COVERAGE, step_generator
from stspbr.render.gbuffer import GBuffer, compose, render_gbuffer
from stspbr.transport.transport import Places

if TYPE_CHECKING:
    from stspbr.optimize.reconstruction import Reconstruction

_PER_CELL = 6.0  # observations: a cell and its 26 neighbours then have about 50, over a pixel or two of the views
_COLUMNS = 32  # views counted at a time


@dataclass
class Observations:
    """N pixels of the training views inside the outline, below saturation, in object space.

    Attributes:
        position, normal, to_eye: ``[N, 3]``; ``normal`` is the unit shading normal.
        view: ``[N]`` int64 into ``rotations`` ``[R, 3, 3]``, object to world.
        radiance: ``[N, 3]`` linear, without what the camera made of it.
        occlusion: ``[N, 1]``, 1 = open; or None.
        places: in the object that hides light from itself; None: nothing is hidden.
        bend: ``[N, 1]`` how much the smooth normal turns within the pixel; None: not at all.
        to_lamp: ``[N, 3]`` from the point to the lamp on the camera; None: there is none.
    """

    position: Tensor
    normal: Tensor
    to_eye: Tensor
    view: Tensor
    rotations: Tensor
    radiance: Tensor
    occlusion: Tensor | None
    places: Places | None = None
    bend: Tensor | None = None
    to_lamp: Tensor | None = None

    def __len__(self) -> int:
        return len(self.position)

    def at(self, places: Tensor | slice) -> Observations:
        """The observations at ``places``, indices ``[M]`` or a slice."""
        own = None if self.places is None else self.places.at(places)
        return replace(self, places=own, **{name: getattr(self, name)[places] for name in self.lists()})

    def lists(self) -> list[str]:
        """Names of the tensors with one row per pixel."""
        names = ["position", "normal", "to_eye", "view", "radiance"]
        return names + [name for name in ("occlusion", "bend", "to_lamp") if getattr(self, name) is not None]


_OPAQUE = 0.9  # opacity of a surface whose own material is seen
_MIXED = 1e-3  # by which antialiasing moves what a pixel shows, in the box [−1, 1]³: it shows two places at once


@torch.no_grad()
def observe(problem: Reconstruction, limit: int) -> Observations:
    """Observations of ``problem``'s current surface in its training views.

    Args:
        limit: about how many observations at most; a random subset if there are more.
    """
    if problem.transport is not None:
        problem.transport.transport.refresh(problem.geometry.surface(), problem.material)
    return joined([look.seen for look in looks(problem, limit)], problem)


@dataclass
class Look:
    """What one view sees.

    Attributes:
        seen: its observations; pixels: ``[N]`` int64, which of the G-buffer's covered pixels they are.
        gbuffer: of the view; material: at its covered pixels, as the maps or networks have it.
        share: of the view's pixels that are observations, for each of which 1 / ``share`` pixels stand.
    """

    seen: Observations
    pixels: Tensor
    gbuffer: GBuffer
    material: MaterialValues
    share: float


@torch.no_grad()
def looks(problem: Reconstruction, limit: int, apart: bool = False) -> Iterator[Look]:
    """View by view what ``problem``'s current surface shows; views that do not see it are left out.

    Transport is as it was last refreshed.

    Args:
        limit: about how many observations at most, of all views; a random subset if there are more.
        apart: leave out pixels at a contour of the object before itself, which show two places of it at once.
    """
    views, device = problem.views, problem.views.device
    surface = problem.geometry.surface()
    inside = float((views.alpha > FULL_COVERAGE).sum())
    keep = min(1.0, limit / max(inside, 1.0))
    generator = step_generator(0, problem.seed, device)
    rotations = views.cameras.object_rotation
    for number in range(len(views)):
        batch, targets = views.samples(number)
        batch = problem.seen(batch, [number])
        gbuffer = render_gbuffer(surface, batch, problem.backend)
        if len(gbuffer.covered) == 0:
            continue
        inputs = problem.appearance.evaluate(gbuffer, 1.0)
        image = compose(gbuffer, gbuffer.position if apart else inputs.roughness, problem.backend)
        alpha = image[..., -1:]
        target = targets.image.reshape(-1, 3).index_select(0, gbuffer.covered)
        clear = torch.minimum(alpha, targets.alpha).reshape(-1).index_select(0, gbuffer.covered) > FULL_COVERAGE
        if apart:
            place = image[..., :3].reshape(-1, 3).index_select(0, gbuffer.covered)
            clear &= (place - gbuffer.position).abs().amax(dim=1) < _MIXED
        if inputs.opacity is not None:  # else what is behind a cut-out would be taken for its surface
            clear &= inputs.opacity[:, 0] > _OPAQUE
        if problem.photography is None:
            clear &= (target < targets.saturation.reshape(-1, 1)).all(dim=1)
        else:
            whole = [number], gbuffer.covered, targets.saturation
            target, below_white = problem.photography.radiance(target, batch, *whole)
            clear &= below_white
        if keep < 1.0:
            clear &= torch.rand(len(clear), generator=generator, device=device) < keep
        places = torch.nonzero(clear).squeeze(1)
        view = torch.full((len(target),), number, dtype=torch.int64, device=device)
        hidden = None if problem.transport is None else problem.transport.transport.places(surface, gbuffer)
        every = Observations(
            gbuffer.position, inputs.normal, gbuffer.to_eye, view, rotations, target, inputs.occlusion, hidden,
            None if gbuffer.bend is None else gbuffer.bend / views.sample_step**2, problem.light.to_lamp(gbuffer),
        )  # fmt: skip
        yield Look(every.at(places), places, gbuffer, inputs, keep / views.sample_step**2)


def joined(parts: list[Observations], problem: Reconstruction) -> Observations:
    """The observations of several views of ``problem`` as one list."""
    if not parts:
        none = torch.zeros(0, 3, device=problem.views.device)
        rotations = problem.views.cameras.object_rotation
        return Observations(none, none, none, none[:, 0].long(), rotations, none, None)
    names = parts[0].lists()
    lists = [part.places for part in parts if part.places is not None]
    return replace(
        parts[0],
        places=Places.joined(lists) if lists else None,
        **{name: torch.cat([getattr(part, name) for part in parts]) for name in names},
    )


class Cells:
    """The cells of a regular grid that contain points, fine enough for about six points each.

    Args:
        points: ``[N, 3]`` in the cube [−1, 1]³; N ≥ 1.
        group: ``[N]`` int64 ≥ 0, of points that may share a cell; None: all may. Neighbours are of one group, too.

    Attributes:
        owner: ``[N]`` int64, the cell of each point; count: number of cells.
    """

    def __init__(self, points: Tensor, group: Tensor | None = None) -> None:
        self.resolution = _resolution(points)
        self._volume = self.resolution**3
        flat = self._key(points, group)
        used, self.owner = torch.unique(flat, return_inverse=True)
        self._used = used
        self.count = len(used)
        first, inside = used // self._volume * self._volume, used % self._volume
        plane = self.resolution * self.resolution
        own = torch.stack(
            [inside // plane, inside // self.resolution % self.resolution, inside % self.resolution], dim=1
        )
        self._neighbours = []
        for step in itertools.product((-1, 0, 1), repeat=3):
            near = own + torch.tensor(step, device=points.device)
            wanted = first + _flat(near, self.resolution)
            found = torch.searchsorted(used, wanted).clamp(max=self.count - 1)
            there = ((near >= 0) & (near < self.resolution)).all(dim=1) & (used.index_select(0, found) == wanted)
            # empty cells share one row of zeros after the last cell
            self._neighbours.append(torch.where(there, found, torch.full_like(found, self.count)))

    def find(self, points: Tensor, group: Tensor | None = None) -> Tensor:
        """``[M]`` int64: the cell of each of ``points`` ``[M, 3]``; −1 if it contains no point of this object's."""
        wanted = self._key(points, group)
        found = torch.searchsorted(self._used, wanted).clamp(max=self.count - 1)
        return torch.where(self._used.index_select(0, found) == wanted, found, torch.full_like(found, -1))

    def interpolated(self, values: Tensor, points: Tensor, group: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """``[M, C]`` trilinear sums of the cells' ``values`` ``[count, C]`` at ``points`` ``[M, 3]``.

        Returns:
            The sums, in which cells without points count as 0, and the weight ``[M]`` in [0, 1] of those with points.
        """
        place = (points.clamp(-1.0, 1.0) + 1.0) * (0.5 * self.resolution) - 0.5
        first = place.floor()
        out, weight = values.new_zeros(len(points), values.shape[1]), values.new_zeros(len(points))
        for step in itertools.product((0.0, 1.0), repeat=3):
            corner = first + first.new_tensor(step)
            share = (1.0 - (place - corner).abs()).prod(dim=1)
            cell = self.find((corner + 0.5) * (2.0 / self.resolution) - 1.0, group)
            share = torch.where((cell >= 0) & ((corner >= 0) & (corner < self.resolution)).all(dim=1), share, 0.0)
            out += share[:, None] * values.index_select(0, cell.clamp(min=0))
            weight += share
        return out, weight

    def _key(self, points: Tensor, group: Tensor | None) -> Tensor:
        flat = _flat(_grid(points, self.resolution), self.resolution)
        return flat if group is None else flat + group * self._volume

    def pooled(self, values: Tensor) -> Tensor:
        """Sums ``[count, C]`` of ``values`` ``[N, C]`` over the points of each cell and of its 26 neighbours."""
        return self._around(values.new_zeros(self.count + 1, values.shape[1]).index_add_(0, self.owner, values))

    def smoothed(self, values: Tensor, weight: Tensor) -> Tensor:
        """Weighted means ``[count, C]`` of the cells' own ``values`` ``[count, C]`` over each and its neighbours.

        Args:
            weight: ``[count, 1]`` ≥ 0; where all are 0, so is the mean.
        """
        sums = self._around(torch.nn.functional.pad(torch.cat([weight * values, weight], dim=1), (0, 0, 0, 1)))
        return sums[:, :-1] / sums[:, -1:].clamp(min=1e-12)

    def _around(self, sums: Tensor) -> Tensor:
        """Sums over cells and neighbours of ``[count + 1, C]``, whose last row is zero."""
        return sum((sums.index_select(0, near) for near in self._neighbours), sums.new_zeros(()))

    def distinct(self, groups: Tensor) -> Tensor:
        """``[count, 1]``: number of distinct values of ``groups`` ``[N]`` (int64, ≥ 0) in a cell and its neighbours."""
        total = torch.zeros(self.count, 1, device=groups.device)
        for first in range(0, int(groups.max()) + 1, _COLUMNS):
            column = groups - first
            inside = (column >= 0) & (column < _COLUMNS)
            places = self.owner[inside] * _COLUMNS + column[inside]
            sums = total.new_zeros((self.count + 1) * _COLUMNS).index_fill_(0, places, 1.0).view(-1, _COLUMNS)
            found = sum((sums.index_select(0, near) for near in self._neighbours), sums.new_zeros(()))
            total += (found > 0).sum(dim=1, keepdim=True)
        return total


def _resolution(points: Tensor) -> int:
    """Cells along the cube's side for about ``_PER_CELL`` points per cell; a surface occupies a number ~ r² of them."""
    resolution = 32
    for _ in range(3):
        used = len(torch.unique(_flat(_grid(points, resolution), resolution)))
        wanted = resolution * (len(points) / (_PER_CELL * used)) ** 0.5
        resolution = int(min(max(round(wanted), 8), 2048))
    return resolution


def _grid(points: Tensor, resolution: int) -> Tensor:
    return ((points + 1.0) * (0.5 * resolution)).long().clamp(0, resolution - 1)


def _flat(cells: Tensor, resolution: int) -> Tensor:
    return (cells[:, 0] * resolution + cells[:, 1]) * resolution + cells[:, 2]
