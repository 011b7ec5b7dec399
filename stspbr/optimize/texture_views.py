"""How a textured mesh is looked at while it is distilled: views, lights that sharpen, what a prior is told of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import torch
from torch import Tensor

from stspbr.optimize.appearance import TextureAppearance
from stspbr.priors.lit_views import LitViews, condition_images, draw_views, picture_of, shaded_values, softened
from stspbr.priors.protocol import Extra
from stspbr.render.display import area_filtered
from stspbr.render.gbuffer import GBuffer, Surface, ViewBatch, render_gbuffer
from stspbr.render.prefilter import PrefilteredLight
from stspbr.render.raster_backend import RasterBackend
from stspbr.scene.camera_rig import bounding_sphere, sphere_cameras

SUPERSAMPLING = 2
"""Pictures are rendered this many times larger than the prior's, or its gradient trains on aliasing."""
_SOFT_UNTIL = (0.15, 0.3)  # of the steps: two levels of the lights are left out, then one, then none
_COVERAGE_VIEWS = 48
_ELSEWHERE = 3  # other lights under which a prior that knows none has its pictures


@dataclass
class Look:
    """A batch of views of the surface, and the lights that they are under."""

    lit: LitViews
    gbuffer: GBuffer
    lights: list[PrefilteredLight]


class TextureViews:
    """Views of one surface for one resolution of a prior.

    Args:
        surface: with UVs; any units.
        side: of the prior's pictures; lights: grey, as the shading reads them.
        soften: whether the lights are soft at first.
    """

    def __init__(
        self, surface: Surface, lights: Sequence[PrefilteredLight], backend: RasterBackend, side: int, soften: bool
    ) -> None:
        self.surface, self.lights, self.backend, self.side, self.soften = surface, list(lights), backend, side, soften
        self.sphere = bounding_sphere(surface.positions[surface.faces.long().unique()].cpu().numpy())

    def draw(self, rng: np.random.Generator, count: int, progress: float = 1.0) -> Look:
        """``count`` random views; ``progress`` in [0, 1] of the steps says how soft the lights are."""
        device = self.surface.positions.device
        lit = draw_views(rng, count, SUPERSAMPLING * self.side, len(self.lights), self.sphere, device)
        levels = sum(progress < until for until in _SOFT_UNTIL) if self.soften else 0
        lights = [softened(light, levels) for light in self.lights]
        return Look(lit, render_gbuffer(self.surface, lit.views, self.backend), lights)

    def picture(self, look: Look, appearance: TextureAppearance, own: Tensor | None = None) -> Tensor:
        """``[B, side, side, 3]`` in [0, 1]; differentiable in the maps.

        Args:
            own: ``[N]`` bool, the covered pixels that pass a gradient; None: all.
        """
        gbuffer = look.gbuffer
        material = appearance.evaluate(gbuffer, 1.0)
        parts = (material.normal, material.albedo, material.roughness, material.metallic)
        values = shaded_values(gbuffer, look.lit, look.lights, parts, self.backend.texture)
        if own is not None:
            values = torch.where(own[:, None], values, values.detach())
        return picture_of(gbuffer, look.lit, values, self.side)

    def uniform(self, look: Look, albedo: Tensor, roughness: float, metallic: float) -> Tensor:
        """``[B, side, side, 3]`` in [0, 1]: the same views with one material all over."""
        gbuffer = look.gbuffer
        one = torch.ones_like(gbuffer.position[:, :1])
        parts = (gbuffer.normal, albedo.expand(len(one), 3).contiguous(), one * roughness, one * metallic)
        values = shaded_values(gbuffer, look.lit, look.lights, parts, self.backend.texture)
        return picture_of(gbuffer, look.lit, values, self.side)

    def coverage(self, look: Look) -> Tensor:
        """``[B, side, side]``: the share of each pixel that shows the surface."""
        gbuffer = look.gbuffer
        return area_filtered(gbuffer.image(gbuffer.position[:, :0]), self.side)[..., 0]

    def extra(self, look: Look, uses: frozenset[str]) -> Extra:
        """What a stage of a prior that ``uses`` these is told of the views; ``low`` is left to the distiller."""
        out = Extra()
        if uses & {"normals", "light"}:
            out.geometry, out.light = condition_images(
                look.gbuffer, look.lit, look.lights, self.backend.texture, self.side
            )
        if "uniform" in uses:
            out.uniform = partial(self.uniform, look)
        if "elsewhere" in uses:
            others = [self._relit(look, shift) for shift in range(1, 1 + min(_ELSEWHERE, len(self.lights)))]
            out.elsewhere = lambda *material: torch.stack([self.uniform(other, *material) for other in others])
        return out

    def _relit(self, look: Look, shift: int) -> Look:
        """The same views, each under the light ``shift`` places on, turned as another view's is."""
        lit = look.lit
        other = replace(lit, light=(lit.light + shift) % len(self.lights), rotation=lit.rotation.roll(shift, 0))
        return replace(look, lit=other)


def seen_texels(surface: Surface, appearance: TextureAppearance, backend: RasterBackend, size: int) -> list[Tensor]:
    """``[H, W]`` bool of each material's maps: the texels that views from all around look up.

    Args:
        size: side of these views in pixels.
    """
    device = surface.positions.device
    centre, radius = bounding_sphere(surface.positions[surface.faces.long().unique()].cpu().numpy())
    cameras = sphere_cameras(
        _COVERAGE_VIEWS, 3.6 * radius, 34.0, size, target=centre, elevation_degrees=(-90.0, 90.0), margin=radius
    )
    found = [torch.zeros(own.albedo.shape[1:3], dtype=torch.bool, device=device) for own in appearance.materials]
    for camera in cameras:
        gbuffer = render_gbuffer(surface, ViewBatch.of([camera], [np.eye(4)], device), backend)
        if len(gbuffer.covered) == 0:
            continue
        owner, (uv, _) = appearance.owner_of(gbuffer.triangle), gbuffer.coordinates()
        for number, mask in enumerate(found):
            height, width = mask.shape
            own = uv[owner == number]
            place = (own - own.floor()) * own.new_tensor([width, height]) - 0.5
            first = place.floor().long()
            for dx in (0, 1):
                for dy in (0, 1):  # the four texels of a bilinear look-up; mips only read more
                    column, row = (first[:, 0] + dx) % width, (first[:, 1] + dy) % height
                    mask[row, column] = True
    return found
