"""What a camera wrote beside its photograph: how it was held, focal length, exposure (Exif 2.32)."""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from stspbr.errors import StspbrError
from stspbr.formats.camera_files import RAW_SUFFIXES, is_heif, raw_size, register_heif

_DIAGONAL_35MM = math.hypot(36.0, 24.0)
_MILLIMETRES = {2: 25.4, 3: 10.0, 4: 1.0, 5: 1e-3}  # of FocalPlaneResolutionUnit


@dataclass(frozen=True)
class Exif:
    """What the file contains; None for what it lacks.

    Attributes:
        orientation: 1 to 8 as Exif numbers them; 1 (rows run down, as stored) if the file has none.
        width, height: of the **upright** picture in pixels.
        focal: focal length in pixels of the picture, from ``FocalLengthIn35mmFilm`` (which has the picture's
            diagonal for its 43.27 mm) or from ``FocalLength`` and the focal plane's resolution.
        exposure: exposure time · ISO / N² (seconds): proportional to the sensor's response to a given radiance.
        camera: maker and model.
    """

    orientation: int
    width: int
    height: int
    focal: float | None = None
    exposure: float | None = None
    camera: str | None = None


def read_exif(path: str | os.PathLike[str]) -> Exif:
    """Read the Exif tags of an image file; invalid tags count as absent.

    Raises:
        StspbrError: the file is missing or not an image.
    """
    from PIL import Image

    path = Path(path)
    if path.suffix.lower() in RAW_SUFFIXES:
        return _read_raw_exif(path)
    try:
        with path.open("rb") as stream:
            heif = is_heif(path, stream.read(64))
        if heif:
            register_heif(path)
        with Image.open(path) as image:
            width, height = image.size
            turned = image.format not in ("TIFF", "HEIF")  # of these, Pillow gives the upright size
            tags = _tags(image.getexif)
    except FileNotFoundError:
        raise StspbrError(f"{path} does not exist: check the path") from None
    except (OSError, ValueError):
        raise StspbrError(f"{path} is not an image: export or copy it again") from None
    orientation = tags.get("Orientation", 1)
    orientation = orientation if image.format != "HEIF" and orientation in range(1, 9) else 1
    focal = _focal(tags, width, height)
    width, height = (height, width) if turned and orientation >= 5 else (width, height)
    return Exif(orientation, width, height, focal, _exposure(tags), _camera(tags))


def interoperability(path: Path) -> str | None:
    """The interoperability index of an image's Exif: R98 is sRGB, R03 is Adobe RGB; None if it has none."""
    from PIL import ExifTags, Image

    try:
        with Image.open(path) as image:
            return str(image.getexif().get_ifd(ExifTags.IFD.Interop).get(1, "")).strip("\0 ") or None
    except Exception:  # a broken Exif block raises nearly anything
        return None


def upright(pixels: np.ndarray, orientation: int) -> np.ndarray:
    """``[H, W, …]`` as stored, turned and mirrored so that row 0 is the top of the scene."""
    if orientation in (5, 6, 7, 8):
        pixels = pixels.swapaxes(0, 1)
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    return np.ascontiguousarray(pixels)


def _tags(read: Callable[[], Any]) -> dict[Any, Any]:
    from PIL import ExifTags

    try:
        head = read()
        return {ExifTags.TAGS.get(k, k): v for k, v in {**head, **head.get_ifd(ExifTags.IFD.Exif)}.items()}
    except Exception:  # a broken Exif block raises nearly anything, and the picture is still good
        return {}


def _read_raw_exif(path: Path) -> Exif:
    """Of a raw photograph, whose pixels are turned by rawpy; its tags are read if it is built as a TIFF."""
    from PIL import Image

    width, height, flip = raw_size(path)
    with path.open("rb") as stream:

        def read() -> Any:
            held = Image.Exif()
            held.load_from_fp(stream)
            return held

        tags = _tags(read)
    focal = _focal({**tags, "ExifImageWidth": None}, width, height)
    orientation = {3: 3, 5: 8, 6: 6}.get(flip, 1)
    width, height = (height, width) if orientation >= 5 else (width, height)
    return Exif(orientation, width, height, focal, _exposure(tags), _camera(tags))


def _focal(tags: dict[Any, Any], width: int, height: int) -> float | None:
    equivalent = _positive(tags.get("FocalLengthIn35mmFilm"))
    if equivalent:
        return equivalent / _DIAGONAL_35MM * math.hypot(width, height)
    length, resolution = _positive(tags.get("FocalLength")), _positive(tags.get("FocalPlaneXResolution"))
    unit = _MILLIMETRES.get(tags.get("FocalPlaneResolutionUnit", 2))
    if not (length and resolution and unit):
        return None
    full_width = _positive(tags.get("ExifImageWidth")) or width  # the resolution counts pixels of the picture as taken
    return length * resolution / unit * width / full_width


def _exposure(tags: dict[Any, Any]) -> float | None:
    time = _positive(tags.get("ExposureTime")) or _power(tags.get("ShutterSpeedValue"), -1.0)
    f_number = _positive(tags.get("FNumber")) or _power(tags.get("ApertureValue"), 0.5)
    speed = tags.get("ISOSpeedRatings")
    speed = _positive(speed[0] if isinstance(speed, tuple) and speed else speed)
    return time * speed / f_number**2 if time and f_number and speed else None


def _camera(tags: dict[Any, Any]) -> str | None:
    make, model = (str(tags.get(tag) or "").strip(" \0") for tag in ("Make", "Model"))
    # many makers begin the model's name with their own
    name = model if make and model.lower().startswith(make.lower()) else f"{make} {model}".strip()
    return name or None


def _positive(value: Any) -> float | None:
    try:
        number = float(value)
    except (TypeError, ValueError, ZeroDivisionError):
        return None
    return number if math.isfinite(number) and number > 0 else None


def _power(apex: Any, factor: float) -> float | None:
    """2^(factor · apex): APEX values are logarithms."""
    try:
        return _positive(2.0 ** (factor * float(apex)))
    except (TypeError, ValueError, OverflowError, ZeroDivisionError):
        return None
