"""The photograph of a pile: path-traced on its table, with exact labels."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from stspbr.colour import linear_to_srgb, luminance_of
from stspbr.files import write_file
from stspbr.formats.images import encode_png
from stspbr.procedural.pile import Pile, table_of
from stspbr.render.asset_renderer import AssetRenderer
from stspbr.render.backend import get_backend
from stspbr.render.gbuffer import ViewBatch
from stspbr.render.prefilter import prefilter_latlong
from stspbr.render.rays.backend import ray_scene
from stspbr.scene.camera import Camera
from stspbr.scene.light import EnvironmentLight

_WHITE = 99.0  # percentile of the objects' brightness that the exposure makes nearly white
_NEARLY = 0.85
_TABLE_GREY = 0.25
_RAYS = 1 << 20


def grey_display(image: np.ndarray) -> np.ndarray:
    """``[H, W]`` float32 in [0, 1]: the brightness of a photograph ``[H, W, 3]``, linear, after eight bits of sRGB."""
    eight = np.rint(255.0 * np.clip(linear_to_srgb(image), 0.0, 1.0)) / 255.0
    return luminance_of(eight).astype(np.float32)


def photograph(
    pile: Pile, light: EnvironmentLight, samples: int = 32, max_depth: int = 4, seed: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """Path-trace a pile on its table.

    Args:
        samples: paths per pixel; max_depth: longest path, in segments.

    Returns:
        ``[H, W, 3]`` float32 linear radiance, exposed for 8 bits; ``[H, W]`` int32 labels by the first hit at pixel
        centres: 0 the table and what is behind it, 1 … N the copies, and from N + 1 on other objects.

    Raises:
        StspbrError: Mitsuba is missing.
    """
    from stspbr.render.mitsuba_scene import PathTracer

    scene, _ = pile.scene()
    tracer = PathTracer(scene, light, max_depth, table_of(pile), show_light=True)
    image = tracer.view(pile.camera, spp=samples, seed=seed)[0]
    labels = pile_labels(pile)
    return _exposed(image, labels), labels


def photograph_quickly(pile: Pile, light: EnvironmentLight, cache: Path | None = None) -> tuple[np.ndarray, np.ndarray]:
    """As ``photograph``, but rasterised as in training: no shadows, no bounces, no noise, and a table of one grey.

    Args:
        cache: folder of prefiltered lights.
    """
    scene, _ = pile.scene()
    device = torch.device("cpu")
    renderer = AssetRenderer(scene, get_backend("cpu", device), device)
    prefiltered = prefilter_latlong(light, base_resolution=128, cache_dir=cache).to(device)
    out = renderer.render(ViewBatch.of([pile.camera], [np.eye(4)], device), prefiltered)
    image, alpha = out["rgb"][0].numpy().clip(min=0.0), out["alpha"][0].numpy().clip(0.0, 1.0)
    labels = pile_labels(pile)
    image = _exposed(image, labels)
    return image + (1.0 - alpha) * np.float32(_TABLE_GREY), labels


def _exposed(image: np.ndarray, labels: np.ndarray) -> np.ndarray:
    bright = image[labels > 0].max(axis=1)
    return image * np.float32(_NEARLY / max(float(np.percentile(bright, _WHITE)), 1e-6))


def pile_labels(pile: Pile) -> np.ndarray:
    """``[H, W]`` int32 labels of a pile, as ``photograph`` has them."""
    scene, owner = pile.scene()
    rays = ray_scene(torch.from_numpy(scene.mesh.positions), torch.from_numpy(scene.mesh.faces))
    directions = pixel_directions(pile.camera).reshape(-1, 3)
    origin = torch.from_numpy(pile.camera.position.astype(np.float32))
    found = []
    for first in range(0, len(directions), _RAYS):
        some = torch.from_numpy(directions[first : first + _RAYS])
        found.append(rays.closest(origin.expand_as(some).contiguous(), some).triangle.numpy())
    triangle = np.concatenate(found)
    labels = np.where(triangle >= 0, owner[np.maximum(triangle, 0)], 0)
    return labels.reshape(pile.camera.height, pile.camera.width).astype(np.int32)


def pixel_directions(camera: Camera) -> np.ndarray:
    """``[H, W, 3]`` float32 unit directions through the pixels' centres, in the world."""
    x = (np.arange(camera.width) + 0.5 - camera.cx) / camera.fx
    y = -(np.arange(camera.height) + 0.5 - camera.cy) / camera.fy
    local = np.stack([*np.meshgrid(x, y), -np.ones((camera.height, camera.width))], axis=-1)
    local /= np.linalg.norm(local, axis=-1, keepdims=True)
    return (local @ np.asarray(camera.camera_to_world)[:3, :3].T).astype(np.float32)


def write_photograph(folder: Path, image: np.ndarray, labels: np.ndarray) -> tuple[Path, Path]:
    """Write ``photo.png`` (8 bits, sRGB) and ``labels.png`` (0 … N); their paths."""
    folder.mkdir(parents=True, exist_ok=True)
    write_file(folder / "photo.png", encode_png(image, bits=8, srgb=True))
    from PIL import Image

    Image.fromarray(labels.astype(np.uint8)).save(folder / "labels.png")
    return folder / "photo.png", folder / "labels.png"
