"""Poses of equal objects from what their features and masks say."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy.spatial import cKDTree
from scipy.spatial.transform import Rotation

from stspbr.metrics.poses import pose_errors
from stspbr.photos.instance_bundle import FocalPrior, _System, adjusted
from stspbr.photos.instance_features import Features, Matches, match
from stspbr.photos.instance_mapping import map_copies
from stspbr.photos.instance_models import Arrangement, Scene, differing, printed, settled
from stspbr.photos.instance_motions import FreeMotions, Observations, PlaneMotions, bundle_of, poses_of
from stspbr.photos.instance_pairs import TwoView, consistent, false_alarms, photo_camera, two_view
from stspbr.photos.instance_plane import on_plane, resting_plane
from stspbr.photos.instance_poses import FoundPoses, _adjust_rescued
from stspbr.photos.instance_search import adjusted_poses
from stspbr.photos.instance_standing import standing
from stspbr.photos.instance_static import moving_matches
from stspbr.photos.instance_tracks import refined_poses
from stspbr.photos.instances import Instance, find_copies
from stspbr.photos.silhouette_check import ENOUGH, Silhouettes, verified
from stspbr.photos.structure_from_motion import quiet

pycolmap = pytest.importorskip("pycolmap")
SIZE, FOCAL = (1500, 1200), 1900.0


def surface(count: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Points and outward normals of an ellipsoid with half axes 0.6, 1.0 and 0.45."""
    axes = np.array([0.6, 1.0, 0.45])
    directions = rng.normal(size=(count, 3))
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    normals = directions / axes
    return directions * axes, normals / np.linalg.norm(normals, axis=1, keepdims=True)


def poses(count: int, rng: np.random.Generator, step: float = 20.0) -> dict[int, np.ndarray]:
    """``camera_from_object`` of copies in a row of rows, each turned by about ``step`` degrees from the one before."""
    out = {}
    turn = Rotation.from_euler("x", 35, degrees=True)
    for number in range(1, count + 1):
        turn = turn * Rotation.from_rotvec(np.radians(step) * _unit(rng.normal(size=3) * (0.4, 1.0, 0.4)))
        pose = np.eye(4)
        pose[:3, :3] = turn.as_matrix()
        row, column = divmod(number - 1, 3)
        pose[:3, 3] = [(column - 1.0) * 1.9 + 0.2 * row, 1.2 - 1.4 * row, -9.0 + 0.8 * row]
        out[number] = pose
    return out


def features(
    at: dict[int, np.ndarray], rng: np.random.Generator, points: int = 700, noise: float = 0.3, shown: float = 0.6
) -> dict[int, Features]:
    """Key points where the surface faces the camera; a point has nearly the same descriptor in every copy.

    Args:
        noise: standard deviation in pixels; shown: share of the visible points that is found.
    """
    places, normals = surface(points, rng)
    own = rng.normal(size=(points, 128)).astype(np.float32)
    out = {}
    for number, pose in at.items():
        local = places @ pose[:3, :3].T + pose[:3, 3]
        facing = -((normals @ pose[:3, :3].T) * local).sum(axis=1) / np.linalg.norm(local, axis=1)
        seen = (facing > 0.25) & (rng.random(points) < shown)
        pixels = project(local[seen]) + rng.normal(size=(int(seen.sum()), 2)) * noise
        descriptors = own[seen] + 0.25 * rng.normal(size=(int(seen.sum()), 128)).astype(np.float32)
        descriptors /= np.linalg.norm(descriptors, axis=1, keepdims=True)
        out[number] = Features(pixels.astype(np.float32), descriptors.astype(np.float32), np.arange(int(seen.sum())))
    return out


def labels(at: dict[int, np.ndarray], rng: np.random.Generator) -> np.ndarray:
    """``[H, W]`` int32: the copies' outlines, those nearer to the camera in front."""
    import cv2

    places, _ = surface(4000, rng)
    out = np.zeros(SIZE[::-1], np.int32)
    for number in sorted(at, key=lambda k: at[k][2, 3]):
        pixels = project(places @ at[number][:3, :3].T + at[number][:3, 3])
        cv2.fillConvexPoly(out, cv2.convexHull(np.rint(pixels).astype(np.int32)), number)
    return out


def project(local: np.ndarray) -> np.ndarray:
    """Pixels ``[P, 2]`` of points in the camera's OpenGL axes."""
    x, y, depth = local[:, 0], local[:, 1], -local[:, 2]
    return np.stack([0.5 * SIZE[0] + FOCAL * x / depth, 0.5 * SIZE[1] - FOCAL * y / depth], axis=1)


def _unit(vector: np.ndarray) -> np.ndarray:
    return vector / np.linalg.norm(vector)


@pytest.fixture(scope="module")
def pile():
    rng = np.random.default_rng(3)
    true = poses(6, rng)
    return true, features(true, rng), labels(true, rng)


@pytest.fixture(scope="module")
def pairs(pile):
    _, found, _ = pile
    camera, areas = photo_camera(pycolmap, FOCAL, SIZE), (90_000, 90_000)
    out = {}
    for a in found:
        for b in found:
            if a < b:
                view = two_view(pycolmap, camera, found[a], found[b], match(found[a], found[b]), areas)
                if view is not None:
                    out[a, b] = view
    return out


def test_matches_are_those_of_the_same_point(pile):
    true, found, _ = pile
    pairs = match(found[1], found[2]).pairs
    assert len(pairs) > 60
    likeness = (found[1].descriptors[pairs[:, 0]] * found[2].descriptors[pairs[:, 1]]).sum(axis=1)
    assert (likeness > 0.8).mean() > 0.97


def test_mapping_and_adjustment_find_the_poses_and_the_focal_length(pile, pairs):
    true, found, _ = pile
    assert len(pairs) >= 5
    with quiet(pycolmap):
        models = map_copies(pycolmap, found, pairs, FOCAL, SIZE)
    mapped = pose_errors(models[0].poses, true).rotations
    assert set(mapped) == set(true) and max(mapped.values()) < 1.0
    matches = {(a, b): match(found[a], found[b]) for a in found for b in found if a < b}
    refined = refined_poses(found, matches, pairs, models[0].poses, FOCAL, SIZE)
    errors = pose_errors(refined.poses, true)
    assert max(errors.rotations.values()) < 0.3 and max(errors.translations.values()) < 0.02
    assert all(0 < degrees < 0.3 for degrees, _ in refined.deviations.values())
    free = refined_poses(found, matches, pairs, models[0].poses, 1.03 * FOCAL, SIZE, free_focal=True)
    assert abs(free.focal / FOCAL - 1) < 0.02 and 0 < free.focal_deviation < 0.02 * FOCAL
    held = refined_poses(
        found, matches, pairs, models[0].poses, FOCAL, SIZE, free_focal=True, prior=FocalPrior(FOCAL, 1e-4)
    )
    assert abs(held.focal / FOCAL - 1) < 1e-3


def test_wrong_matches_do_not_bend_the_adjustment(pile):
    true, found, _ = pile
    rng = np.random.default_rng(5)
    places, _ = surface(200, rng)
    names = list(true)
    copy, point = (part.ravel() for part in np.meshgrid(np.arange(len(names)), np.arange(200)))
    some = rng.random(len(copy)) < 0.6
    copy, point = copy[some], point[some]
    exact = bundle_of(true, places, FOCAL, SIZE)
    clean = exact.residuals(Observations(copy, point, np.zeros((len(copy), 2)))) + 0.2 * rng.normal(size=(len(copy), 2))
    bent = clean.copy()
    wrong = rng.random(len(copy)) < 0.1
    bent[wrong] += rng.uniform(-30, 30, (int(wrong.sum()), 2))
    start = bundle_of(_shaken(true, rng, 2.0, 0.1), places + 0.03 * rng.normal(size=places.shape), FOCAL, SIZE)
    errors = {}
    for scale in (1.0, 1e6):  # the second kernel is least squares
        out = adjusted(start, Observations(copy, point, bent), scale)
        errors[scale] = max(pose_errors(poses_of(out.bundle, names), true).rotations.values())
    assert errors[1.0] < 0.1 and errors[1e6] > 5 * errors[1.0]


def test_gradient_and_hessian_of_the_adjustment_are_those_of_the_cost(pile):
    """The reduced system's step is that of the whole one, built by finite differences."""
    true, _, _ = pile
    rng = np.random.default_rng(7)
    few = {k: true[k] for k in (1, 2, 3)}
    places, _ = surface(12, rng)
    copy, point = (part.ravel() for part in np.meshgrid(np.arange(3), np.arange(12)))
    seen = Observations(copy, point, np.zeros((36, 2)))
    pixels = bundle_of(few, places, FOCAL, SIZE).residuals(seen) + rng.normal(size=(36, 2))
    seen = Observations(copy, point, pixels)
    bundle = bundle_of(few, places, 1.01 * FOCAL, SIZE)
    for motions in (FreeMotions(), PlaneMotions(np.array([0.0, -0.8, -0.6]))):
        count = motions.basis(bundle).shape[1]
        system = _System(bundle, seen, 1e6, motions, True, None)

        def residuals(numbers, motions=motions, count=count):
            moved, _ = motions.moved(bundle, numbers[:count])
            moved = replace(
                moved, focal=bundle.focal + numbers[count], points=bundle.points + numbers[count + 1 :].reshape(-1, 3)
            )
            return moved.residuals(seen).ravel()

        size, step = count + 1 + 36, 1e-6
        slopes = np.stack(
            [(residuals(step * axis) - residuals(-step * axis)) / (2 * step) for axis in np.eye(size)], axis=1
        )
        left, right = slopes.T @ slopes, slopes.T @ residuals(np.zeros(size))
        own, across = left[count + 1 :, count + 1 :], left[: count + 1, count + 1 :]
        solved = np.linalg.solve(own, np.column_stack([across.T, right[count + 1 :]]))
        reduced, rest = (
            left[: count + 1, : count + 1] - across @ solved[:, :-1],
            right[: count + 1] - across @ solved[:, -1],
        )
        got, got_right, _ = system.reduced(0.0)
        assert np.allclose(got, reduced, rtol=1e-4, atol=1e-4 * np.abs(left).max() * 1e-3)
        assert np.allclose(got_right, rest, rtol=1e-4, atol=1e-6 * np.abs(right).max())


def test_on_a_plane_the_adjustment_stays_on_it_and_knows_more():
    rng = np.random.default_rng(2)
    tilt = Rotation.from_euler("x", 40, degrees=True)
    at = {}
    for number in range(1, 7):
        pose = np.eye(4)
        pose[:3, :3] = (tilt * Rotation.from_euler("y", 25 * number, degrees=True)).as_matrix()
        pose[:3, 3] = tilt.apply([rng.uniform(-2, 2), 0.0, rng.uniform(-2, 2)]) + (0, 0, -10)
        at[number] = pose
    places, _ = surface(150, rng)
    copy, point = (part.ravel() for part in np.meshgrid(np.arange(6), np.arange(150)))
    some = rng.random(len(copy)) < 0.4
    seen = Observations(copy[some], point[some], np.zeros((int(some.sum()), 2)))
    pixels = bundle_of(at, places, FOCAL, SIZE).residuals(seen) + 0.5 * rng.normal(size=(len(seen.copy), 2))
    seen = Observations(seen.copy, seen.point, pixels)
    start = {k: pose.copy() for k, pose in at.items()}
    for pose in start.values():
        pose[:3, :3] = Rotation.from_rotvec(0.02 * rng.normal(size=3)).as_matrix() @ pose[:3, :3]
    flat = on_plane(start, resting_plane(start), np.zeros(3))
    up = resting_plane(flat).up * (1.0, -1.0, -1.0)
    free, plane = (
        adjusted(bundle_of(flat, places, FOCAL, SIZE), seen, 1.0, motions) for motions in (None, PlaneMotions(up))
    )
    poses_on = poses_of(plane.bundle, list(at))
    assert resting_plane(poses_on).spread < 1e-4
    assert np.ptp([pose[:3, 3] @ resting_plane(poses_on).up for pose in poses_on.values()]) < 1e-6
    errors = [np.mean(list(pose_errors(poses_of(a.bundle, list(at)), at).rotations.values())) for a in (free, plane)]
    assert errors[1] < errors[0] and plane.deviations.mean() < free.deviations.mean()


def upright(rng, count=6):
    """Copies on a plane under a camera that looks down by 38 degrees, each turned by about 30 degrees from the last."""
    tilt = Rotation.from_euler("x", 38, degrees=True)
    out = {}
    for number in range(1, count + 1):
        row, column = divmod(number - 1, 3)
        pose = np.eye(4)
        pose[:3, :3] = (tilt * Rotation.from_euler("y", 30 * number + rng.uniform(-5, 5), degrees=True)).as_matrix()
        pose[:3, 3] = tilt.apply([(column - 1.0) * 1.9 + 0.3 * row, -0.4, 1.6 - 2.2 * row]) + (0.0, 0.3, -9.0)
        out[number] = pose
    return out


def test_copies_that_stand_are_found_without_any_pair_of_their_own():
    rng = np.random.default_rng(4)
    true = upright(rng)
    found = features(true, rng, noise=0.5, shown=0.35)
    matches = {(a, b): match(found[a], found[b]) for a in found for b in found if a < b}
    areas, copies = find_copies(labels(true, rng))
    poses_up = standing(found, matches, copies, FOCAL, SIZE)
    assert poses_up
    start, up = poses_up[0]
    assert set(start) == set(true) and max(pose_errors(start, true).rotations.values()) < 12.0
    assert up @ Rotation.from_euler("x", 38, degrees=True).apply([0, 1, 0]) > 0.99
    scene = Scene(pycolmap, np.zeros(areas.shape), areas, copies, Silhouettes(areas, copies), SIZE, 0, found, matches)
    refined = adjusted_poses(scene, {}, start, FOCAL, up=up)
    errors = pose_errors(refined.poses, true)
    assert max(errors.rotations.values()) < 0.6 and max(errors.translations.values()) < 0.05
    assert resting_plane(refined.poses).spread < 1e-3


def test_matches_that_stay_in_the_photo_are_dropped():
    """A rim looks the same from everywhere: its matches say that nothing has turned."""
    rng = np.random.default_rng(6)
    copies, found, rim = [], {}, np.column_stack([np.linspace(10, 190, 30), 12 + 8 * np.sin(np.linspace(0, 9, 30))])
    print_ = rng.uniform((20, 60), (180, 260), (60, 2))
    for number in range(1, 7):
        left, top = 220 * number, 50 * (number % 2)
        copies.append(Instance(number, (left, top, left + 200, top + 280), 50_000, 0.0))
        turned = print_ + (50.0 * (number - 3), 0.0)  # the print wanders around the can
        points = np.concatenate([rim + rng.normal(size=rim.shape), turned]) + (left, top)
        found[number] = Features(points.astype(np.float32), np.zeros((90, 128), np.float32), np.arange(90))
    every = np.stack([np.arange(90)] * 2, axis=1)
    matches = {(a, b): Matches(every, np.zeros((90, 3), np.int64)) for a in found for b in found if a < b}
    kept = moving_matches(found, matches, copies)
    for pairs in kept.values():
        assert (pairs.pairs[:, 0] < 30).sum() <= 3 and (pairs.pairs[:, 0] >= 30).sum() >= 57
    # of two copies alone nothing can be said
    alone = moving_matches(found, {(1, 2): matches[1, 2]}, copies)
    assert len(alone[1, 2].pairs) == 90


def _shaken(at, rng, degrees, length):
    out = {}
    for number, pose in at.items():
        out[number] = pose.copy()
        turn = Rotation.from_rotvec(np.radians(degrees) * rng.normal(size=3)).as_matrix()
        out[number][:3, :3] = turn @ pose[:3, :3]
        out[number][:3, 3] += length * rng.normal(size=3)
    return out


def test_matches_by_chance_are_no_pair():
    """With five points fixed and thousands of motions tried, some fit many of any matches."""
    assert false_alarms(60, 15, 90_000) > 1e-3 > false_alarms(60, 25, 90_000)
    assert false_alarms(200, 25, 90_000) > 1e-3 > false_alarms(200, 60, 90_000)
    camera = photo_camera(pycolmap, FOCAL, SIZE)
    for seed in range(3):
        rng = np.random.default_rng(seed)
        unit = rng.normal(size=(2, 300, 128)).astype(np.float32)
        unit /= np.linalg.norm(unit, axis=-1, keepdims=True)
        first, second = (
            Features(rng.uniform(low, low + 300, (300, 2)).astype(np.float32), own, np.arange(300))
            for low, own in zip((200, 700), unit, strict=True)
        )
        pairs = np.stack([rng.permutation(300)[:60], rng.permutation(300)[:60]], axis=1)
        by_chance = Matches(pairs, rng.integers(0, 300, (300, 3)))
        assert two_view(pycolmap, camera, first, second, by_chance, (90_000, 90_000), seed) is None


def test_print_must_speak_for_an_arrangement():
    good = Arrangement(FOCAL, {}, [], {}, scores={k: (0.9, 0.4, 0.2) for k in range(4)})
    assert printed(good)
    for wrong in ((0.6, 0.17, 0.15), (0.9, 0.3, 0.28), (0.5, 0.4, 0.2)):
        good.scores = dict.fromkeys(range(4), wrong)
        assert not printed(good)


def test_copies_in_which_two_arrangements_differ(pile):
    true, _, _ = pile
    turned = Rotation.from_euler("zyx", [50, 20, -70], degrees=True).as_matrix()
    other = {k: pose.copy() for k, pose in true.items()}
    for pose in other.values():  # the object's own axes are free
        pose[:3, :3] = pose[:3, :3] @ turned
    assert differing(true, other) == []
    other[4][:3, :3] = Rotation.from_euler("y", 30, degrees=True).as_matrix() @ other[4][:3, :3]
    assert differing(true, other) == [4]
    other[5][:3, :3] = Rotation.from_euler("x", 30, degrees=True).as_matrix() @ other[5][:3, :3]
    assert differing(true, other) == [4, 5]


def test_where_two_arrangements_are_as_good_no_pose_is_kept(pile, monkeypatch):
    """A wrong pose that looks right is worse than none."""
    from stspbr.photos import instance_models

    true, _, areas = pile
    silhouettes = Silhouettes(*find_copies(areas))
    monkeypatch.setattr(instance_models, "_leave_one_out", lambda *_: None)  # there is no print

    def arranged(poses):
        out = Arrangement(FOCAL, {}, [], {}, poses=poses)
        out.coherence = silhouettes.check(poses, FOCAL)
        return out

    other = {k: pose.copy() for k, pose in true.items()}
    other[4][:3, :3] = other[4][:3, :3] @ Rotation.from_euler("y", 8, degrees=True).as_matrix()
    best = settled(silhouettes, [arranged(true), arranged(other)])
    assert set(best.poses) == set(true) - {4} and best.why[4].startswith("ambiguous") and best.coherence is not None
    # whoever fits clearly less is no rival
    worse = arranged(other)
    worse.poses = {k: other[k] for k in (3, 4, 5)}
    worse.coherence = silhouettes.check(worse.poses, FOCAL)
    assert set(settled(silhouettes, [arranged(true), worse]).poses) == set(true)
    # if the arrangements agree in nothing, neither stands
    for number, pose in other.items():
        pose[:3, :3] = pose[:3, :3] @ Rotation.from_euler("y", 9 * number, degrees=True).as_matrix()
    rival = arranged(true)
    rival.poses = other
    out = settled(silhouettes, [arranged(true), rival])
    assert out.poses == {} and out.coherence is None


def test_a_pair_that_contradicts_the_others_is_cut():
    rng = np.random.default_rng(0)
    turns = {k: Rotation.from_rotvec(rng.normal(size=3)).as_matrix() for k in range(4)}
    inliers = np.zeros((30, 2), np.int64)
    views = {(a, b): TwoView(inliers, (turns[b] @ turns[a].T,), 40) for a in turns for b in turns if a < b}
    assert set(consistent(views)) == set(views)
    wrong = Rotation.from_euler("y", 60, degrees=True).as_matrix()
    views[1, 3] = TwoView(np.zeros((200, 2), np.int64), (wrong @ views[1, 3].rotations[0],), 210)
    assert set(views) - set(consistent(views)) == {(1, 3)}
    # of two solutions one suffices
    views[1, 3] = TwoView(inliers, (wrong, turns[3] @ turns[1].T), 40)
    assert set(consistent(views)) == set(views)


def test_right_poses_are_coherent_and_a_wrong_one_is_dropped(pile):
    true, _, areas = pile
    silhouettes = Silhouettes(*find_copies(areas))
    found = silhouettes.check(true, FOCAL)
    assert found.worst[1] >= 0.97
    inside, points = found.inside(), surface(300, np.random.default_rng(0))[0]
    assert cKDTree(inside).query(points)[0].max() < found.cell  # all of the object is in it
    assert (found.distance > 0).mean() > 0.5
    wrong = dict(true)
    wrong[4] = true[4].copy()
    wrong[4][:3, :3] = true[4][:3, :3] @ Rotation.from_euler("z", 90, degrees=True).as_matrix()
    assert silhouettes.check(wrong, FOCAL).worst[1] < ENOUGH
    kept, coherence = verified(silhouettes, wrong, FOCAL)
    assert set(kept) == set(true) - {4} and coherence.worst[1] >= ENOUGH


def test_the_silhouette_that_is_drawn_lies_on_the_mask(pile):
    """Not a cell outside of it, and of a wrong pose apart from it."""
    true, _, areas = pile
    silhouettes = Silhouettes(*find_copies(areas))
    wrong = {**true, 4: true[4].copy()}
    wrong[4][:3, :3] = true[4][:3, :3] @ Rotation.from_euler("z", 90, degrees=True).as_matrix()
    overlaps = []
    for at in (true, wrong):
        found = silhouettes.check(at, FOCAL)
        drawn = {k: silhouettes.seen_distance(k, pose, FOCAL, found) < 0 for k, pose in at.items()}
        # pixels that another copy may cover are nobody's
        parts = {k: (part, silhouettes.mask(k), silhouettes.outline(k) > 0) for k, part in drawn.items()}
        overlaps.append([(p & m).sum() / ((p | m) & (out | m)).sum() for p, m, out in parts.values()])
    assert min(overlaps[0]) > 0.97
    assert min(overlaps[1]) < 0.9


def test_points_that_are_too_deep_stick_out_of_the_hull(pile):
    true, _, areas = pile
    silhouettes = Silhouettes(*find_copies(areas))
    found = silhouettes.check(true, FOCAL)
    points = surface(400, np.random.default_rng(0))[0]
    assert silhouettes.outside(points, found) < 0.02
    assert silhouettes.outside(found.centre + 1.2 * (points - found.centre), found) > 0.3
    assert silhouettes.outside(points[:0], found) == 0.0


def test_an_occluder_carves_nothing(pile):
    true, _, areas = pile
    covered = areas.copy()
    rows, columns = np.nonzero(areas == 5)
    covered[rows[columns < np.median(columns)], columns[columns < np.median(columns)]] = 6
    for number, least in ((-1, 0.97), (0, None)):  # unclaimed pixels carve nothing, background does
        own = np.where((covered == 6) & (areas == 5), number, areas)
        shares = Silhouettes(*find_copies(own)).check(true, FOCAL).shares
        assert (min(shares.values()) >= least) if least else (min(shares.values()) < ENOUGH)


def test_the_plane_that_upright_copies_stand_on():
    rng = np.random.default_rng(1)
    tilt, up = Rotation.from_euler("x", 40, degrees=True), None
    at = {}
    for number in range(1, 7):
        pose = np.eye(4)
        pose[:3, :3] = (tilt * Rotation.from_euler("y", rng.uniform(0, 360), degrees=True)).as_matrix()
        pose[:3, 3] = tilt.apply([rng.uniform(-3, 3), 0.0, rng.uniform(-3, 3)]) + (0, 0, -10)
        at[number] = pose
    up = tilt.apply([0, 1, 0])
    found = resting_plane(at)
    assert found is not None and found.up @ up > 0.999 and abs(found.axis[1]) > 0.999 and found.spread < 0.1
    tilted = {k: pose.copy() for k, pose in at.items()}
    for pose in tilted.values():
        pose[:3, :3] = Rotation.from_rotvec(0.02 * rng.normal(size=3)).as_matrix() @ pose[:3, :3]
        pose[:3, 3] += 0.05 * rng.normal(size=3)
    plane = resting_plane(tilted)
    assert plane is not None
    flat = on_plane(tilted, plane, np.zeros(3))
    assert max(np.abs(pose[:3, :3] @ plane.axis - plane.up).max() for pose in flat.values()) < 1e-9
    assert np.ptp([pose[:3, 3] @ plane.up for pose in flat.values()]) < 1e-9
    before, after = (np.mean(list(pose_errors(found, at).rotations.values())) for found in (tilted, flat))
    assert after < before
    at[3][:3, :3] = Rotation.from_euler("x", 25, degrees=True).as_matrix() @ at[3][:3, :3]
    assert resting_plane(at) is None


def test_a_rescued_copy_is_adjusted_with_the_others(pile, pairs):
    """Drawing finds a pose within degrees; the matches that it lets in find it within tenths, if there are some."""
    true, found, areas = pile
    segmented, copies = find_copies(areas)
    silhouettes = Silhouettes(segmented, copies)
    matches = {(a, b): match(found[a], found[b]) for a in found for b in found if a < b}
    scene = Scene(pycolmap, np.zeros(areas.shape, np.float32), segmented, copies, silhouettes, SIZE, 0, found, matches)
    drawn = {k: pose.copy() for k, pose in true.items()}
    drawn[6][:3, :3] = Rotation.from_euler("yx", [3, 2], degrees=True).as_matrix() @ true[6][:3, :3]
    for some in (False, True):
        known = pairs if some else {pair: view for pair, view in pairs.items() if 6 not in pair}
        if not some:
            none = {pair: Matches(np.zeros((0, 2), np.int64), own.candidates * 0) for pair, own in matches.items()}
            scene.matches = {pair: none[pair] if 6 in pair else own for pair, own in matches.items()}
        else:
            scene.matches = matches
        out = FoundPoses(dict(drawn), FOCAL, None, silhouettes.check(drawn, FOCAL), np.zeros((0, 3)), 0.0,
                         how={6: "rescued"})  # fmt: skip
        _adjust_rescued(scene, Arrangement(FOCAL, known, [], {}), out, False)
        errors = pose_errors(out.poses, true).rotations
        rest = pose_errors({k: p for k, p in out.poses.items() if k != 6}, true).rotations
        assert max(rest.values()) < 0.3
        assert (errors[6] < 0.5) if some else (1.5 < errors[6] < 4.5)
        assert (6 in out.deviations) == some
