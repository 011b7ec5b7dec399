"""One way out for textured meshes of any kind."""

from __future__ import annotations

from pathlib import Path

from stspbr.errors import StspbrError
from stspbr.formats.assets import GLTF, READABLE, USD
from stspbr.scene.asset import Asset
from stspbr.scene.light import EnvironmentLight


def write_asset(
    path: str | Path,
    asset: Asset,
    light: EnvironmentLight | None = None,
    *,
    texture_bits: int = 8,
    texture_format: str = "png",
    quantized: bool = False,
) -> list[str]:
    """Write a ``.glb``, ``.gltf``, ``.obj``, ``.ply`` or USD file by its suffix, with the maps that belong to it.

    Args:
        light: goes into USD; the other formats hold none.
        texture_bits: of PNG maps, 8 or 16.
        texture_format: ``png``; for OBJ also ``exr``, float maps.
        quantized: for glTF only, see :func:`stspbr.formats.gltf.writer.write_glb`.

    Returns:
        Remarks for the user.

    Raises:
        StspbrError: another suffix, an option that does not go with it, or the writer's own errors.
    """
    path = Path(path)
    suffix = path.suffix.lower()
    if quantized and suffix not in GLTF:
        raise StspbrError(f"{path}: quantized goes with {' and '.join(GLTF)} only")
    if texture_format != "png" and (suffix != ".obj" or texture_format != "exr"):
        raise StspbrError(f"{path}: texture_format {texture_format!r}: use 'png', or 'exr' with .obj")
    if suffix in GLTF:
        from stspbr.formats.gltf.writer import write_glb, write_gltf

        return (write_glb if suffix == ".glb" else write_gltf)(path, asset, texture_bits, quantized)
    if suffix in USD:
        from stspbr.formats.usd.writer import write_usd

        return write_usd(path, asset, light, texture_bits)
    if suffix == ".obj":
        from stspbr.formats.obj_writer import write_obj

        write_obj(path, asset, texture_bits, texture_format)
    elif suffix == ".ply":
        from stspbr.formats.ply import write_ply

        write_ply(path, asset)
    else:
        kind = suffix or "a file without suffix"
        raise StspbrError(f"{path}: cannot write {kind}: use {', '.join(READABLE)} or .ply")
    return []
