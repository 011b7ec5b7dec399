"""DMTet: a signed distance and a displacement at every vertex of a tetrahedral grid (Shen et al. 2021)."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F

from stspbr.errors import StspbrError
from stspbr.geometry.marching_tets import MarchingTets
from stspbr.geometry.tet_grid import border_vertices, tet_grid


class DMTet(torch.nn.Module):
    """Geometry whose topology may change: the zero level of ``sdf`` on a deformable grid.

    Parameters: ``sdf [V]`` (negative inside, object units by convention) and ``deform [V, 3]``: ``tanh(deform)`` times
    half a cell is added to the grid. A cell is a voxel with the volume of a tetrahedron, ``extent / resolution``:
    small enough that neighbours cannot easily pass each other.

    Args:
        resolution: see ``tet_grid``.
        box_min, box_max: ``[3]`` object units. The surface always closes at the box.
        generator: draws the initial distances, uniform in [−0.18, 0.02] of the box's shortest side: nine tenths of
            the noise are inside. ``init_sphere`` and ``init_sdf`` are better starts.

    Raises:
        StspbrError: an empty box, or a resolution below 4.
    """

    grid: torch.Tensor
    box_min: torch.Tensor
    box_max: torch.Tensor
    _edges: torch.Tensor
    _degree: torch.Tensor
    _symmetric: torch.Tensor

    def __init__(
        self, resolution: int, box_min: np.ndarray, box_max: np.ndarray, generator: torch.Generator | None = None
    ) -> None:
        super().__init__()
        vertices, tets, edges = tet_grid(resolution, box_min, box_max)
        low, high = vertices.min(axis=0), vertices.max(axis=0)
        border = border_vertices(vertices)
        self.marching = MarchingTets(tets, edges, border)
        self.cell = float((high - low).max() / resolution)
        self.register_buffer("grid", torch.from_numpy(vertices), persistent=False)
        self.register_buffer("box_min", torch.from_numpy(low))
        self.register_buffer("box_max", torch.from_numpy(high))
        self.register_buffer("_edges", torch.from_numpy(edges.T.astype(np.int64).copy()), persistent=False)
        degree = np.bincount(edges.ravel(), minlength=len(vertices)).astype(np.float32)
        self.register_buffer("_degree", torch.from_numpy(degree), persistent=False)
        offsets = np.zeros((len(vertices), 3))
        np.add.at(offsets, edges[:, 0], vertices[edges[:, 1]] - vertices[edges[:, 0]])
        np.add.at(offsets, edges[:, 1], vertices[edges[:, 0]] - vertices[edges[:, 1]])
        touches_border = np.zeros(len(vertices), bool)
        touches_border[edges[border[edges].any(axis=1)].ravel()] = True
        symmetric = (np.abs(offsets).max(axis=1) < 1e-3 * self.cell) & ~touches_border
        self.register_buffer("_symmetric", torch.from_numpy(symmetric), persistent=False)
        noise = torch.rand(len(vertices), generator=generator) * 0.2 - 0.1
        self.sdf = torch.nn.Parameter((noise - 0.08) * float((high - low).min()))
        self.deform = torch.nn.Parameter(torch.zeros(len(vertices), 3))

    @property
    def box(self) -> tuple[torch.Tensor, torch.Tensor]:
        """``(box_min [3], box_max [3])`` of the undeformed grid, by which encodings normalise positions."""
        return self.box_min, self.box_max

    def vertices(self) -> torch.Tensor:
        """``[V, 3]`` the deformed grid."""
        return self.grid + torch.tanh(self.deform) * (0.5 * self.cell)

    def extract(self) -> tuple[torch.Tensor, torch.Tensor]:
        """The welded surface ``positions [M, 3]`` float32 (differentiable), ``faces [F, 3]`` int32; may be empty."""
        return self.marching(self.vertices(), self.sdf)

    @torch.no_grad()
    def init_sphere(self, radius: float) -> None:
        """Start from the ellipsoid around the box's centre whose semi-axes are ``radius`` times the half sides."""
        centre, half = (self.box_min + self.box_max) / 2, (self.box_max - self.box_min) / 2
        self.sdf.copy_((torch.linalg.norm((self.grid - centre) / half, dim=1) - radius) * half.min())
        self.deform.zero_()

    @torch.no_grad()
    def init_sdf(self, values: np.ndarray | torch.Tensor) -> None:
        """Start from given distances ``[V]`` at the undeformed grid (see ``visual_hull_sdf``), negative inside.

        Raises:
            StspbrError: a wrong number of values, one that is not finite, or nothing inside the box.
        """
        values = torch.as_tensor(values, dtype=torch.float32, device=self.sdf.device)
        if values.shape != self.sdf.shape:
            raise StspbrError(f"the grid has {len(self.sdf)} vertices but {tuple(values.shape)} distances were given")
        if not bool(torch.isfinite(values).all()):
            raise StspbrError("the initial distances contain NaN or infinity: check the masks and cameras")
        if not bool((self.marching.values(values) < 0).any()):
            raise StspbrError("the initial shape is empty inside the grid's box: check the masks, cameras and box")
        self.sdf.copy_(values)
        self.deform.zero_()

    def regularizer(self) -> torch.Tensor:
        """Sign-change penalty (scalar): keeps neighbours on both sides of the surface close to zero and each other.

        Mean over the grid's edges with a sign change of
        ``BCE(sigmoid(s_i), [s_j ≥ 0]) + BCE(sigmoid(s_j), [s_i ≥ 0])`` (Munkberg et al. 2022), with distances in
        object units. Zero if no edge crosses.
        """
        values = self.marching.values(self.sdf)
        inside = values.detach() < 0
        first, second = self._edges
        crosses = inside[first] != inside[second]
        if values.device.type == "cpu":
            crossing = torch.nonzero(crosses).squeeze(1)
            if crossing.numel() == 0:
                return values.sum() * 0.0
            return _sign_penalty(values, first[crossing], second[crossing]).mean()
        return masked_sign_penalty(values, crosses, first, second)

    def smoothness(self) -> torch.Tensor:
        """Bending of the level set (scalar): mean squared umbrella of the distances at the grid's vertices near it.

        The Laplacian of a signed distance is the mean curvature; on the symmetric lattice the umbrella of a plane's
        distances is zero. Distances are in cells, so the weight does not depend on the resolution. Vertices within
        two cells of the surface count, except those at the box, where the lattice is not symmetric.
        """
        values = self.marching.values(self.sdf) / self.cell
        first, second = self._edges
        difference = torch.index_select(values, 0, second) - torch.index_select(values, 0, first)
        total = torch.zeros_like(values).index_add(0, first, difference).index_add(0, second, -difference)
        near = (values.detach().abs() < 2.0) & self._symmetric
        count = near.sum().clamp(min=1)
        return torch.where(near, total / self._degree, 0.0).square().sum() / count


def masked_sign_penalty(
    values: torch.Tensor, crosses: torch.Tensor, first: torch.Tensor, second: torch.Tensor
) -> torch.Tensor:
    """The regulariser over all edges with a mask ``crosses [E]``, a scalar; zero if no edge crosses.

    On a GPU, all edges cost less than waiting for the number of crossing ones.
    """
    loss = torch.where(crosses, _sign_penalty(values, first, second), 0.0)
    return loss.sum() / crosses.sum().clamp(min=1)


def _sign_penalty(values: torch.Tensor, first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
    """The cost ``[E]`` of each edge, from each end point's distance and the other's sign."""
    a, b = torch.index_select(values, 0, first), torch.index_select(values, 0, second)
    loss = F.binary_cross_entropy_with_logits(a, (b >= 0).to(a.dtype), reduction="none")
    return loss + F.binary_cross_entropy_with_logits(b, (a >= 0).to(b.dtype), reduction="none")
