"""Input checks that the raster operations share: a kernel that reads past an array can crash the process."""

from __future__ import annotations

import torch

MAX_FACES = 1 << 24  # triangle_id + 1 travels in a float32, which holds integers exactly up to here


def check_floats(name: str, tensor: torch.Tensor, layout: str) -> None:
    """Raise ValueError unless ``tensor`` is float32, on the CPU and has the dimensions that ``layout`` names.

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
    if tensor.device.type != "cpu":
        raise ValueError(f"{name} is on {tensor.device}: the cpu backend takes CPU tensors")


def check_faces(faces: torch.Tensor, vertices: int) -> None:
    """Raise ValueError unless ``faces`` is ``[F, 3]`` int32 on the CPU with indices into ``vertices`` vertices."""
    if not isinstance(faces, torch.Tensor) or faces.dim() != 2 or faces.shape[1] != 3:
        shape = list(faces.shape) if isinstance(faces, torch.Tensor) else type(faces).__name__
        raise ValueError(f"faces must be a torch tensor [F,3], not {shape}")
    if faces.dtype != torch.int32:
        raise ValueError(f"faces must be int32, not {faces.dtype}")
    if faces.device.type != "cpu":
        raise ValueError(f"faces is on {faces.device}: the cpu backend takes CPU tensors")
    if faces.shape[0] >= MAX_FACES:
        raise ValueError(f"{faces.shape[0]} faces: triangle ids in float32 are exact only below {MAX_FACES}")
    if faces.numel():
        low, high = (int(value) for value in torch.aminmax(faces))
        if low < 0 or high >= vertices:
            raise ValueError(f"faces index vertices {low}..{high}, but there are {vertices} vertices")
