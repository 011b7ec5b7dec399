"""Which pixels of the observations, and which channels of the vector, an output of a scene model comes from.

Every output is differentiated by itself (``torch.autograd.grad``): nothing is accumulated. Integrated gradients:
Sundararajan, Taly and Yan 2017.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from stspbr.errors import StspbrError
from stspbr.neural.model import SceneModel, Views
from stspbr.neural.partitions import FACTORS

_BATCH = 16  # outputs whose gradients are computed at once


@dataclass
class Attribution:
    """What an output of one scene comes from.

    Attributes:
        observations: by pass ``[O, C, S, S]``; gradients: likewise, the mean magnitude of the derivative.
        vector: ``[r]`` value times derivative of the generator at the first encoder's vector; vector_gradient: the
            derivative alone; representation: the vector itself.
        query: by pass ``[C, S, S]``, of the buffers of the view that is asked for; always at the buffers themselves.
        value: mean of the outputs; baseline: of the integrated path's start, else None.
    """

    observations: dict[str, Tensor]
    gradients: dict[str, Tensor]
    vector: Tensor
    vector_gradient: Tensor
    value: float
    baseline: float | None = None
    representation: Tensor = field(default_factory=lambda: torch.zeros(0))
    query: dict[str, Tensor] = field(default_factory=dict)

    @property
    def maps(self) -> Tensor:
        """``[O, S, S]``: the root of the squares summed over all channels of all passes."""
        return torch.stack([one.square().sum(dim=1) for one in self.observations.values()]).sum(dim=0).sqrt()

    def total(self) -> float:
        """The sum of a signed attribution, for the completeness of integrated gradients."""
        return float(sum(one.double().sum() for one in self.observations.values()))

    def partitions(self, ranges: Sequence[tuple[int, int]]) -> dict[str, dict[str, float]]:
        """Share of the vector's attribution by partition, and per channel of it, in units of the mean channel."""
        size = self.vector.abs()
        whole, mean = float(size.sum()), float(size.mean())
        out = {}
        for name, (first, end) in zip((*FACTORS, "empty"), ranges, strict=False):
            own = float(size[first:end].sum())
            per_channel = own / max(end - first, 1)
            out[name] = {"share": own / max(whole, 1e-30), "per_channel": per_channel / max(mean, 1e-30)}
        return out


Outputs = Callable[[Tensor], Tensor]
"""Picks the outputs ``[N]`` of a picture ``[3, S, S]`` in log(1 + radiance)."""


def pixels(side: int, x: int, y: int, patch: int = 1) -> Outputs:
    """The channels of a patch around a pixel.

    Raises:
        StspbrError: the pixel is not in the picture.
    """
    if not (0 <= x < side and 0 <= y < side):
        raise StspbrError(f"pixel {x},{y} is not in the picture, which has {side} pixels a side, counted from 0")
    left, top = max(0, x - (patch - 1) // 2), max(0, y - (patch - 1) // 2)
    return lambda picture: picture[:, top : top + patch, left : left + patch].reshape(-1)


def every_pixel(picture: Tensor) -> Tensor:
    """The mean of all pixels, as one output."""
    return picture.mean()[None]


def of_picture(
    model: SceneModel, observations: Views, query: Views, outputs: Outputs, signed: bool = False, steps: int = 0
) -> Attribution:
    """Attribute outputs of one scene's picture.

    Per output a, input z and observed channel: |∂a/∂z · z|, or with ``signed`` ∂a/∂z · z; the mean over the outputs.

    Args:
        observations, query: of one scene.
        steps: of integrated gradients from grey observations, the mean of each buffer; always signed; 0: none.
    """

    def run(inputs: dict[str, Tensor]) -> tuple[Tensor, list[Tensor]]:
        vectors = model.represent(Views(inputs, observations.poses))
        return outputs(model.picture(vectors, query)[0]), vectors

    def of(vectors: list[Tensor]) -> Tensor:
        return outputs(model.picture(vectors, query)[0])

    found = _attributed(model, observations, run, of, signed, steps)
    found.query = _of_query(model, observations, query, outputs, signed)
    return found


def of_vector(
    model: SceneModel, observations: Views, channels: Sequence[int], signed: bool = False, steps: int = 0
) -> Attribution:
    """Attribute channels of one scene's vector to the pixels of its observations."""
    picked = torch.as_tensor(list(channels), dtype=torch.long)

    def of(vectors: list[Tensor]) -> Tensor:
        return vectors[0].mean(dim=(2, 3))[0][picked.to(vectors[0].device)]

    def run(inputs: dict[str, Tensor]) -> tuple[Tensor, list[Tensor]]:
        vectors = model.represent(Views(inputs, observations.poses))
        return of(vectors), vectors

    return _attributed(model, observations, run, of, signed, steps)


def _of_query(
    model: SceneModel, observations: Views, query: Views, outputs: Outputs, signed: bool
) -> dict[str, Tensor]:
    """Value times derivative by the buffers of the view that is asked for."""
    read: set[str] = {name for one in model.config.model.generators for name in one.query_passes}
    at = {name: values.detach().clone().requires_grad_() for name, values in query.buffers.items() if name in read}
    if not at:
        return {}
    with torch.no_grad():
        vectors = model.represent(observations)
    found = outputs(model.picture(vectors, Views({**query.buffers, **at}, query.poses))[0])
    out: dict[str, Tensor] = {name: torch.zeros_like(values[0, 0]) for name, values in at.items()}
    for gradients in _each(found, list(at.values()), summed=signed):
        for (name, values), gradient in zip(at.items(), gradients, strict=True):
            product = gradient[:, 0] * values.detach()[0, 0]
            out[name] += (product if signed else product.abs()).sum(dim=0) / len(found)
    return out


def _attributed(
    model: SceneModel,
    observations: Views,
    run: Callable[[dict[str, Tensor]], tuple[Tensor, list[Tensor]]],
    of: Callable[[list[Tensor]], Tensor],
    signed: bool,
    steps: int,
) -> Attribution:
    names: list[str] = list(
        dict.fromkeys(name for e in model.config.model.representations for name in e.observation_passes)
    )
    inputs = {name: observations.buffers[name].detach() for name in names}
    baselines = {name: values.mean(dim=(1, 3, 4), keepdim=True).expand_as(values) for name, values in inputs.items()}
    fractions = [1.0] if not steps else [(k + 0.5) / steps for k in range(steps)]
    products = {name: torch.zeros_like(values[0]) for name, values in inputs.items()}
    slopes = {name: torch.zeros_like(values[0]) for name, values in inputs.items()}
    for fraction in fractions:
        at = inputs
        if steps:
            at = {name: baselines[name] + fraction * (values - baselines[name]) for name, values in inputs.items()}
        at = {name: values.clone().requires_grad_() for name, values in at.items()}
        found, _ = run(at)
        for gradients in _each(found, list(at.values()), summed=bool(steps) or signed):
            for name, gradient in zip(names, gradients, strict=True):
                weight = (inputs[name] - baselines[name] if steps else inputs[name])[0]
                product = gradient * weight
                products[name] += (product if steps or signed else product.abs()).sum(dim=0) / len(fractions)
                slopes[name] += gradient.abs().sum(dim=0) / len(fractions)
    with torch.no_grad():
        value, vectors = run(inputs)
        start = float(run(baselines)[0].mean()) if steps else None
    count = len(value)
    vector = vectors[0].detach().clone().requires_grad_()
    slope = torch.zeros_like(vector[0])
    for (gradient,) in _each(of([vector, *vectors[1:]]), [vector], summed=signed):
        slope += (gradient if signed else gradient.abs()).sum(dim=0)
    slope = slope / count
    product = (slope * (vector.detach()[0] if signed else vector.detach()[0].abs())).flatten(1).sum(dim=1)
    return Attribution(
        {name: values / count for name, values in products.items()},
        {name: values / count for name, values in slopes.items()},
        product,
        slope.flatten(1).sum(dim=1),
        float(value.mean()),
        start,
        vectors[0][0].flatten(1).mean(dim=1),
    )


def _each(outputs: Tensor, inputs: list[Tensor], summed: bool) -> Iterator[list[Tensor]]:
    """The gradients ``[N, ...]`` of each output by each input (without its first axis), some outputs at a time.

    With ``summed`` that of their sum, which is all that a signed mean needs.
    """
    if not outputs.requires_grad:
        yield [torch.zeros_like(one) for one in inputs]
        return
    if summed:
        found = torch.autograd.grad(outputs.sum(), inputs, allow_unused=True)
        yield [torch.zeros_like(one) if g is None else g for g, one in zip(found, inputs, strict=True)]
        return
    for first in range(0, len(outputs), _BATCH):
        chosen = outputs[first : first + _BATCH]
        keep = first + _BATCH < len(outputs)
        directions = torch.eye(len(chosen), dtype=chosen.dtype, device=chosen.device)
        found = torch.autograd.grad(
            chosen, inputs, directions, retain_graph=keep, allow_unused=True, is_grads_batched=True
        )
        filled = [
            torch.zeros(len(chosen), *one.shape, device=one.device) if g is None else g
            for g, one in zip(found, inputs, strict=True)
        ]
        yield [one[:, 0] for one in filled]


def completeness(found: Attribution) -> float:
    """|sum of integrated gradients − (value − baseline)| ÷ |value − baseline|."""
    if found.baseline is None:
        raise StspbrError("completeness is a property of integrated gradients: give steps")
    change = found.value - found.baseline
    return abs(found.total() - change) / max(abs(change), 1e-12)
