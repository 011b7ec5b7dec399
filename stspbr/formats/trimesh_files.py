"""The kinds of mesh files that only trimesh reads."""

from __future__ import annotations

import io
import logging
import re
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import numpy as np

from stspbr.errors import StspbrError, first_line, missing_extra
from stspbr.files import read_file
from stspbr.formats.images import IMAGE_SUFFIXES
from stspbr.scene import Asset
from stspbr.scene.polygons import crossing_note, triangulated

_FANS = "polygons are cut into fans from their first corner, wrong for concave ones: triangulate them before"
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
    _check_textures(path)
    logger = logging.getLogger("trimesh")
    level = logger.level
    logger.setLevel(logging.CRITICAL)  # it writes tracebacks of what it leaves out to stderr
    try:
        text = _off_of_triangles(read_file(path)) if path.suffix.lower() == ".off" else None
        source = path if text is None else io.BytesIO(text)
        scene = trimesh.load_scene(source, file_type=path.suffix[1:].lower(), process=False)
    except Exception as error:  # parsers raise nearly anything on corrupt bytes
        raise StspbrError(f"{path} is truncated or corrupt ({first_line(error)}): export or copy it again") from error
    finally:
        logger.setLevel(level)
    try:
        notes = [*_cut_anew(scene, path), *_colours_left_out(scene, path)]
        asset = Asset.from_trimesh(scene, path.stem)
        return replace(asset, extras={"notes": [*notes, *asset.extras.get("notes", [])]}) if notes else asset
    except StspbrError as error:
        raise StspbrError(f"{path}: {error}") from error
    except (ValueError, LookupError, TypeError, ArithmeticError) as error:  # tables that contradict each other
        raise StspbrError(f"{path} is corrupt ({first_line(error)}): export or copy it again") from error


def _check_textures(path: Path) -> None:
    """StspbrError if a texture that the file names is missing: trimesh would take a colour of its own for it."""
    pattern = {".ply": rb"comment TextureFile +([^\r\n]+)", ".dae": rb"<init_from>\s*([^<]+?)\s*</init_from>"}
    for raw in re.findall(pattern.get(path.suffix.lower(), rb"(?!)"), read_file(path)):
        name = unquote(raw.decode("utf-8", "replace").strip()).removeprefix("./")
        if Path(name).suffix.lower() in IMAGE_SUFFIXES and not (path.parent / name).is_file():
            raise StspbrError(f"{path} names the texture {name}, which does not exist beside it: copy it there")


def _colours_left_out(scene: Any, path: Path) -> list[str]:
    """A note of colours in OFF and STL files, which trimesh does not read."""
    suffix, coloured = path.suffix.lower(), False
    if suffix == ".stl":
        held = [geometry.face_attributes.get("stl") for geometry in scene.geometry.values()]
        coloured = any(values is not None and np.any(values) for values in held)
    elif suffix == ".off":
        head, rows = _off_rows(read_file(path))
        polygons = rows[1 + int(rows[0][0]) :]
        coloured = b"C" in head or any(len(row) > int(row[0]) + 1 for row in polygons)
    return ["the colours of its vertices or faces are left out"] if coloured else []


def _cut_anew(scene: Any, path: Path) -> list[str]:
    """Cut the polygons of a PLY, which trimesh cut into fans, as all readers here do; notes."""
    suffix, data = path.suffix.lower(), read_file(path)
    if suffix == ".dae":
        counts = re.findall(rb"<vcount[^>]*>([\s\d]*)<", data)
        if b"<polygons" in data or any(int(count) > 3 for row in counts for count in row.split()):
            return [_FANS]
    if suffix != ".ply" or len(scene.geometry) != 1:
        return []
    (geometry,) = scene.geometry.values()
    rows = _ply_faces(geometry.metadata)
    count = np.array([len(row) for row in rows], np.int64)
    if not (count > 3).any():
        return []
    if geometry.visual.kind in ("face", "texture"):
        return [_FANS]
    vertices = np.concatenate([np.asarray(row, np.int64) for row in rows])
    if vertices.min() < 0 or vertices.max() >= len(geometry.vertices):
        raise StspbrError(f"a face points past its {len(geometry.vertices)} vertices: export it again")
    corners, _, crossing = triangulated(geometry.vertices, vertices, count)
    geometry.faces = vertices[corners]
    return crossing_note(crossing)


def _ply_faces(metadata: dict[str, Any]) -> Any:
    """Rows of vertex numbers, as trimesh keeps them beside what it made of them."""
    data = metadata.get("_ply_raw", {}).get("face", {}).get("data", [])
    if isinstance(data, np.ndarray) and data.dtype.names:
        name = next((name for name in data.dtype.names if name.startswith("vertex_ind")), data.dtype.names[0])
        return data[name]["f1"]
    if isinstance(data, dict):
        return next((data[name] for name in ("vertex_index", "vertex_indices") if name in data), [])
    return data


def _off_of_triangles(data: bytes) -> bytes | None:
    """An OFF file with its polygons cut, which trimesh does not read; None if there are only triangles."""
    _, rows = _off_rows(data)
    vertices, faces = int(rows[0][0]), int(rows[0][1])
    points, polygons = rows[1 : vertices + 1], rows[vertices + 1 : vertices + faces + 1]
    count = np.array([int(row[0]) for row in polygons], np.int64)
    if not (count > 3).any():
        return None
    ring = np.array([int(token) for row, size in zip(polygons, count, strict=True) for token in row[1 : size + 1]])
    if ring.min() < 0 or ring.max() >= len(points) or len(ring) != count.sum():
        raise ValueError("a face points past the vertices")
    corners, _, _ = triangulated(np.array([row[:3] for row in points], np.float64), ring, count)
    out = [b"OFF", b"%d %d 0" % (vertices, len(corners)), *(b" ".join(row[:3]) for row in points)]
    return b"\n".join([*out, *(b"3 %d %d %d" % tuple(row) for row in ring[corners].tolist())])


def _off_rows(data: bytes) -> tuple[bytes, list[list[bytes]]]:
    """What stands before OFF in an OFF file, and the fields of the lines after it without comments."""
    lines = [line.partition(b"#")[0].strip() for line in data.splitlines()]
    head, _, rest = b"\n".join(lines).partition(b"OFF")
    return head, [row.split() for row in rest.splitlines() if row.strip()]
