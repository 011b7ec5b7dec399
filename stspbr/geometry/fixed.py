"""A mesh whose connectivity stays: vertices move by offsets from where they began."""

from __future__ import annotations

import numpy as np
import torch

from stspbr.errors import StspbrError
from stspbr.geometry.regularizers import UniformLaplacian, laplacian_loss


class FixedTopology(torch.nn.Module):
    """Geometry for the fixed-topology refinement, and for materials fitted on a given mesh.

    Args:
        positions: ``[V, 3]`` welded, object space.
        faces: ``[F, 3]``, counter-clockwise from outside.
        optimize: whether the vertices may move; if not, ``offsets`` is a frozen zero.

    Raises:
        StspbrError: no faces, or faces that point outside of the vertices.
    """

    def __init__(
        self, positions: np.ndarray | torch.Tensor, faces: np.ndarray | torch.Tensor, optimize: bool = True
    ) -> None:
        super().__init__()
        positions = torch.as_tensor(positions, dtype=torch.float32).detach().clone().contiguous()
        faces = torch.as_tensor(faces, dtype=torch.int32).detach().clone().contiguous()
        if len(faces) == 0:
            raise StspbrError("the mesh has no faces")
        if int(faces.min()) < 0 or int(faces.max()) >= len(positions):
            raise StspbrError(f"the mesh's faces point outside of its {len(positions)} vertices")
        self.register_buffer("positions", positions)
        self.register_buffer("faces", faces)
        self.offsets = torch.nn.Parameter(torch.zeros_like(positions), requires_grad=optimize)
        self.laplacian = UniformLaplacian(faces, len(positions)).to(positions.device)

    @property
    def box(self) -> tuple[torch.Tensor, torch.Tensor]:
        """``(box_min [3], box_max [3])`` of the mesh as it was given."""
        return self.positions.amin(dim=0), self.positions.amax(dim=0)

    def extract(self) -> tuple[torch.Tensor, torch.Tensor]:
        """``positions [V, 3]`` float32 (differentiable with respect to ``offsets``), ``faces [F, 3]`` int32."""
        return self.positions + self.offsets, self.faces

    def laplacian_loss(self, kind: str = "relative") -> torch.Tensor:
        """Umbrella energy (scalar) of the displacement (``"relative"``) or of the mesh itself (``"absolute"``)."""
        if kind == "relative":
            return laplacian_loss(self.laplacian, self.offsets)
        if kind == "absolute":
            return laplacian_loss(self.laplacian, self.positions + self.offsets)
        raise StspbrError(f"unknown Laplacian {kind!r}: give relative or absolute")
