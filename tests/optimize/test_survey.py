"""The survey finds known materials again, decides where it may, and teaches the networks no more than that."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from stspbr.fields.material_values import MaterialValues
from stspbr.fields.materials import MaterialFields
from stspbr.optimize.appearance import FieldAppearance
from stspbr.optimize.cell_fits import Fit, Fits, errors_of, fit_cells, mirrored_part
from stspbr.optimize.cell_refits import refit_cells
from stspbr.optimize.geometry import FixedGeometry
from stspbr.optimize.lights import KnownLight, LearnedLight
from stspbr.optimize.observations import Cells, Observations, observe
from stspbr.optimize.reconstruction import Reconstruction
from stspbr.optimize.survey import HALF, PURE, Answer, decide, record, survey, teach
from stspbr.optimize.views import ViewSet
from stspbr.procedural.jar import demo_asset, demo_light
from stspbr.render.backend import get_backend
from stspbr.render.footprint import blurred
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


def test_values_of_cells_are_interpolated_between_their_centres():
    side = 8
    grid = (torch.arange(3 * side) + 0.5) * (2.0 / (3 * side)) - 1.0
    points = torch.stack(torch.meshgrid(grid, grid, grid, indexing="ij"), dim=-1).reshape(-1, 3)
    cells = Cells(points)
    centres = cells.pooled(torch.zeros(len(points), 1)).new_zeros(cells.count, 3)
    size = 2.0 / cells.resolution
    centres.index_copy_(0, cells.owner, ((points + 1.0) / size).floor() * size + 0.5 * size - 1.0)
    inside = 0.7 * (2.0 * torch.rand(50, 3, generator=torch.Generator().manual_seed(0)) - 1.0)
    found, weight = cells.interpolated(centres, inside)
    assert torch.allclose(found, inside, atol=1e-5) and torch.allclose(weight, torch.ones(50), atol=1e-5)
    half = Cells(points[points[:, 0] < 0], torch.zeros(len(points) // 2, dtype=torch.int64))
    far = torch.tensor([[0.9, 0.0, 0.0]])
    assert float(half.interpolated(torch.ones(half.count, 1), far, torch.zeros(1, dtype=torch.int64))[1]) == 0.0
    other = torch.ones(1, dtype=torch.int64)
    assert float(half.interpolated(torch.ones(half.count, 1), -far, other)[1]) == 0.0  # another group's


def test_cells_pool_over_themselves_and_their_neighbours():
    points = torch.rand(500, 3, generator=torch.Generator().manual_seed(0)) * 2 - 1
    points[0], points[1] = -1.0, 1.0  # the corners of the cube
    cells = Cells(points)
    values = torch.rand(500, 2, dtype=torch.float64)
    place = ((points + 1) * 0.5 * cells.resolution).long().clamp(max=cells.resolution - 1)
    near = ((place[:, None] - place[None]).abs() <= 1).all(dim=2)
    wanted = near.double() @ values
    torch.testing.assert_close(cells.pooled(values).index_select(0, cells.owner), wanted)


def test_cells_are_smoothed_over_their_neighbours():
    points = torch.rand(300, 3, generator=torch.Generator().manual_seed(0)) * 2 - 1
    cells = Cells(points)
    values, weight = torch.rand(cells.count, 2), (torch.rand(cells.count, 1) > 0.3).float()
    first = torch.zeros(cells.count, dtype=torch.int64).index_copy_(0, cells.owner, torch.arange(300))
    place = ((points[first] + 1) * 0.5 * cells.resolution).long().clamp(max=cells.resolution - 1)
    near = ((place[:, None] - place[None]).abs() <= 1).all(dim=2).float()
    wanted = (near @ (weight * values)) / (near @ weight).clamp(min=1e-12)
    torch.testing.assert_close(cells.smoothed(values, weight), wanted)


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


def test_cells_find_points_that_they_were_not_made_of():
    points = torch.rand(500, 3, generator=torch.Generator().manual_seed(0)) * 2 - 1
    cells = Cells(points)
    assert torch.equal(cells.find(points), cells.owner)
    other = Cells(points[:250]).find(points[250:])
    assert (other >= -1).all() and (other == -1).any() and (other >= 0).any()


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
    found = fit_cells(seen, cells, light, BACKEND.texture)
    pair = found.dielectric, found.metal
    right, wrong = pair[int(metallic)], pair[1 - int(metallic)]
    assert (right.error < 0.6 * wrong.error).float().mean() > 0.95
    assert (found.lenient <= found.dielectric.error + 1e-7).all()
    if roughness == 0.75:  # between two at which the light was looked up
        assert (right.roughness - roughness).abs().max() < 0.03
        assert (right.albedo - albedo).abs().mean() < 0.03
    else:
        assert right.error.max() < 1e-5
        torch.testing.assert_close(right.albedo, albedo.expand(cells.count, -1), rtol=0, atol=1e-4)
        assert (right.roughness - roughness).abs().max() < 1e-6


def test_a_mixture_explains_half_a_metal_and_nothing_else_better_than_the_kinds(light):
    for metallic, albedo in ((0.0, PAINT), (1.0, METAL), (0.5, METAL)):
        seen = observations(light, 600, metallic, 0.4, albedo)
        found = fit_cells(seen, Cells(seen.position), light, BACKEND.texture)
        assert (found.mixed <= found.pure).all()
        if metallic == 0.5:
            assert (found.mixed < 0.02 * found.pure).all()
        else:
            torch.testing.assert_close(found.mixed, found.pure, rtol=0, atol=1e-5)


def test_the_errors_of_a_material_are_those_of_the_fit_that_found_it(light):
    seen = observations(light, 200, 1.0, 0.4, METAL)
    cells = Cells(torch.zeros_like(seen.position))  # one cell: its fit is every point's
    found = fit_cells(seen, cells, light, BACKEND.texture)
    material = torch.cat([found.dielectric.albedo, found.dielectric.roughness, torch.zeros(1, 1)], dim=1)
    error, signed = errors_of(material.expand(len(seen), -1), seen, cells, light, BACKEND.texture)
    torch.testing.assert_close(error, found.dielectric.error, rtol=0.02, atol=0)
    assert signed.shape == (len(seen),) and 0.1 * error < signed.abs().mean() < error
    exact = torch.cat([METAL, torch.tensor([0.4, 1.0])]).expand(len(seen), -1)
    assert errors_of(exact, seen, cells, light, BACKEND.texture)[0].item() < 1e-6


@pytest.mark.parametrize("metallic", [0.0, 1.0])
def test_a_normal_that_is_off_is_turned_back(light, metallic):
    """One cell of 400 looks whose normals are all turned by 4°: the right kind explains them again."""
    seen = observations(light, 400, metallic, 0.4, torch.tensor([0.1, 0.1, 0.1]))
    seen = replace(seen, position=torch.zeros_like(seen.position))
    turn = torch.tensor([0.04, -0.05, 0.03])
    off = replace(seen, normal=torch.nn.functional.normalize(seen.normal - torch.linalg.cross(turn[None], seen.normal)))
    how = (Cells(off.position), light, BACKEND.texture)
    start = fit_cells(off, *how)
    found = refit_cells(start, off, *how)
    before, after = (start.metal.error, found.metal.error) if metallic else (start.lenient, found.lenient)
    assert after.item() < 0.25 * before.item()
    wrong = found.lenient if metallic else found.metal.error
    assert after.item() < 0.4 * wrong.item()
    if metallic:
        assert found.metal.roughness.item() == pytest.approx(0.4, abs=0.03)
        assert found.metal.albedo.mean().item() == pytest.approx(0.1, abs=0.01)


def test_a_refit_never_makes_a_cell_worse(light):
    seen = observations(light, 300, 1.0, 0.3, METAL)
    how = (Cells(seen.position), light, BACKEND.texture)
    start = fit_cells(seen, *how)
    found = refit_cells(start, seen, *how)
    assert (found.metal.error <= start.metal.error).all() and (found.lenient <= start.lenient).all()
    assert found.dielectric is start.dielectric


def test_cells_do_not_reach_across_groups():
    points = torch.rand(400, 3, generator=torch.Generator().manual_seed(3)) * 0.2
    group = (torch.arange(400) % 2).long()
    cells = Cells(points, group)
    one = cells.pooled(torch.stack([group.double(), 1.0 - group.double()], dim=1))
    assert ((one[:, 0] == 0) | (one[:, 1] == 0)).all()
    assert torch.equal(cells.find(points, group), cells.owner)
    assert (cells.find(points, group + 2) == -1).all()


def test_looks_that_mirror_one_part_of_the_light_are_one():
    turns = torch.eye(3).expand(2, 3, 3)
    normal = torch.tensor([[0.0, 1.0, 0.0]]).expand(4, -1)
    view = torch.tensor([[0.1, 1.0, 0.05], [0.12, 1.0, 0.06], [-0.8, 0.6, 0.1], [0.1, 1.0, 0.05]])
    view = torch.nn.functional.normalize(view, dim=1)
    turned = torch.tensor([[1.0, 0, 0], [0, 0, -1.0], [0, 1.0, 0]])  # the last look's object lies on its side
    seen = Observations(normal, normal, view, torch.tensor([0, 0, 0, 1]), torch.stack([turns[0], turned]), view, None)
    part = mirrored_part(seen)
    assert part[0] == part[1] and len(part.unique()) == 3 and part.min() >= 0 and part.max() < 96


# -- verdicts ----------------------------------------------------------------------------------------------


def fits(dielectric, metal, metal_albedo=0.8, lenient=None, mixed=0.0):
    full, pure = torch.ones(1, 1), min(dielectric, metal)
    return Fits(
        Fit(full * dielectric, full.expand(-1, 3) * 0.3, full * 0.4),
        Fit(full * metal, full.expand(-1, 3) * metal_albedo, full * 0.6),
        full * (dielectric if lenient is None else lenient),
        full * pure,
        full * min(pure, mixed),
    )


def verdict(own_metallic, *errors, looks=20.0, own_error=1.0, odds=10.0, mixtures=False, **rest):
    """The material of a cell of three points; None if it stays."""
    own = torch.tensor([[0.5, 0.5, 0.5, 0.3, own_metallic]]).expand(3, -1)
    answer = Answer(
        Cells(torch.zeros(3, 3)), fits(*errors, **rest), torch.tensor([[own_error]]), torch.tensor([[looks]])
    )
    found = decide(own, torch.zeros(3, dtype=torch.int64), answer, odds, mixtures)
    assert found.changed.all() or not found.changed.any()
    if not found.changed[0]:
        assert torch.equal(found.material, own)
        return None
    return found.material[0].tolist()


METAL_FIT, DIELECTRIC_FIT = [0.8, 0.8, 0.8, 0.6, 1 - PURE], [0.3, 0.3, 0.3, 0.4, PURE]


@pytest.mark.parametrize("own", [0.01, HALF + 0.01, 0.5])
def test_a_clear_metal_is_taken_as_it_is_however_sure_the_network_was(own):
    assert verdict(own, 0.1, 0.05) == pytest.approx(METAL_FIT)


@pytest.mark.parametrize("own", [0.99, 1 - HALF - 0.01, 0.5])
def test_a_clear_dielectric_is_taken_as_it_is(own):
    assert verdict(own, 0.05, 0.1) == pytest.approx(DIELECTRIC_FIT)


def test_paint_that_the_network_explains_far_better_is_not_turned_into_metal():
    assert verdict(0.01, 0.1, 0.05, own_error=0.03) is None
    assert verdict(0.01, 0.1, 0.05, own_error=0.04) == pytest.approx(METAL_FIT)


def test_what_agrees_stays():
    assert verdict(0.01, 0.05, 0.1) is None
    assert verdict(0.99, 0.1, 0.05) is None


def test_what_is_not_clear_turns_nothing_over_without_a_prior():
    for own in (0.01, 0.99):
        assert verdict(own, 0.1, 0.095) is None
        assert verdict(own, 0.095, 0.1) is None
        assert verdict(own, 1e-5, 3e-5) is None  # both explain all there is
        assert verdict(own, 0.1, 0.05, looks=2.0) is None


def test_half_a_metal_is_kept_only_if_it_explains_clearly_better_than_both():
    assert verdict(0.5, 0.1, 0.09, own_error=0.09) == pytest.approx(METAL_FIT)
    assert verdict(0.5, 0.09, 0.1, own_error=0.09) == pytest.approx(DIELECTRIC_FIT)
    assert verdict(0.5, 0.1, 0.09, own_error=0.04) is None


def test_half_a_metal_that_no_mixture_explains_takes_the_prior_s_answer_alone():
    dark = {"metal_albedo": 0.045, "lenient": 0.05, "own_error": 0.02, "mixtures": True}
    assert verdict(0.25, 0.1, 0.05, mixed=0.05, **dark)[4] == pytest.approx(PURE)
    assert verdict(0.25, 0.1, 0.05, mixed=0.02, **dark) is None  # a mixture explains it: a border, rust
    assert verdict(0.25, 0.1, 0.05, mixed=0.05, odds=1.0, **dark) is None
    assert verdict(0.25, 0.1, 0.05, mixed=0.05, **(dark | {"mixtures": False})) is None
    assert verdict(0.25, 0.1, 0.05, mixed=0.05, own_error=0.02, mixtures=True) is None  # never a metal, were it clear


def test_the_prior_decides_where_the_views_do_not_and_only_there():
    dark = {"metal_albedo": 0.06}
    assert verdict(0.5, 0.1, 0.095, **dark)[4] == pytest.approx(PURE)
    assert verdict(0.99, 0.095, 0.1, **dark)[4] == pytest.approx(PURE)
    assert verdict(0.99, 0.095, 0.1, odds=1.0, **dark) is None
    assert verdict(0.99, 0.1, 0.095, **dark) is None  # the views favour what is there
    assert verdict(0.5, 0.1, 0.095, odds=1.0, **dark)[4] == pytest.approx(1 - PURE)
    for odds in (10.0, 1e9):  # no prior overrides what is clear
        assert verdict(0.01, 0.1, 0.05, odds=odds, **dark)[4] == pytest.approx(1 - PURE)
        assert verdict(0.99, 0.1, 0.05, odds=odds, **dark) is None


def test_a_highlight_within_the_spread_of_real_dielectrics_proves_no_metal():
    assert verdict(0.01, 0.1, 0.05, metal_albedo=0.045, lenient=0.05) is None
    assert verdict(0.99, 0.1, 0.05, metal_albedo=0.045, lenient=0.05)[4] == pytest.approx(PURE)


def test_too_few_views_leave_it_to_the_prior():
    assert verdict(0.5, 0.1, 0.05, looks=0.0) is None
    assert verdict(0.5, 0.1, 0.05, looks=0.0, metal_albedo=0.06)[4] == pytest.approx(PURE)


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

    def sees_through(self, progress):
        return False

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
    assert said.startswith("survey: all cells asked, 100.0 % twice") and said.endswith("dielectric")
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


def test_metal_that_the_network_holds_to_be_paint_is_asked_and_found(light):
    fields = networks(metallic=0.01)
    whole = problem(light, FieldAppearance(fields, 0.0))
    survey(whole, fields, SurveySettings())
    seen = observe(whole, 10**6)
    metal, paint = seen.position[:, 0] > 0.1, seen.position[:, 0] < -0.1
    with torch.no_grad():
        found = fields(seen.position)
    assert (found.metallic[metal] > 0.5).float().mean() > 0.97
    assert (found.metallic[paint] > 0.5).float().mean() < 0.03
    assert (found.albedo - METAL)[metal].abs().mean() < 0.06


def test_the_record_says_what_is_clear(light):
    fields = networks(metallic=0.01)
    whole = problem(light, FieldAppearance(fields, 0.0))
    found = record(whole, fields, SurveySettings())
    assert found["share"].sum().item() == pytest.approx(1.0, abs=1e-5)
    metal, paint = found["position"][:, 0] > 0.1, found["position"][:, 0] < -0.1
    assert (found["clear"] & (found["log_likelihood_ratio"] > 0))[metal].float().mean() > 0.9
    assert (found["clear"] & (found["log_likelihood_ratio"] < 0))[paint].float().mean() > 0.9
    torch.testing.assert_close(found["confidence"], (found["log_likelihood_ratio"].abs() / 2).tanh())
    assert (found["confidence"][found["clear"]] >= 0.98).all()
    assert (found["metallic"] < 0.1).all()  # of the networks, which nothing has taught yet
    again = record(whole, fields, SurveySettings())
    assert all(torch.equal(found[name], again[name]) for name in found)


def test_few_views_decide_nothing(light):
    fields = networks()
    whole = problem(light, FieldAppearance(fields, 0.0), views=7)
    assert survey(whole, fields, SurveySettings()).endswith("0.0 % is metal now, 0.0 % dielectric")


def test_where_nothing_is_seen_nothing_is_done(light):
    fields = networks()
    whole = problem(light, FieldAppearance(fields, 0.0))
    whole.views.alpha[:] = 0.0
    assert survey(whole, fields, SurveySettings()) == "survey: no point is seen"


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
            clipped.normal, clipped.to_eye, METAL.expand(len(clipped), 3),
            blurred(torch.full((len(clipped), 1), 0.7), clipped.bend), torch.ones(len(clipped), 1), light,
            texture=BACKEND.texture, light_rotation=(clipped.rotations, clipped.view),
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
