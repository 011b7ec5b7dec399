"""The photos of a run as frusta in the scene of one tab."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from stspbr.scene import Frame
from stspbr.view.drawing import photo_camera, photo_picture, to_bytes
from stspbr.view.viewer import Viewer

if TYPE_CHECKING:
    import viser

_THUMBNAIL = 96  # pixels along the longer side
_LENGTH = 0.12  # of a frustum, in radii of the object
_COLOURS = {"train": (59, 130, 246), "test": (240, 140, 40)}


class Frusta:
    """The cameras of one tab; made when they are first shown, their pictures one by one as they are read.

    Args:
        look_through: called with the number of a camera that is clicked.
    """

    def __init__(self, client: viser.ClientHandle, viewer: Viewer, look_through: Callable[[int], None]) -> None:
        self._client, self._viewer, self._look_through = client, viewer, look_through
        self._handles: list[Any] = []
        self._closed = threading.Event()
        self.farthest = 0.0  # of a camera from the object's middle, in its radii

    def show(self, shown: bool) -> None:
        """Show or hide them."""
        if shown and not self._handles:
            self._make()
        for handle in self._handles:
            handle.visible = shown

    def close(self) -> None:
        """Read no more pictures."""
        self._closed.set()

    def _make(self) -> None:
        frames, placement = self._viewer.frames()[0], self._viewer.placement()
        for number, frame in enumerate(frames):
            wxyz, position = placement.on_page(frame)
            self.farthest = max(self.farthest, float(np.linalg.norm(position)))
            camera = frame.camera
            handle = self._client.scene.add_camera_frustum(
                f"/photos/{number:04d}",
                fov=float(2 * np.arctan(0.5 * camera.height / camera.fy)),
                aspect=camera.width / camera.height,
                scale=_LENGTH,
                thickness=0.006,
                color=_COLOURS.get(frame.split, _COLOURS["train"]),
                wxyz=tuple(wxyz),
                position=tuple(position),
            )
            handle.on_click(lambda _, number=number: self._look_through(number))
            self._handles.append(handle)
        threading.Thread(target=self._read, args=(frames,), name="stspbr-view-photos", daemon=True).start()

    def _read(self, frames: list[Frame]) -> None:
        for frame, handle in zip(frames, self._handles, strict=True):
            if self._closed.is_set():
                return
            handle.image = thumbnail(frame)


def thumbnail(frame: Frame) -> np.ndarray:
    """A small picture ``[h, w, 3]`` of a photo, 8 bits."""
    scale = min(1.0, _THUMBNAIL / max(frame.camera.width, frame.camera.height))
    size = max(1, round(frame.camera.width * scale)), max(1, round(frame.camera.height * scale))
    return to_bytes(photo_picture(frame, photo_camera(frame, *size)))
