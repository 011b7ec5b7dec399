"""What a pixel's area does to highlights: it is the mean of a lobe over the normals that it shows."""

from __future__ import annotations

import torch
from torch import Tensor

from stspbr.render.raster_backend import RasterBackend
from stspbr.scene import Corners

_MOST_BEND = 0.18  # at an outline the normals turn without bound


def blurred(roughness: Tensor, bend: Tensor | None) -> Tensor:
    """``[N, 1]``: the roughness that pixels show as a whole, of ``roughness`` at their centres.

    A pixel is the mean over its area, in which the normals of a curved surface turn: the variance of their slopes is
    added to that of the microfacets (Kaplanyan et al. 2016, "Filtering Distributions of Normals for Shading
    Antialiasing"; here isotropic, for a box filter). Without it, highlights smaller than a pixel are read as roughness.

    Args:
        bend: ``[N, 1]``, see ``normal_bend``; None: pixels without area.
    """
    if bend is None:
        return roughness
    # α² of a lobe is twice its variance along one axis, and half of ``bend`` is along one axis
    return (roughness.square().square() + bend).clamp(1e-12, 1.0).sqrt().sqrt()


@torch.no_grad()
def normal_bend(normals: Corners[Tensor], rast: Tensor, rast_db: Tensor, backend: RasterBackend) -> Tensor:
    """``[N, 1]``: the mean square by which the smooth normal turns within each pixel, in radians².

    Args:
        normals: of the mesh; rast, rast_db: ``[1, 1, N, 4]`` of the pixels.
    """
    normal, slope = backend.interpolate(
        normals.values.detach()[None].contiguous(), rast.detach(), normals.index, rast_db=rast_db.detach(),
        diff_attributes="all",
    )  # fmt: skip
    normal, slope = normal[0, 0], slope[0, 0].view(-1, 3, 2)
    length = normal.norm(dim=1, keepdim=True).clamp(min=1e-8)
    unit = (normal / length)[:, :, None]
    turn = (slope - unit * (unit * slope).sum(1, keepdim=True)) / length[:, :, None]
    return (turn.square().sum((1, 2))[:, None] / 12.0).clamp(max=_MOST_BEND)
