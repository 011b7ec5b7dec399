"""Write an :class:`Asset` as Wavefront OBJ with MTL, so that it is read again equal; tangents have no place there."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from stspbr.errors import StspbrError
from stspbr.files import safe_name, write_file
from stspbr.formats.images import write_map
from stspbr.formats.mtl import map_lines
from stspbr.scene.asset import Asset, Node


def write_obj(path: str | Path, asset: Asset, texture_bits: int = 8, texture_format: str = "png") -> Path:
    """Write an OBJ, and beside it ``<stem>.mtl`` and maps (``<material>_albedo.png`` …), whose names get no blanks.

    Each file is replaced atomically, the OBJ last. Constant maps are written as numbers in the MTL, which are exact;
    roughness, metallic, occlusion and normal go as the usual PBR keys (Pr, Pm, map_Pr, map_Pm, map_ao, norm), opacity
    as d or map_d; the format has no cutoff, so cut-outs are written as 0 and 1. Each
    node that has triangles becomes an object (``o``); the format has no transforms, positions are the world's, and of
    an asset far from the origin they have all digits.

    Args:
        texture_bits: of the PNG maps, 8 or 16.
        texture_format: png, or exr for float maps, albedo in linear colours.

    Returns:
        The OBJ's path.

    Raises:
        StspbrError: a textured material but no UVs; a place that cannot be written.
    """
    path = Path(path)
    folder, library = path.parent, f"{safe_name(path.stem, set())}.mtl"
    taken: set[str] = set()
    names = [safe_name(material.name or "material", taken) for material in asset.materials]
    text = ["# written by stspbr: PBR keys, maps with row 0 at the top"]
    for material, label in zip(asset.materials, names, strict=True):
        lines, images = map_lines(material, label, f".{texture_format}")
        if images and asset.mesh.uvs is None:
            raise StspbrError(f"cannot write {path}: {material.name} has maps but the mesh has no UVs: unwrap it first")
        for file, (pixels, srgb) in images.items():
            write_map(folder / file, pixels, srgb=srgb, bits=texture_bits)
        text += ["", *lines]
    write_file(folder / library, "\n".join(text) + "\n")
    write_file(path, "\n".join(_obj_lines(asset, names, library)) + "\n")
    return path


def _obj_lines(asset: Asset, names: list[str], library: str) -> list[str]:
    mesh = asset.mesh
    out = ["# written by stspbr", f"mtllib {library}"]
    digits = 17 if asset.origin.any() else 9
    points = mesh.positions.astype(np.float64) + asset.origin
    out += [f"v {x:.{digits}g} {y:.{digits}g} {z:.{digits}g}" for x, y, z in points.tolist()]
    tables = [mesh.faces]
    if mesh.uvs is not None:
        uvs = mesh.uvs.values
        flipped = np.stack([uvs[:, 0], 1.0 - uvs[:, 1].astype(np.float64)], axis=1)
        out += [f"vt {u:.17g} {v:.17g}" for u, v in flipped.tolist()]  # so many digits that 1 − (1 − v) is v
        tables.append(mesh.uvs.index)
    if mesh.normals is not None:
        out += [f"vn {x:.9g} {y:.9g} {z:.9g}" for x, y, z in mesh.normals.values.tolist()]
        tables.append(mesh.normals.index)
    corner = {1: "%d", 2: "%d//%d" if mesh.uvs is None else "%d/%d", 3: "%d/%d/%d"}[len(tables)]
    row_format = "f " + " ".join([corner] * 3)
    index = np.stack(tables, axis=2).reshape(len(mesh.faces), -1).astype(np.int64) + 1
    owner = mesh.material_of
    taken: set[str] = set()
    for node, part in _objects(asset):
        if node is not None:
            out.append(f"o {safe_name(node.name, taken)}")
        for material, name in enumerate(names):
            chosen = index[part & (owner == material)]
            if len(chosen):
                out.append(f"usemtl {name}")
                out += [row_format % tuple(row) for row in chosen.tolist()]
    return out


def _objects(asset: Asset) -> list[tuple[Node | None, np.ndarray]]:
    """Each node that has triangles, and which those are ``[F]`` bool; (None, all) where there are no nodes."""
    owner = asset.mesh.face_node
    if owner is None or not asset.nodes:
        return [(None, np.ones(len(asset.mesh.faces), bool))]
    return [(asset.nodes[k], owner == k) for k in np.unique(owner)]
