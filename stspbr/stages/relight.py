"""Relight: a run's asset under other lights, by our own shading with its shadows and bounces, or path-traced."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np

from stspbr.artifacts import Artifact
from stspbr.formats.gltf.reader import read_gltf
from stspbr.formats.images import write_exr, write_png8
from stspbr.metrics.image import display
from stspbr.metrics.relighting import frame_labels
from stspbr.render.mitsuba_bsdf import require_mitsuba
from stspbr.scene import Asset, Camera, EnvironmentLight, Frame, look_at
from stspbr.scene.camera_rig import bounding_sphere
from stspbr.settings import RelightSettings
from stspbr.stages.cameras import refined_capture
from stspbr.stages.evaluate import held_out, load_lights
from stspbr.stages.evaluation_pictures import Renders
from stspbr.stages.session import Session
from stspbr.stages.state import load_capture, save_json
from stspbr.transport.transport import Transport

_DISTANCE, _ELEVATION = 3.2, 20.0  # radii of the object, degrees


def run_relight(session: Session, settings: RelightSettings) -> Artifact:
    """Render the newest bake, or its refinement, under each of ``settings.lights``.

    Writes ``<light>/<view>.png`` (sRGB, with alpha) or ``.exr`` (linear, premultiplied), and ``metrics.json`` with the
    names of lights and views.
    """
    bake = session.asset()
    lights = load_lights(settings.lights)
    if settings.renderer == "mitsuba":
        require_mitsuba("relight --renderer mitsuba")
    asset = read_gltf(bake.file("asset.glb"))
    # shadows are cast, so a map that stands for them would count them twice
    asset = replace(asset, materials=[replace(material, occlusion=None) for material in asset.materials])
    frames = _frames(session, settings, bake, asset)
    names = frame_labels(frames)
    render = _path_traced if settings.renderer == "mitsuba" else _shaded
    with session.create("relight", settings, [bake]) as draft:
        for light_name, light in lights.items():
            views = render(session, settings, asset, light, frames)
            for name, (image, alpha) in zip(names, views, strict=True):
                _write(draft.path / light_name, name, image * settings.exposure, alpha, settings.format)
        save_json({"lights": list(lights), "views": names}, draft.path / "metrics.json")
    return draft.artifact


def turntable(asset: Asset, count: int, resolution: int) -> list[Frame]:
    """``count`` views around an asset at equal steps, a little from above; their images are empty."""
    return turntable_frames(asset.mesh.positions, count, resolution)


def turntable_frames(positions: np.ndarray, count: int, resolution: int) -> list[Frame]:
    """``turntable`` of a surface with these vertices ``[V, 3]``."""
    centre, radius = bounding_sphere(positions)
    focal = 0.5 * resolution * (_DISTANCE**2 - 1) ** 0.5 * 0.92
    lift = np.radians(_ELEVATION)
    empty = np.zeros((resolution, resolution, 3), np.float32)
    frames = []
    for number in range(count):
        turn = 2 * np.pi * number / count
        way = np.array([np.cos(lift) * np.sin(turn), np.sin(lift), np.cos(lift) * np.cos(turn)])
        pose = look_at(centre + _DISTANCE * radius * way, centre)
        camera = Camera(pose, focal, focal, resolution / 2, resolution / 2, resolution, resolution)
        frames.append(Frame(f"turn_{number:04d}", camera, empty, empty[..., :1]))
    return frames


def _frames(session: Session, settings: RelightSettings, bake: Artifact, asset: Asset) -> list[Frame]:
    """The views: a turntable, or held-out views of the capture."""
    source = session.lineage(bake).get("capture")
    if settings.turntable or source is None:  # maps from a text have no capture
        return turntable(asset, settings.turntable or settings.views, settings.resolution)
    frames, _ = held_out(refined_capture(load_capture(source, session), bake))
    return [frames[i] for i in np.unique(np.linspace(0, len(frames) - 1, settings.views).round().astype(int))]


def _shaded(
    session: Session, settings: RelightSettings, asset: Asset, light: EnvironmentLight, frames: list[Frame]
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    transport = Transport(session.backend, settings.rays, len(frames))
    renders = Renders(session, asset, light, transport)
    for frame in frames:
        out = renders.of(frame)
        yield out["rgb"], out["alpha"]


def _path_traced(
    session: Session, settings: RelightSettings, asset: Asset, light: EnvironmentLight, frames: list[Frame]
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    from stspbr.render.mitsuba_scene import render_each

    cameras, poses = [frame.camera for frame in frames], [frame.object_to_world for frame in frames]
    return render_each(
        asset, light, cameras, poses, spp=settings.samples, max_depth=settings.max_depth, seed=session.seed
    )


def _write(folder: Path, name: str, image: np.ndarray, alpha: np.ndarray, kind: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    if kind == "exr":
        write_exr(folder / f"{name}.exr", image, alpha=alpha)
    else:
        straight = np.where(alpha > 0, image / np.maximum(alpha, 1e-6), 0.0).astype(np.float32)
        write_png8(folder / f"{name}.png", display(straight), srgb=False, alpha=alpha)
