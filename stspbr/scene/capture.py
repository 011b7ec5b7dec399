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
    """

    name: str
    camera: Camera
    image: np.ndarray
    alpha: np.ndarray
    object_to_world: np.ndarray = field(default_factory=lambda: np.eye(4))
    split: str = "train"
    saturation: float = float("inf")


@dataclass
class Capture:
    """Frames of one object and, where it is known, the light they were taken under."""

    frames: list[Frame]
    light: EnvironmentLight | None = None

    def split(self, name: str) -> list[Frame]:
        """The frames of one split, in order."""
        return [frame for frame in self.frames if frame.split == name]
