"""Vertex normals."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from stspbr.geometry.normals import vertex_normals
from stspbr.scene.attributes import smooth_normals


@pytest.mark.parametrize("size", [1e-4, 3e-6, 1e-7, 1e-9, 0.0])
def test_sliver_vertices_have_finite_gradients(size):
    """A triangle of next to no area is what marching tetrahedra leave where the surface grazes a grid vertex."""
    positions = torch.tensor([[0.0, 0, 0], [size, 0, 0], [0, size, 0]], requires_grad=True)
    normals = vertex_normals(positions, torch.tensor([[0, 1, 2]], dtype=torch.int32))
    (normals * torch.randn(3, 3, generator=torch.Generator().manual_seed(0))).sum().backward()
    assert torch.isfinite(positions.grad).all()
    assert torch.isfinite(normals).all()


def test_what_is_exported_is_what_is_rendered():
    """Files, meters and the path tracer take NumPy's normals, trainer and renderer torch's: one rule."""
    rng = np.random.default_rng(0)
    positions = np.concatenate([rng.normal(size=(30, 3)), [[0, 0, 0], [1, 0, 0], [0, 1, 0], [5, 5, 5]]])
    faces = np.concatenate([rng.integers(0, 30, (80, 3)), [[30, 31, 32], [32, 31, 30]]]).astype(np.int32)
    positions = positions.astype(np.float32)
    files = smooth_normals(positions, faces)
    trained = vertex_normals(torch.from_numpy(positions), torch.from_numpy(faces)).numpy()
    np.testing.assert_allclose(files, trained, atol=1e-5)
    np.testing.assert_array_equal(files[30:], [[0, 0, 1]] * 4)  # faces that cancel, and none
    np.testing.assert_array_equal(trained[30:], files[30:])
