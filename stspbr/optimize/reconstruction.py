"""The inverse-rendering problem that coarse, specialize and bake all solve: render, compare, regularise."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from stspbr.colour import linear_to_srgb
from stspbr.fields.material_values import MaterialValues
from stspbr.optimize.appearance import Appearance
from stspbr.optimize.distributed import Ranks, Span
from stspbr.optimize.geometry import Geometry
from stspbr.optimize.lights import Light, in_units_of
from stspbr.optimize.loop import Stopwatch
from stspbr.optimize.losses import CompositeLoss, mask_loss, metal_prior
from stspbr.optimize.routing import STRICT_A, STRICT_B, Term, scaled
from stspbr.optimize.transport import TransportSchedule
from stspbr.optimize.views import FULL_COVERAGE, Targets, ViewSet, batch_ids, step_generator
from stspbr.render.gbuffer import GBuffer, Surface, ViewBatch, compose, compose_channels, render_gbuffer
from stspbr.render.light import PrefilteredLight
from stspbr.render.raster_backend import RasterBackend
from stspbr.render.shading import shade
from stspbr.settings import LossSettings, OptimizeSettings

_Pixels = tuple[Tensor, Tensor, Tensor]  # radiance rendered and photographed, and where that clips


class Reconstruction:
    """Geometry, appearance and light, fitted to the views.

    Args:
        views: the training frames.
        geometry, appearance, light: what is optimised; each has its own parameters and regularisers.
        settings: batch, losses, routing.
        backend: raster operations.
        seed: of batches and of all noise.
        held_out: views for evaluation; previews show the first of them, or the first training view if there are none.
        ranks: the processes that share each batch.
        transport: shadows and bounces; None: all of the surface sees all of the light.
    """

    def __init__(
        self,
        views: ViewSet,
        geometry: Geometry,
        appearance: Appearance,
        light: Light,
        *,
        settings: OptimizeSettings,
        backend: RasterBackend,
        seed: int,
        held_out: ViewSet | None = None,
        ranks: Ranks | None = None,
        transport: TransportSchedule | None = None,
    ) -> None:
        self.views = views
        self.geometry = geometry
        self.appearance = appearance
        self.light = light
        self.settings = settings
        self.backend = backend
        self.seed = seed
        self.held_out = held_out
        self.ranks = ranks or Ranks()
        self.transport = transport
        self.exposure = views.exposure()
        self.progress = 1.0
        losses = settings.losses
        groups = appearance.groups()
        self._joint = "joint" in groups
        self._one_loss = settings.one_loss(groups)
        self._colour_a = CompositeLoss(losses.joint if self._joint else losses.appearance)
        self._colour_b = None if self._one_loss else CompositeLoss(losses.reflectance)

    # -- the loop's interface ---------------------------------------------------------------------------

    def groups(self) -> dict[str, list[Tensor]]:
        """All optimised parameters by group."""
        return {
            "geometry": list(self.geometry.parameters()),
            **self.appearance.groups(),
            "light": list(self.light.parameters()),
        }

    def terms(self, step: int, progress: float, watch: Stopwatch) -> list[Term]:
        """This rank's share of all loss terms of one step; over the ranks they add up to the whole batch's."""
        self.progress = progress
        if self.transport is not None:
            with watch.part("transport"), torch.no_grad():
                self.transport.update(step, progress, self.geometry.surface(), self.material)
        batch = batch_ids(step, len(self.views), self.settings.batch, self.seed)
        ids = self.ranks.part(batch)
        if not ids:
            self._normalizers(None, None)
            return self._regularizers(progress)
        views, targets = self.views.batch(ids)
        light, gbuffer, inputs, image = self._render(views, watch)
        with watch.part("losses"):
            share = len(ids) / len(batch)
            coverage, span = self._normalizers(targets, gbuffer)
            seen = span.count > 0 or span.total == 0  # a mean over no pixels is NaN
            terms = scaled(self._image_terms(image, targets, self.settings.losses, coverage * share), share)
            if seen:
                albedo = in_units_of(self.light, inputs.albedo)
                terms += scaled(_metallic_terms(inputs.metallic, albedo, self.settings.losses), span.fraction)
            terms += self._regularizers(progress)
        with watch.part("smoothness"):
            generator = step_generator(step, self.seed, image.device)
            if seen:
                terms += self.appearance.smoothness(gbuffer, inputs, self.settings.losses, progress, generator, span)
        return terms

    @torch.no_grad()
    def constrain(self) -> None:
        """Bring maps and light back into their ranges."""
        self.appearance.constrain()
        self.light.constrain()

    def modules(self) -> dict[str, torch.nn.Module]:
        """The parts whose state a checkpoint contains."""
        parts = {"geometry": self.geometry, "appearance": self.appearance, "light": self.light}
        return {name: part for name, part in parts.items() if isinstance(part, torch.nn.Module)}

    def state(self) -> dict[str, dict[str, Tensor]]:
        """State of all parts."""
        out = {name: module.state_dict() for name, module in self.modules().items()}
        return out if self.transport is None else out | {"transport": self.transport.state_dict()}

    def load_state(self, state: dict[str, dict[str, Tensor]]) -> None:
        """The inverse of ``state``."""
        for name, module in self.modules().items():
            module.load_state_dict(state[name])
        if self.transport is not None:
            self.transport.load_state_dict(state["transport"])

    def _normalizers(self, targets: Targets | None, gbuffer: GBuffer | None) -> tuple[Tensor, Span]:
        """The target coverage of the whole batch, and the span of this rank's covered pixels; None: it has no view."""
        coverage = torch.zeros(()) if targets is None else targets.alpha.sum()
        count = 0 if gbuffer is None else len(gbuffer.covered)
        if self.ranks.size == 1:
            return coverage, Span(0, count, count)
        every = self.ranks.gather(float(coverage), float(count))
        counts = [int(row[1]) for row in every]
        return coverage.new_tensor(sum(row[0] for row in every)), Span(
            sum(counts[: self.ranks.rank]), count, sum(counts)
        )

    def _regularizers(self, progress: float) -> list[Term]:
        """Terms that depend on no view, counted once: by the last rank, which has the fewest views."""
        return self.geometry.regularizers(progress) + self.light.regularizers() if self.ranks.is_last else []

    # -- rendering ---------------------------------------------------------------------------------------

    @torch.no_grad()
    def render(
        self, views: ViewBatch, light: PrefilteredLight | None = None, transport: bool = True
    ) -> dict[str, Tensor]:
        """Images ``[B, H, W, C]`` over black: rgb, alpha, albedo, roughness, metallic, normal (object space).

        Args:
            light: in place of the present one; transport: whether the object shadows itself, if it does in training.
        """
        light = light or self.light.prefiltered()
        surface = self.geometry.surface()
        gbuffer = render_gbuffer(surface, views, self.backend)
        material = self.material(gbuffer)
        rgb = self._shade(surface, gbuffer, material, light, transport)
        return compose_channels(gbuffer, rgb, material, self.backend)

    def material(self, gbuffer: GBuffer) -> MaterialValues:
        """The material at a G-buffer's places, its albedo in the light's units."""
        values = self.appearance.evaluate(gbuffer, self.progress)
        return replace(values, albedo=in_units_of(self.light, values.albedo))

    def preview(self) -> dict[str, np.ndarray]:
        """One view as a row of pictures: target, result, albedo, roughness, metallic, normal."""
        views, targets = (self.held_out or self.views).batch([0])
        out = {name: image[0].cpu().numpy() for name, image in self.render(views).items()}
        row = [
            linear_to_srgb(np.clip(targets.image[0].cpu().numpy(), 0, 1)),
            linear_to_srgb(np.clip(out["rgb"], 0, 1)),
            linear_to_srgb(np.clip(out["albedo"], 0, 1)),
            np.repeat(out["roughness"], 3, axis=2),
            np.repeat(out["metallic"], 3, axis=2),
            (out["normal"] + out["alpha"]) * 0.5,
        ]
        return {"target | result | albedo | roughness | metallic | normal": np.concatenate(row, axis=1)}

    def _render(self, views: ViewBatch, watch: Stopwatch) -> tuple[PrefilteredLight, GBuffer, MaterialValues, Tensor]:
        with watch.part("light"):
            light = self.light.prefiltered()
        with watch.part("geometry"):
            surface = self.geometry.surface()
        with watch.part("rasterize"):
            gbuffer = render_gbuffer(surface, views, self.backend)
        with watch.part("material"):
            inputs = self.appearance.evaluate(gbuffer, self.progress)
        with watch.part("shade"):
            scaled_inputs = replace(inputs, albedo=in_units_of(self.light, inputs.albedo))
            radiance = self._shade(surface, gbuffer, scaled_inputs, light)
        with watch.part("antialias"):
            image = compose(gbuffer, radiance, self.backend)
        return light, gbuffer, inputs, image

    def _shade(
        self,
        surface: Surface,
        gbuffer: GBuffer,
        material: MaterialValues,
        light: PrefilteredLight,
        transport: bool = True,
    ) -> Tensor:
        schedule = self.transport if transport else None
        return shade(
            material.normal,
            gbuffer.to_eye,
            material.albedo,
            material.roughness,
            material.metallic,
            light,
            texture=self.backend.texture,
            light_rotation=(gbuffer.object_rotation, gbuffer.view),
            occlusion=material.occlusion,
            surroundings=None if schedule is None else schedule.around(surface, gbuffer, light, self.progress),
        )

    def _image_terms(
        self, image: Tensor, targets: Targets, losses: LossSettings, coverage: Tensor | None = None
    ) -> list[Term]:
        """Mask over the whole image; colour over the union of both coverages, divided by the target's.

        Args:
            coverage: of the target in pixels, if these are not all images of the batch.
        """
        alpha = image[..., 3:]
        terms = []
        if alpha.requires_grad and losses.mask > 0:
            terms.append(Term("mask", losses.mask * mask_loss(alpha, targets.alpha), STRICT_A, closed=True))
        union = torch.nonzero(((alpha.detach() > 0) | (targets.alpha > 0)).reshape(-1)).squeeze(1)
        rendered = image.reshape(-1, 4).index_select(0, union)[:, :3]
        target = targets.image.reshape(-1, 3).index_select(0, union)
        saturation = targets.saturation.expand_as(targets.alpha).reshape(-1, 1).index_select(0, union)
        coverage = targets.alpha.sum() if coverage is None else coverage
        normalizer = (coverage * 3.0).clamp(min=1.0)

        def colour(composite: CompositeLoss, name: str, drives: frozenset[str], pixels: _Pixels) -> Term:
            images = (image[..., :3], targets.image, targets.saturation) if composite.needs_images else None
            rendered, target, clipped = pixels
            total, parts = composite(rendered, target, normalizer, self.exposure, saturation=clipped, images=images)
            return Term(name, total, drives, parts)

        def region(name: str) -> _Pixels:
            if name == "union":
                return rendered, target, saturation
            both = torch.minimum(alpha.detach(), targets.alpha).reshape(-1).index_select(0, union)
            inside = torch.nonzero(both > FULL_COVERAGE).squeeze(1)
            a, b, c = (values.index_select(0, inside) for values in (rendered, target, saturation))
            return a, b, c

        driven = STRICT_A | STRICT_B if self._one_loss else STRICT_A
        name = "joint" if self._joint else "A"
        terms.append(colour(self._colour_a, name, driven, region(losses.appearance_region)))
        if self._colour_b is not None:
            terms.append(colour(self._colour_b, "B", STRICT_B, region(losses.reflectance_region)))
        return terms


def _metallic_terms(metallic: Tensor, albedo: Tensor, losses: LossSettings) -> list[Term]:
    """The priors on metallic."""
    terms = []
    if losses.metal_prior == "dielectric-first" and losses.metal_prior_weight > 0:
        value = losses.metal_prior_weight * metal_prior(metallic, albedo)
        terms.append(Term("metal_prior", value, STRICT_B, closed=True))
    if losses.metallic_binary > 0:
        value = losses.metallic_binary * (metallic * (1.0 - metallic)).mean()
        terms.append(Term("metallic_binary", value, STRICT_B, closed=True))
    return terms
