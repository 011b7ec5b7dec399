"""A given mesh: the parts that are kept for the export, and the layouts in which its maps are baked.

Coarse and specialize use the surface alone; UVs, material names and sizes, normal maps, nodes and the original
positions are stored in coarse's artifact for bake. Bake works on every material in its own original layout instead of
one resampled atlas: nothing is lost, and parts that share texels are fitted together.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file, save_file

from stspbr.artifacts import Artifact
from stspbr.errors import StspbrError
from stspbr.formats.assets import read_asset
from stspbr.geometry.tangents import with_frames
from stspbr.scene import Asset, Corners, Material, Mesh, Node
from stspbr.settings import CoarseSettings
from stspbr.stages.state import load_mesh, save_json, save_mesh
from stspbr.texture.atlas import FARTHEST_UV
from stspbr.texture.unwrap import MAX_FACES, unwrap


@dataclass
class GivenMaterial:
    """The parts of a given material that are kept.

    Attributes:
        name: as in the file.
        size: ``(H, W)`` of its textures, the largest of each side; None without textures.
        normal_map: ``[H, W, 3]`` tangent space, part of the shape; None if there is none, or it is to be learned anew.
    """

    name: str
    size: tuple[int, int] | None = None
    normal_map: np.ndarray | None = None


@dataclass
class GivenMesh:
    """A given mesh in its own units; its ``face_material`` and ``face_node`` are indices into the lists."""

    mesh: Mesh
    materials: list[GivenMaterial]
    nodes: list[Node] = field(default_factory=list)

    @property
    def normal_maps(self) -> list[np.ndarray | None]:
        """The normal map of each material."""
        return [material.normal_map for material in self.materials]


def in_world_of(asset: Asset, original_from_world: np.ndarray | None, name: str) -> Asset:
    """``asset`` in a capture's world: one far from the origin is in the world that the capture's poses came in.

    Raises:
        StspbrError: the capture's poses were near the origin.
    """
    if not asset.origin.any():
        return asset
    moved = asset if original_from_world is None else asset.transformed(np.linalg.inv(original_from_world))
    if moved.origin.any():
        place = ", ".join(f"{value:g}" for value in asset.origin)
        raise StspbrError(f"{name} lies about ({place}), far from what the capture shows: move it there")
    return moved


def read_given_mesh(settings: CoarseSettings, original_from_world: np.ndarray | None = None) -> GivenMesh | None:
    """The mesh that the settings name, in the world of the capture; None if they name none.

    Args:
        original_from_world: of the capture.

    Raises:
        StspbrError: the file is missing or broken, has no triangles, has UVs that bake could not use, or has no UVs
            and too many triangles to unwrap.
    """
    if settings.mesh is None:
        return None
    asset = read_asset(settings.mesh, settings.mesh_textures)
    asset = in_world_of(asset, original_from_world, str(settings.mesh))
    if len(asset.mesh.faces) == 0:
        raise StspbrError(f"{settings.mesh}: the mesh is empty")
    if asset.mesh.uvs is not None and not (np.abs(asset.mesh.uvs.values) <= FARTHEST_UV).all():
        raise StspbrError(f"{settings.mesh}: some UVs are NaN, infinite or beyond a million: unwrap the mesh again")
    given = given_mesh(asset, keep_normal_maps=settings.mesh_normal_map == "keep")
    for number, material in enumerate(given.materials):
        count = int((given.mesh.material_of == number).sum())
        if count > MAX_FACES and not has_layout(given.mesh, number):
            raise StspbrError(
                f"{settings.mesh}: {material.name} has no UVs and {count} triangles, but at most {MAX_FACES} can be "
                "unwrapped: give it UVs or fewer triangles"
            )
    return given


def given_mesh(asset: Asset, keep_normal_maps: bool) -> GivenMesh:
    """The parts of ``asset`` that are kept; tangent frames are computed if a kept normal map needs them."""
    mesh = asset.mesh
    used = np.unique(mesh.material_of)  # a material without faces has no maps to fill
    mesh = replace(mesh, face_material=np.searchsorted(used, mesh.material_of).astype(np.int32))
    materials = []
    for number, material in enumerate(asset.materials[k] for k in used):
        size = normal_map = None
        if has_layout(mesh, number):
            size = _texture_size(material)
            normal_map = material.normal if keep_normal_maps else None
        materials.append(GivenMaterial(material.name, size, normal_map))
    if any(material.normal_map is not None for material in materials):
        mesh = with_frames(mesh)
    return GivenMesh(mesh, materials, asset.nodes)


def has_layout(mesh: Mesh, material: int) -> bool:
    """Whether a material's faces have UVs that are not all one point."""
    if mesh.uvs is None:
        return False
    used = mesh.uvs.values[mesh.uvs.index[mesh.face_material == material]].reshape(-1, 2)
    return len(used) > 0 and bool((used != used[0]).any())


def with_layouts(given: GivenMesh, resolution: int, padding: int) -> tuple[Mesh, list[tuple[int, int]], list[int]]:
    """The given mesh, ready to be baked: new UVs for materials without, tangents everywhere.

    Args:
        resolution: side of the maps of materials without textures; padding: texels between new charts.

    Returns:
        The mesh in its own units; ``(H, W)`` of each material's maps; the materials whose faces got new UVs, each
        unwrapped into its own unit square.
    """
    mesh, renewed = given.mesh, []
    sizes = [material.size or (resolution, resolution) for material in given.materials]
    for number in range(len(given.materials)):
        own = np.flatnonzero(mesh.face_material == number)
        if len(own) and not has_layout(mesh, number):
            mesh = _unwrapped(mesh, own, resolution, padding)
            renewed.append(number)
    return with_frames(mesh), sizes, renewed


def save_given_mesh(given: GivenMesh, folder: Path) -> None:
    """Write ``given.safetensors`` (the mesh in its own units), ``given_normals.safetensors`` and ``given.json``."""
    save_mesh(given.mesh, folder / "given.safetensors")
    normals = {str(k): np.ascontiguousarray(n) for k, n in enumerate(given.normal_maps) if n is not None}
    if normals:
        save_file(normals, folder / "given_normals.safetensors")
    nodes = [
        {"name": n.name, "parent": n.parent, "mesh": n.mesh, "local_to_parent": np.asarray(n.local_to_parent).tolist()}
        for n in given.nodes
    ]
    materials = [{"name": m.name, "size": m.size} for m in given.materials]
    save_json({"materials": materials, "nodes": nodes}, folder / "given.json")


def load_given_mesh(coarse: Artifact) -> GivenMesh | None:
    """The inverse of ``save_given_mesh``; None if the coarse stage learned the geometry."""
    if "given.json" not in coarse.files:
        if coarse.settings.get("mesh") is not None:
            raise StspbrError(f"{coarse.path} lacks given.json; an older version wrote it: run `stspbr coarse` again")
        return None
    data = json.loads(coarse.file("given.json").read_text(encoding="utf-8"))
    normals = {}
    if "given_normals.safetensors" in coarse.files:
        normals = load_file(coarse.file("given_normals.safetensors"))
    materials = [
        GivenMaterial(entry["name"], entry["size"] and tuple(entry["size"]), normals.get(str(number)))
        for number, entry in enumerate(data["materials"])
    ]
    nodes = [
        Node(entry["name"], np.array(entry["local_to_parent"], np.float64), entry["parent"], entry["mesh"])
        for entry in data["nodes"]
    ]
    return GivenMesh(load_mesh(coarse.file("given.safetensors")), materials, nodes)


def _texture_size(material: Material) -> tuple[int, int] | None:
    maps = (material.albedo, material.roughness, material.metallic, material.occlusion, material.normal)
    shapes = [m.shape[:2] for m in maps if m is not None and m.shape[:2] != (1, 1)]
    return (max(h for h, _ in shapes), max(w for _, w in shapes)) if shapes else None


def _unwrapped(mesh: Mesh, own: np.ndarray, resolution: int, padding: int) -> Mesh:
    """``mesh`` with new UVs for the faces ``own``; their tangents become 0, to be computed later."""
    used, faces = np.unique(mesh.faces[own], return_inverse=True)
    charts = unwrap(mesh.positions[used], faces.reshape(-1, 3), resolution, padding)
    old = mesh.uvs or Corners(np.zeros((1, 2), np.float32), np.zeros_like(mesh.faces))
    absent = Corners(np.zeros((1, 4), np.float32), np.zeros_like(charts.index))
    tangents = mesh.tangents and _renewed(mesh.tangents, own, absent)
    return replace(mesh, uvs=_renewed(old, own, charts), tangents=tangents)


def _renewed(corners: Corners[np.ndarray], own: np.ndarray, new: Corners[np.ndarray]) -> Corners[np.ndarray]:
    """``corners`` with ``new`` ones for the faces ``own``."""
    index = corners.index.copy()
    index[own] = new.index + len(corners.values)
    return Corners(np.concatenate([corners.values, new.values]), index)
