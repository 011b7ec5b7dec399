"""Adam for maps: texels that the images say little about move little."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from stspbr.optimize.map_adam_kernels import mean_square, move_texels

_FLOOR_DECAY = 0.95  # of the mean square gradient over the map: it follows a falling loss
_TINY = 1e-15


@dataclass
class Visited:
    """What a step saw of the maps that are read together.

    Attributes:
        maps: parameters ``[1, H, W, C]``.
        loss: ``[1, H, W, 1]``, whose ``grad`` is the loss of the pixels that show each texel, weighted as they read it,
            in the units of the loss whose gradient the maps get; None: no pixel shows any.
    """

    maps: list[Tensor]
    loss: Tensor


class MapAdam(torch.optim.Adam):
    """Adam (Kingma and Ba 2015) whose second moments have a floor where parameters are the texels of a map.

    Adam divides every gradient by its own size, so that a texel that few pixels see moves as far as one that many
    see, in the direction of their noise. A texel's steps here are divided by ``sqrt(v + w)``: ``v`` is its own second
    moment, ``w`` the mean square of the gradients over the texels of the map that have one, per channel. What many
    pixels agree on moves nearly as fast as before; what is hardly seen stays close to where the map began.

    A step that draws crops in place of whole views reaches a part of the texels, with gradients that are larger by the
    inverse of that part. ``v`` and ``w`` take what is left of them when they are spread over all steps, so that they
    keep the scale of the steps with whole views between them. The first moment takes the gradients as they are, so
    that a texel that is seen seldom moves as far as whole views would move it, but no farther than to where the losses
    of the pixels that show it would end if they fell along their slope (Polyak 1969, here texel by texel): a loss
    whose gradient is little more than a sign would else lead it past. Where these losses are not known, the first
    moment takes the gradients times ``share`` to the power of the stage's progress: steps that shrink evenly, as in
    bisection.

    Args:
        groups: of ``torch.optim.Adam``.
        maps: parameters ``[..., C]`` that are maps; the others are updated by Adam itself.
        others: of ``torch.optim.Adam``; ``betas`` holds for maps, too.

    Attributes:
        share: the part of the pixels of its views that the step draws, in (0, 1]; 1: they are drawn whole.
        progress: of the stage, in [0, 1].
        visited: the losses at the texels, of steps that draw crops; maps that are in none have unknown losses.
    """

    def __init__(self, groups: Iterable[dict[str, Any]], maps: Iterable[Tensor], **others: Any) -> None:
        super().__init__(groups, **others)
        self._maps = {id(parameter) for parameter in maps}
        self.share, self.progress = 1.0, 0.0
        self.visited: Sequence[Visited] = ()

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]  # torch overloads it by the closure
        """Update all parameters that have a gradient."""
        held: list[tuple[Tensor, Tensor]] = []
        moves: dict[int, _Move] = {}
        for group in self.param_groups:
            for parameter in group["params"]:
                if id(parameter) in self._maps and parameter.grad is not None:
                    moves[id(parameter)] = self._prepared(parameter, parameter.grad, group)
                    held.append((parameter, parameter.grad))
                    parameter.grad = None  # the step below leaves it alone
        for visit in self.visited if self.share < 1.0 else ():
            together = [moves[id(one)] for one in visit.maps if id(one) in moves]
            if visit.loss.grad is not None and together:
                _shorten(together, visit.loss.grad.reshape(-1))
        for move in moves.values():
            move.carry_out(self.share**self.progress)
        super().step(closure)
        for parameter, gradient in held:
            parameter.grad = gradient

    def _prepared(self, parameter: Tensor, gradient: Tensor, group: dict[str, Any]) -> _Move:
        state = self.state[parameter]
        if not state:
            state["step"] = torch.zeros((), dtype=torch.float32)
            state["exp_avg"], state["exp_avg_sq"] = torch.zeros_like(parameter), torch.zeros_like(parameter)
            state["floor"] = torch.zeros(parameter.shape[-1], dtype=torch.float32, device=parameter.device)
        if state["step"].device.type != "cpu":  # where a fused Adam puts it when it is loaded; reading it would wait
            state["step"] = state["step"].cpu()
        state["step"] += 1
        count = int(state["step"])
        rows = gradient.reshape(-1, gradient.shape[-1]).contiguous()
        on_cpu = rows.device.type == "cpu"
        square = torch.from_numpy(mean_square(rows.numpy())) if on_cpu else mean_square_torch(rows)
        state["floor"].lerp_(square * self.share**2, 1.0 - _FLOOR_DECAY)
        floor = state["floor"] / (1.0 - _FLOOR_DECAY**count)
        first, second = (state[name].view(rows.shape) for name in ("exp_avg", "exp_avg_sq"))
        return _Move(
            parameter.view(rows.shape), rows, first, second, floor, group["betas"], group["lr"], count, self.share
        )


@dataclass
class _Move:
    """One step of one map: values, gradient and moments ``[T, C]`` of its texels, and the floor ``[C]``."""

    values: Tensor
    rows: Tensor
    first: Tensor
    second: Tensor
    floor: Tensor
    betas: tuple[float, float]
    lr: float
    count: int
    share: float
    shortened: bool = False

    @property
    def correction(self) -> float:
        """Of the second moments."""
        return 1.0 - self.betas[1] ** self.count

    def carry_out(self, falling: float) -> None:
        """Move the texels; ``falling`` shortens steps of crops that nothing else has shortened."""
        rows, part = self.rows, self.share
        if self.share < 1.0 and not self.shortened:
            rows, part = rows * falling, self.share / falling
        tensors = (self.values, rows, self.first, self.second, self.floor)
        numbers = (*self.betas, self.lr / (1.0 - self.betas[0] ** self.count), self.correction, _TINY, part)
        if rows.device.type == "cpu":
            move_texels(*(tensor.numpy() for tensor in tensors), *numbers)
        else:
            move_texels_torch(*tensors, *numbers)


def _shorten(moves: Sequence[_Move], losses: Tensor) -> None:
    """Let no texel's step be longer than to where its losses ``[T]`` end; texels without any are left alone.

    The maps of a texel share its losses: together, to first order, their steps take away what there is at most.
    """
    seen = torch.nonzero(losses > 0).squeeze(1)
    gained, parts = torch.zeros_like(losses[seen]), []
    for move in moves:
        gradient, decay = move.rows.index_select(0, seen), move.betas[1]
        fresh = (1.0 - decay) * move.share**2 * gradient.square()
        size = (decay * move.second.index_select(0, seen) + fresh).div_(move.correction).add_(move.floor).sqrt_()
        gained += move.lr * (gradient.square() / size.add_(_TINY)).sum(dim=1)
        parts.append((gradient, fresh))
    share = (losses[seen] / gained.clamp(min=1e-30)).clamp(max=1.0)[:, None]
    for move, (gradient, fresh) in zip(moves, parts, strict=True):
        # the second moments take the gradient whole: what the move below does not add to them is added before
        move.second.index_add_(0, seen, fresh * (1.0 - share.square()) / move.betas[1])
        move.rows = torch.zeros_like(move.rows).index_copy_(0, seen, gradient * share)
        move.shortened = True


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
