"""Material from fields or from maps: ranges, normals, and which group each smoothness term drives."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from stspbr.fields.materials import MaterialFields
from stspbr.optimize.appearance import FieldAppearance, MaterialMaps, TextureAppearance
from stspbr.optimize.routing import STRICT_A, STRICT_B, backpropagate
from stspbr.procedural.jar import demo_asset
from stspbr.render.backend import get_backend
from stspbr.render.gbuffer import Surface, ViewBatch, render_gbuffer
from stspbr.scene.camera_rig import object_cameras
from stspbr.settings import FieldSettings, HashGridSettings, LossSettings

CPU = torch.device("cpu")
BACKEND = get_backend("cpu", CPU)
GRID = HashGridSettings(levels=3, log2_table_size=10, base_resolution=4, finest_resolution=32)
LOSSES = LossSettings()
SIZE = 16


def random(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.fixture(scope="module")
def gbuffer():
    mesh = demo_asset(32, around=24, along=20).mesh
    camera = object_cameras(mesh, 2, 0, 40)[0][1]
    return render_gbuffer(Surface.of(mesh, CPU), ViewBatch.of([camera], [np.eye(4)], CPU), BACKEND)


def maps(albedo=None, reflectance=None, normal=None, *, joint=False) -> TextureAppearance:
    albedo = random(SIZE, SIZE, 3) if albedo is None else albedo
    reflectance = random(SIZE, SIZE, 3, seed=1) if reflectance is None else reflectance
    return TextureAppearance(
        [MaterialMaps(albedo, reflectance, normal)],
        roughness_range=(0.1, 0.9),
        joint=joint,
        backend=BACKEND,
    )


def bent_normals(seed: int = 2) -> torch.Tensor:
    bend = random(SIZE, SIZE, 3, seed=seed) - torch.tensor([0.5, 0.5, -0.5])
    return torch.nn.functional.normalize(bend, dim=-1)


def fields(normals_from: float = 0.0, *, mode="split", varied=True) -> FieldAppearance:
    settings = FieldSettings(mode=mode, appearance=GRID, reflectance=GRID, joint=GRID, width=8, occlusion=True)
    model = MaterialFields(settings, torch.tensor([[-1.2] * 3, [1.2] * 3]), torch.Generator().manual_seed(0))
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith("table"):
                parameter.mul_(1e4 if varied else 0.0)
            elif varied and name.endswith("weights.2"):
                parameter.copy_(torch.randn(parameter.shape, generator=generator))
    return FieldAppearance(model, normals_from)


def smoothness_terms(appearance, gbuffer, progress: float = 1.0, losses: LossSettings = LOSSES):
    inputs = appearance.evaluate(gbuffer, progress)
    generator = torch.Generator().manual_seed(7)
    return {t.name: t for t in appearance.smoothness(gbuffer, inputs, losses, progress, generator)}


# -- maps --------------------------------------------------------------------------------------------------


def test_constrain_brings_maps_into_their_ranges():
    appearance = maps(
        random(SIZE, SIZE, 3) * 4 - 2,
        random(SIZE, SIZE, 3, seed=1) * 4 - 2,
        random(SIZE, SIZE, 3, seed=2) * 4 - 2,
    )
    appearance.constrain()
    own = appearance.materials[0]
    albedo, reflectance, normal = (x.detach() for x in (own.albedo, own.reflectance, own.normal))
    assert (float(albedo.min()), float(albedo.max())) == (0.0, 1.0)
    roughness, rest = reflectance[..., :1], reflectance[..., 1:]
    assert (float(roughness.min()), float(roughness.max())) == pytest.approx((0.1, 0.9))
    assert (float(rest.min()), float(rest.max())) == (0.0, 1.0)
    length = normal.norm(dim=-1)
    torch.testing.assert_close(length, torch.ones_like(length))
    assert float(normal[..., 2].min()) > 0.0


def test_constrain_leaves_what_is_in_range():
    albedo, reflectance, normal = random(SIZE, SIZE, 3), random(SIZE, SIZE, 2, seed=1) * 0.7 + 0.15, bent_normals()
    normal = torch.nn.functional.normalize(normal.clamp(min=-2) + torch.tensor([0.0, 0, 0.3]), dim=-1)
    appearance = maps(albedo, reflectance, normal)
    appearance.constrain()
    own = appearance.materials[0]
    assert torch.equal(own.albedo[0], albedo) and torch.equal(own.reflectance[0], reflectance)
    torch.testing.assert_close(own.normal[0], normal, atol=1e-6, rtol=0)


def test_maps_start_as_copies():
    albedo = random(SIZE, SIZE, 3)
    appearance = maps(albedo)
    with torch.no_grad():
        appearance.materials[0].albedo.zero_()
    assert bool(albedo.any())


def test_constant_maps_are_seen_everywhere(gbuffer):
    appearance = maps(torch.full((SIZE, SIZE, 3), 0.25), torch.tensor([0.5, 0.75, 1.0]).expand(SIZE, SIZE, 3))
    inputs = appearance.evaluate(gbuffer, 0.0)
    for name, value in (("albedo", 0.25), ("roughness", 0.5), ("metallic", 0.75), ("occlusion", 1.0)):
        found = getattr(inputs, name)
        torch.testing.assert_close(found, torch.full_like(found, value), msg=name)
    assert torch.equal(inputs.normal, gbuffer.normal)
    assert maps(reflectance=random(SIZE, SIZE, 2)).evaluate(gbuffer, 0.0).occlusion is None


def test_normal_map_gives_unit_normals_and_a_flat_one_the_smooth_ones(gbuffer):
    flat = torch.tensor([0.0, 0, 1]).expand(SIZE, SIZE, 3)
    torch.testing.assert_close(maps(normal=flat).evaluate(gbuffer, 0.0).normal, gbuffer.normal, atol=1e-5, rtol=0)
    bent = maps(normal=bent_normals()).evaluate(gbuffer, 0.0).normal
    torch.testing.assert_close(bent.norm(dim=1), torch.ones(len(bent)), atol=1e-5, rtol=0)
    assert (bent - gbuffer.normal).norm(dim=1).mean().item() > 0.2


def test_map_groups():
    assert set(maps().groups()) == {"appearance", "reflectance"}
    both = maps(normal=bent_normals(), joint=True)
    own = both.materials[0]
    assert {id(p) for p in both.groups()["joint"]} == {id(own.albedo), id(own.normal), id(own.reflectance)}
    apart = maps(normal=bent_normals())
    own = apart.materials[0]
    assert [id(p) for p in apart.groups()["reflectance"]] == [id(own.reflectance)]
    assert {id(p) for p in apart.groups()["appearance"]} == {id(own.albedo), id(own.normal)}


def test_each_material_is_read_from_its_own_maps(gbuffer):
    """Three materials of different sizes, one without a normal map and one that no triangle has."""
    faces = int(gbuffer.triangle.max()) + 1
    owner = torch.arange(faces) % 2
    sets = [
        MaterialMaps(random(SIZE, SIZE, 3, seed=k), random(SIZE, SIZE, 2, seed=k + 9), bend)
        for k, bend in ((0, bent_normals()), (1, None), (2, bent_normals(3)))
    ]
    sets[1].albedo = random(8, 4, 3, seed=5)
    several = TextureAppearance(sets, face_material=owner, roughness_range=(0.0, 1.0), joint=False, backend=BACKEND)
    found = several.evaluate(gbuffer, 0.0)
    for number in (0, 1):
        alone = TextureAppearance([sets[number]], roughness_range=(0.0, 1.0), joint=False, backend=BACKEND)
        wanted, own = alone.evaluate(gbuffer, 0.0), owner[gbuffer.triangle] == number
        for name in ("albedo", "roughness", "metallic", "normal"):
            torch.testing.assert_close(getattr(found, name)[own], getattr(wanted, name)[own], msg=name)
    terms = {t.name: t for t in several.smoothness(gbuffer, found, LOSSES, 1.0, torch.Generator().manual_seed(0))}
    assert terms.keys() == {"albedo_smooth", "reflectance_smooth", "normal_smooth"}
    backpropagate(list(terms.values()), several.groups(), "strict")
    for number, seen in ((0, True), (1, True), (2, False)):
        assert (several.materials[number].albedo.grad is not None) == seen
    several.constrain()


# -- fields ------------------------------------------------------------------------------------------------


def test_normals_wait_for_their_time(gbuffer):
    appearance = fields(normals_from=0.75)
    assert torch.equal(appearance.evaluate(gbuffer, 0.74).normal, gbuffer.normal)
    bent = appearance.evaluate(gbuffer, 0.75).normal
    torch.testing.assert_close(bent.norm(dim=1), torch.ones(len(bent)), atol=1e-5, rtol=0)
    assert (bent - gbuffer.normal).norm(dim=1).mean().item() > 0.05
    offset = appearance.fields(gbuffer.position).normal
    torch.testing.assert_close(bent, torch.nn.functional.normalize(gbuffer.normal + offset, dim=1))
    assert torch.equal(fields(normals_from=2.0).evaluate(gbuffer, 1.0).normal, gbuffer.normal)  # never


def test_normals_are_smoothed_only_when_they_take_part(gbuffer):
    appearance = fields(normals_from=0.75)
    assert set(smoothness_terms(appearance, gbuffer, 0.74)) == {"albedo_smooth", "reflectance_smooth"}
    assert set(smoothness_terms(appearance, gbuffer, 0.75)) == {"albedo_smooth", "reflectance_smooth", "normal_smooth"}


def test_field_constrain_changes_nothing():
    appearance = fields()
    before = {k: v.clone() for k, v in appearance.state_dict().items()}
    appearance.constrain()
    assert all(torch.equal(before[k], v) for k, v in appearance.state_dict().items())


# -- both --------------------------------------------------------------------------------------------------

BOTH = pytest.mark.parametrize("make", [fields, lambda: maps(normal=bent_normals())], ids=["fields", "maps"])


@BOTH
def test_smoothness_terms_drive_only_their_own_group(make, gbuffer):
    appearance = make()
    groups = appearance.groups()
    own = {"albedo_smooth": "appearance", "reflectance_smooth": "reflectance", "normal_smooth": "appearance"}
    for name, group in own.items():
        terms = smoothness_terms(appearance, gbuffer)
        assert terms.keys() == own.keys()
        assert terms[name].value.item() > 0
        assert terms[name].drives == (STRICT_A if group == "appearance" else STRICT_B)
        for routing in ("strict", "shared"):  # even where every term may reach everything, it depends on its own only
            backpropagate([smoothness_terms(appearance, gbuffer)[name]], groups, routing)
            for other, params in groups.items():
                reached = any(p.grad is not None and bool(p.grad.any()) for p in params)
                assert reached == (other == group), (name, other, routing)


def test_albedo_and_normal_maps_are_smoothed_apart(gbuffer):
    appearance = maps(normal=bent_normals())
    own = appearance.materials[0]
    for name, mine, other in (
        ("albedo_smooth", own.albedo, own.normal),
        ("normal_smooth", own.normal, own.albedo),
    ):
        value = smoothness_terms(appearance, gbuffer)[name].value
        gradient, none = torch.autograd.grad(value, [mine, other], allow_unused=True)
        assert bool(gradient.any()) and none is None, name


def test_constant_maps_have_no_roughness_to_smooth(gbuffer):
    albedo, reflectance = torch.full((SIZE, SIZE, 3), 0.3), torch.full((SIZE, SIZE, 2), 0.5)
    terms = smoothness_terms(maps(albedo, reflectance, torch.tensor([0.0, 0, 1]).expand(SIZE, SIZE, 3)), gbuffer)
    assert {name: term.value.item() for name, term in terms.items()} == pytest.approx(
        {"albedo_smooth": 0.0, "reflectance_smooth": 0.0, "normal_smooth": 0.0}, abs=1e-8
    )


def test_constant_fields_have_nothing_to_smooth(gbuffer):
    terms = smoothness_terms(fields(varied=False), gbuffer)
    assert len(terms) == 3
    assert all(term.value.item() == pytest.approx(0.0, abs=1e-8) for term in terms.values())


@BOTH
def test_smoothness_ramps_up_and_follows_its_weight(make, gbuffer):
    appearance = make()
    full = smoothness_terms(appearance, gbuffer, 0.5)
    half = smoothness_terms(appearance, gbuffer, 0.25)
    heavy = smoothness_terms(appearance, gbuffer, 0.5, LossSettings(albedo_smoothness=0.06, reflectance_smoothness=0))
    for name, term in full.items():
        assert half[name].value.item() == pytest.approx(0.5 * term.value.item(), rel=1e-5)
        assert smoothness_terms(appearance, gbuffer, 0.0)[name].value.item() == 0.0
    assert heavy["albedo_smooth"].value.item() == pytest.approx(2 * full["albedo_smooth"].value.item(), rel=1e-5)
    assert heavy["reflectance_smooth"].value.item() == 0.0


@BOTH
def test_smoothness_is_decided_by_its_generator(make, gbuffer):
    appearance = make()
    one, two = smoothness_terms(appearance, gbuffer), smoothness_terms(appearance, gbuffer)
    for name in one:
        assert torch.equal(one[name].value, two[name].value)


def test_too_few_pixels_for_the_fields_are_no_error(gbuffer):
    few = replace(gbuffer, **{n: getattr(gbuffer, n)[:5] for n in ("covered", "view", "position", "normal", "to_eye")})
    assert smoothness_terms(fields(), few) == {}
