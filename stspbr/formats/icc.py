"""ICC profiles of RGB and grey images as curves and a matrix, which keep 16 bits and colours outside of sRGB.

Profiles of other kinds (tables, CMYK) go through LittleCMS, which Pillow has for 8 bits. Format: ICC.1:2022.
"""

from __future__ import annotations

import io
import struct
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from stspbr.colour import srgb_to_linear
from stspbr.formats.primaries import D50, srgb_from_xyz

Curve = Callable[[np.ndarray], np.ndarray]
_SAME = 0.01  # of linear values in [0, 1]: the sRGB profiles in use differ by less


@dataclass(frozen=True)
class Profile:
    """How stored values in [0, 1] become linear sRGB.

    Attributes:
        name: what the profile calls itself.
        curves: to linear, one per channel; one only for grey. None: a profile for LittleCMS.
        matrix: ``[3, 3]`` to linear sRGB; None: nothing to be done.
    """

    name: str
    curves: tuple[Curve, ...] | None
    matrix: np.ndarray | None = None

    @property
    def is_srgb(self) -> bool:
        """Whether the profile is sRGB's, or grey with sRGB's curve."""
        if self.curves is None or self.matrix is not None:
            return False
        x = np.linspace(0, 1, 257)
        return all(np.abs(curve(x) - srgb_to_linear(x)).max() < _SAME for curve in self.curves)


def read_profile(data: bytes) -> Profile:
    """The profile of an image.

    Raises:
        ValueError: it is broken.
    """
    tags = _tags(data)
    space, name = data[16:20], _description(data)
    if space == b"GRAY" and b"kTRC" in tags:
        return Profile(name, (_curve(tags[b"kTRC"]),))
    shaped = all(tag in tags for tag in (b"rXYZ", b"gXYZ", b"bXYZ", b"rTRC", b"gTRC", b"bTRC"))
    if space != b"RGB " or not shaped or data[20:24] != b"XYZ ":
        return Profile(name, None)
    columns = np.stack([_xyz(tags[tag]) for tag in (b"rXYZ", b"gXYZ", b"bXYZ")], axis=-1)
    matrix = srgb_from_xyz(D50) @ columns
    curves = tuple(_curve(tags[tag]) for tag in (b"rTRC", b"gTRC", b"bTRC"))
    return Profile(name, curves, None if np.abs(matrix - np.eye(3)).max() < _SAME else matrix)


def through_littlecms(data: bytes, profile: bytes) -> np.ndarray:
    """An image file's pixels ``[H, W, 3]`` uint8 in sRGB, relative colorimetric.

    Raises:
        ValueError: the profile is not one for the image.
    """
    from PIL import Image, ImageCms

    try:
        with Image.open(io.BytesIO(data)) as image:
            source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
            done = ImageCms.profileToProfile(
                image, source, ImageCms.createProfile("sRGB"), ImageCms.Intent.RELATIVE_COLORIMETRIC, outputMode="RGB"
            )
            return np.asarray(done)
    except ImageCms.PyCMSError as error:
        raise ValueError(f"it does not fit the image: {error}") from error


def _tags(data: bytes) -> dict[bytes, bytes]:
    if len(data) < 132 or data[36:40] != b"acsp":
        raise ValueError("its ICC profile is cut off")
    (count,) = struct.unpack_from(">I", data, 128)
    tags = {}
    for at in range(132, min(132 + 12 * count, len(data) - 11), 12):
        name, start, size = struct.unpack_from(">4sII", data, at)
        tags[name] = data[start : start + size]
    return tags


def _description(data: bytes) -> str:
    from PIL import ImageCms

    try:
        return ImageCms.getProfileDescription(ImageCms.ImageCmsProfile(io.BytesIO(data))).strip(" \n\0") or "no name"
    except (ImageCms.PyCMSError, OSError):
        return "no name"


def _xyz(tag: bytes) -> np.ndarray:
    if len(tag) < 20:
        raise ValueError("its ICC profile is cut off")
    return np.array(struct.unpack_from(">3i", tag, 8)) / 65536.0


def _curve(tag: bytes) -> Curve:
    kind = tag[:4]
    try:
        if kind == b"curv":
            (count,) = struct.unpack_from(">I", tag, 8)
            table = np.frombuffer(tag, ">u2", count, 12).astype(np.float64)
            if count == 0:
                return lambda x: x
            if count == 1:
                return lambda x: x ** (table[0] / 256.0)
            return lambda x: np.interp(x, np.linspace(0, 1, count), table / 65535.0)
        if kind == b"para":
            (form,) = struct.unpack_from(">H", tag, 8)
            count = (1, 3, 4, 5, 7)[form]
            return _parametric(*(np.array(struct.unpack_from(f">{count}i", tag, 12)) / 65536.0))
    except (struct.error, ValueError, IndexError) as error:
        raise ValueError("a curve of its ICC profile is broken") from error
    raise ValueError(f"its ICC profile has a curve of an unknown kind {kind!r}")


def _parametric(
    g: float, a: float = 1.0, b: float = 0.0, c: float = 0.0, d: float | None = None, e: float = 0.0, f: float = 0.0
) -> Curve:
    """``para`` of types 0 to 4; of types 1 and 2 ``c`` is what is added, and they begin at −b/a."""
    if d is None:  # below −b/a the curve is c
        return lambda x: np.maximum(a * x + b, 0.0) ** g + c
    return lambda x: np.where(x >= d, np.maximum(a * x + b, 0.0) ** g + e, c * x + f)
