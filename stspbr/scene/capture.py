"""Frames and captures: what the cameras saw of one object."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from stspbr.scene.camera import Camera
from stspbr.scene.light import EnvironmentLight


@dataclass
class Frame:
    """One image of the object.

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


@dataclass
class Capture:
    """Frames of one object and, where it is known, the light they were taken under.

    Attributes:
        frames: in the order of the files they came from.
        light: where it is known.
        original_from_world: ``[4, 4]`` float64 similarity (uniform scale, rotation, translation) that puts points of
            this capture's world back into the world that the poses came in: assets and cameras can be put back with
            it. None where the world is the original one.
    """

    frames: list[Frame]
    light: EnvironmentLight | None = None
    original_from_world: np.ndarray | None = None

    def split(self, name: str) -> list[Frame]:
        """The frames of one split, in order."""
        return [frame for frame in self.frames if frame.split == name]
