"""COLMAP's database of one set of photos: what goes in before features are sought, and what is read afterwards."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from stspbr.files import atomic_path
from stspbr.photos.photographs import Photo

_FOCAL_FACTOR = 1.2  # of the longer side, where Exif is silent: COLMAP's own guess


def picture(photo: Photo) -> str:
    """The name of a photo's upright 8-bit picture, relative to the folder of pictures."""
    return photo.name + ".png"


def photo_ids(pycolmap: Any, path: Path, photos: list[Photo]) -> dict[str, int]:
    """The images' numbers by name of the photo."""
    with pycolmap.Database.open(path) as database:
        return {photo.name: database.read_image_with_name(picture(photo)).image_id for photo in photos}


def feature_counts(pycolmap: Any, path: Path, ids: dict[str, int]) -> dict[str, int]:
    """How many features each photo has, by name."""
    with pycolmap.Database.open(path) as database:
        return {name: database.num_keypoints_for_image(number) for name, number in ids.items()}


def keep_largest_features(pycolmap: Any, path: Path, most: int) -> None:
    """Leave out the smallest features of photos that have more than ``most``; the order of the others stays."""
    with pycolmap.Database.open(path) as database:
        ids = [image.image_id for image in database.read_all_images()]
        if all(database.num_keypoints_for_image(number) <= most for number in ids):
            return
        kept = {}
        for number in ids:
            keypoints, descriptors = database.read_keypoints(number), database.read_descriptors(number)
            if len(keypoints) > most:
                area = np.abs(keypoints[:, 2] * keypoints[:, 5] - keypoints[:, 3] * keypoints[:, 4])
                largest = np.sort(np.argsort(-area, kind="stable")[:most])
                keypoints, descriptors.data = keypoints[largest], descriptors.data[largest]
            kept[number] = keypoints, descriptors
        database.clear_keypoints()  # if this is interrupted, features are sought again
        database.clear_descriptors()
        for number, (keypoints, descriptors) in kept.items():
            database.write_keypoints(number, keypoints)
            database.write_descriptors(number, descriptors)


def verified_matches(pycolmap: Any, path: Path, ids: dict[str, int]) -> dict[tuple[str, str], int]:
    """The number of verified matches by pair of names."""
    names = {number: name for name, number in ids.items()}
    with pycolmap.Database.open(path) as database:
        pair_ids, counts = database.read_two_view_geometry_num_inliers()
    found = {}
    for pair_id, count in zip(pair_ids, counts, strict=True):
        first, second = pycolmap.pair_id_to_image_pair(pair_id)
        found[names[first], names[second]] = int(count)
    return found


def write_photos(pycolmap: Any, path: Path, photos: list[Photo], model: str, shared: bool) -> None:
    """Make a database: cameras and images in the order of the photos, so that numbers do not depend on threads."""
    with atomic_path(path) as temporary, pycolmap.Database.open(temporary) as database:
        for group in camera_groups(photos, shared):
            exif = group[0].exif
            focals = [photo.exif.focal for photo in group if photo.exif.focal]
            focal = float(np.median(focals)) if focals else _FOCAL_FACTOR * max(exif.width, exif.height)
            camera = pycolmap.Camera.create_from_model_name(0, model, focal, exif.width, exif.height)
            camera.has_prior_focal_length = bool(focals)
            camera.camera_id = database.write_camera(camera)
            rig = pycolmap.Rig()
            rig.add_ref_sensor(camera.sensor_id)
            rig_id = database.write_rig(rig)
            for photo in group:
                image = pycolmap.Image(name=picture(photo), camera_id=camera.camera_id)
                image.image_id = database.write_image(image)
                frame = pycolmap.Frame()
                frame.rig_id = rig_id
                frame.add_data_id(image.data_id)
                database.write_frame(frame)


def camera_groups(photos: list[Photo], shared: bool) -> list[list[Photo]]:
    """Photos that one camera with one zoom took; focal lengths within 2 % are one."""
    groups: dict[Any, list[Photo]] = {}
    for number, photo in enumerate(photos):
        exif = photo.exif
        zoom = None if exif.focal is None else round(np.log(exif.focal) / 0.02)
        groups.setdefault((exif.width, exif.height, exif.camera, zoom) if shared else number, []).append(photo)
    return list(groups.values())
