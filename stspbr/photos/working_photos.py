"""Photos while masks are carried from one to the other, and the resulting outlines."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from stspbr.photos.grabcut import require_opencv
from stspbr.scene.camera import Camera

_SMALL_SIDE, _FULL_SIDE = 512, 1600  # longer sides at which masks are carried, and their outlines drawn
_SOFTNESS = 0.7  # pixels: the coverage of a straight edge, about


@dataclass(frozen=True)
class PosedPhoto:
    """A photo without lens distortion, and where it was taken from.

    Attributes:
        name: of the photo.
        image: ``[H, W, 3]`` uint8 sRGB.
        valid: ``[H, W]`` bool: the photo reaches there.
        camera: of the image's size.
        seen: ``[K]`` indices of the sparse points that were found in it.
    """

    name: str
    image: np.ndarray
    valid: np.ndarray
    camera: Camera
    seen: np.ndarray


@dataclass(frozen=True)
class WorkingPhoto:
    """A photo while masks are carried: small in memory, and in a file at the size of its outline.

    Attributes:
        size: width and height of the photo itself.
    """

    small: PosedPhoto
    size: tuple[int, int]
    file: Path

    @classmethod
    def of(cls, photo: PosedPhoto, file: Path) -> WorkingPhoto:
        """Reduce a photo; ``file`` (``.npz``) is written."""
        fine = _resized(photo, _FULL_SIDE)
        np.savez(file, image=fine.image, valid=fine.valid)
        return cls(_resized(photo, _SMALL_SIDE), (photo.camera.width, photo.camera.height), file)

    def fine(self) -> tuple[np.ndarray, np.ndarray]:
        """Image and validity at the size of the outline."""
        with np.load(self.file) as arrays:
            return arrays["image"], arrays["valid"]


@dataclass(frozen=True)
class Outline:
    """A mask as it was cut, ``[h, w]`` bool of at most 1600 pixels per side; its coverage is made on request.

    Attributes:
        unknown: ``[h, w]`` bool: where the mask means nothing; None: nowhere.
    """

    mask: np.ndarray
    unknown: np.ndarray | None = None

    def known(self, valid: np.ndarray) -> np.ndarray | None:
        """``[H, W, 1]`` float32, 1 where the mask is known and 0 where not, at the size of ``valid``; None: 1."""
        if self.unknown is None:
            return None
        cv2 = require_opencv()
        known = (~self.unknown).astype(np.float32)
        known = cv2.resize(known, valid.shape[::-1], interpolation=cv2.INTER_NEAREST)
        return np.ascontiguousarray(known[..., None])

    def coverage(self, valid: np.ndarray) -> np.ndarray:
        """``[H, W, 1]`` float32 in [0, 1] at the photo's size, that of ``valid``: soft at the outline."""
        cv2 = require_opencv()
        alpha = cv2.GaussianBlur(self.mask.astype(np.float32), (0, 0), _SOFTNESS)
        size = valid.shape[::-1]
        alpha = alpha if alpha.shape == valid.shape else cv2.resize(alpha, size, interpolation=cv2.INTER_LINEAR)
        return np.ascontiguousarray((alpha * valid)[..., None])


def _resized(photo: PosedPhoto, side: int) -> PosedPhoto:
    cv2 = require_opencv()
    camera = photo.camera
    factor = min(1.0, side / max(camera.width, camera.height))
    width, height = max(1, round(camera.width * factor)), max(1, round(camera.height * factor))
    image = cv2.resize(photo.image, (width, height), interpolation=cv2.INTER_AREA)
    valid = cv2.resize(photo.valid.astype(np.uint8), (width, height), interpolation=cv2.INTER_NEAREST).astype(bool)
    return PosedPhoto(photo.name, image, valid, camera.resized(width, height), photo.seen)
