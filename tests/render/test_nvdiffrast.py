"""The nvdiffrast adapter against a stand-in that makes nvdiffrast's own input checks and computes with our kernels."""

from __future__ import annotations

import sys
import types

import numpy as np
import pytest
import torch

from stspbr.errors import StspbrError
from stspbr.render import nvdiffrast
from stspbr.render.backend import get_backend
from stspbr.render.cpu.texture import build_mips
from stspbr.render.gbuffer import Surface, ViewBatch, compose, render_gbuffer
from stspbr.render.nvdiffrast import nvdiffrast_backend
from stspbr.scene import Camera, Corners, look_at

CPU = torch.device("cpu")


def _checked(*tensors, dtype=torch.float32):
    for tensor in tensors:
        assert tensor.is_contiguous() and tensor.dtype == dtype and tensor.numel() > 0 and tensor.data_ptr() % 16 == 0


class _Library(types.ModuleType):
    """``nvdiffrast.torch``: its signatures and what it refuses."""

    def __init__(self):
        super().__init__("nvdiffrast.torch")
        self.cpu, self.calls, self.hashed = get_backend("cpu", CPU), [], 0
        self.built = 0

    class RasterizeCudaContext:
        def __init__(self, device=None):
            assert device is not None

    def rasterize(self, glctx, pos, tri, resolution, ranges=None, grad_db=True):
        assert isinstance(glctx, _Library.RasterizeCudaContext) and isinstance(resolution, tuple) and ranges is None
        assert pos.ndim == 3 and pos.shape[2] == 4 and tri.ndim == 2 and tri.shape[1] == 3 and min(resolution) > 0
        _checked(pos)
        _checked(tri, dtype=torch.int32)
        return self.cpu.rasterize(pos, tri, resolution)

    class TextureMipWrapper:
        def __init__(self, tex, levels, cube):
            self.of, self.levels, self.cube = tex, levels, cube

    def texture_construct_mip(self, tex, max_mip_level=None, cube_mode=False):
        assert tex.is_contiguous() and not tex.requires_grad
        self.built += 1
        return self.TextureMipWrapper(tex, max_mip_level, cube_mode)

    def antialias_construct_topology_hash(self, tri):
        _checked(tri, dtype=torch.int32)
        self.hashed += 1
        return ("hash", tri)

    def interpolate(self, attr, rast, tri, rast_db=None, diff_attrs=None):
        assert rast.ndim == 4 and rast.shape[3] == 4 and attr.ndim in (2, 3) and attr.shape[0] in (1, rast.shape[0])
        _checked(rast, *([] if rast_db is None else [rast_db]))
        assert attr.is_contiguous() and attr.numel() > 0 and tri.is_contiguous() and len(tri) > 0
        assert not diff_attrs or rast_db.shape == rast.shape
        return self.cpu.interpolate(attr, rast, tri, rast_db, diff_attrs)

    def antialias(self, color, rast, pos, tri, topology_hash=None, pos_gradient_boost=1.0):
        assert color.shape[:3] == rast.shape[:3] and pos.shape[0] == color.shape[0] and color.shape[3] > 0
        _checked(rast, pos)
        assert color.is_contiguous() and tri.is_contiguous() and topology_hash[1] is tri
        assert color.shape[0] * color.shape[1] * color.shape[2] <= nvdiffrast.MAX_PIXELS
        return self.cpu.antialias(color, rast, pos, tri)

    def texture(self, tex, uv, uv_da=None, mip_level_bias=None, mip=None, filter_mode="auto", boundary_mode="wrap",
                max_mip_level=None):  # fmt: skip
        cube = boundary_mode == "cube"
        assert tex.ndim == (5 if cube else 4) and uv.ndim == 4 and uv.shape[3] == (3 if cube else 2) and uv.numel() > 0
        assert all(t is None or t.is_contiguous() for t in (tex, uv, uv_da, mip_level_bias))
        size = tex.shape[-3:-1]
        if filter_mode == "auto":
            filter_mode = "linear" if uv_da is None and mip_level_bias is None else "linear-mipmap-linear"
        if "mipmap" in filter_mode and mip is None:
            for _ in range(100 if max_mip_level is None else max_mip_level):
                if size == (1, 1):
                    break
                assert not any(side > 1 and side % 2 for side in size), "Mip-map size error"
                size = tuple(max(1, side // 2) for side in size)
        if isinstance(mip, self.TextureMipWrapper):
            assert mip.of is tex and mip.levels == max_mip_level and mip.cube == cube
            mip = None
        assert mip is None or mip, "requires mip wrapper or mip stack"
        for level in mip or []:
            size = tuple(max(1, side // 2) for side in size)
            assert level.shape[-3:-1] == size and level.is_contiguous() and isinstance(mip, list)
        self.calls.append(max_mip_level)
        return self.cpu.texture(tex, uv, uv_da, mip_level_bias, mip, filter_mode, boundary_mode, max_mip_level)


@pytest.fixture
def library(monkeypatch):
    package, module = types.ModuleType("nvdiffrast"), _Library()
    package.torch = module
    monkeypatch.setitem(sys.modules, "nvdiffrast", package)
    monkeypatch.setitem(sys.modules, "nvdiffrast.torch", module)
    return module


def scene(spread=1.0):
    """Two quads with UVs, seen by two cameras; ``spread`` pushes them out of sight."""
    positions = torch.tensor([[-1.0, -1, 0], [1, -1, 0], [1, 1, 0.2], [-1, 1, 0.1], [0, 0, 1], [2, 0.1, 1]]) * 0.6
    positions = (positions + torch.tensor([0.0, 0.0, spread - 1.0])).requires_grad_()
    faces = torch.tensor([[0, 1, 2], [0, 2, 3], [0, 4, 5]], dtype=torch.int32)
    normals = torch.nn.functional.normalize(torch.arange(18.0).reshape(6, 3) - 7, dim=1)
    uvs = torch.rand(6, 2, generator=torch.Generator().manual_seed(0))
    tangents = torch.tensor([[1.0, 0, 0, 1]]).expand(6, 4).contiguous()
    normal_map = torch.rand(1, 12, 12, 3, generator=torch.Generator().manual_seed(1))
    surface = Surface(positions, faces, *(Corners(own, faces) for own in (normals, uvs, tangents)), [normal_map])
    cameras = [Camera(look_at(eye, (0, 0, 0)), 30, 30, 10, 12, 20, 24) for eye in ((0.5, 0.5, 3), (-1, 0, 3))]
    return surface, ViewBatch.of(cameras, [np.eye(4)] * 2, torch.device("cpu"))


@pytest.mark.parametrize("spread", [1.0, 50.0], ids=["seen", "nothing covered"])
def test_a_whole_gbuffer_passes_its_checks_and_is_the_cpu_backends(library, spread):
    results = []
    for backend in (get_backend("cpu", CPU), nvdiffrast_backend(CPU)):
        surface, views = scene(spread)
        gbuffer = render_gbuffer(surface, views, backend)
        image = compose(gbuffer, torch.cat([gbuffer.normal, gbuffer.position], dim=1), backend)
        weight = torch.rand(image.shape, generator=torch.Generator().manual_seed(2))
        (gradient,) = torch.autograd.grad((image * weight).sum(), surface.positions, allow_unused=True)
        results.append((image.detach(), gradient))
    assert torch.equal(results[0][0], results[1][0])
    assert bool(results[0][0].any()) == (spread == 1.0)
    assert torch.equal(*(torch.zeros(6, 3) if g is None else g for _, g in results))


@pytest.mark.parametrize(("size", "levels"), [((8, 8), 3), ((12, 8), 2), ((7, 4), 0), ((1, 8), 3), ((5, 1), 0)])
def test_mip_chains_end_where_the_cpu_backends_end(library, size, levels):
    tex, uv = torch.rand(1, *size, 3), torch.rand(1, 1, 9, 2)
    uv_da = torch.rand(1, 1, 9, 4)
    out = nvdiffrast_backend(CPU).texture(tex, uv, uv_da, filter_mode="linear-mipmap-linear")
    assert library.calls == [levels] == [len(build_mips(tex))]
    assert torch.equal(out, get_backend("cpu", CPU).texture(tex, uv, uv_da, filter_mode="linear-mipmap-linear"))


def test_no_pixels_are_answered_without_the_library(library):
    backend, faces = nvdiffrast_backend(CPU), torch.tensor([[0, 1, 2]], dtype=torch.int32)
    attributes, none = torch.rand(1, 3, 5, requires_grad=True), torch.zeros(1, 1, 0, 4)
    for wanted, width in ((None, 0), ("all", 10), ([1, 2], 4)):
        values, derivatives = backend.interpolate(attributes, none, faces, none, wanted)
        assert values.shape == (1, 1, 0, 5) and derivatives.shape == (1, 1, 0, width) and values.requires_grad
    assert backend.texture(torch.rand(1, 4, 4, 3), torch.zeros(1, 1, 0, 2)).shape == (1, 1, 0, 3)
    rast, _ = backend.rasterize(torch.rand(2, 3, 4), faces[:0], (5, 6))
    assert rast.shape == (2, 5, 6, 4) and not rast.any()


def test_large_batches_are_antialiased_in_parts(library, monkeypatch):
    surface, views = scene()
    backend = nvdiffrast_backend(CPU)
    clip = torch.cat([surface.positions.detach(), torch.full((6, 1), 1.5)], 1).expand(5, 6, 4).contiguous()
    clip = (clip * torch.linspace(0.7, 1.3, 5)[:, None, None]).requires_grad_()
    rast, _ = backend.rasterize(clip, surface.faces, (9, 11))
    color = torch.rand(5, 9, 11, 3, generator=torch.Generator().manual_seed(3))
    results = []
    for pixels in (1 << 27, 2 * 9 * 11 + 5):
        monkeypatch.setattr(nvdiffrast, "MAX_PIXELS", pixels)
        out = backend.antialias(color, rast, clip, surface.faces)
        results.append((out, torch.autograd.grad(out.square().sum(), clip)[0]))
    assert all(torch.equal(a, b) for a, b in zip(*results, strict=True)) and results[0][1].any()
    assert library.hashed == 1  # the edges of a fixed mesh are found once
    monkeypatch.setattr(nvdiffrast, "MAX_PIXELS", 9 * 11 - 1)
    with pytest.raises(StspbrError, match="cannot antialias 11×9 pixels"):
        backend.antialias(color, rast, clip, surface.faces)


def test_mips_of_constant_textures_are_built_once(library):
    backend, uv, level = nvdiffrast_backend(CPU), torch.rand(1, 1, 5, 2), torch.ones(1, 1, 5)
    maps = [torch.rand(1, 8, 8, 2), torch.rand(1, 8, 4, 2), torch.rand(1, 5, 8, 1)]  # the last has no levels
    wanted = [get_backend("cpu", CPU).texture(tex, uv, None, level) for tex in maps]
    for _ in range(3):
        assert all(torch.equal(backend.texture(t, uv, None, level), w) for t, w in zip(maps, wanted, strict=True))
    assert library.built == 2
    maps[0].mul_(0.5)
    assert torch.equal(backend.texture(maps[0], uv, None, level), wanted[0] * 0.5) and library.built == 3
    backend.texture(maps[0].requires_grad_(), uv, None, level).sum().backward()
    assert library.built == 3 and maps[0].grad.any()


def test_what_it_would_take_and_mean_otherwise_is_refused(library, monkeypatch):
    backend = nvdiffrast_backend(CPU)
    tex, uv, level = torch.rand(1, 4, 4, 2), torch.rand(1, 1, 5, 2), torch.ones(1, 1, 5)
    with pytest.raises(StspbrError, match="linear-mipmap-nearest"):
        backend.texture(tex, uv, None, level, None, "linear-mipmap-nearest")
    plain = backend.texture(tex, uv, None, level, [], "linear-mipmap-linear")
    assert torch.equal(plain, get_backend("cpu", CPU).texture(tex, uv)) and library.calls == [0]
    monkeypatch.setattr(nvdiffrast, "MAX_FACES", 2)
    with pytest.raises(ValueError, match="2 faces: triangle ids"):
        backend.rasterize(torch.rand(1, 3, 4), torch.tensor([[0, 1, 2], [2, 1, 0]], dtype=torch.int32), (5, 6))


def test_broken_installations_are_one_line(monkeypatch):
    monkeypatch.setattr("stspbr.render.backend.why_no_nvdiffrast", lambda: "nvdiffrast cannot be imported: GLIBCXX")
    with pytest.raises(StspbrError, match="GLIBCXX: see `stspbr doctor`"):
        get_backend("nvdiffrast", torch.device("cuda"))
    with pytest.raises(StspbrError, match="needs an NVIDIA GPU"):
        get_backend("nvdiffrast", CPU)
