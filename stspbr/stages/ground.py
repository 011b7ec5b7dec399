"""Whether a floor is assumed under the captured object."""

from __future__ import annotations

import numpy as np

from stspbr.artifacts import Artifact
from stspbr.errors import StspbrError
from stspbr.scene import Capture
from stspbr.settings import TransportSettings
from stspbr.transport.ground import Ground

_ALIKE = 1e-3  # of the cameras' distance: planes of different poses that count as one


def chosen_ground(source: Artifact, capture: Capture, settings: TransportSettings) -> tuple[Ground | None, str]:
    """The floor in the object's own units, and a line for the log; None and an empty line if it is switched off.

    ``auto`` assumes one only under an object at rest that photographs look down at. The plane must be the same in
    every pose: an object that turns about the vertical keeps its floor, one that is tipped over does not.

    Args:
        source: the capture's artifact.

    Raises:
        StspbrError: a height is given, but the poses have no common floor.
    """
    if settings.ground == "none":
        return None, ""
    plane = common_plane(capture)
    if settings.ground != "auto":
        if plane is None:
            raise StspbrError(
                f"transport.ground={settings.ground:g}: the object is not upright at one height in every frame, so it "
                "has no common floor: set transport.ground=none"
            )
        return Ground(plane[0], float(settings.ground), shift=plane[1]), "ground: a floor at the height that was given"
    kind, own = source.settings.get("kind"), source.settings
    reasons = {
        f"captures of kind {kind} may have none": kind not in ("photos", "duplicates"),
        "on a turntable the light would turn with it": own.get("features") == "object"
        or own.get("light_frame") == "camera"
        or (kind == "photos" and _at_rest(capture)),
        "the object's poses have no common floor": plane is None,
        "some photographs look up at the object": any(f.camera.position[1] <= 0 for f in capture.frames),
    }
    why = next((reason for reason, holds in reasons.items() if holds), None)
    if why is not None or plane is None:
        return None, f"ground: no floor, {why} (transport.ground=HEIGHT sets one)"
    return Ground(plane[0], None, shift=plane[1]), (
        "ground: a floor at the object's lowest point, since photographs look down at an object at rest "
        "(transport.ground=none: without)"
    )


def _at_rest(capture: Capture) -> bool:
    """Whether one camera at rest took all views of an object that moved."""
    cameras = np.stack([frame.camera.camera_to_world for frame in capture.frames])
    return len(cameras) > 1 and float(np.ptp(cameras, axis=0).max()) == 0.0


def common_plane(capture: Capture) -> tuple[np.ndarray, float] | None:
    """World up ``[3]`` in object space, and the world height of the object's origin, if all frames have the same."""
    poses = np.stack([np.asarray(frame.object_to_world, np.float64) for frame in capture.frames])
    up, shift = poses[:, 1, :3], poses[:, 1, 3]
    distance = np.median([np.linalg.norm(f.camera.position - f.object_to_world[:3, 3]) for f in capture.frames])
    if np.abs(up - up[0]).max() > _ALIKE or np.ptp(shift) > _ALIKE * distance:
        return None
    return up[0] / np.linalg.norm(up[0]), float(shift[0])
