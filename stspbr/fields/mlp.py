"""The small multilayer perceptron behind every encoding."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class MLP(nn.Module):
    """ReLU perceptron without hidden biases; the last layer's bias sets where the outputs start.

    Args:
        inputs, outputs: widths of input and output.
        width, hidden_layers: width and number of the hidden layers.
        bias: ``[outputs]`` start of the last bias (before any activation).
        generator: the source of the Kaiming-uniform start.
    """

    def __init__(
        self, inputs: int, outputs: int, width: int, hidden_layers: int, bias: Tensor, generator: torch.Generator
    ) -> None:
        super().__init__()
        sizes = [inputs, *[width] * hidden_layers, outputs]
        self.weights = nn.ParameterList()
        for fan_in, fan_out in zip(sizes[:-1], sizes[1:], strict=True):
            bound = (6.0 / fan_in) ** 0.5
            weight = (torch.rand(fan_out, fan_in, generator=generator) * 2.0 - 1.0) * bound
            self.weights.append(nn.Parameter(weight))
        self.bias = nn.Parameter(bias.clone().float())

    def forward(self, x: Tensor) -> Tensor:
        """``[N, inputs] -> [N, outputs]``, no activation on the output."""
        for weight in self.weights[:-1]:
            x = torch.relu(nn.functional.linear(x, weight))
        return nn.functional.linear(x, self.weights[-1], self.bias)
