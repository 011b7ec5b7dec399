"""Assets under lights they were not made with: both path-traced from the same cameras, and compared as pictures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import PurePosixPath

import numpy as np

from stspbr.colour import luminance_of
from stspbr.errors import StspbrError
from stspbr.metrics.image import display, psnr, ssim
from stspbr.metrics.light import mean_radiance
from stspbr.scene.asset import Asset
from stspbr.scene.capture import Frame
from stspbr.scene.light import EnvironmentLight

BEST_PSNR = 200.0
"""dB that stand for equal pictures, since JSON has no infinity."""
_MEAN_LUMINANCE = 0.5  # of the light after exposure: a white matt surface is bright, a highlight may clip


def relighting_error(
    reference: Asset,
    estimate: Asset,
    lights: dict[str, EnvironmentLight],
    frames: Sequence[Frame],
    *,
    samples: int,
    max_depth: int,
    albedo_scale: Sequence[float],
    seed: int,
) -> tuple[dict, dict[str, np.ndarray]]:
    """Render both assets under each light with Mitsuba and compare what an eye would see.

    Pictures are exposed by the light (its mean luminance becomes ½, so that a night does not score better than a
    day), clipped, sRGB-encoded, and compared where the reference covers the pixel. Both have the same noise seeds.

    Args:
        reference, estimate: assets in the same space.
        lights: by name.
        frames: cameras and object poses; their images are not used. At least 11×11 pixels.
        samples: paths per pixel; the remaining noise limits the metrics.
        max_depth: 2 is direct light only.
        albedo_scale: ``[3]`` factors on the estimate's albedo for the metrics ``…_scaled``; albedo stays within [0, 1].
        seed: of the noise.

    Returns:
        ``(metrics, pictures)``. Metrics by light: ``psnr``, ``ssim``, ``psnr_scaled``, ``ssim_scaled`` (means over the
        frames; at most 200 dB), ``exposure`` (the factor on radiance) and ``per_view``, a list with the frame's
        ``name`` and the same four metrics. Pictures: ``"<light>_<frame>_truth"`` and ``"…_result"`` (with the albedo
        as it is), ``[H, W, 3]`` float32 sRGB in [0, 1] over black.

    Raises:
        StspbrError: Mitsuba (extra ``reference``) or LLVM is missing; no frames; a black light; a frame that does
            not see the reference.
    """
    from stspbr.render.mitsuba_bsdf import require_mitsuba

    require_mitsuba("relighting (evaluate --lights)")
    from stspbr.render.mitsuba_scene import render_each

    if len(frames) == 0:
        raise StspbrError("there is no frame to relight: give at least one camera")
    names = frame_labels(frames)
    scale = np.asarray(albedo_scale, dtype=np.float64).reshape(-1)
    if scale.shape != (3,) or not np.isfinite(scale).all() or (scale < 0).any():
        raise StspbrError(f"albedo_scale is {list(albedo_scale)}: give three factors of at least 0, one per channel")
    scaled = None if np.array_equal(scale, np.ones(3)) else _with_albedo_scale(estimate, scale)
    cameras, poses = [frame.camera for frame in frames], [frame.object_to_world for frame in frames]
    metrics, pictures = {}, {}
    for light_name, light in lights.items():
        exposure = _exposure(light, light_name)

        def photographs(asset: Asset, light: EnvironmentLight = light, exposure: float = exposure) -> list:
            """``(picture [H, W, 3] encoded, coverage [H, W, 1])`` of each frame."""
            renders = render_each(asset, light, cameras, poses, spp=samples, max_depth=max_depth, seed=seed)
            return [(display(exposure * rgb), alpha) for rgb, alpha in renders]

        truths, results = photographs(reference), photographs(estimate)
        scaled_results = results if scaled is None else photographs(scaled)
        views = []
        for k, name in enumerate(names):
            (truth, mask), result = truths[k], results[k][0]
            if mask.sum() <= 0:
                raise StspbrError(f"frame {frames[k].name} does not see the reference: nothing to compare there")
            view = {"name": name, **_compared(truth, result, mask)}
            view.update({f"{key}_scaled": v for key, v in _compared(truth, scaled_results[k][0], mask).items()})
            views.append(view)
            pictures[f"{light_name}_{name}_truth"] = truth
            pictures[f"{light_name}_{name}_result"] = result
        means = {key: float(np.mean([v[key] for v in views])) for key in ("psnr", "ssim", "psnr_scaled", "ssim_scaled")}
        metrics[light_name] = {**means, "exposure": exposure, "per_view": views}
    return metrics, pictures


def frame_labels(frames: Sequence[Frame]) -> list[str]:
    """Short names of frames, fit for files: the last part of each without suffix, or the whole if that clashes."""
    paths = [PurePosixPath(frame.name.replace("\\", "/")) for frame in frames]
    labels = [path.stem for path in paths]
    if len(set(labels)) < len(labels):
        labels = ["_".join(part for part in path.with_suffix("").parts if part not in ("/", "..")) for path in paths]
    if len(set(labels)) < len(labels):
        raise StspbrError("two frames have the same name: frames' names must be unique in a capture")
    return labels


def _compared(truth: np.ndarray, result: np.ndarray, mask: np.ndarray) -> dict[str, float]:
    return {"psnr": min(psnr(truth, result, mask), BEST_PSNR), "ssim": ssim(truth, result, mask, reflect=True)}


def _with_albedo_scale(asset: Asset, scale: np.ndarray) -> Asset:
    materials = [replace(m, albedo=np.clip(m.albedo * scale, 0.0, 1.0).astype(np.float32)) for m in asset.materials]
    return replace(asset, materials=materials)


def _exposure(light: EnvironmentLight, name: str) -> float:
    mean = float(luminance_of(mean_radiance(np.asarray(light.radiance, np.float64))))
    if not np.isfinite(mean) or mean <= 0.0:
        raise StspbrError(f"the light {name} is black or not finite: nothing to see under it")
    return _MEAN_LUMINANCE / mean
