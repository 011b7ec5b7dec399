"""Capture mesh: frames rendered from a textured mesh, by the rasteriser or by a path tracer."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from stspbr.formats.assets import read_asset
from stspbr.formats.lights import LightLayout, read_light
from stspbr.notes import Log, Notes
from stspbr.optimize.progress import Reporting
from stspbr.procedural.by_name import is_procedural, procedural_light
from stspbr.render.asset_renderer import AssetRenderer
from stspbr.render.gbuffer import ViewBatch
from stspbr.render.prefilter import prefilter_latlong
from stspbr.scene import Asset, Camera, Capture, EnvironmentLight, Frame
from stspbr.scene.camera_rig import object_cameras
from stspbr.scene.origin import shift
from stspbr.settings import CaptureMeshSettings
from stspbr.stages.session import Session


def load_asset(settings: CaptureMeshSettings) -> Asset:
    """The asset to be captured; roughness and metallic of the settings replace its own."""
    asset = read_asset(settings.asset, settings.textures)
    given = {"roughness": settings.roughness, "metallic": settings.metallic}
    constants: dict[str, Any] = {k: np.full((1, 1, 1), v, np.float32) for k, v in given.items() if v is not None}
    return replace(asset, materials=[replace(m, **constants) for m in asset.materials])


def load_light(path: str, layout: LightLayout = "latlong", notes: Notes | None = None) -> EnvironmentLight:
    """An HDR or EXR of the given layout, or a procedural light."""
    if is_procedural(path):
        return procedural_light(path)
    return read_light(path, layout, notes)


def render_capture(
    session: Session, settings: CaptureMeshSettings, reporter: Reporting, on_warning: Log = None
) -> Capture:
    """Render the asset from training and held-out cameras, with stspbr's rasteriser or Mitsuba's path tracer.

    Args:
        on_warning: called with each note on how asset and light were read, one line each.
    """
    with Notes.into(on_warning) as notes:
        asset, light = load_asset(settings), load_light(settings.light, settings.light_layout, notes)
        for line in asset.extras.get("notes", ()):
            notes(line)
    train, test = object_cameras(
        asset.mesh,
        settings.views,
        settings.test_views,
        settings.resolution,
        fov_degrees=settings.fov,
        seed=session.seed,
        elevation_degrees=settings.elevation,
    )
    cameras = train + test
    frames = []
    images = render_views(session, settings, asset, light, cameras)
    for number, (camera, (image, alpha)) in enumerate(zip(cameras, images, strict=True)):
        split = "train" if number < len(train) else "test"
        index = number if split == "train" else number - len(train)
        frames.append(Frame(f"images/{split}_{index:04d}.exr", camera, image, alpha, split=split))
        reporter.step(number + 1, {}, {}, {})
    original = shift(asset.origin) if asset.origin.any() else None
    return Capture(frames, light if settings.store_light else None, original)


def render_views(
    session: Session, settings: CaptureMeshSettings, asset: Asset, light: EnvironmentLight, cameras: Sequence[Camera]
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield each camera's premultiplied image ``[H, W, 3]`` and coverage ``[H, W, 1]``, by the settings' renderer."""
    render = _path_trace if settings.renderer == "mitsuba" else _rasterize
    yield from render(session, settings, asset, light, cameras)


def _rasterize(session: Session, settings: CaptureMeshSettings, asset: Asset, light: EnvironmentLight, cameras):  # noqa: ANN001, ANN202
    """Yield premultiplied image and alpha; supersampled, then averaged over each pixel's square."""
    device = session.device
    if not settings.occlusion:  # it stands in for shadows, which this renderer leaves out
        asset = replace(asset, materials=[replace(m, occlusion=None) for m in asset.materials])
    renderer = AssetRenderer(asset, session.backend, device)
    prefiltered = prefilter_latlong(light, base_resolution=256, cache_dir=session.run / ".cache").to(device)
    scale = settings.supersample
    for camera in cameras:
        fine = camera.resized(camera.width * scale, camera.height * scale)
        out = renderer.render(ViewBatch.of([fine], [np.eye(4)], device), prefiltered)
        image = torch.cat([out["rgb"], out["alpha"]], dim=3)[0]
        mean = image.reshape(camera.height, scale, camera.width, scale, 4).mean(dim=(1, 3)).cpu().numpy()
        # antialiasing can overshoot if silhouettes cross a pixel from several sides
        yield np.ascontiguousarray(mean[..., :3].clip(min=0.0)), np.ascontiguousarray(mean[..., 3:].clip(0.0, 1.0))


def _path_trace(session: Session, settings: CaptureMeshSettings, asset: Asset, light: EnvironmentLight, cameras):  # noqa: ANN001, ANN202
    from stspbr.render.mitsuba_scene import render_each

    yield from render_each(asset, light, cameras, spp=settings.samples, max_depth=settings.max_depth, seed=session.seed)
