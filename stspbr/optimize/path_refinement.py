"""The last refinement: our shading with its defects against a path tracer as constants, then the path tracer itself."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from stspbr.optimize.appearance import TextureAppearance
from stspbr.optimize.loop import Stopwatch
from stspbr.optimize.reconstruction import Reconstruction
from stspbr.optimize.routing import Term
from stspbr.optimize.views import FULL_COVERAGE, batch_ids, step_generator
from stspbr.render.gbuffer import render_gbuffer
from stspbr.render.path_gradients import PathGradients, PixelRays
from stspbr.scene import Frame
from stspbr.settings import RefineSettings

_TONE = 0.1  # noise of a correction, as a fraction of one plus the radiance, at which its pixel's weight is a half


@dataclass
class Defects:
    """What the fast shading lacks in V views: the path tracer's radiance minus its own, of the same maps.

    Attributes:
        image: ``[V, H, W, 3]`` float16, 0 where the object does not fill the pixel.
        weight: ``[V, H, W, 1]`` float16 in [0, 1]: how sure the difference is; 0 where there is none.
    """

    image: Tensor
    weight: Tensor

    @classmethod
    def none(cls, views: int, resolution: tuple[int, int], device: torch.device) -> Defects:
        """No differences, and no pixel that counts."""
        height, width = resolution
        image = torch.zeros(views, height, width, 3, dtype=torch.float16, device=device)
        return cls(image, image[..., :1].clone())

    def measure(self, view: int, halves: Sequence[np.ndarray], inside: Tensor, ours: Tensor) -> float:
        """Take a view's difference from two independent renders ``[H, W, 3]``.

        Args:
            inside: ``[H, W, 1]`` bool, the pixels that the object fills; ours: ``[H, W, 3]``.

        Returns:
            The mean absolute difference, relative to the mean radiance.
        """
        first, second = (torch.as_tensor(half, device=ours.device) for half in halves)
        difference = torch.where(inside, 0.5 * (first + second) - ours, 0.0)
        noise = 0.5 * (first - second).abs().mean(dim=2, keepdim=True) / (1.0 + ours.mean(dim=2, keepdim=True))
        self.image[view] = difference.clamp(-6e4, 6e4).half()
        self.weight[view] = torch.where(inside, 1.0 / (1.0 + (noise / _TONE).square()), 0.0).half()
        return float(difference.abs().sum() / torch.where(inside, ours, 0.0).sum().clamp(min=1e-12))


class PathRefinement(Reconstruction):
    """Maps (and a learned light) of a fixed mesh, fitted to the views by path tracing.

    Rounds of defect correction come first: the training views are path-traced with the present maps, and for the
    steps of the round the shading plus this constant difference is compared with the photographs. The values are
    exact at the round's start, and the shading's gradient is good enough to improve on them. The steps after the
    last round, if any, differentiate the path tracer itself, at random pixels.

    Args:
        arguments, others: of ``Reconstruction``; the appearance is a ``TextureAppearance``.
        frames: the training frames, in the units of ``tracer``, which holds the asset.
        environment: the present light as a lat-long tensor ``[h, w, 3]``, differentiable if it is learned.
        refine: paths, rounds and pixels.
    """

    appearance: TextureAppearance

    def __init__(
        self,
        *arguments: Any,
        frames: Sequence[Frame],
        tracer: PathGradients,
        environment: Callable[[], Tensor],
        refine: RefineSettings,
        **others: Any,
    ) -> None:
        super().__init__(*arguments, **others)
        self._frames, self._tracer, self._environment, self._refine = frames, tracer, environment, refine
        height, width = self.views.resolution  # that of the frames divided by image_scale
        self._cameras = [frame.camera.resized(width, height) for frame in frames]
        self._polish_from = self.settings.iterations - refine.polish
        self._defects = Defects.none(len(self.views), self.views.resolution, self.views.device)

    def corrections(self) -> dict[int, Callable[[], str]]:
        """By step, what ``optimize`` calls before it."""
        rounds = self._refine.rounds
        return {self._polish_from * k // rounds: partial(self.correct, k) for k in range(rounds)}

    @torch.no_grad()
    def correct(self, number: int = 0) -> str:
        """Measure the defects of the present maps in all views; a line for the log.

        Args:
            number: of the round, which has noise of its own: maps must not learn one noise in all rounds.
        """
        self._take()
        if self.transport is not None:
            self.transport.transport.refresh(self.geometry.surface(), self.material)
        light = self.light.prefiltered()
        sizes = []
        for view, (camera, frame) in enumerate(zip(self._cameras, self._frames, strict=True)):
            batch, targets = self.views.batch([view])
            ours = self.render(batch, light)
            seed = 2 * (number * len(self._frames) + view)
            rendered = [
                self._tracer.view(camera, frame.object_to_world, max(1, self._refine.paths // 2), seed + half)
                for half in (0, 1)
            ]
            covered = [torch.as_tensor(alpha, device=self.views.device) for _, alpha in rendered]
            inside = torch.stack([*covered, ours["alpha"][0], targets.alpha[0]]).amin(0) > FULL_COVERAGE
            sizes.append(self._defects.measure(view, [rgb for rgb, _ in rendered], inside, ours["rgb"][0]))
        return f"path-traced {len(sizes)} views: the shading differs by {np.mean(sizes):.1%} of the radiance"

    def terms(self, step: int, progress: float, watch: Stopwatch) -> list[Term]:
        if step < self._polish_from:
            return super().terms(step, progress, watch)
        return self._path_terms(step, watch)

    def state(self) -> dict[str, dict[str, Tensor]]:
        return super().state() | {"defects": {"image": self._defects.image, "weight": self._defects.weight}}

    def load_state(self, state: dict[str, dict[str, Tensor]]) -> None:
        super().load_state(state)
        self._defects = Defects(**state["defects"])

    @torch.no_grad()
    def path_traced(self, frames: Sequence[Frame], paths: int) -> list[np.ndarray]:
        """``[H, W, 3]`` linear radiance of the present maps in ``frames``."""
        self._take()
        return [self._tracer.view(f.camera, f.object_to_world, paths, 10_000 + k)[0] for k, f in enumerate(frames)]

    def _take(self) -> None:
        """The path tracer renders the present maps, light and floor."""
        self._tracer.take(self.appearance.plain_maps(), self._environment(), self.appearance.normal_maps())
        if self.light.floor is not None:
            self._tracer.take_floor(self.light.floor.grey.tolist())

    def _refresh(self, step: int, progress: float, watch: Stopwatch) -> None:
        """Nothing: what the object hides is looked at before each correction, which is measured with it."""

    def _corrected(self, image: Tensor, ids: list[int]) -> tuple[Tensor, Tensor | None]:
        missing = torch.nn.functional.pad(self._defects.image[ids].float(), (0, 1))
        return image + missing, self._defects.weight[ids].float()

    def _path_terms(self, step: int, watch: Stopwatch) -> list[Term]:
        """The losses of path-traced pixels of one batch of views."""
        self.progress = 1.0
        ids = batch_ids(step, len(self.views), self.settings.batch, self.seed)
        views, targets = self.views.batch(ids)
        with watch.part("rasterize"):
            gbuffer = render_gbuffer(self.geometry.surface(), views, self.backend)
        with watch.part("material"):
            inputs = self.appearance.evaluate(gbuffer, 1.0)
        generator = step_generator(step, self.seed, torch.device("cpu"))
        weight = self._defects.weight[ids].reshape(-1)
        inside = torch.nonzero(weight > 0).squeeze(1)
        order = torch.randperm(len(inside), generator=generator)[: self._refine.polish_pixels].to(inside.device)
        chosen = inside[order].sort().values
        with watch.part("trace"):
            radiance = self._radiance(ids, chosen, step)
        with watch.part("losses"):
            target, clips = (
                v.reshape(-1, v.shape[-1])[chosen] for v in (targets.image, targets.saturation.expand_as(targets.alpha))
            )
            certain = weight[chosen, None].float()
            if self.photography is not None:
                radiance, own = self.photography.compared_pixels(radiance, targets, views, ids, chosen)
                certain = certain if own is None else certain * own
            pixels = (radiance, target, clips, certain)
            terms = self.image_terms.of_pixels(lambda _: pixels, 3.0 * max(len(chosen), 1))
        with watch.part("smoothness"):
            terms += self._priors(step, 1.0, gbuffer, inputs)
        return terms + self._regularizers(1.0)

    def _radiance(self, ids: list[int], chosen: Tensor, step: int) -> Tensor:
        """``[P, 3]`` path-traced radiance of pixels of the views ``ids``, in the order of ``chosen``, ascending."""
        if self.light.floor is not None:
            self._tracer.take_floor(self.light.floor.grey.tolist())
        maps = [_CoarseGradient.apply(values, self._refine.polish_block) for values in self.appearance.plain_maps()]
        light = self._environment()
        area = self.views.resolution[0] * self.views.resolution[1]
        place = chosen.cpu().numpy()
        poses: dict[bytes, list[int]] = {}
        for number, view in enumerate(ids):
            poses.setdefault(np.asarray(self._frames[view].object_to_world, np.float64).tobytes(), []).append(number)
        parts, order = [], []
        for number, members in enumerate(poses.values()):
            rows = [np.flatnonzero(place // area == member) for member in members]
            rays = [
                PixelRays.of(self._cameras[ids[m]], place[row] % area) for m, row in zip(members, rows, strict=True)
            ]
            order += rows
            parts.append(
                self._tracer.radiance(
                    PixelRays.joined(rays), self._frames[ids[members[0]]].object_to_world, maps, light,
                    paths=self._refine.polish_paths, gradient_paths=self._refine.gradient_paths,
                    seed=step * 64 + number,
                )
            )  # fmt: skip
        back = torch.as_tensor(np.argsort(np.concatenate(order)), device=chosen.device)
        return torch.cat(parts).index_select(0, back)


class _CoarseGradient(torch.autograd.Function):
    """A map ``[H, W, C]`` as it is, whose gradient is averaged over blocks of texels.

    A path sees a few texels, and its noise is far above the information on any one of them.
    """

    @staticmethod
    def forward(ctx, values, block):
        ctx.block = block
        return values

    @staticmethod
    def backward(ctx, grad):
        if ctx.block == 1:
            return grad, None
        rows = grad.movedim(-1, 0)[None]
        mean = torch.nn.functional.avg_pool2d(rows, ctx.block, ceil_mode=True)
        spread = torch.nn.functional.interpolate(mean, size=rows.shape[2:], mode="bilinear")
        return spread[0].movedim(0, -1), None
