"""Wavefront OBJ with MTL as an :class:`Asset`. OBJ counts texture rows from the bottom: v is flipped. No tangents."""

from __future__ import annotations

import contextlib
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np

from stspbr.colour import srgb_to_linear
from stspbr.errors import StspbrError
from stspbr.formats.map_lookups import Lookup
from stspbr.formats.mtl import MtlEntry, MtlMaterial, materials_from_mtl, override_maps, read_mtl
from stspbr.formats.obj_text import name_of, named_files, text_lines
from stspbr.notes import Notes
from stspbr.scene.asset import Asset, Node, moved_nodes, without_offset
from stspbr.scene.attributes import UNDIRECTED, flat_normals, smooth_normals, undirected, unit, weld
from stspbr.scene.mesh import Corners, Mesh
from stspbr.scene.polygons import crossing_note, triangulated
from stspbr.scene.vertex_colour import one_colour

_DEFAULT = "material"
_NO_NAME = "default"  # the group of faces that no group names, as the format has it
_OFF = (b"", b"0", b"off")
_NOT_FACES = (b"l", b"p", b"curv", b"curv2", b"surf")
_BORDER = 1e-3  # UVs that leave the unit square by less need no second tile
_Part = tuple[str | None, str | None]  # the object and the group that a face belongs to


def read_obj(path: str | Path, textures: str | Path | None = None) -> Asset:
    """Read an OBJ file: ``v``, ``vt`` and ``vn`` with their own indices, ``usemtl`` groups, its MTL files.

    Polygons are cut into triangles by :func:`stspbr.scene.polygons.triangulated`, identical positions are welded.
    Absent normals stay absent (smooth by convention) unless smoothing groups (``s``) separate faces. Objects (``o``)
    and groups (``g``) become nodes without transforms, a group below its object. Colours of vertices (sRGB) are the
    albedo of a material that has none, if they are all the same; else their mean. ``asset.extras["notes"]`` lists what
    is left out.

    Args:
        textures: a folder whose images replace the maps of every material, picked by what their names contain:
            basecolor, albedo or diffuse; roughness; metallic; normal; occlusion (case is ignored), or one
            packed image (orm).

    Raises:
        StspbrError: the file, an MTL or a texture is missing or broken; an index points past the vertices.
    """
    path = Path(path)
    notes = Notes("materials")
    try:
        mesh, names, libraries, parts, colours = _parse(text_lines(path), notes)
    except (ValueError, IndexError, OverflowError) as error:
        raise StspbrError(f"{path} is not a valid OBJ ({error}): export it again") from error
    if len(mesh.faces) == 0:
        raise StspbrError(f"{path} holds no triangles: export a mesh")
    found: dict[str, MtlEntry] = {}
    for library in libraries:
        for name, place in named_files(path.parent, library, notes):
            if place is not None:
                more = read_mtl(place, notes)
                for repeated in found.keys() & more.keys():
                    notes("it is described twice: the last is read", repeated)
                found |= more
            elif textures is None:
                raise StspbrError(f"{path} names {name}, which does not exist: copy it there or give --textures")
    read = materials_from_mtl(found, names, Notes() if textures is not None else notes)
    if textures is None:
        for own in read if colours is None else ():
            if own.material.name in found and not own.coloured:
                notes("the MTL gives it no colour (Kd): it is white", own.material.name)
        _colour(mesh, read, colours, notes)
        mesh = _looked_up(mesh, read, notes)
    materials = [own.material for own in read]
    if textures is not None:
        materials = [override_maps(material, Path(textures)) for material in materials]
    mesh, _, origin = without_offset(mesh, [])
    mesh = weld(mesh)
    used = np.unique(mesh.material_of)  # a name whose triangles all collapsed goes
    mesh.face_material = np.searchsorted(used, mesh.material_of).astype(np.int32)
    nodes = moved_nodes(_nodes(mesh, parts), mesh, origin)
    lines = notes.lines()
    extras = {"notes": lines} if lines else {}
    return Asset(mesh, [materials[k] for k in used], path.stem, nodes, extras, origin)


def _parse(
    lines: list[bytes], notes: Notes
) -> tuple[Mesh, list[str], list[bytes], list[_Part], Corners[np.ndarray] | None]:
    """The mesh (float64), names of the materials in use, its MTL lines, its parts, and sRGB colours of corners."""
    tables: dict[bytes, list[bytes]] = {b"v": [], b"vt": [], b"vn": []}
    faces: list[bytes] = []
    seen: list[tuple[int, int, int]] = []  # rows of v, vt, vn before each face, for indices that count back
    owners: list[int] = []
    names: dict[str, int] = {}
    libraries: list[bytes] = []
    parts: dict[_Part, int] = {}
    part: _Part = (None, None)
    members: list[int] = []
    smoothing: dict[bytes, int] = {b"": 0}
    groups: list[int] = []
    group, owner, short, others = 0, -1, 0, 0
    painted: list[bytes] = []
    v, vt, vn = tables.values()
    for line in lines:
        key, _, rest = line.lstrip().partition(b" ")
        if key in (b"f", b"fo"):
            rest = rest.partition(b"#")[0]
            if len(rest.split()) < 3:
                short += 1
                continue
            if owner < 0:
                owner = names.setdefault(_DEFAULT, len(names))
            faces.append(rest)
            owners.append(owner)
            members.append(parts.setdefault(part, len(parts)))
            groups.append(group)
            seen.append((len(v), len(vt), len(vn)))
        elif key in tables:
            tables[key].append(rest)
        elif key == b"usemtl":
            owner = names.setdefault(name_of(rest, notes) or _DEFAULT, len(names))
        elif key == b"mtllib":
            libraries.append(rest)
        elif key == b"o":
            part = (name_of(rest, notes) or _NO_NAME, None)
        elif key == b"g":
            part = (part[0], name_of(rest, notes) or None)
        elif key == b"s":
            group = smoothing.setdefault(b"0" if rest.strip() in _OFF else rest.strip(), len(smoothing))
        elif key == b"#MRGB":
            painted.append(rest.strip())
        elif key in _NOT_FACES:
            others += 1
    if short:
        notes(f"faces with fewer than three corners are left out: {short}")
    if others:
        notes(f"points, lines and free-form curves or surfaces are left out: {others}")
    rows, has_colours = _vertices(v, notes)
    if not np.isfinite(rows[:, :3]).all():
        raise ValueError("positions that are not finite")
    corners, count = _corners(faces, np.asarray(seen, np.int64).reshape(-1, 3), (len(v), len(vt), len(vn)))
    triangles, polygon, crossing = triangulated(rows[:, :3], corners[:, 0], count)
    for note in crossing_note(crossing):
        notes(note)
    used = np.unique(np.asarray(owners, np.int64)[polygon])  # a name that never had triangles goes
    material = np.searchsorted(used, np.asarray(owners, np.int64)[polygon]).astype(np.int32)

    mesh = Mesh(rows[:, :3], corners[triangles, 0], face_material=material)
    if any(part != (None, None) for part in parts):
        mesh.face_node = np.asarray(members, np.int32)[polygon]
    if vt and (corners[:, 1] >= 0).any():
        uvs = _numbers(vt, 2)
        mesh.uvs = _filled(np.stack([uvs[:, 0], 1.0 - uvs[:, 1]], axis=1), corners[:, 1], triangles)
        lost = int((corners[triangles, 1] < 0).any(axis=1).sum())
        if lost:
            notes(f"{lost} of {len(triangles)} triangles have no texture coordinates: they show one texel of the maps")
    table = _numbers(vn, 3)
    given = corners[triangles, 2] if vn else np.full_like(triangles, -1)
    lost = np.append(undirected(table), False)[given]
    if lost.any():
        notes(UNDIRECTED)
    given = np.where(lost, -1, given)
    mesh.normals = _normals(mesh, table, given, np.asarray(groups, np.int64)[polygon], smoothing.get(b"0"))
    colours = None
    if has_colours:
        colours = Corners(rows[:, 3:6] / (255.0 if rows[:, 3:6].max() > 1.001 else 1.0), mesh.faces)
    elif painted and len(rgb := _polypaint(painted)) >= len(rows):
        colours = Corners(rgb, mesh.faces)
    return mesh, [list(names)[k] for k in used], libraries, list(parts), colours


def _vertices(rows: list[bytes], notes: Notes) -> tuple[np.ndarray, bool]:
    """``[V, 3 or more]`` numbers of ``v`` lines, and whether columns 3 to 5 are colours."""
    table = _numbers(rows, 3)
    if table.shape[1] in (6, 7):
        return table, bool((table[:, 3:6] != 1.0).any())
    if table.shape[1] == 3 and any(len(row.split()) >= 6 for row in rows if b"#" not in row):
        notes("only some vertices have colours: these are left out")
    return table, False


def _polypaint(lines: list[bytes]) -> np.ndarray:
    """``[N, 3]`` colours of ZBrush's comments ``#MRGB``: eight hexadecimal digits for a vertex, mask first."""
    try:
        data = bytes.fromhex(b"".join(lines).decode("ascii"))
    except ValueError:  # another program's comment
        return np.zeros((0, 3))
    return np.frombuffer(data[: len(data) // 4 * 4], np.uint8).reshape(-1, 4)[:, 1:] / 255.0


def _normals(
    mesh: Mesh, table: np.ndarray, given: np.ndarray, groups: np.ndarray, off: int | None
) -> Corners[np.ndarray] | None:
    """Normals from the file where all corners of a triangle have them; others by the smoothing groups.

    Args:
        table, given: ``vn`` and each corner's row there, −1 for none; groups: smoothing group of each triangle, ``off``
            that of flat ones. None if all are smooth over the whole mesh, as a mesh without normals is.
    """
    with_own = (given >= 0).all(axis=1)
    own = unit(table, (0.0, 1.0, 0.0))
    if with_own.all():
        return Corners(own, given)
    rest = np.unique(groups[~with_own])
    if not with_own.any() and len(rest) == 1 and rest[0] != off:
        return None
    parts, index = [own], given.copy()
    for group in rest:
        chosen = ~with_own & (groups == group)
        faces = mesh.faces[chosen]
        if group == off:
            made = flat_normals(mesh.positions, faces)
        else:
            points, inverse = np.unique(faces, return_inverse=True)
            faces = inverse.reshape(-1, 3)
            made = Corners(smooth_normals(mesh.positions[points], faces), faces)
        index[chosen] = made.index + sum(map(len, parts))
        parts.append(made.values)
    return Corners(np.concatenate(parts), index)


def _colour(mesh: Mesh, materials: list[MtlMaterial], colours: Corners[np.ndarray] | None, notes: Notes) -> None:
    """Give materials without a colour that of their vertices."""
    if colours is None:
        return
    for number, own in enumerate(materials):
        if own.coloured:
            notes("it has a colour in its MTL: those of the vertices are left out", own.material.name)
            continue
        chosen = mesh.material_of == number
        linear = srgb_to_linear(colours.values)[colours.index[chosen]]
        mean = one_colour(linear, mesh.positions[mesh.faces[chosen]], own.material.name, notes)
        notes("its albedo is the colour of its vertices, taken as sRGB", own.material.name)
        own.material.albedo = mean.reshape(1, 1, 3).astype(np.float32)


def _looked_up(mesh: Mesh, materials: list[MtlMaterial], notes: Notes) -> Mesh:
    """The mesh with texture coordinates moved by the options of each material's maps; what clamps is noted."""
    if mesh.uvs is None:
        return mesh
    values, index = [mesh.uvs.values], mesh.uvs.index.copy()
    for number, own in enumerate(materials):
        chosen = mesh.material_of == number
        if own.lookup is None or not chosen.any():
            continue
        flip = np.array([1.0, -1.0]), np.array([0.0, 1.0])  # between v downwards and OBJ's v upwards
        moved = own.lookup.applied(mesh.uvs.values.astype(np.float64) * flip[0] + flip[1]) * flip[0] + flip[1]
        shown = moved[index[chosen]]
        if own.clamped and (shown.min() < -_BORDER or shown.max() > 1 + _BORDER):
            notes("textures that clamp outside of the unit square repeat here", own.material.name)
        if own.lookup.matrix != Lookup.matrix:
            index[chosen] += sum(map(len, values))
            values.append(moved.astype(np.float32))
    return replace(mesh, uvs=Corners(np.concatenate(values), index))


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
    """``[N, width or more]`` float64: all numbers of the rows if these are alike, else the first of each row."""
    if not rows:
        return np.zeros((0, width))
    tokens = b" ".join(rows).split()
    columns = len(rows[0].split())
    if len(tokens) != columns * len(rows) or columns < width:
        tokens = [token for row in rows for token in (row.split(b"#")[0].split() + [b"0"] * (width - 1))[:width]]
        columns = width
    return _from_text(b" ".join(tokens), len(tokens)).reshape(len(rows), columns)


def _from_text(text: bytes, count: int) -> np.ndarray:
    """``count`` float64 numbers of a text with blanks between them; ValueError if it holds anything else."""
    values = np.zeros(0)
    with warnings.catch_warnings(), contextlib.suppress(ValueError):
        warnings.simplefilter("ignore", DeprecationWarning)  # NumPy stops where it cannot read on, and warns or raises
        values = np.fromstring(text.decode("ascii", "replace"), np.float64, sep=" ")
    if len(values) != count:
        wrong = next((token for token in text.split() if not _is_number(token)), b"a number")
        raise ValueError(f"{wrong[:40].decode('ascii', 'replace')} cannot be read")
    return values


def _is_number(token: bytes) -> bool:
    try:
        float(token)
    except ValueError:
        return False
    return True


def _corners(faces: list[bytes], seen: np.ndarray, counts: tuple[int, int, int]) -> tuple[np.ndarray, np.ndarray]:
    """``[C, 3]`` zero-based indices (v, vt, vn; −1 for none) of all corners, and the corners of each polygon."""
    split = [row.split() for row in faces]
    count = np.array([len(tokens) for tokens in split], np.int64)
    tokens = [token for row in split for token in row]
    slashes = tokens[0].count(b"/") if tokens else 0
    joined = b" ".join(tokens).replace(b"//", b"/0/")
    uniform = all(token.count(b"/") == slashes for token in tokens)
    if not uniform or slashes > 2 or b"/ " in joined or joined.endswith(b"/"):
        # Corners of different kinds in one file: bring each to three fields.
        fields = [(token.split(b"/") + [b"", b""])[:3] for token in tokens]
        joined, slashes = b" ".join(b"/".join(part or b"0" for part in field) for field in fields), 2
    width = slashes + 1
    values = _from_text(joined.replace(b"/", b" "), width * len(tokens))
    if (values != np.rint(values)).any():
        raise ValueError("a face has an index that is not whole")
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
