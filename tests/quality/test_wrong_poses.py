"""Wrong poses on purpose, and what the search keeps of them."""

from __future__ import annotations

import pytest

from stspbr.metrics.poses import pose_errors
from stspbr.procedural.packages import label_can
from stspbr.procedural.pile import PileOptions, lay_pile
from stspbr.quality.wrong_poses import WRONG, judged, starts, summary


@pytest.fixture(scope="module")
def pile():
    return lay_pile(label_can(192), PileOptions(5, "turned", (560, 560), seed=1))


@pytest.fixture(scope="module")
def true(pile):
    return {number: pile.camera.world_to_camera @ pose for number, pose in enumerate(pile.poses, start=1)}


def test_starts_are_wrong_in_the_way_that_they_say(true):
    found = {}
    for kind, poses in starts(true, 0):
        errors = pose_errors(poses, true)
        assert max(errors.translations.values()) < 1e-6  # places stay
        found[kind] = sorted(errors.rotations.values())
    assert list(found) == ["right", "joined", "drift"]
    assert found["right"][-1] < 1e-4
    assert found["joined"][-1] > WRONG
    assert 2.0 < found["drift"][-1] < 20.0 and len({round(turn, 3) for turn in found["drift"]}) > 2


def test_wrong_starts_are_mended_or_refused_and_the_right_one_is_kept(pile):
    pytest.importorskip("cv2")
    pytest.importorskip("pycolmap")
    rows = judged(pile, 0)
    assert [row["kind"] for row in rows] == ["right", "joined", "drift"]
    assert rows[0]["kept"] >= 4 and rows[0]["error"] < 1.0 and rows[0]["outside"] < 0.05
    assert all(row["wrong"] == 0 for row in rows) and rows[1]["given"] > WRONG
    out = summary([*rows, {**rows[1], "kept": 3, "wrong": 2}])
    assert out["right"]["kept"] == 1 and out["joined"]["falsely_accepted"] == 1 and out["joined"]["judged"] == 2
