"""Frames and captures: what the cameras saw of one object."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

import numpy as np

from stspbr.scene.camera import Camera
from stspbr.scene.light import EnvironmentLight
from stspbr.scene.origin import far_offset, shift

T = TypeVar("T")

WHOLLY_KNOWN = 0.999
"""Share of a pixel from which ``Frame.known`` lets it count."""


@dataclass
class Frame:
    """One image of the object, with its pixels in memory; :class:`stspbr.scene.stored_frame.StoredFrame` leaves them.

    Attributes:
        name: unique within the capture; the image's path relative to the capture as a rule.
        camera: where it was taken from.
        image: ``[H, W, 3]`` float32 linear radiance, **premultiplied** by ``alpha``: the object over black.
        alpha: ``[H, W, 1]`` float32 coverage in [0, 1].
        object_to_world: ``[4, 4]`` float64 rigid pose of the object; the light stays in the world.
        split: ``"train"`` or ``"test"`` (held out).
        saturation: the linear radiance at which the sensor clips (1 for 8-bit files, ``inf`` for HDR).
        exposure: what the camera multiplied radiance by, relative to the other frames and still in the image;
            None: not known, or divided out.
        white_balance: likewise the gains of red, green and blue.
        known: ``[H, W, 1]`` float32 share of each pixel of which the mask says something; where that is below 1, the
            pixel counts nowhere, and its alpha is at most the share. None: 1.
        divided_by: factors of red, green and blue that were divided out of the image, because exposure or white
            balance were known; None: 1.
    """

    name: str
    camera: Camera
    image: np.ndarray
    alpha: np.ndarray
    object_to_world: np.ndarray = field(default_factory=lambda: np.eye(4))
    split: str = "train"
    saturation: float = float("inf")
    exposure: float | None = None
    white_balance: tuple[float, float, float] | None = None
    divided_by: tuple[float, float, float] | None = None
    known: np.ndarray | None = None

    def loaded(self) -> Frame:
        """This frame with its pixels in memory."""
        return self

    def summary(self, of: Callable[[Frame], T]) -> T:
        """``of(self)``: something small that pixels, name and camera's size alone determine."""
        return of(self)

    def window(self, left: int, top: int, width: int, height: int) -> tuple[np.ndarray, np.ndarray]:
        """Image and alpha of the pixels from column ``left`` and row ``top`` on; they lie inside the frame."""
        rows, columns = slice(top, top + height), slice(left, left + width)
        return self.image[rows, columns], self.alpha[rows, columns]

    def reduced(self, scale: int) -> tuple[np.ndarray, np.ndarray]:
        """Image and alpha as means of whole blocks of ``scale`` by ``scale`` pixels, from the top left on.

        Less than ``scale`` columns and rows are left over at the right and at the bottom if it does not divide them.
        """
        return block_means(self.image, scale), block_means(self.alpha, scale)

    def known_window(self, left: int, top: int, width: int, height: int) -> np.ndarray | None:
        """``known`` of ``window``."""
        known = self.known
        return None if known is None else known[top : top + height, left : left + width]

    def known_reduced(self, scale: int) -> np.ndarray | None:
        """``known`` of ``reduced``."""
        known = self.known
        return None if known is None else block_means(known, scale)

    def with_fields(self, **fields: Any) -> Frame:
        """The same pixels with other poses, clipping planes, split or exposure."""
        return replace(self, **fields)

    def with_pixels(
        self, change: Callable[[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]], **fields: Any
    ) -> Frame:
        """Image and alpha put through ``change``, with the fields that this changes, too."""
        image, alpha, *known = changed_pixels(change, (self.image, self.alpha, self.known))
        return replace(self, image=image, alpha=alpha, known=known[0] if known else None, **fields)


@dataclass
class Capture:
    """Frames of one object and, where it is known, the light they were taken under.

    Attributes:
        frames: in the order of the files they came from.
        light: where it is known.
        original_from_world: ``[4, 4]`` float64 similarity (uniform scale, rotation, translation) that puts points of
            this capture's world back into the world that the poses came in: assets and cameras can be put back with
            it. None where the world is the original one. Of objects that turn, it is their own space that it puts back.
    """

    frames: list[Frame]
    light: EnvironmentLight | None = None
    original_from_world: np.ndarray | None = None

    def split(self, name: str) -> list[Frame]:
        """The frames of one split, in order."""
        return [frame for frame in self.frames if frame.split == name]

    def near_origin(self) -> Capture:
        """The capture in a world moved to the origin if its cameras are far; ``original_from_world`` puts it back.

        Survey coordinates do not fit the float32 that everything after this computes in. Objects that stand still
        under the identity move with the world.
        """
        offset = far_offset(np.array([frame.camera.position for frame in self.frames]).reshape(-1, 3))
        if not offset.any():
            return self
        back, forth = shift(-offset), shift(offset)
        still = all(np.array_equal(frame.object_to_world, np.eye(4)) for frame in self.frames)
        frames = []
        for frame in self.frames:
            camera = replace(frame.camera, camera_to_world=back @ frame.camera.camera_to_world)
            pose = frame.object_to_world if still else back @ frame.object_to_world
            frames.append(frame.with_fields(camera=camera, object_to_world=pose))
        original = np.eye(4) if self.original_from_world is None else np.asarray(self.original_from_world, np.float64)
        return replace(self, frames=frames, original_from_world=original @ forth)


def changed_pixels(change: Callable[..., tuple[np.ndarray, np.ndarray]], pixels: Any) -> tuple[np.ndarray, ...]:
    """Image, alpha and, if it is there, ``known`` after ``change``, which treats ``known`` as it does alpha."""
    image, alpha, *rest = pixels
    if not rest or rest[0] is None:
        return change(image, alpha)
    return (*change(image, alpha), change(image, rest[0])[1])


def block_means(image: np.ndarray, scale: int) -> np.ndarray:
    """``[H, W, C]`` reduced to ``[H // scale, W // scale, C]`` by the means of blocks; itself if ``scale`` is 1."""
    if scale == 1:
        return image
    height, width = image.shape[0] // scale, image.shape[1] // scale
    whole = image[: height * scale, : width * scale]
    return whole.reshape(height, scale, width, scale, -1).mean(axis=(1, 3))
