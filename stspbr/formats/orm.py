"""Packed occlusion-roughness-metallic maps of files as one map per channel."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from stspbr.errors import StspbrError
from stspbr.files import safe_name
from stspbr.formats.images import IMAGE_SUFFIXES, read_pixels, write_png8, write_png16
from stspbr.scene.orm import unpack_orm

MESH_SUFFIXES = (".glb", ".gltf", ".obj", ".usd", ".usda", ".usdc", ".usdz")


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
