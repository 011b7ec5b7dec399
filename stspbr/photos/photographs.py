"""The photographs of a folder: which there are, how each was taken, and the mask that goes with it."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from stspbr.colour import linear_to_srgb
from stspbr.datasets import mask_files
from stspbr.errors import StspbrError
from stspbr.formats.camera_files import HEIF_SUFFIXES, RAW_SUFFIXES
from stspbr.formats.choices import USUAL
from stspbr.formats.exif import Exif, read_exif
from stspbr.formats.images import HDR_SUFFIXES, LDR_SUFFIXES, read_image
from stspbr.formats.masks import MaskReading
from stspbr.notes import Notes, first_few

PHOTO_SUFFIXES = (*LDR_SUFFIXES, *HEIF_SUFFIXES, *RAW_SUFFIXES)
_OTHER_IMAGES = (".jp2", ".jxl", ".psd", ".gif", *HDR_SUFFIXES)  # images by name that are not read as photographs
_BAND = 256  # rows


@dataclass(frozen=True)
class Photo:
    """One photograph.

    Attributes:
        name: path relative to the folder, with ``/``.
        path: the file.
        exif: what the camera wrote; sizes are of the upright picture.
        notes: receives what its colours were converted from, whenever it is read.
    """

    name: str
    path: Path
    exif: Exif
    notes: Notes | None = field(default=None, compare=False, repr=False)


def find_photos(folder: str | Path, notes: Notes | None = None) -> tuple[list[Photo], dict[str, str]]:
    """The photographs in ``folder`` and its subfolders, in the order of their names.

    Returns:
        ``(photos, failed)``: ``failed`` has the reason, by name, for each file that is a picture by its name but
        cannot be read. Hidden files are left out.

    Raises:
        StspbrError: no folder, or fewer than three photographs in it.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise StspbrError(f"{folder} is not a folder of photos: check the path")
    files = sorted(path for path in folder.rglob("*") if path.is_file() and not path.name.startswith("."))
    photos, failed = [], {}
    for path in files:
        name, suffix = path.relative_to(folder).as_posix(), path.suffix.lower()
        if suffix in _OTHER_IMAGES:
            failed[name] = f"a photograph cannot be {suffix}: convert it to JPEG or TIFF"
        elif suffix in PHOTO_SUFFIXES:
            try:
                photos.append(Photo(name, path, read_exif(path), notes))
            except StspbrError as error:
                failed[name] = str(error)
    if len(photos) < 3:
        raise StspbrError(
            f"{folder} has {len(photos)} photos (JPEG, PNG, TIFF …), at least 3 are needed: {_remedy(failed)}"
        )
    return photos, failed


def read_photo(photo: Photo) -> tuple[np.ndarray, np.ndarray | None]:
    """``[H, W, 3]`` float32 linear, upright, **not** premultiplied; alpha ``[H, W, 1]`` float32 or None."""
    rgb, alpha, _ = read_image(photo.path, upright=True, notes=photo.notes)
    return (rgb, None) if alpha is None else (rgb / np.where(alpha > 0, alpha, 1.0), alpha)


def display(rgb: np.ndarray) -> np.ndarray:
    """``[H, W, 3]`` uint8 sRGB of linear values: what feature detectors and people look at."""
    out = np.empty(rgb.shape, np.uint8)
    for first in range(0, len(rgb), _BAND):  # the curve takes several 64-bit numbers per value
        band = slice(first, first + _BAND)
        out[band] = np.rint(255.0 * np.clip(linear_to_srgb(rgb[band]), 0.0, 1.0))
    return out


def find_masks(folder: str | Path, photos: list[Photo]) -> dict[str, Path]:
    """The mask of each photo that has one in ``folder``, by :func:`stspbr.datasets.mask_files.find_masks`.

    Raises:
        StspbrError: no folder, or not one mask in it belongs to a photo.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise StspbrError(f"{folder} is not a folder of masks: check --masks")
    found = mask_files.find_masks(folder, [photo.name for photo in photos])
    if not found:
        example = Path(photos[0].name).with_suffix(".png").as_posix()
        raise StspbrError(f"{folder} has no mask of these photos: name the mask of {photos[0].name} {example}")
    return found


def read_mask(path: Path, photo: Photo, reading: MaskReading | None = None) -> np.ndarray:
    """``[H, W, 1]`` float32 in [0, 1], 1: the object; upright as its photo. See ``read_masks``."""
    return read_masks(path, photo, reading)[0]


def read_masks(path: Path, photo: Photo, reading: MaskReading | None = None) -> tuple[np.ndarray, np.ndarray | None]:
    """A mask as ``MaskReading.read_both`` gives it, upright as its photo.

    A mask of the photo's stored size is turned with it; one of the upright size is taken as upright.

    Args:
        reading: of all masks together; None: this one is the only one.

    Raises:
        StspbrError: the mask cannot be read or has another size.
    """
    from stspbr.formats.exif import upright

    mask, known = (reading or MaskReading([path], USUAL)).read_both(path)
    exif = photo.exif
    if mask.shape[:2] == (exif.height, exif.width) and (exif.orientation < 5 or exif.height != exif.width):
        return mask, known
    stored = (exif.width, exif.height) if exif.orientation >= 5 else (exif.height, exif.width)
    if mask.shape[:2] != stored:
        (mh, mw) = mask.shape[:2]
        raise StspbrError(f"{path}: the mask is {mw}x{mh}, its photo {exif.width}x{exif.height}: export it again")
    return upright(mask, exif.orientation), None if known is None else upright(known, exif.orientation)


def _remedy(failed: dict[str, str]) -> str:
    """What to do about files that cannot be read."""
    if not failed:
        return "check the path"
    kinds = sorted({Path(name).suffix.lower() for name in failed} - {*LDR_SUFFIXES})
    first = next(iter(failed.values()))
    convert = f"convert the {', '.join(kinds)} files to JPEG or TIFF; " if kinds else ""
    return f"{convert}{first_few(list(failed), 'files')} cannot be read, the first: {first}"
