"""Warp's raster backend beside the CPU's: the same pixels, what only it has, and that its kernels compile for GPUs."""

from __future__ import annotations

import math

import pytest
import torch

from stspbr import warp_runtime
from stspbr.errors import StspbrError
from stspbr.render import backend as backend_module
from stspbr.render.backend import get_backend

pytestmark = pytest.mark.skipif(warp_runtime.why_no_warp() is not None, reason=f"{warp_runtime.why_no_warp()}")
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def backends():
    return get_backend("cpu", CPU), get_backend("warp", CPU)


def bumpy_sphere(around=180, along=110, seed=0):
    """A closed sphere with noise, seen with perspective from four sides: ``clip [4, V, 4]``, faces."""
    g = torch.Generator().manual_seed(seed)
    t = torch.linspace(0, math.pi, along + 1)[:, None]
    p = torch.arange(around)[None] * (2 * math.pi / around)
    points = torch.stack([t.sin() * p.cos(), t.cos().expand(-1, around), t.sin() * p.sin()], -1)
    points = (points * (1 + 0.08 * torch.rand(*points.shape[:2], 1, generator=g))).reshape(-1, 3)
    i, j = torch.meshgrid(torch.arange(along), torch.arange(around), indexing="ij")
    a, b = i * around + j, i * around + (j + 1) % around
    faces = torch.stack([torch.stack([a, b, b + around], -1), torch.stack([a, b + around, a + around], -1)], 2)
    views = []
    for angle in (0.0, 0.8, 2.1, 4.0):
        c, s = math.cos(angle), math.sin(angle)
        turned = points @ torch.tensor([[c, 0.3 * s, s], [0.0, 1.0, -0.4], [-s, 0.1, c]])
        depth = turned[:, 2] + 3.0
        z = (5.0 + 1.0) / (5.0 - 1.0) * depth - 2 * 5.0 * 1.0 / (5.0 - 1.0)
        views.append(torch.stack([2.2 * turned[:, 0], 2.2 * turned[:, 1], z, depth], -1))
    return torch.stack(views), faces.reshape(-1, 3).int()


def soup(count, seed, spread=1.0, behind=False):
    g = torch.Generator().manual_seed(seed)
    shape = (1, 3 * count, 1)
    w = torch.randn(shape, generator=g) if behind else torch.rand(shape, generator=g) * 2 + 0.3
    xy = torch.randn(1, 3 * count, 2, generator=g) * spread * w.abs()
    z = torch.randn(shape, generator=g) * 0.6 * w.abs()
    return torch.cat([xy, z, w], -1), torch.arange(3 * count, dtype=torch.int32).reshape(count, 3)


def shared(count, seed, spread=1.0):
    """Triangles with common vertices and edges."""
    clip, _ = soup(count // 3, seed, spread)
    g = torch.Generator().manual_seed(seed)
    faces = torch.randint(0, clip.shape[1], (count // 2, 3), generator=g)
    other = torch.randint(0, clip.shape[1], (count // 2, 1), generator=g)
    return clip, torch.cat([faces, torch.cat([faces[:, 1:].flip(1), other], 1)]).int()


SCENES = {
    "fine mesh": lambda: (*bumpy_sphere(), (256, 256)),
    "soup": lambda: (*soup(300, 1), (333, 419)),
    "large, behind the camera": lambda: (*soup(80, 2, 30.0, True), (333, 419)),
}


@pytest.mark.parametrize("name", SCENES)
def test_every_pixel_shows_what_the_cpu_backend_shows(backends, name):
    clip, faces, resolution = SCENES[name]()
    (wanted, wanted_db), (rast, rast_db) = (own.rasterize(clip, faces, resolution) for own in backends)
    assert (wanted[..., 3] > 0).sum() > 100_000
    assert torch.equal(rast[..., 2:], wanted[..., 2:])
    torch.testing.assert_close(rast, wanted, atol=1e-6, rtol=0)
    torch.testing.assert_close(rast_db, wanted_db, atol=1e-6, rtol=1e-5)


def test_layers_are_those_of_the_cpu_backend(backends):
    clip, faces = soup(60, 3, 4.0, True)
    faces = torch.cat([faces, faces[:9].roll(1, dims=1), faces[20:30].flip(1)])  # exact ties
    layers = [own.rasterize(clip, faces, (90, 110))[0] for own in backends]
    count = 0
    while (layers[0][..., 3] > 0).any():
        assert torch.equal(layers[0][..., 2:], layers[1][..., 2:])
        layers = [own.rasterize(clip, faces, (90, 110), layer)[0] for own, layer in zip(backends, layers, strict=True)]
        count += 1
    assert count >= 10


def test_triangles_with_a_wrong_index_cover_nothing():
    """Off the CPU nobody has looked at the indices."""
    from stspbr.render.warp.interpolate import _Interpolate
    from stspbr.render.warp.rasterize import _Rasterize

    clip, faces = soup(20, 4)
    wrong = torch.cat([faces, torch.tensor([[0, 1, 60], [-1, 2, 3]], dtype=torch.int32)])
    rast, _ = _Rasterize.apply(clip, wrong, 30, 40, None)
    assert torch.equal(rast, _Rasterize.apply(clip, faces, 30, 40, None)[0])
    attributes = torch.rand(1, 60, 2)
    shown = torch.tensor([0.2, 0.3, 0.0, 21.0]).reshape(1, 1, 1, 4)
    none = torch.zeros(0, dtype=torch.int32)
    assert not _Interpolate.apply(attributes, shown, None, wrong, none)[0].any()
    assert _Interpolate.apply(attributes, rast, None, wrong, none)[0].any()


def test_the_edges_of_a_triangle_list_are_found_again_when_it_changes(backends):
    clip, faces = shared(30, 5, 0.6)
    color = torch.rand(1, 24, 31, 3, generator=torch.Generator().manual_seed(6))
    antialias = get_backend("warp", CPU).antialias
    for change in (
        lambda: None,
        lambda: faces.copy_(faces.roll(1, 0).flip(1).roll(1, 1)),
        lambda: faces.resize_(20, 3),
    ):
        change()
        rast, _ = backends[0].rasterize(clip, faces, (24, 31))
        for _ in range(2):
            out = antialias(color, rast, clip, faces)
            torch.testing.assert_close(out, backends[0].antialias(color, rast, clip, faces), atol=1e-6, rtol=0)


def test_mips_of_constant_textures_are_kept_until_a_write(backends):
    own = get_backend("warp", CPU).texture
    g = torch.Generator().manual_seed(8)
    tex, uv = torch.rand(1, 8, 8, 3, generator=g), torch.rand(1, 1, 50, 2, generator=g)
    level = torch.rand(1, 1, 50, generator=g) * 3
    for change in (lambda: None, lambda: None, lambda: tex.mul_(0.5), lambda: tex.requires_grad_()):
        change()
        out = own(tex, uv, None, level)
        torch.testing.assert_close(out, backends[0].texture(tex, uv, None, level), atol=1e-6, rtol=1e-6)
    assert torch.autograd.grad(out.sum(), tex)[0].any()


def test_more_levels_than_the_kernels_take_are_refused(backends):
    tex = torch.zeros(1, 1, 1, 1)
    with pytest.raises(StspbrError, match="17 mip levels"):
        backends[1].texture(tex, torch.zeros(1, 1, 1, 2), None, torch.zeros(1, 1, 1), [tex] * 16)


def test_equal_inputs_give_equal_bits_on_the_cpu_device(backends):
    clip, faces = shared(200, 7)
    clip.requires_grad_()
    grads = []
    for _ in range(2):
        rast, rast_db = backends[1].rasterize(clip, faces, (40, 50))
        image = backends[1].antialias((rast + rast_db).square(), rast.detach(), clip, faces)
        grads.append(torch.autograd.grad(image.square().mean(), clip)[0])
    assert torch.equal(*grads) and grads[0].any()


@pytest.mark.parametrize("deterministic", [False, True], ids=["fast", "deterministic"])
@pytest.mark.parametrize("name", warp_runtime.kernel_modules())
def test_kernels_compile_for_gpus_without_one(name, deterministic, tmp_path):
    """For Turing, Hopper and Blackwell; with sums in a fixed order for one of them."""
    warp_runtime.load_warp()
    architectures = warp_runtime.ARCHITECTURES[1:2] if deterministic else warp_runtime.ARCHITECTURES
    try:
        warp_runtime.set_deterministic(deterministic)
        files = warp_runtime.compile_ahead(name, tmp_path, architectures)
    finally:
        warp_runtime.set_deterministic(False)
    assert len(files) == len(architectures)
    for path, architecture in zip(files, architectures, strict=True):
        assert f".target sm_{architecture}" in path.read_text()


@pytest.mark.parametrize(
    ("no_warp", "no_nvdiffrast", "taken"),
    [(None, None, "warp"), (None, "absent", "warp"), ("absent", None, "nvdiffrast"), ("absent", "absent", None)],
)
def test_auto_takes_warp_on_a_gpu_if_it_is_there(monkeypatch, no_warp, no_nvdiffrast, taken):
    monkeypatch.setattr(backend_module, "why_no_warp", lambda device: no_warp)
    monkeypatch.setattr(backend_module, "why_no_nvdiffrast", lambda: no_nvdiffrast)
    gpu = torch.device("cuda")
    if taken is None:
        with pytest.raises(StspbrError, match="no raster operations for cuda: absent"):
            backend_module.gpu_backend(gpu)
    else:
        assert backend_module.gpu_backend(gpu) == taken and backend_module.why_no_gpu_backend(gpu) is None


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_gpu_that_is_not_there_is_one_line():
    with pytest.raises(StspbrError, match="--backend warp: warp-lang finds no GPU: it needs an NVIDIA driver"):
        get_backend("warp", torch.device("cuda"))
    with pytest.raises(StspbrError, match="no meta devices"):
        get_backend("warp", torch.device("meta"))


def test_a_session_orders_the_sums_of_a_gpu_only(monkeypatch, tmp_path, backends):
    from stspbr.stages import session as module

    asked = []
    monkeypatch.setattr(module, "set_deterministic", asked.append)
    session = module.Session.open(tmp_path, device="cpu", backend="warp", quiet=True)
    assert session.backends["raster"] == "warp"
    session.order_sums(True)
    assert not asked and not torch.are_deterministic_algorithms_enabled()
    session.device = torch.device("cuda")
    try:
        session.order_sums(True)
        assert asked == [True] and torch.are_deterministic_algorithms_enabled()
    finally:
        session.order_sums(False)
    assert asked == [True, False] and not torch.are_deterministic_algorithms_enabled()
    session.encoding = "tinycudann"
    with pytest.raises(StspbrError, match="optimize.deterministic: tinycudann sums in any order: use --backend warp"):
        session.order_sums(True)
    session.backend = backends[0]
    with pytest.raises(StspbrError, match="optimize.deterministic: cpu sums in any order: use --backend warp"):
        session.order_sums(True)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="Warp on CUDA: no GPU here")
@pytest.mark.parametrize("name", SCENES)
def test_a_gpu_shows_what_the_cpu_shows(backends, name):
    clip, faces, resolution = SCENES[name]()
    there = get_backend("warp", torch.device("cuda")).rasterize(clip.cuda(), faces.cuda(), resolution)[0].cpu()
    wanted, _ = backends[1].rasterize(clip, faces, resolution)
    assert ((there[..., 3] > 0) == (wanted[..., 3] > 0)).all()
    assert (there[..., 3] != wanted[..., 3]).float().mean() < 1e-5  # depths that differ by a rounding
    same = there[..., 3] == wanted[..., 3]
    torch.testing.assert_close(there[same], wanted[same], atol=1e-6, rtol=0)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="Warp on CUDA: no GPU here")
def test_the_deterministic_mode_gives_equal_bits_on_a_gpu():
    device = torch.device("cuda")
    raster, (clip, faces, resolution) = get_backend("warp", device), SCENES["fine mesh"]()
    clip, faces = clip.to(device).requires_grad_(), faces.to(device)
    tex = torch.rand(1, 64, 64, 3, device=device, requires_grad=True)
    attributes = torch.rand(1, clip.shape[1], 2, device=device, requires_grad=True)
    results = []
    try:
        warp_runtime.set_deterministic(True)
        for _ in range(3):
            rast, rast_db = raster.rasterize(clip, faces, resolution)
            uv, uv_da = raster.interpolate(attributes, rast, faces, rast_db, "all")
            color = raster.texture(tex, uv, uv_da, filter_mode="linear-mipmap-linear")
            image = raster.antialias(color, rast, clip, faces)
            results.append(torch.autograd.grad(image.square().sum(), (clip, tex, attributes)))
    finally:
        warp_runtime.set_deterministic(False)
    assert all(torch.equal(a, b) for other in results[1:] for a, b in zip(results[0], other, strict=True))
