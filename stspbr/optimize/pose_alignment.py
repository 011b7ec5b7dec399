"""Poses are aligned: each view's render is laid on its photograph by robust Gauss-Newton steps on its six numbers.

To first order a render moves with the surface points that its pixels show: of a pixel with the image I, whose point is
projected to π, the image becomes I − ∇I · ∂π/∂ξ · δ (B. Lucas and T. Kanade, *An iterative image registration
technique*, IJCAI 1981). Both images are blurred first, less in the end, which makes that hold for edges, too. A
highlight moves otherwise than its surface, and must move no camera: ∇I is that of an image that has no edges but those
of the albedo and of the outline. Errors weigh by Huber's rule. What two halves of the photographs do not agree on is an
error of the model, and moves nothing (``agreement``). A step is taken only if the view, drawn anew with everything, is
met better.

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
_STEPS, _HALVINGS = 2, 1  # at most, per blur; of a step
_HUBER = 1.345  # of the errors' scatter: beyond it they count in proportion only
_LEAST_SCATTER = 2e-3  # of tonemapped radiance, and of coverage
_TOGETHER = 9.0  # pixels about that err together: a wrong texel is no noise
_AROUND = 2.0  # blurs: pixels that are so near to the outline outside move with it
_EDGE = 0.1  # change of blurred coverage per pixel, of the outline's
_STILL = 0.01  # pixels: a shorter step is the last
_FEWEST = 50  # pixels that show the object
_SQUARE = 8  # pixels along the side of squares that are dealt to two halves
_CHANCE = 1.5  # standard deviations of an agreement that is chance


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


@dataclass(frozen=True)
class Proposal:
    """A step of one view.

    Attributes:
        step: ``[6]`` float64; halves: ``[2, 6]``, the same from one half of the pixels each.
        motion: ``[6, 6]``: of a step δ, δᵀ motion δ is the mean square of how many pixels the surface moves.
        scatter: ``[4]`` of each channel's errors; cost: before the step.
    """

    step: Tensor
    halves: Tensor
    motion: Tensor
    scatter: Tensor
    cost: float


@torch.no_grad()
def align_poses(problem: Reconstruction, settings: PoseSettings) -> str:
    """Align the poses of all training views with the reconstruction as it is now.

    Args:
        problem: with ``cameras``, whose gauge is fixed afterwards.

    Returns:
        A summary in one line.
    """
    assert problem.cameras is not None
    light, numbers = problem.light.prefiltered(), range(len(problem.views))
    moved = np.zeros(len(numbers))
    for blur in _BLURS:
        for _ in range(_STEPS):
            proposals = [_proposed(problem, number, light, blur, settings.error) for number in numbers]
            trust = agreement(torch.stack([proposal.halves for proposal in proposals]))
            lengths = [_tried(problem, n, light, blur, settings.error, proposals[n], trust) for n in numbers]
            moved = np.hypot(moved, lengths)
            if max(lengths) < _STILL:
                break
    problem.cameras.constrain()
    far = moved[moved > 0.0]
    return f"poses: {len(far)} of {len(moved)} views moved, by {far.mean() if len(far) else 0.0:.2f} pixels on the mean"


def agreement(halves: Tensor) -> Tensor:
    """``[6]`` in [0, 1]: what part of each number's steps is no chance, by those of two halves ``[V, 2, 6]``.

    Two halves of a photograph are off by the same pose, but by other errors of the model: the covariance of their
    steps is the variance of what is to be mended. An agreement that may be chance is none.
    """
    one, other = halves[:, 0], halves[:, 1]
    alike = (one * other).sum(dim=0) / (0.5 * (one.square() + other.square()).sum(dim=0)).clamp(min=1e-30)
    return torch.where(alike < _CHANCE / len(halves) ** 0.5, torch.zeros_like(alike), alike)


def _proposed(problem: Reconstruction, number: int, light: PrefilteredLight, blur: float, sigma: float) -> Proposal:
    """A step of a view as it is now; none if it hardly shows the object."""
    assert problem.cameras is not None
    look = looked(problem, number, light).blurred(blur)
    start = problem.cameras.poses.twist[number]
    none = start.new_zeros(6, dtype=torch.float64)
    if len(look.gbuffer.covered) < _FEWEST:
        return Proposal(none, torch.stack([none, none]), torch.diag(none), look.drawn.new_ones(4), 0.0)
    scatter = _scatter(look)
    flow, matrices, vectors = normal_equations(look, problem.cameras.poses, number, scatter)
    prior = torch.eye(6, dtype=torch.float64, device=start.device) / sigma**2
    step = torch.linalg.solve(matrices.sum(dim=0) + prior, vectors.sum(dim=0) - prior @ start.double())
    halves = torch.linalg.solve(matrices + 0.5 * prior, vectors)
    motion = torch.einsum("nck,ncl->kl", flow, flow) / len(flow)
    return Proposal(step, halves, motion, scatter, _cost(look, scatter, start, sigma))


def _tried(
    problem: Reconstruction,
    number: int,
    light: PrefilteredLight,
    blur: float,
    sigma: float,
    proposal: Proposal,
    trust: Tensor,
) -> float:
    """Take a step of a view, or a part of it, if that lowers its error; returns how many pixels it moved."""
    assert problem.cameras is not None
    twist, step = problem.cameras.poses.twist, trust * proposal.step
    start = twist[number].clone()
    for _ in range(_HALVINGS + 1):
        length = float((step @ proposal.motion @ step).clamp(min=0.0).sqrt())
        if length == 0.0:
            break
        twist[number] = start + step.to(start.dtype)
        there = looked(problem, number, light).blurred(blur)
        if _cost(there, proposal.scatter, twist[number], sigma) < proposal.cost:
            return length
        step = 0.5 * step
    twist[number] = start
    return 0.0


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
    """``(flow, matrices, vectors)``: ``[N, 2, 6]`` of the N pixels in use; ``[2, 6, 6]`` and ``[2, 6]`` of a
    Gauss-Newton step, of two halves of them in small squares, whose sums are those of all.

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
    half = torch.as_tensor((use // width // _SQUARE + use % width // _SQUARE) % 2, device=device)
    own = torch.nn.functional.one_hot(half, 2).to(weight.dtype)
    matrices = torch.einsum("nh,nck,nc,ncl->hkl", own, jacobian, weight, jacobian)
    return flow, matrices, torch.einsum("nh,nck,nc,nc->hk", own, jacobian, weight, error)


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
