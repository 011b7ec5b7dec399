"""The geometry that a stage optimises: implicit, or of fixed topology."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from functools import partial
from typing import Protocol

import numpy as np
import torch
from torch import Tensor, nn

from stspbr.errors import StspbrError
from stspbr.geometry.coarse_to_fine import Evidence, Inheritance
from stspbr.geometry.implicit_shape import ImplicitShape
from stspbr.geometry.intersections import untangled
from stspbr.geometry.normals import vertex_normals
from stspbr.geometry.regularizers import FoldBarrier, UniformLaplacian, laplacian_loss
from stspbr.optimize.loop import Resized
from stspbr.optimize.routing import STRICT_A, Term
from stspbr.render.gbuffer import Surface
from stspbr.scene import Corners, Mesh
from stspbr.settings import GeometrySettings


class Geometry(Protocol):
    """The interface of a shape to the reconstruction."""

    def parameters(self) -> Iterable[Tensor]:
        """The optimiser's parameters; empty for a given mesh."""

    def surface(self) -> Surface:
        """The current mesh."""

    def regularizers(self, progress: float) -> list[Term]:
        """Terms that keep the shape regular; ``progress`` in [0, 1]."""


class ImplicitGeometry(nn.Module):
    """An implicit shape; its mesh is extracted anew in every step."""

    def __init__(self, shape: ImplicitShape, settings: GeometrySettings) -> None:
        super().__init__()
        self.shape = shape
        self.settings = settings

    def surface(self) -> Surface:
        """The zero level set; StspbrError if there is none."""
        positions, faces = self.shape.extract()
        if len(faces) == 0:
            raise StspbrError(
                "the surface vanished: no part of the grid is inside; start from the hull (geometry.initial=hull), "
                "lower rates.geometry.rate, or check masks and poses with the capture's preview"
            )
        return Surface(positions, faces, Corners(vertex_normals(positions, faces), faces))

    def resize(self, iterations: int, evidence: Evidence) -> dict[int, Callable[[], Resized]]:
        """When the cells are halved and the band moved, by step of a stage of so many ``iterations``.

        Args:
            evidence: of parts that the surface lacks when the cells are first halved.
        """
        settings = self.settings
        halved = [int(when * iterations) for when in settings.subdivide_at[: settings.levels]]
        if not halved and not self.shape.follows:
            return {}
        first = 0 if self.shape.follows else halved[0]
        steps = {*halved, *range(first, iterations, settings.band_refresh)}
        return {step: partial(self._resize, halved.count(step), evidence) for step in sorted(steps)}

    def _resize(self, times: int, evidence: Evidence) -> Resized:
        """Halve the cells so many ``times``; with 0, let the band follow the surface."""
        width, shape = self.settings.band, self.shape
        before = dict(shape.named_parameters())
        heirs = [] if times else shape.follow(width)
        for _ in range(times):
            heirs += shape.subdivide(width, evidence)
        # a halving makes the unit of distances a quarter and that of displacements a half
        lines = {"sdf": (heirs, 2.0), "deform": (heirs, 1.5)}
        lines |= {name: (own, 0.0) for name, own in shape.refresh().items()}
        replaced = [
            (before[name], after, partial(_inherited, *lines[name]))
            for name, after in shape.named_parameters()
            if after is not before[name]
        ]
        if not times or not heirs or shape.band is None:
            return Resized(None, replaced)
        cells, whole = len(shape.band.cells), int(shape.band.counts.prod())
        message = f"cells of half the side: {cells} around the surface, {100 * cells / whole:.0f} % of the box"
        return Resized(message, replaced)

    def settle(self) -> None:
        """From now on, the surface is made of the triangles of the result."""
        self.shape.settled = True

    def regularizers(self, progress: float) -> list[Term]:
        start, end = self.settings.sdf_regularizer
        weight = start + (end - start) * min(1.0, progress / self.settings.sdf_regularizer_ramp)
        terms = [Term("sdf", weight * self.shape.regularizer(), STRICT_A, closed=True)] if weight > 0 else []
        if self.settings.smoothness > 0:
            terms.append(Term("bending", self.settings.smoothness * self.shape.smoothness(), STRICT_A, closed=True))
        if self.settings.deviation > 0:
            own = self.shape.penalties()
            terms += [Term(n, self.settings.deviation * value, STRICT_A, closed=True) for n, value in own.items()]
        return terms


def _inherited(heirs: list[Inheritance], power: float, moment: Tensor, order: int) -> Tensor:
    """The moment of a parameter after each inheritance, whose gradients are ``share ** power`` of those before."""
    for heir in heirs:
        moment = heir.of(moment) * heir.share ** (power * order)
    return moment


class FixedGeometry(nn.Module):
    """A mesh whose vertices may move while topology, UVs and tangents are fixed.

    A mesh that does not move keeps its own normals; one that moves gets area-weighted smooth ones, split where its
    own normals are.

    Args:
        movable: whether the vertices are optimised.
        laplacian: weight of the displacement's umbrella energy, falling to 0; folding: weight of the fold barrier.
        normal_maps: one per material, ``[H, W, 3]`` tangent space, or None: part of the given shape, which then needs
            UVs and tangents.

    Raises:
        StspbrError: no faces, or faces with indices beyond the vertices.
    """

    def __init__(
        self,
        mesh: Mesh,
        *,
        movable: bool,
        laplacian: float,
        folding: float,
        device: torch.device,
        normal_maps: Sequence[np.ndarray | None] = (),
    ) -> None:
        super().__init__()
        self._fixed = Surface.of(mesh, device)
        positions, faces = self._fixed.positions, self._fixed.faces
        self._whole = torch.equal(self._fixed.normals.index, faces)  # no crease: a normal per vertex
        self.offsets = nn.Parameter(torch.zeros_like(positions), requires_grad=movable)
        self.movable = movable
        self.laplacian = laplacian
        self.folding = folding
        self.umbrella = UniformLaplacian(faces, len(positions)).to(device) if movable and laplacian > 0 else None
        self.barrier = FoldBarrier(positions, faces) if movable and folding > 0 else None
        self.scale = float((positions.amax(0) - positions.amin(0)).norm())
        if any(image is not None for image in normal_maps):
            flat = np.array([[[0.0, 0.0, 1.0]]], np.float32)
            images = [flat if image is None else image for image in normal_maps]
            self._fixed.normal_maps = [
                torch.as_tensor(image, dtype=torch.float32, device=device)[None].contiguous() for image in images
            ]
            if mesh.face_material is not None:
                self._fixed.face_material = torch.as_tensor(mesh.face_material, dtype=torch.int64, device=device)

    def surface(self) -> Surface:
        if not self.movable:
            return self._fixed
        positions, faces = self._fixed.positions + self.offsets, self._fixed.faces
        own = self._fixed.normals
        normals = vertex_normals(positions, faces, None if self._whole else own)
        return replace(self._fixed, positions=positions, normals=Corners(normals, own.index))

    @torch.no_grad()
    def untangle(self) -> tuple[int, int]:
        """Smooth the moved mesh where it cuts itself; the pairs of faces that do so before and after."""
        if not self.movable:
            return 0, 0
        positions = (self._fixed.positions + self.offsets).cpu().numpy()
        found, before, after = untangled(positions, self._fixed.faces.cpu().numpy())
        self.offsets.add_(torch.as_tensor(found - positions, dtype=self.offsets.dtype, device=self.offsets.device))
        return before, after

    def regularizers(self, progress: float) -> list[Term]:
        terms = []
        if self.barrier is not None:
            value = self.barrier(self._fixed.positions + self.offsets)
            terms.append(Term("folding", self.folding * value, STRICT_A, closed=True))
        if self.umbrella is not None:
            # in units of the object's diagonal: the weight means the same for every object
            value = laplacian_loss(self.umbrella, self.offsets) / self.scale**2
            terms.append(Term("laplacian", 1e4 * self.laplacian * (1.0 - progress) * value, STRICT_A, closed=True))
        return terms
