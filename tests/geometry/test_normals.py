"""Vertex normals."""

from __future__ import annotations

import pytest
import torch

from stspbr.geometry.normals import vertex_normals


@pytest.mark.parametrize("size", [1e-4, 3e-6, 1e-7, 1e-9, 0.0])
def test_sliver_vertices_have_finite_gradients(size):
    """A triangle of next to no area is what marching tetrahedra leave where the surface grazes a grid vertex."""
    positions = torch.tensor([[0.0, 0, 0], [size, 0, 0], [0, size, 0]], requires_grad=True)
    normals = vertex_normals(positions, torch.tensor([[0, 1, 2]], dtype=torch.int32))
    (normals * torch.randn(3, 3, generator=torch.Generator().manual_seed(0))).sum().backward()
    assert torch.isfinite(positions.grad).all()
    assert torch.isfinite(normals).all()
