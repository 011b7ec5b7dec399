"""Cut-outs through the stages: opacity is learned on given cards, cut, written, and shown by all that come later."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
import torch

from stspbr.errors import StspbrError
from stspbr.formats.gltf.reader import read_gltf
from stspbr.formats.gltf.writer import write_glb
from stspbr.procedural.fern import fern
from stspbr.render.asset_renderer import AssetRenderer
from stspbr.render.backend import get_backend
from stspbr.settings import (
    BakeSettings,
    CaptureMeshSettings,
    CoarseSettings,
    EvaluateSettings,
    RelightSettings,
    SpecializeSettings,
    settings_for,
)
from stspbr.stages.bake import run_bake
from stspbr.stages.capture import run_capture
from stspbr.stages.coarse import run_coarse
from stspbr.stages.evaluate import run_evaluate
from stspbr.stages.relight import run_relight
from stspbr.stages.session import Session
from stspbr.stages.specialize import run_specialize
from stspbr.transport.transport import Transport

pytestmark = pytest.mark.usefixtures("coarse_lights")

FIELDS = ["fields.appearance.levels=4", "fields.appearance.log2_table_size=12", "fields.reflectance.levels=3",
          "fields.reflectance.log2_table_size=10"]  # fmt: skip
STEPS = ["optimize.batch=2", "optimize.preview_every=100", "optimize.checkpoint_every=2"]


@pytest.fixture(scope="module")
def captured(tmp_path_factory):
    """A run with views of the fern, and the fern as a file."""
    folder = tmp_path_factory.mktemp("fern")
    write_glb(folder / "fern.glb", fern(64))
    session = Session.open(folder / "run", device="cpu", quiet=True)
    run_capture(session, CaptureMeshSettings(asset=str(folder / "fern.glb"), light="procedural:demo", views=6,
                                             test_views=1, resolution=48))  # fmt: skip
    return folder


def coarse(captured, session, steps=6, *more):
    given = [f"mesh={captured / 'fern.glb'}", *FIELDS, *STEPS, f"optimize.iterations={steps}", *more]
    return run_coarse(session, settings_for(CoarseSettings, given))


def baked(captured, folder, alpha, steps=6):
    shutil.copytree(captured / "run", folder)
    session = Session.open(folder, device="cpu", quiet=True)
    coarse(captured, session, steps, f"fields.alpha={alpha}")
    run_specialize(session, settings_for(SpecializeSettings, [*STEPS, "optimize.iterations=4", "survey.steps=5"]))
    return session, run_bake(session, settings_for(BakeSettings, [*STEPS, "optimize.iterations=4"]))


@pytest.fixture(scope="module")
def masked(captured, tmp_path_factory):
    """Enough steps that the gaps between the leaflets open."""
    return baked(captured, tmp_path_factory.mktemp("masked") / "run", "mask", steps=60)


@pytest.mark.parametrize("alpha", ["mask", "blend"])
def test_opacity_reaches_the_asset_and_what_comes_after(captured, masked, tmp_path, alpha):
    session, bake = masked if alpha == "mask" else baked(captured, tmp_path / "run", alpha)
    asset = read_gltf(bake.file("asset.glb"))
    material = asset.materials[0]
    assert material.alpha_mode == alpha
    assert 0.0 <= material.opacity.min() < material.opacity.max() <= 1.0
    metrics = json.loads(bake.file("metrics.json").read_text())
    assert metrics["export_psnr"] > 35
    assert (metrics["cutoff"] is None) == (alpha == "blend")
    assert material.cutoff == (None if alpha == "blend" else pytest.approx(metrics["cutoff"]))
    record = run_evaluate(session, EvaluateSettings(reference_capture=True, samples=1000, map_resolution=32))
    assert json.loads(record.file("errors.json").read_text())["views"]["count"] == 1
    relit = run_relight(session, RelightSettings(lights=["procedural:studio"], views=1))
    assert list(relit.files)


def test_leaves_are_cut_out(masked):
    """Coverage is nearer to the truth than that of whole cards."""
    cutoff = json.loads(masked[1].file("metrics.json").read_text())["cutoff"]
    assert 0.2 < cutoff < 0.8  # half-way between what is there and what is not
    opacity = read_gltf(masked[1].file("asset.glb")).materials[0].coverage()
    truth = fern(64).materials[0].coverage()
    step = opacity.shape[0] // 64
    cards = opacity[: 36 * step : step, ::step], truth[:36]
    assert opacity[40 * step :].mean() > 0.9  # the pot is whole
    assert np.abs(cards[0] - cards[1]).mean() < 0.8 * np.abs(1.0 - cards[1]).mean()


def test_an_interrupted_stage_resumes_bit_for_bit(captured, tmp_path, monkeypatch):
    from stspbr.optimize.reconstruction import Reconstruction

    hashes = []
    original = Reconstruction.terms

    def interrupted(self, step, *rest):
        if step == 4:
            raise KeyboardInterrupt
        return original(self, step, *rest)

    for name in ("whole", "broken"):
        shutil.copytree(captured / "run", tmp_path / name)
        if name == "broken":
            monkeypatch.setattr(Reconstruction, "terms", interrupted)
            with pytest.raises(KeyboardInterrupt):
                coarse(captured, Session.open(tmp_path / name, device="cpu", quiet=True), 6, "fields.alpha=mask")
            monkeypatch.setattr(Reconstruction, "terms", original)
        session = Session.open(tmp_path / name, device="cpu", quiet=True, resume=name == "broken")
        hashes.append(coarse(captured, session, 6, "fields.alpha=mask").content_hash)
    assert hashes[0] == hashes[1]


def test_rays_are_refused_where_they_would_take_leaves_for_cards(captured, tmp_path):
    shutil.copytree(captured / "run", tmp_path / "run")
    session = Session.open(tmp_path / "run", device="cpu", quiet=True)
    with pytest.raises(StspbrError, match=r"transport\.mode=on: rays take leaves for cards"):
        coarse(captured, session, 6, "fields.alpha=mask", "transport.mode=on")


def test_places_that_no_camera_sees_have_a_material(captured):
    """Transport reads materials at points of the surface, whatever asset it is given."""
    backend = get_backend("cpu", torch.device("cpu"))
    renderer = AssetRenderer(fern(64), backend, torch.device("cpu"))
    transport = Transport(backend, "numba", 1)
    transport.refresh(renderer.surface, renderer.material)
    assert transport.cache is not None
