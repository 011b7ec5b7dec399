"""The rasterisers against the brute-force reference: coverage, depth, barycentrics, gradients, determinism."""

from __future__ import annotations

import numba
import pytest
import torch

from stspbr.render.cpu.rasterize import rasterize
from stspbr.render.reference import rasterize as reference


def soup(batch, count, seed=0, spread=1.0, behind=False):
    """Random triangles with perspective; with ``behind`` half of the vertices lie behind the camera."""
    g = torch.Generator().manual_seed(seed)
    n = 3 * count
    w = torch.randn(batch, n, 1, generator=g) if behind else torch.rand(batch, n, 1, generator=g) * 2 + 0.3
    xy = torch.randn(batch, n, 2, generator=g) * spread * w.abs()
    z = torch.randn(batch, n, 1, generator=g) * 0.6 * w.abs()
    return torch.cat([xy, z, w], dim=-1), torch.arange(n, dtype=torch.int32).reshape(count, 3)


def from_pixels(points, height, width, depth=0.0):
    """Clip positions ``[1,V,4]`` (w = 1) of points ``[V,2]`` given as (column, row) in pixels."""
    points = torch.as_tensor(points, dtype=torch.float32)
    x, y = points[:, 0] * 2 / width - 1, points[:, 1] * 2 / height - 1
    return torch.stack([x, y, torch.full_like(x, depth), torch.ones_like(x)], dim=-1)[None]


def triangle_counts(clip, faces, resolution, raster):
    """How many triangles cover each pixel when each is drawn alone."""
    return sum((raster.rasterize(clip, face[None], resolution)[0][..., 3] > 0).int() for face in faces)


SIZES = [(33, 47), (1, 1), (1, 40), (17, 64), (64, 9)]
SOUPS = [{}, {"behind": True, "seed": 1}, {"spread": 40.0, "seed": 2}, {"spread": 20.0, "behind": True, "seed": 3}]


@pytest.mark.parametrize("resolution", SIZES)
@pytest.mark.parametrize("kind", SOUPS, ids=["inside", "behind", "large", "large-behind"])
def test_values_match_reference(resolution, kind, raster):
    clip, faces = soup(2, 20, **kind)
    rast, rast_db = raster.rasterize(clip, faces, resolution)
    expected, expected_db = reference.rasterize(clip, faces, resolution)
    same = rast[..., 3] == expected[..., 3]
    # Snapping to 1/256 pixel (nvdiffrast: 1/16) may move an edge across a centre, rarely.
    assert (~same).sum() <= max(1, raster.misplaced * same.numel())
    t = raster.tolerance
    torch.testing.assert_close(rast[same].double(), expected[same], atol=2e-6 * t, rtol=0)
    torch.testing.assert_close(rast_db[same].double(), expected_db[same], atol=1e-6 * t, rtol=1e-5 * t)
    if resolution == (33, 47):
        assert (expected[..., 3] > 0).double().mean() > 0.3, "the test must see something"


@pytest.mark.parametrize("kind", SOUPS[:2], ids=["inside", "behind"])
@pytest.mark.parametrize("which", ["bary", "derivatives", "both"])
def test_gradient_matches_reference(kind, which, raster):
    clip, faces = soup(2, 12, **kind)
    fast, slow = clip.clone().requires_grad_(), clip.double().requires_grad_()
    rast, rast_db = raster.rasterize(fast, faces, (16, 23))
    expected, expected_db = [], []
    for b in range(2):  # the same winners, so that the one pixel that snapping decides does not matter
        bary, db = reference.barycentrics(slow[b], faces, rast[b, ..., 3].detach().long())
        expected.append(bary)
        expected_db.append(db)
    g = torch.Generator().manual_seed(5)
    weight = torch.randn(rast.shape, generator=g)
    weight_db = torch.randn(rast.shape, generator=g)
    loss, loss_slow = 0.0, 0.0
    if which != "derivatives":  # weights on z/w and id must not matter
        loss = loss + (rast * weight).sum()
        loss_slow = loss_slow + (torch.stack(expected) * weight.double()[..., :2]).sum()
    if which != "bary":
        loss = loss + (rast_db * weight_db).sum()
        loss_slow = loss_slow + (torch.stack(expected_db) * weight_db.double()).sum()
    loss.backward()
    loss_slow.backward()
    assert slow.grad.abs().max() > 0
    assert (fast.grad[..., 2] == 0).all()
    scale = slow.grad.abs().amax(dim=-1, keepdim=True)
    assert ((fast.grad - slow.grad).abs() <= raster.tolerance * (1e-5 * scale + 1e-6)).all()


def test_reference_gradient_is_right():
    clip, faces = soup(1, 3, seed=4)
    ids = rasterize(clip, faces, (5, 6))[0][0, ..., 3].long()
    assert ids.any()
    positions = clip[0].double().requires_grad_()
    # The straight-through clamp is off for centres inside their triangles, which snapping does not touch here.
    assert torch.autograd.gradcheck(lambda p: reference.barycentrics(p, faces, ids), (positions,), eps=1e-7, atol=1e-4)


@pytest.mark.parametrize("seed", range(4))
def test_shared_edges_are_covered_exactly_once(seed, raster):
    height, width = 32, 64  # powers of two: half-pixel positions are exact, so edges run through centres
    g = torch.Generator().manual_seed(seed)
    rim = [(x, 0.0) for x in (-8, 0, 20.5, 64, 70)] + [(70, y) for y in (10.5, 40)] + [(30.5, 40), (-8, 40), (-8, 9.5)]
    hub = (torch.randint(4, 2 * width - 4, (1,), generator=g) / 2, torch.randint(4, 60, (1,), generator=g) / 2)
    points = [(float(hub[0]), float(hub[1])), *rim]
    points[1:] = [(x, -8.0 if y == 0.0 else y) for x, y in points[1:]]
    n = len(rim)
    faces = torch.tensor([[0, 1 + i, 1 + (i + 1) % n] for i in range(n)], dtype=torch.int32)
    flip = torch.rand(n, generator=g) < 0.5  # mixed orientations must tile alike
    faces[flip] = faces[flip][:, [0, 2, 1]]
    clip = from_pixels(points, height, width)
    assert (triangle_counts(clip, faces, (height, width), raster) == 1).all()
    assert (raster.rasterize(clip, faces, (height, width))[0][..., 3] > 0).all()


def test_random_mesh_tiles_the_image(raster):
    height, width, n = 37, 51, 9
    g = torch.Generator().manual_seed(0)
    i, j = torch.meshgrid(torch.arange(n + 1.0), torch.arange(n + 1.0), indexing="ij")
    i, j = (grid + 0.6 * torch.rand(grid.shape, generator=g) - 0.8 for grid in (i, j))
    points = torch.stack([j * width / (n - 2) - 4, i * height / (n - 2) - 3], dim=-1)
    a = (torch.arange(n)[:, None] * (n + 1) + torch.arange(n)).reshape(-1)
    faces = torch.cat([torch.stack([a, a + 1, a + n + 1], -1), torch.stack([a + 1, a + n + 2, a + n + 1], -1)]).int()
    w = torch.rand((n + 1) ** 2, 1, generator=g) * 3 + 0.2
    clip = from_pixels(points.reshape(-1, 2), height, width) * w
    assert (triangle_counts(clip, faces, (height, width), raster) == 1).all()


def test_floor_under_the_camera_is_clipped_without_holes(raster):
    height, width, n = 40, 48, 6
    i, j = torch.meshgrid(torch.linspace(-5, 5, n + 1), torch.linspace(-6, 6, n + 1), indexing="ij")
    x, depth = j.reshape(-1), i.reshape(-1)  # y = −0.7 under an eye at the origin that looks along depth
    near, far = 1.02, 4.3  # the nearest visible rows lie before the near plane
    z = (far + near) / (far - near) * depth - 2 * far * near / (far - near)
    clip = torch.stack([x, torch.full_like(x, 0.7), z, depth], dim=-1)[None]
    a = (torch.arange(n)[:, None] * (n + 1) + torch.arange(n)).reshape(-1)
    faces = torch.cat([torch.stack([a, a + 1, a + n + 1], -1), torch.stack([a + 1, a + n + 2, a + n + 1], -1)]).int()
    counts = triangle_counts(clip, faces, (height, width), raster)[0]
    rows = (2 * torch.arange(height) + 1) / height - 1
    row_depth = 0.7 / rows
    seen = (row_depth > near) & (row_depth < far)
    assert 5 < seen.sum() < height // 2 - 3
    assert (counts == seen[:, None].int()).all()
    rast, _ = raster.rasterize(clip, faces, (height, width))
    u, v, ids = rast[0, ..., 0], rast[0, ..., 1], rast[0, ..., 3].long()
    corner_depth = depth[faces.long()[ids[seen] - 1]]
    interpolated = u[seen] * corner_depth[..., 0] + v[seen] * corner_depth[..., 1]
    interpolated += (1 - u[seen] - v[seen]) * corner_depth[..., 2]
    torch.testing.assert_close(interpolated, row_depth[seen][:, None].expand(-1, width), rtol=1e-4, atol=1e-5)


def test_far_plane_and_huge_triangles(own_raster):
    big = torch.tensor([[[-1e8, -1e8, 0, 1], [1e8, -1e8, 0, 1], [0, 1e9, 0, 1]]])
    face = torch.tensor([[0, 1, 2]], dtype=torch.int32)
    assert (own_raster.rasterize(big, face, (9, 13))[0][..., 3] == 1).all()
    beyond = big.clone()
    beyond[..., 2] = 1.01
    assert (own_raster.rasterize(beyond, face, (9, 13))[0] == 0).all()
    broken = big.clone()
    broken[0, 1, 0] = float("nan")
    assert (own_raster.rasterize(broken, face, (9, 13))[0] == 0).all()
    broken[0, 1, 0] = float("inf")
    assert (own_raster.rasterize(broken, face, (9, 13))[0] == 0).all()


def test_orientation_degenerate_and_ties(own_raster):
    clip = from_pixels([(1, 1), (14, 2), (3, 13), (8, 1.5)], 16, 16)
    front = torch.tensor([[0, 1, 2]], dtype=torch.int32)
    rast, rast_db = own_raster.rasterize(clip, front, (16, 16))
    back, back_db = own_raster.rasterize(clip, front[:, [1, 0, 2]], (16, 16))
    assert (rast[..., 3] > 0).sum() > 40
    torch.testing.assert_close(rast[..., [1, 0, 2, 3]], back, atol=1e-6, rtol=0)
    torch.testing.assert_close(rast_db[..., [2, 3, 0, 1]], back_db, atol=1e-6, rtol=0)
    degenerate = torch.tensor([[0, 0, 1], [1, 1, 1], [2, 1, 2]], dtype=torch.int32)
    assert (own_raster.rasterize(clip, degenerate, (16, 16))[0] == 0).all()
    slanted = clip.clone()
    slanted[0, :, 2] = torch.tensor([0.13, -0.37, 0.71, 0.0])
    twins = torch.tensor([[1, 2, 0], [0, 1, 2], [2, 1, 0]], dtype=torch.int32)
    ids = own_raster.rasterize(slanted, twins, (16, 16))[0][..., 3]
    assert set(ids.unique().tolist()) == {0.0, 1.0}


def test_nearest_wins(raster):
    clip = torch.cat([from_pixels([(-9, -9), (60, -9), (-9, 60)], 16, 16, depth) for depth in (0.5, -0.5, 0.2)], dim=1)
    faces = torch.arange(9, dtype=torch.int32).reshape(3, 3)
    rast, _ = raster.rasterize(clip, faces, (16, 16))
    assert (rast[..., 3] == 2).all()
    assert ((rast[..., 2] + 0.5).abs() < 1e-6).all()


@pytest.mark.parametrize("shape", [(1, 0, 0), (3, 5, 0), (0, 5, 2), (0, 0, 0)])
def test_empty(shape, own_raster):
    batch, vertices, count = shape
    clip = torch.randn(batch, vertices, 4, requires_grad=True)
    rast, rast_db = own_raster.rasterize(clip, torch.zeros(count, 3, dtype=torch.int32), (7, 5))
    assert rast.shape == rast_db.shape == (batch, 7, 5, 4)
    assert (rast == 0).all() and (rast_db == 0).all()
    (rast.sum() + rast_db.sum()).backward()
    assert (clip.grad == 0).all()


def test_batch_is_independent(raster):
    clip, faces = soup(3, 15)
    together, _ = raster.rasterize(clip, faces, (20, 20))
    for b in range(3):
        assert torch.equal(raster.rasterize(clip[b : b + 1], faces, (20, 20))[0][0], together[b])


def test_same_bits_for_any_thread_count():
    clip, faces = soup(2, 400, spread=0.7)
    faces = (faces // 2).int()  # shared vertices: sums with several terms
    weight = torch.randn(2, 61, 83, 4)
    before, results = numba.get_num_threads(), []
    try:
        for threads in (1, before, before, 1):
            numba.set_num_threads(threads)
            leaf = clip.clone().requires_grad_()
            rast, rast_db = rasterize(leaf, faces, (61, 83))
            ((rast * weight).sum() + (rast_db * weight).sum()).backward()
            results.append((rast.detach(), rast_db.detach(), leaf.grad))
    finally:
        numba.set_num_threads(before)
    for other in results[1:]:
        assert all(torch.equal(a, b) for a, b in zip(results[0], other, strict=True))


def test_errors(own_raster):
    clip, faces = soup(1, 4)
    with pytest.raises(ValueError, match=r"clip must be \[B,V,4\]"):
        own_raster.rasterize(clip[0], faces, (8, 8))
    with pytest.raises(ValueError, match="float32"):
        own_raster.rasterize(clip.double(), faces, (8, 8))
    with pytest.raises(ValueError, match="int32"):
        own_raster.rasterize(clip, faces.long(), (8, 8))
    with pytest.raises(ValueError, match="vertices 0..12"):
        own_raster.rasterize(clip, torch.tensor([[0, 1, 12]], dtype=torch.int32), (8, 8))
    with pytest.raises(ValueError, match="resolution"):
        own_raster.rasterize(clip, faces, (0, 8))


@pytest.mark.parametrize("kind", SOUPS, ids=["inside", "behind", "large", "large-behind"])
def test_layers_show_every_triangle_once_in_order(kind, own_raster):
    clip, faces = soup(2, 14, **kind)
    # copies of triangles, turned and flipped, tie exactly with them
    faces = torch.cat([faces, faces[:5].roll(1, dims=1), faces[3:8].flip(1)])
    resolution = (33, 47)
    wanted = torch.stack([own_raster.rasterize(clip, face[None], resolution)[0][..., 3] > 0 for face in faces], dim=-1)
    layer, _ = own_raster.rasterize(clip, faces, resolution)
    seen, depth, before = torch.zeros_like(wanted), torch.full(wanted.shape[:3], -2.0), torch.zeros(wanted.shape[:3])
    count = 0
    while (layer[..., 3] > 0).any():
        covered = layer[..., 3] > 0
        ids = layer[..., 3].long() - 1
        assert not (covered & (count > 0) & (before == 0)).any()  # nothing comes behind nothing
        assert (layer[..., 2] >= depth)[covered].all()
        tied = covered & (layer[..., 2] == depth) & (ids.clamp(min=0) >= len(faces) - 10)
        assert (layer[..., 3] > before)[tied & (before > 0) & _copies(ids, before.long() - 1, faces)].all()
        again = seen.gather(-1, ids.clamp(min=0)[..., None])[..., 0]
        assert not (again & covered).any()
        seen.scatter_(-1, ids.clamp(min=0)[..., None], (covered | again)[..., None])
        depth, before = torch.where(covered, layer[..., 2], depth), layer[..., 3]
        layer, _ = own_raster.rasterize(clip, faces, resolution, behind=layer)
        count += 1
    assert torch.equal(seen, wanted)
    assert count == wanted.sum(-1).max() and count > 2


def _copies(a, b, faces):
    """Whether triangles with the ids ``a`` and ``b`` have the same corners."""
    corners = faces.sort(dim=1).values
    return (corners[a.clamp(min=0)] == corners[b.clamp(min=0)]).all(-1)


def test_a_layer_behind_has_the_gradient_of_its_own_triangles(own_raster):
    clip, _ = soup(1, 2, seed=5, spread=0.4)
    pair = torch.arange(6, dtype=torch.int32).reshape(2, 3)
    leaf = clip.clone().requires_grad_()
    front, _ = own_raster.rasterize(leaf, pair, (24, 24))
    back, _ = own_raster.rasterize(leaf, pair, (24, 24), behind=front)
    hidden = back[..., 3] > 0
    assert hidden.any()
    (grad,) = torch.autograd.grad(back[..., :2].sum(), leaf)
    alone = 0.0
    for number in range(2):
        single, _ = own_raster.rasterize(leaf, pair[number : number + 1], (24, 24))
        mine = (back[..., 3] == number + 1)[..., None]
        alone = alone + torch.autograd.grad((single[..., :2] * mine).sum(), leaf)[0]
    torch.testing.assert_close(grad, alone)


def test_behind_must_fit(own_raster):
    clip, faces = soup(1, 2)
    with pytest.raises(ValueError, match="behind must be"):
        own_raster.rasterize(clip, faces, (8, 8), behind=torch.zeros(1, 8, 9, 4))
