"""Maps as what a small net makes of fixed noise: the deep image prior (Ulyanov et al. 2018) as Paint-it uses it.

With a loss in pixels it fits worse than texels do, see ``docs/concepts/texture.md``; it is there to compare with.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from stspbr.fields.material_values import MaterialValues
from stspbr.optimize.appearance import MaterialMaps, TextureAppearance
from stspbr.render.gbuffer import GBuffer

_NOISE, _WIDTH, _LEVELS = 8, 24, 4


class DeepNet(nn.Module):
    """A U-Net from fixed noise ``[1, 8, H, W]`` to channels in [0, 1]; H and W are multiples of 16.

    Args:
        seed: of the noise and of the weights.
    """

    noise: Tensor

    def __init__(self, size: tuple[int, int], channels: int, seed: int) -> None:
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.register_buffer("noise", torch.rand(1, _NOISE, *size) * 0.1)
            given = [_NOISE, *[_WIDTH] * (_LEVELS - 1)]
            self.down = nn.ModuleList(_pair(c, _WIDTH, stride=2) for c in given)
            self.up = nn.ModuleList(_pair(_WIDTH + c, _WIDTH, stride=1) for c in reversed(given))
            self.last = nn.Conv2d(_WIDTH, channels, 1)

    def forward(self) -> Tensor:
        """``[1, H, W, channels]``."""
        h = self.noise
        kept: list[Tensor] = []
        for block in self.down:
            kept.append(h)
            h = block(h)
        for block, other in zip(self.up, reversed(kept), strict=True):
            h = nn.functional.interpolate(h, size=other.shape[2:], mode="bilinear")
            h = block(torch.cat([h, other], dim=1))
        return torch.sigmoid(self.last(h)).permute(0, 2, 3, 1).contiguous()


class DeepAppearance(TextureAppearance):
    """``TextureAppearance`` whose albedo, roughness and metallic are made by one ``DeepNet`` per material.

    The maps are the net's outputs since the last ``constrain``; they are parameters of nothing.
    """

    def __init__(self, maps: Sequence[MaterialMaps], seed: int, **others: Any) -> None:
        super().__init__(maps, learn_normal=False, **others)
        self.nets = nn.ModuleList(
            DeepNet(own.albedo.shape[:2], own.albedo.shape[-1] + own.reflectance.shape[-1], seed + k)  # type: ignore[arg-type]
            for k, own in enumerate(maps)
        )
        for own in self.materials:
            own.albedo.requires_grad_(False)
            own.reflectance.requires_grad_(False)
        self._made: list[Tensor] = []
        self.constrain()

    def groups(self) -> dict[str, list[Tensor]]:
        return {"joint": list(self.nets.parameters())}

    def maps(self) -> list[Tensor]:
        return []

    def evaluate(self, gbuffer: GBuffer, progress: float) -> MaterialValues:
        self._made = [net() for net in self.nets]
        try:
            return super().evaluate(gbuffer, progress)
        finally:
            self._made = []

    @torch.no_grad()
    def constrain(self) -> None:
        """Keep what the nets make now as the maps."""
        for own, net in zip(self.materials, self.nets, strict=True):
            made = net()
            own.albedo.copy_(made[..., :3])
            own.reflectance.copy_(made[..., 3:])

    def _sample(self, name: str, pixels: list[Tensor] | None, uv: Tensor, uv_da: Tensor) -> Tensor:
        if not self._made or name not in ("albedo", "reflectance"):
            return super()._sample(name, pixels, uv, uv_da)
        from stspbr.render.material_maps import sample_maps

        parts = [made[..., :3] if name == "albedo" else made[..., 3:] for made in self._made]
        return sample_maps([part.contiguous() for part in parts], pixels, uv, uv_da.detach(), self._texture)


def _pair(given: int, out: int, stride: int) -> nn.Sequential:
    """Two convolutions with norms, the first of which may halve the resolution."""
    layers: list[nn.Module] = []
    for number, channels in enumerate((given, out)):
        step = stride if number == 0 else 1
        layers += [nn.Conv2d(channels, out, 3, step, 1), nn.GroupNorm(4, out), nn.LeakyReLU(0.2)]
    return nn.Sequential(*layers)
