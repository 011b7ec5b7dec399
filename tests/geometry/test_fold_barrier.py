"""The barrier against faces that turn over: free while they face as they did, a bounded push back when they do not."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from stspbr.geometry.regularizers import FoldBarrier


def patch(n: int = 6) -> tuple[torch.Tensor, torch.Tensor]:
    """A flat square of 2·n² triangles in z = 0, facing +z."""
    y, x = np.mgrid[0 : n + 1, 0 : n + 1].reshape(2, -1) / n
    positions = torch.tensor(np.stack([x, y, np.zeros_like(x)], axis=1), dtype=torch.float32)
    i, j = np.mgrid[0:n, 0:n].reshape(2, -1)
    a, b, c, d = i * (n + 1) + j, i * (n + 1) + j + 1, (i + 1) * (n + 1) + j, (i + 1) * (n + 1) + j + 1
    faces = np.concatenate([np.stack([a, b, d], 1), np.stack([a, d, c], 1)])
    return positions, torch.tensor(faces, dtype=torch.int32)


def test_the_mesh_it_began_as_and_its_gentle_motions_are_free():
    positions, faces = patch()
    barrier = FoldBarrier(positions, faces)
    assert barrier(positions).item() == 0.0
    assert barrier(positions + torch.tensor([3.0, -1.0, 2.0])).item() == 0.0
    assert barrier(positions * torch.tensor([0.5, 0.6, 1.0])).item() == 0.0  # 0.3 of the area is left
    bent = positions.clone()
    bent[:, 2] = 0.3 * positions[:, 0].square()
    assert barrier(bent).item() == 0.0


def test_what_is_missing_is_charged_in_mean_areas():
    positions, faces = patch()
    barrier = FoldBarrier(positions, faces, keep=0.2)
    squeezed = positions * torch.tensor([0.1, 1.0, 1.0])
    assert barrier(squeezed).item() == pytest.approx(0.1, rel=1e-4)
    assert barrier(positions * torch.tensor([-1.0, 1.0, 1.0])).item() == pytest.approx(1.2, rel=1e-4)


def test_descent_unfolds_a_vertex_that_went_through_its_neighbours():
    positions, faces = patch()
    barrier = FoldBarrier(positions, faces)
    folded = positions.clone()
    folded[24] += torch.tensor([0.25, 0.05, 0.0])  # the middle vertex, past its neighbour at 1/6
    assert barrier(folded).item() > 0.0
    folded.requires_grad_(True)
    optimizer = torch.optim.Adam([folded], lr=0.01)
    for _ in range(100):
        optimizer.zero_grad()
        loss = barrier(folded)
        if loss.item() == 0.0:
            break
        loss.backward()
        assert torch.isfinite(folded.grad).all()
        optimizer.step()
    assert barrier(folded.detach()).item() == 0.0


def test_degenerate_faces_are_neither_charged_nor_nan():
    positions, faces = patch(2)
    faces = torch.cat([faces, torch.tensor([[0, 0, 1]], dtype=torch.int32)])
    moved = positions.clone().requires_grad_(True)
    loss = FoldBarrier(positions, faces)(moved)
    loss.backward()
    assert loss.item() == 0.0 and torch.isfinite(moved.grad).all()
