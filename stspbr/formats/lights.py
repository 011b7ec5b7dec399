"""Files of environment light, in any of the usual layouts of the sphere, as lat-long maps.

The middle of every layout shows −Z, with +X to its right and +Y above it, as our lat-long maps do:

- ``cross``: six square faces unfolded, 4:3 (left, front, right, back in the middle row) or 3:4 (back, upside down, at
  the bottom);
- ``strip``: six square faces in a row or a column: right, left, top, bottom, front, back;
- ``angular``: Debevec's light probe: the angle to −Z grows with the distance from the middle, up to 180° at the rim;
- ``mirror-ball``: a mirroring ball that fills the square, photographed along −Z from afar: its middle shows +Z.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import numpy as np

from stspbr.errors import StspbrError
from stspbr.formats.images import read_image
from stspbr.notes import Notes
from stspbr.scene.light import EnvironmentLight, latlong_to_direction

LightLayout = Literal["latlong", "cross", "strip", "angular", "mirror-ball"]
_SAMPLES = 4  # along each side of a texel
_LIMITS = {1.0: 1e-3, 65504.0: 0.0}  # where lights are clipped, and the share of pixels there that shows it
# faces as the directions of right, up and outwards
_FACES = {
    "right": ((0, 0, 1), (0, 1, 0), (1, 0, 0)), "left": ((0, 0, -1), (0, 1, 0), (-1, 0, 0)),
    "top": ((1, 0, 0), (0, 0, 1), (0, 1, 0)), "bottom": ((1, 0, 0), (0, 0, -1), (0, -1, 0)),
    "front": ((1, 0, 0), (0, 1, 0), (0, 0, -1)), "back": ((-1, 0, 0), (0, 1, 0), (0, 0, 1)),
}  # fmt: skip
_TURNED_BACK = ((1, 0, 0), (0, -1, 0), (0, 0, 1))  # upside down, as the vertical cross has it


def read_light(path: str | Path, layout: LightLayout = "latlong", notes: Notes | None = None) -> EnvironmentLight:
    """The light of a file.

    Args:
        layout: of the file; other layouts than ``latlong`` are resampled.
        notes: receives what was converted, and a warning of light that is clipped.

    Raises:
        StspbrError: as :func:`stspbr.formats.images.read_image`; another shape than the layout has; radiance that is
            negative or not finite.
    """
    name = Path(path).name
    radiance, _, saturation = read_image(path, notes=notes)
    if not np.isfinite(radiance).all() or (radiance < 0).any():
        raise StspbrError(f"{path}: the light has pixels that are negative or not finite: clean the image")
    height, width = radiance.shape[:2]
    if not _fits(width, height, layout):
        raise StspbrError(f"{path}: the light is {width}x{height}, {_remedy(width, height, layout)}")
    if notes is not None:
        _note_clipping(radiance, saturation, notes, name)
    if layout == "latlong":
        return EnvironmentLight(radiance)
    if notes is not None:
        notes(f"the light is resampled from the layout {layout}", name)
    return EnvironmentLight(_latlong(radiance, layout))


def _fits(width: int, height: int, layout: LightLayout) -> bool:
    if layout == "latlong":
        return abs(width - 2 * height) <= 1
    if layout == "cross":
        return 3 * width == 4 * height or 4 * width == 3 * height
    if layout == "strip":
        return width == 6 * height or height == 6 * width
    return width == height


def _remedy(width: int, height: int, layout: LightLayout) -> str:
    shapes = {"latlong": "twice as wide as high", "cross": "4:3 or 3:4", "strip": "6:1 or 1:6"}
    wanted = f"but a light of the layout {layout} is {shapes.get(layout, 'square')}"
    fitting = [each for each in ("latlong", "cross", "strip", "angular", "mirror-ball") if _fits(width, height, each)]
    if fitting:
        layouts = " or ".join(fitting)
        return f"{wanted}: give --light-layout {layouts} if that is its layout, or convert it to a lat-long map"
    return f"{wanted}: convert it to a lat-long map"


def _note_clipping(radiance: np.ndarray, saturation: float, notes: Notes, name: str) -> None:
    brightest = radiance.max(axis=-1)
    if np.isfinite(saturation):
        share = float((brightest >= saturation).mean())
        notes(
            f"the light is clipped at 1 (8 or 16 bits), {share:.1%} of its pixels are at that limit: an HDR or EXR "
            "would hold the light", name,
        )  # fmt: skip
    elif (top := float(brightest.max())) in _LIMITS and brightest.min() < top:
        share = float((brightest == top).mean())
        if share >= _LIMITS[top]:
            notes(
                f"the light seems to be clipped: {share:.1%} of its pixels are exactly {top:g} and none is above", name
            )


def _latlong(radiance: np.ndarray, layout: LightLayout) -> np.ndarray:
    """The map ``[H, 2H, 3]``: texels are means of their directions by solid angle."""
    side = radiance.shape[0] if layout in ("angular", "mirror-ball") else 2 * _face_side(radiance)
    height, width, k = side, 2 * side, _SAMPLES
    out = np.empty((height, width, 3), np.float32)
    u = (np.arange(width * k) + 0.5) / (width * k)
    for row in range(height):
        v = (row * k + np.arange(k) + 0.5) / (height * k)
        directions = latlong_to_direction(np.stack(np.meshgrid(u, v), axis=-1))
        values = _looked_up(radiance, directions, layout).reshape(k, width, k, 3).mean(axis=2)
        weight = np.sin(np.pi * v)
        out[row] = np.einsum("kwc,k->wc", values, weight / weight.sum())
    return out


def _looked_up(radiance: np.ndarray, directions: np.ndarray, layout: LightLayout) -> np.ndarray:
    if layout in ("angular", "mirror-ball"):
        x, y, z = np.moveaxis(directions, -1, 0)
        if layout == "angular":
            across = np.hypot(x, y)
            scale = np.arccos(np.clip(-z, -1, 1)) / np.pi / np.where(across > 0, across, 1.0)
        else:  # the normal of the ball halves the way from the direction to the camera at +Z
            scale = 1.0 / np.sqrt(np.maximum(2.0 + 2.0 * z, 1e-12))
        return _bilinear(radiance, scale * x, scale * y)
    out = np.empty(directions.shape, np.float64)
    faces = _faces(radiance)
    axes = [np.array(basis, np.float64) for _, basis in faces]
    nearest = np.argmax([directions @ basis[2] for basis in axes], axis=0)
    for number, ((face, _), basis) in enumerate(zip(faces, axes, strict=True)):
        chosen = nearest == number
        ahead = directions[chosen] @ basis[2]
        out[chosen] = _bilinear(face, directions[chosen] @ basis[0] / ahead, directions[chosen] @ basis[1] / ahead)
    return out


def _bilinear(image: np.ndarray, u: np.ndarray, v: np.ndarray) -> np.ndarray:
    """Values at ``u`` (to the right) and ``v`` (up), both in [-1, 1] over the image; the border is continued."""
    from scipy.ndimage import map_coordinates

    height, width = image.shape[:2]
    place = [(1 - v) / 2 * height - 0.5, (u + 1) / 2 * width - 0.5]
    return np.stack([map_coordinates(image[..., c], place, order=1, mode="nearest") for c in range(3)], axis=-1)


def _face_side(radiance: np.ndarray) -> int:
    height, width = radiance.shape[:2]
    return min(height, width) if max(height, width) == 6 * min(height, width) else max(height, width) // 4


def _faces(radiance: np.ndarray) -> list[tuple[np.ndarray, tuple[tuple[int, int, int], ...]]]:
    side, (height, width) = _face_side(radiance), radiance.shape[:2]
    if max(height, width) == 6 * side:
        places = {name: (0, k) if width > height else (k, 0) for k, name in enumerate(_FACES)}
    elif width > height:
        places = {"left": (1, 0), "front": (1, 1), "right": (1, 2), "back": (1, 3), "top": (0, 1), "bottom": (2, 1)}
    else:
        places = {"left": (1, 0), "front": (1, 1), "right": (1, 2), "top": (0, 1), "bottom": (2, 1), "back": (3, 1)}
    bases = {**_FACES, "back": _TURNED_BACK} if height * 3 == width * 4 else _FACES
    return [
        (radiance[row * side : (row + 1) * side, column * side : (column + 1) * side], bases[name])
        for name, (row, column) in places.items()
    ]
