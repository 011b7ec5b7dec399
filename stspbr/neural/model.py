"""Encoders, partitions and generators together: observations of a scene to pictures of other views."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

import torch
import torch.nn.functional as functional
from torch import Tensor, nn

from stspbr.errors import StspbrError
from stspbr.neural.encoders import Encoder
from stspbr.neural.generators import PixelNetwork, UNet
from stspbr.neural.gqn import GQN
from stspbr.neural.initial import start
from stspbr.neural.inputs import conditioned
from stspbr.neural.losses import picture_losses
from stspbr.neural.partitions import Partitions
from stspbr.settings.scene_model import CHANNELS, GeneratorSettings
from stspbr.settings.scenes import SceneConfig

_ROUGH = 0.75  # roughness above which mirror buffers are zero
_KINDS: Mapping[str, Any] = {"GQN": GQN, "Unet": UNet, "PixelCNN": PixelNetwork}


@dataclass
class Views:
    """Buffers and poses of several views per scene.

    Attributes:
        buffers: by pass, ``[B, V, C, S, S]``, linear.
        poses: ``[B, V, 16]`` world-to-camera matrices, row-major.
    """

    buffers: Mapping[str, Tensor]
    poses: Tensor

    def chosen(self, views: Sequence[int] | slice) -> Views:
        """Some of the views of each scene."""
        picked = views if isinstance(views, slice) else list(views)
        return Views({name: values[:, picked] for name, values in self.buffers.items()}, self.poses[:, picked])

    def scenes(self, which: Sequence[int] | slice) -> Views:
        """Some of the scenes."""
        picked = which if isinstance(which, slice) else list(which)
        return Views({name: values[picked] for name, values in self.buffers.items()}, self.poses[picked])

    def stacked(self, passes: Sequence[str], side: int) -> Tensor:
        """``[B, V, C, side, side]``: the passes one after the other, averaged down to this side."""
        parts = []
        for name in passes:
            if name not in self.buffers:
                held = ", ".join(self.buffers) or "none"
                raise StspbrError(f"the data have no pass {name!r} (they hold: {held}): generate them with it")
            values = averaged(self.buffers[name], side, name)
            if name.startswith("mirror") and "roughness" in passes:  # what a rough surface mirrors says nothing
                values = values * (averaged(self.buffers["roughness"], side) <= _ROUGH)
            parts.append(values)
        return torch.cat(parts, dim=2)

    def __len__(self) -> int:
        return len(self.poses)


@dataclass
class Losses:
    """Weighted losses of one batch by name, and the picture of each generator."""

    parts: dict[str, Tensor] = field(default_factory=dict)
    pictures: list[Tensor] = field(default_factory=list)


class SceneModel(nn.Module):
    """One configuration's networks.

    Args:
        config: what to build; random weights are drawn from ``generator``.
    """

    def __init__(self, config: SceneConfig, generator: torch.Generator | None = None) -> None:
        super().__init__()
        self.config, model = config, config.model
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0 if generator is None else int(torch.randint(2**62, (), generator=generator)))
            self.encoders = nn.ModuleList(start(Encoder(one, model.pose_dim)) for one in model.representations)
            self.generators = nn.ModuleList(self._made(one) for one in model.generators)
        adaptive = config.adaptive_separation and config.latent_separation
        empty = config.empty_partition and config.latent_separation
        self.partitions = nn.ModuleList(Partitions(one, adaptive, empty) for one in model.representations)
        self.trained: Tensor
        self.register_buffer("trained", torch.zeros(1, dtype=torch.int64))  # steps: borders are as sharp as then

    def _made(self, settings: GeneratorSettings) -> nn.Module:
        if settings.type not in _KINDS:
            return nn.Identity()
        dims = sum(self.config.model.representations[k].representation_dim for k in settings.representations)
        network = _KINDS[settings.type](settings, dims, self.config.model.pose_dim)
        if isinstance(network, GQN):  # its gates saturate with larger weights
            return network
        return start(network, network.last, settings.settings.end_relu)

    # -- observations to vectors -----------------------------------------------------------------

    def encode(self, observations: Views) -> list[Tensor]:
        """A vector ``[B, O, r, h, w]`` of every observation, per encoder."""
        out = []
        for encoder in cast(list[Encoder], list(self.encoders)):
            s = encoder.settings
            pictures = conditioned(observations.stacked(s.observation_passes, s.render_size), s.observation_passes)
            found = encoder(pictures.flatten(0, 1), observations.poses.flatten(0, 1))
            found = found.detach() if s.detach else found
            out.append(found.unflatten(0, pictures.shape[:2]))
        return out

    def combine(self, vectors: Sequence[Tensor], factor: int = -1, step: int | None = None) -> list[Tensor]:
        """One vector ``[B, r, h, w]`` per scene and encoder; see :meth:`Partitions.combined`."""
        at = int(self.trained) if step is None else step
        known = factor if self.config.latent_separation else -1
        return [part.combined(one, known, at) for part, one in zip(self.every_partition, vectors, strict=True)]

    def represent(self, observations: Views) -> list[Tensor]:
        """``encode`` and ``combine`` of scenes that have nothing in common."""
        return self.combine(self.encode(observations))

    # -- vectors to pictures ---------------------------------------------------------------------

    def generate(
        self,
        vectors: Sequence[Tensor],
        query: Views,
        samples: torch.Generator | None = None,
        only: int | None = None,
    ) -> list[Tensor]:
        """The picture of every generator, ``[B, C, S, S]`` in log(1 + radiance), of the query's only view.

        Args:
            vectors: of :meth:`combine`; samples: draws the latents of a GQN, None: their means.
            only: stop after this generator.
        """
        return self._run(vectors, query, lambda network, inputs, _: network(*inputs, **_latents(network, samples)),
                         training=False, only=only)  # fmt: skip

    def picture(self, vectors: Sequence[Tensor], query: Views, samples: torch.Generator | None = None) -> Tensor:
        """``[B, 3, S, S]``: the last prediction of the output pass, in log(1 + radiance)."""
        wanted = self.output_number
        made = self.generate(vectors, query, samples, wanted)[wanted]
        passes = self.config.model.generators[wanted].output_passes
        first = sum(CHANNELS[name] for name in passes[: passes.index(self.config.model.output_pass)])
        return made[:, first : first + CHANNELS[self.config.model.output_pass]]

    @property
    def every_partition(self) -> list[Partitions]:
        """The partitions of each encoder's vector."""
        return cast(list[Partitions], list(self.partitions))

    @property
    def output_number(self) -> int:
        """Number of the generator whose picture is the result: the last that predicts the output pass."""
        found = self.config.model.generators
        return max(k for k, one in enumerate(found) if self.config.model.output_pass in one.output_passes)

    @property
    def output_side(self) -> int:
        """Side of the result in pixels."""
        return self.config.model.generators[self.output_number].render_size

    def losses(self, views: Views, factor: int, step: int, samples: torch.Generator) -> Losses:
        """All losses of a batch whose last view is the query and whose others are the observations."""
        observations, query = views.chosen(slice(0, -1)), views.chosen(slice(-1, None))
        vectors = self.combine(self.encode(observations), factor, step)
        out = Losses()

        def run(network: nn.Module, inputs: tuple[Tensor, Tensor, Tensor], settings: GeneratorSettings) -> Tensor:
            truth = query.stacked(settings.output_passes, settings.render_size)[:, 0]
            if isinstance(network, GQN):
                picture, parts = network.loss(*inputs, truth, step, samples)
            else:
                picture = network(*inputs)
                parts = picture_losses(_kind(self.config, settings), _losses(self.config, settings), picture, truth)
            if not settings.discard_loss:
                for name, value in parts.items():
                    key = name if len(self.generators) == 1 else f"{len(out.pictures)}.{name}"
                    out.parts[key] = value
            return picture

        out.pictures = self._run(vectors, query, run, training=True, watched=out.pictures)
        if self.config.empty_partition and self.config.latent_separation:
            for number, part in enumerate(self.every_partition):
                weight = self.config.partition_loss * part.settings.representation_dim / 256.0
                out.parts["width" if len(self.partitions) == 1 else f"{number}.width"] = weight * part.used()
        return out

    def _run(
        self,
        vectors: Sequence[Tensor],
        query: Views,
        run: Callable[[nn.Module, tuple[Tensor, Tensor, Tensor], GeneratorSettings], Tensor],
        training: bool,
        only: int | None = None,
        watched: list[Tensor] | None = None,
    ) -> list[Tensor]:
        """Run the generators in order; ``watched`` is the list to which their pictures are added."""
        pictures: list[Tensor] = [] if watched is None else watched
        replaced: dict[str, Tensor] = {}
        for number, (network, settings) in enumerate(zip(self.generators, self.config.model.generators, strict=True)):
            buffers = Views({**query.buffers, **replaced}, query.poses)
            if settings.type == "Sum":
                parts = [buffers.stacked([name], settings.render_size)[:, 0] for name in settings.query_passes]
                pictures.append(torch.log1p(torch.stack(parts).sum(dim=0).clamp(min=0.0)))
            else:
                if settings.type == "Copy":
                    network = self.generators[settings.settings.index]
                side = settings.render_size
                if settings.query_passes:
                    x = conditioned(buffers.stacked(settings.query_passes, side), settings.query_passes)[:, 0]
                else:
                    x = query.poses.new_zeros(len(query), 0, side, side)
                chosen = _joined([vectors[k] for k in settings.representations])
                chosen = chosen.detach() if settings.detach else chosen
                pictures.append(run(network, (x, query.poses[:, 0], chosen), settings))
            if settings.override_train if training else settings.override_sample:
                linear, first = torch.expm1(pictures[-1])[:, None], 0
                for name in settings.output_passes:
                    replaced[name] = linear[:, :, first : first + CHANNELS[name]]
                    first += CHANNELS[name]
            if number == only:
                break
        return pictures


def averaged(values: Tensor, side: int, name: str = "picture") -> Tensor:
    """``[..., S, S]`` averaged down to ``[..., side, side]``; StspbrError unless S is a multiple of ``side``."""
    have = values.shape[-1]
    if have == side:
        return values
    if have < side or have % side:
        raise StspbrError(
            f"the pass {name} has {have} pixels a side, but the model reads {side}: generate the data at {side}, or "
            "at a multiple"
        )
    flat = functional.avg_pool2d(values.reshape(-1, 1, have, have), have // side)
    return flat.reshape(*values.shape[:-2], side, side)


def parameter_count(module: nn.Module) -> int:
    """Number of weights of a module."""
    return sum(parameter.numel() for parameter in module.parameters())


def _joined(vectors: Sequence[Tensor]) -> Tensor:
    return vectors[0] if len(vectors) == 1 else torch.cat(list(vectors), dim=1)


def _latents(network: nn.Module, samples: torch.Generator | None) -> dict[str, torch.Generator]:
    return {"generator": samples} if isinstance(network, GQN) and samples is not None else {}


def _kind(config: SceneConfig, settings: GeneratorSettings) -> str:
    """The type whose losses count: of a copy that of its original."""
    return config.model.generators[settings.settings.index].type if settings.type == "Copy" else settings.type


def _losses(config: SceneConfig, settings: GeneratorSettings) -> list[str]:
    original = config.model.generators[settings.settings.index] if settings.type == "Copy" else settings
    return original.settings.loss
