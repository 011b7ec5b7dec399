"""Adam for maps: texels that the images say little about move little."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

from stspbr.optimize.map_adam_kernels import mean_square, move_texels

_FLOOR_DECAY = 0.95  # of the mean square gradient over the map: it follows a falling loss
_TINY = 1e-15


class MapAdam(torch.optim.Adam):
    """Adam (Kingma and Ba 2015) whose second moments have a floor where parameters are the texels of a map.

    Adam divides every gradient by its own size, so that a texel that few pixels see moves as far as one that many
    see, in the direction of their noise. A texel's steps here are divided by ``sqrt(v + w)``: ``v`` is its own second
    moment, ``w`` the mean square of the gradients over the texels of the map that have one, per channel. What many
    pixels agree on moves nearly as fast as before; what is hardly seen stays close to where the map began.

    A step that draws crops in place of whole views reaches a part of the texels, with gradients that are larger by the
    inverse of that part. ``v`` and ``w`` take what is left of them when they are spread over all steps, so that they
    keep the scale of the steps with whole views between them. The first moment takes the gradients times ``share``
    to the power of the stage's progress: at first as they are, so that a texel that is seen seldom moves as far as
    whole views would move it; at last each visit is a step as short as theirs. A loss whose gradient is little more
    than a sign leads the few visits to its minimum by steps that shrink evenly, as bisection does.

    Args:
        groups: of ``torch.optim.Adam``.
        maps: parameters ``[..., C]`` that are maps; the others are updated by Adam itself.
        others: of ``torch.optim.Adam``; ``betas`` holds for maps, too.

    Attributes:
        share: the part of the pixels of its views that the step draws, in (0, 1]; 1: they are drawn whole.
        progress: of the stage, in [0, 1].
    """

    def __init__(self, groups: Iterable[dict[str, Any]], maps: Iterable[Tensor], **others: Any) -> None:
        super().__init__(groups, **others)
        self._maps = {id(parameter) for parameter in maps}
        self.share, self.progress = 1.0, 0.0

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]  # torch overloads it by the closure
        """Update all parameters that have a gradient."""
        held: list[tuple[Tensor, Tensor]] = []
        for group in self.param_groups:
            for parameter in group["params"]:
                if id(parameter) in self._maps and parameter.grad is not None:
                    self._move(parameter, parameter.grad, group)
                    held.append((parameter, parameter.grad))
                    parameter.grad = None  # the step below leaves it alone
        super().step(closure)
        for parameter, gradient in held:
            parameter.grad = gradient

    def _move(self, parameter: Tensor, gradient: Tensor, group: dict[str, Any]) -> None:
        state = self.state[parameter]
        if not state:
            state["step"] = torch.zeros((), dtype=torch.float32)
            state["exp_avg"], state["exp_avg_sq"] = torch.zeros_like(parameter), torch.zeros_like(parameter)
            state["floor"] = torch.zeros(parameter.shape[-1], dtype=torch.float32, device=parameter.device)
        if state["step"].device.type != "cpu":  # where a fused Adam puts it when it is loaded; reading it would wait
            state["step"] = state["step"].cpu()
        state["step"] += 1
        count = int(state["step"])
        first_decay, second_decay = group["betas"]
        rows, part = gradient.reshape(-1, gradient.shape[-1]).contiguous(), 1.0
        if self.share < 1.0:
            rows = rows * self.share**self.progress
            part = self.share ** (1.0 - self.progress)
        on_cpu = rows.device.type == "cpu"
        square = torch.from_numpy(mean_square(rows.numpy())) if on_cpu else mean_square_torch(rows)
        state["floor"].lerp_(square * part**2, 1.0 - _FLOOR_DECAY)
        floor = state["floor"] / (1.0 - _FLOOR_DECAY**count)
        first, second = (state[name].view(rows.shape) for name in ("exp_avg", "exp_avg_sq"))
        tensors = (parameter.view(rows.shape), rows, first, second, floor)
        rate, correction = group["lr"] / (1.0 - first_decay**count), 1.0 - second_decay**count
        numbers = (first_decay, second_decay, rate, correction, _TINY, part)
        if on_cpu:
            move_texels(*(tensor.numpy() for tensor in tensors), *numbers)
        else:
            move_texels_torch(*tensors, *numbers)


def mean_square_torch(rows: Tensor) -> Tensor:
    """``mean_square`` of the kernels for tensors of any device."""
    seen = (rows != 0).any(dim=1).sum().clamp(min=1)
    return rows.square().sum(dim=0) / seen


def move_texels_torch(
    values: Tensor,
    gradient: Tensor,
    first: Tensor,
    second: Tensor,
    floor: Tensor,
    first_decay: float,
    second_decay: float,
    rate: float,
    correction: float,
    tiny: float,
    share: float = 1.0,
) -> None:
    """``move_texels`` of the kernels for tensors of any device."""
    first.lerp_(gradient, 1.0 - first_decay)
    second.mul_(second_decay).addcmul_(gradient, gradient, value=(1.0 - second_decay) * share**2)
    values.addcdiv_(first, (second / correction + floor).sqrt_().add_(tiny), value=-rate)
