"""Antialiasing against the reference, and against what coverage is: the area of the shape."""

from __future__ import annotations

import math

import numba
import pytest
import torch

from stspbr.render.cpu.antialias import antialias, edge_topology
from stspbr.render.cpu.rasterize import rasterize
from stspbr.render.reference import antialias as reference


def soup(batch, count, vertices, seed=0, behind=False):
    g = torch.Generator().manual_seed(seed)
    shape = (batch, vertices, 1)
    w = torch.randn(shape, generator=g) if behind else torch.rand(shape, generator=g) * 2 + 0.3
    xy = torch.randn(batch, vertices, 2, generator=g) * w.abs()
    clip = torch.cat([xy, torch.randn(batch, vertices, 1, generator=g) * 0.6 * w.abs(), w], dim=-1)
    return clip, torch.randint(0, vertices, (count, 3), generator=g).int()


def sphere(rings, segments):
    """A closed unit sphere with one vertex at each pole."""
    points, faces = [(0.0, 1.0, 0.0)], []
    for i in range(1, rings):
        t = math.pi * i / rings
        for j in range(segments):
            p = 2 * math.pi * j / segments
            points.append((math.sin(t) * math.cos(p), math.cos(t), math.sin(t) * math.sin(p)))
    points.append((0.0, -1.0, 0.0))
    last = len(points) - 1
    for j in range(segments):
        k = (j + 1) % segments
        faces += [(0, 1 + k, 1 + j), (last, last - segments + j, last - segments + k)]
        for i in range(rings - 2):
            a = 1 + i * segments
            faces += [(a + j, a + k, a + segments + j), (a + k, a + segments + k, a + segments + j)]
    return torch.tensor(points), torch.tensor(faces, dtype=torch.int32)


def coverage(clip, faces, resolution, raster):
    rast, _ = raster.rasterize(clip, faces, resolution)
    return raster.antialias((rast[..., 3:] > 0).float(), rast, clip, faces)


SCENES = {
    "soup": lambda: soup(2, 14, 42),
    "shared": lambda: soup(2, 20, 14, seed=1),
    "behind": lambda: soup(2, 14, 20, seed=2, behind=True),
    "sphere": lambda: (torch.cat([sphere(6, 7)[0] * 0.7, torch.ones(37, 1)], -1)[None], sphere(6, 7)[1]),
}


@pytest.mark.parametrize("name", SCENES)
def test_values_and_gradients_match_reference(name, raster):
    if (raster.name, name) == ("nvdiffrast", "shared"):
        pytest.skip("nvdiffrast: edges with more than two faces are its own affair")
    clip, faces = SCENES[name]()
    rast, _ = rasterize(clip, faces, (15, 20))
    g = torch.Generator().manual_seed(9)
    color = torch.randn(*rast.shape[:3], 3, generator=g)
    fast = [t.clone().requires_grad_() for t in (color, clip)]
    slow = [t.double().requires_grad_() for t in (color, clip)]
    out = raster.antialias(fast[0], rast, fast[1], faces)
    expected = reference.antialias(slow[0], rast, slow[1], faces)
    assert ((expected - color).abs().sum(-1) > 1e-3).sum() > 10, "the test must see silhouettes"
    t = raster.tolerance
    torch.testing.assert_close(out.double(), expected, atol=2e-6 * t, rtol=1e-5 * t)
    weight = torch.randn(out.shape, generator=g)
    (out * weight).sum().backward()
    (expected * weight.double()).sum().backward()
    torch.testing.assert_close(fast[0].grad.double(), slow[0].grad, atol=1e-5 * t, rtol=1e-5 * t)
    assert (fast[1].grad[..., 2] == 0).all()
    scale = slow[1].grad.abs().amax(dim=-1, keepdim=True)
    assert scale.max() > 0
    assert ((fast[1].grad - slow[1].grad).abs() <= t * (1e-5 * scale + 1e-5)).all()


@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize("offset", [0.0, 0.2, 0.5, 0.7, 0.99])
def test_axis_aligned_edge_gives_exact_coverage(axis, offset, raster):
    size, edge = 16, 7 + offset
    corners = [(-20.0, -20.0), (edge, -20.0), (edge, 40.0), (-20.0, 40.0)]
    corners = torch.tensor(corners) if axis == 0 else torch.tensor(corners).flip(-1)
    clip = torch.cat([corners * 2 / size - 1, torch.tensor([[0.0, 1.0]]).expand(4, 2)], -1)[None]
    faces = torch.tensor([[0, 1, 2], [0, 2, 3]], dtype=torch.int32)
    image = coverage(clip, faces, (size, size), raster)[0, ..., 0]
    line = image[5] if axis == 0 else image[:, 5]
    expected = (edge - torch.arange(size)).clamp(0, 1)
    torch.testing.assert_close(line, expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("flip", [False, True])
@pytest.mark.parametrize("w", [1.0, 2.5])
def test_gradient_of_coverage_is_that_of_the_area(flip, w, raster):
    height, width = 96, 128
    points = torch.tensor([[20.3, 11.2], [113.1, 40.7], [47.9, 88.4]], dtype=torch.float64)
    if flip:
        points = points.flip(0)
    clip = torch.cat([points / torch.tensor([width, height]) * 2 - 1, torch.tensor([[0.0, 1.0]]).expand(3, 2)], -1)
    clip = (clip * w).float()[None].requires_grad_()
    faces = torch.tensor([[0, 1, 2]], dtype=torch.int32)
    covered = coverage(clip, faces, (height, width), raster).sum()
    covered.backward()
    points.requires_grad_()
    a, b = points[1] - points[0], points[2] - points[0]
    area = 0.5 * (a[0] * b[1] - a[1] * b[0]).abs()
    area.backward()
    assert abs(covered.item() - area.item()) < 0.003 * area.item()
    in_pixels = clip.grad[0, :, :2].double() * w * 2 / torch.tensor([width, height])
    assert (in_pixels - points.grad).norm() < 0.03 * points.grad.norm()
    # Moving along the viewing ray, (x, y, w) together, changes nothing on screen.
    along_ray = (clip.grad * clip.detach())[0, :, [0, 1, 3]].sum(-1)
    assert along_ray.abs().max() < 1e-3 * clip.grad.abs().max()


def turned(points, scale):
    turn = torch.linalg.matrix_exp(torch.tensor([[0.0, 0.3, -0.2], [-0.3, 0.0, 0.5], [0.2, -0.5, 0.0]]))
    return torch.cat([points @ turn * scale, torch.ones(len(points), 1)], -1)[None]


def test_closed_surface_grows_at_its_outline(raster):
    """Area grows with the square of the scale, ∂A/∂s · s = 2A, whatever edges lie within the surface.

    The faces are many pixels wide: a silhouette edge whose triangle no pixel shows is not found.
    """
    points = torch.tensor([[1.0, 0, 0], [-1, 0, 0], [0, 1, 0], [0, -1, 0], [0, 0, 1], [0, 0, -1]])
    faces = torch.tensor([[a, b, c] for a in (0, 1) for b in (2, 3) for c in (4, 5)], dtype=torch.int32)
    clip = turned(points, 0.8).requires_grad_()
    area = coverage(clip, faces, (128, 128), raster).sum()
    area.backward()
    growth = (clip.grad * clip.detach())[..., :2].sum()
    assert abs(growth.item() / (2 * area.item()) - 1) < 0.03


def test_edges_within_a_smooth_surface_blend_nothing(raster):
    points, faces = sphere(12, 18)
    clip = turned(points, 0.8)
    rast, _ = raster.rasterize(clip, faces, (96, 96))
    empty = (rast[..., 3] == 0).float()[:, None]
    inside = torch.nn.functional.max_pool2d(empty, 5, 1, 2)[:, 0] == 0
    noise = torch.rand(1, 96, 96, 1)
    changed = (raster.antialias(noise, rast, clip, faces) - noise).abs()[..., 0] > 0
    assert changed.any() and inside.sum() > 3000
    assert not (changed & inside).any()


def test_box_seen_from_the_front_has_an_outline(raster):
    """Its sides are exactly edge-on: they must not hide the silhouette."""
    x, y, z = torch.meshgrid(*[torch.tensor([-0.53, 0.53])] * 3, indexing="ij")
    clip = torch.stack([x, y, z, torch.ones_like(x)], -1).reshape(1, 8, 4)
    quads = [(0, 1, 3, 2), (4, 6, 7, 5), (0, 4, 5, 1), (2, 3, 7, 6), (0, 2, 6, 4), (1, 5, 7, 3)]
    faces = torch.tensor([t for a, b, c, d in quads for t in ((a, b, c), (a, c, d))], dtype=torch.int32)
    image = coverage(clip, faces, (32, 32), raster)
    assert abs(image.sum().item() - (0.53 * 32) ** 2) < 2.0  # without antialiasing it is 32 less
    assert ((image > 0.01) & (image < 0.99)).sum() > 40


def test_topology():
    faces = torch.tensor([[0, 1, 2], [2, 1, 3], [1, 2, 4]], dtype=torch.int32)
    topology = edge_topology(faces)
    assert topology.edge.shape == (3, 3) and len(topology.start) == 8
    shared = topology.edge[0, 0]  # the edge 1-2, opposite to vertex 0
    assert shared == topology.edge[1, 2] == topology.edge[2, 2]
    assert sorted(topology.opposite[topology.start[shared] : topology.start[shared + 1]].tolist()) == [0, 3, 4]
    assert edge_topology(faces.clone()) is topology
    clip, faces = soup(1, 10, 8)
    rast, _ = rasterize(clip, faces, (12, 12))
    color = torch.rand(1, 12, 12, 2)
    given = antialias(color, rast, clip, faces, edge_topology(faces))
    assert torch.equal(given, antialias(color, rast, clip, faces))
    with pytest.raises(ValueError, match="topology is of 5 faces"):
        antialias(color, rast, clip, faces, edge_topology(faces[:5]))


def test_empty_and_gradient_on_demand(own_raster):
    color = torch.rand(2, 5, 4, 3, requires_grad=True)
    clip = torch.zeros(2, 0, 4, requires_grad=True)
    out = own_raster.antialias(color, torch.zeros(2, 5, 4, 4), clip, torch.zeros(0, 3, dtype=torch.int32))
    assert torch.equal(out, color)
    out.sum().backward()
    assert (color.grad == 1).all()
    clip, faces = soup(1, 10, 8)
    rast, _ = rasterize(clip, faces, (1, 1))
    assert own_raster.antialias(torch.rand(1, 1, 1, 1), rast, clip, faces).shape == (1, 1, 1, 1)
    rast, _ = rasterize(clip, faces, (12, 12))
    leaf = torch.rand(1, 12, 12, 2, requires_grad=True)
    own_raster.antialias(leaf, rast, clip, faces).sum().backward()
    assert clip.grad is None and leaf.grad is not None


def test_same_bits_for_any_thread_count():
    clip, faces = soup(2, 60, 40)
    rast, _ = rasterize(clip, faces, (63, 75))
    color, weight = torch.rand(2, 63, 75, 4), torch.randn(2, 63, 75, 4)
    before, results = numba.get_num_threads(), []
    try:
        for threads in (1, before, before):
            numba.set_num_threads(threads)
            leaves = [t.clone().requires_grad_() for t in (color, clip)]
            out = antialias(leaves[0], rast, leaves[1], faces)
            (out * weight).sum().backward()
            results.append([out.detach(), *(leaf.grad for leaf in leaves)])
    finally:
        numba.set_num_threads(before)
    for other in results[1:]:
        assert all(torch.equal(a, b) for a, b in zip(results[0], other, strict=True))


def test_errors(own_raster):
    clip, faces = soup(2, 6, 9)
    rast, _ = rasterize(clip, faces, (8, 8))
    with pytest.raises(ValueError, match="must agree"):
        own_raster.antialias(torch.rand(2, 8, 7, 3), rast, clip, faces)
    with pytest.raises(ValueError, match="color must be float32"):
        own_raster.antialias(torch.rand(2, 8, 8, 3).double(), rast, clip, faces)
    with pytest.raises(ValueError, match="clip has batch 1"):
        own_raster.antialias(torch.rand(2, 8, 8, 3), rast, clip[:1], faces)
