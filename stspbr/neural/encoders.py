"""Encoders: pictures of a scene and their poses to vectors, one per picture."""

from __future__ import annotations

import torch
import torch.nn.functional as functional
from torch import Tensor, nn

from stspbr.settings.scene_model import CHANNELS, RepresentationSettings

_LAST = 8  # side of the map that the pyramid's last layer sees at once


class Encoder(nn.Module):
    """What makes a vector, or a map of vectors, of one picture.

    Args:
        settings: its type, passes and width; pose_dim: numbers of a pose.
    """

    def __init__(self, settings: RepresentationSettings, pose_dim: int) -> None:
        super().__init__()
        channels = sum(CHANNELS[name] for name in settings.observation_passes)
        self.settings = settings
        body = Pyramid if settings.type == "Pyramid" else Tower
        self.body = body(channels, pose_dim, settings.representation_dim, settings.render_size)

    def forward(self, pictures: Tensor, poses: Tensor) -> Tensor:
        """``[B, C, S, S]`` and ``[B, 16]`` to ``[B, r, 1, 1]``, or ``[B, r, S/4, S/4]`` of a tower."""
        found = self.body(pictures, poses)
        return found.mean(dim=(2, 3), keepdim=True) if self.settings.type == "Pool" else found


class Tower(nn.Module):
    """Two residual blocks of convolutions at half and quarter side; the pose joins in the second."""

    def __init__(self, channels: int, pose_dim: int, width: int, side: int) -> None:
        super().__init__()
        half = width // 2
        self.first = nn.Conv2d(channels, width, 2, stride=2)
        self.inner1 = nn.Conv2d(width, half, 3, padding=1)
        self.outer1 = nn.Conv2d(half, width, 2, stride=2)
        self.skip1 = nn.Conv2d(width, width, 2, stride=2)
        self.inner2 = nn.Conv2d(width + pose_dim, half, 3, padding=1)
        self.outer2 = nn.Conv2d(half, width, 3, padding=1)
        self.skip2 = nn.Conv2d(width + pose_dim, width, 3, padding=1)
        self.last = nn.Conv2d(width, width, 1)

    def forward(self, pictures: Tensor, poses: Tensor) -> Tensor:
        relu = functional.relu
        a = relu(self.first(pictures))
        joined = relu(self.outer1(relu(self.inner1(a)))) + relu(self.skip1(a))
        b = torch.cat([joined, tiled(poses, joined)], dim=1)
        out = relu(self.outer2(relu(self.inner2(b)))) + relu(self.skip2(b))
        return relu(self.last(out))


class Pyramid(nn.Module):
    """Convolutions that halve the side until it is 8, then one that sees all of it; the pose joins at the start."""

    def __init__(self, channels: int, pose_dim: int, width: int, side: int) -> None:
        super().__init__()
        layers, before, after = [], channels + pose_dim, 32
        while side > _LAST:
            layers.append(nn.Conv2d(before, after, 2, stride=2))
            before, after, side = after, 2 * after, side // 2
        self.halving = nn.ModuleList(layers)
        self.last = nn.Conv2d(before, width, side)

    def forward(self, pictures: Tensor, poses: Tensor) -> Tensor:
        out = torch.cat([pictures, tiled(poses, pictures)], dim=1)
        for layer in self.halving:
            out = functional.relu(layer(out))
        return functional.relu(self.last(out))


def tiled(vectors: Tensor, like: Tensor) -> Tensor:
    """Vectors ``[B, C]``, or maps ``[B, C, h, w]``, spread over the pixels of ``like``."""
    side = like.shape[-2:]
    if vectors.ndim == 2:
        return vectors[:, :, None, None].expand(-1, -1, *side)
    if vectors.shape[-2:] == (1, 1):
        return vectors.expand(-1, -1, *side)
    if vectors.shape[-2:] == side:
        return vectors
    return functional.interpolate(vectors, size=tuple(side), mode="bilinear", align_corners=False)
