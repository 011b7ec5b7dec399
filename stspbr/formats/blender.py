"""A folder for Blender: asset, separate maps, light, and the script that puts them together."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from stspbr.files import safe_name, write_file
from stspbr.formats.gltf.writer import write_glb
from stspbr.formats.images import write_exr, write_map
from stspbr.scene.asset import Asset
from stspbr.scene.light import EnvironmentLight
from stspbr.scene.material import Material

SCRIPT = "import_into_blender.py"
_SOURCE = Path(__file__).with_name("blender_script.py")


def write_blender(
    folder: str | Path,
    asset: Asset,
    light: EnvironmentLight | None = None,
    texture_bits: int = 8,
    texture_format: str = "png",
) -> list[str]:
    """Write ``asset.glb``, ``maps/``, ``light.exr``, ``materials.json`` and ``import_into_blender.py`` into a folder.

    The script (``blender --python import_into_blender.py``) imports the GLB, gives its materials the separate maps
    with their colour spaces, and lights the world with its directions where ours are.

    Args:
        light: left out if None.
        texture_bits, texture_format: of the separate maps; the GLB's are PNGs of ``texture_bits``.

    Returns:
        Remarks for the user.

    Raises:
        StspbrError: as :func:`stspbr.formats.gltf.writer.write_glb`.
    """
    folder = Path(folder)
    notes = write_glb(folder / "asset.glb", asset, texture_bits=texture_bits)
    taken: set[str] = set()
    used = range(len(asset.materials)) if asset.mesh.face_material is None else np.unique(asset.mesh.face_material)
    listed = []
    for material in (asset.materials[number] for number in used):
        label = safe_name(material.name, taken)
        channels = {}
        for kind, (pixels, srgb) in _maps(material).items():
            if pixels.shape[:2] == (1, 1) and kind in ("albedo", "roughness", "metallic"):
                channels[kind] = {"value": pixels[0, 0].tolist()}
                continue
            file = f"maps/{label}_{kind}.{texture_format}"
            write_map(folder / file, pixels, srgb=srgb, bits=texture_bits)
            channels[kind] = {"file": file}
        listed.append({"name": material.name, "channels": channels})
    if light is not None:
        write_exr(folder / "light.exr", light.radiance)
    texts = {"materials.json": json.dumps(listed, indent=1) + "\n", SCRIPT: _SOURCE.read_text("utf-8")}
    for name, text in texts.items():
        write_file(folder / name, text)
    return notes


def _maps(material: Material) -> dict[str, tuple[np.ndarray, bool]]:
    """The maps that there are, with whether they are colours; normals as they are stored in images."""
    out = {"albedo": (material.albedo, True), "roughness": (material.roughness, False)}
    out["metallic"] = (material.metallic, False)
    if material.opacity is not None:
        out["opacity"] = (material.coverage(), False)
    if material.normal is not None:
        out["normal"] = (material.normal * 0.5 + 0.5, False)
    if material.occlusion is not None and not (material.occlusion >= 1.0).all():
        out["occlusion"] = (material.occlusion, False)
    return out
