"""One showpiece that nothing is symmetric about, and what looks at it."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from stspbr.geometry.tangents import with_frames
from stspbr.metrics.image import psnr_srgb
from stspbr.procedural.jar import demo_light
from stspbr.render.asset_renderer import AssetRenderer
from stspbr.render.backend import get_backend
from stspbr.render.gbuffer import ViewBatch
from stspbr.render.prefilter import prefilter_latlong
from stspbr.scene import Asset, Camera, Corners, Material, Mesh, latlong_to_direction, look_at
from stspbr.scene.attributes import weld

SIDE = 160


def ball(rows: int = 48, columns: int = 96) -> Mesh:
    """A convex mesh with one UV chart: u around as the lat-long map has it, v from +Y down."""
    v, u = np.mgrid[0 : rows + 1, 0 : columns + 1] / np.array([rows, columns])[:, None, None]
    uvs = np.stack([u, v], axis=-1).reshape(-1, 2)
    points = (np.round(latlong_to_direction(uvs), 7) + 0.0).astype(np.float32)
    corner = (np.arange(rows)[:, None] * (columns + 1) + np.arange(columns)).reshape(-1)
    right, below = corner + 1, corner + columns + 1
    faces = np.concatenate([np.stack([corner, right, below], 1), np.stack([right, below + 1, below], 1)])
    faces = faces.astype(np.int32)
    return with_frames(weld(Mesh(points, faces, Corners(uvs.astype(np.float32), faces), Corners(points, faces))))


def waves(side: int, seed: int, channels: int) -> np.ndarray:
    """``[side, side, channels]`` smooth values in [0, 1] that repeat at the borders and are alike nowhere."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[0:side, 0:side] * (2 * np.pi / side)
    out = np.zeros((side, side, channels))
    for channel in range(channels):
        for _ in range(6):
            a, b = rng.integers(0, 4, 2)
            out[..., channel] += rng.normal() * np.sin(a * x + b * y + rng.uniform(0, 7))
    out -= out.min(axis=(0, 1))
    return (out / out.max(axis=(0, 1))).astype(np.float32)


def showpiece(side: int = 64) -> Asset:
    """Colours, roughness, metal, bumps and occlusion that all differ; flipping any shows."""
    bumps = np.concatenate([0.9 * (waves(side, 4, 2) - 0.4), np.ones((side, side, 1))], axis=-1)
    material = Material(
        0.05 + 0.8 * waves(side, 1, 3),
        0.25 + 0.6 * waves(side, 2, 1),
        waves(side, 3, 1),
        0.4 + 0.6 * waves(side, 5, 1),
        (bumps / np.linalg.norm(bumps, axis=-1, keepdims=True)).astype(np.float32),
        name="show piece",
    )
    return Asset(ball(), [material], name="ball")


def camera(side: int = SIDE) -> Camera:
    eye = np.array([1.6, 1.3, 2.6])
    return Camera(look_at(eye, (0, 0, 0)), 1.4 * side, 1.4 * side, side / 2, side / 2, side, side, 0.5, 10.0)


def view(one: Camera) -> ViewBatch:
    return ViewBatch.of([one], [np.eye(4)], torch.device("cpu"))


@pytest.fixture
def make_ball():
    return ball


@pytest.fixture(scope="session")
def studio():
    """``render(asset)`` as the trainer's preview does it, the light, the camera, and ``compare`` in dB."""
    device = torch.device("cpu")
    backend, light = get_backend("cpu", device), demo_light(64)
    filtered = prefilter_latlong(light, base_resolution=128)

    def render(asset: Asset, side: int = SIDE) -> dict[str, np.ndarray]:
        images = AssetRenderer(asset, backend, device).render(view(camera(side)), filtered)
        return {name: image[0].numpy() for name, image in images.items()}

    def compare(first: dict[str, np.ndarray], second: dict[str, np.ndarray]) -> float:
        return psnr_srgb(first["rgb"], second["rgb"], np.maximum(first["alpha"], second["alpha"]))

    asset = showpiece()
    return SimpleNamespace(
        render=render, camera_of=camera, compare=compare, light=light, camera=camera(), view=view(camera()),
        asset=asset, preview=render(asset), backend=backend, device=device, filtered=filtered,
    )  # fmt: skip
