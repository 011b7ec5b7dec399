"""The shading against its double-precision twin (values, gradients) and against the quadrature (how right it is)."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from stspbr.render import shading
from stspbr.render.brdf_table import diffuse_fresnel, specular_albedo
from stspbr.render.cpu.texture import texture
from stspbr.render.light import EnvironmentCube
from stspbr.render.lobe_fit import table_weights
from stspbr.render.lobes import GRID, load_lobe_table
from stspbr.render.prefilter import WIDTHS, PrefilteredLight, prefilter_latlong
from stspbr.render.quadrature import integrate_light, sphere_points
from stspbr.render.reference.texture import texture as reference_texture
from stspbr.render.shading import pure_responses, shade
from stspbr.render.shading_error import shading_errors
from stspbr.scene.light import EnvironmentLight, latlong_to_direction
from stspbr.warp_runtime import why_no_warp

ENVS = Path(__file__).parents[2] / "../shared/assets/envs"


def on_device(look_up, host, where):
    """The CPU's texture lookup for tensors that lie elsewhere."""

    def call(tex, uv, mip=None, mip_level_bias=None, **modes):
        bias = None if mip_level_bias is None else mip_level_bias.to(host)
        levels = None if mip is None else [level.to(host) for level in mip]
        return look_up(tex.to(host), uv.to(host), mip=levels, mip_level_bias=bias, **modes).to(where)

    return call


def _random_light(skipped: int, seed: int = 0) -> PrefilteredLight:
    generator = torch.Generator().manual_seed(seed)
    count = len(WIDTHS) - skipped
    specular = [torch.rand(6, 64 >> i, 64 >> i, 3, generator=generator) + 0.1 for i in range(count)]
    return PrefilteredLight(specular, (0.0, *WIDTHS[skipped + 1 :]), torch.rand(6, 8, 8, 3, generator=generator))


def _points(count: int, seed: int = 1) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    n, v = (torch.tensor(x, dtype=torch.float32) for x in sphere_points(count, 0.02, 1.0, seed))
    v[0] = n[0]  # straight on
    v[1:3] = torch.nn.functional.normalize(v[1:3] - 0.5 * n[1:3], dim=-1)  # from behind
    uniform = lambda *shape: torch.rand(*shape, generator=generator)  # noqa: E731
    return {
        "normals": n, "view": v, "albedo": uniform(count, 3), "roughness": uniform(count, 1) * 0.98 + 0.01,
        "metallic": uniform(count, 1), "occlusion": uniform(count, 1),
    }  # fmt: skip


def _radiance(points, light, rotation, look_up, backend="auto"):
    order = [points[key] for key in ("normals", "view", "albedo", "roughness", "metallic")]
    modes = dict(light_rotation=rotation, occlusion=points.get("occlusion"), backend=backend)
    return shade(*order, light, texture=look_up, **modes)


def _parts(points, light, rotation, look_up, backend):
    """Diffuse and specular, whose sum is the radiance."""
    normals, view, roughness = (points[key] for key in ("normals", "view", "roughness"))
    found = shading._look_up(normals, view, roughness, light, look_up, rotation, None, None, None, backend)
    return shading._combine(*found, points["albedo"], points["metallic"], points.get("occlusion"), backend)


def _leaves(points, light, dtype):
    points = {key: value.to(dtype).clone().requires_grad_() for key, value in points.items()}
    light = light.to("cpu", dtype)
    levels = [part.clone().requires_grad_() for part in (*light.specular, light.diffuse)]
    return points, PrefilteredLight(levels[:-1], light.widths, levels[-1]), levels


@pytest.mark.parametrize("skipped", [0, 1])
@pytest.mark.parametrize("turned", [False, True])
def test_values_and_gradients_match_the_double_precision_twin(skipped, turned, kernels):
    count = 300
    points, light = _points(count), _random_light(skipped)
    if not turned:
        del points["occlusion"]
    rotation = None
    if turned:
        q, _ = torch.linalg.qr(torch.randn(3, 3, 3, generator=torch.Generator().manual_seed(5)))
        rotation = (q, torch.arange(count) % 3)
    weight = torch.rand(count, 3, generator=torch.Generator().manual_seed(2)) - 0.3
    got = {}
    for dtype, look_up, backend in (
        (torch.float32, texture, kernels),
        (torch.float64, reference_texture, "torch"),
    ):
        p, light_leaves, levels = _leaves(points, light, dtype)
        diffuse, specular = _parts(p, light_leaves, rotation, look_up, backend)
        assert torch.equal(_radiance(p, light_leaves, rotation, look_up, backend), diffuse + specular)
        (diffuse * weight + 2 * specular * weight).sum().backward()
        got[dtype] = (diffuse, specular, {k: t.grad for k, t in p.items()}, [t.grad for t in levels])
    fast, slow = got[torch.float32], got[torch.float64]
    for a, b in zip(fast[:2], slow[:2], strict=True):
        torch.testing.assert_close(a.double(), b, rtol=2e-4, atol=2e-5)
    for key, grad in fast[2].items():
        # a look-up a rounding error from a texel's or a level's border takes another branch there
        near = (grad.double() - slow[2][key]).abs() <= 2e-3 * slow[2][key].abs().mean() + 5e-3 * slow[2][key].abs()
        assert near.double().mean() > 0.99, key
    for a, b in zip(fast[3], slow[3], strict=True):
        torch.testing.assert_close(a.double(), b, rtol=1e-3, atol=1e-4 * float(b.abs().max()))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_radiance_of_pure_materials_is_affine_in_albedo(dtype):
    light = _random_light(1).to("cpu", dtype)
    points = {key: value.to(dtype) for key, value in _points(300).items()}
    del points["occlusion"]
    rotation = (torch.linalg.qr(torch.randn(2, 3, 3, dtype=dtype))[0], torch.arange(300) % 2)
    look_up = texture if dtype == torch.float32 else reference_texture
    order = [points[key] for key in ("normals", "view", "roughness")]
    both = pure_responses(*order, light, texture=look_up, light_rotation=rotation)
    for metallic, (slope, offset) in enumerate(both):
        pure = {**points, "metallic": torch.full((300, 1), float(metallic), dtype=dtype)}
        radiance = _radiance(pure, light, rotation, look_up)
        torch.testing.assert_close(slope * points["albedo"] + offset, radiance, rtol=1e-4, atol=1e-5)


def test_twin_gradients_match_central_differences():
    light = _random_light(1).to("cpu", torch.float64)
    points = {key: value.double() for key, value in _points(40, seed=3).items()}
    for key in ("normals", "view", "albedo", "roughness", "metallic", "occlusion"):
        leaf = points[key].clone().requires_grad_()
        _radiance({**points, key: leaf}, light, None, reference_texture).sum().backward()
        direction = torch.randn(leaf.shape, generator=torch.Generator().manual_seed(4), dtype=torch.float64)
        step = 1e-6
        ends = [
            _radiance({**points, key: points[key] + sign * step * direction}, light, None, reference_texture)
            for sign in (1, -1)
        ]
        difference = (ends[0] - ends[1]).sum(-1) / (2 * step)
        got = (leaf.grad * direction).sum(-1)
        near = (got - difference).abs() <= 1e-4 * (1 + difference.abs())
        assert near.double().mean() >= 0.95, key  # but for the creases of bilinear maps


def test_roughness_has_a_true_gradient_and_no_dead_zone():
    light = EnvironmentCube.from_latlong(_sky(), 64).prefilter().detach()
    double = light.to("cpu", torch.float64)
    n, v = sphere_points(24, 0.15, 0.95)
    for value in (0.051, 0.11, 0.17, 0.26, 0.45, 0.71, 0.99, 0.004, 0.02, 0.04):

        def radiance(r, dtype, lit, look_up):
            shape = (24, 1)
            material = torch.full((24, 3), 0.7, dtype=dtype), r, torch.ones(shape, dtype=dtype)
            normals, view = torch.tensor(n, dtype=dtype), torch.tensor(v, dtype=dtype)
            return shade(normals, view, *material, lit, texture=look_up).sum(-1)

        leaf = torch.full((24, 1), value, requires_grad=True)
        radiance(leaf, torch.float32, light, texture).sum().backward()
        step = 1e-5
        moved = [torch.full((24, 1), value + s * step, dtype=torch.float64) for s in (1, -1)]
        ends = [radiance(r, torch.float64, double, reference_texture) for r in moved]
        difference = (ends[0] - ends[1]) / (2 * step)
        got = leaf.grad[:, 0].double()
        error = (got - difference).abs() / (difference.abs() + 0.02 * difference.abs().mean())
        assert error.median() < 0.01 and (error < 0.05).double().mean() > 0.95, value
        assert (got.abs() > 1e-6).double().mean() > 0.95, value


def test_no_weight_is_negative_and_levels_are_in_range():
    table = load_lobe_table()
    k = table.lookups
    assert table.values[..., 2 * k :].min() >= 0
    assert table.values[..., k : 2 * k].min() >= 0 and table.values[..., k : 2 * k].max() <= len(WIDTHS) - 1


def test_a_white_sky_is_exact():
    white = PrefilteredLight([torch.ones(6, n, n, 3) for n in (8, 4, 2)], (0.0, *WIDTHS[-2:]), torch.ones(6, 4, 4, 3))
    n, v = sphere_points(200, 0.1, 1.0)
    cosine = (n * v).sum(-1)
    roughness = np.linspace(0.07, 1.0, 200)
    a, b = specular_albedo(roughness, cosine)
    f32 = lambda x: torch.tensor(x, dtype=torch.float32)  # noqa: E731
    for albedo, metallic in ((0.6, 0.0), (0.6, 1.0), (0.03, 0.0)):
        material = torch.full((200, 3), albedo), f32(roughness)[:, None], torch.full((200, 1), metallic)
        got = shade(f32(n), f32(v), *material, white, texture=texture)[:, 1].numpy()
        f0 = 0.04 * (1 - metallic) + albedo * metallic
        truth = f0 * a + b + albedo * (1 - metallic) * (1 - f0) * (1 - diffuse_fresnel(cosine))
        np.testing.assert_allclose(got, truth, atol=3e-3)


def test_shipped_table_is_what_the_fit_makes_of_its_directions():
    table = load_lobe_table()
    k = table.lookups
    row = torch.from_numpy(table.values[20])
    weights = table_weights(20, row[:, :k], row[:, k : 2 * k])
    torch.testing.assert_close(weights.transpose(1, 2).reshape(GRID, -1), row[:, 2 * k :], rtol=1e-2, atol=1e-2)


def _sky(height: int = 256) -> EnvironmentLight:
    v, u = np.meshgrid((np.arange(height) + 0.5) / height, (np.arange(2 * height) + 0.5) / (2 * height), indexing="ij")
    d = latlong_to_direction(np.stack([u, v], -1))
    radiance = np.repeat(0.3 + 0.2 * d[..., 1:2], 3, -1)
    rng = np.random.default_rng(0)
    for size in (0.02, 0.05, 0.1, 0.2, 0.3):
        centre = rng.normal(size=3)
        inside = d @ (centre / np.linalg.norm(centre)) - 1
        radiance += np.exp(inside[..., None] / size**2) * 0.1 / size * rng.uniform(0.5, 1.0, 3)
    return EnvironmentLight(radiance.astype(np.float32))


def test_errors_against_the_quadrature_under_a_made_up_sky():
    _check_cells(shading_errors(_sky(), points=40, samples=160), made_up=True)


@pytest.mark.parametrize(
    "name", [pytest.param("aerodynamics_workshop_1k.hdr", marks=pytest.mark.slow), "studio_small_03_1k.hdr"]
)
def test_errors_against_the_quadrature_under_real_lights(name):
    path = ENVS / name
    if not path.is_file():
        pytest.skip(f"{name} is not there")
    from stspbr.formats.images import read_image

    _check_cells(shading_errors(EnvironmentLight(read_image(path)[0]), points=100, samples=224))


def _check_cells(cells, made_up=False):
    assert len(cells) == 36
    for cell in cells:
        # narrow lobes at grazing angles lose to plain split-sum under the smooth made-up sky (docs/shading.md)
        if not made_up or cell.roughness > 0.15:
            assert cell.shading >= cell.split_sum - 1.0, cell
        assert cell.shading >= 25.0, cell
        if cell.roughness == 0.8 and cell.metallic == 1.0:
            assert cell.shading >= 28.0, cell


def test_derivative_by_roughness_resembles_the_quadratures():
    light = _sky()
    prefiltered = prefilter_latlong(light)
    n, v = sphere_points(60, 0.2, 1.0)
    for value, least in ((0.2, 0.6), (0.3, 0.85), (0.4, 0.95), (0.8, 0.95)):
        leaf = torch.full((60, 1), value, requires_grad=True)
        f32 = [torch.tensor(x, dtype=torch.float32) for x in (n, v)]
        got = shade(*f32, torch.full((60, 3), 0.6), leaf, torch.ones(60, 1), prefiltered, texture=texture)
        got[:, 0].sum().backward()
        ends = [
            integrate_light(n, v, np.array([value + s]), light, 192, 8).radiance(np.full((1, 3), 0.6), np.ones((1, 1)))
            for s in (0.01, -0.01)
        ]
        truth = (ends[0] - ends[1])[:, 0] / 0.02
        assert np.corrcoef(truth, leaf.grad[:, 0].numpy())[0, 1] > least, value


@pytest.mark.parametrize("turned", [False, True])
def test_twin_and_warp_in_single_precision_are_the_kernels(turned, device):
    light, results = _random_light(1), []
    turn = torch.linalg.qr(torch.randn(2, 3, 3, generator=torch.Generator().manual_seed(5)))[0]
    rotation = (turn, torch.arange(60) % 2) if turned else None
    kinds = [("cpu", torch.device("cpu")), ("torch", device)] + [("warp", device)] * (why_no_warp(device) is None)
    for backend, where in kinds:
        points, levels, leaves = _leaves(_points(60), light, torch.float32)
        there = {key: value.to(where) for key, value in points.items()}
        order = [there[key] for key in ("normals", "view", "albedo", "roughness", "metallic")]
        turns = None if rotation is None else tuple(value.to(where) for value in rotation)
        out = shade(*order, levels.to(where), texture=on_device(texture, torch.device("cpu"), where),
                    light_rotation=turns, occlusion=there["occlusion"], backend=backend).cpu()  # fmt: skip
        weight = torch.rand(out.shape, generator=torch.Generator().manual_seed(6))
        results.append([out, *torch.autograd.grad((out * weight).sum(), [*points.values(), *leaves])])
    for result in results[1:]:
        for found, wanted in zip(result, results[0], strict=True):
            assert wanted.any() and (found - wanted).norm() < 1e-4 * wanted.norm()
