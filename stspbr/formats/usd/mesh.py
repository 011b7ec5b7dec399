"""A UsdGeomMesh as triangles: polygons, interpolations, orientation and transforms undone."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from stspbr.errors import StspbrError
from stspbr.formats.usd.preview_surface import SurfaceMaterial
from stspbr.notes import Notes
from stspbr.scene.attributes import flat_normals, moved_tangents, smooth_normals, unique_rows, unit
from stspbr.scene.material import is_constant
from stspbr.scene.mesh import Corners, Mesh
from stspbr.scene.polygons import crossing_note, triangulated
from stspbr.scene.vertex_colour import one_colour

_Table = Corners[np.ndarray]
_Sizes = dict[str, np.ndarray]


def read_mesh(
    prim: Any,
    matrix: np.ndarray,
    subsets: dict[int, np.ndarray],
    rest: Callable[[Callable[[], np.ndarray]], int],
    materials: list[SurfaceMaterial],
    where: str,
    notes: Notes,
    points: np.ndarray | None = None,
) -> list[Mesh]:
    """The triangles of a Mesh prim in our space, one part a material, so that each has its own texture coordinates.

    Args:
        matrix: ``[4, 4]`` from the prim's space to ours.
        subsets: polygons of each material that is bound to a part of the mesh.
        rest: called for the material of the other polygons, if there are any, with a function that gives their
            ``displayColor`` ``[3]``.
        materials: what the indices point into.
        where: names the mesh in errors.
        points: ``[P, 3]`` in place of the prim's own; normals are then computed from them.

    Returns:
        Meshes with float64 positions.

    Raises:
        StspbrError: counts, indices or primvars that contradict each other; a textured material without coordinates.
    """
    from pxr import UsdGeom

    schema = UsdGeom.Mesh(prim)
    posed = points is not None
    points = _array(schema.GetPointsAttr(), np.float64).reshape(-1, 3) if points is None else points
    counts = _array(schema.GetFaceVertexCountsAttr(), np.int64)
    vertices = _array(schema.GetFaceVertexIndicesAttr(), np.int64)
    if len(counts) == 0:
        return []
    if counts.min() < 0 or counts.sum() != len(vertices):
        raise StspbrError(f"{where}: its faceVertexCounts do not fit its faceVertexIndices: export it again")
    if len(vertices) and (vertices.min() < 0 or vertices.max() >= len(points)):
        raise StspbrError(f"{where}: a face points past its {len(points)} points: export it again")
    corners, polygon, crossing = triangulated(points, vertices, counts)
    for line in crossing_note(crossing):
        notes(line, str(prim.GetName()))
    if counts.min() < 3:
        few = int((counts < 3).sum())
        notes(f"faces with fewer than three corners are left out: {few}", str(prim.GetName()))
    holes = _array(schema.GetHoleIndicesAttr(), np.int64)
    if len(holes):
        kept = ~np.isin(polygon, holes)
        corners, polygon = corners[kept], polygon[kept]
    linear = matrix[:3, :3]
    left_handed = schema.GetOrientationAttr().Get() == UsdGeom.Tokens.leftHanded
    mirrored = np.linalg.det(linear) < 0
    if left_handed != mirrored:
        corners = corners[:, [0, 2, 1]]
    faces = vertices[corners]
    placed = points @ linear.T + matrix[:3, 3]
    sizes = {"vertex": vertices, "polygon": polygon, "corner": corners}
    normals = Corners(smooth_normals(placed, faces), faces.astype(np.int32)) if posed else None
    normals = normals or _normals(schema, placed, faces, linear, sizes, where, notes)

    owner = np.full(len(counts), -1, np.int64)
    for material, chosen in subsets.items():
        if len(chosen) and (chosen.min() < 0 or chosen.max() >= len(counts)):
            raise StspbrError(f"{where}: a subset points past its {len(counts)} faces: export it again")
        owner[chosen] = material
    bare = owner[polygon] < 0
    if bare.any():
        own = {**sizes, "polygon": polygon[bare], "corner": corners[bare]}
        owner[owner < 0] = rest(lambda: _display_colour(prim, placed[faces[bare]], own, where, notes))
    out = []
    for material in np.unique(owner[polygon]):
        chosen = owner[polygon] == material
        own = {**sizes, "polygon": polygon[chosen], "corner": corners[chosen]}
        part = Mesh(
            placed,
            faces[chosen].astype(np.int32),
            _coordinates(prim, materials[material], own, where),
            Corners(normals.values, normals.index[chosen]),
            _tangents(prim, linear, mirrored, own, where),
            np.full(int(chosen.sum()), material, np.int32),
        )
        out.append(part)
    return out


def snapped(positions: np.ndarray) -> np.ndarray:
    """``[V, 3]`` float32 with points that differ by rounding only made equal, so that parts which touch stay welded.

    Points of two nodes go through two transforms; one that both have comes out different in its last bits.
    """
    from scipy.sparse import coo_matrix
    from scipy.sparse.csgraph import connected_components
    from scipy.spatial import cKDTree

    distinct, index = unique_rows(positions)
    reach = 4e-7 * float(np.abs(distinct).max(initial=0.0))
    pairs = cKDTree(distinct).query_pairs(reach, output_type="ndarray")
    if len(pairs) == 0:
        return positions
    links = coo_matrix((np.ones(len(pairs), bool), (pairs[:, 0], pairs[:, 1])), shape=(len(distinct),) * 2)
    _, group = connected_components(links, directed=False)
    _, first = np.unique(group, return_index=True)
    return distinct[first[group]][index]


def _normals(
    schema: Any, placed: np.ndarray, faces: np.ndarray, linear: np.ndarray, sizes: _Sizes, where: str, notes: Notes
) -> _Table:
    """Unit normals in our space."""
    from pxr import Usd, UsdGeom

    name = where.rpartition("/")[2]
    if schema.GetSubdivisionSchemeAttr().Get() != UsdGeom.Tokens.none:
        notes("a subdivision surface is read as its control cage", name)
        return Corners(smooth_normals(placed, faces), faces.astype(np.int32))
    primvar = UsdGeom.PrimvarsAPI(schema).GetPrimvar("normals")
    if primvar and primvar.HasValue():
        corners = _corners(primvar, sizes, where)
    else:
        attribute = schema.GetNormalsAttr().Get(Usd.TimeCode.EarliestTime())
        if not attribute:
            notes("it has no normals and is flat-shaded", name)
            return flat_normals(placed, faces)
        values = np.array(attribute, np.float64)
        index = _corner_index(schema.GetNormalsInterpolation(), len(values), None, sizes, where, "normals")
        corners = Corners(values, index)
    return Corners(unit(corners.values.reshape(-1, 3) @ np.linalg.pinv(linear), (0.0, 1.0, 0.0)), corners.index)


def _display_colour(prim: Any, corners: np.ndarray, sizes: _Sizes, where: str, notes: Notes) -> np.ndarray:
    """``displayColor`` ``[3]`` of the triangles with corners ``[F, 3, 3]``; USD's grey if there is none."""
    from pxr import UsdGeom

    name = str(prim.GetName())
    api = UsdGeom.PrimvarsAPI(prim)
    opacity = api.FindPrimvarWithInheritance("displayOpacity")
    if opacity and opacity.HasValue() and (_corners(opacity, sizes, where).values < 1).any():
        notes("transparency is left out", name)
    primvar = api.FindPrimvarWithInheritance("displayColor")
    if not (primvar and primvar.HasValue()):
        return np.full(3, 0.18)
    table = _corners(primvar, sizes, where)
    return one_colour(table.values.reshape(-1, 3)[table.index], corners, name, notes)


def _coordinates(prim: Any, surface: SurfaceMaterial, sizes: _Sizes, where: str) -> _Table | None:
    """Texture coordinates, v downwards: those that the material looks up, else the first that the mesh has."""
    from pxr import UsdGeom

    api = UsdGeom.PrimvarsAPI(prim)
    # also inherited ones, as the standard has it
    primvar = api.FindPrimvarWithInheritance(surface.lookup.coordinates) if surface.lookup else None
    if not (primvar and primvar.HasValue()):
        if surface.lookup and not all(map(is_constant, surface.material.maps())):
            raise StspbrError(
                f"{where} lacks {surface.lookup.coordinates}, which its material {surface.material.name} looks up"
            )
        named = [p for p in api.GetPrimvarsWithValues() if str(p.GetTypeName()) in ("texCoord2f[]", "texCoord2d[]")]
        if not named:
            return None
        primvar = next((p for p in named if p.GetPrimvarName() == "st"), named[0])
    corners = _corners(primvar, sizes, where)
    values = corners.values.reshape(-1, 2)
    values = values if surface.lookup is None else surface.lookup.applied(values)
    return Corners((values * (1, -1) + (0, 1)).astype(np.float32), corners.index)


def _tangents(prim: Any, linear: np.ndarray, mirrored: bool, sizes: _Sizes, where: str) -> _Table | None:
    """The frame of normal maps, where the file has it as four numbers (what the writer here leaves)."""
    from pxr import UsdGeom

    primvar = UsdGeom.PrimvarsAPI(prim).GetPrimvar("tangents")
    if not (primvar and primvar.HasValue() and str(primvar.GetTypeName()) == "float4[]"):
        return None
    corners = _corners(primvar, sizes, where)
    return Corners(moved_tangents(corners.values.reshape(-1, 4), linear, mirrored), corners.index)


def _corners(primvar: Any, sizes: _Sizes, where: str) -> _Table:
    """A primvar's table, float64, and the row of every triangle corner."""
    from pxr import Usd

    values = np.array(primvar.Get(Usd.TimeCode.EarliestTime()), np.float64)
    own = None
    if primvar.IsIndexed():
        own = np.array(primvar.GetIndices(Usd.TimeCode.EarliestTime()), np.int64)
    name = str(primvar.GetPrimvarName())
    return Corners(values, _corner_index(primvar.GetInterpolation(), len(values), own, sizes, where, name))


def _corner_index(
    interpolation: Any, count: int, own: np.ndarray | None, sizes: _Sizes, where: str, name: str
) -> np.ndarray:
    """``[F, 3]`` int32 rows of a table of ``count`` rows, through its ``own`` indices where it has such."""
    corner, polygon = sizes["corner"], sizes["polygon"]
    kind = str(interpolation)
    if kind == "faceVarying":
        index = corner
    elif kind in ("vertex", "varying"):
        index = sizes["vertex"][corner]
    elif kind == "uniform":
        index = np.repeat(polygon[:, None], 3, axis=1)
    else:
        index = np.zeros_like(corner)
    length = count if own is None else len(own)
    if index.size and index.max() >= length:
        raise StspbrError(f"{where}: {name} ({kind}) has {length} of {index.max() + 1} needed values: export it again")
    if own is not None:
        index = own[index]
        if index.size and (index.min() < 0 or index.max() >= count):
            raise StspbrError(f"{where}: an index of {name} points past its {count} values: export it again")
    return np.ascontiguousarray(index, np.int32)


def _array(attribute: Any, dtype: type) -> np.ndarray:
    from pxr import Usd

    value = attribute.Get(Usd.TimeCode.EarliestTime())
    return np.zeros(0, dtype) if value is None else np.array(value, dtype)
