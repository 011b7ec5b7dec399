"""Rasterise by testing every pixel against every triangle, in double precision.

Nothing is snapped, binned or clipped: a pixel centre sees a triangle if the three homogeneous barycentrics, w and the
distances to the near and far plane are all positive. Only pixels within the fast kernels' snapping distance of an
edge may differ from theirs.
"""

from __future__ import annotations

import torch


def rasterize(
    clip: torch.Tensor, faces: torch.Tensor, resolution: tuple[int, int]
) -> tuple[torch.Tensor, torch.Tensor]:
    """Twin of :func:`stspbr.render.cpu.rasterize.rasterize`; results are float64, gradients autograd's."""
    height, width = resolution
    clip = clip.double()
    images, derivatives = [], []
    for positions in clip:
        ids, depth = _nearest(positions.detach(), faces, height, width)
        rast, rast_db = barycentrics(positions, faces, ids)
        images.append(torch.cat([rast, depth[..., None], ids[..., None].double()], dim=-1))
        derivatives.append(rast_db)
    if not images:
        return torch.zeros(0, height, width, 4).double(), torch.zeros(0, height, width, 4).double()
    return torch.stack(images), torch.stack(derivatives)


def barycentrics(positions: torch.Tensor, faces: torch.Tensor, ids: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """(u, v) ``[H,W,2]`` and their derivatives ``[H,W,4]`` of given triangles: ``ids`` ``[H,W]`` is id + 1, 0 empty."""
    height, width = ids.shape
    x, y = _pixel_centres(height, width)
    seen = ids > 0
    if not seen.any():
        zero = positions.sum() * 0.0
        return zero + torch.zeros(height, width, 2).double(), zero + torch.zeros(height, width, 4).double()
    corners = positions[faces.long()[(ids[seen] - 1).long()]]  # [N, 3, 4]
    x, y = x[seen], y[seen]
    normals = _edge_normals(corners)  # [N, 3, 3]
    at_pixel = normals[..., 0] * x[:, None] + normals[..., 1] * y[:, None] + normals[..., 2]
    total = at_pixel.sum(-1, keepdim=True)
    b = at_pixel / total
    slope_x = (normals[..., 0] - b * normals[..., 0].sum(-1, keepdim=True)) / total * (2.0 / width)
    slope_y = (normals[..., 1] - b * normals[..., 1].sum(-1, keepdim=True)) / total * (2.0 / height)
    db = torch.stack([slope_x[:, 0], slope_y[:, 0], slope_x[:, 1], slope_y[:, 1]], dim=-1)
    index = seen.reshape(-1).nonzero()[:, 0]
    u = b[:, :2]
    clamped = u.detach().clamp(0.0, 1.0)
    clamped[:, 1] = torch.minimum(clamped[:, 1], 1.0 - clamped[:, 0])
    u = u + (clamped - u.detach())
    rast = torch.zeros(height * width, 2).double().index_copy(0, index, u)
    rast_db = torch.zeros(height * width, 4).double().index_copy(0, index, db)
    return rast.reshape(height, width, 2), rast_db.reshape(height, width, 4)


def _nearest(positions, faces, height, width):
    x, y = _pixel_centres(height, width)
    depth = torch.full((height, width), float("inf")).double()
    ids = torch.zeros(height, width, dtype=torch.long)
    for f, face in enumerate(faces.tolist()):
        corners = positions[face]
        normals = _edge_normals(corners)
        det = corners[0, 0] * normals[0, 0] + corners[0, 1] * normals[0, 1] + corners[0, 3] * normals[0, 2]
        if det == 0:
            continue
        # barycentric times 1/w: b_i = share_i / Σ share, 1/w = Σ share
        share = (normals[:, 0, None, None] * x + normals[:, 1, None, None] * y + normals[:, 2, None, None]) / det
        zw = (share * corners[:, 2, None, None]).sum(0)
        inside = (share >= 0).all(0) & (share.sum(0) > 0) & (zw >= -1) & (zw <= 1)
        wins = inside & (zw < depth)
        depth[wins] = zw[wins]
        ids[wins] = f + 1
    return ids, torch.where(ids > 0, depth, 0.0)


def _edge_normals(corners):
    p = corners[..., [0, 1, 3]]
    p0, p1, p2 = p[..., 0, :], p[..., 1, :], p[..., 2, :]
    return torch.stack([torch.linalg.cross(p1, p2), torch.linalg.cross(p2, p0), torch.linalg.cross(p0, p1)], dim=-2)


def _pixel_centres(height, width):
    y, x = torch.meshgrid(
        (2 * torch.arange(height).double() + 1) / height - 1,
        (2 * torch.arange(width).double() + 1) / width - 1,
        indexing="ij",
    )
    return x, y
