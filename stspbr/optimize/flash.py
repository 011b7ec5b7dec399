"""A flash on the camera: a small lamp at the lens that moves with it, beside a light that stays."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from stspbr.optimize.routing import STRICT_A, Term
from stspbr.render.gbuffer import GBuffer
from stspbr.render.lamp import to_camera_lamp

_OFFSET_PACE = 0.01  # of the usual distance: a step moves the lamp by little, its offset is that of a hand's breadth
_STRENGTH_PACE = 0.3
_FARTHEST = 0.3  # of the usual distance
_NEAR_PRIOR, _GREY_PRIOR = 0.02, 0.002


class Flash(nn.Module):
    """The lamp: its strength, colour and offset from the lens.

    Args:
        distance: usual distance of the cameras from the object, in the box's units.

    Attributes:
        strength: ``[3]`` logarithm of the intensity over the squared distance, in steps; place: ``[3]`` its offset to
            the right, up and back, in steps.
    """

    distance: Tensor

    def __init__(self, distance: float) -> None:
        super().__init__()
        self.register_buffer("distance", torch.tensor(float(distance)))
        self.strength = nn.Parameter(torch.zeros(3))
        self.place = nn.Parameter(torch.zeros(3))

    def intensity(self, log_scale: Tensor | None = None) -> Tensor:
        """``[3]``: irradiance at distance 1; ``log_scale`` ``[3]``: of all light."""
        logarithm = _STRENGTH_PACE * self.strength
        return self.distance.square() * (logarithm if log_scale is None else logarithm + log_scale).exp()

    @property
    def offset(self) -> Tensor:
        """``[3]`` from the lens to the lamp: right, up and back, in the box's units."""
        return _OFFSET_PACE * self.distance * self.place

    def seen_from(self, gbuffer: GBuffer) -> Tensor:
        """``[N, 3]`` from the points of ``gbuffer`` to the lamp of the camera that shows each, object space."""
        return to_camera_lamp(gbuffer, self.offset)

    def regularizers(self) -> list[Term]:
        """What holds the lamp near the lens, and grey."""
        deviation = (self.strength - self.strength.mean()).square().mean() * _STRENGTH_PACE**2
        value = _NEAR_PRIOR * (_OFFSET_PACE * self.place).square().sum() + _GREY_PRIOR * deviation
        return [Term("flash", value, STRICT_A, closed=True)]

    @torch.no_grad()
    def brighten(self, log_scale: Tensor) -> None:
        """Take over a logarithmic scale ``[3]`` of all light."""
        self.strength.add_(log_scale / _STRENGTH_PACE)

    @torch.no_grad()
    def constrain(self) -> None:
        """Keep the lamp at the camera."""
        reach = _FARTHEST / _OFFSET_PACE
        self.place.clamp_(-reach, reach)

    @torch.no_grad()
    def facts(self, scale: float) -> dict[str, object]:
        """Plain numbers for ``metrics.json``; ``scale``: of the box's units to the capture's."""
        intensity = self.intensity() * scale**2
        return {"intensity": intensity.tolist(), "offset": (scale * self.offset).tolist()}
