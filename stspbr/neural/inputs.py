"""What networks see of the buffers: brought to a common size, so that a wall's colour weighs as much as its place.

Positions reach three units and a lamp's spot on the ceiling a radiance of a hundred, while colours differ by a few
tenths of log(1 + radiance). Networks that read the buffers as they are learn where light falls, and colours last.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from stspbr.settings.scene_model import CHANNELS

_RADIANCE = ("beauty", "direct", "indirect", "diffuse", "specular")
_RANGES: Mapping[str, tuple[float, float]] = {
    **dict.fromkeys(_RADIANCE, (0.35, 0.2)),  # of log(1 + radiance)
    **dict.fromkeys(("position", "depth", "mirror_hit"), (0.0, 3.0)),
    **dict.fromkeys(("id", "albedo", "roughness", "shadows", "ao"), (0.3, 0.3)),
}
"""By pass: what is subtracted, and by what the rest is divided; directions stay as they are."""


def conditioned(values: Tensor, passes: Sequence[str]) -> Tensor:
    """Buffers ``[B, V, C, S, S]``, linear and one pass after the other, as networks see them."""
    parts = []
    for name, part in zip(passes, values.split([CHANNELS[name] for name in passes], dim=2), strict=True):
        middle, size = _RANGES.get(name, (0.0, 1.0))
        part = torch.log1p(part.clamp(min=0.0)) if name in _RADIANCE else part
        parts.append((part - middle) / size)
    return torch.cat(parts, dim=2)
