"""What a level of detail costs in pictures: renders of it against those of the full mesh."""

from __future__ import annotations

import numpy as np
import torch

from stspbr.metrics.image import psnr_srgb
from stspbr.procedural.jar import demo_light
from stspbr.render.asset_renderer import AssetRenderer
from stspbr.render.backend import get_backend
from stspbr.render.gbuffer import ViewBatch
from stspbr.render.prefilter import prefilter_latlong
from stspbr.scene import Asset, Camera, EnvironmentLight, look_at
from stspbr.scene.camera_rig import bounding_sphere

_SIDE, _VIEWS, _DISTANCE = 256, 4, 3.6  # pixels; cameras around; in radii


def lod_psnr(asset: Asset, levels: list[Asset], light: EnvironmentLight | None = None) -> list[float]:
    """The lowest PSNR (dB, sRGB, over what either mesh covers) of a few views around, for each of ``levels``.

    Args:
        asset: the full mesh. light: None for the demo's studio.
    """
    device = torch.device("cpu")
    backend = get_backend("cpu", device)
    views = _around(asset)
    filtered = prefilter_latlong(light or demo_light(64), base_resolution=128)
    full = AssetRenderer(asset, backend, device).render(views, filtered)
    out = []
    for level in levels:
        got = AssetRenderer(level, backend, device).render(views, filtered)
        seen = torch.maximum(full["alpha"], got["alpha"]).numpy()
        pairs = zip(full["rgb"].numpy(), got["rgb"].numpy(), seen, strict=True)
        out.append(min(psnr_srgb(*images) for images in pairs))
    return out


def _around(asset: Asset) -> ViewBatch:
    centre, radius = bounding_sphere(asset.mesh.positions.astype(np.float64))
    cameras = []
    for number in range(_VIEWS):
        turn, height = 2 * np.pi * (number + 0.2) / _VIEWS, 0.5 if number % 2 else -0.1
        aside = np.array([np.sin(turn), height, np.cos(turn)])
        eye = centre + aside / np.linalg.norm(aside) * radius * _DISTANCE
        focal = 0.45 * _SIDE * _DISTANCE
        middle = _SIDE / 2
        cameras.append(
            Camera(look_at(eye, centre), focal, focal, middle, middle, _SIDE, _SIDE, radius * 0.1, radius * 10.0)
        )
    return ViewBatch.of(cameras, [np.eye(4)] * _VIEWS, torch.device("cpu"))
