"""The tiny-cuda-nn adapter: against the real library where there is one, and against a stand-in of its conventions."""

from __future__ import annotations

import importlib.util

import pytest
import torch

from stspbr.errors import StspbrError
from stspbr.fields.backend import choose_encoding
from stspbr.fields.hash_grid import HashGridEncoding
from stspbr.fields.materials import MaterialFields
from stspbr.fields.mlp import MLP
from stspbr.fields.tinycudann import GradientScale, TinyCudaGrid, TinyCudaPerceptron
from stspbr.settings import FieldSettings

CPU = torch.device("cpu")
GRIDS = [
    dict(levels=4, log2_table_size=9, base_resolution=4, finest_resolution=50),
    dict(levels=3, features=4, log2_table_size=14, base_resolution=5, finest_resolution=23),
    dict(levels=1, features=1, log2_table_size=6, base_resolution=7, finest_resolution=7),
    dict(levels=6, features=8, log2_table_size=8, base_resolution=2, finest_resolution=300),
]


def pair(precision="float32", **settings):
    """The kernels' encoding, and one with the same table that the stand-in evaluates."""
    cpu = HashGridEncoding(**settings, generator=torch.Generator().manual_seed(0), backend="cpu")
    with torch.no_grad():
        cpu.table.mul_(1e4)
    tiny = HashGridEncoding(**settings, backend="tinycudann", precision=precision)
    tiny.load_state_dict(cpu.state_dict())
    dtype = torch.float16 if precision == "float16" else torch.float32
    layout = (tiny.resolutions, tiny.sizes, tiny.features, tiny.log2_table_size)
    tiny._fused = CPU, TinyCudaGrid(*layout, dtype, CPU)
    return cpu, tiny


def gradients(grid, x, scale=1.0, active=None):
    x = x.clone().requires_grad_()
    out = grid(x, active)
    weight = torch.rand(out.shape, generator=torch.Generator().manual_seed(2)) * scale
    return [out.detach(), *torch.autograd.grad((out * weight).sum(), [x, grid.table])]


def points(count=700):
    """Inside, at the corners, and outside; away from the cells' borders, where slopes jump."""
    x = torch.rand(count, 3, generator=torch.Generator().manual_seed(1)) * 1.2 - 0.1
    corners = torch.tensor([[0.0, 0, 0], [1, 1, 1], [0, 1, 0.5]])
    return torch.cat([x, corners])


@pytest.mark.parametrize("settings", GRIDS)
@pytest.mark.parametrize("active", [None, 1])
def test_same_table_same_function(tinycudann, settings, active):
    cpu, tiny = pair(**settings)
    x = points()
    wanted, found = gradients(cpu, x, active=active), gradients(tiny, x, active=active)
    torch.testing.assert_close(found[0], wanted[0], atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(found[2], wanted[2], atol=2e-3, rtol=1e-3)
    slope = wanted[1].abs().max()
    assert ((found[1] - wanted[1]).abs().amax(1) > 1e-3 * slope).float().mean() < 0.01  # points on a cell's border
    assert found[2].abs().max() > 0.1


def test_no_points_at_all(tinycudann):
    _, tiny = pair(**GRIDS[0])
    out = tiny(torch.zeros(0, 3))
    assert out.shape == (0, 8) and out.requires_grad
    assert not torch.autograd.grad(out.sum(), tiny.table)[0].any()


@pytest.mark.parametrize("size", [1e-12, 1e-3, 1e6], ids=["tiny", "small", "huge"])
def test_half_precision_keeps_gradients_of_any_size(tinycudann, size):
    """Unscaled, gradients of 1e-12 would vanish in half precision and those of 1e6 overflow."""
    cpu, tiny = pair("float16", **GRIDS[0])
    x = (torch.randint(0, 4096, (600, 3), generator=torch.Generator().manual_seed(1)) + 0.5) / 4096
    wanted, found = gradients(cpu, x, size), gradients(tiny, x, size)
    assert all(value.dtype == torch.float32 for value in found)
    torch.testing.assert_close(found[0], wanted[0], atol=3e-3, rtol=3e-3)
    for value, reference in zip(found[1:], wanted[1:], strict=True):
        error = (value - reference).abs().max() / reference.abs().max()
        assert error < 0.01 and reference.abs().max() > 0


def test_state_is_read_by_every_backend(tinycudann):
    cpu, tiny = pair("float16", **GRIDS[0])
    assert {k: v.shape for k, v in cpu.state_dict().items()} == {k: v.shape for k, v in tiny.state_dict().items()}
    assert sum(p.numel() for p in tiny.parameters()) == tiny.table.numel()  # no flat vector beside ours


@pytest.mark.parametrize(("inputs", "outputs", "width", "layers"), [(24, 6, 32, 2), (16, 16, 16, 1), (5, 3, 64, 3)])
@pytest.mark.parametrize("size", [1.0, 1e-9])
def test_perceptron_is_ours_in_half_precision(tinycudann, inputs, outputs, width, layers, size):
    generator = torch.Generator().manual_seed(0)
    plain = MLP(inputs, outputs, width, layers, torch.linspace(-1, 1, outputs), generator)
    fused = MLP(inputs, outputs, width, layers, torch.zeros(outputs), generator, backend="tinycudann")
    fused.load_state_dict(plain.state_dict())
    fused._fused = CPU, TinyCudaPerceptron(inputs, outputs, width, layers, CPU)
    x = torch.randn(300, inputs, generator=generator)
    results = []
    for network in (plain, fused):
        at = x.clone().requires_grad_()
        out = network(at)
        weight = torch.rand(out.shape, generator=torch.Generator().manual_seed(3)) * size
        results.append([out, *torch.autograd.grad((out * weight).sum(), [at, *network.parameters()])])
    for found, wanted in zip(results[1], results[0], strict=True):
        assert found.dtype == torch.float32 and found.shape == wanted.shape
        assert (found - wanted).norm() < 0.05 * wanted.norm()  # a unit at zero may switch by rounding


def test_gradient_scale_leaves_what_is_broken_broken():
    scale = GradientScale()
    x = torch.ones(3, requires_grad=True)
    out = scale.raise_(scale.lower(x) * torch.tensor([1.0, 2.0, 3.0]))
    (good,) = torch.autograd.grad(out, x, torch.tensor([1e-9, 0.0, -4e-9]), retain_graph=True)
    torch.testing.assert_close(good, torch.tensor([1e-9, 0.0, -1.2e-8]), atol=0, rtol=1e-6)
    assert 0.5 < float(scale.factor * 4e-9) <= 2
    (zero,) = torch.autograd.grad(out, x, torch.zeros(3), retain_graph=True)
    assert not zero.any()
    (bad,) = torch.autograd.grad(out, x, torch.tensor([1.0, float("nan"), 1.0]))
    assert bad.isnan().any()


@pytest.mark.parametrize(("precision", "width", "heads"), [("float32", 32, "torch"), ("float16", 32, "tinycudann"),
                                                           ("float16", 48, "torch")])  # fmt: skip
def test_fields_of_one_backend_are_read_by_the_other(tinycudann, precision, width, heads):
    settings, box = FieldSettings(precision=precision, width=width), torch.tensor([[-1.0] * 3, [1.0] * 3])
    tiny, cpu = (MaterialFields(settings, box, torch.Generator().manual_seed(4), b) for b in ("tinycudann", "cpu"))
    for network in (tiny.appearance, tiny.reflectance):
        grid, head = network["encoding"], network["head"]
        assert (grid.backend, grid.precision, head.backend) == ("tinycudann", precision, heads)
        layout = (grid.resolutions, grid.sizes, grid.features, grid.log2_table_size)
        grid._fused = CPU, TinyCudaGrid(*layout, getattr(torch, precision), CPU)
        if heads == "tinycudann":
            head._fused = CPU, TinyCudaPerceptron(grid.output_dim, len(head.bias), width, 2, CPU)
    cpu.load_state_dict(tiny.state_dict())
    x = points(100)
    found, wanted = tiny(x), cpu(x)
    for name in ("albedo", "roughness", "metallic", "normal"):
        torch.testing.assert_close(getattr(found, name), getattr(wanted, name), atol=1e-3, rtol=1e-3)


def test_another_layout_is_refused(tinycudann, monkeypatch):
    monkeypatch.setattr(tinycudann, "Encoding", lambda *a, **k: torch.nn.ParameterDict({"params": torch.zeros(7)}))
    with pytest.raises(StspbrError, match="other conventions"):
        pair(**GRIDS[0])


def test_what_it_cannot_do_is_one_line(tinycudann):
    with pytest.raises(StspbrError, match="3 features per level"):
        pair(**{**GRIDS[0], "features": 3})
    with pytest.raises(StspbrError, match="hidden width of 48"):
        TinyCudaPerceptron(8, 3, 48, 2, CPU)
    with pytest.raises(StspbrError, match="only tinycudann has half precision"):
        HashGridEncoding(**GRIDS[0], precision="float16")
    with pytest.raises(StspbrError, match="takes float32 on CUDA, not torch.float32 on cpu"):
        HashGridEncoding(**GRIDS[0], backend="tinycudann")(torch.zeros(2, 3))


def test_choice_by_device(monkeypatch):
    cuda = torch.device("cuda")
    assert choose_encoding("auto", CPU) == "cpu" and choose_encoding("torch", CPU) == "torch"
    monkeypatch.setattr("stspbr.fields.backend.why_no_tinycudann", lambda: None)
    monkeypatch.setattr("stspbr.fields.backend.why_no_warp", lambda device: None)
    assert choose_encoding("auto", cuda) == choose_encoding("warp", cuda) == choose_encoding("warp", CPU) == "warp"
    monkeypatch.setattr("stspbr.fields.backend.why_no_warp", lambda device: "warp-lang is not installed")
    assert choose_encoding("auto", cuda) == choose_encoding("tinycudann", cuda) == "tinycudann"
    with pytest.raises(StspbrError, match="warp-lang is not installed"):
        choose_encoding("warp", cuda)
    monkeypatch.setattr("stspbr.fields.backend.why_no_tinycudann", lambda: "tinycudann cannot be imported: no sm_120")
    assert choose_encoding("auto", cuda) == "torch"
    with pytest.raises(StspbrError, match="no sm_120.*stspbr doctor"):
        choose_encoding("tinycudann", cuda)
    for name, device in (("cpu", cuda), ("tinycudann", CPU), ("warp", CPU), ("triton", CPU)):
        with pytest.raises(StspbrError):
            choose_encoding(name, device)


needs_cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="tinycudann on CUDA: no GPU here")


@needs_cuda
@pytest.mark.skipif(importlib.util.find_spec("tinycudann") is None, reason="tinycudann is not installed")
@pytest.mark.parametrize("settings", GRIDS)
@pytest.mark.parametrize("precision", ["float32", "float16"])
def test_the_real_library_agrees_with_the_kernels(settings, precision):
    cpu = HashGridEncoding(**settings, generator=torch.Generator().manual_seed(0), backend="cpu")
    with torch.no_grad():
        cpu.table.mul_(1e4)
    tiny = HashGridEncoding(**settings, backend="tinycudann", precision=precision)
    tiny.load_state_dict(cpu.state_dict())
    x = (torch.randint(0, 4096, (3000, 3), generator=torch.Generator().manual_seed(1)) + 0.5) / 4096
    tolerance = 1e-3 if precision == "float32" else 2e-2
    weight = torch.rand(len(x), cpu.output_dim, generator=torch.Generator().manual_seed(2))
    wanted = torch.autograd.grad((cpu(x) * weight).sum(), cpu.table)[0]
    out = tiny.cuda()(x.cuda())
    found = torch.autograd.grad((out * weight.cuda()).sum(), tiny.table)[0].cpu()
    torch.testing.assert_close(out.cpu(), cpu(x), atol=tolerance, rtol=tolerance)
    assert (found - wanted).abs().max() < tolerance * wanted.abs().max()
