"""One way in and one way out for textured meshes of any kind."""

from __future__ import annotations

from pathlib import Path

from stspbr.errors import StspbrError
from stspbr.procedural.by_name import is_procedural, procedural_asset
from stspbr.scene.asset import Asset
from stspbr.scene.light import EnvironmentLight

_GLTF = (".glb", ".gltf")
_USD = (".usd", ".usda", ".usdc", ".usdz")
_READABLE = (*_GLTF, ".obj", *_USD)


def read_asset(path: str | Path, textures: str | Path | None = None) -> Asset:
    """Read a ``.glb``, ``.gltf``, ``.obj`` or USD file by its suffix, or make ``procedural:NAME``.

    Args:
        textures: for OBJ only, a folder whose maps are picked by name (see :func:`stspbr.formats.obj.read_obj`).

    Raises:
        StspbrError: another suffix, or the reader's own errors.
    """
    if is_procedural(str(path)):
        return procedural_asset(str(path))
    path = Path(path)
    suffix = path.suffix.lower()
    if suffix == ".obj":
        from stspbr.formats.obj import read_obj

        return read_obj(path, textures)
    if suffix not in _READABLE:
        kind = suffix or "a file without suffix"
        raise StspbrError(f"{path}: cannot read {kind}: use {', '.join(_READABLE)}")
    if textures is not None:
        raise StspbrError(f"{path}: a folder of textures goes with OBJ only, glTF and USD files have their own")
    if suffix in _USD:
        from stspbr.formats.usd.asset import read_usd

        return read_usd(path)
    from stspbr.formats.gltf.reader import read_gltf

    return read_gltf(path)


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
    if quantized and suffix not in _GLTF:
        raise StspbrError(f"{path}: quantized goes with {' and '.join(_GLTF)} only")
    if texture_format != "png" and (suffix != ".obj" or texture_format != "exr"):
        raise StspbrError(f"{path}: texture_format {texture_format!r}: use 'png', or 'exr' with .obj")
    if suffix in _GLTF:
        from stspbr.formats.gltf.writer import write_glb, write_gltf

        return (write_glb if suffix == ".glb" else write_gltf)(path, asset, texture_bits, quantized)
    if suffix in _USD:
        from stspbr.formats.usd.writer import write_usd

        return write_usd(path, asset, light, texture_bits)
    if suffix == ".obj":
        from stspbr.formats.obj import write_obj

        write_obj(path, asset, texture_bits, texture_format)
    elif suffix == ".ply":
        from stspbr.formats.ply import write_ply

        write_ply(path, asset)
    else:
        kind = suffix or "a file without suffix"
        raise StspbrError(f"{path}: cannot write {kind}: use {', '.join(_READABLE)} or .ply")
    return []
