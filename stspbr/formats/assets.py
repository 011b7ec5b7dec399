"""One way in for textured meshes of any kind."""

from __future__ import annotations

from pathlib import Path

from stspbr.errors import StspbrError
from stspbr.formats.asset_checks import within_range
from stspbr.formats.trimesh_files import SUFFIXES, read_by_trimesh
from stspbr.procedural.by_name import is_procedural, procedural_asset
from stspbr.scene.asset import Asset

GLTF = (".glb", ".gltf")
USD = (".usd", ".usda", ".usdc", ".usdz")
READABLE = (*GLTF, ".obj", *USD)


def read_asset(path: str | Path, textures: str | Path | None = None) -> Asset:
    """Read a ``.glb``, ``.gltf``, ``.obj`` or USD file by its suffix, or make ``procedural:NAME``.

    STL, OFF, PLY, 3MF and COLLADA are read by trimesh: see :mod:`stspbr.scene.trimesh_exchange`. Reflectance outside of
    [0, 1] is clipped, with a note.

    Args:
        textures: for OBJ only, a folder whose maps are picked by name (see :func:`stspbr.formats.obj.read_obj`).

    Raises:
        StspbrError: another suffix, or the reader's own errors.
    """
    if is_procedural(str(path)):
        return procedural_asset(str(path))
    return within_range(path, _read(Path(path), textures))


def _read(path: Path, textures: str | Path | None) -> Asset:
    suffix = path.suffix.lower()
    if suffix == ".obj":
        from stspbr.formats.obj import read_obj

        return read_obj(path, textures)
    if suffix not in (*READABLE, *SUFFIXES):
        kind = suffix or "a file without suffix"
        raise StspbrError(f"{path}: cannot read {kind}: use {', '.join((*READABLE, *SUFFIXES))}")
    if textures is not None:
        raise StspbrError(f"{path}: a folder of textures goes with OBJ only, other files have their own")
    if suffix in SUFFIXES:
        return read_by_trimesh(path)
    if suffix in USD:
        from stspbr.formats.usd.asset import read_usd

        return read_usd(path)
    from stspbr.formats.gltf.reader import read_gltf

    return read_gltf(path)
