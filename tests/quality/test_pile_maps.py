"""Figures of a pile's maps, and the whole way from its photograph to them."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from stspbr.procedural.packages import label_can
from stspbr.procedural.pile import PileOptions, lay_pile, truth_of
from stspbr.quality.pile_maps import against_truth, from_pile_to_maps, in_their_measure
from stspbr.scene import Capture, Frame


@pytest.fixture(scope="module")
def pile():
    return lay_pile(label_can(32), PileOptions(4, "turned", (200, 200)))


def capture_of(pile, turn=0.0):
    """The truth in another world, in other units and another object's frame; the second copy is turned."""
    world = np.eye(4)
    world[:3, :3], world[:3, 3] = Rotation.from_euler("zx", [20, 50], degrees=True).as_matrix(), (1.0, 2.0, 3.0)
    own = Rotation.from_euler("y", 70, degrees=True).as_matrix()
    frames = []
    for number, pose in enumerate(pile.poses):
        local = pile.camera.world_to_camera @ pose
        local[:3, 3] *= 2.0
        local[:3, :3] = local[:3, :3] @ own
        if number == 1:
            local[:3, :3] = local[:3, :3] @ Rotation.from_euler("x", turn, degrees=True).as_matrix()
        camera = replace(pile.camera, camera_to_world=world)
        none = np.zeros((200, 200, 1), np.float32)
        frames.append(Frame(f"copy_{number + 1}", camera, np.repeat(none, 3, axis=2), none, world @ local))
    return Capture(frames)


def test_errors_are_apart_from_the_capture_own_world(pile):
    record = {"copies": [{"label": k, "frame": f"copy_{k}"} for k in (1, 2, 3, 4)] + [{"label": 9}]}
    truth = json.loads(json.dumps(truth_of(pile)))
    exact = against_truth(capture_of(pile), record, truth, 2.0)
    assert max(exact.values()) < 1e-4
    off = against_truth(capture_of(pile, 8.0), record, truth, 2.0)
    assert 5.0 < off["rotation_max"] < 8.0 and off["rotation_mean"] == pytest.approx(3.0, abs=0.2)


def test_their_measure_is_of_images_and_leaves_the_colour_of_the_light_open(pile, session):
    alpha = np.ones((96, 96, 1), np.float32)
    camera = pile.camera.resized(96, 96)
    frames = [Frame("one", camera, np.zeros((96, 96, 3), np.float32), alpha, pile.poses[0])]
    exact = in_their_measure(session, pile.asset, pile.asset, frames)
    assert exact["albedo_psnr"] > 60.0 and exact["roughness_mse"] < 1e-9
    tinted = [replace(m, albedo=m.albedo * (0.8**2.2), roughness=m.roughness * 0.5) for m in pile.asset.materials]
    other = in_their_measure(session, replace(pile.asset, materials=tinted), pile.asset, frames)
    assert other["albedo_psnr"] > 40.0 and other["roughness_mse"] > 1e-3


@pytest.mark.slow
def test_from_one_photograph_to_maps(tmp_path):
    """CI figures of the acceptance table, path-traced; a quarter of an hour on two cores."""
    pytest.importorskip("pycolmap")
    pytest.importorskip("mitsuba")
    found = from_pile_to_maps(tmp_path / "run")
    assert found["registered"] >= 7
    assert found["mapped"]["rotation_mean"] <= 1.5 and found["mapped"]["rotation_max"] <= 4.0
