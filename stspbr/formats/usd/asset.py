"""Read USD (``.usd``, ``.usda``, ``.usdc``, ``.usdz``) as an :class:`Asset`: meshes with UsdPreviewSurface materials.

The stage comes out in metres and +Y up, all transforms applied, at the earliest time that it has. Visible meshes of
purpose ``default`` and ``render`` count, instances too; ``asset.extras["notes"]`` lists what is left out.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from stspbr.errors import StspbrError
from stspbr.formats.usd.mesh import read_mesh, snapped
from stspbr.formats.usd.preview_surface import SurfaceMaterial, plain_material, read_surface
from stspbr.formats.usd.stage import local_to_world, one_line_errors, open_stage, up_and_metres
from stspbr.scene.asset import Asset, Node
from stspbr.scene.attributes import joined, weld
from stspbr.scene.mesh import Mesh

_DRAWN_OTHERWISE = ("PointInstancer", "BasisCurves", "NurbsCurves", "Points", "Volume", "NurbsPatch")
_SHAPES = ("Sphere", "Cube", "Cylinder", "Cone", "Capsule", "Plane")


def read_usd(path: str | Path) -> Asset:
    """Read the meshes of a USD file with their materials, nodes and names.

    Polygons become triangle fans; ``st`` comes out with v downwards; meshes without normals are flat, subdivision
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
    notes: list[str]
    parts: list[Mesh] = field(default_factory=list)
    materials: list[SurfaceMaterial] = field(default_factory=list)
    known: dict[str, int] = field(default_factory=dict)
    names: set[str] = field(default_factory=set)
    nodes: list[Node] = field(default_factory=list)
    node_of: dict[Any, int] = field(default_factory=dict)

    def material(self, bound: Any, mesh: Any) -> int:
        """Index of a ``UsdShade.Material``; of a plain one in the mesh's ``displayColor`` if nothing is bound."""
        key = str(bound.GetPath()) if bound else f"colour of {mesh.GetPath()}"
        if key not in self.known:
            self.known[key] = len(self.materials)
            if bound:
                prim = bound.GetPrim()
                name = self._unique(prim.GetDisplayName() or prim.GetName())
                where = f"{self.path.name}: material {prim.GetPath()}"
                self.materials.append(read_surface(self.stage, bound, name, where, self.notes))
            else:
                self.notes.append(f"{mesh.GetPath().name}: it has no material and gets its display colour")
                self.materials.append(plain_material(self._unique(mesh.GetName()), _display_colour(mesh)))
        return self.known[key]

    def _unique(self, name: str) -> str:
        while name in self.names:
            name += "_"
        self.names.add(name)
        return name


def _asset(stage: Any, path: Path, notes: list[str]) -> Asset:
    from pxr import Usd, UsdGeom

    rotation, metres, _ = up_and_metres(stage)
    world = np.eye(4)
    world[:3, :3] = rotation * metres
    found = _Gathering(stage, path, world, notes)
    cache = UsdGeom.XformCache(Usd.TimeCode.EarliestTime())
    walk = iter(Usd.PrimRange.Stage(stage, Usd.TraverseInstanceProxies()))
    for prim in walk:
        if _hidden(prim):
            walk.PruneChildren()
            continue
        kind = str(prim.GetTypeName())
        if prim.IsA(UsdGeom.Mesh):
            _add_mesh(found, cache, prim)
        elif prim.IsA(UsdGeom.Xform) and not _is_the_asset(stage, cache, prim, world):
            _add_node(found, cache, prim)
        elif kind in _DRAWN_OTHERWISE or kind in _SHAPES:
            notes.append(f"{prim.GetPath()}: a {kind} is not a mesh and is left out")
            walk.PruneChildren()
    if not found.parts:
        raise StspbrError(f"{path} holds no triangles: export a mesh")
    return _welded(found)


def _welded(found: _Gathering) -> Asset:
    """The parts as one mesh with the materials that are used."""
    mesh = joined(found.parts, fill_tangents=False)
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
    used = np.unique(owner)
    mesh.face_material, mesh.face_node = np.searchsorted(used, owner).astype(np.int32), node.astype(np.int32)
    materials = [found.materials[index].material for index in used]
    extras = {"notes": list(dict.fromkeys(found.notes))} if found.notes else {}
    return Asset(mesh, materials, name=found.path.stem, nodes=found.nodes, extras=extras)


def _hidden(prim: Any) -> bool:
    from pxr import UsdGeom

    if not prim.IsA(UsdGeom.Imageable):
        return False
    schema = UsdGeom.Imageable(prim)
    tokens = UsdGeom.Tokens
    invisible = schema.GetVisibilityAttr().Get() == tokens.invisible
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
    from pxr import UsdShade

    name = prim.GetDisplayName() or prim.GetName()
    matrix = found.world @ local_to_world(cache, prim)
    own = found.node_of.get(prim.GetParent().GetPath())
    still = np.array_equal(matrix, found.world @ local_to_world(cache, prim.GetParent()))
    if own is not None and still and found.nodes[own].mesh is None:
        found.nodes[own].mesh = name
    else:
        own = _add_node(found, cache, prim, name)

    binding = UsdShade.MaterialBindingAPI(prim)
    bound = binding.ComputeBoundMaterial()[0]
    owners: dict[int, np.ndarray] = {}
    for subset in binding.GetMaterialBindSubsets():
        material = UsdShade.MaterialBindingAPI(subset.GetPrim()).ComputeBoundMaterial()[0]
        index = found.material(material, prim)
        chosen = np.array(subset.GetIndicesAttr().Get() or [], np.int64)
        before = owners.get(index)
        owners[index] = chosen if before is None else np.concatenate([before, chosen])
    where, rest = f"{found.path.name}: mesh {prim.GetPath()}", lambda: found.material(bound, prim)
    for part in read_mesh(prim, matrix, owners, rest, found.materials, where, found.notes):
        part.face_node = np.full(len(part.faces), own, np.int32)
        found.parts.append(part)


def _display_colour(prim: Any) -> tuple[float, float, float]:
    from pxr import UsdGeom

    colours = UsdGeom.Gprim(prim).GetDisplayColorPrimvar().ComputeFlattened()
    red, green, blue = np.array(colours or [0.18] * 3).reshape(-1, 3).mean(axis=0).tolist()
    return red, green, blue
