"""Features, matches and poses of a set of photos, kept in the run's cache: a second start goes on from there."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np

from stspbr.errors import StspbrError
from stspbr.files import atomic_path, write_file
from stspbr.formats.images import write_png8
from stspbr.formats.masks import MaskReading
from stspbr.photos.grabcut import require_opencv
from stspbr.photos.photographs import Photo, display, read_mask, read_photo
from stspbr.photos.sparse_model import SparseModel
from stspbr.photos.still_background import still_background
from stspbr.photos.structure_from_motion import PoseOptions, reconstruct_poses, require_pycolmap

_UNREADABLE, _STILL = "unreadable.json", "still.json"
_METHOD = 2  # of finding poses; another number leaves what was found by another method
_REDUCED = 640  # longer side in pixels of the pictures that are compared with each other


def cached_poses(
    cache: Path,
    photos: list[Photo],
    masks: dict[str, Path],
    options: PoseOptions,
    failed: dict[str, str],
    on_photo: Callable[[str], None] = lambda stage: None,
    on_message: Callable[[str], None] = lambda text: None,
    reading: MaskReading | None = None,
    features: str = "object",
) -> SparseModel:
    """Poses as :func:`reconstruct_poses` finds them, in a folder of ``cache`` named by the content of the photos.

    Args:
        masks: by the photo's name; features are sought inside of them only, if at all.
        features: ``object``: inside the masks, if there are any; ``photo``: everywhere; ``auto``: everywhere, unless
            the background stands still behind an object that turns: then inside the masks, or where something moves.
        failed: receives the reasons for photos that cannot be read.
        reading: of the masks.

    Raises:
        StspbrError: fewer than three photos can be read, the cache cannot be written, and what
            :func:`reconstruct_poses` raises.
    """
    masks = {} if features == "photo" else masks
    auto = features == "auto"
    folder = cache / _key(photos, masks, options, reading, auto)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StspbrError(f"cannot write {folder} ({error.strerror}): choose another run") from error
    listed = folder / _UNREADABLE
    if not listed.exists():
        write_file(listed, json.dumps(_write_pictures(photos, {} if auto else masks, folder, reading)))
    failed |= json.loads(listed.read_text("utf-8"))
    readable = [photo for photo in photos if photo.name not in failed]
    require_three(readable, photos, failed)
    share = _without_still_background(readable, masks, folder, reading) if auto else None
    model = reconstruct_poses(readable, folder, options, on_photo, on_message)
    return model if share is None else replace(model, still_share=share)


def require_three(good: list[Photo], photos: list[Photo], failed: dict[str, str]) -> None:
    """StspbrError that names a reason of ``failed`` if fewer than three of ``photos`` are ``good``."""
    if len(good) < 3:
        reason = next(iter(failed.values()), "the others are missing")
        raise StspbrError(f"{len(good)} of {len(photos)} photos can be used, at least 3 are needed: {reason}")


def _key(
    photos: list[Photo], masks: dict[str, Path], options: PoseOptions, reading: MaskReading | None, auto: bool
) -> str:
    """Of everything that poses depend on; the number of threads is not among that."""
    chosen = asdict(options) | {"threads": 0, "pycolmap": require_pycolmap().__version__, "method": _METHOD}
    if masks and reading is not None:
        chosen |= asdict(reading.choices)
    if auto:
        chosen["features"] = "auto"
    digest = hashlib.sha256(json.dumps(chosen, sort_keys=True).encode())
    for photo in photos:
        for path in (photo.path, masks.get(photo.name)):
            digest.update(f"{photo.name}\0{_content(path)}\0".encode())
    return digest.hexdigest()[:16]


def _content(path: Path | None) -> str:
    if path is None:
        return ""
    try:
        with path.open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()
    except OSError as error:
        raise StspbrError(f"{path} cannot be read ({error.strerror}): check the path") from error


def _write_pictures(
    photos: list[Photo], masks: dict[str, Path], folder: Path, reading: MaskReading | None
) -> dict[str, str]:
    """Upright 8-bit pictures for the feature detector; why those are missing that cannot be read."""
    cv2 = require_opencv()
    unreadable = {}
    for photo in photos:
        try:
            rgb, _ = read_photo(photo)
            if photo.name in masks:
                _write_mask(folder, photo, read_mask(masks[photo.name], photo, reading))
        except StspbrError as error:
            unreadable[photo.name] = str(error)
            continue
        with atomic_path(folder / "images" / f"{photo.name}.png") as temporary:
            cv2.imwrite(str(temporary), display(rgb)[..., ::-1], [cv2.IMWRITE_PNG_COMPRESSION, 1])
    return unreadable


def _write_mask(folder: Path, photo: Photo, mask: np.ndarray) -> None:
    """Features of this photo are sought inside ``mask`` ``[H, W, 1]``."""
    write_png8(folder / "masks" / f"{photo.name}.png.png", np.rint(mask), srgb=False)


def _without_still_background(
    photos: list[Photo], masks: dict[str, Path], folder: Path, reading: MaskReading | None
) -> float | None:
    """Keep features off a background that stands still, and the share of the pattern that does; None: there is none."""
    listed = folder / _STILL
    if not listed.exists():
        found = still_background([_reduced(folder, photo) for photo in photos])
        for photo, moving in zip(photos, found.moving if found else [], strict=False):
            _write_mask(folder, photo, _feature_mask(photo, masks, moving, reading))
        write_file(listed, json.dumps(found and found.share))
    share: float | None = json.loads(listed.read_text("utf-8"))
    return share


def _reduced(folder: Path, photo: Photo) -> np.ndarray:
    cv2 = require_opencv()
    picture = cv2.imread(str(folder / "images" / f"{photo.name}.png"))[..., ::-1]
    factor = min(1.0, _REDUCED / max(picture.shape))
    size = max(1, round(picture.shape[1] * factor)), max(1, round(picture.shape[0] * factor))
    return np.ascontiguousarray(cv2.resize(picture, size, interpolation=cv2.INTER_AREA))


def _feature_mask(photo: Photo, masks: dict[str, Path], moving: np.ndarray, reading: MaskReading | None) -> np.ndarray:
    if photo.name in masks:
        return read_mask(masks[photo.name], photo, reading)
    cv2 = require_opencv()
    size = photo.exif.width, photo.exif.height
    return cv2.resize(moving.astype(np.float32), size, interpolation=cv2.INTER_NEAREST)[..., None]
