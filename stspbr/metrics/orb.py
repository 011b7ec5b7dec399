"""The figures of the Stanford-ORB benchmark (Kuang et al. 2023), by its own protocol.

What differs from other places' figures, and from ours, is on purpose and kept, since published figures were made so:

- Masks are halved (> ½) and eroded by a 5×5 square: two pixels on every side.
- A relit image is scaled per image and colour channel, by least squares within the mask. A novel view is not.
- ``psnr_hdr`` compares radiance clipped at 4, after both images were multiplied by what makes the target as bright
  as its sRGB-encoded self, about; ``psnr_ldr`` compares sRGB-encoded values clipped at 1.
- Squared errors are averaged over the **whole** image, black outside the mask, so that small objects have larger PSNR.
- No image is worse than grey of ½ would be.
- ``ssim`` has windows of 3×3, and each window counts for at least 0. ``lpips`` (VGG) gets its images encoded once more.
- Depth is scaled by one factor per scene, and its squared error is averaged over the whole image, too.

Images are ``[H, W, 3]`` linear, masks ``[H, W]``; everything is numpy.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from scipy import ndimage
from scipy.spatial import cKDTree

from stspbr.colour import linear_to_srgb
from stspbr.metrics.image import lpips_or_none
from stspbr.metrics.sampling import sample_surface
from stspbr.metrics.similarity import ssim_windows
from stspbr.scene.mesh import Mesh

RESOLUTION = 512
"""Side of the benchmark's images; its photographs are four times as large."""
HDR_PEAK = 4.0
CHAMFER_IN_TABLES = 2000.0
"""Published tables hold the chamfer distance times this."""
_EROSION = 5  # side of the square, in pixels
_POINTS = 30_000  # of the estimate's surface
_TINY = 1e-6  # sum of squares below which an image counts as black
_WINDOW = 3  # of SSIM


def eroded(mask: np.ndarray) -> np.ndarray:
    """``[H, W]`` float64, 0 or 1: ``mask`` above ½, without what lies within two pixels of its border.

    The image's own border erodes nothing.
    """
    solid = np.asarray(mask, np.float64).reshape(np.shape(mask)[:2]) > 0.5
    return ndimage.binary_erosion(solid, np.ones((_EROSION, _EROSION), bool), border_value=1).astype(np.float64)


def channel_scale(target: np.ndarray, estimate: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """``[3]``: the factor per channel that brings ``estimate`` closest to ``target`` where ``mask`` is 1.

    Of a channel that is black, the mean of the target: what would scale an image of ones.
    """
    inside = mask > 0.5
    goal, own = target[inside], estimate[inside]
    own = np.where((own**2).sum(axis=0) <= _TINY, 1.0, own)
    square = (own**2).sum(axis=0)
    return np.divide((goal * own).sum(axis=0), square, out=np.zeros(3), where=square > 0)


def image_scores(
    target: np.ndarray, estimate: np.ndarray, mask: np.ndarray, *, scaled: bool
) -> dict[str, float | None]:
    """``psnr_hdr``, ``psnr_ldr`` (dB), ``ssim`` and ``lpips`` (None: not installed) of one image.

    Args:
        target, estimate: ``[H, W, 3]`` linear radiance, not negative; mask: ``[H, W]`` the target's coverage in [0, 1].
        scaled: True for relit images, False for novel views.
    """
    kept = eroded(mask)
    hdr, _, _ = _compared(target, estimate, kept, HDR_PEAK, scaled, brightened=True)
    ldr, seen, goal = _compared(target, estimate, kept, 1.0, scaled, encoded=True)
    return {"psnr_hdr": hdr, "psnr_ldr": ldr, **_similarity(goal, seen, kept)}


def albedo_scores(target: np.ndarray, estimate: np.ndarray, mask: np.ndarray) -> dict[str, float | None]:
    """As ``image_scores`` for linear albedo, always scaled; ``psnr_ldr`` is of linear values here."""
    kept = eroded(mask)
    value, seen, goal = _compared(target, estimate, kept, 1.0, True)
    return {"psnr_ldr": value, **_similarity(goal, seen, kept)}


def normal_distance(target: np.ndarray, estimate: np.ndarray, mask: np.ndarray) -> float:
    """Mean of 1 − cos of the angle between normals ``[H, W, 3]`` of any length, over the eroded mask."""
    first, second = (
        np.asarray(n, np.float64) / (np.linalg.norm(n, axis=-1, keepdims=True) + 1e-6) for n in (target, estimate)
    )
    kept = eroded(mask)
    return float(((1.0 - (first * second).sum(axis=-1)) * kept).sum() / max(kept.sum(), 1.0))


def depth_error(targets: Sequence[np.ndarray], estimates: Sequence[np.ndarray], masks: Sequence[np.ndarray]) -> float:
    """Mean squared error of depths ``[H, W]`` of all views of a scene, after one factor for all of them."""
    kept = [eroded(mask) for mask in masks]
    filled, over, under = [], 0.0, 0.0
    for target, estimate, mask in zip(targets, estimates, kept, strict=True):
        own = estimate if (estimate[mask > 0.5] ** 2).sum() > _TINY else np.ones_like(target)
        over += float((target * own)[mask > 0.5].sum())
        under += float((own**2)[mask > 0.5].sum())
        filled.append(own)
    factor = over / max(under, 1e-30)
    errors = [(((factor * own - goal) ** 2) * m).mean() for own, goal, m in zip(filled, targets, kept, strict=True)]
    return float(np.mean(errors))


def chamfer(target: Mesh, estimate: Mesh, seed: int = 0) -> float:
    """Mean of the squared distances of the target's **vertices** from 30 000 points of the estimate, and back.

    Tables hold ``CHAMFER_IN_TABLES`` times this.
    """
    points, _, _ = sample_surface(estimate, _POINTS, seed)
    vertices = np.asarray(target.positions, np.float64)
    there, _ = cKDTree(points).query(vertices)
    back, _ = cKDTree(vertices).query(points)
    return float(0.5 * (np.square(there).mean() + np.square(back).mean()))


def means(rows: Iterable[Mapping[str, float | None]]) -> dict[str, float | None]:
    """The mean of each figure over ``rows``; None where a row lacks it."""
    columns: dict[str, list[float | None]] = {}
    for row in rows:
        for name, value in row.items():
            columns.setdefault(name, []).append(value)
    return {name: _mean(values) for name, values in columns.items()}


def statistics(scores: Mapping[str, Mapping[str, Mapping[str, float | None]]]) -> dict[str, dict]:
    """``scores_stats`` of the benchmark's files: mean and standard deviation over the scenes, and their number.

    Args:
        scores: by task (``view_all``, ``light_all``, …), then by scene, then by figure.
    """
    out: dict[str, dict] = {}
    for task, scenes in scores.items():
        found: dict[str, list[float | None]] = {}
        for row in scenes.values():
            for name, value in row.items():
                found.setdefault(name, []).append(value)
        spread = {
            name: None if None in values else (float(np.mean(values)), float(np.std(values)))  # type: ignore[arg-type]
            for name, values in found.items()
        }
        out[task.removesuffix("_all")] = {**spread, "scene_count": len(scenes)}
    return out


def _compared(
    target: np.ndarray,
    estimate: np.ndarray,
    kept: np.ndarray,
    peak: float,
    scaled: bool,
    *,
    brightened: bool = False,
    encoded: bool = False,
) -> tuple[float, np.ndarray, np.ndarray]:
    """PSNR in dB, and estimate and target as they were compared."""
    mask = kept[..., None]
    goal, own = np.maximum(np.asarray(target, np.float64), 0.0) * mask, np.asarray(estimate, np.float64) * mask
    if brightened and (usual := goal.clip(0.0, 1.0).mean()) > 1e-8:
        factor = linear_to_srgb(goal.clip(0.0, 1.0)).mean() / usual
        goal, own = factor * goal, factor * own
    if scaled:
        own = channel_scale(goal, own, kept) * own
    goal, own = goal.clip(0.0, peak), own.clip(0.0, peak)
    if encoded:
        goal, own = linear_to_srgb(goal), linear_to_srgb(own)
    error = ((own - goal) ** 2).mean()
    of_grey = ((0.5 * mask - goal) ** 2).mean()
    best = min(error, of_grey)
    return (200.0 if best <= 1e-20 else float(-10.0 * np.log10(best))), own, goal


def _similarity(target: np.ndarray, estimate: np.ndarray, kept: np.ndarray) -> dict[str, float | None]:
    import torch

    mask = kept[..., None]
    first, second = (
        torch.from_numpy(np.asarray(i * mask, np.float64)).permute(2, 0, 1)[None] for i in (target, estimate)
    )
    windows = ssim_windows(first, second, window=_WINDOW)[0]
    # the benchmark's loss (1 − SSIM)/2 is held within [0, 1] pixel by pixel
    similarity = 1.0 - 2.0 * (0.5 * (1.0 - windows)).clamp(0.0, 1.0).mean()
    goal, own = (linear_to_srgb(image) * mask for image in (target, estimate))
    return {"ssim": float(similarity), "lpips": lpips_or_none(goal, own, net="vgg")[0]}


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known and len(known) == len(values) else None
