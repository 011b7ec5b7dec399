"""Poses after the mapper: two photos are enough, wrong matches count little; features that fit into memory."""

from __future__ import annotations

import numpy as np
import pytest

from stspbr.photos import structure_from_motion as sfm
from stspbr.photos.colmap_database import keep_largest_features
from stspbr.photos.pose_refinement import feature_pixel, refine_poses

pycolmap = pytest.importorskip("pycolmap")


@pytest.fixture
def scene(tmp_path):
    """Seven photos of 80 points, and their matches, a tenth of them wrong, in a database: the truth, and its file."""
    pycolmap.set_random_seed(1)
    options = pycolmap.SyntheticDatasetOptions()
    options.num_rigs, options.num_frames_per_rig, options.num_points3D = 1, 7, 80
    options.track_length, options.inlier_match_ratio = 3, 0.9
    options.sensor_from_rig_translation_stddev = options.sensor_from_rig_rotation_stddev = 0.0
    path = tmp_path / "database.db"
    with pycolmap.Database.open(path) as database:
        return pycolmap.synthesize_dataset(options, database), path


def turned(truth, degrees):
    """A copy whose poses are off."""
    noise = pycolmap.SyntheticNoiseOptions()
    noise.rig_from_world_rotation_stddev = degrees
    model = pycolmap.Reconstruction(truth)
    pycolmap.synthesize_noise(noise, model)
    return model


def errors(model, truth):
    """Of the rotation from the first photo to each other, in degrees: what turns all of them alike is no error."""
    relative = []
    for found in (model, truth):
        poses = [found.images[i].cam_from_world().rotation.matrix() for i in sorted(truth.reg_image_ids())]
        relative.append(np.stack([pose @ poses[0].T for pose in poses[1:]]))
    cosine = (np.einsum("nij,nij->n", *relative) - 1) / 2
    return np.degrees(np.arccos(np.clip(cosine, -1, 1)))


def test_poses_that_are_off_come_back(scene):
    truth, path = scene
    model = turned(truth, 0.15)
    assert errors(model, truth).max() > 0.1
    with sfm.quiet(pycolmap):
        refine_poses(pycolmap, model, path, pycolmap.IncrementalPipelineOptions(num_threads=1), 4.0)
    assert model.num_reg_images() == 7
    assert errors(model, truth).max() < 0.02


def test_a_pixel_of_the_reduced_picture():
    assert feature_pixel([(4000, 3000), (3000, 4000), (800, 600)], 1600) == 2.5
    assert feature_pixel([(448, 336)], 1600) == 1.0


def test_pairs_that_are_matched_at_once_fit_into_memory():
    assert sfm.matching_threads([300, 400, 900], 8) == 8
    assert sfm.matching_threads([5000, 5000, 200], 8) == 4
    assert sfm.matching_threads([20000, 20000], 8) == 1
    assert sfm.matching_threads([], 2) == 2


def test_the_largest_features_are_kept(scene):
    _, path = scene
    rng = np.random.default_rng(0)
    with pycolmap.Database.open(path) as database:
        first, second = (image.image_id for image in database.read_all_images()[:2])
        keypoints = rng.uniform(0, 700, (database.num_keypoints_for_image(first), 6)).astype(np.float32)
        keypoints[:, 3:5] = 0.0
        database.update_keypoints(first, keypoints)
        before, other = database.read_descriptors(first).data.copy(), database.read_keypoints(second)
    keep_largest_features(pycolmap, path, len(keypoints) - 5)
    area = keypoints[:, 2] * keypoints[:, 5]
    kept = area > np.sort(area)[4]
    with pycolmap.Database.open(path) as database:
        assert np.array_equal(database.read_keypoints(first), keypoints[kept])
        assert np.array_equal(database.read_descriptors(first).data, before[kept])
        assert len(database.read_keypoints(second)) == min(len(other), len(keypoints) - 5)
