"""Each loss drives only its own group, from one forward pass."""

from __future__ import annotations

import pytest
import torch

from stspbr.errors import StspbrError
from stspbr.geometry.dmtet import DMTet
from stspbr.geometry.visual_hull import visual_hull_sdf
from stspbr.optimize.appearance import FieldAppearance
from stspbr.optimize.geometry import ImplicitGeometry
from stspbr.optimize.lights import LearnedLight
from stspbr.optimize.loop import Stopwatch
from stspbr.optimize.reconstruction import Reconstruction
from stspbr.optimize.routing import STRICT_A, STRICT_B, Term, backpropagate, check_finite
from stspbr.optimize.views import ViewSet
from stspbr.render.light import EnvironmentCube
from stspbr.settings import CoarseSettings, FieldSettings, HashGridSettings, settings_for
from stspbr.stages.coarse import _normalization
from stspbr.stages.session import Session
from stspbr.stages.state import load_capture, make_fields

GRID = HashGridSettings(levels=3, log2_table_size=10, base_resolution=4, finest_resolution=16)


UNLIKE = "optimize.losses.reflectance={relmse=0.7,mse=0.3,logl1=0.0}"


def problem(run, mode="split", losses=UNLIKE, others=()) -> Reconstruction:
    """A whole reconstruction with every group free: implicit geometry, both networks, a learned light."""
    import numpy as np

    session = Session.open(run, device="cpu", quiet=True)
    overrides = ["geometry.resolution=12", "normals_from=0.0", "optimize.batch=2", f"fields.mode={mode}", losses]
    overrides += others
    settings = settings_for(CoarseSettings, overrides)
    fields = FieldSettings(mode=mode, appearance=GRID, reflectance=GRID, joint=GRID, width=8, occlusion=True)
    capture = load_capture(session.parent("capture"))
    capture = _normalization(capture, settings, None)[0].capture(capture)
    generator = torch.Generator().manual_seed(0)
    dmtet = DMTet(12, np.full(3, -1.0), np.full(3, 1.0), generator)
    dmtet.init_sdf(visual_hull_sdf(dmtet.grid.numpy(), capture.split("train")))
    return Reconstruction(
        ViewSet(capture.split("train"), 1, session.device),
        ImplicitGeometry(dmtet, settings.geometry),
        FieldAppearance(make_fields(fields, session, generator), settings.normals_from),
        LearnedLight(EnvironmentCube(16, 0.5, common_scale=True), 0.005, 0.002),
        settings=settings.optimize,
        backend=session.backend,
        seed=0,
    )


def gradients(groups) -> dict[str, list[torch.Tensor | None]]:
    return {name: [None if p.grad is None else p.grad.clone() for p in params] for name, params in groups.items()}


def is_zero(values) -> bool:
    return all(v is None or not bool(v.any()) for v in values)


@pytest.fixture(scope="module")
def reconstruction(tiny_run):
    return problem(tiny_run)


@pytest.mark.parametrize("drives", [STRICT_A, STRICT_B], ids=["A", "B"])
def test_forbidden_pairs_get_exactly_zero(reconstruction, drives):
    groups = reconstruction.groups()
    terms = [t for t in reconstruction.terms(3, 0.6, Stopwatch()) if t.drives == drives]
    backpropagate(terms, groups, "strict")
    got = gradients(groups)
    for name in groups:
        assert is_zero(got[name]) == (name not in drives), name


def test_every_group_is_driven(reconstruction):
    groups = reconstruction.groups()
    assert set(groups) == {"geometry", "appearance", "reflectance", "light"}
    backpropagate(reconstruction.terms(3, 0.6, Stopwatch()), groups, "strict")
    assert not any(is_zero(values) for values in gradients(groups).values())


def test_one_pass_equals_two_separate_passes(reconstruction):
    groups = reconstruction.groups()
    backpropagate(reconstruction.terms(3, 0.6, Stopwatch()), groups, "strict")
    together = gradients(groups)
    separate = {}
    for drives in (STRICT_A, STRICT_B):
        for params in groups.values():
            for parameter in params:
                parameter.grad = None
        terms = [t for t in reconstruction.terms(3, 0.6, Stopwatch()) if t.drives == drives]
        torch.stack([t.value for t in terms]).sum().backward()
        separate.update({name: values for name, values in gradients(groups).items() if name in drives})
    for name, values in together.items():
        for one, two in zip(values, separate[name], strict=True):
            torch.testing.assert_close(one, two, rtol=1e-5, atol=1e-9)


def test_where_both_losses_are_alike_one_pass_gives_what_two_would(tiny_run):
    """The shortcut for equal losses against the same losses kept apart by a part of no weight in the sum."""
    one = problem(tiny_run, losses="optimize.losses.reflectance={logl1=0.5}")
    two = problem(tiny_run, losses="optimize.losses.reflectance={logl1=0.5,mse=1e-30}")
    assert one.image_terms._colour_b is None and two.image_terms._colour_b is not None
    got = []
    for each in (one, two):
        groups = each.groups()
        backpropagate(each.terms(3, 0.6, Stopwatch()), groups, "strict")
        got.append(gradients(groups))
    for name in got[0]:
        for a, b in zip(got[0][name], got[1][name], strict=True):
            torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-9)


def test_closed_terms_join_a_pass_and_change_nothing(reconstruction):
    groups = reconstruction.groups()
    terms = reconstruction.terms(3, 0.6, Stopwatch())
    assert any(term.closed for term in terms)
    backpropagate(terms, groups, "strict")
    joined = gradients(groups)
    again = reconstruction.terms(3, 0.6, Stopwatch())
    for term in again:
        term.closed = False
    backpropagate(again, groups, "strict")
    apart = gradients(groups)
    for name in joined:
        for a, b in zip(joined[name], apart[name], strict=True):
            torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-9)


def test_shared_routing_mixes_them(reconstruction):
    groups = reconstruction.groups()
    terms = reconstruction.terms(3, 0.6, Stopwatch())
    backpropagate(terms, groups, "shared")
    shared = gradients(groups)
    backpropagate(reconstruction.terms(3, 0.6, Stopwatch()), groups, "strict")
    strict = gradients(groups)
    for name in ("reflectance", "light", "geometry"):
        assert any(not torch.allclose(a, b) for a, b in zip(shared[name], strict[name], strict=True)), name


def test_joint_network_is_driven_by_all_losses(tiny_run):
    joint = problem(tiny_run, "joint")
    assert set(joint.groups()) == {"geometry", "joint", "light"}
    names = {term.name for term in joint.terms(3, 0.6, Stopwatch())}
    assert "joint" in names and not names & {"A", "B"}


def test_not_finite_names_step_and_term():
    terms = [
        Term("mask", torch.tensor(1.0), STRICT_A),
        Term("B", torch.tensor(0.0), STRICT_B, {"relmse": torch.tensor(float("nan"))}),
    ]
    with pytest.raises(StspbrError, match=r"step 17.*B/relmse"):
        check_finite(terms, 17)


def test_interior_region_keeps_silhouettes_from_the_reflectance(tiny_run):
    """B's loss over the interior is that of the pixels which both coverages fill, and of no other."""
    union = problem(tiny_run)
    interior = problem(tiny_run, others=['optimize.losses.reflectance_region="interior"'])
    views, targets = union.views.batch([0, 1])
    image = union._render(views, Stopwatch())[3]
    inside = (torch.minimum(image[..., 3:].detach(), targets.alpha) > 0.999).expand_as(targets.image)

    def term(problem, pixels) -> tuple[float, float]:
        values = {t.name: t.value.item() for t in problem.image_terms.of(pixels, targets)}
        return values["B"], values["A"]

    spoiled = torch.where(inside, image[..., :3], image[..., :3] + 1.0)
    spoiled = torch.cat([spoiled, image[..., 3:]], dim=-1)
    assert term(interior, spoiled)[0] == pytest.approx(term(interior, image)[0])
    assert term(union, spoiled)[0] > 1.01 * term(union, image)[0]
    assert term(interior, image)[1] == pytest.approx(term(union, image)[1])
    assert term(interior, image)[0] < term(union, image)[0]


def test_metallic_beliefs_drive_the_reflectance_alone(tiny_run):
    believing = problem(tiny_run)
    losses = believing.settings.losses.model_copy(update={"metallic_binary": 0.1, "metal_prior_weight": 0.001})
    believing.settings = believing.settings.model_copy(update={"losses": losses})
    groups = believing.groups()
    chosen = [t for t in believing.terms(3, 0.6, Stopwatch()) if t.name in ("metal_prior", "metallic_binary")]
    assert len(chosen) == 2
    backpropagate(chosen, groups, "shared")
    for name, params in groups.items():
        assert any(p.grad is not None and p.grad.any() for p in params) == (name == "reflectance"), name
