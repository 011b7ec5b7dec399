"""The photographs of a folder: which there are, how each was taken, and the mask that goes with it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from stspbr.colour import linear_to_srgb
from stspbr.errors import StspbrError
from stspbr.formats.exif import Exif, read_exif
from stspbr.formats.images import LDR_SUFFIXES, read_image, read_pixels

_RAW = (".heic", ".heif", ".dng", ".cr2", ".cr3", ".nef", ".arw", ".raf", ".rw2", ".orf")
_BAND = 256  # rows


@dataclass(frozen=True)
class Photo:
    """One photograph.

    Attributes:
        name: path relative to the folder, with ``/``.
        path: the file.
        exif: what the camera wrote; sizes are of the upright picture.
    """

    name: str
    path: Path
    exif: Exif


def find_photos(folder: str | Path) -> tuple[list[Photo], dict[str, str]]:
    """The photographs in ``folder`` and its subfolders, in the order of their names.

    Returns:
        ``(photos, failed)``: ``failed`` has the reason, by name, for each file that is not a readable picture.

    Raises:
        StspbrError: no folder, or fewer than three photographs in it.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise StspbrError(f"{folder} is not a folder of photos: check the path")
    files = sorted(path for path in folder.rglob("*") if path.is_file() and not path.name.startswith("."))
    pictures = [path for path in files if path.suffix.lower() in LDR_SUFFIXES]
    if len(pictures) < 3:
        other = sorted({path.suffix.lower() for path in files if path.suffix.lower() in _RAW})
        remedy = f"convert the {', '.join(other)} files to JPEG or TIFF" if other else "check the path"
        raise StspbrError(f"{folder} has {len(pictures)} photos (JPEG, PNG, TIFF …), at least 3 are needed: {remedy}")
    photos, failed = [], {}
    for path in pictures:
        name = path.relative_to(folder).as_posix()
        try:
            photos.append(Photo(name, path, read_exif(path)))
        except StspbrError as error:
            failed[name] = str(error)
    return photos, failed


def read_photo(photo: Photo) -> tuple[np.ndarray, np.ndarray | None]:
    """``[H, W, 3]`` float32 linear, upright, **not** premultiplied; alpha ``[H, W, 1]`` float32 or None."""
    rgb, alpha, _ = read_image(photo.path, upright=True)
    return (rgb, None) if alpha is None else (rgb / np.where(alpha > 0, alpha, 1.0), alpha)


def display(rgb: np.ndarray) -> np.ndarray:
    """``[H, W, 3]`` uint8 sRGB of linear values: what feature detectors and people look at."""
    out = np.empty(rgb.shape, np.uint8)
    for first in range(0, len(rgb), _BAND):  # the curve takes several 64-bit numbers per value
        band = slice(first, first + _BAND)
        out[band] = np.rint(255.0 * np.clip(linear_to_srgb(rgb[band]), 0.0, 1.0))
    return out


def find_masks(folder: str | Path, photos: list[Photo]) -> dict[str, Path]:
    """The mask of each photo that has one in ``folder``: the same stem, in the same subfolder or in none.

    A mask for ``a/IMG_1.jpg`` is ``a/IMG_1.png``, ``IMG_1.png`` or, as COLMAP names them, ``IMG_1.jpg.png``.

    Raises:
        StspbrError: no folder, or not one mask in it belongs to a photo.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise StspbrError(f"{folder} is not a folder of masks: check --masks")
    files = [path for path in sorted(folder.rglob("*")) if path.suffix.lower() in LDR_SUFFIXES]
    held = {path.relative_to(folder).with_suffix("").as_posix(): path for path in files}
    found = {}
    for photo in photos:
        relative = Path(photo.name)
        stems = [relative.with_suffix(""), relative, Path(relative.stem), Path(relative.name)]
        path = next((held[stem.as_posix()] for stem in stems if stem.as_posix() in held), None)
        if path is not None:
            found[photo.name] = path
    if not found:
        example = Path(photos[0].name).with_suffix(".png").as_posix()
        raise StspbrError(f"{folder} has no mask of these photos: name the mask of {photos[0].name} {example}")
    return found


def read_mask(path: Path, photo: Photo) -> np.ndarray:
    """``[H, W, 1]`` float32 in [0, 1], white: the object; upright as its photo.

    A mask of the photo's stored size is turned with it; one of the upright size is taken as upright.

    Raises:
        StspbrError: the mask cannot be read or has another size.
    """
    from stspbr.formats.exif import upright

    pixels = read_pixels(path)
    mask = pixels[..., :3].mean(axis=-1, keepdims=True) if pixels.shape[-1] >= 3 else pixels[..., :1]
    exif = photo.exif
    if mask.shape[:2] == (exif.height, exif.width) and (exif.orientation < 5 or exif.height != exif.width):
        return mask
    stored = (exif.width, exif.height) if exif.orientation >= 5 else (exif.height, exif.width)
    if mask.shape[:2] != stored:
        (mh, mw) = mask.shape[:2]
        raise StspbrError(f"{path}: the mask is {mw}x{mh}, its photo {exif.width}x{exif.height}: export it again")
    return upright(mask, exif.orientation)
