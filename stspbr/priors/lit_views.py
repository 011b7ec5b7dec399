"""Views under lights at random: how training pictures are taken, and textures are looked at during distillation.

The light turns, never the object, so that its front stays its front. All lights are grey.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from stspbr.procedural.lamps import grey_light, lamps_light
from stspbr.procedural.lights import studio_light, sunset_light, window_light
from stspbr.render.display import area_filtered, display_curve
from stspbr.render.gbuffer import GBuffer, ViewBatch
from stspbr.render.prefilter import PrefilteredLight, prefilter_latlong
from stspbr.render.shading import pure_responses, shade
from stspbr.scene.camera import Camera, look_at
from stspbr.scene.light import EnvironmentLight

ROUGHNESSES = (0.1, 0.3, 0.7)
"""Of the white metals, and of the gloss of black paint, that a prior is shown beside white paint."""
REFERENCES = 1 + 2 * len(ROUGHNESSES)
"""Channels of ``reference_values``. Every dielectric and every metal of one of ``ROUGHNESSES`` is a sum of them."""
GEOMETRY = 4
"""Channels of ``geometry_image``: the normal in the camera's axes, and the mask."""
VIEW_WORDS = ("front", "right side", "back", "left side", "top", "bottom")
LAMP_ROOMS = 5
_FOV, _TILT = 30.0, 15.0
_ZOOM = (0.85, 1.15)  # of the distance at which the object's ball fits the picture
_LIGHT_RESOLUTION = 128


def own_lights() -> list[EnvironmentLight]:
    """The lights for training and distillation: three made rooms and skies, and five rooms with lamps; grey.

    ``procedural:demo`` is not among them: what is measured under it was never seen.
    """
    rooms = [studio_light(128), sunset_light(128), window_light(128)]
    return [grey_light(light) for light in [*rooms, *(lamps_light(seed) for seed in range(LAMP_ROOMS))]]


def prefiltered(lights: Sequence[EnvironmentLight], device: torch.device) -> list[PrefilteredLight]:
    """The lights as the shading reads them."""
    return [prefilter_latlong(light, _LIGHT_RESOLUTION).to(device) for light in lights]


def softened(light: PrefilteredLight, levels: int) -> PrefilteredLight:
    """``light`` without its finest ``levels``: small lamps become large ones."""
    if levels == 0:
        return light
    return replace(light, specular=light.specular[levels:], widths=light.widths[levels:])


@dataclass
class LitViews:
    """Views, each under a light of its own.

    Attributes:
        views: B cameras in object space.
        light: ``[B]`` int64 into a list of lights; rotation: ``[B, 3, 3]`` object to the light's space.
        exposure: ``[B]`` factor on radiance; background: ``[B, 3]`` display colour.
        words: of ``VIEW_WORDS``, one per view.
    """

    views: ViewBatch
    light: Tensor
    rotation: Tensor
    exposure: Tensor
    background: Tensor
    words: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.light)


def draw_views(
    rng: np.random.Generator,
    count: int,
    size: int,
    lights: int,
    sphere: tuple[np.ndarray, float],
    device: torch.device,
    crop: int | None = None,
) -> LitViews:
    """``count`` views around a ball, area-uniform, each with light, turn, tilt, exposure and background of its own.

    Args:
        size: side of the pictures in pixels; crop: side of a random square of each that is rendered instead.
        lights: how many there are. They take turns from a random one on, so that a batch holds different ones.
        sphere: centre ``[3]`` and radius of the ball that the pictures frame.
    """
    centre, radius = sphere
    half = np.tan(np.radians(0.5 * _FOV))
    cameras, words, rotations = [], [], []
    for _ in range(count):
        up = rng.uniform(-1.0, 1.0)
        turn, flat = rng.uniform(0.0, 2.0 * np.pi), np.sqrt(1.0 - up * up)
        way = np.array([flat * np.sin(turn), up, flat * np.cos(turn)])
        distance = radius * np.sqrt(1.0 + 1.0 / half**2) * rng.uniform(*_ZOOM)
        near, far = max(distance - 1.3 * radius, 0.01 * distance), distance + 1.3 * radius
        focal = 0.5 * size / half
        camera = Camera(
            look_at(centre + distance * way, centre), focal, focal, size / 2, size / 2, size, size, near, far
        )
        if crop is not None and crop < size:
            left, top = (int(value) for value in rng.integers(0, size - crop + 1, 2))
            camera = camera.resampled((left, top, crop, crop), (crop, crop))
        cameras.append(camera)
        words.append(view_word(way))
        rotations.append(_light_turn(rng))
    first = int(rng.integers(lights))
    index = (first + np.arange(count)) % lights
    exposure = 2.0 ** rng.uniform(-0.5, 0.5, count)
    background = rng.uniform(0.0, 1.0, (count, 3))

    def tensor(values: np.ndarray) -> Tensor:
        return torch.as_tensor(np.asarray(values, np.float32), device=device)

    return LitViews(
        ViewBatch.of(cameras, [np.eye(4)] * count, device), torch.as_tensor(index, device=device),
        tensor(np.stack(rotations)), tensor(exposure), tensor(background), tuple(words),
    )  # fmt: skip


def view_word(way: np.ndarray) -> str:
    """The word of ``VIEW_WORDS`` for a camera in the direction ``way`` ``[3]``; the object's front is +Z."""
    if abs(way[1]) > np.sin(np.radians(60.0)):
        return VIEW_WORDS[4] if way[1] > 0 else VIEW_WORDS[5]
    return VIEW_WORDS[round(np.arctan2(way[0], way[2]) / (0.5 * np.pi)) % 4]


def _light_turn(rng: np.random.Generator) -> np.ndarray:
    """A turn about +Y by any angle after a tilt by up to ``_TILT`` degrees about a horizontal axis; ``[3, 3]``."""
    yaw, axis, tilt = rng.uniform(0, 2 * np.pi), rng.uniform(0, 2 * np.pi), np.radians(rng.uniform(-_TILT, _TILT))
    k = np.array([np.cos(axis), 0.0, np.sin(axis)])
    cross = np.array([[0, -k[2], k[1]], [k[2], 0, -k[0]], [-k[1], k[0], 0]])
    tilted = np.eye(3) + np.sin(tilt) * cross + (1 - np.cos(tilt)) * cross @ cross
    turn = np.array([[np.cos(yaw), 0, np.sin(yaw)], [0, 1, 0], [-np.sin(yaw), 0, np.cos(yaw)]])
    return turn @ tilted


def by_light(
    gbuffer: GBuffer,
    lit: LitViews,
    lights: Sequence[PrefilteredLight],
    evaluate: Callable[[Tensor, PrefilteredLight, tuple[Tensor, Tensor]], Tensor],
) -> Tensor:
    """``[N, C]``: ``evaluate(pixels, light, light_rotation)`` of each light's pixels, in the G-buffer's order."""
    owner = lit.light.index_select(0, gbuffer.view)
    pieces, places = [], []
    for number in torch.unique(lit.light).tolist():
        pixels = torch.nonzero(owner == number).squeeze(1)
        if len(pixels):
            turns = (lit.rotation, gbuffer.view.index_select(0, pixels))
            pieces.append(evaluate(pixels, lights[number], turns))
            places.append(pixels)
    if not pieces:
        return gbuffer.position.new_zeros(0, 3)
    return torch.cat(pieces).index_select(0, torch.argsort(torch.cat(places)))


def exposed(gbuffer: GBuffer, lit: LitViews, radiance: Tensor) -> Tensor:
    """Display values of radiance ``[N, C]`` at each view's exposure."""
    return display_curve(radiance * lit.exposure.index_select(0, gbuffer.view)[:, None])


def shaded_values(
    gbuffer: GBuffer,
    lit: LitViews,
    lights: Sequence[PrefilteredLight],
    material: tuple[Tensor, Tensor, Tensor, Tensor],
    texture: Callable[..., Tensor],
) -> Tensor:
    """``[N, 3]`` display values of the surface; differentiable.

    Args:
        material: unit normals ``[N, 3]`` in object space, albedo ``[N, 3]``, roughness and metallic ``[N, 1]``.
    """
    normal, albedo, roughness, metallic = material
    blurred = gbuffer.blurred(roughness)

    def of_light(pixels: Tensor, light: PrefilteredLight, turns: tuple[Tensor, Tensor]) -> Tensor:
        own = [values.index_select(0, pixels) for values in (normal, gbuffer.to_eye, albedo, blurred, metallic)]
        return shade(own[0], own[1], own[2], own[3], own[4], light, texture=texture, light_rotation=turns)

    return exposed(gbuffer, lit, by_light(gbuffer, lit, lights, of_light))


@torch.no_grad()
def reference_values(
    gbuffer: GBuffer, lit: LitViews, lights: Sequence[PrefilteredLight], texture: Callable[..., Tensor]
) -> Tensor:
    """``[N, REFERENCES]`` display values under the same light: matte white paint, white metals, and black gloss.

    A metal's picture is white wherever it mirrors a lamp or a bright sky. What a coat of paint mirrors is 4 % of that,
    so its gloss is a channel of its own for each of ``ROUGHNESSES``.
    """

    def of_light(pixels: Tensor, light: PrefilteredLight, turns: tuple[Tensor, Tensor]) -> Tensor:
        normal, to_eye = (values.index_select(0, pixels) for values in (gbuffer.normal, gbuffer.to_eye))
        bend = None if gbuffer.bend is None else gbuffer.bend.index_select(0, pixels)
        white, metals, gloss = normal[:, :1], [], []
        for value in ROUGHNESSES:
            rough = replace(gbuffer, bend=bend).blurred(torch.full_like(normal[:, :1], value))
            paint, metal = pure_responses(normal, to_eye, rough, light, texture=texture, light_rotation=turns)
            white = paint[0].mean(1, keepdim=True)
            metals.append((metal[0] + metal[1]).mean(1, keepdim=True))
            gloss.append(paint[1].mean(1, keepdim=True))
        return torch.cat([white, *metals, *gloss], dim=1)

    return exposed(gbuffer, lit, by_light(gbuffer, lit, lights, of_light))


@torch.no_grad()
def geometry_values(gbuffer: GBuffer, lit: LitViews) -> Tensor:
    """``[N, 3]``: unit normals in the camera's axes."""
    assert lit.views.camera_from_object is not None
    turn = lit.views.camera_from_object[:, :3, :3].index_select(0, gbuffer.view)
    return (turn @ gbuffer.normal[..., None])[..., 0]


def picture_of(gbuffer: GBuffer, lit: LitViews, values: Tensor, side: int) -> Tensor:
    """``[B, side, side, 3]`` in [0, 1]: display values ``[N, 3]`` over each view's background, area-filtered."""
    image = area_filtered(gbuffer.image(values), side)
    return image[..., :3] + (1.0 - image[..., 3:]) * lit.background[:, None, None]


@torch.no_grad()
def condition_images(
    gbuffer: GBuffer, lit: LitViews, lights: Sequence[PrefilteredLight], texture: Callable[..., Tensor], side: int
) -> tuple[Tensor, Tensor]:
    """Geometry ``[B, side, side, GEOMETRY]`` and light ``[B, side, side, REFERENCES]`` of the views, 0 off it."""
    values = torch.cat([geometry_values(gbuffer, lit), reference_values(gbuffer, lit, lights, texture)], dim=1)
    image = area_filtered(gbuffer.image(values), side)
    normals, references, mask = image.split([3, REFERENCES, 1], dim=3)
    return torch.cat([normals, mask], dim=3), references
