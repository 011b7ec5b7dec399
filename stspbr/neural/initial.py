"""Weights at the start of the training: of a size at which a scene's vector differs from another's from the first step.

With the framework's own weights every layer shrinks what distinguishes its inputs to a sixth of its variance. Of a
scene's colours little is then left at the end of an encoder, and the generator learns the mean room first.
"""

from __future__ import annotations

import math

import torch
from torch import nn

_LAST = 0.1  # size of the last layer's weights ÷ that of the others: pictures start as nearly one grey
_GREY = (
    0.35  # log(1 + radiance) of a room on the mean: at 0 a last rectifier would have no gradient at half of the pixels
)


@torch.no_grad()
def start(network: nn.Module, last: nn.Conv2d | None = None, rectified: bool = False) -> nn.Module:
    """He's weights for all convolutions of a network of rectifiers (He et al. 2015, equation 10), biases of 0.

    Args:
        last: the layer that makes the picture, if there is one; rectified: its picture is made non-negative.
    """
    for layer in network.modules():
        if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d):
            inputs: float = layer.in_channels * math.prod(layer.kernel_size)
            if isinstance(layer, nn.ConvTranspose2d):  # of which an output sees only those under its stride
                inputs /= math.prod(layer.stride)
            layer.weight.normal_(0.0, math.sqrt(2.0 / inputs))
            if layer.bias is not None:
                layer.bias.zero_()
    if last is not None:
        last.weight.mul_(_LAST)
        if rectified and last.bias is not None:
            last.bias.fill_(_GREY)
    return network
