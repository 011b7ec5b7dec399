"""Points of a mesh: as dense as asked, shared where triangles meet, and read without a seam."""

from __future__ import annotations

import torch

from stspbr.transport.points import cache_points, mixed


def cube() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """A unit cube of 12 triangles; each side has normals of its own."""
    positions, faces, normals = [], [], []
    for axis in range(3):
        for sign in (-1.0, 1.0):
            normal = torch.zeros(3)
            normal[axis] = sign
            u, v = torch.eye(3)[(axis + 1) % 3], torch.eye(3)[(axis + 2) % 3]
            base = len(positions)
            positions += [0.5 * (normal + a * u + b * v) for a, b in ((-1, -1), (1, -1), (1, 1), (-1, 1))]
            quad = [(0, 1, 2), (0, 2, 3)] if sign > 0 else [(0, 2, 1), (0, 3, 2)]
            faces += [[base + k for k in corner] for corner in quad]
            normals += [normal] * 4
    index = torch.tensor(faces, dtype=torch.int32)
    return torch.stack(positions), index, torch.stack(normals), index


def places(count: int, faces: int, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    weights = torch.distributions.Dirichlet(torch.ones(3)).sample((count,))
    weights[: count // 4, 0] = 0.0  # on edges, too, and at corners
    weights[: count // 8, 1] = 0.0
    weights /= weights.sum(1, keepdim=True)
    return torch.randint(faces, (count,), generator=generator), weights[:, 1:].contiguous()


def test_a_place_is_the_mean_of_the_points_about_it():
    positions, faces, normals, normal_faces = cube()
    for longest in (3.0, 0.7, 0.13):
        points = cache_points(positions, faces, normals, normal_faces, longest)
        triangle, barycentric = places(4000, len(faces))
        corners, shares = points.corners(triangle, barycentric)
        assert bool((shares >= -1e-5).all()) and torch.allclose(shares.sum(1), torch.ones(4000), atol=1e-5)
        weights = torch.cat([1 - barycentric.sum(1, keepdim=True), barycentric], dim=1)
        truth = (positions[faces[triangle].long()] * weights[..., None]).sum(1)
        read = (points.position[corners] * shares[..., None]).sum(1)
        assert torch.allclose(read, truth, atol=2e-5)
        near = (points.position[corners] - truth[:, None]).norm(dim=-1).amax()
        assert float(near) <= longest * 1.0001 or longest > 1


def test_kernels_match_the_double_precision_twin():
    points = cache_points(*cube(), 0.13)
    triangle, barycentric = places(4000, 12)
    corners, shares = points.corners(triangle, barycentric)
    twin_corners, twin_shares = points.corners(triangle, barycentric.double())
    assert twin_shares.dtype == torch.float64
    values = torch.cat([points.position, points.normal], dim=1)
    got, expected = mixed(values, corners, shares), mixed(values.double(), twin_corners, twin_shares)
    assert torch.allclose(got.double(), expected, atol=1e-5)  # the same place, though a cell's edge may be of either
    assert float((corners == twin_corners).all(1).double().mean()) > 0.8  # a quarter of the places are on edges


def test_points_lie_on_their_triangle_and_normals_are_those_of_their_side():
    positions, faces, normals, normal_faces = cube()
    points = cache_points(positions, faces, normals, normal_faces, 0.2)
    weights = torch.cat([1 - points.barycentric.sum(1, keepdim=True), points.barycentric], dim=1)
    assert torch.allclose(
        (positions[faces[points.triangle].long()] * weights[..., None]).sum(1), points.position, atol=1e-5
    )
    assert torch.equal(points.normal, normals[normal_faces[points.triangle, 0].long()])


def test_triangles_of_one_side_share_points_and_sides_do_not():
    positions, faces, normals, normal_faces = cube()
    coarse = cache_points(positions, faces, normals, normal_faces, 10.0)
    assert len(coarse.position) == 24  # four per side
    fine = cache_points(positions, faces, normals, normal_faces, 0.75)  # the diagonal in two
    assert len(fine.position) == 6 * 9
