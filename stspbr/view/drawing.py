"""Pictures of a subject for the eye: one channel over a plain background, two of them side by side, a photo's error."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch

from stspbr.colour import linear_to_srgb
from stspbr.metrics.error_maps import heat
from stspbr.render.gbuffer import ViewBatch
from stspbr.render.light import PrefilteredLight
from stspbr.scene import Camera, EnvironmentLight, Frame
from stspbr.scene.bilinear import bilinear
from stspbr.scene.light import direction_to_latlong
from stspbr.view.subject import CONFIDENCE, Subject

BACKGROUND = 0.30
"""Grey behind the object, encoded for display."""
ERROR_PEAK = 0.25
"""Difference of sRGB-encoded colours, mean over the channels, that is white in a picture of a difference."""
_READABLE = 120  # rows of the smallest picture on which text is written
_MARGIN = 6  # pixels that a text stays away from the border
_CONFIDENCE_RAMP = np.array([[0.80, 0.33, 0.10], [0.93, 0.80, 0.55], [0.55, 0.73, 0.85], [0.10, 0.35, 0.65]])


@dataclass(frozen=True)
class Look:
    """How a subject is seen.

    Attributes:
        channel: one of the subject's.
        exposure: in stops, for radiance.
        turn: degrees about +Y by which the light is turned.
        transport: with shadows and bounces.
        sky: whether the light is seen behind the object.
    """

    channel: str = "shaded"
    exposure: float = 0.0
    turn: float = 0.0
    transport: bool = False
    sky: bool = False

    @property
    def needs_light(self) -> bool:
        """Whether a light takes part in the picture."""
        return self.sky or self.channel == "shaded"


@dataclass(frozen=True)
class Lamp:
    """A light in the two forms that drawing needs."""

    environment: EnvironmentLight
    filtered: PrefilteredLight


def draw(
    subject: Subject | None, lamp: Lamp | None, camera: Camera, pose: np.ndarray, look: Look
) -> tuple[np.ndarray, np.ndarray]:
    """A subject over the background, or the background alone.

    Args:
        camera, pose: of one view, in the subject's world; pose: ``[4, 4]`` object to world.

    Returns:
        ``[H, W, 3]`` in [0, 1], encoded for display; ``[H, W]`` distances along the line of sight, infinite where
        there is nothing.
    """
    behind = background(lamp, camera, look)
    if subject is None or look.channel not in subject.channels or (look.channel == "shaded" and lamp is None):
        return behind, np.full(behind.shape[:2], np.inf, np.float32)
    views = ViewBatch.of([camera], [pose], subject.device)
    views = replace(views, object_rotation=_turned(views.object_rotation, look.turn))
    own = lamp is not None and lamp.environment is subject.light  # under another light the flash is not there
    filtered = None if lamp is None else lamp.filtered
    image, depth = subject.draw(views, look.channel, filtered, look.transport, with_lamp=own)
    values = image.cpu().numpy()
    alpha = np.clip(values[..., -1:], 0.0, 1.0)
    front = encoded(np.where(alpha > 1e-4, values[..., :-1] / np.maximum(values[..., -1:], 1e-4), 0.0), look)
    return front * alpha + behind * (1.0 - alpha), depth.cpu().numpy()


def encoded(values: np.ndarray, look: Look) -> np.ndarray:
    """``[H, W, 3]`` for display of a channel's values ``[H, W, C]``: sRGB for colours, as they are for scalars."""
    if look.channel.startswith(CONFIDENCE):
        return ramp(values[..., 0])
    if look.channel == "shaded":
        return linear_to_srgb(np.clip(values * 2.0**look.exposure, 0.0, 1.0))
    if look.channel == "albedo":
        return linear_to_srgb(np.clip(values, 0.0, 1.0))
    return np.broadcast_to(np.clip(values, 0.0, 1.0), (*values.shape[:2], 3)).astype(np.float32)


def ramp(confidence: np.ndarray) -> np.ndarray:
    """Colours ``[..., 3]`` of a confidence ``[...]``: orange at 0 (the photos say nothing), blue at 1."""
    place = np.clip(np.nan_to_num(confidence), 0.0, 1.0) * (len(_CONFIDENCE_RAMP) - 1)
    columns = [np.interp(place, np.arange(len(_CONFIDENCE_RAMP)), _CONFIDENCE_RAMP[:, c]) for c in range(3)]
    return np.stack(columns, axis=-1).astype(np.float32)


def background(lamp: Lamp | None, camera: Camera, look: Look) -> np.ndarray:
    """``[H, W, 3]`` for display: plain grey, or the light that comes from behind."""
    if not look.sky or lamp is None:
        return np.full((camera.height, camera.width, 3), BACKGROUND, np.float32)
    x = (np.arange(camera.width) + 0.5 - camera.cx) / camera.fx
    y = (camera.cy - np.arange(camera.height) - 0.5) / camera.fy
    across, up = np.meshgrid(x, y)
    rays = np.stack([across, up, -np.ones_like(across)], axis=-1)
    rays = (rays / np.linalg.norm(rays, axis=-1, keepdims=True)) @ camera.camera_to_world[:3, :3].T
    seen = bilinear(lamp.environment.radiance, direction_to_latlong(rays @ _about_y(-look.turn).T), wrap_v=False)
    return linear_to_srgb(np.clip(seen * 2.0**look.exposure, 0.0, 1.0))


def photo_picture(frame: Frame, camera: Camera, exposure: float = 0.0) -> np.ndarray:
    """``[H, W, 3]`` for display: a photo's object where ``camera``, a resampling of the frame's own, sees it."""
    from PIL import Image

    frame = frame.loaded()
    straight = np.where(frame.alpha > 1e-4, frame.image / np.maximum(frame.alpha, 1e-4), 0.0)
    shown = linear_to_srgb(np.clip(straight * 2.0**exposure, 0.0, 1.0)) * frame.alpha + BACKGROUND * (1 - frame.alpha)
    scale = camera.fx / frame.camera.fx, camera.fy / frame.camera.fy
    size = max(1, round(frame.camera.width * scale[0])), max(1, round(frame.camera.height * scale[1]))
    small = Image.fromarray(np.round(255.0 * np.clip(shown, 0.0, 1.0)).astype(np.uint8)).resize(
        size, Image.Resampling.BILINEAR
    )
    grey = round(255.0 * BACKGROUND)
    canvas = Image.new("RGB", (camera.width, camera.height), (grey, grey, grey))
    left, top = camera.cx - frame.camera.cx * scale[0], camera.cy - frame.camera.cy * scale[1]
    canvas.paste(small, (round(left), round(top)))
    return np.asarray(canvas, np.float32) / 255.0


def photo_camera(frame: Frame, width: int, height: int) -> Camera:
    """The frame's camera for a picture of another shape, which holds the whole frame in its middle."""
    own = frame.camera
    scale = max(own.width / width, own.height / height)
    wide, high = scale * width, scale * height
    return own.resampled(((own.width - wide) / 2, (own.height - high) / 2, wide, high), (width, height))


def difference(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Heat map ``[H, W, 3]`` of the difference of two pictures for display, white at ``ERROR_PEAK``."""
    return heat(np.abs(left - right).mean(axis=-1), ERROR_PEAK).astype(np.float32)


def divided(image: np.ndarray, column: int, names: tuple[str, str]) -> np.ndarray:
    """``image`` with a line at ``column`` between its two sides, which are named at its foot."""
    width = image.shape[1]
    out = image.copy()
    if 0 < column < width:
        out[:, max(0, column - 1) : column + 1] = 0.95
    out = labelled(out, names[0], column - 8, "right") if column > 80 else out
    return labelled(out, names[1], column + 8, "left") if width - column > 80 else out


def labelled(image: np.ndarray, text: str, column: int, side: str) -> np.ndarray:
    """``image`` with a line of text at its foot that ends or begins at ``column``; a small one has no room for it.

    Of a text that is too long its end is shown, in which names of files differ.
    """
    from PIL import Image, ImageDraw, ImageFont

    if image.shape[0] < _READABLE:
        return image
    canvas = Image.fromarray(to_bytes(image))
    pen, font = ImageDraw.Draw(canvas), ImageFont.load_default(size=max(10, min(16, image.shape[0] // 30)))
    room, kept = (column if side == "right" else image.shape[1] - column) - _MARGIN, text
    while pen.textlength(text, font=font) > room and kept:
        kept = kept[1:]
        text = f"…{kept}"
    left, top, right, bottom = pen.textbbox((0, 0), text, font=font)
    x = column - (right - left) if side == "right" else column
    y = image.shape[0] - (bottom - top) - 14
    pen.rectangle((x - 4, y - 3, x + right - left + 4, y + bottom - top + 5), fill=(20, 20, 20))
    pen.text((x - left, y - top), text, fill=(235, 235, 235), font=font)
    return np.asarray(canvas, np.float32) / 255.0


def to_bytes(image: np.ndarray) -> np.ndarray:
    """``[..., 3]`` in [0, 1] as 8 bits."""
    return np.round(255.0 * np.clip(np.nan_to_num(image), 0.0, 1.0)).astype(np.uint8)


def _turned(rotation: torch.Tensor, degrees: float) -> torch.Tensor:
    """``[B, 3, 3]`` object to a world in which a turned light is where it was."""
    return (
        torch.as_tensor(_about_y(-degrees).astype(np.float32), device=rotation.device) @ rotation
        if degrees
        else rotation
    )


def _about_y(degrees: float) -> np.ndarray:
    s, c = np.sin(np.radians(degrees)), np.cos(np.radians(degrees))
    return np.array([[c, 0.0, s], [0.0, 1.0, 0.0], [-s, 0.0, c]])
