"""Where a copy may be hidden by others: all of what is, and little more, in piles of exact labels."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from stspbr.photos.instance_occlusion import may_be_hidden
from stspbr.photos.instances import find_copies, reaches
from stspbr.photos.silhouette_check import Silhouettes
from stspbr.procedural.packages import label_can
from stspbr.procedural.pile import PileOptions, lay_pile
from stspbr.render.pile_photo import pile_labels

_SIDE = 400


@pytest.fixture(scope="module")
def pile():
    return lay_pile(label_can(16), PileOptions(7, size=(_SIDE, _SIDE), spacing=1.15, seed=4))


@pytest.fixture(scope="module")
def labels(pile):
    return find_copies(pile_labels(pile))


def _poses(pile, without=()):
    view = pile.camera.world_to_camera
    return {n: view @ pose for n, pose in enumerate(pile.poses, start=1) if n not in without}


@pytest.mark.parametrize("without", [(), (2,)])
def test_hidden_pixels_are_unknown_and_few_others(pile, labels, without):
    image, copies = labels
    poses = _poses(pile, without)
    hull = Silhouettes(image, copies).check(poses, pile.camera.fx)
    found, reach = may_be_hidden(image, poses, pile.camera.fx, hull), reaches(copies)
    true = missed = told = possible = 0
    for number in poses:
        alone = pile_labels(replace(pile, poses=pile.poses[number - 1 : number])) > 0
        others = (image != number) & (image != 0)
        left, top, right, bottom = reach[number]
        room = np.zeros_like(others)
        room[max(top, 0) : bottom, max(left, 0) : right] = True
        assert not (found[number] & ~others).any()
        true += int((alone & others).sum())
        missed += int((alone & others & ~found[number]).sum())
        told += int((found[number] & room).sum())
        possible += int((others & room).sum())
    assert true > 5000 and missed < 0.005 * true
    assert told < 2.5 * true and possible > 8 * true


def test_what_nobody_claims_may_be_in_front(pile, labels):
    image, copies = labels
    poses = _poses(pile)
    # a strip through copy 1 that nobody claims: it may hide the copy where the copy would be
    left, top, right, bottom = copies[0].box
    row = (top + bottom) // 2
    cut = image.copy()
    cut[row : row + 6, left:right][image[row : row + 6, left:right] == 1] = -1
    hull = Silhouettes(cut, copies).check(poses, pile.camera.fx)
    found = may_be_hidden(cut, poses, pile.camera.fx, hull)
    assert found[1][row + 2][cut[row + 2] == -1].all()
    far = np.zeros_like(cut)
    far[:2] = -1  # above all copies
    hull = Silhouettes(np.where(far < 0, far, image), copies).check(poses, pile.camera.fx)
    assert not may_be_hidden(np.where(far < 0, far, image), poses, pile.camera.fx, hull)[1][0].any()
