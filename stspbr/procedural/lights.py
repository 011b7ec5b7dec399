"""Lights in code for the shiny suite: a studio, a sunset and a room with windows, ``[height, 2·height, 3]``.

Nothing in them is symmetric, and no peak is too sharp for a learned light of 64² texels per face. They are dimmed so
that white paint facing the brightest side stays near 1.
"""

from __future__ import annotations

import numpy as np

from stspbr.procedural.painting import add_softboxes, dimmed, direction, round_lamp, sky_directions, smoothstep, softbox
from stspbr.scene.light import EnvironmentLight


def studio_light(height: int = 256) -> EnvironmentLight:
    """Softboxes in a dark room: small bright areas between large black ones, which show gloss best."""
    d = sky_directions(height)
    up = d[..., 1:2]
    room = np.array([0.050, 0.052, 0.058]) * (1.0 + 0.4 * d[..., 0:1] - 0.25 * d[..., 2:3])
    room = room + smoothstep(-0.05, -0.55, up) * np.array([0.060, 0.050, 0.042])
    boxes = [
        ((142.0, 36.0, 27.0, 19.0), (13.0, 12.2, 11.0)),  # key
        ((-104.0, 12.0, 8.0, 38.0), (5.4, 6.6, 8.6)),  # tall cool strip
        ((38.0, 4.0, 15.0, 24.0), (4.2, 3.4, 2.6)),  # warm fill
        ((-30.0, 66.0, 30.0, 11.0), (6.4, 6.4, 6.2)),  # overhead
        ((-168.0, -30.0, 20.0, 6.0), (2.0, 2.1, 2.3)),  # reflector on the floor
    ]
    lamp = round_lamp(d, -62.0, 42.0, 3.0, 4.8) * np.array([62.0, 58.0, 50.0])
    return dimmed(add_softboxes(room, d, boxes) + lamp, 0.40)


def sunset_light(height: int = 256) -> EnvironmentLight:
    """A low sun of limited peak over dark ground; the sky is orange at the horizon and blue above."""
    d = sky_directions(height)
    up = d[..., 1:2]
    sun = direction(75.0, 9.0)
    towards = 0.5 + 0.5 * (d @ (sun * (1.0, 0.0, 1.0) / np.hypot(sun[0], sun[2])))[..., None]
    horizon = np.array([0.46, 0.34, 0.42]) * (1.0 - towards) + np.array([1.55, 0.66, 0.24]) * towards
    zenith = np.array([0.11, 0.20, 0.46])
    sky = zenith + (horizon - zenith) * np.exp(-3.2 * np.maximum(up, 0.0))
    ground = np.array([0.075, 0.058, 0.045]) * (1.0 + 0.5 * towards)
    above = smoothstep(-0.035, 0.02, up)
    radiance = ground + (sky - ground) * above
    angle = np.degrees(np.arccos(np.clip(d @ sun, -1.0, 1.0)))[..., None]
    glow = np.exp(-angle / 11.0) * np.array([3.4, 1.5, 0.50]) * above
    disc = smoothstep(5.2, 3.0, angle) * np.array([105.0, 62.0, 27.0])
    # a bank of cloud breaks the gradient on the far side
    bank = softbox(d, -70.0, 16.0, 34.0, 7.0) * np.array([0.50, 0.36, 0.38])
    return dimmed(radiance + glow + disc + bank, 0.85)


def window_light(height: int = 256) -> EnvironmentLight:
    """A living room by day: two windows of four panes with cool light, two warm lamps, wood below."""
    d = sky_directions(height)
    up = d[..., 1:2]
    wall = np.array([0.24, 0.215, 0.18]) * (1.0 + 0.30 * d[..., 2:3] + 0.12 * d[..., 0:1])
    ceiling, floor = np.array([0.34, 0.33, 0.31]), np.array([0.125, 0.078, 0.046])
    room = wall + (ceiling - wall) * smoothstep(0.62, 0.80, up) + (floor - wall) * smoothstep(-0.42, -0.55, up)
    panes = []
    for azimuth, centre, half_width, half_height, colour in (
        (150.0, 16.0, 8.5, 10.0, (8.2, 9.2, 10.8)),
        (-95.0, 14.0, 6.0, 11.0, (6.6, 7.6, 9.2)),
    ):
        for side in (-1.0, 1.0):
            for level in (-1.0, 1.0):
                place = azimuth + side * (half_width + 1.4), centre + level * (half_height + 1.2)
                pane = colour if level > 0 else tuple(0.62 * c for c in colour)
                panes.append(((*place, half_width, half_height), pane))
    lamps = round_lamp(d, 38.0, 24.0, 4.5, 7.5) * np.array([46.0, 26.0, 10.5])
    lamps = lamps + round_lamp(d, -20.0, 55.0, 3.6, 6.0) * np.array([40.0, 25.0, 12.0])
    return dimmed(add_softboxes(room, d, panes) + lamps, 0.72)
