"""Between an object's own units and the box [−1, 1]³ that it is reconstructed in."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from stspbr.scene.capture import Capture, Frame
from stspbr.scene.mesh import Mesh


@dataclass(frozen=True)
class Normalization:
    """The object point ``x`` becomes ``(x − centre) / scale``.

    Attributes:
        centre: ``[3]`` float64, in the object's units.
        scale: of the object's units, likewise.
    """

    centre: np.ndarray
    scale: float

    def mesh(self, mesh: Mesh) -> Mesh:
        """A mesh in the object's own units, in the normalised box."""
        positions = (mesh.positions.astype(np.float64) - self.centre) / self.scale
        return replace(mesh, positions=positions.astype(np.float32))

    def original_mesh(self, mesh: Mesh) -> Mesh:
        """The inverse of ``mesh``."""
        positions = mesh.positions.astype(np.float64) * self.scale + self.centre
        return replace(mesh, positions=positions.astype(np.float32))

    def capture(self, capture: Capture) -> Capture:
        """A capture of the object in the normalised box.

        World and cameras shrink with the object, so poses stay rigid and every image stays as it is.
        """
        back = capture.original_from_world
        if back is not None:  # object poses take the centre, the world only shrinks
            back = np.asarray(back, np.float64) @ np.diag([self.scale, self.scale, self.scale, 1.0])
        return replace(capture, frames=[self._frame(frame) for frame in capture.frames], original_from_world=back)

    def to_json(self) -> dict[str, Any]:
        """As ``normalization.json`` has it."""
        return {"centre": [float(c) for c in self.centre], "scale": self.scale}

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Normalization:
        """The inverse of ``to_json``."""
        return cls(np.array(data["centre"], dtype=np.float64), float(data["scale"]))

    def _frame(self, frame: Frame) -> Frame:
        pose = np.array(frame.object_to_world, dtype=np.float64)
        pose[:3, 3] = (pose[:3, :3] @ self.centre + pose[:3, 3]) / self.scale
        camera_to_world = np.array(frame.camera.camera_to_world, dtype=np.float64)
        camera_to_world[:3, 3] /= self.scale
        near, far = frame.camera.near / self.scale, frame.camera.far / self.scale
        camera = replace(frame.camera, camera_to_world=camera_to_world, near=near, far=far)
        return frame.with_fields(camera=camera, object_to_world=pose)
