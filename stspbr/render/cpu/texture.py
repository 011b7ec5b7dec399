"""Texture lookup on the CPU with nvdiffrast's meaning: 2D and cube maps, mip levels, gradients to everything."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from stspbr.errors import StspbrError
from stspbr.render.cpu.cubemap import sample_cube
from stspbr.render.cpu.mip_chain import build_mips
from stspbr.render.cpu.texture2d import footprint_level, sample_plane

__all__ = ["build_mips", "texture"]

_FILTERS = ("auto", "nearest", "linear", "linear-mipmap-nearest", "linear-mipmap-linear")
_BOUNDARIES = ("wrap", "clamp", "zero", "cube")


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
        uv_da: ``[B, h, w, 4]``, (du/dX, du/dY, dv/dX, dv/dY) in uv per pixel. The mip level is log2 of the major
            axis, in texels of ``tex``, of the ellipse to which it maps the unit circle. Not for cube maps.
        mip_level_bias: ``[B, h, w]``, added to that level; without ``uv_da`` it is the level itself.
        mip: the levels 1, 2, … (without ``tex``), of any sizes; ``None``: :func:`build_mips` where levels are needed.
        filter_mode: ``"auto"`` is ``"linear-mipmap-linear"`` where ``uv_da`` or ``mip_level_bias`` is given, else
            ``"linear"``. ``"linear-mipmap-nearest"`` rounds the level (half up), and so has no gradient to it.
        boundary_mode: outside [0, 1] 2D textures repeat, keep their border, or are zero.
        max_mip_level: use no level beyond this one.

    Returns:
        ``[B, h, w, C]``. Gradients go to ``tex``, every tensor of ``mip``, ``uv``, ``uv_da`` and ``mip_level_bias``
        (none to the latter two where the level is clamped to the levels there are). Sums over samples are in a fixed
        order: equal inputs give equal bits, with any number of threads.

    Raises:
        StspbrError: wrong shapes or types, unknown modes, or a mip filter without a level.
    """
    cube = boundary_mode == "cube"
    filter_mode = _check(tex, uv, uv_da, mip_level_bias, mip, filter_mode, boundary_mode, max_mip_level)
    nearest = filter_mode == "nearest"
    if "mipmap" not in filter_mode:
        return sample_cube([tex], uv, None, nearest) if cube else sample_plane([tex], uv, None, boundary_mode, nearest)

    own_mips = mip is None and not cube  # built, and their gradients collected, within the lookup
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


def _check(tex, uv, uv_da, mip_level_bias, mip, filter_mode, boundary_mode, max_mip_level) -> str:
    """Refuse what the kernels cannot take, and resolve ``"auto"``: the filter to use."""
    if filter_mode not in _FILTERS:
        raise StspbrError(f"texture: filter_mode {filter_mode!r} is none of {', '.join(_FILTERS)}")
    if boundary_mode not in _BOUNDARIES:
        raise StspbrError(f"texture: boundary_mode {boundary_mode!r} is none of {', '.join(_BOUNDARIES)}")
    cube = boundary_mode == "cube"
    wanted = "[B, 6, N, N, C]" if cube else "[B, H, W, C]"
    levels = [tex, *(mip or ())]
    for number, texels in enumerate(levels):
        name = "tex" if number == 0 else f"mip[{number - 1}]"
        shape = tuple(texels.shape)
        square = not cube or (texels.ndim == 5 and shape[1] == 6 and shape[2] == shape[3])
        if texels.ndim != (5 if cube else 4) or not square or 0 in shape:
            raise StspbrError(f"texture: {name} is {list(shape)}, but must be {wanted} and not empty")
        if shape[0] != tex.shape[0] or shape[-1] != tex.shape[-1]:
            raise StspbrError(
                f"texture: {name} is {list(shape)}, but tex has batch {tex.shape[0]} and {tex.shape[-1]} channels"
            )
    components = 3 if cube else 2
    if uv.ndim != 4 or uv.shape[-1] != components:
        raise StspbrError(f"texture: uv is {list(uv.shape)}, but must be [B, h, w, {components}]")
    if tex.shape[0] not in (1, uv.shape[0]):
        raise StspbrError(f"texture: tex has batch {tex.shape[0]}, but uv has {uv.shape[0]}: give 1 or the same")
    if uv_da is not None and cube:
        raise StspbrError("texture: uv_da is not supported for cube maps; give the level as mip_level_bias")
    if uv_da is not None and tuple(uv_da.shape) != (*uv.shape[:3], 4):
        raise StspbrError(f"texture: uv_da is {list(uv_da.shape)}, but must be {[*uv.shape[:3], 4]}")
    if mip_level_bias is not None and tuple(mip_level_bias.shape) != tuple(uv.shape[:3]):
        raise StspbrError(f"texture: mip_level_bias is {list(mip_level_bias.shape)}, but must be {list(uv.shape[:3])}")
    for tensor in (*levels, uv, uv_da, mip_level_bias):
        if tensor is not None and (tensor.dtype != torch.float32 or tensor.device.type != "cpu"):
            raise StspbrError(
                f"texture: the cpu backend takes float32 on the CPU, not {tensor.dtype} on {tensor.device}"
            )
    if max_mip_level is not None and max_mip_level < 0:
        raise StspbrError(f"texture: max_mip_level is {max_mip_level}, but must be 0 or more")
    has_level = uv_da is not None or mip_level_bias is not None
    if filter_mode == "auto":
        return "linear-mipmap-linear" if has_level else "linear"
    if "mipmap" in filter_mode and not has_level:
        raise StspbrError(f"texture: {filter_mode} needs uv_da or mip_level_bias")
    return filter_mode
