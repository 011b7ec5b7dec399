"""Photographs without lens distortion, reduced, and made anew whenever their pixels are asked for."""

from __future__ import annotations

import functools
import zlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from stspbr.datasets.lens import Lens, PinholeImage, object_bounds, pinhole_image, undistorted, undistortion_map
from stspbr.errors import StspbrError
from stspbr.formats.masks import MaskReading
from stspbr.photos.grabcut import inside_box
from stspbr.photos.photographs import Photo, read_mask, read_masks, read_photo
from stspbr.photos.sparse_model import SparseModel, View
from stspbr.photos.working_photos import Outline
from stspbr.scene import Camera
from stspbr.scene.object_sphere import COVERED, MaskSummary
from stspbr.scene.stored_frame import Pixels

Box = tuple[float, float, float, float]


class PackedMask:
    """A mask ``[H, W]`` of booleans in a few kilobytes; ``unpacked()`` gives it back."""

    def __init__(self, mask: np.ndarray) -> None:
        self._shape, self._bytes = mask.shape, zlib.compress(np.packbits(mask).tobytes(), 1)

    def unpacked(self) -> np.ndarray:
        bits = np.frombuffer(zlib.decompress(self._bytes), np.uint8)
        return np.unpackbits(bits, count=self._shape[0] * self._shape[1]).reshape(self._shape).astype(bool)


class UnpackedMasks(Sequence[np.ndarray]):
    """The masks of shots, each unpacked when it is asked for."""

    def __init__(self, shots: Iterable[Shot]) -> None:
        self._masks = [shot.covered for shot in shots]

    def __len__(self) -> int:
        return len(self._masks)

    def __getitem__(self, index: int) -> np.ndarray:  # type: ignore[override]
        return self._masks[index].unpacked()


@dataclass(eq=False)  # one photo, one shot
class Shot:
    """A photo without distortion; nothing of the size of its pixels is held.

    Attributes:
        camera: a pinhole, of the reduced size.
        mask_file: its mask, if there is one, which means what ``reading`` decided.
        outline: its mask if one was carried to it.
        mask: where it is covered, once :meth:`look` has been called; ``summary``: of its alpha, likewise.
        box: of the photo that has one, in its pixels.
    """

    view: View
    photo: Photo
    camera: Camera
    mask_file: Path | None
    lens: Resampling
    reading: MaskReading | None = None
    outline: Outline | None = None
    mask: PackedMask | None = None
    summary: MaskSummary | None = None
    box: Box | None = None

    @property
    def seen(self) -> np.ndarray:
        """Indices of the sparse points that were found in it."""
        return self.view.seen

    @property
    def file_pixels(self) -> int:
        """Pixels of the largest image that is in memory while this one is made."""
        return max(self.photo.exif.width * self.photo.exif.height, self.lens.full_pixels)

    def image(self) -> np.ndarray:
        """``[H, W, 3]`` float32 linear, straight: what is outside of the mask is still wanted by grabcut."""
        return self.lens.resampled(read_photo(self.photo)[0])

    def valid(self) -> np.ndarray:
        """``[H, W]`` bool: the photo reaches there."""
        return self.lens.valid()

    def alpha(self) -> np.ndarray | None:
        """``[H, W, 1]`` float32 coverage in [0, 1]; None if the photo has neither mask nor alpha."""
        if self.outline is not None:
            return self.outline.coverage(self.valid())
        alpha = own_alpha(self.photo, self.mask_file, self.reading)
        return None if alpha is None else np.clip(self.lens.resampled(alpha), 0.0, 1.0)

    @property
    def covered(self) -> PackedMask:
        """``mask`` of a shot that was looked at."""
        if self.mask is None:
            raise StspbrError(f"{self.view.name} has no mask")
        return self.mask

    def look(self) -> None:
        """Keep the mask and its summary."""
        alpha = self._masked()
        self.mask, self.summary = PackedMask(alpha[..., 0] > COVERED), MaskSummary.of(alpha)

    def pixels(self) -> Pixels:
        """Image, premultiplied, alpha, and known if it is not 1 everywhere, as a frame has them."""
        image, alpha, known = self.image(), self._masked(), self.known()
        image *= alpha
        return (image, alpha) if known is None else (image, alpha, known)

    def known(self) -> np.ndarray | None:
        """``[H, W, 1]`` float32 share of each pixel of which the mask says something; None: all of all."""
        if self.outline is not None:
            return self.outline.known(self.valid())
        if self.mask_file is None:
            return None
        known = read_masks(self.mask_file, self.photo, self.reading)[1]
        return None if known is None else np.clip(1.0 - self.lens.resampled(1.0 - known), 0.0, 1.0)

    def _masked(self) -> np.ndarray:
        alpha = self.alpha()
        if alpha is None:
            raise StspbrError(f"{self.view.name} has no mask")
        return alpha


def make_shots(
    model: SparseModel,
    photos: dict[str, Photo],
    masks: dict[str, Path],
    scale: int,
    failed: dict[str, str],
    reading: MaskReading | None = None,
) -> list[Shot]:
    """A shot of every view, in the order of ``photos``. One lens gives images of one size that hold all of the object.

    Args:
        scale: by which the images are reduced.
        failed: is given the reasons for views that no pinhole image can hold.
        reading: of the masks.
    """
    groups: dict[Lens, list[View]] = {}
    for view in model.views:
        groups.setdefault(view.lens, []).append(view)
    mapped = functools.lru_cache(1)(undistortion_map)
    shots = []
    for lens, views in groups.items():
        bounds, kept = [], []
        for view in views:
            try:
                alpha = None if lens.is_pinhole else own_alpha(photos[view.name], masks.get(view.name), reading)
                bounds += [] if alpha is None else [object_bounds(lens, alpha, f"photo {view.name}")]
                kept.append(view)
            except StspbrError as error:
                failed[view.name] = str(error)
        resampling = Resampling(lens, pinhole_image(lens, bounds), scale, mapped)
        shots += [Shot(v, photos[v.name], resampling.camera(v), masks.get(v.name), resampling, reading) for v in kept]
    order = list(photos)
    return sorted(shots, key=lambda shot: order.index(shot.view.name))


def own_alpha(photo: Photo, mask_file: Path | None, reading: MaskReading | None = None) -> np.ndarray | None:
    """The photo's own alpha or its mask ``[H, W, 1]``, the smaller of both, or None if it has neither.

    Raises:
        StspbrError: as :func:`stspbr.photos.photographs.read_mask`.
    """
    alpha = None if photo.path.suffix.lower() in (".jpg", ".jpeg") else read_photo(photo)[1]
    if mask_file is None:
        return alpha
    mask = read_mask(mask_file, photo, reading)
    return mask if alpha is None else np.minimum(alpha, mask)


class Resampling:
    """How the photos of one lens are undistorted to a pinhole image and reduced.

    Args:
        scale: images are averaged over squares of so many pixels; a rest at the right and lower border is cut off.
        mapped: :func:`undistortion_map`, which remembers the last.
    """

    def __init__(self, lens: Lens, pinhole: PinholeImage, scale: int, mapped: Callable[..., np.ndarray]) -> None:
        self._lens, self._pinhole, self._scale, self._mapped = lens, pinhole, scale, mapped
        self._valid: PackedMask | None = None
        self.full_pixels = pinhole.width * pinhole.height
        self.width, self.height = pinhole.width // scale, pinhole.height // scale
        if scale > 1 and min(self.width, self.height) < 8:
            raise StspbrError(f"image_scale={scale} leaves {self.width}x{self.height} pixels: choose a smaller one")

    def camera(self, view: View) -> Camera:
        camera, scale = Camera(view.camera_to_world, **vars(self._pinhole)), self._scale
        if scale == 1:
            return camera
        return camera.resampled((0, 0, self.width * scale, self.height * scale), (self.width, self.height))

    def resampled(self, layers: np.ndarray) -> np.ndarray:
        """``[H, W, C]`` of the photo's size to ``[height, width, C]``, float32; 0 where the photo does not reach."""
        if not self._lens.is_pinhole:
            layers = undistorted(layers, self._mapped(self._lens, self._pinhole))
        scale = self._scale
        if scale == 1:
            return layers
        layers = layers[: self.height * scale, : self.width * scale]
        squares = layers.reshape(self.height, scale, self.width, scale, -1)
        return squares.mean(axis=(1, 3), dtype=np.float64).astype(np.float32)

    def valid(self) -> np.ndarray:
        """``[height, width]`` bool: the photos reach there."""
        if self._valid is None:
            ones = np.ones((self._lens.height, self._lens.width, 1), np.float32)
            self._valid = PackedMask(self.resampled(ones)[..., 0] > 0.999)
        return self._valid.unpacked()

    def moved_box(self, box: Box) -> Box:
        """A box ``x, y, width, height`` of the photo in the undistorted and reduced image."""
        labels = (inside_box((self._lens.height, self._lens.width), box) > 0).astype(np.float32)[..., None]
        if not self._lens.is_pinhole:
            labels = undistorted(labels, self._mapped(self._lens, self._pinhole))
        rows, columns = (np.flatnonzero(labels[..., 0].max(axis=axis) > 0.5) for axis in (1, 0))
        if not len(rows):
            return (0.0, 0.0, 0.0, 0.0)  # outside of the photo: the masks' code says so
        scale = self.height / labels.shape[0]
        left, top = columns[0] * scale, rows[0] * scale
        return left, top, (columns[-1] + 1) * scale - left, (rows[-1] + 1) * scale - top
