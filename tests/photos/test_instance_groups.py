"""Groups of copies that know nothing of each other, joined by what they show."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from stspbr.metrics.poses import pose_errors
from stspbr.photos.instance_features import Features, Matches
from stspbr.photos.instance_groups import joined_groups, linked, moved_group
from stspbr.photos.instance_pairs import TwoView
from stspbr.photos.instance_proxy import Proxy, pictures
from stspbr.photos.instances import find_copies
from stspbr.photos.silhouette_check import Silhouettes
from stspbr.scene.camera import Camera

pytest.importorskip("cv2")
SIZE, FOCAL = (900, 700), 1300.0
MIDDLE = 0.5 * np.array(SIZE)


def surface(printed: bool) -> Proxy:
    """An upright ellipsoid, round about its axis, with patches of print or plain."""
    count, axes = 20000, np.array([0.7, 1.0, 0.7])
    k = np.arange(count) + 0.5
    polar, around = np.arccos(1 - 2 * k / count), np.pi * (1 + 5**0.5) * k
    ball = np.stack([np.sin(polar) * np.cos(around), np.cos(polar), np.sin(polar) * np.sin(around)], axis=1)
    rng = np.random.default_rng(0)
    waves = np.sin(ball @ rng.normal(size=(3, 12)) * 5.0 + rng.uniform(0, 6, 12)).sum(axis=1)
    values = 0.5 + 0.05 * waves if printed else np.full(count, 0.5)
    normals = ball / axes
    normals /= np.linalg.norm(normals, axis=1, keepdims=True)
    return Proxy(*(part.astype(np.float32) for part in (ball * axes, normals, values)), 0.03, np.zeros(3))


def standing(yaws: tuple[float, ...], tilted: float = 0.0) -> dict[int, np.ndarray]:
    """Copies in two rows on a plane under a camera that looks down by 38 degrees."""
    tilt, out = Rotation.from_euler("x", 38, degrees=True), {}
    for number, yaw in enumerate(yaws, start=1):
        row, column = divmod(number - 1, 3)
        pose = np.eye(4)
        lean = Rotation.from_euler("z", tilted * (number % 3 - 1), degrees=True)
        pose[:3, :3] = (tilt * lean * Rotation.from_euler("y", yaw, degrees=True)).as_matrix()
        pose[:3, 3] = tilt.apply([(column - 1.0) * 1.9, -0.4, 1.2 - 2.4 * row]) + (0.0, 0.2, -8.0)
        out[number] = pose
    return out


def photographed(object_: Proxy, at: dict[int, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Luminance and labels ``[H, W]``."""
    camera = Camera(np.eye(4), FOCAL, FOCAL, *MIDDLE, *SIZE)
    display, labels = np.full(SIZE[::-1], 0.3, np.float32), np.zeros(SIZE[::-1], np.int32)
    nearest = np.full(SIZE[::-1], np.inf)
    for number, pose in at.items():
        depth, values = object_.drawn(camera, pose)
        front = depth < nearest
        nearest[front], labels[front], display[front] = depth[front], number, values[front]
    return display, labels


def apart(at: dict[int, np.ndarray]) -> tuple[dict[int, np.ndarray], dict[int, np.ndarray]]:
    """Copies 1 to 3, and 4 to 6 in an object's space of their own."""
    first = {k: at[k] for k in (1, 2, 3)}
    own = Rotation.from_euler("yx", [70, 15], degrees=True).as_matrix(), 1.3, np.array([0.2, 0.1, -0.3]), np.zeros(3)
    return first, moved_group({k: at[k] for k in (4, 5, 6)}, own)


def candidates(printed, at, matches=None, features=None, pairs=None):
    display, labels = photographed(surface(printed), at)
    labels, copies = find_copies(labels)
    silhouettes = Silhouettes(labels, copies)
    seen = pictures(display, labels, copies, FOCAL, 96)
    return joined_groups(
        silhouettes, seen, features or {}, matches or {}, pairs or {}, *apart(at), FOCAL, MIDDLE
    )  # fmt: skip


def test_drawing_joins_groups_that_share_no_match():
    at = standing((0, 35, 75, 60, 100, 130))
    found = candidates(True, at)
    assert found and all(set(start) == set(at) for start in found)
    errors = [pose_errors(start, at) for start in found]
    best = min(errors, key=lambda one: max(one.rotations.values()))
    assert max(best.rotations.values()) < 5.0 and max(best.translations.values()) < 0.15
    assert best is errors[0]


def test_matches_join_groups_whose_print_says_nothing():
    at = standing((0, 35, 75, 60, 100, 130))
    rng = np.random.default_rng(2)
    object_ = surface(False)
    chosen = rng.permutation(len(object_.points))[:400]
    features, shown = {}, {}
    for number, pose in at.items():
        local = object_.points[chosen] @ pose[:3, :3].T + pose[:3, 3]
        turned = object_.normals[chosen] @ pose[:3, :3].T
        shown[number] = np.flatnonzero((turned * local).sum(axis=1) < -0.1)
        x, y, z = local[shown[number]].T
        pixels = MIDDLE + FOCAL * np.stack([x, -y], axis=1) / -z[:, None]
        features[number] = Features(pixels.astype(np.float32), np.zeros((len(z), 1), np.float32), np.arange(len(z)))
    matches = {}
    for a in (1, 2, 3):
        for b in (4, 5, 6):
            _, i, j = np.intersect1d(shown[a], shown[b], return_indices=True)
            right = rng.permutation(len(i))[:12]
            wrong = np.stack([rng.integers(0, len(shown[k]), 20) for k in (a, b)], axis=1)
            found = np.concatenate([np.stack([i[right], j[right]], axis=1), wrong])
            matches[a, b] = Matches(found, np.zeros((len(shown[a]), 3), np.int64))
    errors = [max(pose_errors(start, at).rotations.values()) for start in candidates(False, at, matches, features)]
    assert min(errors) < 5.0


def test_matches_by_chance_link_nothing():
    rng = np.random.default_rng(5)
    at = standing((0, 35, 75, 60, 100, 130))
    object_ = surface(False)
    chosen = rng.permutation(len(object_.points))[:200]
    features, every = {}, np.stack([np.arange(200)] * 2, axis=1)
    for number, pose in at.items():
        x, y, z = (object_.points[chosen] @ pose[:3, :3].T + pose[:3, 3]).T
        pixels = MIDDLE + FOCAL * np.stack([x, -y], axis=1) / -z[:, None]
        features[number] = Features(pixels.astype(np.float32), np.zeros((200, 1), np.float32), np.arange(200))
    none = np.zeros((200, 3), np.int64)
    matches = {}
    for a, b in [(a, b) for a in at for b in at if a < b]:
        known = (a <= 3) == (b <= 3)
        matches[a, b] = Matches(every[:30] if known else rng.integers(0, 200, (40, 2)), none)
    assert linked(features, matches, at, FOCAL, MIDDLE) == [[1, 2, 3], [4, 5, 6]]
    matches[1, 4] = Matches(np.concatenate([every[:12], rng.integers(0, 200, (30, 2))]), none)
    assert linked(features, matches, at, FOCAL, MIDDLE) == [[1, 2, 3, 4, 5, 6]]
    wrong = at | {6: at[6] @ np.diag([-1.0, 1.0, -1.0, 1.0])}
    assert linked(features, matches, wrong, FOCAL, MIDDLE) == [[1, 2, 3, 4, 5], [6]]


def test_groups_that_do_not_stand_are_joined_by_the_turns_of_single_pairs():
    at = standing((0, 35, 75, 60, 100, 130), tilted=25.0)
    flip = np.diag([1.0, -1.0, -1.0])
    right = flip @ at[5][:3, :3] @ at[2][:3, :3].T @ flip
    wrong = Rotation.from_euler("y", 50, degrees=True).as_matrix() @ right
    views = {(2, 5): TwoView(np.zeros((30, 2), np.int64), (wrong, right), 40)}
    found = candidates(True, at, pairs=views)
    assert len(found) == 2
    errors = [pose_errors(start, at) for start in found]
    assert max(errors[0].rotations.values()) < 1e-3 < 10.0 < max(errors[1].rotations.values())
    assert max(errors[0].translations.values()) < 0.3
