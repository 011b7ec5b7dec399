"""Which focal lengths are searched from when none is known, and which search is kept."""

from __future__ import annotations

import numpy as np
import pytest

from stspbr.photos import instance_focal
from stspbr.photos.instance_focal import FOCALS, without_focal
from stspbr.photos.instance_models import Arrangement, Scene
from stspbr.photos.instance_tracks import Refined

SIDE = 1000


class _Copies:
    """Coherence of so many copies: all that a score needs."""

    def __init__(self, score: float) -> None:
        self.score = score


@pytest.fixture
def searched(monkeypatch):
    """Starts in the order in which they are searched; ``answers``: focal length, deviation and score by start."""
    starts: list[float] = []
    answers: dict[float, tuple[float, float, float]] = {}

    def arrangements(scene, focal, free=False, prior=None, resting=False):
        assert free and prior is None and resting
        starts.append(round(focal / SIDE, 3))
        if starts[-1] not in answers:
            return [Arrangement(focal, {}, [], {})]
        own, deviation, score = answers[starts[-1]]
        refined = Refined({}, np.zeros((9, 3)), own, 0.1, {}, {}, {}, deviation, 1.0)
        return [Arrangement(own, {}, [], {}, refined, coherence=_Copies(score))]  # type: ignore[arg-type]

    monkeypatch.setattr(instance_focal, "arrangements", arrangements)
    scene = Scene(None, np.zeros((2, 2)), np.zeros((2, 2), np.int32), [], None, (SIDE, SIDE // 2), 0)
    said: list[str] = []
    return starts, answers, lambda: without_focal(scene, True, said.append), said


def test_a_certain_answer_near_its_start_ends_the_search(searched):
    starts, answers, find, said = searched
    answers[1.4] = (1300.0, 20.0, 7.0)
    assert find().focal == 1300.0 and starts == [1.4]
    assert not any("warning" in line for line in said)


def test_an_answer_that_leaves_its_start_is_sought_from_where_it_went(searched):
    starts, answers, find, _ = searched
    answers |= {1.4: (2600.0, 30.0, 5.0), 2.8: (2700.0, 30.0, 8.0)}
    assert find().focal == 2700.0 and starts == [1.4, 2.8]


def test_all_are_searched_if_none_is_certain_and_the_best_is_kept(searched):
    starts, answers, find, said = searched
    answers |= {1.4: (1400.0, 200.0, 5.0), 0.7: (720.0, 300.0, 6.0)}
    assert find().focal == 720.0 and sorted(starts) == list(FOCALS)
    assert any("warning" in line for line in said)


def test_without_any_arrangement_there_is_none(searched):
    starts, _, find, _ = searched
    assert find().refined is None and sorted(starts) == list(FOCALS)
