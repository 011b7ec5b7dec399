"""Poses of the copies from the pairs that fit, by COLMAP's incremental mapping (Schönberger and Frahm, CVPR 2016).

Every copy is an image of the whole photo; all have one camera, whose focal length is fixed while mapping.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from stspbr.metrics.poses import rotation_angle
from stspbr.photos.instance_features import Features
from stspbr.photos.instance_pairs import Pair, TwoView, photo_camera

_OPENGL = np.diag([1.0, -1.0, -1.0, 1.0])
_SEEDS, _STARTS = 3, 2
_SAME = 2.0  # degrees: models whose relative rotations differ by less are one


@dataclass(frozen=True)
class Model:
    """Poses that hold together by their features.

    Attributes:
        poses: ``camera_from_object`` ``[4, 4]`` float64 rigid, OpenGL axes, by number of the copy; the scale is free.
        points: ``[P, 3]`` in object space.
        error: mean reprojection error in pixels of the photo.
        observations: by copy, how many of the points it shows.
    """

    poses: dict[int, np.ndarray]
    points: np.ndarray
    error: float
    observations: dict[int, int]


def map_copies(
    pycolmap: Any,
    features: Mapping[int, Features],
    pairs: Mapping[Pair, TwoView],
    focal: float,
    size: tuple[int, int],
    seed: int = 0,
) -> list[Model]:
    """All models that some seed and some first pair lead to, each once, those with more copies first."""
    if not pairs:
        return []
    models: list[Model] = []
    with tempfile.TemporaryDirectory(prefix="stspbr-duplicates-") as place:
        database = Path(place) / "database.db"
        ids = _write(pycolmap, database, features, pairs, focal, size)
        starts = sorted(pairs, key=lambda pair: -len(pairs[pair].inliers))[:_STARTS]
        for number in range(_SEEDS):
            for start in [None, *starts] if number == 0 else [None]:
                out = Path(place) / f"models{len(models)}-{number}-{start}"
                out.mkdir()
                options = _options(pycolmap, seed + number)
                if start is not None:
                    options.init_image_id1, options.init_image_id2 = (ids[k] for k in start)
                found = pycolmap.incremental_mapping(database, place, out, options=options)
                for one in found.values():
                    _add(models, _model(one))
    return sorted(models, key=lambda model: (-len(model.poses), model.error))


def _write(
    pycolmap: Any,
    path: Path,
    features: Mapping[int, Features],
    pairs: Mapping[Pair, TwoView],
    focal: float,
    size: tuple[int, int],
) -> dict[int, int]:
    """The database; the images' numbers by copy."""
    camera = photo_camera(pycolmap, focal, size)
    ids = {}
    with pycolmap.Database.open(path) as database:
        camera.camera_id = database.write_camera(camera)
        rig = pycolmap.Rig()
        rig.add_ref_sensor(camera.sensor_id)
        rig_id = database.write_rig(rig)
        for number, own in features.items():
            image = pycolmap.Image(name=str(number), camera_id=camera.camera_id)
            image.image_id = ids[number] = database.write_image(image)
            frame = pycolmap.Frame()
            frame.rig_id = rig_id
            frame.add_data_id(image.data_id)
            database.write_frame(frame)
            database.write_keypoints(image.image_id, np.ascontiguousarray(own.points, np.float32))
        for (first, second), pair in pairs.items():
            matches = np.ascontiguousarray(pair.inliers, np.uint32)
            database.write_matches(ids[first], ids[second], matches)
            geometry = pycolmap.estimate_calibrated_two_view_geometry(
                camera, features[first].points.astype(np.float64), camera, features[second].points.astype(np.float64),
                matches, _two_view_options(pycolmap),
            )  # fmt: skip
            database.write_two_view_geometry(ids[first], ids[second], geometry)
    return ids


def _two_view_options(pycolmap: Any) -> Any:
    options = pycolmap.TwoViewGeometryOptions()
    options.ransac.max_error, options.ransac.random_seed = 2.0, 0  # the matches are inliers already
    options.compute_relative_pose, options.min_num_inliers = True, 10
    return options


def _options(pycolmap: Any, seed: int) -> Any:
    """Thresholds for copies: few points each, few images."""
    options = pycolmap.IncrementalPipelineOptions()
    options.min_model_size, options.num_threads, options.random_seed = 3, 1, seed
    options.extract_colors, options.multiple_models, options.min_num_matches = False, True, 10
    options.ba_refine_focal_length = options.ba_refine_extra_params = options.ba_refine_principal_point = False
    mapper = options.mapper
    mapper.init_min_num_inliers, mapper.init_min_tri_angle, mapper.init_max_error = 25, 6.0, 3.0
    mapper.abs_pose_min_num_inliers, mapper.abs_pose_max_error, mapper.abs_pose_min_inlier_ratio = 14, 3.0, 0.25
    mapper.abs_pose_refine_focal_length = mapper.abs_pose_refine_extra_params = False
    mapper.filter_max_reproj_error = 3.0
    return options


def _model(found: Any) -> Model:
    poses, seen = {}, {}
    for image_id in found.reg_image_ids():
        image = found.images[image_id]
        matrix = np.eye(4)
        matrix[:3] = image.cam_from_world().matrix()
        poses[int(image.name)] = _OPENGL @ matrix
        seen[int(image.name)] = sum(point.has_point3D() for point in image.points2D)
    points = np.array([found.points3D[k].xyz for k in sorted(found.points3D)], np.float64).reshape(-1, 3)
    return Model(dict(sorted(poses.items())), points, float(found.compute_mean_reprojection_error()), seen)


def _add(models: list[Model], model: Model) -> None:
    if not any(_alike(model, other) for other in models):
        models.append(model)


def _alike(first: Model, second: Model) -> bool:
    if set(first.poses) != set(second.poses):
        return False
    names: Sequence[int] = list(first.poses)
    turns = [
        first.poses[k][:3, :3] @ first.poses[names[0]][:3, :3].T
        @ (second.poses[k][:3, :3] @ second.poses[names[0]][:3, :3].T).T
        for k in names
    ]  # fmt: skip
    return max(rotation_angle(turn) for turn in turns) < _SAME
