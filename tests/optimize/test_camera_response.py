"""The response: inverse, gradients and gauge; recovery of a curve from exposures; held-out views in closed form."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from stspbr.errors import StspbrError
from stspbr.optimize import camera_response
from stspbr.optimize.camera_response import CameraResponse, PixelPlaces, camera_groups, offsets2
from stspbr.scene import Camera, Frame, look_at
from stspbr.settings.camera import ResponseSettings


def camera(focal: float = 20.0, side: int = 16) -> Camera:
    return Camera(look_at((0, 0, 3), (0, 0, 0)), focal, focal, side / 2, side / 2, side, side)


def frame(name: str, image: np.ndarray | None = None, **fields) -> Frame:
    image = np.zeros((16, 16, 3), np.float32) if image is None else image
    return Frame(name, camera(), image, np.ones((*image.shape[:2], 1), np.float32), **fields)


def bent_response(views: int = 6) -> CameraResponse:
    response = CameraResponse.of([frame(f"v{k}", divided_by=(1.0, 1.2, 0.9)) for k in range(views)], ResponseSettings())
    generator = torch.Generator().manual_seed(0)
    for own in response.parameters():
        own.data.normal_(0.0, 0.3, generator=generator)
    response.constrain()
    return response


def places(count: int, views: int = 6) -> PixelPlaces:
    generator = torch.Generator().manual_seed(1)
    view = torch.randint(views, (count,), generator=generator)
    return PixelPlaces(view, torch.rand(count, 1, generator=generator) * 0.3)


def test_without_anything_fitted_it_is_the_srgb_curve():
    response = CameraResponse.of([frame("a"), frame("b", divided_by=(2.0, 1.0, 0.5))], ResponseSettings())
    radiance = torch.linspace(0, 3, 300).reshape(100, 3)
    found = response.photographed(radiance, places(100, 2))
    assert (found - radiance).abs().max() < 1e-5


def test_the_inverse_gives_radiance_back_below_white_and_above():
    response, where = bent_response(), places(300)
    radiance = torch.logspace(-4, 0.5, 900).reshape(300, 3)
    again = response.radiance(response.photographed(radiance, where), where)
    assert (again / radiance - 1).abs().max() < 1e-3


def test_the_curve_is_monotone_between_fixed_ends():
    exposure = torch.linspace(0, 1.2, 1201)
    found = bent_response().curve(0, exposure).detach()
    assert (found.diff() > 0).all()
    assert float(found[0]) == 0 and float(found[1000]) == pytest.approx(1.0, abs=1e-5)


def test_gradients_are_those_of_differences():
    response, where = bent_response().double(), places(40)
    radiance = (torch.rand(40, 3, generator=torch.Generator().manual_seed(2)) * 1.4).double().requires_grad_()
    parameters = [own.detach().clone().requires_grad_() for own in response.parameters()]
    names = [name for name, _ in response.named_parameters()]

    def taken(radiance, *own):
        named = {f"own.{name}": value for name, value in zip(names, own, strict=True)}
        return torch.func.functional_call(Photographer(response), named, (radiance, where))

    assert torch.autograd.gradcheck(taken, (radiance, *parameters), atol=1e-6)


class Photographer(torch.nn.Module):
    def __init__(self, own):
        super().__init__()
        self.own = own

    def forward(self, radiance, where):
        where = PixelPlaces(where.view, where.offset2.double())
        return self.own.photographed(radiance, where)


def test_the_gauge_is_fixed():
    response = bent_response()
    assert response.log_gains.mean(dim=0).abs().max() < 1e-6 and response.log_slopes.mean(dim=1).abs().max() < 1e-6


def test_a_curve_is_found_from_different_exposures():
    """The same surface at known exposures, unknown radiance: the classical calibration, through our own parameters."""
    from stspbr.colour import linear_to_srgb, srgb_to_linear

    def truth(exposure):
        x = linear_to_srgb(np.clip(exposure, 0, 1)).astype(np.float64)
        return srgb_to_linear(0.5 * x + 0.5 * (3 * x**2 - 2 * x**3))

    rng = np.random.default_rng(0)
    surface = rng.uniform(0.02, 0.9, (400, 1)).repeat(3, 1)
    gains = 2.0 ** np.linspace(-1, 1, 6)
    response = CameraResponse.of([frame(f"v{k}", divided_by=(g, g, g)) for k, g in enumerate(gains)],
                                 ResponseSettings(vignetting=False, curve_prior=1e-5))  # fmt: skip
    view = torch.arange(6).repeat_interleave(400)
    where = PixelPlaces(view, torch.zeros(2400, 1))
    stated = np.repeat(gains, 400)[:, None]
    target = torch.as_tensor(truth(np.tile(surface, (6, 1)) * stated) / stated, dtype=torch.float32)
    clear = target * torch.as_tensor(stated) < 0.95
    radiance = torch.nn.Parameter(torch.full((400, 3), -1.0))
    optimizer = torch.optim.Adam([radiance, *(p for p in response.parameters() if p.requires_grad)], lr=0.02)
    for _ in range(1000):
        optimizer.zero_grad()
        shown = response.photographed(radiance.exp().repeat(6, 1), where)
        loss = ((shown - target).abs() * clear).mean() + sum(term.value for term in response.regularizers())
        loss.backward()
        optimizer.step()
        response.constrain()
    exposure = np.linspace(0.05, 0.95, 91)
    found = response.curve(0, torch.as_tensor(exposure, dtype=torch.float32)).detach().numpy()
    assert np.abs(truth(exposure) - exposure).max() > 0.05  # something to find
    assert np.abs(found - truth(exposure)).max() < 0.02
    assert response.log_gains.abs().max() < 0.03


def test_a_held_out_view_is_exposed_by_its_own_pixels_and_a_known_one_is_not(monkeypatch):
    response = bent_response()
    rng = np.random.default_rng(0)
    rendered = rng.uniform(0.05, 0.4, (16, 16, 3)).astype(np.float32)
    alpha = np.ones((16, 16, 1), np.float32)
    where = PixelPlaces(torch.zeros(256, dtype=torch.int64), torch.from_numpy(offsets2(camera())).reshape(-1, 1))
    with torch.no_grad():
        taken = response.photographed(torch.from_numpy(rendered).reshape(-1, 3), where).reshape(16, 16, 3).numpy()
    stated = (1.0, 1.2, 0.9)
    np.testing.assert_allclose(
        response.of_view(frame("v0", taken, divided_by=stated), rendered, alpha), taken, rtol=1e-3
    )
    darker = np.array([0.5, 0.6, 0.8], np.float32) * rendered
    held_out = frame("new", taken, divided_by=stated)
    np.testing.assert_allclose(response.of_view(held_out, darker, alpha), taken, rtol=2e-3)
    known = response.of_view(frame("v0", taken, divided_by=stated), darker, alpha)
    assert np.abs(known - taken).mean() > 0.02
    whole = response.of_view(held_out, darker, alpha)
    monkeypatch.setattr(camera_response, "_AT_ONCE", 48)
    np.testing.assert_allclose(response.of_view(held_out, darker, alpha), whole, rtol=1e-6)  # in strips of three rows


def test_it_is_stored_exactly():
    response = bent_response()
    again = CameraResponse.from_json(json.loads(json.dumps(response.to_json())), ResponseSettings())
    where, radiance = places(50), torch.rand(50, 3, generator=torch.Generator().manual_seed(3))
    assert torch.equal(again.photographed(radiance, where), response.photographed(radiance, where))
    with pytest.raises(StspbrError, match="response is damaged"):
        CameraResponse.from_json({"names": ["a"]}, ResponseSettings())


def test_cameras_are_told_apart_by_their_focal_length_if_they_have_enough_views():
    owners, keys = camera_groups([camera(20.0)] * 6 + [camera(30.0)] * 6 + [camera(41.0), camera(42.0)])
    assert owners == [0] * 6 + [1] * 6 + [2] * 2 and len(keys) == 3
    assert camera_groups([camera(20.0 + k) for k in range(4)])[0] == [0, 0, 0, 0]
