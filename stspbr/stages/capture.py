"""Capture: frames with poses, masks and perhaps the light, rendered from an asset or read from a folder."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from stspbr.artifacts import Artifact
from stspbr.errors import StspbrError
from stspbr.formats.assets import read_asset
from stspbr.formats.capture_checks import check_capture
from stspbr.formats.images import read_image
from stspbr.formats.nerf_synthetic import read_nerf_synthetic
from stspbr.formats.transforms import read_transforms, write_transforms
from stspbr.optimize.progress import Reporter
from stspbr.recipe import CaptureFolderSettings, CaptureMeshSettings
from stspbr.render.asset_renderer import AssetRenderer
from stspbr.render.gbuffer import ViewBatch
from stspbr.render.prefilter import prefilter_latlong
from stspbr.scene import Asset, Camera, Capture, EnvironmentLight, Frame
from stspbr.scene.camera_rig import object_cameras
from stspbr.scene.shiny_suite import is_procedural, procedural_light
from stspbr.stages.session import Session


def run_capture(session: Session, settings: CaptureMeshSettings | CaptureFolderSettings) -> Artifact:
    """Make a capture and write it: ``transforms.json``, linear EXR images, ``environment.hdr`` where known."""
    if isinstance(settings, CaptureMeshSettings):
        total = settings.views + settings.test_views
        with Reporter("capture", total, session.run / "logs" / "capture", quiet=session.quiet,
                      json_lines=session.json_lines) as reporter:  # fmt: skip
            capture = render_capture(session, settings, reporter)
    else:
        capture = _read_folder(settings)
    warnings = check_capture(capture)
    if not session.quiet and not session.json_lines:
        for warning in warnings:
            sys.stderr.write(f"stspbr: warning: {warning}\n")
    with session.store.create(
        "capture",
        settings=settings.model_dump(mode="json"),
        device=str(session.device),
        threads=session.threads,
        seed=session.seed,
    ) as draft:
        write_transforms(draft.path, capture)
        draft.run["warnings"] = warnings
    return draft.artifact


def load_asset(settings: CaptureMeshSettings) -> Asset:
    """The asset to be captured, with the roughness and metallic that the settings put in place of its own."""
    asset = read_asset(settings.asset, settings.textures)
    constants = {"roughness": settings.roughness, "metallic": settings.metallic}
    constants = {k: np.full((1, 1, 1), v, np.float32) for k, v in constants.items() if v is not None}
    return replace(asset, materials=[replace(m, **constants) for m in asset.materials])


def load_light(path: str) -> EnvironmentLight:
    """A lat-long HDR or EXR, or a procedural light."""
    if is_procedural(path):
        return procedural_light(path)
    radiance, _, _ = read_image(path)
    if not np.isfinite(radiance).all() or (radiance < 0).any():
        raise StspbrError(f"{path}: the light has pixels that are negative or not finite")
    return EnvironmentLight(radiance)


def render_capture(session: Session, settings: CaptureMeshSettings, reporter: Reporter) -> Capture:
    """Render the asset from train and held-out cameras, with stspbr's rasteriser or with Mitsuba's path tracer."""
    asset, light = load_asset(settings), load_light(settings.light)
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
    render = _path_trace if settings.renderer == "mitsuba" else _rasterize
    frames = []
    images = render(session, settings, asset, light, cameras)
    for number, (camera, (image, alpha)) in enumerate(zip(cameras, images, strict=True)):
        split = "train" if number < len(train) else "test"
        index = number if split == "train" else number - len(train)
        frames.append(Frame(f"images/{split}_{index:04d}.exr", camera, image, alpha, split=split))
        reporter.step(number + 1, {}, {}, {})
    return Capture(frames, light if settings.store_light else None)


def _rasterize(session: Session, settings: CaptureMeshSettings, asset: Asset, light: EnvironmentLight, cameras):  # noqa: ANN001, ANN202
    """Yield premultiplied image and alpha; supersampled, then averaged over each pixel's square."""
    device = session.device
    if not settings.occlusion:  # a stand-in for shadows, which the path tracer casts itself and this track leaves out
        asset = replace(asset, materials=[replace(m, occlusion=None) for m in asset.materials])
    renderer = AssetRenderer(asset, session.backend, device)
    prefiltered = prefilter_latlong(light, base_resolution=256, cache_dir=session.run / ".cache").to(device)
    scale = settings.supersample
    for camera in cameras:
        fine = camera.resized(camera.width * scale, camera.height * scale)
        out = renderer.render(single_view(fine, np.eye(4), device), prefiltered)
        image = torch.cat([out["rgb"], out["alpha"]], dim=3)[0]
        image = image.reshape(camera.height, scale, camera.width, scale, 4).mean(dim=(1, 3)).cpu().numpy()
        # where silhouettes cross a pixel from several sides, antialiasing can overshoot the neighbours' range
        yield np.ascontiguousarray(image[..., :3].clip(min=0.0)), np.ascontiguousarray(image[..., 3:].clip(0.0, 1.0))


def _path_trace(session: Session, settings: CaptureMeshSettings, asset: Asset, light: EnvironmentLight, cameras):  # noqa: ANN001, ANN202
    from stspbr.render.mitsuba_scene import render_each

    yield from render_each(asset, light, cameras, spp=settings.samples, max_depth=settings.max_depth, seed=session.seed)


def single_view(camera: Camera, object_to_world: np.ndarray, device: torch.device) -> ViewBatch:
    """A batch of one camera."""
    pose = np.asarray(object_to_world, dtype=np.float64)
    eye = np.linalg.inv(pose) @ np.append(camera.position, 1.0)

    def tensor(array: np.ndarray) -> torch.Tensor:
        return torch.as_tensor(np.asarray(array, np.float32)[None], device=device)

    clip = tensor(camera.clip_from_object(pose))
    return ViewBatch(clip, tensor(eye[:3]), tensor(pose[:3, :3]), (camera.height, camera.width))


def _read_folder(settings: CaptureFolderSettings) -> Capture:
    folder = Path(settings.folder)
    if settings.kind == "nerf":
        capture = read_nerf_synthetic(folder)
    else:
        capture = read_transforms(folder if folder.is_file() else folder / "transforms.json")
    if settings.image_scale == 1:
        return capture
    return replace(capture, frames=[_reduced(frame, settings.image_scale) for frame in capture.frames])


def _reduced(frame: Frame, scale: int) -> Frame:
    """A frame whose sides are divided by ``scale``, averaged over areas."""
    h, w = frame.camera.height // scale, frame.camera.width // scale
    if (h * scale, w * scale) != (frame.camera.height, frame.camera.width):
        raise StspbrError(
            f"frame {frame.name}: image_scale={scale} does not divide {frame.camera.width}×{frame.camera.height}"
        )

    def mean(image: np.ndarray) -> np.ndarray:
        return image.reshape(h, scale, w, scale, -1).mean(axis=(1, 3))

    return replace(frame, camera=frame.camera.resized(w, h), image=mean(frame.image), alpha=mean(frame.alpha))
