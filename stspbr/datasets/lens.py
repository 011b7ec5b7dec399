"""Lenses as COLMAP names them, and images taken through them resampled to pinhole images.

Pixel coordinates are COLMAP's, which are ours: (0, 0) is the image's top-left corner, pixel centres lie at +0.5.
OpenCV counts from the centre of the first pixel instead; that half pixel is taken off in :func:`undistortion_map`
and nowhere else. Rays are in camera space with COLMAP's axes: +X right, +Y down, +Z forward.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from stspbr.errors import StspbrError, missing_extra
from stspbr.notes import Notes

# Parameters of each model in COLMAP's order: https://colmap.github.io/cameras.html
_MODELS = {
    "SIMPLE_PINHOLE": "f cx cy",
    "PINHOLE": "fx fy cx cy",
    "SIMPLE_RADIAL": "f cx cy k",
    "RADIAL": "f cx cy k1 k2",
    "OPENCV": "fx fy cx cy k1 k2 p1 p2",
    "FULL_OPENCV": "fx fy cx cy k1 k2 p1 p2 k3 k4 k5 k6",
    "SIMPLE_DIVISION": "f cx cy k",
    "DIVISION": "fx fy cx cy k",
    "FOV": "fx fy cx cy omega",
    "EUCM": "fx fy cx cy alpha beta",
    "SIMPLE_FISHEYE": "f cx cy",
    "FISHEYE": "fx fy cx cy",
    "SIMPLE_RADIAL_FISHEYE": "f cx cy k",
    "RADIAL_FISHEYE": "f cx cy k1 k2",
    "OPENCV_FISHEYE": "fx fy cx cy k1 k2 k3 k4",
    "THIN_PRISM_FISHEYE": "fx fy cx cy k1 k2 p1 p2 k3 k4 sx1 sy1",
    "RAD_TAN_THIN_PRISM_FISHEYE": "fx fy cx cy k0 k1 k2 k3 k4 k5 p0 p1 s0 s1 s2 s3",
}
_WIDEST = math.tan(math.radians(80.0))  # a pinhole image of more has 6 times the side and shows next to nothing
_GROWTH = 8
_FOLD_STEP = 8
_BAND = 256  # rows
_LARGEST = 4.0  # sides of the pinhole image over the photograph's


@dataclass(frozen=True)
class Lens:
    """A camera's intrinsics with distortion, for images of ``width × height`` pixels.

    Attributes:
        model: COLMAP's name; params: its parameters in COLMAP's order, see :func:`lens`.
    """

    model: str
    params: tuple[float, ...]
    width: int
    height: int

    @property
    def intrinsics(self) -> tuple[float, float, float, float]:
        """``fx, fy, cx, cy`` in pixels, distortion aside."""
        p = self.params
        return (p[0], p[0], p[1], p[2]) if _MODELS[self.model].startswith("f ") else (p[0], p[1], p[2], p[3])

    @property
    def is_pinhole(self) -> bool:
        """Whether it is a pinhole as it stands: a perspective model whose coefficients are all 0."""
        return "FISHEYE" not in self.model and self.model != "EUCM" and not any(self.distortion)

    @property
    def distortion(self) -> tuple[float, ...]:
        """The parameters after focal lengths and principal point."""
        return self.params[3 if _MODELS[self.model].startswith("f ") else 4 :]

    def scaled(self, width: int, height: int) -> Lens:
        """The same lens for the image resampled to ``width × height``."""
        sx, sy = width / self.width, height / self.height
        fx, fy, cx, cy = self.intrinsics
        if _MODELS[self.model].startswith("f "):
            head: tuple[float, ...] = (fx * math.sqrt(sx * sy), cx * sx, cy * sy)
        else:
            head = (fx * sx, fy * sy, cx * sx, cy * sy)
        return Lens(self.model, head + self.params[len(head) :], width, height)

    def project(self, rays: np.ndarray) -> np.ndarray:
        """Pixel coordinates ``[N, 2]`` float64 of camera-space directions ``[N, 3]``; NaN behind the camera."""
        return np.asarray(self._camera().img_from_cam(np.ascontiguousarray(rays, np.float64)))

    def unproject(self, pixels: np.ndarray) -> np.ndarray:
        """``x/z, y/z`` ``[N, 2]`` float64 of pixel coordinates ``[N, 2]``; NaN where no ray in front leads there."""
        pixels = np.ascontiguousarray(pixels, np.float64)
        rays = np.asarray(self._camera().cam_from_img(pixels))
        again = self.project(np.concatenate([rays, np.ones_like(rays[:, :1])], axis=1))
        wrong = ~(np.abs(again - pixels).max(axis=1, initial=0.0) < 0.01)  # the iteration found no solution
        rays[wrong] = np.nan
        return rays

    def _camera(self) -> Any:
        pycolmap = pycolmap_for(f"lenses with distortion ({self.model})")
        return pycolmap.Camera(model=self.model, width=self.width, height=self.height, params=list(self.params))


@dataclass(frozen=True)
class PinholeImage:
    """Intrinsics and size of a pinhole image: the fields of :class:`stspbr.scene.camera.Camera` without the pose."""

    fx: float
    fy: float
    cx: float
    cy: float
    width: int
    height: int


def pycolmap_for(purpose: str) -> Any:
    """The module pycolmap; StspbrError that names the extra and ``purpose``, a plural, if it is not installed."""
    try:
        import pycolmap
    except ImportError:
        raise missing_extra("pycolmap", "photos", purpose) from None
    return pycolmap


def lens(model: str, params: Sequence[float], width: int, height: int, where: str) -> Lens:
    """A checked lens.

    Args:
        model, params: COLMAP's name and parameters, focal lengths and principal point in pixels.
        where: what has this lens, for the error: "camera 3", "frame images/a.jpg".

    Raises:
        StspbrError: a model that is unknown or not a perspective image, or numbers that do not fit it.
    """
    if model not in _MODELS:
        what = "is a panorama, not a photograph" if model == "EQUIRECTANGULAR" else "is unknown"
        raise StspbrError(f"{where}: the camera model {model} {what}: choose one of {', '.join(_MODELS)}")
    try:
        values = tuple(float(value) for value in params)
    except (TypeError, ValueError):
        raise StspbrError(f"{where}: its {model} camera has a parameter that is not a number: fix it") from None
    names = _MODELS[model].split()
    if len(values) != len(names):
        raise StspbrError(f"{where}: {model} needs {len(names)} parameters ({' '.join(names)}), not {len(values)}: fix")
    if not np.isfinite(values).all() or width < 1 or height < 1:
        raise StspbrError(f"{where}: its {model} camera has a size or parameter that is not finite: fix it")
    made = Lens(model, values, int(width), int(height))
    if min(made.intrinsics[:2]) <= 0:
        raise StspbrError(f"{where}: its focal length is not a positive number: check the camera's parameters")
    return made


def resized_lens(made: Lens, width: int, height: int, where: str, notes: Notes | None = None) -> Lens:
    """The lens of images of ``width × height``, which may be all of its own images resampled, with a note.

    Raises:
        StspbrError: the shape is another one: intrinsics of a cropped or turned image cannot be found.
    """
    if (made.width, made.height) == (width, height):
        return made
    if abs(width * made.height - height * made.width) > max(made.width, made.height):
        raise StspbrError(
            f"{where}: the image is {width}x{height} but its camera {made.width}x{made.height}, of another shape "
            "(cropped or turned): use the images that the camera was calibrated with"
        )
    if notes is not None:
        size = f"{width}x{height}, their cameras {made.width}x{made.height}"
        notes(f"the images are {size}: focal lengths and principal points are scaled to fit")
    return made.scaled(width, height)


def parameter_names(model: str) -> list[str]:
    """The parameters of a model in COLMAP's order; none for an unknown model."""
    return _MODELS.get(model, "").split()


def pinhole_image(lens: Lens, bounds: Sequence[tuple[float, float, float, float]] = ()) -> PinholeImage:
    """The pinhole image that a lens's photographs are resampled to.

    Focal lengths, principal point and size are the photograph's, so that most pixels keep their size; where an object
    lies outside, the image grows until it holds it, by 8 pixels at a time: what divided its sides still does.

    Args:
        bounds: :func:`object_bounds` of every photograph.
    """
    fx, fy, cx, cy = lens.intrinsics
    rows = np.array([(0.0, 0.0, lens.width, lens.height), *bounds], np.float64)
    left, top = (_growth(-rows[:, k].min()) for k in (0, 1))
    right, bottom = (_growth(rows[:, k].max() - side) for k, side in ((2, lens.width), (3, lens.height)))
    return PinholeImage(fx, fy, cx + left, cy + top, left + lens.width + right, top + lens.height + bottom)


def object_bounds(lens: Lens, alpha: np.ndarray, where: str) -> tuple[float, float, float, float]:
    """Where the covered pixels of a photograph go: left, top, right, bottom in pixels of the ungrown pinhole image.

    Args:
        alpha: ``[H, W, 1]`` coverage; every pixel above 2 % counts (less is what JPEG leaves in a mask), with the
            neighbours that bilinear weights reach.

    Raises:
        StspbrError: the object is where the lens sees no ray, or so far aside that no pinhole image can hold it.
    """
    covered = alpha[..., 0] > 0.02
    if not covered.any():
        return 0.0, 0.0, float(lens.width), float(lens.height)
    padded = np.pad(covered, 1)
    inner = padded[:-2, 1:-1] & padded[2:, 1:-1] & padded[1:-1, :-2] & padded[1:-1, 2:]
    centres = np.argwhere(covered & ~inner)[:, ::-1] + 0.5  # extremes of a region lie on its outline
    around = np.array([[-1, -1], [1, -1], [-1, 1], [1, 1]])
    rays = lens.unproject(np.unique((centres[:, None] + around).reshape(-1, 2), axis=0))
    seen = np.isfinite(rays).all(axis=1)
    if not seen.all():
        core = lens.unproject(centres)
        if not np.isfinite(core).all():
            lost = int((~np.isfinite(core).all(axis=1)).sum())
            raise StspbrError(
                f"{where}: {lost} pixels of the object's outline are where its {lens.model} lens sees nothing: "
                "calibrate the camera again, or mask them out"
            )
        rays = np.concatenate([rays[seen], core])
    widest = float(np.hypot(rays[:, 0], rays[:, 1]).max())
    fx, fy, cx, cy = lens.intrinsics
    low, high = rays.min(axis=0) * (fx, fy) + (cx, cy), rays.max(axis=0) * (fx, fy) + (cx, cy)
    sides = (np.maximum(high, (lens.width, lens.height)) - np.minimum(low, 0.0)) / (lens.width, lens.height)
    if widest > _WIDEST or sides.max() > _LARGEST:
        angle = math.degrees(math.atan(widest))
        raise StspbrError(
            f"{where}: the object reaches {angle:.0f} degrees from the optical axis, too far aside for a pinhole "
            "image: leave the frame out, or mask that part out"
        )
    return float(low[0]), float(low[1]), float(high[0]), float(high[1])


def undistortion_map(lens: Lens, image: PinholeImage) -> np.ndarray:
    """``[H, W, 2]`` float32: for each pixel of ``image`` the column and row of the photograph, as cv2.remap has them.

    Pixels whose ray the lens does not see, among them those where its polynomial has folded back, lie at −10⁴.
    """
    columns, rows = np.arange(image.width), np.arange(image.height)

    def rays(rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
        x, y = np.meshgrid((columns + 0.5 - image.cx) / image.fx, (rows + 0.5 - image.cy) / image.fy)
        return np.stack([x, y, np.ones_like(x)], axis=-1).reshape(-1, 3)

    def pixels_of(rays: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        pixels = lens.project(rays)
        return pixels, np.all((pixels > -1) & (pixels < (lens.width + 1, lens.height + 1)), axis=-1)  # False for NaN

    # The inverse is slow where it fails, so some pixels tell first whether there is a fold at all.
    some = rays(*(np.union1d(side[::_FOLD_STEP], side[-1:]) for side in (rows, columns)))
    pixels, inside = pixels_of(some)
    folds = _folded(lens, some[inside], pixels[inside]).any()
    out = np.empty((image.height, image.width, 2), np.float32)
    for first in range(0, image.height, _BAND):  # 64-bit numbers of all rays at once would be 1 GB
        band = rays(rows[first : first + _BAND], columns)
        pixels, inside = pixels_of(band)
        if folds:
            inside[inside] = ~_folded(lens, band[inside], pixels[inside])
        pixels[~inside] = -1e4
        out[first : first + _BAND] = (pixels - 0.5).reshape(-1, image.width, 2)
    return out


def undistorted(rgba: np.ndarray, where_from: np.ndarray) -> np.ndarray:
    """A photograph resampled bilinearly.

    Args:
        rgba: ``[H, W, C]`` float32 with C of 1, 3 or 4, linear and premultiplied by alpha (of other C OpenCV rounds
            the places to 1/32 pixel).
        where_from: :func:`undistortion_map`.

    Returns:
        ``[H', W', C]`` float32; 0 outside the photograph.
    """
    try:
        import cv2
    except ImportError:
        raise missing_extra("opencv-python-headless", "photos", "lenses with distortion") from None
    out = cv2.remap(  # type: ignore[call-overload]  # its stubs want the second map, which is None for a map of pairs
        np.ascontiguousarray(rgba, np.float32),
        where_from,
        None,
        cv2.INTER_LINEAR,
        borderMode=cv2.BORDER_CONSTANT,
        borderValue=0,
    )
    return out.reshape(*where_from.shape[:2], rgba.shape[-1])


def _growth(pixels: float) -> int:
    return _GROWTH * math.ceil(max(0.0, pixels) / _GROWTH)


def _folded(lens: Lens, rays: np.ndarray, pixels: np.ndarray) -> np.ndarray:
    """Where a polynomial has folded back: it sends two rays to one pixel, and the photograph shows the inner one."""
    again = lens.unproject(pixels)
    return ~(np.abs(again - rays[:, :2]).max(axis=1, initial=0.0) < 1e-3 * (1.0 + np.abs(rays[:, :2]).max(axis=1)))
