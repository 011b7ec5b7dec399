"""The survey finds known materials again, decides where it may, and teaches the networks no more than that."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from stspbr.fields.material_values import MaterialValues
from stspbr.fields.materials import MaterialFields
from stspbr.optimize.appearance import FieldAppearance
from stspbr.optimize.geometry import FixedGeometry
from stspbr.optimize.lights import KnownLight, LearnedLight
from stspbr.optimize.observations import Cells, Observations, observe
from stspbr.optimize.reconstruction import Reconstruction
from stspbr.optimize.survey import DOUBT, PURE, Fit, decide, fit_cells, survey, teach
from stspbr.optimize.views import ViewSet
from stspbr.procedural.jar import demo_asset, demo_light
from stspbr.render.backend import get_backend
from stspbr.render.light import EnvironmentCube
from stspbr.render.shading import shade
from stspbr.scene import Frame
from stspbr.scene.camera_rig import object_cameras
from stspbr.settings import FieldSettings, HashGridSettings, SpecializeSettings, SurveySettings

CPU = torch.device("cpu")
BACKEND = get_backend("cpu", CPU)
GRID = HashGridSettings(levels=4, log2_table_size=12, base_resolution=4, finest_resolution=32)
METAL = torch.tensor([0.9, 0.7, 0.4])
PAINT = torch.tensor([0.6, 0.3, 0.2])


@pytest.fixture(scope="module")
def light():
    return EnvironmentCube.from_latlong(demo_light(), 32).prefilter().detach()


def unit(*shape, seed):
    return torch.nn.functional.normalize(torch.randn(*shape, generator=torch.Generator().manual_seed(seed)), dim=-1)


def observations(light, count, metallic, roughness, albedo, occlusion=None) -> Observations:
    """``count`` points on the unit sphere, each seen from twelve sides."""
    normal = unit(count, 3, seed=0).repeat_interleave(12, dim=0)
    view = unit(12 * count, 3, seed=1)
    view = torch.where((view * normal).sum(1, True) < 0, -view, view)
    view = torch.nn.functional.normalize(view + 0.3 * normal, dim=1)
    turns = torch.linalg.qr(torch.randn(2, 3, 3, generator=torch.Generator().manual_seed(2)))[0]
    owner = torch.arange(12 * count) % 2
    full = normal.new_ones(12 * count, 1)
    radiance = shade(
        normal, view, full * albedo, full * roughness, full * metallic, light, texture=BACKEND.texture,
        light_rotation=(turns, owner), occlusion=occlusion,
    )  # fmt: skip
    return Observations(normal * 0.8, normal, view, owner, turns, radiance, occlusion)


# -- cells -------------------------------------------------------------------------------------------------


def test_cells_pool_over_themselves_and_their_neighbours():
    points = torch.rand(500, 3, generator=torch.Generator().manual_seed(0)) * 2 - 1
    points[0], points[1] = -1.0, 1.0  # the corners of the cube
    cells = Cells(points)
    values = torch.rand(500, 2, dtype=torch.float64)
    place = ((points + 1) * 0.5 * cells.resolution).long().clamp(max=cells.resolution - 1)
    near = ((place[:, None] - place[None]).abs() <= 1).all(dim=2)
    wanted = near.double() @ values
    torch.testing.assert_close(cells.pooled(values).index_select(0, cells.owner), wanted)


def test_cells_count_the_views_around_them():
    points = torch.rand(400, 3, generator=torch.Generator().manual_seed(1)) * 2 - 1
    view = torch.randint(70, (400,), generator=torch.Generator().manual_seed(2))
    cells = Cells(points)
    place = ((points + 1) * 0.5 * cells.resolution).long()
    near = ((place[:, None] - place[None]).abs() <= 1).all(dim=2)
    wanted = torch.tensor([[float(len(view[row].unique()))] for row in near])
    assert torch.equal(cells.distinct(view).index_select(0, cells.owner), wanted)


@pytest.mark.parametrize("count", [2_000, 40_000])
def test_cells_are_as_fine_as_the_points_allow(count):
    cells = Cells(0.8 * unit(count, 3, seed=3))
    assert 4 < count / cells.count < 9


def test_points_at_one_place_make_one_cell():
    cells = Cells(torch.zeros(50, 3))
    assert cells.count == 1
    assert cells.pooled(torch.ones(50, 1)).item() == 50


# -- fits --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("occluded", [False, True])
@pytest.mark.parametrize("roughness", [0.2, 0.7, 0.75])
@pytest.mark.parametrize("metallic", [0.0, 1.0])
def test_the_right_kind_fits_best(light, metallic, roughness, occluded):
    albedo = METAL if metallic else PAINT
    count = 1500
    occlusion = 0.5 + 0.5 * torch.rand(12 * count, 1) if occluded else None
    seen = observations(light, count, metallic, roughness, albedo, occlusion)
    cells = Cells(seen.position)
    fits = fit_cells(seen, cells, light, BACKEND.texture)
    right, wrong = fits[int(metallic)], fits[1 - int(metallic)]
    assert (right.error < 0.6 * wrong.error).float().mean() > 0.95
    if roughness == 0.75:  # between two that are tried
        assert (right.roughness - roughness).abs().max() < 0.06
        assert (right.albedo - albedo).abs().mean() < 0.06
    else:
        assert right.error.max() < 1e-5
        torch.testing.assert_close(right.albedo, albedo.expand(cells.count, -1), rtol=0, atol=1e-4)
        assert (right.roughness == roughness).all()


# -- verdicts ----------------------------------------------------------------------------------------------


def fits(dielectric, metal, metal_albedo=0.8, count=1):
    full = torch.ones(count, 1)
    return (
        Fit(full * dielectric, full.expand(-1, 3) * 0.3, full * 0.4),
        Fit(full * metal, full.expand(-1, 3) * metal_albedo, full * 0.6),
    )


def verdict(own_metallic, *errors, metal_albedo=0.8, enough=True, prior=True):
    points = 3
    own = torch.tensor([[0.5, 0.5, 0.5, 0.3, own_metallic]]).expand(points, -1)
    verdicts = decide(
        own, Cells(torch.zeros(points, 3)), torch.tensor([[enough]]), *fits(*errors, metal_albedo), 0.8, prior
    )
    assert verdicts.changed.all() or not verdicts.changed.any()
    if not verdicts.changed[0]:
        assert torch.equal(verdicts.material, own)
        return None
    return verdicts.material[0].tolist()


def test_a_clear_winner_is_taken_as_it_is():
    assert verdict(0.4, 0.1, 0.05) == pytest.approx([0.8, 0.8, 0.8, 0.6, 1 - PURE])
    assert verdict(0.4, 0.05, 0.1) == pytest.approx([0.3, 0.3, 0.3, 0.4, PURE])


def test_what_is_not_clear_stays():
    assert verdict(0.4, 0.1, 0.09) is None
    assert verdict(0.4, 1e-5, 3e-5) is None  # both explain all there is
    assert verdict(0.4, 0.1, 0.05, enough=False) is None
    assert verdict(DOUBT - 0.01, 0.05, 0.1) is None


def test_a_dark_metal_needs_better_evidence_under_the_prior():
    assert verdict(0.4, 0.1, 0.05, metal_albedo=0.1) is None
    assert verdict(0.4, 0.1, 0.02, metal_albedo=0.1)[4] == pytest.approx(1 - PURE)
    assert verdict(0.4, 0.1, 0.05, metal_albedo=0.1, prior=False)[4] == pytest.approx(1 - PURE)


# -- teaching ----------------------------------------------------------------------------------------------


def networks(metallic=0.4, mode="split") -> MaterialFields:
    settings = FieldSettings(
        mode=mode, appearance=GRID, reflectance=GRID, joint=GRID, initial_metallic=metallic, initial_albedo=0.5
    )
    return MaterialFields(settings, torch.tensor([[-1.0] * 3, [1.0] * 3]), torch.Generator().manual_seed(0))


@pytest.mark.parametrize("mode", ["split", "joint"])
def test_lessons_change_what_they_are_about_and_are_repeatable(mode):
    points = 0.8 * unit(6000, 3, seed=4)
    corner = points[:, 0] > 0.6
    learned = []
    for _ in range(2):
        fields = networks(mode=mode)
        with torch.no_grad():
            values = fields(points)
            target = torch.cat([values.albedo, values.roughness, values.metallic, values.normal], dim=1)
            target[corner, 4] = 0.97
        teach(fields, points, target, torch.nonzero(corner).squeeze(1), 80, seed=1)
        with torch.no_grad():
            values = fields(points)
        learned.append(torch.cat([values.albedo, values.roughness, values.metallic, values.normal], dim=1))
    assert torch.equal(*learned)
    away = points[:, 0] < 0.4
    assert (learned[0][points[:, 0] > 0.7][:, 4]).mean() > 0.9
    assert (learned[0] - target)[away].abs().mean() < 0.03
    assert all(p.grad is None for p in fields.parameters())


# -- all of it ---------------------------------------------------------------------------------------------


class Known:
    """The demo jar's shape, metal where x > 0 and paint elsewhere; both rough."""

    def evaluate(self, gbuffer, progress):
        metal = gbuffer.position[:, :1] > 0
        full = gbuffer.position.new_ones(len(metal), 1)
        albedo = torch.where(metal, METAL, PAINT)
        return MaterialValues(albedo, 0.7 * full, metal.float(), gbuffer.normal)

    def groups(self):
        return {}


def problem(light, appearance, views=48) -> Reconstruction:
    mesh = demo_asset(32, around=32, along=24).mesh
    half = 1.1 * np.abs(mesh.positions).max()
    mesh.positions[:] = mesh.positions / half
    cameras = object_cameras(mesh, views, 0, 40)[0]
    blank = np.zeros((40, 40, 4), np.float32)
    frames = [Frame(str(i), camera, blank[..., :3], blank[..., 3:]) for i, camera in enumerate(cameras)]
    frames[0].alpha[:] = 1.0  # a capture without any coverage is refused
    geometry = FixedGeometry(mesh, movable=False, laplacian=0.0, folding=0.0, device=CPU)
    settings = SpecializeSettings().optimize
    out = Reconstruction(
        ViewSet(frames, 1, CPU), geometry, appearance, KnownLight(light), settings=settings, backend=BACKEND, seed=0
    )
    truth = out.appearance
    out.appearance = Known()
    for number in range(len(out.views)):
        views, _ = out.views.batch([number])
        image = out.render(views)
        out.views.image[number], out.views.alpha[number] = image["rgb"][0], image["alpha"][0]
    out.appearance = truth
    return out


def test_a_half_metal_becomes_metal_or_paint(light):
    fields = networks()
    whole = problem(light, FieldAppearance(fields, 0.0))
    said = survey(whole, fields, SurveySettings())
    assert said.startswith("survey: 100.0 %")
    seen = observe(whole, 10**6)
    truth = seen.position[:, 0] > 0
    clear = seen.position[:, 0].abs() > 0.1  # but for the border, which cells and hash levels blur
    with torch.no_grad():
        values = fields(seen.position)
    found = values.metallic[:, 0]
    assert (found > 0.5)[truth & clear].float().mean() > 0.97
    assert (found < 0.5)[~truth & clear].float().mean() > 0.97
    assert (values.albedo - METAL)[truth & clear].abs().mean() < 0.06
    assert (values.albedo - PAINT)[~truth & clear].abs().mean() < 0.06
    assert (values.roughness - 0.7)[clear].abs().mean() < 0.08


def test_decided_points_are_left_alone(light):
    fields = networks(metallic=0.01)
    before = {name: value.clone() for name, value in fields.state_dict().items()}
    assert survey(problem(light, FieldAppearance(fields, 0.0)), fields, SurveySettings()) == (
        "survey: no point is undecided"
    )
    assert all(torch.equal(before[name], value) for name, value in fields.state_dict().items())


def test_few_views_decide_nothing(light):
    fields = networks()
    whole = problem(light, FieldAppearance(fields, 0.0), views=7)
    assert survey(whole, fields, SurveySettings()).endswith("0.0 % is metal now, 0.0 % dielectric")


def test_where_nothing_is_seen_nothing_is_done(light):
    fields = networks()
    whole = problem(light, FieldAppearance(fields, 0.0))
    whole.views.alpha[:] = 0.0
    assert survey(whole, fields, SurveySettings()) == "survey: no point is undecided"


def test_observations_are_inside_the_outline_unsaturated_and_no_more_than_asked_for(light):
    whole = problem(light, FieldAppearance(networks(), 0.0))
    every = observe(whole, 10**6)
    assert 0 < len(every) < int((whole.views.alpha > 0).sum())
    some = observe(whole, len(every) // 4)
    assert 0.15 * len(every) < len(some) < 0.4 * len(every)
    bright = every.radiance.max(dim=1).values.median()
    whole.views.saturation[:] = bright
    clipped = observe(whole, 10**6)
    assert len(clipped) == int((every.radiance.max(dim=1).values < bright).sum())
    with torch.no_grad():
        shaded = shade(
            clipped.normal, clipped.to_eye, METAL.expand(len(clipped), 3), torch.full((len(clipped), 1), 0.7),
            torch.ones(len(clipped), 1), light, texture=BACKEND.texture,
            light_rotation=(clipped.rotations, clipped.view),
        )  # fmt: skip
    metal = clipped.position[:, 0] > 0.05
    same = ((shaded - clipped.radiance).abs() < 1e-4).all(dim=1)
    assert same[metal].float().mean() > 0.98  # but for edges inside the outline, where two surfaces are blended


def test_the_light_s_own_scale_is_left_to_it(light):
    """With a common scale the networks' albedo times its factor is what was found."""
    fields = networks()
    whole = problem(light, FieldAppearance(fields, 0.0))
    cube = EnvironmentCube.from_latlong(demo_light(), 32)
    cube.common.requires_grad_(True)
    whole.light = LearnedLight(cube, 0.0)
    with torch.no_grad():
        cube.common -= 2.0
        cube.log_radiance -= cube.log_scale  # as bright as before
    factor = whole.light.albedo_factor().detach()
    assert (factor - 1).abs().min() > 0.05
    survey(whole, fields, SurveySettings())
    positions = observe(whole, 10**6).position
    with torch.no_grad():
        albedo = fields(positions).albedo * factor
    metal = positions[:, 0] > 0.1
    assert (albedo - METAL)[metal].abs().mean() < 0.06
    assert all(p.grad is None for p in whole.light.parameters())
