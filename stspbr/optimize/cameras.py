"""Poses of cameras or objects, and lenses, as parameters of the reconstruction: small corrections of the capture's."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor, nn

from stspbr.optimize.camera_response import camera_groups, nearest_camera
from stspbr.optimize.poses import Poses, common_motions
from stspbr.optimize.routing import STRICT_A, Term
from stspbr.render.gbuffer import ViewBatch
from stspbr.scene import Camera, Frame
from stspbr.settings.camera import PoseSettings

_MOST_LENS = 0.05  # of a focal length


class Cameras(nn.Module):
    """Corrections of the cameras of V views: six numbers each, and three per lens.

    The gauge is fixed after every step: no part of the corrections moves all cameras as one about the object, or
    changes all their distances in proportion.

    Where one camera took all views of an object that moved (a turntable, equal objects in one photo), the correction is
    the object's: the camera stays in the world, and the light turns with the correction.

    Args:
        frames: the views, in the reconstruction's box.
        settings: priors, and whether lenses are refined.
        start: the progress from which on they are refined.

    Attributes:
        of_objects: the corrections are those of the object's poses.
        lens: ``[C, 3]`` logarithm of the focal length's factor, and shifts of the principal point in focal lengths, to
            the right and down.
    """

    common: Tensor
    owner: Tensor

    def __init__(self, frames: Sequence[Frame], settings: PoseSettings, start: float) -> None:
        super().__init__()
        self.settings, self.start = settings, start
        from_object = np.stack([f.camera.world_to_camera @ np.asarray(f.object_to_world, np.float64) for f in frames])
        pivot = torch.from_numpy(from_object[:, :3, 3].copy())  # the middle of the box
        unit = float(pivot.norm(dim=1).mean())
        owners, self.keys = camera_groups([frame.camera for frame in frames])
        self.poses = Poses(pivot.float(), unit)
        self.lens = nn.Parameter(torch.zeros(len(self.keys), 3), requires_grad=settings.intrinsics)
        self.register_buffer(
            "common", common_motions(torch.from_numpy(np.linalg.inv(from_object)), pivot, unit).float()
        )
        self.of_objects = one_camera(frames)
        self.register_buffer("owner", torch.tensor(owners, dtype=torch.int64))

    def seen(self, views: ViewBatch, ids: Sequence[int], progress: float) -> ViewBatch:
        """``views`` through the corrected cameras; differentiable.

        The gradient of a pose is that of the pixels' places. Where a highlight lies also depends on the direction to
        the camera, which gets no gradient: reflections alone must move no camera.

        Args:
            views: of the views ``ids``, whole, reduced or crops.
        """
        if progress < self.start:
            return views
        projection, camera_from_object = views.projection, views.camera_from_object
        if projection is None or camera_from_object is None:
            raise ValueError("the views' matrices are not known apart")
        index = torch.as_tensor(list(ids), dtype=torch.int64, device=projection.device)
        moved = self.poses.inverse(index) @ camera_from_object
        focal, right, down = self.lens[self.owner[index]].unbind(1)
        projection = _through(projection, focal.exp(), right, down)
        with torch.no_grad():
            eye = -(moved[:, :3, :3].transpose(1, 2) @ moved[:, :3, 3:])[..., 0]
            rotation = views.object_rotation
            if self.of_objects:  # the object turns against the light
                rotation = rotation @ camera_from_object[:, :3, :3].transpose(1, 2) @ moved[:, :3, :3]
        return replace(
            views,
            clip_from_object=projection @ moved,
            eye=eye,
            object_rotation=rotation,
            projection=projection,
            camera_from_object=moved,
        )

    @torch.no_grad()
    def camera(self, number: int, camera: Camera) -> Camera:
        """The corrected camera of view ``number``, of which ``camera`` is any crop or size.

        If ``of_objects``, its place is the capture's: see ``object_motion``.
        """
        if self.of_objects:
            return self._refocused(camera, int(self.owner[number]))
        motion = self.poses.motion(torch.tensor([number], device=self.lens.device))[0].double().cpu().numpy()
        pose = _rigid(np.asarray(camera.camera_to_world, np.float64) @ motion)
        return replace(self._refocused(camera, int(self.owner[number])), camera_to_world=pose)

    @torch.no_grad()
    def object_motion(self, number: int, camera: Camera) -> np.ndarray | None:
        """``[4, 4]`` rigid: what moves the object of view ``number`` in the world; None if the camera moves instead."""
        if not self.of_objects:
            return None
        motion = self.poses.inverse(torch.tensor([number], device=self.lens.device))[0].double().cpu().numpy()
        place = np.asarray(camera.camera_to_world, np.float64)
        return _rigid(place @ motion @ np.linalg.inv(place))

    def through_lens(self, camera: Camera) -> Camera:
        """A camera of another view, with the lens corrected as those of its kind."""
        return self._refocused(camera, nearest_camera(camera, self.keys))

    def _refocused(self, camera: Camera, owner: int) -> Camera:
        focal, right, down = self.lens[owner].detach().double().tolist()
        focal = float(np.exp(focal))
        shifted = {"cx": camera.cx + right * camera.fx, "cy": camera.cy + down * camera.fy}
        return replace(camera, fx=camera.fx * focal, fy=camera.fy * focal, **shifted)

    def regularizers(self) -> list[Term]:
        """What holds poses and lenses to those of the capture."""
        value = self.settings.prior * self.poses.twist.square().mean()
        value = value + self.settings.intrinsics_prior * self.lens.square().mean()
        return [Term("cameras", value, STRICT_A, closed=True)]

    @torch.no_grad()
    def constrain(self) -> None:
        """Fix the gauge, and keep the corrections small."""
        self.poses.constrain(self.common)
        self.lens.clamp_(-_MOST_LENS, _MOST_LENS)

    @torch.no_grad()
    def facts(self) -> dict[str, float]:
        """How large the corrections are, for ``metrics.json``."""
        twist = self.poses.twist
        turn, shift = twist[:, :3].norm(dim=1), twist[:, 3:].norm(dim=1)
        return {
            "rotation_degrees": float(torch.rad2deg(turn).mean()),
            "translation_of_distance": float(shift.mean()),
            "focal_factor": float(self.lens[:, 0].exp().mean()),
        }


def one_camera(frames: Sequence[Frame]) -> bool:
    """Whether all frames were taken from one place, and show the object in several poses."""
    first = frames[0]
    still = all(np.allclose(f.camera.camera_to_world, first.camera.camera_to_world, atol=1e-9) for f in frames)
    return still and any(not np.allclose(f.object_to_world, first.object_to_world, atol=1e-9) for f in frames)


def _through(projection: Tensor, focal: Tensor, right: Tensor, down: Tensor) -> Tensor:
    """``[B, 4, 4]`` projections with focal lengths times ``focal``, principal points shifted in focal lengths."""
    out = projection.clone()
    out[:, 0, 0] = projection[:, 0, 0] * focal
    out[:, 1, 1] = projection[:, 1, 1] * focal
    out[:, 0, 2] = projection[:, 0, 2] - projection[:, 0, 0] * right
    out[:, 1, 2] = projection[:, 1, 2] + projection[:, 1, 1] * down
    return out


def _rigid(pose: np.ndarray) -> np.ndarray:
    """The nearest rigid pose: rounding adds up over stages."""
    u, _, vt = np.linalg.svd(pose[:3, :3])
    out = pose.copy()
    out[:3, :3] = u @ vt
    return out
