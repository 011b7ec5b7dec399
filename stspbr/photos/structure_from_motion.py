"""Poses of photographs by COLMAP's features, matching and incremental mapping, on the CPU and from a seed.

Schönberger and Frahm, *Structure-from-Motion Revisited*, CVPR 2016. Matching is guided by the epipolar geometry
found at first, which doubles the matches of views that are far apart.
"""

from __future__ import annotations

import contextlib
import shutil
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from stspbr.datasets.lens import lens, parameter_names, pycolmap_for
from stspbr.datasets.world_axes import camera_to_world_from_opencv
from stspbr.errors import StspbrError
from stspbr.files import atomic_path
from stspbr.photos.colmap_database import (
    feature_counts,
    keep_largest_features,
    photo_ids,
    picture,
    verified_matches,
    write_photos,
)
from stspbr.photos.image_pairs import nearest_pairs
from stspbr.photos.photographs import Photo
from stspbr.photos.pose_refinement import LARGEST_ERROR, feature_pixel, refine_poses
from stspbr.photos.sparse_model import SparseModel, View

EXHAUSTIVE_UP_TO = 150  # photos; beyond, each is matched with those that look alike
FEWEST_FEATURES = 50
MOST_FEATURES = 5000
"""Of a photo that are matched, the largest ones: guided matching takes time and memory for each pair of features."""
_MATCHING_BYTES, _PAIR_BYTES = 1_600_000_000, 16  # for all threads together, if two fit; of a pair of features
_Call = Callable[[str], None]


@dataclass(frozen=True)
class PoseOptions:
    """How poses are found.

    Attributes:
        camera_model: one of COLMAP's.
        shared_camera: one camera for all photos of one size, maker and focal length; else one per photo.
        feature_size: photos are reduced to this longer side when features are sought.
        pairs: ``"exhaustive"``, ``"nearest"`` (each with the 30 that look most alike, and its neighbours by name),
            or ``"auto"``: exhaustive up to 150 photos.
        seed, threads: of everything.
    """

    camera_model: str = "SIMPLE_RADIAL"
    shared_camera: bool = True
    feature_size: int = 1600
    pairs: str = "auto"
    seed: int = 0
    threads: int = 1


def require_pycolmap() -> Any:
    """The module, or a StspbrError that names the extra."""
    return pycolmap_for("captures from photos")


def check_camera_model(name: str) -> str:
    """``name`` in capitals; StspbrError if there is no such model."""
    if not parameter_names(name.upper()):
        known = "SIMPLE_PINHOLE, PINHOLE, SIMPLE_RADIAL, RADIAL, OPENCV, OPENCV_FISHEYE, …"
        raise StspbrError(f"camera model {name!r} is unknown: choose one of COLMAP's ({known})")
    return name.upper()


def reconstruct_poses(
    photos: list[Photo],
    folder: Path,
    options: PoseOptions,
    on_photo: _Call = lambda stage: None,
    on_message: _Call = lambda text: None,
) -> SparseModel:
    """Find the poses of photos whose upright 8-bit pictures lie in ``folder/images`` under ``photo.name`` + ``.png``.

    What is finished stays in ``folder``: features and matches in ``database.db``, complete once there is a file
    ``matched`` (the pictures are removed then); the models in ``models``. A second call goes on from there.

    Args:
        folder: for these photos and options, and nothing else. If it has ``masks``, features are sought only where
            ``masks/<name>.png.png`` is not black.
        on_photo: called once per photo with ``"features"`` and with ``"poses"``.
        on_message: lines for people.

    Returns:
        The largest model that holds together. Photos outside of it are in its ``failed``.

    Raises:
        StspbrError: pycolmap is missing, the camera model is unknown, or fewer than three photos fit together.
    """
    pycolmap = require_pycolmap()
    model = check_camera_model(options.camera_model)
    database, matched, place = folder / "database.db", folder / "matched", folder / "models"
    with quiet(pycolmap):
        pycolmap.set_random_seed(options.seed)
        if matched.exists():
            on_message(f"features and matches{', and poses' if place.exists() else ''}: from the cache")
        else:
            if not database.exists():
                write_photos(pycolmap, database, photos, model, options.shared_camera)
            _extract(pycolmap, database, folder, photos, options, model, on_photo)
            _match(pycolmap, database, folder, photos, options, on_message)
            matched.touch()
            for name in ("images", "masks"):
                shutil.rmtree(folder / name, ignore_errors=True)
        if not place.exists():
            pixel = feature_pixel([(photo.exif.width, photo.exif.height) for photo in photos], options.feature_size)
            _map(pycolmap, database, folder, options, pixel, on_photo)
        models = [pycolmap.Reconstruction(str(p)) for p in sorted(place.iterdir(), key=lambda p: int(p.name))]
        ids = photo_ids(pycolmap, database, photos)
        features, pairs = feature_counts(pycolmap, database, ids), verified_matches(pycolmap, database, ids)
    best = max(models, key=lambda found: (found.num_reg_images(), found.num_points3D()), default=None)
    registered = set() if best is None else {best.images[i].name for i in best.reg_image_ids()}
    others = [{found.images[i].name for i in found.reg_image_ids()} for found in models if found is not best]
    by_picture = {picture(photo): photo.name for photo in photos}
    registered, others = ({by_picture[n] for n in registered}, [{by_picture[n] for n in group} for group in others])
    failed = {
        photo.name: _reason(photo.name, features, pairs, registered, others)
        for photo in photos
        if photo.name not in registered
    }
    if len(registered) < 3:
        _fail(photos, failed)
    return _sparse_model(best, photos, failed)


@contextlib.contextmanager
def quiet(pycolmap: Any) -> Iterator[None]:
    """COLMAP's own log goes to stderr line by line; errors come as exceptions anyway."""
    before = pycolmap.logging.minloglevel
    pycolmap.logging.minloglevel = 3
    try:
        yield
    finally:
        pycolmap.logging.minloglevel = before


def _extract(
    pycolmap: Any, database: Path, folder: Path, photos: list[Photo], options: PoseOptions, model: str, on_photo: _Call
) -> None:
    extraction, reader = pycolmap.FeatureExtractionOptions(), pycolmap.ImageReaderOptions()
    extraction.num_threads, extraction.max_image_size = options.threads, options.feature_size
    reader.camera_model = model
    if (folder / "masks").exists():
        reader.mask_path = folder / "masks"
    for first in range(0, len(photos), max(options.threads, 1)):
        some = photos[first : first + max(options.threads, 1)]
        given = {"image_names": [picture(photo) for photo in some], "device": pycolmap.Device.cpu}
        given |= {"reader_options": reader, "extraction_options": extraction}
        pycolmap.extract_features(database, folder / "images", **given)
        for _ in some:
            on_photo("features")
    keep_largest_features(pycolmap, database, MOST_FEATURES)


def _match(
    pycolmap: Any, database: Path, folder: Path, photos: list[Photo], options: PoseOptions, on_message: _Call
) -> None:
    matching, verification = pycolmap.FeatureMatchingOptions(), pycolmap.TwoViewGeometryOptions()
    ids = photo_ids(pycolmap, database, photos)
    matching.num_threads = matching_threads(feature_counts(pycolmap, database, ids).values(), options.threads)
    matching.guided_matching = True
    verification.ransac.random_seed = options.seed
    common = {"matching_options": matching, "verification_options": verification, "device": pycolmap.Device.cpu}
    if options.pairs == "exhaustive" or (options.pairs == "auto" and len(photos) <= EXHAUSTIVE_UP_TO):
        on_message(f"matching {len(photos) * (len(photos) - 1) // 2} pairs of photos …")
        pycolmap.match_exhaustive(database, **common)
    else:
        with pycolmap.Database.open(database) as opened:
            descriptors = [_descriptors(opened, ids[photo.name]) for photo in photos]
        chosen = nearest_pairs(descriptors, seed=options.seed)
        on_message(f"matching {len(chosen)} pairs of photos that look alike …")
        lines = [f"{picture(photos[a])} {picture(photos[b])}" for a, b in chosen]
        pairing = pycolmap.ImportedPairingOptions()
        pairing.match_list_path = folder / "pairs.txt"
        pairing.match_list_path.write_text("\n".join(lines) + "\n", "utf-8")
        pycolmap.match_image_pairs(database, pairing_options=pairing, **common)


def matching_threads(features: Iterable[int], threads: int) -> int:
    """How many pairs are matched at once: guided matching compares each feature of one photo with each of the other."""
    most = sorted(features)[-2:]
    return max(1, min(threads, _MATCHING_BYTES // max(1, _PAIR_BYTES * most[0] * most[-1]))) if most else threads


def _descriptors(database: Any, image_id: int) -> np.ndarray:
    found = database.read_descriptors(image_id)
    return np.asarray(getattr(found, "data", found), np.float32)


def _map(pycolmap: Any, database: Path, folder: Path, options: PoseOptions, pixel: float, on_photo: _Call) -> None:
    """Write ``models/0``, ``1``, …, found with thresholds for sets that are small and photographed from far apart.

    Args:
        pixel: of the pictures that features were sought in, in pixels of the photos.
    """
    mapping = pycolmap.IncrementalPipelineOptions()
    mapping.min_model_size, mapping.num_threads = 3, options.threads
    mapping.random_seed = options.seed
    mapping.extract_colors = False
    mapping.mapper.init_min_num_inliers, mapping.mapper.init_min_tri_angle = 30, 8.0
    mapping.mapper.abs_pose_min_num_inliers = 15
    mapping.mapper.filter_max_reproj_error = LARGEST_ERROR * pixel

    callbacks = dict.fromkeys(("initial_image_pair_callback", "next_image_callback"), lambda: on_photo("poses"))
    with atomic_path(folder / "models") as out:
        shutil.rmtree(out, ignore_errors=True)  # of a killed process with this number
        out.mkdir()
        # the folder of pictures is not read any more
        found = pycolmap.incremental_mapping(database, folder, out, options=mapping, **callbacks)
        for number, model in found.items():
            refine_poses(pycolmap, model, database, mapping, pixel)
            model.write(out / str(number))


def _reason(
    name: str, features: dict[str, int], pairs: dict[tuple[str, str], int], registered: set[str], others: list[set[str]]
) -> str:
    """Why a photo has no pose, in a few words."""
    if features[name] < FEWEST_FEATURES:
        return f"too few features ({features[name]}): blurred, over-exposed or without texture"
    matches: Counter[str] = Counter()
    for (first, second), count in pairs.items():
        if count and name in (first, second):
            matches[second if first == name else first] = count
    group = next((group for group in others if name in group), None)
    if group is not None:
        return f"fits {len(group) - 1} other photos, which do not connect to the rest: take photos in between"
    if not matches:
        return "too few matches: no other photo shows the same points"
    best, count = matches.most_common(1)[0]
    where = "" if best in registered else ", which has no pose either"
    return f"not registered: {count} matches with {best}{where} at best, which fix no pose"


def _fail(photos: list[Photo], failed: dict[str, str]) -> None:
    poor = sum(reason.startswith("too few features") for reason in failed.values())
    if 2 * poor > len(photos):
        raise StspbrError(
            f"no poses: {poor} of {len(photos)} photos have too few features: put the object on a textured surface "
            "(a newspaper), keep it sharp and well lit"
        )
    raise StspbrError(
        f"no poses: fewer than 3 of {len(photos)} photos fit together: neighbouring photos must overlap by two "
        "thirds, with the object or what it stands on textured and the scene at rest"
    )


def _sparse_model(found: Any, photos: list[Photo], failed: dict[str, str]) -> SparseModel:
    numbers = {point_id: index for index, point_id in enumerate(sorted(found.points3D))}
    points = np.array([found.points3D[point_id].xyz for point_id in sorted(found.points3D)], np.float64)
    images = {found.images[i].name: found.images[i] for i in found.reg_image_ids()}
    views = []
    for photo in photos:
        image = images.get(picture(photo))
        if image is None:
            continue
        camera = found.cameras[image.camera_id]
        own_lens = lens(camera.model_name, camera.params, camera.width, camera.height, f"photo {photo.name}")
        seen = {numbers[point.point3D_id] for point in image.points2D if point.has_point3D()}
        camera_to_world = camera_to_world_from_opencv(image.cam_from_world().matrix())
        views.append(View(photo.name, own_lens, camera_to_world, np.array(sorted(seen), np.int64)))
    return SparseModel(views, points.reshape(-1, 3), float(found.compute_mean_reprojection_error()), failed)
