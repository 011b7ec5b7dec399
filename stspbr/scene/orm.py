"""Packed occlusion-roughness-metallic maps: glTF has R occlusion, G roughness, B metallic."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def pack_orm(occlusion: np.ndarray | None, roughness: np.ndarray, metallic: np.ndarray) -> np.ndarray:
    """One ``[H, W, 3]`` float32 map of three ``[h, w, 1]`` maps in [0, 1]; missing occlusion is 1 (open).

    Maps of different sizes are brought to the largest height and width: whole multiples by repeating texels
    (exact), others bilinearly.
    """
    return np.concatenate(
        same_size([np.ones((1, 1, 1)) if occlusion is None else occlusion, roughness, metallic]), axis=-1
    )


def same_size(maps: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Maps ``[h, w, c]`` as float32 ``[H, W, c]`` of the largest height and width; see ``pack_orm``."""
    given = [np.asarray(image, np.float32) for image in maps]
    height, width = (max(m.shape[axis] for m in given) for axis in (0, 1))
    return [_resized(m, height, width) for m in given]


def unpack_orm(packed: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Occlusion, roughness, metallic, each ``[H, W, 1]`` float32, of a packed ``[H, W, ≥3]`` map."""
    packed = np.asarray(packed, np.float32)
    if packed.ndim != 3 or packed.shape[-1] < 3:
        raise ValueError(f"a packed map has three channels, got {packed.shape}")
    occlusion, roughness, metallic = (np.ascontiguousarray(packed[..., k : k + 1]) for k in range(3))
    return occlusion, roughness, metallic


def _resized(image: np.ndarray, height: int, width: int) -> np.ndarray:
    h, w = image.shape[:2]
    if height % h == 0 and width % w == 0:
        return np.repeat(np.repeat(image, height // h, axis=0), width // w, axis=1)
    rows, columns = _blend(h, height), _blend(w, width)
    image = image[rows[0]] * (1 - rows[2])[:, None, None] + image[rows[1]] * rows[2][:, None, None]
    return image[:, columns[0]] * (1 - columns[2])[None, :, None] + image[:, columns[1]] * columns[2][None, :, None]


def _blend(size: int, wanted: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Two source texels and the weight of the second for every new texel of a map that repeats."""
    at = (np.arange(wanted) + 0.5) * size / wanted - 0.5
    low = np.floor(at).astype(int)
    return low % size, (low + 1) % size, (at - low).astype(np.float32)
