"""Where the light is fixed: in the world, on the camera, or on the object."""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

import numpy as np

from stspbr.scene.capture import Capture, Frame

LightFrame = Literal["world", "camera", "object"]


def in_light_frame(capture: Capture, where: LightFrame) -> Capture:
    """The same views with the world put where the light is fixed; every pixel's ray in object space stays.

    ``camera``: a lamp on the camera, or a turntable before a fixed camera whose poses were estimated relative to
    the object. The world becomes the camera's frame (+X right, +Y up of the image, looking along −Z): all cameras
    are the identity and ``object_to_world`` carries the motion. ``object``: the object does not move, its poses are
    folded into the cameras. ``world``: nothing changes. A known light is one in that very frame and stays.
    """
    change = {"world": lambda frame: frame, "camera": _on_camera, "object": on_object}[where]
    return replace(capture, frames=[change(frame) for frame in capture.frames])


def _on_camera(frame: Frame) -> Frame:
    pose = frame.camera.world_to_camera @ np.asarray(frame.object_to_world, np.float64)
    return frame.with_fields(camera=replace(frame.camera, camera_to_world=np.eye(4)), object_to_world=pose)


def on_object(frame: Frame) -> Frame:
    """The frame with the identity as object pose: the camera moves instead."""
    to_object = np.linalg.inv(np.asarray(frame.object_to_world, np.float64))
    camera = replace(frame.camera, camera_to_world=to_object @ np.asarray(frame.camera.camera_to_world, np.float64))
    return frame.with_fields(camera=camera, object_to_world=np.eye(4))
