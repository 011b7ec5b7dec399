"""The checks of an asset after it was read, and those that every writer makes before it writes a byte."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from stspbr.errors import StspbrError
from stspbr.formats.gltf.material_writer import has_directions
from stspbr.notes import Notes
from stspbr.scene.asset import Asset
from stspbr.scene.material import is_constant

_ROUNDING = 1e-3  # of 8-bit maps with scale and bias


def within_range(path: str | Path, asset: Asset) -> Asset:
    """``asset`` with reflectance, roughness, metallic, occlusion and opacity clipped to [0, 1], each with a note.

    Raises:
        StspbrError: a map with values that are not finite.
    """
    notes = Notes("materials")
    for material in asset.materials:
        for kind in ("albedo", "roughness", "metallic", "occlusion", "opacity"):
            image = getattr(material, kind)
            if image is None:
                continue
            low, high = float(image.min()), float(image.max())
            if not np.isfinite([low, high]).all():
                raise StspbrError(f"{path}: the {kind} of {material.name} is not finite everywhere: export it again")
            if low < 0 or high > 1:
                setattr(material, kind, image.clip(0.0, 1.0))
            if low < -_ROUNDING or high > 1 + _ROUNDING:
                notes(f"its {kind} outside of 0 to 1 is clipped", material.name)
    if lines := notes.lines():
        asset.extras["notes"] = [*asset.extras.get("notes", []), *lines]
    return asset


def check_writable(path: str | Path, asset: Asset) -> None:
    """StspbrError with ``path`` if an asset cannot be written.

    No triangles, values that are not finite, triangles with materials or nodes that do not exist, maps without UVs.
    """
    mesh = asset.mesh
    if len(mesh.faces) == 0:
        raise StspbrError(f"cannot write {path}: the mesh has no triangles")
    tables = {"positions": mesh.positions} | {name: corners.values for name, corners in mesh.attributes()}
    for name, table in tables.items():
        if not np.isfinite(table).all():
            raise StspbrError(f"cannot write {path}: {name} are not all finite")
    owner = mesh.material_of
    if owner.min() < 0 or owner.max() >= len(asset.materials):
        raise StspbrError(f"cannot write {path}: a triangle points to material {owner.max()}, which is missing")
    if mesh.face_node is not None and (mesh.face_node.min() < 0 or mesh.face_node.max() >= len(asset.nodes)):
        raise StspbrError(f"cannot write {path}: a triangle points to node {mesh.face_node.max()}, which is missing")
    for material in asset.materials:
        maps = material.maps()
        if not all(np.isfinite(image).all() for image in maps):
            raise StspbrError(f"cannot write {path}: the maps of {material.name} are not all finite")
        if mesh.uvs is None and (not all(is_constant(image) for image in maps) or has_directions(material)):
            raise StspbrError(f"cannot write {path}: {material.name} has maps but the mesh has no UVs: unwrap it first")
