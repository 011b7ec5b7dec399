"""The opaque parts of an asset, as an asset of its own: the method recovers surfaces, not what is seen through them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from stspbr.errors import StspbrError
from stspbr.formats.assets import read_asset
from stspbr.formats.gltf.writer import write_glb
from stspbr.scene import Asset
from stspbr.scene.mesh import Corners


def opaque_parts(asset: Asset) -> Asset:
    """``asset`` without the faces whose material is laid over what is behind it (glTF's ``BLEND``).

    Cut-outs (``MASK``) stay. All materials stay, so that the indices into them hold.

    Raises:
        StspbrError: nothing is left.
    """
    blended = np.array([material.alpha_mode == "blend" for material in asset.materials])
    keep = ~blended[asset.mesh.material_of]
    if not keep.any():
        raise StspbrError(f"{asset.name}: it has no opaque part")
    mesh = asset.mesh
    left = replace(
        mesh,
        faces=mesh.faces[keep],
        face_material=mesh.material_of[keep],
        face_node=None if mesh.face_node is None else mesh.face_node[keep],
    )
    corners = {name: Corners(part.values, part.index[keep]) for name, part in mesh.attributes()}
    return replace(asset, mesh=replace(left, **corners))  # type: ignore[arg-type]


def write_opaque_parts(source: str | Path, path: str | Path) -> None:
    """Write the opaque parts of the asset ``source`` as the GLB ``path``, unless it is there."""
    if Path(path).exists():
        return
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    write_glb(path, opaque_parts(read_asset(source)), texture_bits=16)
