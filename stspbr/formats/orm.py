"""Packed occlusion-roughness-metallic maps (glTF: R occlusion, G roughness, B metallic) and one map per channel."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from stspbr.errors import StspbrError
from stspbr.files import safe_name
from stspbr.formats.images import IMAGE_SUFFIXES, read_pixels, write_png8, write_png16

MESH_SUFFIXES = (".glb", ".gltf", ".obj", ".usd", ".usda", ".usdc", ".usdz")


def pack_orm(occlusion: np.ndarray | None, roughness: np.ndarray, metallic: np.ndarray) -> np.ndarray:
    """One ``[H, W, 3]`` float32 map of three ``[h, w, 1]`` maps in [0, 1]; missing occlusion is 1 (open).

    Maps of different sizes are brought to the largest height and width: whole multiples by repeating texels
    (exact), others bilinearly.
    """
    given = (np.ones((1, 1, 1)) if occlusion is None else occlusion, roughness, metallic)
    maps = [np.asarray(image, np.float32) for image in given]
    height, width = (max(m.shape[axis] for m in maps) for axis in (0, 1))
    return np.concatenate([_resized(m, height, width) for m in maps], axis=-1)


def unpack_orm(packed: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Occlusion, roughness, metallic, each ``[H, W, 1]`` float32, of a packed ``[H, W, ≥3]`` map."""
    packed = np.asarray(packed, np.float32)
    if packed.ndim != 3 or packed.shape[-1] < 3:
        raise ValueError(f"a packed map has three channels, got {packed.shape}")
    occlusion, roughness, metallic = (np.ascontiguousarray(packed[..., k : k + 1]) for k in range(3))
    return occlusion, roughness, metallic


def unpack(path: str | Path, out_dir: str | Path, bits: int = 8) -> list[Path]:
    """Write ``occlusion.png``, ``roughness.png`` and ``metallic.png``, linear, of an asset or a packed image.

    Args:
        path: a GLB, glTF or OBJ asset (its factors multiplied in), or a packed image.
        out_dir: created if missing. An asset with several materials gives ``<material>_roughness.png`` …
        bits: 8 or 16 per channel.

    Returns:
        The paths written, three per material. Occlusion is 1 throughout if there is none.

    Raises:
        StspbrError: the file cannot be read or has fewer than three channels.
    """
    path, out_dir = Path(path), Path(out_dir)
    suffix = path.suffix.lower()
    if suffix in IMAGE_SUFFIXES:
        packed = read_pixels(path)
        if packed.shape[-1] < 3:
            raise StspbrError(f"{path} is a grey image: a packed map has R occlusion, G roughness, B metallic")
        return _write_maps(out_dir, "", unpack_orm(packed), bits)
    if suffix not in MESH_SUFFIXES:
        raise StspbrError(f"{path}: expected one of {', '.join(MESH_SUFFIXES + IMAGE_SUFFIXES)}")
    from stspbr.formats.assets import read_asset

    written: list[Path] = []
    materials = read_asset(path).materials
    taken: set[str] = set()
    for material in materials:
        occlusion = np.ones_like(material.roughness) if material.occlusion is None else material.occlusion
        prefix = safe_name(material.name, taken) + "_" if len(materials) > 1 else ""
        written += _write_maps(out_dir, prefix, (occlusion, material.roughness, material.metallic), bits)
    return written


def _write_maps(out_dir: Path, prefix: str, maps: tuple[np.ndarray, ...], bits: int) -> list[Path]:
    if bits not in (8, 16):
        raise StspbrError(f"{bits} bits: choose 8 or 16")
    write = write_png8 if bits == 8 else write_png16
    written = []
    for name, image in zip(("occlusion", "roughness", "metallic"), maps, strict=True):
        written.append(out_dir / f"{prefix}{name}.png")
        write(written[-1], image, srgb=False)
    return written


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
