"""Poses by drawing: found where print or outline tell, refused where they do not."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy.spatial import cKDTree
from scipy.spatial.transform import Rotation

from stspbr.photos.instance_proxy import Picture, Proxy, correlation
from stspbr.photos.instance_rescue import all_rotations, find_pose, mirror_fits, plane_rotations, proven
from stspbr.photos.instance_symmetry import symmetry_of
from stspbr.scene.camera import Camera

CAMERA = Camera(np.eye(4), 300.0, 300.0, 48.0, 48.0, 96, 96)


def surface(axes, printed: bool, seed: int = 0) -> Proxy:
    """An ellipsoid of the half axes, with patches of print or plain."""
    count = 6000
    k = np.arange(count) + 0.5
    polar, around = np.arccos(1 - 2 * k / count), np.pi * (1 + 5**0.5) * k
    ball = np.stack([np.sin(polar) * np.cos(around), np.cos(polar), np.sin(polar) * np.sin(around)], axis=1)
    rng = np.random.default_rng(seed)
    waves = np.sin(ball @ rng.normal(size=(3, 12)) * 5.0 + rng.uniform(0, 6, 12)).sum(axis=1)
    values = 0.5 + 0.08 * waves if printed else np.full(count, 0.5)
    normals = ball / axes
    normals /= np.linalg.norm(normals, axis=1, keepdims=True)
    f32 = np.float32
    return Proxy((ball * axes).astype(f32), normals.astype(f32), values.astype(f32), 0.05, np.zeros(3))


def seen_at(proxy: Proxy, pose: np.ndarray) -> Picture:
    depth, values = proxy.drawn(CAMERA, pose)
    mask = np.isfinite(depth)
    known = np.ones_like(mask)
    return Picture(1, CAMERA, mask, known, np.where(mask, np.nan_to_num(values, nan=0.5), 0.5).astype(np.float32), mask)


def pose_of(turn: Rotation) -> np.ndarray:
    pose = np.eye(4)
    pose[:3, :3], pose[:3, 3] = turn.as_matrix(), (0.1, -0.05, -9.0)
    return pose


def miss(found: np.ndarray, true: np.ndarray) -> float:
    return float(
        np.degrees((Rotation.from_matrix(found[:3, :3]) * Rotation.from_matrix(true[:3, :3]).inv()).magnitude())
    )


def test_the_grid_covers_all_rotations():
    rng = np.random.default_rng(0)
    grid = Rotation.from_matrix(all_rotations())
    assert len(grid) == 4608
    for turn in Rotation.random(20, random_state=rng):
        assert np.degrees((grid * turn.inv()).magnitude().min()) < 15.0


def test_print_tells_how_a_can_like_shape_is_turned():
    proxy, tilt = surface((0.7, 1.0, 0.7), True), Rotation.from_euler("x", 35, degrees=True)
    true = pose_of(tilt * Rotation.from_euler("y", 133, degrees=True))
    up = tilt.apply([0.0, 1.0, 0.0])
    answer = find_pose(proxy, seen_at(proxy, true), plane_rotations(tilt.as_matrix(), up), 8.0, up)
    assert answer is not None and answer.sure and miss(answer.pose, true) < 3.0
    assert np.linalg.norm(answer.pose[:3, 3] - true[:3, 3]) < 0.15


def test_an_outline_tells_where_the_shape_has_sides():
    proxy = surface((0.4, 1.0, 0.7), False)
    true = pose_of(Rotation.from_euler("zx", [40, 25], degrees=True))
    near = [Rotation.from_euler("z", a, degrees=True).as_matrix() @ true[:3, :3] for a in range(5, 365, 15)]
    answer = find_pose(proxy, seen_at(proxy, true), np.array(near), 8.0)
    assert answer is not None and answer.score.overlap > 0.93
    turned = true[:3, :3].T @ answer.pose[:3, :3]
    # an ellipsoid is the same after half a turn about any of its axes, and nothing tells the two apart
    assert np.degrees(np.arccos(np.abs(np.diag(turned)).clip(max=1.0))).max() < 12.0
    assert not answer.sure and "ambiguous" in answer.doubt


def test_a_plain_symmetric_shape_is_ambiguous():
    proxy, tilt = surface((0.7, 1.0, 0.7), False), Rotation.from_euler("x", 35, degrees=True)
    up = tilt.apply([0.0, 1.0, 0.0])
    answer = find_pose(proxy, seen_at(proxy, pose_of(tilt)), plane_rotations(tilt.as_matrix(), up), 9.0, up)
    assert answer is not None and not answer.sure


def test_another_shape_fits_in_no_pose():
    proxy, other = surface((0.25, 1.0, 0.25), True), surface((0.9, 0.9, 0.9), True, seed=5)
    answer = find_pose(proxy, seen_at(other, pose_of(Rotation.identity())), all_rotations()[::97], 9.0)
    assert answer is None or (not answer.sure and "same object" in answer.doubt)


@pytest.mark.parametrize("copies", [4, 8])
def test_print_refutes_a_pose_that_is_turned_about_the_axis(copies):
    proxy = surface((0.7, 1.0, 0.7), True)
    true = pose_of(Rotation.from_euler("xy", [35, 20], degrees=True))
    picture = seen_at(proxy, true)
    assert not proven(proxy, picture, true).refuted(copies)
    wrong = true.copy()
    wrong[:3, :3] = true[:3, :3] @ Rotation.from_euler("y", 40, degrees=True).as_matrix()
    assert proven(proxy, picture, wrong).refuted(copies)


def test_correlation_says_nothing_of_too_little():
    noise = np.random.default_rng(0).normal(size=(2, 500))
    assert correlation(noise[0], 3 * noise[0] + 1) == pytest.approx(1.0) and abs(correlation(*noise)) < 0.2
    assert correlation(noise[0, :20], noise[0, :20]) == 0.0 and correlation(np.full(500, 0.5), noise[0]) == 0.0


@pytest.mark.parametrize("printed", [True, False])
def test_a_mirror_image_is_another_object(printed):
    """A left shoe among right ones: its outline nearly fits, and that of a mirrored right shoe fits."""
    proxy = surface((0.4, 1.0, 0.7), printed)
    if not printed:  # an ellipsoid is its own mirror image: bend it
        points = proxy.points.copy()
        points[:, 0] += 0.5 * points[:, 1] * points[:, 2] + 0.3 * points[:, 1] ** 2
        proxy = replace(proxy, points=points)
    flip = np.array([-1.0, 1.0, 1.0], np.float32)
    mirrored = replace(proxy, points=proxy.points * flip, normals=proxy.normals * flip)
    tilt = Rotation.from_euler("x", 35, degrees=True)
    up = tilt.apply([0.0, 1.0, 0.0])
    rotations = plane_rotations(tilt.as_matrix(), up)
    true = pose_of(tilt * Rotation.from_euler("y", 40, degrees=True))
    for other, expected in ((proxy, False), (mirrored, True)):
        picture = seen_at(other, true)
        answer = find_pose(proxy, picture, rotations, 9.0, up)
        assert mirror_fits(proxy, picture, answer, rotations, 9.0, up) is expected


def seen_by_all(proxy, count=4):
    poses = {k: pose_of(Rotation.from_euler("xyz", [35, 53 * k, 10 * k], degrees=True)) for k in range(count)}
    return dict.fromkeys(poses, proxy), {k: seen_at(proxy, pose) for k, pose in poses.items()}, poses


def test_symmetry_of_shape_and_print():
    plain = symmetry_of(*seen_by_all(surface((0.6, 1.0, 0.6), False)))
    assert plain is not None and plain.name == "axial" and abs(plain.axis[1]) > 0.99
    printed = surface((0.6, 1.0, 0.6), True)
    assert symmetry_of(*seen_by_all(printed)) is None
    forced = symmetry_of(*seen_by_all(printed), axial=True)
    assert forced is not None and forced.fold == 0 and abs(forced.axis[1]) > 0.99
    # a print that comes twice
    half = Rotation.from_euler("y", 180, degrees=True)
    _, other = cKDTree(printed.points).query(half.apply(printed.points))
    twice = replace(printed, values=0.5 * (printed.values + printed.values[other]))
    found = symmetry_of(*seen_by_all(twice))
    assert found is not None and found.name == "2-fold" and abs(found.axis[1]) > 0.99
    turn = Rotation.from_euler("xy", [20, 70], degrees=True)
    assert found.same(turn.as_matrix(), (turn * half).as_matrix())
    assert not found.same(turn.as_matrix(), (turn * Rotation.from_euler("y", 90, degrees=True)).as_matrix())


def test_turns_that_symmetry_leaves_open_are_no_doubt():
    proxy, tilt = surface((0.7, 1.0, 0.7), False), Rotation.from_euler("x", 35, degrees=True)
    symmetry = symmetry_of(*seen_by_all(proxy))
    up = tilt.apply([0.0, 1.0, 0.0])
    rotations = plane_rotations(tilt.as_matrix(), up)
    picture = seen_at(proxy, pose_of(tilt * Rotation.from_euler("y", 77, degrees=True)))
    answer = find_pose(proxy, picture, rotations, 9.0, up, symmetry)
    assert answer is not None and answer.sure
    standard = symmetry.standard(answer.pose)
    assert np.allclose(standard[:3, :3] @ symmetry.axis, answer.pose[:3, :3] @ symmetry.axis)
    assert Rotation.from_matrix(standard[:3, :3]).magnitude() < Rotation.from_matrix(answer.pose[:3, :3]).magnitude()
    assert proxy.score(picture, standard).overlap > 0.9
