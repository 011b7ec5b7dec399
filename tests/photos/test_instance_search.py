"""Which of several starts is kept: the one whose adjustment explains most at its end."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from stspbr.photos import instance_search
from stspbr.photos.instance_models import Arrangement, Scene
from stspbr.photos.instance_motions import Observations
from stspbr.photos.instance_search import _Search
from stspbr.photos.instance_standing import _joint
from stspbr.photos.instance_tracks import Refined, _likelihood

FOCAL = 1000.0


def turned(numbers, degrees=0.0):
    """Poses of copies, the last one off by ``degrees``."""
    out = {}
    for number in numbers:
        out[number] = np.eye(4)
        turn = 30.0 * number + (degrees if number == max(numbers) else 0.0)
        out[number][:3, :3] = Rotation.from_euler("y", turn, degrees=True).as_matrix()
    return out


@pytest.fixture
def search(monkeypatch):
    """A search whose adjustment changes nothing and explains what ``likelihood`` says; all is confirmed."""
    scene = Scene(None, np.zeros((2, 2)), np.zeros((2, 2), np.int32), [], None, (2, 2), 0)
    out = _Search(scene, Arrangement(FOCAL, {}, [], {}), False, None, False)
    out.likelihood = {}

    def adjusted(scene, pairs, poses, *_):
        value = out.likelihood.get(len(poses), 1.0)
        return Refined(dict(poses), np.zeros((9, 3)), FOCAL, 0.1, {}, {}, {}, 0.0, value)

    monkeypatch.setattr(instance_search, "adjusted_poses", adjusted)

    monkeypatch.setattr(instance_search, "linked", lambda features, matches, poses, *_: [list(poses)])

    def confirmed(_, trial):
        trial.poses = trial.refined.poses
        return True

    monkeypatch.setattr(instance_search, "confirmed", confirmed)
    return out


def test_of_two_ends_the_one_that_explains_more_is_kept(search):
    first, better, worse = turned((1, 2, 3)), turned((1, 2, 3), 4.0), turned((1, 2, 3), 2.0)
    for poses, value in ((first, 10.0), (better, 20.0), (worse, 5.0)):
        search.likelihood[3] = value
        search.carry(poses)
    assert [one.refined.likelihood for one in search.found] == [20.0]
    search.likelihood[4] = 30.0
    search.carry(turned((1, 2, 3, 4)))  # the same and one more
    search.carry(turned((1, 2)))  # a part of it
    assert sorted(len(one.poses) for one in search.found) == [4]
    search.carry(turned((1, 2, 3), 40.0))  # copy 3 stands elsewhere: both stay, to be weighed
    assert sorted(len(one.poses) for one in search.found) == [3, 4]


def test_groups_without_a_common_copy_are_joined_and_carried(search, monkeypatch):
    asked = []

    def joined(silhouettes, seen, features, matches, pairs, first, second, focal, middle):
        asked.append((set(first), set(second)))
        return [{**first, **second}]

    monkeypatch.setattr(instance_search, "joined_groups", joined)
    search.likelihood = {3: 5.0, 4: 9.0, 7: 20.0}
    search.carry(turned((1, 2, 3)))
    search.carry(turned((4, 5, 6, 7)))
    search.join()
    assert asked == [({4, 5, 6, 7}, {1, 2, 3})]
    assert [set(one.poses) for one in search.found] == [set(range(1, 8))]


def test_what_no_matches_hold_together_falls_apart(search, monkeypatch):
    monkeypatch.setattr(
        instance_search, "linked",
        lambda features, matches, poses, *_: [part for part in ([1, 2, 3], [4, 5, 6], [7]) if set(part) <= set(poses)],
    )  # fmt: skip
    search.carry(turned(range(1, 8)))
    assert [set(one.poses) for one in search.found] == [{1, 2, 3}, {4, 5, 6}]


def test_a_point_that_three_copies_show_says_more_than_two_that_two_show():
    """Two lines of sight nearly meet in any pose along the epipolar lines; a third one does not."""
    none = np.zeros((0, 2))
    pairs = _likelihood(Observations(np.array([0, 1, 0, 1, 1, 2]), np.array([0, 0, 1, 1, 2, 2]), none), np.zeros(6))
    triple = _likelihood(Observations(np.array([0, 1, 2]), np.array([0, 0, 0]), none), np.zeros(3))
    assert triple == pytest.approx(1.5) and pairs == pytest.approx(1.5)  # 6 − 3 numbers; 3 × (4 − 3)


def test_the_other_peak_of_a_small_turn_is_no_vote():
    """A nearly affine camera leaves two turns of a pair open: the second peak is the same matches again."""
    steps = np.arange(72) * 5.0

    def peak(turn, height):
        away = np.minimum((steps - turn) % 360.0, (turn - steps) % 360.0)
        return np.maximum(height * (1.0 - away / 15.0), 0.0)

    ghost = peak(355.0, 176.0) + peak(35.0, 126.0)
    true = {(1, 3): peak(320.0, 50.0), (2, 3): peak(290.0, 16.0)}
    first, second = {1: 0.0, 2: 30.0, 4: 325.0}, {3: 0.0}
    _, offset = _joint({**true, (4, 3): ghost}, first, second)
    assert offset == 320.0
