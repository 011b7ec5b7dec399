"""Input checks that the raster backends share: a kernel that reads past an array can crash the process."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from stspbr.errors import StspbrError

MAX_FACES = 1 << 24  # triangle_id + 1 travels in a float32, which holds integers exactly up to here
MAX_SIZE = 1 << 15  # pixels per side; the rasterisers' guard band is far beyond

_FILTERS = ("auto", "nearest", "linear", "linear-mipmap-nearest", "linear-mipmap-linear")
_BOUNDARIES = ("wrap", "clamp", "zero", "cube")


def check_rasterize(
    clip: torch.Tensor,
    faces: torch.Tensor,
    resolution: tuple[int, int],
    behind: torch.Tensor | None,
    device: torch.device,
) -> tuple[int, int]:
    """Raise ValueError unless ``rasterize`` can take these tensors on ``device``; the resolution as integers."""
    check_floats("clip", clip, "B,V,4", device)
    check_faces(faces, clip.shape[1], device)
    height, width = (int(size) for size in resolution)
    if not (1 <= height <= MAX_SIZE and 1 <= width <= MAX_SIZE):
        raise ValueError(f"resolution must be (H, W) with 1 to {MAX_SIZE} pixels each, not {tuple(resolution)}")
    if behind is not None:
        check_floats("behind", behind, f"{len(clip)},{height},{width},4", device)
    return height, width


def check_interpolate(
    attributes: torch.Tensor,
    rast: torch.Tensor,
    faces: torch.Tensor,
    rast_db: torch.Tensor | None,
    diff_attributes: str | list[int] | None,
    device: torch.device,
) -> list[int]:
    """Raise ValueError unless ``interpolate`` can take these tensors on ``device``; the channels to differentiate."""
    check_floats("attributes", attributes, "B,V,C", device)
    check_floats("rast", rast, "B,H,W,4", device)
    check_faces(faces, attributes.shape[1], device)
    if attributes.shape[0] not in (1, rast.shape[0]):
        raise ValueError(f"attributes have batch {attributes.shape[0]}, rast has {rast.shape[0]}: give 1 or the same")
    selected = _selection(diff_attributes, attributes.shape[2])
    if selected:
        if rast_db is None:
            raise ValueError("diff_attributes need rast_db")
        check_floats("rast_db", rast_db, "B,H,W,4", device)
        if rast_db.shape != rast.shape:
            raise ValueError(f"rast_db is {list(rast_db.shape)}, rast is {list(rast.shape)}: they must agree")
    return selected


def check_antialias(
    color: torch.Tensor, rast: torch.Tensor, clip: torch.Tensor, faces: torch.Tensor, device: torch.device
) -> None:
    """Raise ValueError unless ``antialias`` can take these tensors on ``device``."""
    check_floats("color", color, "B,H,W,C", device)
    check_floats("rast", rast, "B,H,W,4", device)
    check_floats("clip", clip, "B,V,4", device)
    check_faces(faces, clip.shape[1], device)
    if color.shape[:3] != rast.shape[:3]:
        raise ValueError(f"color is {list(color.shape)}, rast is {list(rast.shape)}: B, H and W must agree")
    if clip.shape[0] != rast.shape[0]:
        raise ValueError(f"clip has batch {clip.shape[0]}, rast has {rast.shape[0]}")


def check_texture(
    tex: torch.Tensor,
    uv: torch.Tensor,
    uv_da: torch.Tensor | None,
    mip_level_bias: torch.Tensor | None,
    mip: Sequence[torch.Tensor] | None,
    filter_mode: str,
    boundary_mode: str,
    max_mip_level: int | None,
    device: torch.device,
) -> str:
    """Raise StspbrError unless ``texture`` can take these on ``device``; the filter, with ``"auto"`` resolved."""
    if filter_mode not in _FILTERS:
        raise StspbrError(f"texture: filter_mode {filter_mode!r} is not one of {', '.join(_FILTERS)}")
    if boundary_mode not in _BOUNDARIES:
        raise StspbrError(f"texture: boundary_mode {boundary_mode!r} is not one of {', '.join(_BOUNDARIES)}")
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
            own = f"batch {tex.shape[0]} and {tex.shape[-1]} channels"
            raise StspbrError(f"texture: {name} is {list(shape)}, but tex has {own}")
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
        if tensor is not None and (tensor.dtype != torch.float32 or tensor.device != device):
            kind = f"{tensor.dtype} on {tensor.device}"
            wanted = "the cpu backend takes float32 on the CPU" if device.type == "cpu" else f"float32 on {device}"
            raise StspbrError(f"texture: {wanted}, not {kind}")
    if max_mip_level is not None and max_mip_level < 0:
        raise StspbrError(f"texture: max_mip_level is {max_mip_level}, but must be 0 or more")
    has_level = uv_da is not None or mip_level_bias is not None
    if filter_mode == "auto":
        return "linear-mipmap-linear" if has_level else "linear"
    if "mipmap" in filter_mode and not has_level:
        raise StspbrError(f"texture: {filter_mode} needs uv_da or mip_level_bias")
    return filter_mode


def check_floats(name: str, tensor: torch.Tensor, layout: str, device: torch.device) -> None:
    """Raise ValueError unless ``tensor`` is float32, on ``device`` and has the dimensions that ``layout`` names.

    ``layout`` is a comma-separated list such as ``"B,H,W,4"``; a number fixes that dimension's size.
    """
    if not isinstance(tensor, torch.Tensor):
        raise ValueError(f"{name} must be a torch tensor [{layout}], not {type(tensor).__name__}")
    names = layout.split(",")
    right = tensor.dim() == len(names) and all(
        not want.isdigit() or size == int(want) for want, size in zip(names, tensor.shape, strict=True)
    )
    if not right:
        raise ValueError(f"{name} must be [{layout}], not {list(tensor.shape)}")
    if tensor.dtype != torch.float32:
        raise ValueError(f"{name} must be float32, not {tensor.dtype}")
    _check_place(name, tensor, device)


def check_faces(faces: torch.Tensor, vertices: int, device: torch.device) -> None:
    """Raise ValueError unless ``faces`` is ``[F, 3]`` int32 on ``device`` with indices into ``vertices`` vertices.

    Indices are looked at on the CPU only: elsewhere that would wait for the device, and its kernels leave out triangles
    with a wrong one.
    """
    if not isinstance(faces, torch.Tensor) or faces.dim() != 2 or faces.shape[1] != 3:
        shape = list(faces.shape) if isinstance(faces, torch.Tensor) else type(faces).__name__
        raise ValueError(f"faces must be a torch tensor [F,3], not {shape}")
    if faces.dtype != torch.int32:
        raise ValueError(f"faces must be int32, not {faces.dtype}")
    _check_place("faces", faces, device)
    if faces.shape[0] >= MAX_FACES:
        raise ValueError(f"{faces.shape[0]} faces: triangle ids in float32 are exact only below {MAX_FACES}")
    if faces.numel() and device.type == "cpu":
        low, high = (int(value) for value in torch.aminmax(faces))
        if low < 0 or high >= vertices:
            raise ValueError(f"faces index vertices {low}..{high}, but there are {vertices} vertices")


def _check_place(name: str, tensor: torch.Tensor, device: torch.device) -> None:
    if tensor.device != device:
        wanted = "the cpu backend takes CPU tensors" if device.type == "cpu" else f"the others are on {device}"
        raise ValueError(f"{name} is on {tensor.device}: {wanted}")


def _selection(diff_attributes: str | list[int] | None, channels: int) -> list[int]:
    if diff_attributes is None:
        return []
    if isinstance(diff_attributes, str):
        if diff_attributes != "all":
            raise ValueError(f'diff_attributes must be None, "all" or a list of channels, not "{diff_attributes}"')
        return list(range(channels))
    selected = [int(channel) for channel in diff_attributes]
    if selected and (min(selected) < 0 or max(selected) >= channels):
        raise ValueError(f"diff_attributes {list(diff_attributes)} must be indices of the {channels} channels")
    return selected
