"""The small multilayer perceptron behind every encoding."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from stspbr.errors import StspbrError


class MLP(nn.Module):
    """ReLU perceptron without hidden biases; the last layer's bias sets where the outputs start.

    Args:
        inputs, outputs: widths of input and output.
        width, hidden_layers: width and number of the hidden layers.
        bias: ``[outputs]`` start of the last bias (before any activation).
        generator: the source of the Kaiming-uniform start.
        backend: ``"torch"``, or ``"tinycudann"``: tiny-cuda-nn's fused kernels, in half precision, on CUDA (see
            ``fields.tinycudann``). The weights are the same for both.

    Raises:
        StspbrError: another backend; in ``forward``, a device that is not CUDA with tinycudann.
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        width: int,
        hidden_layers: int,
        bias: Tensor,
        generator: torch.Generator,
        backend: str = "torch",
    ) -> None:
        super().__init__()
        if backend not in ("torch", "tinycudann"):
            raise StspbrError(f"perceptron: backend {backend!r} is neither torch nor tinycudann")
        self.backend = backend
        self._fused: tuple[torch.device, Any] | None = None
        sizes = [inputs, *[width] * hidden_layers, outputs]
        self.weights = nn.ParameterList()
        for fan_in, fan_out in zip(sizes[:-1], sizes[1:], strict=True):
            bound = (6.0 / fan_in) ** 0.5
            weight = (torch.rand(fan_out, fan_in, generator=generator) * 2.0 - 1.0) * bound
            self.weights.append(nn.Parameter(weight))
        self.bias = nn.Parameter(bias.clone().float())

    def forward(self, x: Tensor) -> Tensor:
        """``[N, inputs] -> [N, outputs]``, no activation on the output."""
        if self.backend == "tinycudann":
            return self._tiny_cuda_perceptron()(x, list(self.weights), self.bias)
        for weight in self.weights[:-1]:
            x = torch.relu(nn.functional.linear(x, weight))
        return nn.functional.linear(x, self.weights[-1], self.bias)

    def _tiny_cuda_perceptron(self) -> Any:
        """The executor on the weights' device, created at its first use there."""
        from stspbr.fields.tinycudann import TinyCudaPerceptron

        device = self.bias.device
        if self._fused is None or self._fused[0] != device:
            if device.type != "cuda":
                raise StspbrError(f"perceptron: backend tinycudann needs an NVIDIA GPU, not {device}")
            width, inputs = self.weights[0].shape
            self._fused = device, TinyCudaPerceptron(inputs, len(self.bias), width, len(self.weights) - 1, device)
        return self._fused[1]
