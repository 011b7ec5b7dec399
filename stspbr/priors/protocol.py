"""The interface of a prior to the distiller."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor


@dataclass
class Condition:
    """Encoded captions, one row per picture.

    Attributes:
        text: ``[B, …]``; empty: ``[B, …]`` what stands for no text.
    """

    text: Tensor
    empty: Tensor


@dataclass
class Extra:
    """What a stage may know of a picture besides its text; ``PriorStage.uses`` names what it needs.

    Attributes:
        geometry: ``[B, H, W, 4]`` normals in the camera's axes, and the mask (``"normals"``).
        light: ``[B, H, W, 7]`` display values of white paint, of white metals and of black gloss under the same light
            (``"light"``), see ``lit_views.reference_values``.
        low: ``[B, H, W, 3]`` in [−1, 1], the coarser picture, enlarged and noised to ``level`` (``"low"``).
        level: of ``low``'s noise.
        uniform: the picture ``[B, H, W, 3]`` in [0, 1] of the same views under the same lights, in one uniform material
            ``(albedo [3], roughness, metallic)`` (``"uniform"``).
        elsewhere: the same under J other lights and turns, ``[J, B, H, W, 3]`` (``"elsewhere"``).
    """

    geometry: Tensor | None = None
    light: Tensor | None = None
    low: Tensor | None = None
    level: int | None = None
    uniform: Callable[[Tensor, float, float], Tensor] | None = None
    elsewhere: Callable[[Tensor, float, float], Tensor] | None = None


class PriorStage(Protocol):
    """One resolution of a cascade.

    Attributes:
        side: of its pictures in pixels.
        alphas_bar: ``[T]`` the signal's share of variance at each noise level.
        uses: the fields of ``Extra`` that it needs: of ``"low"``, ``"normals"``, ``"light"``, ``"uniform"``,
            ``"elsewhere"``.
        learns_normals: whether it has seen bumps, so that a normal map may be learned.
    """

    side: int
    alphas_bar: Tensor
    uses: frozenset[str]
    learns_normals: bool

    def x0(self, x_t: Tensor, t: int, condition: Condition, guidance: float, extra: Extra) -> Tensor:
        """The picture ``[B, side, side, 3]`` that it expects behind ``x_t``, guided and unclamped, about [−1, 1]."""

    def noised_low(self, low: Tensor, level: int, noise: Tensor) -> Tensor:
        """The coarser picture ``[B, side, side, 3]`` in [−1, 1] with noise of ``level``, as ``x0`` wants it."""


class Prior(Protocol):
    """A cascade with its words.

    Attributes:
        name: for manifests; licence: of its weights.
        stages: from coarse to fine.
        guidance: of each stage at the first and the last step of distillation, where ``auto`` is asked for.
    """

    name: str
    licence: str
    stages: Sequence[PriorStage]
    guidance: Sequence[tuple[float, float]]

    def encode(self, prompts: Sequence[str], view_words: Sequence[str]) -> Condition:
        """Captions, one per picture; StspbrError for a word that the prior does not know."""


def squared_cosine(levels: int = 1000) -> Tensor:
    """``[levels]`` ā of the squared-cosine schedule (Nichol and Dhariwal 2021), at most 0.9999 and at least 1e-5."""
    return signal_at(torch.arange(levels, dtype=torch.float64) / levels, levels).float()


def signal_at(t: Tensor, levels: int = 1000) -> Tensor:
    """ā of noise levels ``t`` in [0, 1), any shape; ``squared_cosine`` at k / levels."""
    return torch.cos((t + 0.5 / levels + 0.008) / 1.008 * 0.5 * torch.pi).square().clamp(1e-5, 0.9999)
