"""Shares of a batch: over any number of ranks they add up to what one process computes, gradients and values."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from stspbr.geometry.dmtet import DMTet
from stspbr.geometry.tangents import with_frames
from stspbr.geometry.visual_hull import visual_hull_sdf
from stspbr.optimize.appearance import FieldAppearance, MaterialMaps, TextureAppearance
from stspbr.optimize.distributed import Ranks, Span
from stspbr.optimize.geometry import FixedGeometry, ImplicitGeometry
from stspbr.optimize.image_terms import ImageTerms
from stspbr.optimize.lights import LearnedLight
from stspbr.optimize.loop import Stopwatch
from stspbr.optimize.reconstruction import Reconstruction
from stspbr.optimize.routing import Term, backpropagate, logged_values, scaled
from stspbr.optimize.views import ViewSet
from stspbr.procedural.jar import demo_asset
from stspbr.render.light import EnvironmentCube
from stspbr.settings import CoarseSettings, FieldSettings, HashGridSettings, settings_for
from stspbr.stages.coarse import _normalization
from stspbr.stages.session import Session
from stspbr.stages.state import load_capture, make_fields

GRID = HashGridSettings(levels=3, log2_table_size=10, base_resolution=4, finest_resolution=16)
UNLIKE = "optimize.losses.reflectance={relmse=0.7,mse=0.3,logl1=0.0}"
EVERY = [UNLIKE, "optimize.losses.reflectance_region=interior", "optimize.losses.metallic_binary=0.01"]
STEP = 3


class Replayed(Ranks):
    """One of several ranks without the others: what they all gather is told beforehand."""

    def __init__(self, rank: int, size: int) -> None:
        self.rank, self.size = rank, size
        self.said: list[tuple[float, ...]] = []
        self.every: list[list[tuple[float, ...]]] | None = None

    def gather(self, *numbers):
        self.said.append(numbers)
        if self.every is None:
            return [numbers] * self.size
        return [rank[len(self.said) - 1] for rank in self.every]


def problem(run, kind: str, *overrides: str) -> Reconstruction:
    """Every group free; ``fields``: implicit geometry and networks; ``maps``: a movable mesh and textures."""
    session = Session.open(run, device="cpu", quiet=True)
    settings = settings_for(CoarseSettings, ["normals_from=0.0", *overrides])
    capture = load_capture(session.parent("capture"))
    normalization, _ = _normalization(capture, settings, None)
    capture = normalization.capture(capture)
    generator = torch.Generator().manual_seed(0)
    if kind == "maps":
        mesh = with_frames(normalization.mesh(demo_asset(32, around=24, along=20).mesh))
        geometry = FixedGeometry(mesh, movable=True, laplacian=1.0, folding=1.0, device=session.device)
        maps = [torch.rand(32, 32, 3, generator=generator) * 0.8 + 0.1 for _ in range(2)]
        normal = torch.nn.functional.normalize(torch.rand(32, 32, 3, generator=generator) + torch.tensor([0, 0, 2.0]))
        appearance = TextureAppearance(
            [MaterialMaps(*maps, normal)], roughness_range=(0.1, 0.9), joint=False, backend=session.backend
        )
    else:
        dmtet = DMTet(12, np.full(3, -1.0), np.full(3, 1.0), generator)
        dmtet.init_sdf(visual_hull_sdf(dmtet.grid.numpy(), capture.split("train")))
        geometry = ImplicitGeometry(dmtet, settings.geometry)
        mode = settings.fields.mode
        fields = FieldSettings(mode=mode, appearance=GRID, reflectance=GRID, joint=GRID, width=8, occlusion=True)
        appearance = FieldAppearance(make_fields(fields, session, generator), settings.normals_from)
        with torch.no_grad():  # away from the start, where differences of neighbours are mere rounding
            for name, parameter in appearance.named_parameters():
                if name.endswith("table"):
                    parameter.mul_(3e3)
    return Reconstruction(
        ViewSet(capture.split("train"), 1, session.device, crop=settings.optimize.crop),
        geometry,
        appearance,
        LearnedLight(EnvironmentCube(16, 0.5), 0.005, 0.002),
        settings=settings.optimize,
        backend=session.backend,
        seed=0,
    )


def one_step(reconstruction: Reconstruction, ranks: Ranks) -> tuple[dict[str, float], list[torch.Tensor]]:
    """Values by name and gradients (zeros for None) of one step of one rank."""
    reconstruction.ranks = ranks
    if reconstruction.crops is not None:
        reconstruction.crops.error.fill_(-1.0)
    groups = reconstruction.groups()
    terms = reconstruction.terms(STEP, 0.6, Stopwatch())
    backpropagate(terms, groups, "shared" if "joint" in groups else "strict")
    parameters = [p for ps in groups.values() for p in ps] + [visit.loss for visit in reconstruction.visited]
    gradients = [torch.zeros_like(p) if p.grad is None else p.grad.clone().double() for p in parameters]
    return {name: float(value) for name, value in logged_values(terms).items()}, gradients


def summed(reconstruction: Reconstruction, size: int) -> tuple[dict[str, float], list[torch.Tensor]]:
    ranks = [Replayed(rank, size) for rank in range(size)]
    for rank in ranks:
        one_step(reconstruction, rank)
    for rank in ranks:
        rank.every = [list(other.said) for other in ranks]
    for rank in ranks:
        rank.said.clear()
    values, gradients = {}, None
    for rank in ranks:
        said, own = one_step(reconstruction, rank)
        values = {name: values.get(name, 0.0) + said.get(name, 0.0) for name in {**values, **said}}
        gradients = own if gradients is None else [a + b for a, b in zip(gradients, own, strict=True)]
    return values, gradients


@pytest.mark.parametrize(
    ("kind", "size", "overrides"),
    [
        ("fields", 2, ["optimize.batch=3", *EVERY]),
        ("fields", 3, ["optimize.batch=2"]),  # a rank without views
        ("fields", 2, ["optimize.batch=3", "fields.mode=joint", "optimize.losses.joint={logl1=0.5,msssim=0.5}"]),
        ("maps", 2, ["optimize.batch=3", *EVERY]),
        ("maps", 2, ["optimize.batch=3", "optimize.crop=20", *EVERY]),
        ("fields", 3, ["optimize.batch=2", "optimize.crop=24"]),
    ],
    ids=["split", "more ranks than views", "joint with whole images", "maps", "crops", "crops, a rank without"],
)
def test_shares_add_up_to_the_whole_batch(tiny_run, kind, size, overrides):
    reconstruction = problem(tiny_run, kind, *overrides)
    whole_values, whole = one_step(reconstruction, Ranks())
    values, gradients = summed(reconstruction, size)
    assert values.keys() == whole_values.keys() and len(values) >= 8
    for name, value in whole_values.items():
        assert values[name] == pytest.approx(value, rel=2e-5), name
    assert sum(bool(g.any()) for g in whole) >= 5
    for got, expected in zip(gradients, whole, strict=True):
        assert (got - expected).norm() <= 2e-5 * expected.norm()


@pytest.mark.parametrize("overrides", [[], ["optimize.losses.reflectance={relmse=0.5}"]], ids=["one loss", "two"])
def test_texels_have_the_losses_of_the_pixels_that_show_them(tiny_run, monkeypatch, overrides):
    pictures, by_pixel = [], ImageTerms.by_pixel
    monkeypatch.setattr(ImageTerms, "by_pixel", lambda *given: pictures.append(by_pixel(*given)) or pictures[-1])
    reconstruction = problem(tiny_run, "maps", "optimize.batch=3", "optimize.crop=20", *overrides)
    values, _ = one_step(reconstruction, Ranks())
    (picture,), (visit,) = pictures, reconstruction.visited
    assert float(picture.sum()) == pytest.approx(values["A"] + values.get("B", 0.0), rel=1e-5)
    found = float(visit.loss.grad.sum())
    assert (
        0.7 * float(picture.sum()) < found <= 1.0001 * float(picture.sum())
    )  # less the pixels that only the photo covers
    assert [own.shape[3] for own in visit.maps] == [3, 3, 3] and not visit.loss.grad.lt(0).any()
    away = torch.nonzero(visit.maps[0].grad.abs().sum(dim=3) > 0)
    near = torch.nn.functional.max_pool2d(visit.loss.grad[..., 0], 9, 1, 4) > 0
    assert near[tuple(away.T)].float().mean() > 0.95  # where a loss has a gradient, there is a loss
    whole = problem(tiny_run, "maps", "optimize.batch=3", "optimize.losses.appearance={msssim=1}", "optimize.crop=20")
    one_step(whole, Ranks())
    assert whole.share < 1.0 and whole.visited == []  # a pixel has no part in a loss of whole images


def test_consecutive_parts_cover_the_batch():
    for size, count in [(1, 4), (2, 4), (2, 5), (3, 8), (4, 2)]:
        parts = [Replayed(rank, size).part(list(range(10, 10 + count))) for rank in range(size)]
        assert sum(parts, []) == list(range(10, 10 + count))
        lengths = [len(part) for part in parts]
        assert max(lengths) - min(lengths) <= 1 and lengths[-1] == min(lengths)


def test_a_span_finds_its_own_among_the_drawn():
    drawn = torch.tensor([0, 7, 3, 4, 9, 3])
    assert Span(3, 4, 10).own(drawn).tolist() == [2, 3, 5]
    assert Span(0, 10, 10).own(drawn) is None and Span(0, 10, 10).fraction == 1.0
    assert Span(3, 4, 10).fraction == pytest.approx(0.4)


def test_weight_1_leaves_terms_as_they_are():
    terms = [Term("a", torch.tensor(2.0), frozenset({"light"}), {"x": torch.tensor(3.0)})]
    assert scaled(terms, 1.0) is terms
    half = scaled(terms, 0.5)[0]
    assert (float(half.value), float(half.parts["x"]), half.drives) == (1.0, 1.5, terms[0].drives)


def test_alone_there_is_nothing_to_exchange():
    ranks = Ranks()
    parameter = torch.zeros(2, requires_grad=True)
    parameter.grad = torch.ones(2)
    before = parameter.grad
    ranks.sum_gradients([parameter])
    assert parameter.grad is before
    assert ranks.gather(1.0, 2.0) == [(1.0, 2.0)]
    assert ranks.first(lambda: 5) == 5
    with pytest.raises(ZeroDivisionError), ranks.together():
        raise ZeroDivisionError
