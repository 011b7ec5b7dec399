"""Transport in the stages: when it is there, when it is refreshed, and what a checkpoint keeps of it."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file

from stspbr.formats.gltf.reader import read_gltf
from stspbr.formats.images import read_image, read_pixels
from stspbr.optimize.transport import TransportSchedule
from stspbr.procedural.jar import demo_asset
from stspbr.render.asset_renderer import AssetRenderer
from stspbr.render.backend import get_backend
from stspbr.render.gbuffer import ViewBatch
from stspbr.scene import Camera, look_at
from stspbr.settings import (
    BakeSettings,
    CoarseSettings,
    RelightSettings,
    SpecializeSettings,
    TransportSettings,
    settings_for,
)
from stspbr.stages.bake import run_bake
from stspbr.stages.coarse import run_coarse
from stspbr.stages.relight import run_relight
from stspbr.stages.session import Session
from stspbr.stages.specialize import run_specialize
from stspbr.stages.state import load_capture, make_transport
from stspbr.transport.transport import Transport

from .scenes import gradient_sky

TINY = ["fields.appearance.levels=3", "fields.reflectance.levels=3", "fields.appearance.log2_table_size=10",
        "fields.reflectance.log2_table_size=10", "geometry.resolution=16", "optimize.iterations=6", "optimize.batch=2",
        "optimize.checkpoint_every=3", "optimize.preview_every=100", "transport.mode=on", "transport.ramp=[0.0, 0.5]",
        "transport_refresh=2", "transport.rays=numba"]  # fmt: skip


def copied(tiny_run, tmp_path, name="run") -> Session:
    shutil.copytree(tiny_run, tmp_path / name)
    return Session.open(tmp_path / name, device="cpu", quiet=True)


def test_rendered_captures_without_shadows_have_no_transport(tiny_run):
    session = Session.open(tiny_run, device="cpu", quiet=True)
    source = session.parent("capture")
    capture = load_capture(source)
    assert make_transport(source, capture, TransportSettings(), session) is None
    assert make_transport(source, capture, TransportSettings(mode="on"), session) is not None
    assert make_transport(source, capture, TransportSettings(mode="off"), session) is None


def test_strength_fades_in_over_the_stage():
    schedule = TransportSchedule(Transport(get_backend("cpu", torch.device("cpu"))), 25, (0.6, 0.8))
    assert [round(schedule.strength(p), 3) for p in (0.0, 0.6, 0.65, 0.8, 1.0)] == [0.0, 0.0, 0.25, 1.0, 1.0]
    assert TransportSchedule(schedule.transport, 25).strength(0.0) == 1.0


def jar() -> tuple[AssetRenderer, Transport]:
    backend = get_backend("cpu", torch.device("cpu"))
    renderer = AssetRenderer(demo_asset(16, around=24, along=24), backend, torch.device("cpu"))
    return renderer, Transport(backend, "numba")


def test_a_vertex_that_moves_far_brings_a_refresh():
    renderer, transport = jar()
    surface = renderer.surface
    assert transport.moved(surface)
    transport.refresh(surface, renderer.material)
    assert not transport.moved(surface)
    edges = surface.positions[surface.faces.long()]
    edge = float((edges - edges.roll(1, 1)).norm(dim=-1).mean())
    before = surface.positions.clone()
    for step, expected in ((0.2, False), (2.0, True)):
        surface.positions = before.clone()
        surface.positions[7, 1] += step * edge
        assert transport.moved(surface) is expected
    surface.faces = surface.faces.flip(0)  # another topology with as many vertices: no vertex has a former place
    assert not transport.moved(surface)


def test_state_comes_back_bit_for_bit():
    renderer, transport = jar()
    transport.refresh(renderer.surface, renderer.material)
    light = gradient_sky().prefilter().detach()
    camera = Camera(look_at(np.array([0.0, 1.0, 4.0]), np.zeros(3)), 60.0, 60.0, 24.0, 24.0, 48, 48)
    views = ViewBatch.of([camera], [np.eye(4)], torch.device("cpu"))
    first = renderer.render(views, light, transport.seen)["rgb"]
    other = Transport(renderer.backend, "numba")
    other.load_state({name: value.clone() for name, value in transport.state().items()})
    assert torch.equal(first, renderer.render(views, light, other.seen)["rgb"])
    assert not torch.equal(first, renderer.render(views, light)["rgb"])


def test_a_stage_resumes_bit_for_bit(tiny_run, tmp_path, monkeypatch):
    whole = copied(tiny_run, tmp_path, "whole")
    expected = run_coarse(whole, settings_for(CoarseSettings, TINY))
    broken = copied(tiny_run, tmp_path, "broken")
    original = TransportSchedule.update

    def interrupted(self, step, *rest):
        if step == 4:
            raise KeyboardInterrupt
        original(self, step, *rest)

    monkeypatch.setattr(TransportSchedule, "update", interrupted)
    with pytest.raises(KeyboardInterrupt):
        run_coarse(broken, settings_for(CoarseSettings, TINY))
    monkeypatch.setattr(TransportSchedule, "update", original)
    again = Session.open(tmp_path / "broken", device="cpu", quiet=True, resume=True)
    resumed = run_coarse(again, settings_for(CoarseSettings, TINY))
    assert resumed.content_hash == expected.content_hash


def test_all_stages_run_with_transport_and_a_learned_light(tiny_run, tmp_path):
    session = copied(tiny_run, tmp_path)
    run_coarse(session, settings_for(CoarseSettings, [*TINY, "light.mode=learned", "light.learned_resolution=16"]))
    steps = ["optimize.iterations=4", "optimize.batch=2", "transport_refresh=2"]
    short = ["survey.observations=2000", "survey.steps=5", "light_solve.observations=2000", "light_solve.steps=10",
             "survey.at=[0.0]", "light_solve.at=[0.0]"]  # fmt: skip
    surveyed = run_specialize(session, settings_for(SpecializeSettings, [*steps, *short]))
    cells = load_file(surveyed.file("survey.safetensors"))
    said = json.loads(surveyed.file("metrics.json").read_text())["survey"]
    assert said["metal"] + said["dielectric"] + said["undecided"] == pytest.approx(1.0, abs=1e-4)
    assert said["cells"] == len(cells["position"]) == len(cells["confidence"]) > 0
    assert said["undecided"] == pytest.approx(cells["share"][~cells["clear"]].sum(), abs=1e-5)
    bake = run_bake(session, settings_for(BakeSettings, [*steps, "texture_resolution=64", "occlusion=visibility"]))
    shown = read_gltf(bake.file("asset.glb")).materials[0].occlusion
    assert shown is not None and 0.3 < float(shown.mean()) <= 1.0 and float(shown.min()) < 0.95
    relit = run_relight(
        session, RelightSettings(lights=["procedural:studio"], turntable=2, resolution=48, rays="numba", format="exr")
    )
    rgb, alpha, _ = read_image(relit.file("studio/turn_0001.exr"))
    assert rgb.shape == (48, 48, 3) and 0.1 < float(alpha.mean()) < 0.9 and float(rgb.mean()) > 0.01
    assert json.loads(relit.file("metrics.json").read_text())["views"] == ["turn_0000", "turn_0001"]
    again = run_relight(session, RelightSettings(lights=["procedural:studio"], views=1))
    assert read_pixels(again.file("studio/test_0000.png")).shape == (32, 32, 4)
