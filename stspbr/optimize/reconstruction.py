"""The inverse-rendering problem that coarse, specialize and bake all solve: render, compare, regularise."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial

import numpy as np
import torch
from torch import Tensor

from stspbr.colour import linear_to_srgb
from stspbr.fields.material_values import MaterialValues
from stspbr.optimize.appearance import Appearance, FieldAppearance
from stspbr.optimize.cameras import Cameras
from stspbr.optimize.crops import Crops
from stspbr.optimize.distributed import Ranks, Span
from stspbr.optimize.geometry import Geometry
from stspbr.optimize.image_terms import ImageTerms
from stspbr.optimize.lights import Light, in_units_of
from stspbr.optimize.loop import Stopwatch
from stspbr.optimize.losses import mask_loss, metal_prior
from stspbr.optimize.map_adam import Visited
from stspbr.optimize.pacing import Shown
from stspbr.optimize.photography import Photography
from stspbr.optimize.routing import STRICT_A, STRICT_B, Term, scaled
from stspbr.optimize.transport import TransportSchedule
from stspbr.optimize.views import Targets, ViewSet, Window, batch_ids, step_generator
from stspbr.render.gbuffer import (
    GBuffer,
    Surface,
    ViewBatch,
    channels,
    compose,
    compose_channels,
    coverage_image,
    named_channels,
    render_gbuffer,
)
from stspbr.render.layers import Layer, compose_layers, layers_of
from stspbr.render.light import PrefilteredLight
from stspbr.render.raster_backend import RasterBackend
from stspbr.render.shading import shade
from stspbr.scene import Frame
from stspbr.settings import LossSettings, OptimizeSettings


class Reconstruction:
    """Geometry, appearance and light, fitted to the views.

    Args:
        views: the training frames; of large ones every second step draws crops.
        geometry, appearance, light: what is optimised; each has its own parameters and regularisers.
        settings: batch, losses, routing.
        backend: raster operations.
        seed: of batches and of all noise.
        held_out: views for evaluation; previews show the first of them, or the first training view if there are none.
        ranks: the processes that share each batch.
        transport: shadows and bounces; None: all of the surface sees all of the light.
        photography: what the cameras made of radiance; None: the views hold it as it is.
        cameras: corrections of the views' cameras; None: they are exact.
        weights: ``[V]`` how much each view counts in the image losses; None: all alike.

    Attributes:
        share: the part of its views' pixels that the last step drew, see ``MapAdam``.
        visited: what the last step saw of each map, if it drew crops.
        watched: whether each step keeps the losses of its views in ``shown``.
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
        photography: Photography | None = None,
        cameras: Cameras | None = None,
        weights: Tensor | None = None,
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
        self.photography = photography
        self.cameras = cameras
        self.weights = weights
        self.crops = Crops(views, seed) if views.crop else None
        self.exposure = views.exposure()
        self.progress = 1.0
        self.share = 1.0
        self.visited: list[Visited] = []
        self.watched, self.shown = False, Shown([], {})
        groups = appearance.groups()
        self.image_terms = ImageTerms(
            settings.losses, joint="joint" in groups, one_loss=settings.one_loss(groups), exposure=self.exposure
        )

    # -- the loop's interface ---------------------------------------------------------------------------

    def groups(self) -> dict[str, list[Tensor]]:
        """All optimised parameters by group."""
        return {
            "geometry": list(self.geometry.parameters()),
            **self.appearance.groups(),
            "light": list(self.light.parameters()),
            **({} if self.photography is None else {"response": list(self.photography.parameters())}),
            **({} if self.cameras is None else {"cameras": list(self.cameras.parameters())}),
        }

    @property
    def epoch(self) -> int:
        """Steps in which every view is shown about once, and if there are crops, in either way."""
        return -(-len(self.views) // self.settings.batch) * (1 if self.crops is None else 2)

    def changes(self) -> list[float]:
        """Fractions of the stage from which on more is learned or rendered than before."""
        found = [self.appearance.normals_from, self.appearance.opacity_from] if isinstance(
            self.appearance, FieldAppearance
        ) else []  # fmt: skip
        found += [] if self.transport is None or self.transport.ramp is None else self.transport.ramp
        found += [] if self.cameras is None else [self.cameras.start]
        return [share for share in found if 0.0 < share < 1.0]

    def maps(self) -> list[Tensor]:
        """The material's maps, if it has any."""
        return self.appearance.maps()

    def terms(self, step: int, progress: float, watch: Stopwatch) -> list[Term]:
        """This rank's share of all loss terms of one step; over the ranks they add up to the whole batch's."""
        self.progress = progress
        self._refresh(step, progress, watch)
        batch = batch_ids(step, len(self.views), self.settings.batch, self.seed)
        windows = None if self.crops is None else self.crops.draw(step, batch)
        self.share = 1.0 if windows is None or self.crops is None else self.crops.share
        places = self.ranks.part(range(len(batch)))
        ids = [batch[place] for place in places]
        self.visited = []
        self.shown = Shown(batch if windows is None else [view + len(self.views) for view in batch], {})
        if not ids:
            self._normalizers(None, None)
            self._learn(batch, windows, places, None, None)
            if windows is not None:
                self.visited = self._visited()
            return self._regularizers(progress)
        with watch.part("frames"):
            views, targets = self.views.batch(ids) if windows is None else self.views.crops(
                ids, [windows[place] for place in places]
            )  # fmt: skip
            views = self.seen(views, ids)
        surface, gbuffer, inputs, image = self._render(views, watch)
        image, weight = self._corrected(image, ids)
        if self.photography is not None:
            averaged = 1 if windows is not None else self.views.overview**2
            image, certain = self.photography.compared(image, targets, views, ids, averaged)
            weight = certain if weight is None or certain is None else weight * certain
        if self.weights is not None:
            own = self.weights[ids][:, None, None, None].expand_as(targets.alpha)
            weight = own if weight is None else weight * own
        if targets.known is not None:  # whole-image losses have no weights: there the target takes the render's place
            weight = targets.known if weight is None else weight * targets.known
            targets = replace(targets, image=torch.where(targets.known > 0, targets.image, image[..., :3].detach()))
        with watch.part("losses"):
            share = len(ids) / len(batch)
            covered, span = self._normalizers(targets, gbuffer)
            terms = self.image_terms.of(image, targets, covered * share, weight)
            if windows is not None:
                terms += self._silhouettes(surface, ids)
                by_pixel = partial(self.image_terms.by_pixel, image, targets, covered, weight)
                self.visited = self._visited(gbuffer, by_pixel)
            if self.watched:
                each = self.image_terms.by_view(image, targets, weight)
                self.shown.losses.update(zip(map(str, places), each, strict=True))
            terms = scaled(terms, share)
            self._learn(batch, windows, places, image, targets)
        with watch.part("smoothness"):
            terms += self._priors(step, progress, gbuffer, inputs, span)
        return terms + self._regularizers(progress)

    @torch.no_grad()
    def constrain(self) -> None:
        """Bring maps and light back into their ranges."""
        self.appearance.constrain()
        self.light.constrain()
        if self.photography is not None:
            self.photography.constrain()
        if self.cameras is not None:
            self.cameras.constrain()

    def modules(self) -> dict[str, torch.nn.Module]:
        """The parts whose state a checkpoint contains."""
        parts = {"geometry": self.geometry, "appearance": self.appearance, "light": self.light}
        parts |= {"response": self.photography, "cameras": self.cameras}
        return {name: part for name, part in parts.items() if isinstance(part, torch.nn.Module)}

    def state(self) -> dict[str, dict[str, Tensor]]:
        """State of all parts."""
        out = {name: module.state_dict() for name, module in self.modules().items()}
        if self.crops is not None:
            out["crops"] = {"error": self.crops.error}
        return out if self.transport is None else out | {"transport": self.transport.state_dict()}

    def load_state(self, state: dict[str, dict[str, Tensor]]) -> None:
        """The inverse of ``state``."""
        for name, module in self.modules().items():
            module.load_state_dict(state[name])
        if self.crops is not None:
            self.crops.error.copy_(state["crops"]["error"])
        if self.transport is not None:
            self.transport.load_state_dict(state["transport"])

    def _silhouettes(self, surface: Surface, ids: list[int]) -> list[Term]:
        """Beside crops: the mask term of the whole views, reduced; a crop shows no outline but its own."""
        weight = self.settings.losses.mask
        if weight <= 0 or not (surface.positions.requires_grad or self.appearance.sees_through(self.progress)):
            return []
        views, targets = self.views.batch(ids)
        alpha = self.coverage(surface, self.seen(views, ids))
        return [Term("silhouette", weight * mask_loss(alpha, targets.alpha, targets.known), STRICT_A, closed=True)]

    def _visited(self, gbuffer: GBuffer | None = None, by_pixel: Callable[[], Tensor] | None = None) -> list[Visited]:
        """The losses ``[B, H, W, 1]`` of a crop's pixels as the texels have them; without: this rank has none."""
        if not self.image_terms.pixelwise or self.appearance.sees_through(self.progress):
            return []  # a pixel's loss is not known, or other layers have a part in it
        if gbuffer is None or by_pixel is None:
            return self.appearance.visited(None, None)
        return self.appearance.visited(gbuffer, by_pixel().reshape(-1, 1).index_select(0, gbuffer.covered))

    def _learn(
        self,
        batch: list[int],
        windows: list[Window] | None,
        places: list[int],
        image: Tensor | None,
        targets: Targets | None,
    ) -> None:
        """Remember where the crops of a batch differ from their targets."""
        if self.crops is not None and windows is not None:
            self.crops.learn(batch, windows, places, image, targets, self.ranks)

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

    def _refresh(self, step: int, progress: float, watch: Stopwatch) -> None:
        """Look anew at what the object hides from itself, if that is due."""
        if self.transport is not None:
            with watch.part("transport"), torch.no_grad():
                self.transport.update(step, progress, self.geometry.surface(), self.material)

    def _corrected(self, image: Tensor, ids: list[int]) -> tuple[Tensor, Tensor | None]:
        """The images of the views ``ids`` as they are compared, and each pixel's weight ``[B, H, W, 1]``; None: 1."""
        return image, None

    def _priors(
        self, step: int, progress: float, gbuffer: GBuffer, inputs: MaterialValues, span: Span | None = None
    ) -> list[Term]:
        """The terms on the material at the pixels of ``gbuffer``; ``span`` is their place among those of all ranks."""
        span = span or Span(0, len(gbuffer.covered), len(gbuffer.covered))
        if span.count == 0 and span.total > 0:  # a mean over no pixels is NaN
            return []
        losses = self.settings.losses
        terms = _metallic_terms(inputs.metallic, in_units_of(self.light, inputs.albedo), losses)
        generator = step_generator(step, self.seed, inputs.albedo.device)
        smooth = self.appearance.smoothness(gbuffer, inputs, losses, progress, generator, span)
        return [*scaled(terms, span.fraction), *smooth]

    def _regularizers(self, progress: float) -> list[Term]:
        """Terms that depend on no view, counted once: by the last rank, which has the fewest views."""
        if not self.ranks.is_last:
            return []
        terms = self.geometry.regularizers(progress) + self.light.regularizers()
        terms += [] if self.photography is None else self.photography.regularizers()
        return terms if self.cameras is None or progress < self.cameras.start else terms + self.cameras.regularizers()

    def seen(self, views: ViewBatch, ids: Sequence[int]) -> ViewBatch:
        """``views`` of the training views ``ids`` through the cameras as they are known now."""
        return views if self.cameras is None else self.cameras.seen(views, ids, self.progress)

    def photographed(self, frame: Frame, rgb: np.ndarray, alpha: np.ndarray) -> np.ndarray:
        """A render ``[H, W, 3]`` over black of a view, as its camera would have taken it."""
        return rgb if self.photography is None else self.photography.response.of_view(frame, rgb, alpha)

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
        if not self.appearance.sees_through(self.progress):
            gbuffer = render_gbuffer(surface, views, self.backend)
            material = self.material(gbuffer)
            rgb = self._shade(surface, gbuffer, material, light, transport)
            return compose_channels(gbuffer, rgb, material, self.backend)
        layers, materials = self._layers(surface, views)
        parts = []
        for layer, values in zip(layers, materials, strict=True):
            material = replace(values, albedo=in_units_of(self.light, values.albedo))
            parts.append(channels(self._shade(surface, layer.gbuffer, material, light, transport), material))
        return named_channels(compose_layers(layers, parts, self.backend))

    def coverage(self, surface: Surface, views: ViewBatch) -> Tensor:
        """``[B, H, W, 1]``: the alpha of ``render``, differentiable, without the shading."""
        if not self.appearance.sees_through(self.progress):
            return coverage_image(surface, views, self.backend)
        layers, _ = self._layers(surface, views)
        return compose_layers(layers, [layer.opacity[:, :0] for layer in layers], self.backend)

    def material(self, gbuffer: GBuffer) -> MaterialValues:
        """The material at a G-buffer's places, its albedo in the light's units."""
        values = self.appearance.evaluate(gbuffer, self.progress)
        return replace(values, albedo=in_units_of(self.light, values.albedo))

    def preview(self) -> dict[str, np.ndarray]:
        """One view as a row of pictures: target, result (as photographed), albedo, roughness, metallic, normal."""
        shown = self.held_out or self.views
        views, targets = shown.batch([0])
        views = views if shown is self.held_out else self.seen(views, [0])
        out = {name: image[0].cpu().numpy() for name, image in self.render(views).items()}
        result = self.photographed(shown.frame(0, whole=False), out["rgb"], out["alpha"])
        row = [
            linear_to_srgb(np.clip(targets.image[0].cpu().numpy(), 0, 1)),
            linear_to_srgb(np.clip(result, 0, 1)),
            linear_to_srgb(np.clip(out["albedo"], 0, 1)),
            np.repeat(out["roughness"], 3, axis=2),
            np.repeat(out["metallic"], 3, axis=2),
            (out["normal"] + out["alpha"]) * 0.5,
        ]
        return {"target | result | albedo | roughness | metallic | normal": np.concatenate(row, axis=1)}

    def _render(self, views: ViewBatch, watch: Stopwatch) -> tuple[Surface, GBuffer, MaterialValues, Tensor]:
        with watch.part("light"):
            light = self.light.prefiltered()
        with watch.part("geometry"):
            surface = self.geometry.surface()
        if self.appearance.sees_through(self.progress):
            return self._render_layers(light, surface, views, watch)
        with watch.part("rasterize"):
            gbuffer = render_gbuffer(surface, views, self.backend)
        with watch.part("material"):
            inputs = self.appearance.evaluate(gbuffer, self.progress)
        with watch.part("shade"):
            scaled_inputs = replace(inputs, albedo=in_units_of(self.light, inputs.albedo))
            radiance = self._shade(surface, gbuffer, scaled_inputs, light)
        with watch.part("antialias"):
            image = compose(gbuffer, radiance, self.backend)
        return surface, gbuffer, inputs, image

    def _render_layers(
        self, light: PrefilteredLight, surface: Surface, views: ViewBatch, watch: Stopwatch
    ) -> tuple[Surface, GBuffer, MaterialValues, Tensor]:
        """As ``_render``, of a surface that one sees through; G-buffer and material are those of the first layer."""
        with watch.part("layers"):
            layers, materials = self._layers(surface, views)
        with watch.part("shade"):
            scaled_inputs = [replace(own, albedo=in_units_of(self.light, own.albedo)) for own in materials]
            pairs = zip(layers, scaled_inputs, strict=True)
            radiance = [self._shade(surface, layer.gbuffer, own, light) for layer, own in pairs]
        with watch.part("antialias"):
            image = compose_layers(layers, radiance, self.backend)
        return surface, layers[0].gbuffer, materials[0], image

    def _layers(self, surface: Surface, views: ViewBatch) -> tuple[list[Layer], list[MaterialValues]]:
        materials: list[MaterialValues] = []

        def opacity(gbuffer: GBuffer) -> Tensor:
            materials.append(self.appearance.evaluate(gbuffer, self.progress))
            found = materials[-1].opacity
            assert found is not None
            return found

        return list(layers_of(surface, views, self.backend, opacity)), materials

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
            gbuffer.blurred(material.roughness),
            material.metallic,
            light,
            texture=self.backend.texture,
            light_rotation=(gbuffer.object_rotation, gbuffer.view),
            occlusion=material.occlusion,
            surroundings=None if schedule is None else schedule.around(surface, gbuffer, light, self.progress),
            to_lamp=self.light.to_lamp(gbuffer),
        )


def _metallic_terms(metallic: Tensor, albedo: Tensor, losses: LossSettings) -> list[Term]:
    """The priors on metallic."""
    terms = []
    if losses.metal_prior > 1.0 and losses.metal_prior_weight > 0:
        value = losses.metal_prior_weight * metal_prior(metallic, albedo, losses.metal_prior)
        terms.append(Term("metal_prior", value, STRICT_B, closed=True))
    if losses.metallic_binary > 0:
        value = losses.metallic_binary * (metallic * (1.0 - metallic)).mean()
        terms.append(Term("metallic_binary", value, STRICT_B, closed=True))
    return terms
