"""The visual hull: shape and place of the object from the masks alone. Object space throughout."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from scipy.ndimage import distance_transform_edt

from stspbr.errors import StspbrError
from stspbr.geometry.visual_hull_kernels import carve
from stspbr.scene import Camera, Frame
from stspbr.scene.capture import WHOLLY_KNOWN

_BOX_GRID = 40  # points along each side of the cube that is searched for the box
_BOX_ROUNDS = 3
_MASK_SIDE = 1024  # pixels along the longer side of a mask, at most


def visual_hull_sdf(points: np.ndarray, frames: Sequence[Frame], threshold: float = 0.5) -> np.ndarray:
    """Signed distance to the hull of the masks: the largest of all frames' distances.

    A frame's distance at a point is the signed distance in pixels from the point's image to the mask's outline
    times depth over focal length: metric, and exact if the outline is seen square on.

    Args:
        points: ``[V, 3]`` object space.
        frames: ``alpha > threshold`` is the object; where a mask is unknown it carves nothing, but what no mask shows,
            unknown or not, is not the object: at least one must show a point. A frame does not constrain points behind
            its near plane. If its mask reaches the image's border, it does not constrain points beside its image
            either; otherwise the mask shows all of the object, and points beside the image are outside.
        threshold: coverage above which a pixel shows the object.

    Returns:
        ``[V]`` float32, object units, negative inside. Points that no frame sees are outside, as far as the farthest
        seen one.

    Raises:
        StspbrError: no frames, or a frame whose mask is empty.
    """
    points = np.ascontiguousarray(points, dtype=np.float32)
    frames = _checked(frames)
    return _hull(points, ((frame, _outline_distance(frame, threshold)) for frame in frames), _partly(frames, threshold))


def outline_distance(mask: np.ndarray, known: np.ndarray | None = None) -> np.ndarray:
    """``[H, W]`` float32 pixels from each pixel centre to the outline of ``mask`` ``[H, W]`` bool, negative inside.

    Args:
        known: ``[H, W]`` bool; where it is not, nothing is outside of the mask.
    """
    if known is not None:
        mask = mask | ~known
    if mask.all():  # the outline is outside the image: measure to the image's border
        rows, columns = (np.minimum(np.arange(n), np.arange(n)[::-1]) + 0.5 for n in mask.shape)
        return -np.minimum(rows[:, None], columns[None, :]).astype(np.float32)
    # EDT measures to the next pixel's centre; the outline is half a pixel before it
    outside, inside = distance_transform_edt(~mask), distance_transform_edt(mask)
    return np.where(mask, 0.5 - inside, outside - 0.5).astype(np.float32)


def carve_by(
    points: np.ndarray, camera: Camera, camera_from_object: np.ndarray, outline: np.ndarray, distance: np.ndarray
) -> None:
    """Raise ``distance`` ``[V]`` float32 at ``points`` ``[V, 3]`` float32 to the signed distance of one view.

    Args:
        camera: its lens and size; camera_from_object: ``[4, 4]``, OpenGL axes.
        outline: ``[H, W]`` of ``outline_distance``.
    """
    border = (outline[0], outline[-1], outline[:, 0], outline[:, -1])
    whole = min(float(edge.min()) for edge in border) > 0.0  # the mask does not reach the border
    intrinsics = (camera.fx, camera.fy, camera.cx, camera.cy, camera.near)
    carve(points, np.ascontiguousarray(camera_from_object[:3]), *intrinsics, outline, whole, distance)


def estimate_box(
    frames: Sequence[Frame], margin: float = 0.05, threshold: float = 0.5
) -> tuple[np.ndarray, np.ndarray]:
    """The box of the object from cameras and masks alone.

    The lines of sight through the masks' centres meet near the object. A cube around that point is carved coarsely,
    then the box of what remains, three times in all.

    Args:
        frames: as for ``visual_hull_sdf``; at least two.
        margin: added on every side, as a fraction of the longest side.
        threshold: coverage above which a pixel shows the object.

    Returns:
        ``(box_min [3], box_max [3])`` float64, object units; it contains the hull.

    Raises:
        StspbrError: fewer than two frames, an empty mask, or masks and poses that contradict each other.
    """
    frames = _checked(frames)
    if len(frames) < 2:
        raise StspbrError("the object's box needs at least two frames: give geometry.box or more images")
    outlines = [(frame, _outline_distance(frame, threshold)) for frame in frames]
    partly = _partly(frames, threshold)
    centre, reach = _first_cube(frames, threshold)
    low, high = centre - reach, centre + reach
    for _ in range(_BOX_ROUNDS):
        axes = [np.linspace(low[k], high[k], _BOX_GRID) for k in range(3)]
        points = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, 3)
        step = (high - low) / (_BOX_GRID - 1)
        # misses only parts of the object that are thinner than the grid's diagonal
        inside = points[_hull(points.astype(np.float32), outlines, partly) < 0.5 * np.linalg.norm(step)]
        if len(inside) == 0:
            raise StspbrError(
                "no point is inside the masks of all frames: check that the poses are camera-to-world with "
                "OpenGL axes and belong to these images"
            )
        low, high = np.maximum(low, inside.min(axis=0) - step), np.minimum(high, inside.max(axis=0) + step)
    grow = margin * float((high - low).max())
    return low - grow, high + grow


def _checked(frames: Sequence[Frame]) -> list[Frame]:
    if not frames:
        raise StspbrError("the visual hull needs frames, but the capture has none")
    return [_small(frame) for frame in frames]


def _small(frame: Frame) -> Frame:
    """A frame with the masks of the hull alone; of large ones reduced: no cell is as small as their pixels."""
    camera = frame.camera
    scale = -(-max(camera.width, camera.height) // _MASK_SIDE)
    if scale <= 1:
        return frame
    _, alpha = frame.reduced(scale)
    known = frame.known_reduced(scale)
    height, width = alpha.shape[:2]
    camera = camera.resampled((0, 0, width * scale, height * scale), (width, height))
    black = np.broadcast_to(np.float32(0), (height, width, 3))
    return Frame(frame.name, camera, black, np.ascontiguousarray(alpha), frame.object_to_world, frame.split,
                 known=known)  # fmt: skip


def _mask(frame: Frame, threshold: float) -> np.ndarray:
    mask = np.asarray(frame.alpha).reshape(frame.camera.height, frame.camera.width) > threshold
    if not mask.any():
        raise StspbrError(f"frame {frame.name}: its mask is empty; mend the mask or leave the frame out")
    return mask


def _outline_distance(frame: Frame, threshold: float) -> np.ndarray:
    """``[H, W]`` float32 pixels from each pixel centre to the mask's outline, negative inside."""
    mask = _mask(frame, threshold)
    known = frame.known
    return outline_distance(mask, None if known is None else known.reshape(mask.shape) >= WHOLLY_KNOWN)


def _partly(frames: Sequence[Frame], threshold: float) -> list[tuple[Frame, np.ndarray]]:
    """The frames with the outlines of what their masks surely show; none if all masks are known everywhere."""
    if all(frame.known is None for frame in frames):
        return []
    return [(frame, outline_distance(_mask(frame, threshold))) for frame in frames]


def _hull(points: np.ndarray, outlines, partly: Sequence[tuple[Frame, np.ndarray]] = ()) -> np.ndarray:
    """The largest of the distances to ``outlines``; and at least the least one to those of ``partly``."""
    distance = np.full(len(points), -np.inf, dtype=np.float32)
    for frame, outline in outlines:
        carve_by(points, frame.camera, _camera_from_object(frame), outline, distance)
    unseen = np.isneginf(distance)
    distance[unseen] = max(float(np.abs(distance[~unseen]).max(initial=0.0)), 1e-6)
    if partly:
        least = np.full(len(points), np.inf, dtype=np.float32)
        for frame, outline in partly:
            own = np.full(len(points), -np.inf, dtype=np.float32)  # stays so where the frame does not look
            carve_by(points, frame.camera, _camera_from_object(frame), outline, own)
            np.minimum(least, own, out=least)
        np.maximum(distance, least, out=distance)
    return distance


def _camera_from_object(frame: Frame) -> np.ndarray:
    return frame.camera.world_to_camera @ np.asarray(frame.object_to_world, dtype=np.float64)


def _first_cube(frames: list[Frame], threshold: float) -> tuple[np.ndarray, float]:
    """Centre ``[3]`` and half side of a cube that surely contains the object, from lines of sight and mask sizes."""
    origins, directions, angles = [], [], []
    for frame in frames:
        rows, columns = np.nonzero(_mask(frame, threshold))
        camera = frame.camera
        x, y = (columns + 0.5 - camera.cx) / camera.fx, -(rows + 0.5 - camera.cy) / camera.fy
        middle = np.array([(x.min() + x.max()) / 2, (y.min() + y.max()) / 2, -1.0])
        angles.append(math.hypot(x.max() - x.min(), y.max() - y.min()) / 2)
        camera_to_object = np.linalg.inv(frame.object_to_world) @ np.asarray(camera.camera_to_world)
        origins.append(camera_to_object[:3, 3])
        directions.append(camera_to_object[:3, :3] @ (middle / np.linalg.norm(middle)))
    start, direction = np.array(origins), np.array(directions)
    across = np.eye(3) - direction[:, :, None] * direction[:, None, :]
    matrix = across.sum(axis=0)
    if np.linalg.eigvalsh(matrix)[0] < 1e-6 * len(frames):
        raise StspbrError("all lines of sight are parallel: the object's box needs views from different sides")
    centre = np.linalg.solve(matrix, np.einsum("fij,fj->i", across, start))
    distances = np.linalg.norm(start - centre, axis=1)
    # perspective hides part of the size, and a mask's middle is not the object's: twice as much is enough
    return centre, 2.0 * float((distances * np.array(angles)).max())
