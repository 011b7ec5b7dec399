"""The files of a texture's artifact: the asset, and pictures of it and of its progress."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from stspbr.formats.gltf.writer import write_glb
from stspbr.formats.images import write_hdr, write_png8
from stspbr.formats.obj_writer import write_obj
from stspbr.metrics.image import display
from stspbr.scene import Asset, EnvironmentLight
from stspbr.settings import TextureSettings
from stspbr.stages.evaluation_pictures import Renders
from stspbr.stages.relight import turntable
from stspbr.stages.session import Session

_TURNTABLE_LIGHTS = 3
_PREVIEW = "views"


def write_texture(
    session: Session,
    settings: TextureSettings,
    asset: Asset,
    lights: Sequence[EnvironmentLight],
    steps: Sequence[int],
    folder: Path,
) -> None:
    """The files of the artifact but its metrics."""
    write_glb(folder / "asset.glb", asset, texture_bits=settings.texture_bits)
    write_obj(folder / "obj" / "asset.obj", asset)
    write_hdr(folder / "light.hdr", lights[0].radiance)
    _write_pictures(session, settings, asset, lights, steps, folder)


def shown_steps(settings: TextureSettings, steps: Sequence[int]) -> list[int]:
    """The steps after which a progress picture is written, counted over all resolutions."""
    every, done, out = settings.preview_every, 0, []
    for count in steps:
        out += [done + step for step in range(1, count + 1) if step % every == 0 or step == count]
        done += count
    return out


def _write_pictures(
    session: Session,
    settings: TextureSettings,
    asset: Asset,
    lights: Sequence[EnvironmentLight],
    steps: Sequence[int],
    folder: Path,
) -> None:
    """``turntable/<light>/`` under the first lights, and ``progress/`` from the log's previews."""
    frames = turntable(asset, settings.turntable, 256)
    for number, light in enumerate(lights[:_TURNTABLE_LIGHTS]):
        renders = Renders(session, asset, light)
        for frame in frames:
            found = renders.of(frame)
            alpha = found["alpha"]
            straight = np.where(alpha > 0, found["rgb"] / np.maximum(alpha, 1e-6), 0.0).astype(np.float32)
            place = folder / "turntable" / f"light{number}"
            place.mkdir(parents=True, exist_ok=True)
            write_png8(place / f"{frame.name}.png", display(straight), srgb=False, alpha=alpha)
    previews = session.run / "logs" / "bake" / "previews"
    for step in shown_steps(settings, steps):
        source = previews / f"{_PREVIEW}_{step:06d}.png"
        if source.is_file():
            (folder / "progress").mkdir(exist_ok=True)
            shutil.copyfile(source, folder / "progress" / source.name)
