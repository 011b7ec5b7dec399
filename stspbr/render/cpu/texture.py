"""Texture look-up on the CPU with nvdiffrast's semantics: 2D and cube maps, mip levels, gradients to all inputs."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from stspbr.render.cpu.cubemap import sample_cube
from stspbr.render.cpu.mip_chain import build_mips
from stspbr.render.cpu.texture2d import footprint_level, sample_plane
from stspbr.render.raster_checks import check_texture

__all__ = ["build_mips", "texture"]


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
    """Look a texture up.

    Args:
        tex: ``[B or 1, H, W, C]`` float32, or with ``boundary_mode="cube"`` a cube map ``[B or 1, 6, N, N, C]``.
        uv: ``[B, h, w, 2]``, (0, 0) the top left corner of row 0, texel centres at half texels; for a list of N
            samples ``[1, 1, N, 2]``. For a cube map directions ``[B, h, w, 3]`` of any length.
        uv_da: ``[B, h, w, 4]``, (du/dX, du/dY, dv/dX, dv/dY) in uv per pixel: it maps the unit circle to an ellipse,
            and the mip level is log2 of its major axis in texels of ``tex``. Not for cube maps.
        mip_level_bias: ``[B, h, w]``, added to that level; without ``uv_da`` it is the level itself.
        mip: the levels 1, 2, … (without ``tex``), of any sizes; ``None``: :func:`build_mips` if levels are needed.
        filter_mode: ``"auto"`` is ``"linear-mipmap-linear"`` if ``uv_da`` or ``mip_level_bias`` is given, else
            ``"linear"``. ``"linear-mipmap-nearest"`` rounds the level (half up), and so has no gradient to it.
        boundary_mode: outside [0, 1] 2D textures repeat, keep their border, or are zero.
        max_mip_level: the last level to use.

    Returns:
        ``[B, h, w, C]``. Gradients go to ``tex``, every tensor of ``mip``, ``uv``, ``uv_da`` and ``mip_level_bias``
        (none to the latter two if the level is clamped to the existing ones). Sums over samples are in a fixed order:
        equal inputs give equal bits, with any number of threads.

    Raises:
        StspbrError: wrong shapes or types, unknown modes, or a mip filter without a level.
    """
    cube = boundary_mode == "cube"
    given = tex, uv, uv_da, mip_level_bias, mip, filter_mode, boundary_mode, max_mip_level
    filter_mode = check_texture(*given, torch.device("cpu"))
    nearest = filter_mode == "nearest"
    if "mipmap" not in filter_mode:
        return sample_cube([tex], uv, None, nearest) if cube else sample_plane([tex], uv, None, boundary_mode, nearest)

    own_mips = mip is None and not cube  # the look-up collects the gradients of these itself
    if own_mips:
        with torch.no_grad():
            mip = build_mips(tex, max_mip_level)
    levels = [tex, *(mip if mip is not None else build_mips(tex, max_mip_level))]
    if max_mip_level is not None:
        levels = levels[: max_mip_level + 1]
    level = mip_level_bias
    if uv_da is not None:
        level = footprint_level(uv_da, tex.shape[2], tex.shape[1])
        level = level if mip_level_bias is None else level + mip_level_bias
    if level is not None and filter_mode == "linear-mipmap-nearest":
        level = torch.floor(level.detach() + 0.5)
    return sample_cube(levels, uv, level) if cube else sample_plane(levels, uv, level, boundary_mode, halved=own_mips)
