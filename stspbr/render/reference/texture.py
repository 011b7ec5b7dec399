"""Texture lookup in plain torch float64: slow and obvious; autograd gives the gradients. The twin of the kernels."""

from __future__ import annotations

from collections.abc import Sequence

import torch

# Axes of the six faces (+X, −X, +Y, −Y, +Z, −Z, as OpenGL): outward, along columns (s), along rows (t).
_OUTWARD = ((1, 0, 0), (-1, 0, 0), (0, 1, 0), (0, -1, 0), (0, 0, 1), (0, 0, -1))
_COLUMNS = ((0, 0, -1), (0, 0, 1), (1, 0, 0), (1, 0, 0), (1, 0, 0), (-1, 0, 0))
_ROWS = ((0, -1, 0), (0, -1, 0), (0, 0, 1), (0, 0, -1), (0, -1, 0), (0, -1, 0))


def texture(
    tex: torch.Tensor,
    uv: torch.Tensor,
    uv_da: torch.Tensor | None = None,
    mip_level_bias: torch.Tensor | None = None,
    mip: Sequence[torch.Tensor] | None = None,
    filter_mode: str = "auto",
    boundary_mode: str = "wrap",
    max_mip_level: int | None = None,
) -> torch.Tensor:
    """The same as :func:`stspbr.render.cpu.texture.texture`, computed and returned in float64."""
    tex, uv = tex.double(), uv.double()
    has_level = uv_da is not None or mip_level_bias is not None
    if filter_mode == "auto":
        filter_mode = "linear-mipmap-linear" if has_level else "linear"
    levels = [tex]
    if "mipmap" in filter_mode:
        levels += [m.double() for m in mip] if mip is not None else build_mips(tex, max_mip_level)
        if max_mip_level is not None:
            levels = levels[: max_mip_level + 1]
    lookup = _cube_lookup if boundary_mode == "cube" else _plane_lookup
    if "mipmap" not in filter_mode:
        return lookup(tex, uv, boundary_mode, filter_mode == "nearest")

    level = torch.zeros(uv.shape[:3], dtype=torch.float64)
    if uv_da is not None:
        level = footprint_level(uv_da, tex.shape[2], tex.shape[1])
    if mip_level_bias is not None:
        level = level + mip_level_bias.double()
    top = len(levels) - 1
    # clamped levels get no gradient, also exactly at the ends
    level = torch.where((level > 0) & (level < top), level, level.detach().clamp(0, top))
    if filter_mode == "linear-mipmap-nearest":
        level = torch.floor(level.detach() + 0.5)
    lower = torch.floor(level.detach())
    fraction = level - lower
    upper = (lower + 1).clamp(max=top)
    weights = [(lower == index) * (1 - fraction) + (upper == index) * fraction for index in range(len(levels))]
    parts = [
        weight[..., None] * lookup(texels, uv, boundary_mode, False)
        for weight, texels in zip(weights, levels, strict=True)
    ]
    return torch.stack(parts).sum(dim=0)


def build_mips(tex: torch.Tensor, max_level: int | None = None) -> list[torch.Tensor]:
    """Levels 1, 2, … of a texture ``[B, H, W, C]`` or cube map ``[B, 6, N, N, C]`` by 2×2 means."""
    levels: list[torch.Tensor] = []
    while max_level is None or len(levels) < max_level:
        height, width = tex.shape[-3:-1]
        if (height == 1 and width == 1) or (height > 1 and height % 2) or (width > 1 and width % 2):
            break
        if height > 1:
            tex = tex.unflatten(-3, (height // 2, 2)).mean(-3)
        if width > 1:
            tex = tex.unflatten(-2, (width // 2, 2)).mean(-2)
        levels.append(tex)
    return levels


def footprint_level(uv_da: torch.Tensor, width: int, height: int) -> torch.Tensor:
    """log2 of the major semi-axis, in texels, of the ellipse that ``uv_da`` maps the unit pixel circle to."""
    d = uv_da.double()
    jacobian = torch.stack([d[..., 0] * width, d[..., 1] * width, d[..., 2] * height, d[..., 3] * height], -1)
    jacobian = jacobian.unflatten(-1, (2, 2))
    # the largest eigenvalue of JᵀJ in closed form, so that its gradient is plain too
    a, b = jacobian.square().sum(-2).unbind(-1)
    c = jacobian.prod(-1).sum(-1)
    root = ((a - b) / 2) ** 2 + c**2
    safe = root > 0
    root = torch.where(safe, torch.sqrt(torch.where(safe, root, torch.ones_like(root))), torch.zeros_like(root))
    return 0.5 * torch.log2(((a + b) / 2 + root).clamp(min=1e-30))


def _select(flat: torch.Tensor, index: torch.Tensor) -> torch.Tensor:
    return torch.index_select(flat, 0, index.reshape(-1)).reshape(*index.shape, flat.shape[-1])


def _first_texel(batch: int, per_image: int, like: torch.Tensor) -> torch.Tensor:
    """Offset ``[B, 1, 1]`` of every image of the batch in the flattened texels."""
    images = torch.arange(like.shape[0]) if batch > 1 else torch.zeros(like.shape[0], dtype=torch.int64)
    return (images * per_image)[:, None, None]


def _plane_lookup(tex, uv, boundary_mode, nearest):
    batch, height, width, channels = tex.shape
    flat = tex.reshape(-1, channels)
    u, v = uv.unbind(-1)
    if boundary_mode == "wrap":
        u, v = u - torch.floor(u.detach()), v - torch.floor(v.detach())
    first = _first_texel(batch, height * width, uv)

    def fetch(i, j):
        inside = (i >= 0) & (i < height) & (j >= 0) & (j < width)
        if boundary_mode == "wrap":
            i, j = i % height, j % width
        value = _select(flat, first + i.clamp(0, height - 1) * width + j.clamp(0, width - 1))
        return value * inside[..., None] if boundary_mode == "zero" else value

    if nearest:
        return fetch(torch.floor(v.detach() * height).long(), torch.floor(u.detach() * width).long())
    x, y = u * width - 0.5, v * height - 0.5
    j, i = torch.floor(x.detach()).long(), torch.floor(y.detach()).long()
    fx, fy = (x - j)[..., None], (y - i)[..., None]
    upper = fetch(i, j) * (1 - fx) + fetch(i, j + 1) * fx
    lower = fetch(i + 1, j) * (1 - fx) + fetch(i + 1, j + 1) * fx
    return upper * (1 - fy) + lower * fy


def _project(direction: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Face, and s and t in [−1, 1] on it."""
    size = direction.detach().abs()
    x, y, z = size.unbind(-1)
    axis = torch.where((z > x) & (z > y), 2, torch.where(y > x, 1, 0))
    major = torch.gather(direction, -1, axis[..., None])[..., 0]
    face = 2 * axis + (major.detach() < 0)
    columns = torch.tensor(_COLUMNS, dtype=direction.dtype)[face]
    rows = torch.tensor(_ROWS, dtype=direction.dtype)[face]
    return face, (direction * columns).sum(-1) / major.abs(), (direction * rows).sum(-1) / major.abs()


def _cube_lookup(tex, directions, boundary_mode, nearest):
    batch, _, size, _, channels = tex.shape
    flat = tex.reshape(-1, channels)
    first = _first_texel(batch, 6 * size * size, directions)
    face, s, t = _project(directions)

    def nearest_texel(face, s, t):
        j = torch.floor((s + 1) / 2 * size).long().clamp(0, size - 1)
        i = torch.floor((t + 1) / 2 * size).long().clamp(0, size - 1)
        return _select(flat, first + (face * size + i) * size + j)

    if nearest:
        return nearest_texel(face, s.detach(), t.detach())

    def fetch(i, j):
        # the centre of the (perhaps imagined) texel as a direction: its nearest real texel is across the edge
        s, t = (2 * j + 1) / size - 1, (2 * i + 1) / size - 1
        outward, columns, rows = (torch.tensor(axes, dtype=torch.float64)[face] for axes in (_OUTWARD, _COLUMNS, _ROWS))
        value = nearest_texel(*_project(outward + s[..., None] * columns + t[..., None] * rows))
        missing = ((i < 0) | (i >= size)) & ((j < 0) | (j >= size))
        return value, missing[..., None]

    x, y = (s + 1) / 2 * size - 0.5, (t + 1) / 2 * size - 0.5
    j, i = torch.floor(x.detach()).long(), torch.floor(y.detach()).long()
    fx, fy = (x - j)[..., None], (y - i)[..., None]
    taps = [fetch(i, j), fetch(i, j + 1), fetch(i + 1, j), fetch(i + 1, j + 1)]
    mean_of_three = sum(value * ~missing for value, missing in taps) / 3
    a, b, c, d = (torch.where(missing, mean_of_three, value) for value, missing in taps)
    return (a * (1 - fx) + b * fx) * (1 - fy) + (c * (1 - fx) + d * fx) * fy
