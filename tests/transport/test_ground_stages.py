"""The floor in the stages: when there is one, what a checkpoint and an artifact hold of it."""

from __future__ import annotations

import json
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from stspbr.errors import StspbrError
from stspbr.formats.images import read_image
from stspbr.optimize.transport import TransportSchedule
from stspbr.scene import Camera, Capture, Frame, look_at
from stspbr.settings import (
    BakeSettings,
    CoarseSettings,
    EvaluateSettings,
    SpecializeSettings,
    TransportSettings,
    settings_for,
)
from stspbr.stages.bake import run_bake
from stspbr.stages.coarse import run_coarse
from stspbr.stages.evaluate import run_evaluate
from stspbr.stages.ground import chosen_ground
from stspbr.stages.session import Session
from stspbr.stages.specialize import run_specialize
from stspbr.stages.state import load_capture, make_transport

from .test_stages import TINY, copied

pytestmark = pytest.mark.usefixtures("coarse_lights")

PHOTOS = {"kind": "photos", "features": "photo", "light_frame": "world"}
LEARNED = ["light.mode=learned", "light.learned_resolution=16"]


def capture(height: float = 1.0, poses: tuple[np.ndarray, ...] = (np.eye(4),)) -> Capture:
    image = np.zeros((4, 4, 3), np.float32)
    camera = Camera(look_at(np.array([0.0, height, 4.0]), np.zeros(3)), 4.0, 4.0, 2.0, 2.0, 4, 4)
    return Capture([Frame(str(k), camera, image, image[..., :1], pose) for k, pose in enumerate(poses)])


def turned(axis: int, angle: float, height: float = 0.0) -> np.ndarray:
    a, b = [k for k in range(3) if k != axis]
    pose = np.eye(4)
    pose[[a, a, b, b], [a, b, a, b]] = np.cos(angle), np.sin(angle), -np.sin(angle), np.cos(angle)
    pose[1, 3] = height
    return pose


def chosen(setting, source=PHOTOS, frames=None):
    settings = TransportSettings(ground=setting)
    return chosen_ground(SimpleNamespace(settings=source), frames or capture(), settings)


def test_a_floor_is_assumed_under_photographed_objects_at_rest_only():
    ground, why = chosen("auto")
    assert ground is not None and ground.height is None and "lowest point" in why
    for other, word in (({"kind": "mesh"}, "kind mesh"), ({"features": "object"}, "turntable"),
                        ({"light_frame": "camera"}, "turntable")):  # fmt: skip
        ground, why = chosen("auto", PHOTOS | other)
        assert ground is None and word in why
    ground, why = chosen("auto", frames=capture(height=-0.5))
    assert ground is None and "look up" in why
    assert chosen("none") == (None, "")


def test_an_object_that_turns_about_the_vertical_keeps_its_floor():
    spun = capture(poses=(np.eye(4), turned(1, 0.7), turned(1, 2.0)))
    ground, _ = chosen(-0.25, frames=spun)
    assert np.allclose(ground.up, [0, 1, 0]) and ground.height == -0.25
    for tipped in (turned(0, 0.3), turned(1, 0.3, height=0.2)):
        frames = capture(poses=(np.eye(4), tipped))
        with pytest.raises(StspbrError, match="ground=-0.25: .*transport.ground=none"):
            chosen(-0.25, frames=frames)
        assert chosen("auto", frames=frames)[0] is None


@pytest.mark.parametrize("value", ["table", "nan", "[1.0]"])
def test_a_bad_height_is_one_line(value):
    with pytest.raises(StspbrError, match="choose auto, none or a height") as error:
        settings_for(CoarseSettings, [f"transport.ground={value}"])
    assert "transport.ground" in str(error.value) and "\n" not in str(error.value)


def test_a_height_without_transport_is_an_error(tiny_run):
    session = Session.open(tiny_run, device="cpu", quiet=True)
    source = session.parent("capture")
    with pytest.raises(StspbrError, match="needs transport"):
        make_transport(source, load_capture(source), TransportSettings(ground=0.0), session)


def test_without_a_floor_nothing_changes(tiny_run, tmp_path):
    """``auto`` assumes none under a rendered mesh; both give the same files."""
    hashes = []
    for name in ("none", "auto"):
        session = copied(tiny_run, tmp_path, name)
        done = run_coarse(session, settings_for(CoarseSettings, [*TINY, *LEARNED, f"transport.ground={name}"]))
        hashes.append({file: entry["sha256"] for file, entry in done.manifest["files"].items()})
        assert "ground" not in json.loads(done.file("metrics.json").read_text())
    assert hashes[0] == hashes[1]


def test_a_stage_with_a_floor_resumes_bit_for_bit(tiny_run, tmp_path, monkeypatch):
    settings = settings_for(CoarseSettings, [*TINY, *LEARNED, "transport.ground=-1.0"])
    whole = run_coarse(copied(tiny_run, tmp_path, "whole"), settings)
    original = TransportSchedule.update

    def interrupted(self, step, *rest):
        if step == 4:
            raise KeyboardInterrupt
        original(self, step, *rest)

    monkeypatch.setattr(TransportSchedule, "update", interrupted)
    with pytest.raises(KeyboardInterrupt):
        run_coarse(copied(tiny_run, tmp_path, "broken"), settings)
    monkeypatch.setattr(TransportSchedule, "update", original)
    resumed = run_coarse(Session.open(tmp_path / "broken", device="cpu", quiet=True, resume=True), settings)
    assert resumed.content_hash == whole.content_hash


@pytest.mark.parametrize("light", ["learned", pytest.param("known", marks=pytest.mark.slow)])
def test_the_grey_goes_from_stage_to_stage(tiny_run, tmp_path, light):
    session = copied(tiny_run, tmp_path)
    mode = LEARNED if light == "learned" else ["light.mode=known"]
    steps = ["optimize.iterations=4", "optimize.batch=2", "transport_refresh=2"]
    still = ["optimize.rates.light.rate=0"]
    coarse = run_coarse(session, settings_for(CoarseSettings, [*TINY, *mode, "transport.ground=-1.1"]))
    first = json.loads(coarse.file("metrics.json").read_text())["ground"]
    assert first["height"] == pytest.approx(-1.1) and first["grey"] != pytest.approx([0.4] * 3, abs=1e-4)
    short = ["survey.observations=2000", "survey.steps=5", "light_solve.observations=2000", "light_solve.steps=10",
             "survey.at=[0.4]", "light_solve.at=[0.4, 1.0]"]  # fmt: skip
    run_specialize(session, settings_for(SpecializeSettings, [*steps, *still, *short]))
    bake = run_bake(session, settings_for(BakeSettings, [*steps, *still, "texture_resolution=64"]))
    last = json.loads(bake.file("metrics.json").read_text())["ground"]
    assert last["grey"] == pytest.approx(first["grey"], abs=1e-5) and last["height"] == first["height"]
    exported = read_image(bake.file("light.hdr"))[0]
    below = exported[len(exported) * 5 // 8 :]
    assert np.ptp(below.reshape(-1, 3), axis=0).max() < 0.02 * exported.mean()
    settings = settings_for(EvaluateSettings, ["samples=1000", "views=1", "map_resolution=16", "footprint=0"])
    errors = json.loads(run_evaluate(session, settings).file("errors.json").read_text())
    # the evaluation's views have the same light and floor as the stage's own
    assert errors["views"]["psnr"] == pytest.approx(errors["bake"]["held_out"]["psnr_mean"], abs=0.7)


def test_auto_puts_the_floor_at_the_lowest_point(tiny_run, tmp_path, monkeypatch):
    session = copied(tiny_run, tmp_path)
    source = session.parent("capture")
    frames = load_capture(source)
    frames = replace(frames, frames=[f for f in frames.frames if f.camera.position[1] > 0])
    pretended = SimpleNamespace(settings=PHOTOS)
    transport = make_transport(pretended, frames, TransportSettings(rays="numba", ground="auto"), session)
    assert transport.ground.level(torch.tensor([[0.0, -0.7, 0.0], [1.0, 2.0, 0.0]])) == pytest.approx(-0.7)
