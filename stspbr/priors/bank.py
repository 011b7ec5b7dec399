"""The exact prior: its pictures are renders of a vocabulary's materials, so what it expects is a known posterior mean.

For tests of the distiller, and for its ablations: no training error is in what it says.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from stspbr.priors.protocol import Condition, Extra, squared_cosine
from stspbr.priors.vocabulary import Caption, Vocabulary

_BANDWIDTH = 0.15


class BankStage:
    """The posterior mean over pictures of uniform materials, each blurred by a Gaussian of width h.

    E[x₀ | x_t] = Σ wᵢ (xᵢ + h² / (h² + σ²) (x_t / √ā − xᵢ)) with σ² = (1 − ā) / ā and
    w = softmax(−‖x_t / √ā − xᵢ‖² / 2 (σ² + h²)).

    Args:
        materials: (albedo, roughness, metallic) of each picture.
        blind: the pictures are of other lights; else of the very view under its light.
    """

    learns_normals = False

    def __init__(self, side: int, materials: Sequence[tuple[Sequence[float], float, float]], blind: bool) -> None:
        self.side, self.materials, self.blind = side, materials, blind
        self.alphas_bar = squared_cosine()
        self.uses = frozenset({"elsewhere" if blind else "uniform"})

    @torch.no_grad()
    def x0(self, x_t: Tensor, t: int, condition: Condition, guidance: float, extra: Extra) -> Tensor:
        render = extra.elsewhere if self.blind else extra.uniform
        assert render is not None
        asked = condition.text if guidance == 1.0 else condition.empty
        used = torch.nonzero(asked.any(dim=0)).squeeze(1).tolist()
        pictures, owners = [], []
        for number in used:
            albedo, roughness, metallic = self.materials[number]
            found = render(x_t.new_tensor(albedo), roughness, metallic)
            found = found if self.blind else found[None]
            pictures.append(2.0 * found - 1.0)
            owners += [number] * len(found)
        stacked = torch.cat(pictures)  # [K, B, H, W, 3]
        signal = float(self.alphas_bar[t])
        spread, width = (1.0 - signal) / signal, _BANDWIDTH**2
        scaled = x_t / signal**0.5
        distance = (scaled[None] - stacked).square().sum(dim=(2, 3, 4)) / (2.0 * (spread + width))

        def mean(allowed: Tensor) -> Tensor:
            hidden = torch.where(allowed[:, owners].T > 0, 0.0, -torch.inf)
            weight = torch.softmax(hidden - distance, dim=0)
            expected = torch.einsum("kb,kbhwc->bhwc", weight, stacked)
            return expected + width / (width + spread) * (scaled - expected)

        with_text = mean(condition.text)
        if guidance == 1.0:
            return with_text
        without = mean(condition.empty)
        return without + guidance * (with_text - without)

    def noised_low(self, low: Tensor, level: int, noise: Tensor) -> Tensor:
        return low  # it needs none


class BankPrior:
    """A bank over every base and finish of a vocabulary; text is the set of materials that a caption allows.

    Args:
        side: of its pictures; blind: whether it knows text alone, see ``BankStage``.
        spread: how many materials stand for a caption: between the lowest and the highest values of its ranges.
    """

    def __init__(self, vocabulary: Vocabulary, side: int = 64, blind: bool = False, spread: int = 1) -> None:
        self.vocabulary, self.name, self.licence = vocabulary, "bank", "Apache-2.0"
        self.captions = vocabulary.every_plain()
        materials, self._owner = [], []
        for number, caption in enumerate(self.captions):
            ranges = vocabulary.ranges(caption.first)
            for k in range(spread):
                share = (k + 0.5) / spread
                albedo = ranges.albedo[0] + (ranges.albedo[1] - ranges.albedo[0]) * share
                roughness = ranges.roughness[0] + (ranges.roughness[1] - ranges.roughness[0]) * share
                materials.append((albedo.tolist(), roughness, caption.first.base.metallic))
                self._owner.append(number)
        self.stages = (BankStage(side, materials, blind),)
        self.guidance = ((1.0, 1.0),)

    def encode(self, prompts: Sequence[str], view_words: Sequence[str]) -> Condition:
        rows = [self._allowed(self.vocabulary.parse(prompt)) for prompt in prompts]
        text = torch.tensor(rows, dtype=torch.float32)
        return Condition(text, torch.ones_like(text))

    def _allowed(self, caption: Caption) -> list[float]:
        own = caption.first
        alike = [other.first.base == own.base and own.finish in (None, other.first.finish) for other in self.captions]
        return [float(alike[number]) for number in self._owner]
