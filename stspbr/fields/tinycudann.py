"""tiny-cuda-nn as an executor of our encodings and networks (CUDA; installed by the user, see ``stspbr doctor``).

**Unverified:** written against tiny-cuda-nn 2's documentation and bindings; it has not run on a GPU. It is tested
against a stand-in with the same conventions (``tests/fields/conftest.py``).

tiny-cuda-nn keeps its parameters in one flat vector. Here the parameters stay ours and are laid out anew for each
evaluation, so that a checkpoint means the same for every backend. The differences, and how they are handled:

* *Vertices.* Level l of its grid looks up ``x·s + 0.5`` with ``s = base·b^l − 1``, so that levels are shifted against
  each other; ours looks up ``x·R``. A grid of **one** level with ``base_resolution = R + 1`` has ``s = R`` exactly,
  and ``x − 0.5/R`` undoes the shift. Each of our levels is therefore a grid of its own, nested in one ``Composite``
  encoding with three inputs per level: one call, one kernel launch per level. (Its own many-level grid needs one
  launch, but is another function: states could not be exchanged.)
* *Sizes.* A table has ``min(⌈side³⌉₈, 2^T)`` entries: dense ones are padded to a multiple of eight. Dense order
  (x fastest), the hash (XOR of x, 2654435761·y and 805459861·z in 32 bits) and its mask are the same as ours.
* *Features* per level are 1, 2, 4 or 8; others are refused.
* *Batches* are padded to a multiple of 256 by its bindings; results are cut back.
* *The perceptron* has no bias, widths that are multiples of 16 (inputs padded with ones, outputs cut), weights
  ``[out, in]`` row by row, first layer first, and runs in half precision: it is used if ``precision`` is ``float16``
  and the width is 16, 32, 64 or 128. Padded weights are zero; the last bias is added outside.
* *Half precision* needs loss scaling: see ``GradientScale``.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from stspbr.errors import StspbrError

GRID_FEATURES = (1, 2, 4, 8)
FUSED_WIDTHS = (16, 32, 64, 128)
_ALIGNMENT = 16
_ROWS = 8


class TinyCudaGrid:
    """Evaluates the tables of a ``HashGridEncoding`` on one CUDA device.

    Args:
        resolutions, sizes: ``[levels]`` of the encoding.
        features: per level; 1, 2, 4 or 8.
        log2_table_size: of the encoding.
        precision: ``torch.float32``, or ``torch.float16``: features and their gradients in half precision.
        device: of tables and points.

    Raises:
        StspbrError: a number of features for which tiny-cuda-nn has no grid.
    """

    def __init__(
        self,
        resolutions: np.ndarray,
        sizes: np.ndarray,
        features: int,
        log2_table_size: int,
        precision: torch.dtype,
        device: torch.device,
    ) -> None:
        import tinycudann

        if features not in GRID_FEATURES:
            wanted = "it has 1, 2, 4 or 8; or use --backend auto+torch"
            raise StspbrError(f"encoding backend tinycudann: {features} features per level, but {wanted}")
        self.levels, self.features, self.precision = len(resolutions), features, precision
        nested = [
            {
                "otype": "Grid",
                "type": "Hash",
                "n_dims_to_encode": 3,
                "n_levels": 1,
                "n_features_per_level": features,
                "log2_hashmap_size": log2_table_size,
                "base_resolution": int(resolution) + 1,
                "per_level_scale": 2.0,  # of no effect on a single level
                "interpolation": "Linear",
            }
            for resolution in resolutions
        ]
        with torch.cuda.device(device):
            self._module = tinycudann.Encoding(
                3 * self.levels, {"otype": "Composite", "nested": nested}, dtype=precision
            )
        self._module.loss_scale = 1.0  # its own is divided out in half precision again: ours is GradientScale
        self._shift = torch.as_tensor(0.5 / resolutions, dtype=torch.float32, device=device)[:, None]
        padded = [min(-(-(int(side + 1) ** 3) // _ROWS) * _ROWS, 1 << log2_table_size) for side in resolutions]
        starts = np.cumsum([0, *padded])
        rows = [np.arange(size) + start for size, start in zip(sizes, starts[:-1], strict=True)]
        self._rows = torch.as_tensor(np.concatenate(rows), dtype=torch.int64, device=device)
        self._total = int(starts[-1])
        _check_parameters(self._module, self._total * features)

    def __call__(self, x: Tensor, table: Tensor, active: int) -> Tensor:
        """``[N, levels · features]`` float32 of points ``x [N, 3]`` in [0, 1] from ``table [total, features]``."""
        if len(x) == 0:
            return x.new_zeros(0, self.levels * self.features) + 0.0 * table.sum()
        scale = GradientScale() if self.precision == torch.float16 else None
        if scale is not None:
            x, table = scale.lower(x), scale.lower(table)
        points = (x[:, None, :] - self._shift).reshape(len(x), -1)
        flat = table.new_zeros(self._total, self.features, dtype=self.precision)
        flat = flat.index_copy(0, self._rows, table.to(self.precision)).reshape(-1)
        out = torch.func.functional_call(self._module, {"params": flat}, (points,))
        out = out[:, : self.levels * self.features].float()
        out = out if scale is None else scale.raise_(out)
        if active < self.levels:
            idle = out.new_zeros(len(x), (self.levels - active) * self.features)
            out = torch.cat([out[:, : active * self.features], idle], dim=1)
        return out


class TinyCudaPerceptron:
    """Evaluates the weights of an ``MLP`` with the fully fused kernels, in half precision, on one CUDA device.

    Args:
        inputs, outputs, width, hidden_layers: of the ``MLP``; the width is 16, 32, 64 or 128.

    Raises:
        StspbrError: another width.
    """

    def __init__(self, inputs: int, outputs: int, width: int, hidden_layers: int, device: torch.device) -> None:
        import tinycudann

        if width not in FUSED_WIDTHS:
            raise StspbrError(f"backend tinycudann: a hidden width of {width}; it fuses only 16, 32, 64 and 128")
        config = {
            "otype": "FullyFusedMLP",
            "activation": "ReLU",
            "output_activation": "None",
            "n_neurons": width,
            "n_hidden_layers": hidden_layers,
        }
        with torch.cuda.device(device):
            self._module = tinycudann.Network(inputs, outputs, config)
        self._module.loss_scale = 1.0
        first, last = _aligned(inputs) - inputs, _aligned(outputs) - outputs
        self._pads = [(0, first, 0, 0), *[(0, 0, 0, 0)] * (hidden_layers - 1), (0, 0, 0, last)]
        count = width * _aligned(inputs) + (hidden_layers - 1) * width * width + _aligned(outputs) * width
        _check_parameters(self._module, count)

    def __call__(self, x: Tensor, weights: list[Tensor], bias: Tensor) -> Tensor:
        """``[N, inputs] -> [N, outputs]`` float32."""
        if len(x) == 0:
            return x.new_zeros(0, len(bias)) + 0.0 * (bias.sum() + sum(weight.sum() for weight in weights))
        scale = GradientScale()
        padded = [
            torch.nn.functional.pad(scale.lower(weight), pad).reshape(-1)
            for weight, pad in zip(weights, self._pads, strict=True)
        ]
        flat = torch.cat(padded).to(torch.float16)
        out = torch.func.functional_call(self._module, {"params": flat}, (scale.lower(x),))
        return scale.raise_(out.float()) + bias


class GradientScale:
    """Loss scaling of one evaluation in half precision, chosen anew in each backward pass, on the device.

    Gradients of a mean over a million pixels are below the smallest number of half precision (6e-8). ``raise_``
    multiplies the gradient of the output by the power of two that brings its largest entry to about 1: sums over
    thousands of samples then stay below 65504, and entries ten thousand times smaller are still exact to three digits.
    ``lower`` divides the gradients of the inputs by it, in float32. An entry whose sum overflows nevertheless gets no
    gradient in that step; a gradient that was not finite before stays so. Nothing waits for the host.
    """

    def __init__(self) -> None:
        self.factor: Tensor | None = None

    def raise_(self, output: Tensor) -> Tensor:
        """``output``, whose gradient will be multiplied."""
        return _Raise.apply(output, self)

    def lower(self, value: Tensor) -> Tensor:
        """``value`` (float32), whose gradient will be divided."""
        return _Lower.apply(value, self)


class _Raise(torch.autograd.Function):
    @staticmethod
    def forward(ctx, output, scale):
        ctx.scale = scale
        return output.view_as(output)

    @staticmethod
    def backward(ctx, gradient):
        peak = gradient.detach().abs().amax().float()
        factor = torch.exp2(-torch.floor(torch.log2(peak)).clamp(-100.0, 100.0))  # peak 0: 2^100 · 0
        ctx.scale.factor = torch.where(torch.isfinite(peak), factor, torch.nan)
        return gradient * ctx.scale.factor, None


class _Lower(torch.autograd.Function):
    @staticmethod
    def forward(ctx, value, scale):
        ctx.scale = scale
        return value.view_as(value)

    @staticmethod
    def backward(ctx, gradient):
        factor = ctx.scale.factor
        overflowed = ~torch.isfinite(gradient) & torch.isfinite(factor)
        return torch.where(overflowed, 0.0, gradient.float() / factor), None


def _aligned(width: int) -> int:
    return -(-width // _ALIGNMENT) * _ALIGNMENT


def _check_parameters(module: Any, expected: int) -> None:
    """StspbrError if this version lays its parameters out in another way than ours."""
    found = module.params.numel()
    module.params.requires_grad_(False)  # the parameters that count are ours
    if found != expected:
        raise StspbrError(
            f"tinycudann has {found} parameters instead of {expected}: "
            "this version has other conventions than stspbr expects; use --backend auto+torch"
        )
