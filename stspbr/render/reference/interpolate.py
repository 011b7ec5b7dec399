"""Interpolate by gathering three vertices a pixel, in double precision; gradients are autograd's."""

from __future__ import annotations

import torch


def interpolate(
    attributes: torch.Tensor,
    rast: torch.Tensor,
    faces: torch.Tensor,
    rast_db: torch.Tensor | None = None,
    diff_attributes: str | list[int] | None = None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Twin of :func:`stspbr.render.cpu.interpolate.interpolate`; results are float64."""
    attributes, rast = attributes.double(), rast.double()
    batch, channels = rast.shape[0], attributes.shape[2]
    slopes = torch.zeros_like(rast) if rast_db is None else rast_db.double()
    selected = list(range(channels)) if diff_attributes == "all" else [int(c) for c in diff_attributes or ()]
    values, derivatives = [], []
    for b in range(batch):
        source = attributes[b if attributes.shape[0] > 1 else 0]
        ids = rast[b, ..., 3].detach().long()
        seen = (ids > 0).double()[..., None]
        if len(faces) == 0:
            a0 = a1 = a2 = torch.zeros(*ids.shape, channels).double()
        else:
            a0, a1, a2 = source[faces.long()[(ids - 1).clamp(min=0)]].unbind(dim=-2)
        u, v = rast[b, ..., 0:1], rast[b, ..., 1:2]
        values.append(seen * (u * a0 + v * a1 + (1 - u - v) * a2))
        columns = [torch.zeros(*ids.shape, 0).double()]
        for c in selected:
            for axis in range(2):
                du, dv = slopes[b, ..., axis], slopes[b, ..., 2 + axis]
                slope = (a0 - a2)[..., c] * du + (a1 - a2)[..., c] * dv
                columns.append(seen * slope[..., None])
        derivatives.append(torch.cat(columns, dim=-1))
    return torch.stack(values), torch.stack(derivatives)
