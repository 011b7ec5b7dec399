"""The views of an evaluation: an asset rendered from the capture's cameras, its metrics, and pictures of both."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from stspbr.metrics.error_maps import ERROR_PEAKS, heat, material_differences
from stspbr.metrics.image import display, lpips_or_none, ms_ssim, psnr, ssim
from stspbr.metrics.relighting import frame_labels
from stspbr.optimize.camera_response import CameraResponse
from stspbr.render.asset_renderer import AssetRenderer
from stspbr.render.blocks import render_view
from stspbr.render.lamp import CameraLamp
from stspbr.render.prefilter import prefilter_latlong
from stspbr.report.contact_sheet import contact_sheet
from stspbr.scene import Asset, EnvironmentLight, Frame
from stspbr.stages.session import Session
from stspbr.transport.transport import Transport

COLUMNS = ["target", "result", "albedo", "roughness", "metallic", "normal"]
VIEW_METRICS = ("psnr", "ssim", "ms_ssim", "lpips")
VIEW_ERROR_PEAK = 0.25
"""Difference of sRGB-encoded colours, mean over the channels, that is white in a view's error picture."""


class Renders:
    """An asset under one light; ``of(frame)`` is its image from the frame's camera.

    Args:
        transport: of its own shadows and bounces; None: it has none. An asset with cut-outs has none, since rays would
            take leaves for cards.
        response: of the cameras that took the frames; None: these hold radiance as it is.
        flash: ``flash`` of the ``metrics.json`` of the asset's stage; None: the cameras carry no lamp.
    """

    def __init__(
        self,
        session: Session,
        asset: Asset,
        light: EnvironmentLight,
        transport: Transport | None = None,
        response: CameraResponse | None = None,
        flash: dict[str, list[float]] | None = None,
    ) -> None:
        self._renderer = AssetRenderer(asset, session.backend, session.device)
        transport = None if self._renderer.see_through else transport
        self._around = None if transport is None else transport.seen
        if transport is not None:
            transport.refresh(self._renderer.surface, self._renderer.material)
        prefiltered = prefilter_latlong(light, base_resolution=256, cache_dir=session.run / ".cache")
        self._light, self._device = prefiltered.to(session.device), session.device
        self._response = response
        self._lamp = CameraLamp.of(flash, session.device)

    def of(self, frame: Frame) -> dict[str, np.ndarray]:
        """``[H, W, C]`` over black: rgb, alpha, albedo, roughness, metallic, normal (object space).

        ``rgb`` is linear radiance, or what the frame's camera made of it.
        """
        out = render_view(
            frame.camera, frame.object_to_world,
            lambda view: self._renderer.render(view, self._light, self._around, self._lamp), self._device,
        )  # fmt: skip
        if self._response is not None:
            out["rgb"] = self._response.of_view(frame, out["rgb"], out["alpha"])
        return out

    def metrics(self, frames: Sequence[Frame]) -> dict:
        """Compare the views with the frames, as sRGB-encoded images over each frame's mask.

        Returns:
            Means over the frames of ``psnr`` (200 dB if equal), ``ssim``, ``ms_ssim`` and ``lpips`` (None if its
            package is not installed; ``lpips_missing`` is the reason), and ``per_view`` with the same per frame;
            ``exposure``: how those of held-out photographs were found, if they were.
        """
        rows: list[dict[str, Any]] = []
        missing = None
        for frame in frames:
            target, result = display(frame.image), display(self.of(frame)["rgb"])
            distance, reason = lpips_or_none(target, result, frame.alpha)
            missing = missing or reason
            row: dict[str, float | None] = {"psnr": min(psnr(target, result, frame.alpha), 200.0), "lpips": distance}
            large = min(target.shape[:2]) >= 11
            row["ssim"] = ssim(target, result, frame.alpha) if large else None
            row["ms_ssim"] = ms_ssim(target, result, frame.alpha) if large else None
            rows.append({"name": frame.name, **row})
        out: dict = {name: _mean([row[name] for row in rows]) for name in VIEW_METRICS}
        if self._response is not None:
            out["exposure"] = "exposure and white balance of held-out views are fitted on their own pixels"
        return {"count": len(rows), **out, "lpips_missing": missing, "per_view": rows}


def write_pictures(ours: Renders, truth: Renders, frames: Sequence[Frame], folder: Path) -> dict[str, np.ndarray]:
    """Write the contact sheet and the views' material errors; return the views' own pictures.

    Returns:
        Path within ``folder`` to image ``[H, W, 3]``, encoded for display: ``views/<frame>_target.png``,
        ``_result.png`` and ``_error.png``.
    """
    images, sheet, labels = {}, [], []
    for name, frame in zip(frame_labels(frames), frames, strict=True):
        rendered = {"ours": ours.of(frame), "truth": truth.of(frame)}
        target, result = display(frame.image), display(rendered["ours"]["rgb"])
        images[f"views/{name}_target.png"], images[f"views/{name}_result.png"] = target, result
        images[f"views/{name}_error.png"] = heat(np.abs(target - result).mean(axis=-1), VIEW_ERROR_PEAK)
        errors = _material_errors(rendered["truth"], rendered["ours"])
        columns = [f"{channel}, white = {ERROR_PEAKS[channel]:g}" for channel in errors]
        contact_sheet([list(errors.values())], ["error"], columns, folder / "views" / f"{name}_material_error.png")
        for label, out in rendered.items():
            sheet.append(_row(frame, out))
            labels.append(f"{label} {name}")
    contact_sheet(sheet, labels, COLUMNS, folder / "contact_sheet.png")
    return images


def _material_errors(truth: dict[str, np.ndarray], guess: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Heat pictures ``[H, W, 3]`` by channel, black unless truth and result both cover the pixel."""

    def values(out: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        cover = np.maximum(out["alpha"], 1e-6)  # renders are premultiplied
        flat = {k: out[k] / cover for k in ("albedo", "roughness", "metallic", "normal")}
        flat["normal"] = flat["normal"] / np.maximum(np.linalg.norm(flat["normal"], axis=-1, keepdims=True), 1e-6)
        return {k: v[..., 0] if v.shape[-1] == 1 else v for k, v in flat.items()}

    shape = truth["alpha"].shape[:2]
    flat = [{k: v.reshape(-1, *v.shape[2:]) for k, v in values(out).items()} for out in (truth, guess)]
    both = np.minimum(truth["alpha"], guess["alpha"])
    return {
        channel: heat(error.reshape(shape), ERROR_PEAKS[channel]) * (both > 0.5)
        for channel, error in material_differences(*flat).items()
    }


def _row(frame: Frame, out: dict[str, np.ndarray]) -> list[np.ndarray]:
    pictures = [
        display(frame.image),
        display(out["rgb"]),
        display(out["albedo"]),
        np.repeat(out["roughness"], 3, axis=2),
        np.repeat(out["metallic"], 3, axis=2),
        (_camera_space(out["normal"], frame) + out["alpha"]) * 0.5,
    ]
    return [np.clip(picture, 0.0, 1.0) for picture in pictures]


def _camera_space(normal: np.ndarray, frame: Frame) -> np.ndarray:
    rotation = frame.camera.world_to_camera[:3, :3] @ frame.object_to_world[:3, :3]
    return (normal @ rotation.T).astype(np.float32)


def _mean(values: list[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known and len(known) == len(values) else None
