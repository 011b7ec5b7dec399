"""When the reconstruction looks anew at what the object hides from itself, and how much of it counts."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from stspbr.fields.material_values import MaterialValues
from stspbr.render.gbuffer import GBuffer, Surface
from stspbr.render.light import PrefilteredLight
from stspbr.render.shading import Surroundings
from stspbr.transport.transport import Transport


@dataclass
class TransportSchedule:
    """The transport of a stage.

    Attributes:
        transport: of the object.
        every: steps between refreshes; a vertex that has moved far brings one earlier.
        ramp: fractions of the stage at which transport starts and is whole; None: whole from the start.
    """

    transport: Transport
    every: int
    ramp: tuple[float, float] | None = None

    def strength(self, progress: float) -> float:
        """In [0, 1] at a fraction of the stage."""
        if self.ramp is None:
            return 1.0
        start, whole = self.ramp
        return min(1.0, max(0.0, (progress - start) / max(whole - start, 1e-9)))

    def update(
        self, step: int, progress: float, surface: Surface, material: Callable[[GBuffer], MaterialValues]
    ) -> None:
        """Refresh before ``step`` if it is due; ``material`` reads the material at a G-buffer's places."""
        if self.strength(progress) <= 0:
            return
        if self.transport.cache is None or step % self.every == 0 or self.transport.moved(surface):
            self.transport.refresh(surface, material)

    def around(
        self, surface: Surface, gbuffer: GBuffer, light: PrefilteredLight, progress: float
    ) -> Surroundings | None:
        """What is around the pixels of ``gbuffer``, for ``shade``."""
        return self.transport.seen(surface, gbuffer, light, self.strength(progress))

    def state_dict(self) -> dict[str, Tensor]:
        """What a checkpoint holds."""
        return self.transport.state()

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """The inverse of ``state_dict``."""
        self.transport.load_state(state)
