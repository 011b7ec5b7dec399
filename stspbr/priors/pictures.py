"""Training pictures: made shapes in the materials of a vocabulary, under made lights, with their captions.

Nothing is downloaded. A chunk of pictures is a function of its number and the seed alone, so that a resumed training
sees the same ones. The views of a chunk share one shape; each view is painted in several materials.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from stspbr.priors.lit_views import LitViews, condition_images, draw_views, picture_of, shaded_values
from stspbr.priors.mixes import encoded
from stspbr.priors.vocabulary import Caption, Material, Vocabulary
from stspbr.procedural.plain_shapes import COUNT, plain_shape
from stspbr.render.gbuffer import GBuffer, Surface, render_gbuffer
from stspbr.render.prefilter import PrefilteredLight
from stspbr.render.raster_backend import RasterBackend
from stspbr.scene import Mesh
from stspbr.scene.camera_rig import bounding_sphere

VIEWS, PAINTS = 8, 4
CHUNK = VIEWS * PAINTS
"""Pictures in a chunk."""
_SUPERSAMPLING = 2


@dataclass
class Pictures:
    """N pictures with what a net is told of them.

    Attributes:
        picture: ``[N, H, W, 3]`` display values in [0, 1].
        geometry, light: ``[N, H, W, GEOMETRY]`` and ``[N, H, W, REFERENCES]``, see ``lit_views``.
        words: ``[N, 2, V + MIX]``, see ``mixes.encoded``.
    """

    picture: Tensor
    geometry: Tensor
    light: Tensor
    words: Tensor


class Studio:
    """Takes training pictures.

    Args:
        side: of the pictures in pixels; whole: side of the picture that they are crops of, or equal to ``side``.
        meshes: shapes to paint; None: the made ones. more: further ones.
    """

    def __init__(
        self,
        vocabulary: Vocabulary,
        lights: Sequence[PrefilteredLight],
        backend: RasterBackend,
        device: torch.device,
        side: int = 64,
        whole: int | None = None,
        meshes: Sequence[Mesh] | None = None,
        more: Sequence[Mesh] = (),
    ) -> None:
        self.vocabulary, self.backend, self.device = vocabulary, backend, device
        self.lights, self.side, self.whole = list(lights), side, whole or side
        shapes = [plain_shape(number) for number in range(COUNT)] if meshes is None else list(meshes)
        shapes += more
        self.surfaces = [Surface.of(replace(mesh, uvs=None, tangents=None), device) for mesh in shapes]
        self.spheres = [bounding_sphere(mesh.positions[np.unique(mesh.faces)]) for mesh in shapes]

    @torch.no_grad()
    def chunk(self, number: int, seed: int) -> Pictures:
        """The ``CHUNK`` pictures of this number."""
        rng = np.random.default_rng([seed, number])
        which = int(rng.integers(len(self.surfaces)))
        finer = _SUPERSAMPLING
        lit = draw_views(
            rng, VIEWS, finer * self.whole, len(self.lights), self.spheres[which], self.device, finer * self.side
        )
        gbuffer = render_gbuffer(self.surfaces[which], lit.views, self.backend)
        geometry, light = condition_images(gbuffer, lit, self.lights, self.backend.texture, self.side)
        pictures, words = [], []
        for _ in range(PAINTS):
            caption = self.vocabulary.draw(rng)
            values = self._painted(gbuffer, lit, caption, self.spheres[which], rng)
            pictures.append(picture_of(gbuffer, lit, values, self.side))
            code = torch.as_tensor(encoded(self.vocabulary, caption), device=self.device)
            words.append(code.expand(VIEWS, -1, -1))
        geometry, light = (values.repeat(PAINTS, 1, 1, 1) for values in (geometry, light))
        return Pictures(torch.cat(pictures), geometry, light, torch.cat(words))

    def _painted(
        self,
        gbuffer: GBuffer,
        lit: LitViews,
        caption: Caption,
        sphere: tuple[np.ndarray, float],
        rng: np.random.Generator,
    ) -> Tensor:
        """Display values ``[N, 3]`` of the surface in a material of the caption."""
        albedo, roughness, metallic = painted_material(gbuffer.position, caption, self.vocabulary, sphere, rng)
        material = (gbuffer.normal, albedo, roughness, metallic)
        return shaded_values(gbuffer, lit, self.lights, material, self.backend.texture)


def painted_material(
    position: Tensor,
    caption: Caption,
    vocabulary: Vocabulary,
    sphere: tuple[np.ndarray, float],
    rng: np.random.Generator,
) -> tuple[Tensor, Tensor, Tensor]:
    """Albedo ``[N, 3]``, roughness and metallic ``[N, 1]`` at points of a surface ``[N, 3]``, drawn from a caption."""
    where = (position - position.new_tensor(sphere[0])) / sphere[1]
    first = _values(vocabulary, caption.first, rng, position)
    kind = vocabulary.patterns[caption.pattern]
    if kind == "roughness":
        way = _unit(rng)
        lines = sum(
            torch.sin(where @ where.new_tensor(way * pitch) + phase) for pitch, phase in _waves(rng, 30.0, 70.0)
        )
        first[:, 3:4] = (first[:, 3:4] + 0.04 * lines[:, None]).clamp(0.03, 1.0)  # type: ignore[index]
    if kind == "second":
        assert caption.second is not None
        second = _values(vocabulary, caption.second, rng, position)
        cover = _cover(where, caption.pattern, rng)
        first = first + (second - first) * cover
    return first[:, :3], first[:, 3:4], first[:, 4:]


def _values(vocabulary: Vocabulary, material: Material, rng: np.random.Generator, like: Tensor) -> Tensor:
    """``[N, 5]``: one albedo, roughness and metallic within the ranges, at every point."""
    ranges = vocabulary.ranges(material)
    low, high = ranges.albedo
    albedo = low + (high - low) * np.clip(rng.uniform() + 0.2 * rng.standard_normal(3), 0.0, 1.0)
    value = [*albedo, rng.uniform(*ranges.roughness), material.base.metallic]
    return like.new_tensor(np.array(value)).expand(len(like), 5).clone()


def _cover(where: Tensor, pattern: str, rng: np.random.Generator) -> Tensor:
    """``[N, 1]`` in [0, 1]: where the second material shows; soft over a fiftieth of the object's radius."""
    if pattern == "striped":
        pitch = rng.uniform(8.0, 20.0)
        wave = torch.sin(where @ where.new_tensor(_unit(rng) * pitch) + rng.uniform(0, 6.28)) - rng.uniform(-0.3, 0.5)
        return torch.sigmoid(wave / (pitch * 0.02))[:, None]
    if pattern == "spotted":
        spots = rng.standard_normal((60, 3))
        centres = where.new_tensor(spots / np.linalg.norm(spots, axis=1, keepdims=True))
        way = torch.nn.functional.normalize(where, dim=1)
        return torch.sigmoid(((way @ centres.T).amax(1) - np.cos(rng.uniform(0.10, 0.2))) / 0.004)[:, None]
    noise = sum(
        torch.sin(where @ where.new_tensor(_unit(rng) * pitch) + phase) / pitch**0.5
        for pitch, phase in _waves(rng, 3.0, 25.0)
    )
    return torch.sigmoid((noise - rng.uniform(0.1, 0.5)) / 0.06)[:, None]


def _waves(rng: np.random.Generator, low: float, high: float) -> list[tuple[float, float]]:
    return [(float(rng.uniform(low, high)), float(rng.uniform(0, 6.28))) for _ in range(6)]


def _unit(rng: np.random.Generator) -> np.ndarray:
    way = rng.standard_normal(3)
    return way / np.linalg.norm(way)
