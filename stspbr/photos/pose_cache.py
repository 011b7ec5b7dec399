"""Features, matches and poses of a set of photos, kept in the run's cache: a second start goes on from there."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import numpy as np

from stspbr.errors import StspbrError
from stspbr.files import atomic_path, write_file
from stspbr.formats.images import write_png8
from stspbr.formats.masks import MaskReading
from stspbr.photos.grabcut import require_opencv
from stspbr.photos.photographs import Photo, display, read_mask, read_photo
from stspbr.photos.sparse_model import SparseModel
from stspbr.photos.structure_from_motion import PoseOptions, reconstruct_poses, require_pycolmap

_UNREADABLE = "unreadable.json"


def cached_poses(
    cache: Path,
    photos: list[Photo],
    masks: dict[str, Path],
    options: PoseOptions,
    failed: dict[str, str],
    on_photo: Callable[[str], None] = lambda stage: None,
    on_message: Callable[[str], None] = lambda text: None,
    reading: MaskReading | None = None,
) -> SparseModel:
    """Poses as :func:`reconstruct_poses` finds them, in a folder of ``cache`` named by the content of the photos.

    Args:
        masks: by the photo's name; if there are any, features are sought inside of them only.
        failed: receives the reasons for photos that cannot be read.
        reading: of the masks.

    Raises:
        StspbrError: fewer than three photos can be read, the cache cannot be written, and what
            :func:`reconstruct_poses` raises.
    """
    folder = cache / _key(photos, masks, options, reading)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StspbrError(f"cannot write {folder} ({error.strerror}): choose another run") from error
    listed = folder / _UNREADABLE
    if not listed.exists():
        write_file(listed, json.dumps(_write_pictures(photos, masks, folder, reading)))
    failed |= json.loads(listed.read_text("utf-8"))
    readable = [photo for photo in photos if photo.name not in failed]
    require_three(readable, photos, failed)
    return reconstruct_poses(readable, folder, options, on_photo, on_message)


def require_three(good: list[Photo], photos: list[Photo], failed: dict[str, str]) -> None:
    """StspbrError that names a reason of ``failed`` if fewer than three of ``photos`` are ``good``."""
    if len(good) < 3:
        reason = next(iter(failed.values()), "the others are missing")
        raise StspbrError(f"{len(good)} of {len(photos)} photos can be used, at least 3 are needed: {reason}")


def _key(photos: list[Photo], masks: dict[str, Path], options: PoseOptions, reading: MaskReading | None) -> str:
    """Of everything that poses depend on; the number of threads is not among that."""
    chosen = asdict(options) | {"threads": 0, "pycolmap": require_pycolmap().__version__}
    if masks and reading is not None:
        chosen |= asdict(reading.choices)
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
            mask = read_mask(masks[photo.name], photo, reading) if photo.name in masks else None
        except StspbrError as error:
            unreadable[photo.name] = str(error)
            continue
        with atomic_path(folder / "images" / f"{photo.name}.png") as temporary:
            cv2.imwrite(str(temporary), display(rgb)[..., ::-1], [cv2.IMWRITE_PNG_COMPRESSION, 1])
        if mask is not None:
            write_png8(folder / "masks" / f"{photo.name}.png.png", np.rint(mask), srgb=False)
    return unreadable
