"""Wavefront OBJ with MTL: read as an :class:`Asset`, written so that it loads again equal.

OBJ counts texture rows from the bottom: v is flipped here, both ways. It has no tangents.
"""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np

from stspbr.errors import StspbrError
from stspbr.files import read_file, safe_name, write_file
from stspbr.formats.images import write_map
from stspbr.formats.mtl import MtlEntry, map_lines, materials_from_mtl, override_maps, read_mtl
from stspbr.scene.asset import Asset, Node
from stspbr.scene.attributes import fans, unit, weld
from stspbr.scene.mesh import Corners, Mesh

_DEFAULT = "material"
_NO_NAME = "default"  # the group of faces that no group names, as the format has it
_Part = tuple[str | None, str | None]  # the object and the group that a face belongs to


def read_obj(path: str | Path, textures: str | Path | None = None) -> Asset:
    """Read an OBJ file: ``v``, ``vt`` and ``vn`` with their own indices, ``usemtl`` groups, its MTL files.

    Polygons are cut into fans, identical positions are welded, absent normals stay absent (smooth by convention).
    Objects (``o``) and groups (``g``) become nodes without transforms, a group below its object.

    Args:
        textures: a folder whose images replace the maps of every material, picked by what their names contain:
            basecolor, albedo or diffuse; roughness; metallic; normal; occlusion (case is ignored), or one
            packed image (orm).

    Raises:
        StspbrError: the file, an MTL or a texture is missing or broken; an index points past the vertices.
    """
    path = Path(path)
    lines = _lines(path)
    try:
        mesh, names, libraries, nodes = _parse(lines)
    except (ValueError, IndexError) as error:
        raise StspbrError(f"{path} is not a valid OBJ ({error}): export it again") from error
    if len(mesh.faces) == 0:
        raise StspbrError(f"{path} holds no triangles: export a mesh")
    if not np.isfinite(mesh.positions).all():
        raise StspbrError(f"{path} has positions that are not finite: export it again")
    notes: list[str] = []
    found: dict[str, MtlEntry] = {}
    for library in libraries:
        place = path.parent / library
        if place.exists():
            found |= read_mtl(place)
        elif textures is None:
            raise StspbrError(f"{path} names {library}, which does not exist: copy it there or give --textures")
    materials = materials_from_mtl(found, names, notes)
    if textures is not None:
        materials = [override_maps(material, Path(textures)) for material in materials]
        notes.clear()  # they are about what the folder replaces
    return Asset(mesh, materials, name=path.stem, nodes=nodes, extras={"notes": notes} if notes else {})


def write_obj(path: str | Path, asset: Asset, texture_bits: int = 8, texture_format: str = "png") -> Path:
    """Write an OBJ, and beside it ``<stem>.mtl`` and maps (``<material>_albedo.png`` …), whose names get no blanks.

    Each file is replaced atomically, the OBJ last. Constant maps are written as numbers in the MTL, which are exact;
    roughness, metallic, occlusion and normal go as the usual PBR keys (Pr, Pm, map_Pr, map_Pm, map_ao, norm). Each
    node that has triangles becomes an object (``o``); the format has no transforms, positions are the world's.

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
    names = [safe_name(material.name or _DEFAULT, taken) for material in asset.materials]
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


def _lines(path: Path) -> list[bytes]:
    return read_file(path).replace(b"\\\r\n", b" ").replace(b"\\\n", b" ").replace(b"\t", b" ").splitlines()


def _parse(lines: list[bytes]) -> tuple[Mesh, list[str], list[str], list[Node]]:
    """The welded mesh, the names of the materials that it uses, its MTL files, and its objects and groups."""
    tables: dict[bytes, list[bytes]] = {b"v": [], b"vt": [], b"vn": []}
    faces: list[bytes] = []
    seen: list[tuple[int, int, int]] = []  # rows of v, vt, vn before each face, for indices that count back
    owners: list[int] = []
    names: dict[str, int] = {}
    libraries: list[str] = []
    parts: dict[_Part, int] = {}
    part: _Part = (None, None)
    members: list[int] = []
    owner = -1
    v, vt, vn = tables.values()
    for line in lines:
        key, _, rest = line.lstrip().partition(b" ")
        if key == b"f":
            if owner < 0:
                owner = names.setdefault(_DEFAULT, len(names))
            faces.append(rest)
            owners.append(owner)
            members.append(parts.setdefault(part, len(parts)))
            seen.append((len(v), len(vt), len(vn)))
        elif key in tables:
            tables[key].append(rest)
        elif key == b"usemtl":
            owner = names.setdefault(rest.strip().decode("utf-8", "replace"), len(names))
        elif key == b"mtllib":
            libraries.append(rest.strip().decode("utf-8", "replace"))
        elif key == b"o":
            part = (rest.strip().decode("utf-8", "replace") or _NO_NAME, None)
        elif key == b"g":
            part = (part[0], rest.strip().decode("utf-8", "replace") or None)
    positions = _numbers(v, 3)
    corners, count = _corners(faces, np.asarray(seen, np.int64).reshape(-1, 3), (len(v), len(vt), len(vn)))
    triangles, polygon = fans(count)
    material = np.asarray(owners, np.int32)[polygon]

    mesh = Mesh(positions, corners[triangles, 0], face_material=material)
    if any(part != (None, None) for part in parts):
        mesh.face_node = np.asarray(members, np.int32)[polygon]
    if vt and (corners[:, 1] >= 0).any():
        uvs = _numbers(vt, 2)
        mesh.uvs = _filled(np.stack([uvs[:, 0], 1.0 - uvs[:, 1]], axis=1), corners[:, 1], triangles)
    if vn and (corners[:, 2] >= 0).all():
        mesh.normals = Corners(unit(_numbers(vn, 3), (0.0, 1.0, 0.0)), corners[triangles, 2])
    mesh.positions = positions.astype(np.float32)
    mesh = weld(mesh)
    used = np.unique(mesh.material_of)  # a name whose triangles all collapsed, or that never had any, goes
    mesh.face_material = np.searchsorted(used, mesh.material_of).astype(np.int32)
    return mesh, [list(names)[k] for k in used], libraries, _nodes(mesh, list(parts))


def _nodes(mesh: Mesh, parts: list[_Part]) -> list[Node]:
    """The nodes of the parts that kept triangles; ``face_node``, which counts parts, is made to point to them."""
    if mesh.face_node is None:
        return []
    nodes: list[Node] = []
    places: dict[_Part, int] = {}

    def place(part: _Part) -> int:
        if part not in places:
            owner, group = part
            parent = place((owner, None)) if owner is not None and group is not None else None
            places[part] = len(nodes)
            nodes.append(Node(group or owner or _NO_NAME, np.eye(4), parent))
        return places[part]

    target = np.zeros(len(parts), np.int32)
    for index in np.unique(mesh.face_node):
        target[index] = place(parts[index])
        nodes[target[index]].mesh = nodes[target[index]].name
    mesh.face_node = target[mesh.face_node]
    return nodes


def _numbers(rows: list[bytes], width: int) -> np.ndarray:
    """``[N, width]`` float64 of the first numbers of each row; more (vertex colours, w) are left out."""
    if not rows:
        return np.zeros((0, width))
    tokens = b" ".join(rows).split()
    columns = len(rows[0].split())
    if len(tokens) != columns * len(rows) or columns < width:
        tokens = [token for row in rows for token in (row.split(b"#")[0].split() + [b"0"] * (width - 1))[:width]]
        columns = width
    return _from_text(b" ".join(tokens), len(tokens)).reshape(len(rows), columns)[:, :width]


def _from_text(text: bytes, count: int) -> np.ndarray:
    """``count`` float64 numbers of a text with blanks between them; ValueError if it holds anything else."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # NumPy warns and stops where it cannot read on
        values = np.fromstring(text.decode("ascii", "replace"), np.float64, sep=" ")
    if len(values) != count:
        raise ValueError(f"number {len(values) + 1} of {count} cannot be read")
    return values


def _corners(faces: list[bytes], seen: np.ndarray, counts: tuple[int, int, int]) -> tuple[np.ndarray, np.ndarray]:
    """``[C, 3]`` zero-based indices (v, vt, vn; −1 for none) of all corners, and the corners of each polygon."""
    split = [row.split(b"#")[0].split() if b"#" in row else row.split() for row in faces]
    count = np.array([len(tokens) for tokens in split], np.int64)
    if len(count) and count.min() < 3:
        raise ValueError("a face has fewer than three corners")
    tokens = [token for row in split for token in row]
    slashes = tokens[0].count(b"/") if tokens else 0
    joined = b" ".join(tokens).replace(b"//", b"/0/")
    uniform = all(token.count(b"/") == slashes for token in tokens)
    if not uniform or slashes > 2 or b"/ " in joined or joined.endswith(b"/"):
        # Corners of different kinds in one file: bring each to three fields.
        fields = [(token.split(b"/") + [b"", b""])[:3] for token in tokens]
        joined, slashes = b" ".join(b"/".join(part or b"0" for part in field) for field in fields), 2
    width = slashes + 1
    values = _from_text(joined.replace(b"/", b" "), width * len(tokens)).astype(np.int64)
    out = np.zeros((len(tokens), 3), np.int64)
    out[:, :width] = values.reshape(len(tokens), width)
    before = np.repeat(seen, count, axis=0)
    out = np.where(out > 0, out - 1, np.where(out < 0, out + before, -1))
    limit = np.asarray(counts)
    if (out >= limit).any() or (out[:, 0] < 0).any() or (out < -1).any():
        raise ValueError("a face points past the vertices")
    return out, count


def _filled(table: np.ndarray, index: np.ndarray, triangles: np.ndarray) -> Corners[np.ndarray]:
    """A table with (0, 0) for the corners that have none."""
    table = np.concatenate([table, np.zeros((1, table.shape[1]))]).astype(np.float32)
    return Corners(table, np.where(index < 0, len(table) - 1, index)[triangles])


def _obj_lines(asset: Asset, names: list[str], library: str) -> list[str]:
    mesh = asset.mesh
    out = ["# written by stspbr", f"mtllib {library}"]
    out += [f"v {x:.9g} {y:.9g} {z:.9g}" for x, y, z in mesh.positions.tolist()]
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
