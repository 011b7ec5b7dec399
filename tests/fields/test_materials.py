"""The material networks: where they start, what they can reach, and who sees whose positions."""

from __future__ import annotations

import pytest
import torch

from stspbr.fields.materials import MaterialFields
from stspbr.render.backend import get_backend
from stspbr.render.light import EnvironmentCube
from stspbr.render.shading import shade
from stspbr.settings import FieldSettings, HashGridSettings

GRID = HashGridSettings(levels=3, log2_table_size=10, base_resolution=4, finest_resolution=32)
SMALL = {"appearance": GRID, "reflectance": GRID, "joint": GRID, "width": 8}
BOX = torch.tensor([[-1.0] * 3, [1.0] * 3])


def fields(seed: int = 0, **settings) -> MaterialFields:
    return MaterialFields(FieldSettings(**{**SMALL, **settings}), BOX, torch.Generator().manual_seed(seed))


def points(count: int = 200, seed: int = 1) -> torch.Tensor:
    return torch.rand(count, 3, generator=torch.Generator().manual_seed(seed)) * 1.8 - 0.9


def varied(mode: str) -> MaterialFields:
    """Fields whose features are large, so that the values differ from point to point."""
    out = fields(mode=mode, occlusion=True)
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for name, parameter in out.named_parameters():
            if name.endswith("table"):
                parameter.mul_(1e5)
            if name.endswith("weights.2"):
                parameter.copy_(0.1 * torch.randn(parameter.shape, generator=generator))
    return out


@pytest.mark.parametrize("mode", ["split", "joint"])
def test_start_values_are_those_of_the_settings(mode):
    settings = {"initial_albedo": 0.3, "initial_roughness": 0.6, "initial_metallic": 0.05, "occlusion": True}
    values = fields(mode=mode, **settings)(points())
    for name, wanted in (("albedo", 0.3), ("roughness", 0.6), ("metallic", 0.05), ("occlusion", 0.98)):
        torch.testing.assert_close(
            getattr(values, name), torch.full_like(getattr(values, name), wanted), atol=0.005, rtol=0, msg=name
        )


def test_metallic_starts_low_and_occlusion_open_by_default():
    values = fields(occlusion=True)(points())
    assert 0 < values.metallic.min() and values.metallic.max() < 0.2
    assert values.occlusion.min() > 0.95 and values.occlusion.max() < 1.0  # at 1 its sigmoid could not move
    assert fields()(points()).occlusion is None


@pytest.mark.parametrize(("odds", "wanted"), [(10.0, 1 / 11), (1.0, 0.5), (1e6, 1 / 101)])
def test_metallic_starts_from_the_priors_odds_unless_a_start_is_given(odds, wanted):
    generator = torch.Generator().manual_seed(0)
    values = MaterialFields(FieldSettings(**SMALL), BOX, generator, metal_prior=odds)(points())
    torch.testing.assert_close(values.metallic, torch.full_like(values.metallic, wanted), atol=0.005, rtol=0)
    given = MaterialFields(FieldSettings(**SMALL, initial_metallic=0.3), BOX, generator, metal_prior=odds)(points())
    torch.testing.assert_close(given.metallic, torch.full_like(given.metallic, 0.3), atol=0.005, rtol=0)


@pytest.mark.parametrize("mode", ["split", "joint"])
def test_extreme_outputs_stay_in_range(mode):
    low, high = FieldSettings().roughness_range
    ends = dict.fromkeys(("albedo", "metallic", "occlusion"), (0, 1))
    ends |= {"roughness": (low, high), "normal": (-1, 1)}
    for side, push in enumerate((-1e3, 1e3)):
        model = varied(mode)
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                if name.endswith("bias"):
                    parameter.fill_(push)
        values = model(points())
        for name, bounds in ends.items():
            assert getattr(values, name).unique().tolist() == pytest.approx([bounds[side]]), name
    values = varied(mode)(points())
    for name, (bottom, top) in ends.items():
        value = getattr(values, name)
        assert bottom <= value.min() < value.max() <= top and value.std() > 1e-3, name


@pytest.mark.parametrize("low, high", [(0.2, 0.5), (0.1, 0.9)])
def test_roughness_range_is_kept(low, high):
    narrow = fields(roughness_range=(low, high), initial_roughness=0.3)
    torch.testing.assert_close(narrow(points()).roughness, torch.full((200, 1), 0.3), atol=0.005, rtol=0)
    with torch.no_grad():
        for bias, bound in ((-100.0, low), (100.0, high)):
            narrow.reflectance["head"].bias[0] = bias
            assert narrow(points()).roughness.unique().tolist() == pytest.approx([bound])
            assert narrow.reflectance_at(points())[:, 0].unique().tolist() == pytest.approx([bound])


@pytest.mark.parametrize("mode", ["split", "joint"])
def test_normal_offset_starts_at_exactly_zero_and_can_leave_it(mode):
    model = fields(mode=mode)
    values = model(points())
    assert not bool(values.normal.any())
    assert not bool(model.appearance_at(points())[1].any())
    head = (model.joint if mode == "joint" else model.appearance)["head"]
    gradient = torch.autograd.grad((values.normal * torch.tensor([1.0, 2.0, 3.0])).sum(), head.weights[-1])[0]
    assert bool(gradient[3:6].any(dim=1).all()) and not bool(gradient[:3].any())


def test_reflectance_sees_detached_positions():
    positions = points().requires_grad_()
    values = fields(occlusion=True)(positions)
    for name in ("roughness", "metallic", "occlusion"):
        assert torch.autograd.grad(getattr(values, name).sum(), positions, allow_unused=True, retain_graph=True) == (
            None,
        ), name
    assert bool(torch.autograd.grad(values.albedo.sum(), positions)[0].any())


def test_the_joint_network_does_not_detach():
    positions = points().requires_grad_()
    values = fields(mode="joint")(positions)
    for name in ("albedo", "roughness"):
        assert bool(torch.autograd.grad(getattr(values, name).sum(), positions, retain_graph=True)[0].any()), name


@pytest.mark.parametrize("mode", ["split", "joint"])
def test_values_for_smoothness_are_those_of_the_whole(mode):
    model, positions = varied(mode), points().requires_grad_()
    values = model(positions)
    reflectance, (albedo, offset) = model.reflectance_at(positions), model.appearance_at(positions)
    assert torch.equal(reflectance, torch.cat([values.roughness, values.metallic, values.occlusion], dim=1))
    assert torch.equal(albedo, values.albedo) and torch.equal(offset, values.normal)
    for value in (reflectance, albedo):
        assert torch.autograd.grad(value.sum(), positions, allow_unused=True) == (None,)


@pytest.mark.parametrize("mode, names", [("split", {"appearance", "reflectance"}), ("joint", {"joint"})])
def test_groups_hold_every_parameter_once(mode, names):
    model = fields(mode=mode)
    groups = model.groups()
    assert set(groups) == names
    grouped = [id(p) for params in groups.values() for p in params]
    assert sorted(grouped) == sorted(id(p) for p in model.parameters())
    assert len(set(grouped)) == len(grouped)


def test_each_output_has_its_own_group():
    model = fields(occlusion=True)
    values, groups = model(points()), model.groups()
    own = {"albedo": "appearance", "normal": "appearance"}
    for name in ("albedo", "normal", "roughness", "metallic", "occlusion"):
        total = getattr(values, name).sum()
        for group, params in groups.items():
            found = torch.autograd.grad(total, params, allow_unused=True, retain_graph=True)
            reached = any(g is not None and bool(g.any()) for g in found)
            assert reached == (group == own.get(name, "reflectance")), (name, group)


def test_joint_encoding_is_as_large_as_both_others():
    count = {}
    for mode in ("split", "joint"):
        model = MaterialFields(FieldSettings(mode=mode), BOX, torch.Generator().manual_seed(0))
        count[mode] = sum(p.numel() for name, p in model.named_parameters() if name.endswith("table"))
    assert count["joint"] == pytest.approx(count["split"], rel=0.1)


def test_the_seed_decides_all_parameters():
    one, same, other = (fields(seed).state_dict() for seed in (5, 5, 6))
    assert one.keys() == same.keys()
    assert all(torch.equal(one[name], same[name]) for name in one)
    tables = [name for name in one if name.endswith("table")]
    assert tables and not any(torch.equal(one[name], other[name]) for name in tables)
    # global random numbers have no say
    torch.manual_seed(99)
    again = fields(5).state_dict()
    assert all(torch.equal(one[name], again[name]) for name in one)


def test_the_box_maps_to_the_unit_cube_and_clamps():
    settings = FieldSettings(**SMALL)
    wide = MaterialFields(settings, torch.tensor([[0.0, -2, 4], [2, 2, 6]]), torch.Generator().manual_seed(0))
    unit = MaterialFields(settings, torch.tensor([[0.0] * 3, [1.0] * 3]), torch.Generator().manual_seed(0))
    x = torch.rand(50, 3, generator=torch.Generator().manual_seed(2))
    moved = x * torch.tensor([2.0, 4, 2]) + torch.tensor([0.0, -2, 4])
    torch.testing.assert_close(wide(moved).albedo, unit(x).albedo, atol=1e-7, rtol=0)
    torch.testing.assert_close(unit(x + 5.0).albedo, unit(torch.ones_like(x)).albedo, atol=0, rtol=0)


def test_radiance_depends_on_roughness_from_the_start():
    generator = torch.Generator().manual_seed(4)
    normal = torch.nn.functional.normalize(torch.randn(300, 3, generator=generator), dim=1)
    view = torch.nn.functional.normalize(normal + 0.5 * torch.randn(300, 3, generator=generator), dim=1)
    view = torch.where((view * normal).sum(1, keepdim=True) > 0.1, view, normal)
    light = EnvironmentCube(16)
    light.set_radiance(torch.rand(6, 16, 16, 3, generator=generator) ** 4)
    model = fields()
    values = model(points(300))
    radiance = shade(
        normal, view, values.albedo, values.roughness, values.metallic, light.prefilter(),
        texture=get_backend("cpu", torch.device("cpu")).texture,
    ).sum()  # fmt: skip
    by_roughness, by_metallic = torch.autograd.grad(radiance, [values.roughness, values.metallic], retain_graph=True)
    assert torch.isfinite(by_roughness).all() and torch.isfinite(by_metallic).all()
    assert (by_roughness.abs() > 1e-6).float().mean() > 0.98
    assert (by_metallic.abs() > 1e-6).float().mean() > 0.98
    for parameter in torch.autograd.grad(radiance, list(model.reflectance.parameters())):
        assert bool(parameter.any())
