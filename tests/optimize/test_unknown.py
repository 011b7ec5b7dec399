"""Unknown pixels: read from a mask, stored with a capture, and of no weight in any loss."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from stspbr.datasets.transforms import read_transforms
from stspbr.datasets.transforms_writer import write_transforms
from stspbr.optimize.loop import Stopwatch
from stspbr.optimize.losses import mask_loss
from stspbr.optimize.views import ViewSet
from stspbr.scene import Capture
from stspbr.settings import CoarseSettings
from stspbr.stages.state import load_capture

CPU = torch.device("cpu")


@pytest.fixture
def hidden(tiny_run):
    """The tiny capture with a stripe of garbage that nobody knows, in every frame; and the same without it."""
    from stspbr.artifacts import ArtifactStore

    capture = load_capture(ArtifactStore(tiny_run).resolve("capture"))
    known = np.ones((32, 32, 1), np.float32)
    known[:, 12:18] = 0.0
    frames = [replace(f, image=f.image * known, alpha=f.alpha * known, known=known) for f in capture.frames]
    return replace(capture, frames=frames)


def test_it_survives_a_capture_on_disk(tmp_path, hidden):
    again = read_transforms(write_transforms(tmp_path, hidden))
    for frame, wanted in zip(again.frames, hidden.frames, strict=True):
        np.testing.assert_array_equal(frame.known, wanted.known)
        np.testing.assert_allclose(frame.alpha, wanted.alpha, atol=1e-3)
    (mask, *_) = sorted((tmp_path / "masks").rglob("*.png"))
    assert set(np.unique(np.asarray(Image.open(mask)))) == {0, 128, 255}


def test_views_know_it_whole_reduced_and_in_crops(hidden):
    frames = hidden.split("train")
    assert ViewSet([replace(f, known=None) for f in frames], 1, CPU).batch([0])[1].known is None
    views = ViewSet(frames, 1, CPU)
    np.testing.assert_array_equal(views.batch([1])[1].known[0], frames[1].known)
    half = ViewSet(frames, 2, CPU).batch([0])[1].known[0, :, :, 0]
    assert (half[:, 6:9] == 0).all() and (half[:, :6] == 1).all()
    _, crop = ViewSet(frames, 1, CPU, crop=16).crops([0], [(8, 8)])
    np.testing.assert_array_equal(crop.known[0], frames[0].known[8:24, 8:24])


def test_the_mask_loss_leaves_it_out():
    target, known = torch.zeros(1, 4, 4, 1), torch.ones(1, 4, 4, 1)
    known[:, :, 1] = 0
    rendered = torch.zeros(1, 4, 4, 1)
    rendered[:, :, 1] = 1.0
    assert float(mask_loss(rendered, target, known)) == 0.0 < float(mask_loss(rendered, target))


def test_no_loss_depends_on_what_is_there(tmp_path, hidden):
    """Whatever the unknown pixels hold, and whatever the model shows there, the losses are the same."""
    from stspbr.stages.fit import reconstruct

    losses = []
    for value in (0.0, 0.7):
        problem = reconstruction_of(tmp_path, hidden, reconstruct)
        with torch.no_grad():
            stripe = (problem.views.known == 0).expand_as(problem.views.image)
            problem.views.image[stripe] = value
        losses.append({t.name: float(t.value.detach()) for t in problem.terms(0, 0.0, Stopwatch())})
    assert losses[0] == losses[1] and {"mask", "A"} <= losses[0].keys()
    blind = replace(hidden, frames=[replace(f, known=None) for f in hidden.frames])
    unaware = {
        t.name: float(t.value.detach())
        for t in reconstruction_of(tmp_path, blind, reconstruct).terms(0, 0.0, Stopwatch())
    }
    assert unaware["mask"] > losses[0]["mask"]


def reconstruction_of(tmp_path, capture: Capture, reconstruct):
    from stspbr.optimize.appearance import FieldAppearance
    from stspbr.optimize.geometry import FixedGeometry
    from stspbr.procedural.jar import demo_asset
    from stspbr.stages.cameras import CameraModels
    from stspbr.stages.session import Session
    from stspbr.stages.state import make_fields, make_light

    session = Session.open(tmp_path / "run", device="cpu", quiet=True, threads=1)
    settings = CoarseSettings.model_validate({"fields": {"appearance": {"levels": 2}, "reflectance": {"levels": 2}}})
    generator = torch.Generator().manual_seed(0)
    geometry = FixedGeometry(demo_asset(16, 16, 12).mesh, movable=True, laplacian=0.0, folding=0.0, device=CPU)
    appearance = FieldAppearance(make_fields(settings.fields, session, generator), 2.0)
    light = make_light(capture, settings.light.model_copy(update={"mode": "learned"}), session)
    return reconstruct(session, settings, capture, geometry, appearance, light, None, CameraModels())
