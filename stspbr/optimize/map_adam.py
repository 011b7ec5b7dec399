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

    Args:
        groups: of ``torch.optim.Adam``.
        maps: parameters ``[..., C]`` that are maps; the others are updated by Adam itself.
        others: of ``torch.optim.Adam``; ``betas`` holds for maps, too.
    """

    def __init__(self, groups: Iterable[dict[str, Any]], maps: Iterable[Tensor], **others: Any) -> None:
        super().__init__(groups, **others)
        self._maps = {id(parameter) for parameter in maps}

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
        state["step"] += 1
        count = int(state["step"])
        first_decay, second_decay = group["betas"]
        rows = gradient.reshape(-1, gradient.shape[-1])
        state["floor"].lerp_(_mean_square(rows), 1.0 - _FLOOR_DECAY)
        floor = state["floor"] / (1.0 - _FLOOR_DECAY**count)
        corrections = 1.0 - first_decay**count, 1.0 - second_decay**count
        first, second = (state[name].view(rows.shape) for name in ("exp_avg", "exp_avg_sq"))
        values = parameter.view(rows.shape)
        if parameter.is_cuda:
            first.lerp_(rows, 1.0 - first_decay)
            second.mul_(second_decay).addcmul_(rows, rows, value=1.0 - second_decay)
            size = (second / corrections[1] + floor).sqrt_().add_(_TINY)
            values.addcdiv_(first, size, value=-group["lr"] / corrections[0])
        else:
            arrays = (t.numpy() for t in (values, rows.contiguous(), first, second, floor))
            move_texels(*arrays, first_decay, second_decay, group["lr"] / corrections[0], corrections[1], _TINY)


def _mean_square(rows: Tensor) -> Tensor:
    """``[C]`` of the rows ``[T, C]`` that are not all zeros; zeros if there is none."""
    if rows.is_cuda:
        seen = (rows != 0).any(dim=1).sum().clamp(min=1)
        return rows.square().sum(dim=0) / seen
    return torch.from_numpy(mean_square(rows.contiguous().numpy()))
