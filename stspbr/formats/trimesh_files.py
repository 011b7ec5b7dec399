"""The kinds of mesh files that only trimesh reads."""

from __future__ import annotations

from pathlib import Path

from stspbr.errors import StspbrError, first_line, missing_extra
from stspbr.scene import Asset

SUFFIXES = (".stl", ".off", ".ply", ".3mf", ".dae")


def read_by_trimesh(path: str | Path) -> Asset:
    """Read a mesh file by trimesh, in the file's own axes and unit; ``extras["notes"]`` lists what is left out.

    Raises:
        StspbrError: missing, truncated or corrupt file; no triangles; a package that trimesh needs is absent.
    """
    import trimesh

    path = Path(path)
    if not path.is_file():
        raise StspbrError(f"{path} does not exist: check the path")
    if path.suffix.lower().lstrip(".") not in trimesh.available_formats():
        package = {".3mf": "lxml", ".dae": "pycollada"}[path.suffix.lower()]
        raise missing_extra(package, "meshes", f"{path.suffix} files")
    try:
        scene = trimesh.load_scene(path, process=False)
    except Exception as error:  # parsers raise nearly anything on corrupt bytes
        raise StspbrError(f"{path} is truncated or corrupt ({first_line(error)}): export or copy it again") from error
    try:
        return Asset.from_trimesh(scene, path.stem)
    except StspbrError as error:
        raise StspbrError(f"{path}: {error}") from error
    except (ValueError, LookupError, TypeError, ArithmeticError) as error:  # tables that contradict each other
        raise StspbrError(f"{path} is corrupt ({first_line(error)}): export or copy it again") from error
