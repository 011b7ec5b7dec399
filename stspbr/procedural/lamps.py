"""Rooms with a few lamps by seed, for training and distillation: grey, and always with a bright lamp."""

from __future__ import annotations

import numpy as np

from stspbr.colour import luminance_of
from stspbr.procedural.painting import round_lamp, sky_directions, smoothstep, softbox
from stspbr.scene.light import EnvironmentLight, row_solid_angle


def lamps_light(seed: int, height: int = 128) -> EnvironmentLight:
    """A dim room with one to three round lamps and perhaps a softbox, ``[height, 2·height, 3]``, grey.

    The brightest lamp has at least 30 times the mean radiance: without a lamp, metallic and roughness cannot be told.
    """
    rng = np.random.default_rng([31, seed])
    d = sky_directions(height)
    top, bottom = rng.uniform(0.1, 0.6), rng.uniform(0.03, 0.2)
    room = bottom + (top - bottom) * smoothstep(-0.4, rng.uniform(0.2, 0.9), d[..., 1:2])
    tilt = rng.normal(0.0, 0.25, 3)
    room = room * (1.0 + np.clip(d @ tilt, -0.8, 0.8)[..., None])
    if rng.random() < 0.6:
        box = softbox(d, rng.uniform(0, 360), rng.uniform(-20, 70), rng.uniform(8, 30), rng.uniform(8, 30))
        room = room + rng.uniform(2.0, 8.0) * box
    lamp = np.zeros_like(room)
    for _ in range(rng.integers(1, 4)):
        inner = rng.uniform(2.5, 6.0)
        lamp = lamp + rng.uniform(0.5, 1.0) * round_lamp(
            d, rng.uniform(0, 360), rng.uniform(-10, 80), inner, inner * rng.uniform(1.3, 2.0)
        )
    strength = rng.uniform(30.0, 80.0) * mean_radiance(room)
    # the lamp raises the mean itself: its share is solved for
    share = mean_radiance(lamp) / lamp.max()
    strength = strength / max(1.0 - strength / mean_radiance(room) * share, 0.25)
    radiance = room + lamp * (strength / lamp.max())
    return EnvironmentLight(np.repeat(radiance, 3, axis=-1).astype(np.float32))


def mean_radiance(radiance: np.ndarray) -> float:
    """The mean over all directions of a lat-long map ``[H, W, C]``, of its luminance if C = 3."""
    grey = luminance_of(radiance) if radiance.shape[-1] == 3 else radiance[..., 0]
    return float((grey.mean(axis=1) * row_solid_angle(*grey.shape)).sum() * grey.shape[1] / (4 * np.pi))


def grey_light(light: EnvironmentLight, mean: float = 0.5) -> EnvironmentLight:
    """``light`` without colour, scaled to a mean radiance: a white lamp says all of a material that a red one does."""
    grey = luminance_of(light.radiance)[..., None]
    scale = mean / max(mean_radiance(grey), 1e-8)
    return EnvironmentLight(np.repeat(grey * scale, 3, axis=-1).astype(np.float32))
