"""Poses are aligned: each view's render is laid on its photograph by robust Gauss-Newton steps on its six numbers.

To first order a render moves with the surface points that its pixels show: of a pixel with the image I, whose point is
projected to π, the image becomes I − ∇I · ∂π/∂ξ · δ (B. Lucas and T. Kanade, *An iterative image registration
technique*, IJCAI 1981). Both images are blurred first, less in the end, which makes that hold for edges, too. A
highlight moves otherwise than its surface, and must move no camera: ∇I is that of an image that has no edges but those
of the albedo and of the outline. Errors weigh by Huber's rule, and a step is taken only if the view, drawn anew with
everything, is met better.

Steps of a rate (``solver="gradient"``) are as long where images say nothing as where they say much, and move poses that
are exact; these are as long as the errors say, and next to nothing where there are none.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import torch
from scipy.ndimage import distance_transform_edt
from torch import Tensor

from stspbr.optimize.losses import clamp_radiance, tonemap
from stspbr.optimize.poses import Poses
from stspbr.render.gbuffer import GBuffer, ViewBatch, render_gbuffer
from stspbr.render.light import PrefilteredLight
from stspbr.settings.camera import PoseSettings

if TYPE_CHECKING:
    from stspbr.optimize.reconstruction import Reconstruction

_BLURS = (2.0, 1.0)  # standard deviations in pixels, one after the other
_STEPS, _HALVINGS = 3, 2  # at most, per blur
_HUBER = 1.345  # of the errors' scatter: beyond it they count in proportion only
_LEAST_SCATTER = 2e-3  # of tonemapped radiance, and of coverage
_TOGETHER = 9.0  # pixels about that err together: a wrong texel is no noise
_AROUND = 2.0  # blurs: pixels that are so near to the outline outside move with it
_EDGE = 0.1  # change of blurred coverage per pixel, of the outline's
_STILL = 0.01  # pixels: a shorter step is the last
_FEWEST = 50  # pixels that show the object
_DAMPING = 1e-4


@dataclass(frozen=True)
class Look:
    """A view as it is drawn now, and as it was photographed.

    Attributes:
        drawn, photo: ``[H, W, 4]`` float64: tonemapped colour over black, and coverage.
        painted: ``[H, W, 4]`` as ``drawn``, under a light that is even over the object.
        weight: ``[H, W, 1]`` of each pixel.
        views: the camera as it is corrected now; gbuffer: of the first surface.
        blur: of both images so far, standard deviation in pixels.
    """

    drawn: Tensor
    photo: Tensor
    painted: Tensor
    weight: Tensor
    views: ViewBatch
    gbuffer: GBuffer
    blur: float = 0.0

    @property
    def error(self) -> Tensor:
        """``[H, W, 4]``: drawn − photographed."""
        return self.drawn - self.photo

    def blurred(self, sigma: float) -> Look:
        """Both images blurred; where the photo means nothing, it takes the render's place."""
        photo = torch.where(self.weight > 0, self.photo, self.drawn)
        drawn, photo, painted = (_smooth(image, sigma) for image in (self.drawn, photo, self.painted))
        return replace(self, drawn=drawn, photo=photo, painted=painted, blur=sigma)


@torch.no_grad()
def align_poses(problem: Reconstruction, settings: PoseSettings) -> str:
    """Align the poses of all training views with the reconstruction as it is now.

    Args:
        problem: with ``cameras``, whose gauge is fixed afterwards.

    Returns:
        A summary in one line.
    """
    cameras = problem.cameras
    assert cameras is not None
    light, moved = problem.light.prefiltered(), []
    for number in range(len(problem.views)):
        moved.append(_align_view(problem, number, light, settings.error))
    cameras.constrain()
    far = [value for value in moved if value > 0.0]
    return f"poses: {len(far)} of {len(moved)} views moved, by {np.mean(far) if far else 0.0:.2f} pixels on the mean"


def _align_view(problem: Reconstruction, number: int, light: PrefilteredLight, sigma: float) -> float:
    """Align one view; returns by how many pixels (root mean square) its surface moved in the image."""
    assert problem.cameras is not None
    twist, total = problem.cameras.poses.twist, 0.0
    look = looked(problem, number, light)
    for blur in _BLURS:
        for _ in range(_STEPS):
            if len(look.gbuffer.covered) < _FEWEST:
                return total
            look, length = _step(problem, number, light, look, blur, sigma, twist)
            total = float(np.hypot(total, length))
            if length < _STILL:
                break
    return total


def _step(
    problem: Reconstruction, number: int, light: PrefilteredLight, look: Look, blur: float, sigma: float, twist: Tensor
) -> tuple[Look, float]:
    """The view after a step, and the step's length in pixels; as it was, and 0, if none lowers its error."""
    assert problem.cameras is not None
    soft, start = look.blurred(blur), twist[number].clone()
    scatter = _scatter(soft)
    flow, matrix, vector = normal_equations(soft, problem.cameras.poses, number, scatter)
    prior = torch.eye(6, dtype=torch.float64, device=start.device) / sigma**2
    damped = matrix + prior + _DAMPING * torch.diag(torch.diag(matrix))
    step = torch.linalg.solve(damped, vector - prior @ start.double())
    before = _cost(soft, scatter, start, sigma)
    for _ in range(_HALVINGS + 1):
        twist[number] = start + step.to(start.dtype)
        there = looked(problem, number, light)
        if _cost(there.blurred(blur), scatter, twist[number], sigma) < before:
            return there, float((flow @ step).square().sum(dim=1).mean().sqrt())
        step = 0.5 * step
    twist[number] = start
    return look, 0.0


@torch.no_grad()
def looked(problem: Reconstruction, number: int, light: PrefilteredLight) -> Look:
    """The training view ``number``, whole (reduced, where crops are drawn), as it is drawn now and photographed."""
    views, targets = problem.views.batch([number])
    views = problem.seen(views, [number])
    out = problem.render(views, light)
    image, weight = torch.cat([out["rgb"], out["alpha"]], dim=3), None
    if problem.photography is not None:
        image, weight = problem.photography.compared(image, targets, views, [number], problem.views.overview**2)
    even = image[..., :3].sum(dim=(1, 2)) / out["albedo"].sum(dim=(1, 2)).clamp(min=1e-6)
    weight = torch.ones_like(targets.alpha) if weight is None else weight
    weight = weight if targets.known is None else weight * targets.known
    cover = image[..., 3:]
    drawn, wanted, painted = (
        torch.cat([tonemap(clamp_radiance(colour)), alpha], dim=3)[0].double()
        for colour, alpha in (
            (image[..., :3], cover), (targets.image, targets.alpha), (even[:, None, None] * out["albedo"], cover)
        )
    )  # fmt: skip
    gbuffer = render_gbuffer(problem.geometry.surface(), views, problem.backend)
    return Look(drawn, wanted, painted, weight[0].double(), views, gbuffer)


def _smooth(image: Tensor, sigma: float) -> Tensor:
    """An image ``[H, W, C]`` after a Gaussian."""
    reach = int(np.ceil(3.0 * sigma))
    place = torch.arange(-reach, reach + 1, dtype=image.dtype, device=image.device)
    kernel = torch.exp(-0.5 * (place / sigma) ** 2)
    kernel = kernel / kernel.sum()
    planes = torch.nn.functional.pad(image.permute(2, 0, 1)[:, None], (reach,) * 4, mode="replicate")
    planes = torch.nn.functional.conv2d(planes, kernel[None, None, None])
    return torch.nn.functional.conv2d(planes, kernel[None, None, :, None])[:, 0].permute(1, 2, 0)


def slopes(image: Tensor) -> Tensor:
    """``[2, H, W, C]``: how an image ``[H, W, C]`` changes per pixel to the right, and down; central differences."""
    padded = torch.nn.functional.pad(image.permute(2, 0, 1)[None], (1, 1, 1, 1), mode="replicate")[0]
    right = 0.5 * (padded[:, 1:-1, 2:] - padded[:, 1:-1, :-2])
    down = 0.5 * (padded[:, 2:, 1:-1] - padded[:, :-2, 1:-1])
    return torch.stack([right, down]).permute(0, 2, 3, 1)


def pixel_flow(views: ViewBatch, derivative: Tensor, points: Tensor) -> Tensor:
    """``[N, 2, 6]`` float64: how many pixels to the right, and down, points move per unit of each number of a pose.

    Args:
        views: one camera.
        derivative: ``[4, 4, 6]`` of the matrix that takes points of the camera's frame as it is now to its frame as it
            will be; see ``Poses.inverse_derivative``.
        points: ``[N, 3]`` object space.
    """
    if views.projection is None or views.camera_from_object is None:
        raise ValueError("the views' matrices are not known apart")
    projection, pose = views.projection[0].double(), views.camera_from_object[0].double()
    local = torch.nn.functional.pad(points.double(), (0, 1), value=1.0) @ pose.T
    clip = local @ projection.T
    moved = torch.einsum("ij,jkn,pk->pin", projection, derivative, local)
    place = clip[:, :2] / clip[:, 3:]
    change = (moved[:, :2] - place[..., None] * moved[:, 3:]) / clip[:, 3:, None]
    height, width = views.resolution
    return change * change.new_tensor([0.5 * width, 0.5 * height])[:, None]


def normal_equations(look: Look, poses: Poses, number: int, scatter: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """``(flow, matrix, vector)``: ``[N, 2, 6]`` of the pixels in use, ``[6, 6]`` and ``[6]`` of a Gauss-Newton step.

    Args:
        scatter: ``[4]`` of each channel's errors.
    """
    height, width = look.views.resolution
    covered = look.gbuffer.covered.cpu().numpy()
    inside = np.zeros(height * width, bool)
    inside[covered] = True
    owner = np.full(height * width, -1)
    owner[covered] = np.arange(len(covered))
    distance, nearest = distance_transform_edt(~inside.reshape(height, width), return_indices=True)
    use = np.flatnonzero(distance.ravel() <= 1.0 + _AROUND * look.blur)
    source = owner[(nearest[0] * width + nearest[1]).ravel()[use]]
    device = look.error.device
    index, source_index = torch.as_tensor(use, device=device), torch.as_tensor(source, device=device)
    flow = pixel_flow(look.views, poses.inverse_derivative(number), look.gbuffer.position[source_index])
    slope = slopes(look.painted).reshape(2, -1, 4)[:, index]
    jacobian = torch.einsum("dnc,ndk->nck", slope, flow)
    error = look.error.reshape(-1, 4)[index]
    weight = look.weight.reshape(-1, 1)[index] / scatter.square() / _TOGETHER
    weight = weight / ((error / scatter).abs() / _HUBER).clamp(min=1.0)
    matrix = torch.einsum("nck,nc,ncl->kl", jacobian, weight, jacobian)
    return flow, matrix, torch.einsum("nck,nc,nc->k", jacobian, weight, error)


def _scatter(look: Look) -> Tensor:
    """``[4]``: the usual error of colour on the object, and of coverage at its outline."""
    error = look.error.reshape(-1, 4)
    colour = error[look.gbuffer.covered, :3].abs().median()
    outline = slopes(look.drawn[..., 3:]).square().sum(dim=0).sqrt().reshape(-1) > _EDGE
    coverage = error[outline, 3].abs().median() if bool(outline.any()) else error.new_zeros(())
    return (1.4826 * torch.stack([colour, colour, colour, coverage])).clamp(min=_LEAST_SCATTER)


def _cost(look: Look, scatter: Tensor, twist: Tensor, sigma: float) -> float:
    """What a step lowers: Huber's loss of the errors, and the prior."""
    size = (look.error / scatter).abs()
    loss = torch.where(size < _HUBER, 0.5 * size.square(), _HUBER * (size - 0.5 * _HUBER))
    return float((look.weight * loss).sum() / _TOGETHER + 0.5 * (twist.double() / sigma).square().sum())
