"""Read USD (``.usd``, ``.usda``, ``.usdc``, ``.usdz``) as an :class:`Asset`: meshes with UsdPreviewSurface materials.

The stage comes out in metres and +Y up, all transforms applied, at the earliest time that it has. Meshes of purpose
``default`` and ``render`` that are visible then count, instances and point instances too, posed by their skeletons;
``asset.extras["notes"]`` lists what is left out.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from stspbr.errors import StspbrError
from stspbr.formats.usd.mesh import read_mesh, snapped
from stspbr.formats.usd.preview_surface import SurfaceMaterial, plain_material, read_surface
from stspbr.formats.usd.skeleton import skinned
from stspbr.formats.usd.stage import local_to_world, one_line_errors, open_stage, up_and_metres
from stspbr.notes import Notes
from stspbr.scene.asset import Asset, Node, without_offset
from stspbr.scene.attributes import MOST_TRIANGLES, ONE_SIDED, joined, open_faces, weld
from stspbr.scene.mesh import Mesh

_DRAWN_OTHERWISE = ("PointInstancer", "BasisCurves", "TetMesh", "NurbsCurves", "Points", "Volume", "NurbsPatch")
_SHAPES = ("Sphere", "Cube", "Cylinder", "Cone", "Capsule", "Plane")


def read_usd(path: str | Path) -> Asset:
    """Read the meshes of a USD file with their materials, nodes and names.

    Polygons are cut into triangles; ``st`` comes out with v downwards; meshes without normals are flat, subdivision
    surfaces are their control cage with smooth normals. Xforms become the asset's nodes; the default prim is the
    asset itself, not a node, if it has no transform.

    Raises:
        StspbrError: usd-core is absent; missing, truncated or corrupt file; no triangles; a mesh that contradicts
            itself; what :func:`stspbr.formats.usd.preview_surface.read_surface` raises.
    """
    path = Path(path)
    stage, notes = open_stage(path)
    with one_line_errors(path):
        return _asset(stage, path, notes)


@dataclass
class _Gathering:
    """What a walk over the stage finds."""

    stage: Any
    path: Path
    world: np.ndarray
    notes: Notes
    parts: list[Mesh] = field(default_factory=list)
    materials: list[SurfaceMaterial] = field(default_factory=list)
    known: dict[str, int] = field(default_factory=dict)
    names: set[str] = field(default_factory=set)
    nodes: list[Node] = field(default_factory=list)
    node_of: dict[Any, int] = field(default_factory=dict)
    both_sides: set[int] = field(default_factory=set)  # nodes of meshes that are doubleSided
    triangles: int = 0

    def material(self, bound: Any, mesh: Any, colour: Callable[[], np.ndarray]) -> int:
        """Index of a ``UsdShade.Material``; of a plain one in ``colour`` if nothing is bound."""
        key = str(bound.GetPath()) if bound else f"colour of {mesh.GetPath()}"
        if key not in self.known:
            self.known[key] = len(self.materials)
            if bound:
                prim = bound.GetPrim()
                name = self._unique(prim.GetDisplayName() or prim.GetName())
                where = f"{self.path.name}: material {prim.GetPath()}"
                self.materials.append(read_surface(self.stage, bound, name, where, self.notes))
            else:
                self.notes("it has no material and gets its display colour", mesh.GetPath().name)
                red, green, blue = colour().tolist()
                self.materials.append(plain_material(self._unique(mesh.GetName()), (red, green, blue)))
        return self.known[key]

    def _unique(self, name: str) -> str:
        while name in self.names:
            name += "_"
        self.names.add(name)
        return name


def _asset(stage: Any, path: Path, remarks: list[str]) -> Asset:
    from pxr import Usd, UsdGeom, UsdLux

    notes = Notes("prims")
    for remark in remarks:
        notes(remark)

    rotation, metres, _ = up_and_metres(stage)
    world = np.eye(4)
    world[:3, :3] = rotation * metres
    found = _Gathering(stage, path, world, notes)
    cache = UsdGeom.XformCache(Usd.TimeCode.EarliestTime())
    walk = iter(Usd.PrimRange.Stage(stage, Usd.TraverseInstanceProxies()))
    for prim in walk:
        if _hidden(prim, notes):
            walk.PruneChildren()
            continue
        kind = str(prim.GetTypeName())
        if _moves(prim):
            notes("it moves or bends over time: it is read at the earliest time", str(prim.GetPath()))
        if prim.IsA(UsdGeom.Mesh):
            _add_mesh(found, cache, prim)
        elif prim.IsA(UsdGeom.Xform) and not _is_the_asset(stage, cache, prim, world):
            _add_node(found, cache, prim)
        elif prim.IsA(UsdGeom.PointInstancer):
            _add_instances(found, cache, prim)
            walk.PruneChildren()
        elif kind in _DRAWN_OTHERWISE or kind in _SHAPES:
            notes(f"a {kind} is not a mesh and is left out", str(prim.GetPath()))
            walk.PruneChildren()
        elif prim.HasAPI(UsdLux.LightAPI):
            notes("lights are left out", str(prim.GetPath()))
    if not found.parts:
        raise StspbrError(f"{path} holds no triangles: export a mesh")
    return _welded(found)


def _welded(found: _Gathering) -> Asset:
    """The parts as one mesh with the materials that are used."""
    mesh, nodes, origin = without_offset(joined(found.parts, fill_tangents=False), found.nodes)
    if len(found.nodes) > 1:
        mesh.positions = snapped(mesh.positions)
    count = max(len(found.nodes), 1)
    # welding keeps one label per triangle: it carries material and node together
    mesh.face_material = (mesh.material_of.astype(np.int64) * count + mesh.node_of).astype(np.int32)
    mesh.face_node = None
    mesh = weld(mesh)
    if len(mesh.faces) == 0:
        raise StspbrError(f"{found.path} holds no triangles with an area: export a mesh")
    if not np.isfinite(mesh.positions).all():
        raise StspbrError(f"{found.path} has positions that are not finite: export it again")
    owner, node = np.divmod(mesh.material_of, count)
    for index in np.unique(node[open_faces(mesh)]) if found.both_sides else ():
        if index in found.both_sides:
            found.notes(ONE_SIDED, found.nodes[index].name)
    used = np.unique(owner)
    mesh.face_material, mesh.face_node = np.searchsorted(used, owner).astype(np.int32), node.astype(np.int32)
    materials = [found.materials[index].material for index in used]
    lines = found.notes.lines()
    return Asset(mesh, materials, found.path.stem, nodes, {"notes": lines} if lines else {}, origin)


def _moves(prim: Any) -> bool:
    from pxr import UsdGeom

    moving = prim.IsA(UsdGeom.Xformable) and UsdGeom.Xformable(prim).TransformMightBeTimeVarying()
    return bool(moving or (prim.IsA(UsdGeom.Mesh) and UsdGeom.Mesh(prim).GetPointsAttr().ValueMightBeTimeVarying()))


def _hidden(prim: Any, notes: Notes) -> bool:
    from pxr import Usd, UsdGeom

    if not prim.IsA(UsdGeom.Imageable):
        return False
    schema = UsdGeom.Imageable(prim)
    tokens = UsdGeom.Tokens
    visibility = schema.GetVisibilityAttr()
    invisible = visibility.Get(Usd.TimeCode.EarliestTime()) == tokens.invisible
    if invisible and visibility.ValueMightBeTimeVarying():
        notes("it is invisible at the earliest time and left out", str(prim.GetPath()))
    return invisible or schema.ComputePurpose() in (tokens.guide, tokens.proxy)


def _is_the_asset(stage: Any, cache: Any, prim: Any, world: np.ndarray) -> bool:
    """The default prim at the stage's root, untransformed: what an asset's file has above its parts."""
    untouched = np.array_equal(world @ local_to_world(cache, prim), np.eye(4))
    return bool(prim == stage.GetDefaultPrim() and prim.GetParent().IsPseudoRoot() and untouched)


def _add_node(found: _Gathering, cache: Any, prim: Any, mesh: str | None = None) -> int:
    """The prim as a node below the nearest of its ancestors that is one."""
    above = prim.GetParent()
    while above and above.GetPath() not in found.node_of:
        above = above.GetParent()
    parent = found.node_of[above.GetPath()] if above else None
    local = found.world @ local_to_world(cache, prim)
    if parent is not None:
        to_world = found.world @ local_to_world(cache, above)
        if abs(np.linalg.det(to_world[:3, :3])) > 1e-30:
            local = np.linalg.solve(to_world, local)
        else:
            parent = None
    found.node_of[prim.GetPath()] = len(found.nodes)
    found.nodes.append(Node(prim.GetDisplayName() or prim.GetName(), local, parent, mesh))
    return len(found.nodes) - 1


def _add_mesh(found: _Gathering, cache: Any, prim: Any) -> None:
    """The prim's triangles; its node is its parent Xform where that has no mesh yet and the mesh no transform."""
    name = prim.GetDisplayName() or prim.GetName()
    matrix = found.world @ local_to_world(cache, prim)
    own = found.node_of.get(prim.GetParent().GetPath())
    still = np.array_equal(matrix, found.world @ local_to_world(cache, prim.GetParent()))
    if own is not None and still and found.nodes[own].mesh is None:
        found.nodes[own].mesh = name
    else:
        own = _add_node(found, cache, prim, name)
    posed = skinned(prim, cache, found.notes)
    if posed is None:
        _add_parts(found, prim, matrix, own)
    else:
        _add_parts(found, prim, found.world @ posed.matrix, own, posed.points)


def _add_instances(found: _Gathering, cache: Any, prim: Any) -> None:
    """The meshes of a PointInstancer's prototypes, once for each instance that is not masked out; one node."""
    from pxr import Usd, UsdGeom

    time = Usd.TimeCode.EarliestTime()
    schema = UsdGeom.PointInstancer(prim)
    instances = np.array(schema.ComputeInstanceTransformsAtTime(time, time) or np.zeros((0, 4, 4)), np.float64)
    which = np.array(schema.GetProtoIndicesAttr().Get(time) or [], np.int64)
    mask = np.array(schema.ComputeMaskAtTime(time) or np.ones(len(which), bool))
    which = which[mask] if len(which) == len(mask) else which
    targets = [found.stage.GetPrimAtPath(path) for path in schema.GetPrototypesRel().GetForwardedTargets()]
    if len(which) != len(instances) or (len(which) and not 0 <= which.min() <= which.max() < len(targets)):
        raise StspbrError(f"{found.path.name}: {prim.GetPath()}: its instances do not fit its prototypes: export again")
    if not len(which):
        return
    own = _add_node(found, cache, prim, prim.GetName())
    whole = found.world @ local_to_world(cache, prim)
    for number, root in enumerate(targets):
        if number not in which:
            continue
        if not root:
            raise StspbrError(f"{found.path.name}: {prim.GetPath()} has a prototype that does not exist: export again")
        back = np.linalg.pinv(local_to_world(cache, root))
        walk = iter(Usd.PrimRange(root, Usd.TraverseInstanceProxies()))
        for inner in walk:
            if _hidden(inner, found.notes):
                walk.PruneChildren()
            elif inner.IsA(UsdGeom.Mesh):
                within = back @ local_to_world(cache, inner)
                for matrix in instances[which == number]:
                    _add_parts(found, inner, whole @ matrix.T @ within, own)
            elif str(inner.GetTypeName()) in _DRAWN_OTHERWISE + _SHAPES:
                found.notes(f"a {inner.GetTypeName()} is not a mesh and is left out", str(inner.GetPath()))
                walk.PruneChildren()


def _add_parts(found: _Gathering, prim: Any, matrix: np.ndarray, node: int, points: np.ndarray | None = None) -> None:
    """The triangles of a mesh under ``matrix``, material by material; ``points`` replace its own."""
    from pxr import UsdGeom, UsdShade

    if UsdGeom.Gprim(prim).GetDoubleSidedAttr().Get():
        found.both_sides.add(node)
    bound = _bound(prim, found.notes)
    owners: dict[int, np.ndarray] = {}
    for subset in UsdShade.MaterialBindingAPI(prim).GetMaterialBindSubsets():
        material = _bound(subset.GetPrim(), found.notes)
        if not material:  # nor has the mesh one, or the subset would inherit it
            continue
        index = found.material(material, prim, lambda: np.zeros(3))
        chosen = np.array(subset.GetIndicesAttr().Get() or [], np.int64)
        before = owners.get(index)
        owners[index] = chosen if before is None else np.concatenate([before, chosen])
    where = f"{found.path.name}: mesh {prim.GetPath()}"

    def rest(colour: Callable[[], np.ndarray]) -> int:
        return found.material(bound, prim, colour)

    for part in read_mesh(prim, matrix, owners, rest, found.materials, where, found.notes, points):
        part.face_node = np.full(len(part.faces), node, np.int32)
        found.parts.append(part)
        found.triangles += len(part.faces)
    if found.triangles > MOST_TRIANGLES:
        raise StspbrError(f"{found.path} shows more than {MOST_TRIANGLES} triangles: export less at once")


def _bound(prim: Any, notes: Notes) -> Any:
    """The material of a prim: bound for preview or for all purposes, else for full; None without."""
    from pxr import UsdShade

    api, purposes = UsdShade.MaterialBindingAPI(prim), (UsdShade.Tokens.preview, UsdShade.Tokens.full)
    preview, full = (api.ComputeBoundMaterial(purpose)[0] for purpose in purposes)
    if preview and full and preview.GetPath() != full.GetPath():
        notes("it has a material for previews and another for full renders: the first is read", str(prim.GetName()))
    return preview or full
