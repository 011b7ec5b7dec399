"""Assets to and from trimesh."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from stspbr.colour import linear_to_srgb, srgb_to_linear
from stspbr.errors import StspbrError
from stspbr.scene.attributes import unique_rows, unit
from stspbr.scene.material import Material
from stspbr.scene.mesh import Corners, Mesh
from stspbr.scene.orm import pack_orm, same_size

if TYPE_CHECKING:
    import trimesh

_UNSAID = (102, 102, 102)  # what trimesh's SimpleMaterial has without a colour


def from_trimesh(source: trimesh.Trimesh | trimesh.Scene) -> tuple[Mesh, list[Material], list[str]]:
    """One mesh (float64, not welded) of all triangle meshes of a scene, its materials, and notes.

    See :meth:`Asset.from_trimesh`.
    """
    import trimesh

    scene = source if isinstance(source, trimesh.Scene) else trimesh.Scene(source)
    notes: list[str] = []
    materials: dict[int, Material] = {}
    tables: dict[str, list[np.ndarray]] = {key: [] for key in ("positions", "faces", "uvs", "normals", "material")}
    count, has_uvs = 0, False
    for node in sorted(scene.graph.nodes_geometry):
        matrix, key = scene.graph[node]
        geometry = scene.geometry[key]
        if not isinstance(geometry, trimesh.Trimesh) or len(geometry.faces) == 0:
            notes.append(f"{key}: a {type(geometry).__name__} without triangles is left out")
            continue
        if geometry.faces.min() < 0 or geometry.faces.max() >= len(geometry.vertices):
            raise StspbrError(f"a face of {key} points past its {len(geometry.vertices)} vertices: export it again")
        visual: Any = geometry.visual
        textured = visual.kind == "texture" and visual.uv is not None
        identity = id(visual.material if visual.kind == "texture" else visual)
        if identity not in materials:
            materials[identity] = _from_visual(visual, textured, str(key), notes)
        if geometry.vertex_attributes:
            notes.append(f"{key}: the vertex attributes {', '.join(geometry.vertex_attributes)} are left out")
        if not np.allclose(matrix, np.eye(4)):
            geometry = geometry.copy()
            geometry.apply_transform(matrix)
        uvs = visual.uv[:, :2] * (1, -1) + (0, 1) if textured else np.zeros((len(geometry.vertices), 2))
        rows = (geometry.vertices, geometry.faces + count, uvs, unit(geometry.vertex_normals, (0.0, 0.0, 1.0)))
        for table, values in zip(tables.values(), rows, strict=False):
            table.append(np.asarray(values))
        tables["material"].append(np.full(len(geometry.faces), list(materials).index(identity)))
        count, has_uvs = count + len(geometry.vertices), has_uvs or textured
    if not count:
        raise StspbrError("there are no triangles: a point cloud or a drawing is not a surface")
    positions, faces, uvs, normals, owner = (np.concatenate(table) for table in tables.values())
    faces = faces.astype(np.int32)
    mesh = Mesh(
        positions.astype(np.float64),
        faces,
        Corners(uvs.astype(np.float32), faces) if has_uvs else None,
        Corners(normals, faces),
        face_material=owner,
    )
    if not np.isfinite(mesh.positions).all():
        raise StspbrError("there are vertices that are NaN or infinite")
    return mesh, list(materials.values()), notes


def to_trimesh(mesh: Mesh, materials: Sequence[Material], origin: np.ndarray) -> trimesh.Scene:
    """One ``Trimesh`` for each material, vertices split at seams; see :meth:`Asset.to_trimesh`."""
    import trimesh

    scene = trimesh.Scene()
    unused = np.zeros_like(mesh.faces)
    uv_faces, normal_faces = (unused if own is None else own.index for own in (mesh.uvs, mesh.normals))
    corners = np.stack([mesh.faces, uv_faces, normal_faces], axis=-1)
    for number, material in enumerate(materials):
        rows, index = unique_rows(corners[mesh.material_of == number].reshape(-1, 3))
        if len(rows) == 0:
            continue
        uv = None if mesh.uvs is None else mesh.uvs.values[rows[:, 1]].astype(np.float64) * (1, -1) + (0, 1)
        part = trimesh.Trimesh(
            mesh.positions[rows[:, 0]] + origin,
            index.reshape(-1, 3),
            vertex_normals=None if mesh.normals is None else mesh.normals.values[rows[:, 2]],
            visual=trimesh.visual.TextureVisuals(uv=uv, material=_to_pbr(material)),
            process=False,
        )
        scene.add_geometry(part, node_name=material.name, geom_name=material.name)
    return scene


def _to_pbr(material: Material) -> Any:
    from trimesh.visual.material import PBRMaterial

    out = PBRMaterial(name=material.name, roughnessFactor=1.0, metallicFactor=1.0)
    opacity = np.ones((1, 1, 1), np.float32) if material.opacity is None else material.opacity
    if material.albedo.shape[:2] == opacity.shape[:2] == (1, 1):
        out.baseColorFactor = [*np.clip(material.albedo[0, 0], 0, 1), float(np.clip(opacity[0, 0, 0], 0, 1))]
    elif material.opacity is None:
        out.baseColorTexture = _picture(linear_to_srgb(material.albedo))
    else:
        albedo, alpha = same_size([material.albedo, opacity])
        out.baseColorTexture = _picture(np.concatenate([linear_to_srgb(albedo), alpha], axis=-1))
    if material.opacity is not None:
        out.alphaMode, out.alphaCutoff, out.doubleSided = material.alpha_mode.upper(), material.cutoff, True
    packed = pack_orm(material.occlusion, material.roughness, material.metallic)
    if packed.shape[:2] == (1, 1):
        out.roughnessFactor, out.metallicFactor = (float(value) for value in packed[0, 0, 1:])
    else:
        out.metallicRoughnessTexture = _picture(packed)
    if material.occlusion is not None:
        out.occlusionTexture = _picture(packed)
    if material.normal is not None:
        out.normalTexture = _picture(material.normal * 0.5 + 0.5)
    return out


def _from_visual(visual: Any, textured: bool, key: str, notes: list[str]) -> Material:
    from trimesh.visual.material import MultiMaterial, PBRMaterial

    if visual.kind != "texture":
        colours = srgb_to_linear(np.atleast_2d(visual.vertex_colors)[:, :3] / 255.0)
        if visual.kind is None:  # trimesh's own default colour is no property of the mesh
            colours = np.full((1, 3), 0.5, np.float32)
        if np.ptp(colours, axis=0).any():
            notes.append(f"{key}: the colours of its vertices or faces are left out: their mean is the albedo")
        return Material(colours.mean(axis=0).reshape(1, 1, 3), _texel(0.5), _texel(0.0), name=key)
    given = visual.material
    if isinstance(given, MultiMaterial):
        notes.append(f"{key}: of several materials in one mesh the first is taken")
        given = given.materials[0]
    pbr = given if isinstance(given, PBRMaterial) else given.to_pbr()
    images = ("baseColorTexture", "metallicRoughnessTexture", "occlusionTexture", "normalTexture")
    colour, orm, occlusion, normal = (_pixels(getattr(pbr, image)) if textured else None for image in images)
    factor = np.full(3, 255) if pbr.baseColorFactor is None else pbr.baseColorFactor[:3]
    if colour is not None and pbr is not given and np.array_equal(given.diffuse[:3], _UNSAID):
        factor = np.full(3, 255)  # trimesh's own default would darken the texture
    albedo = factor.reshape(1, 1, 3) / 255.0
    # what glTF means by a factor that is absent; the materials of OBJ and COLLADA have no metallic
    roughness = 1.0 if pbr.roughnessFactor is None else pbr.roughnessFactor
    metallic = pbr.metallicFactor if pbr.metallicFactor is not None else float(pbr is given)
    return Material(
        _float32(albedo if colour is None else albedo * srgb_to_linear(colour)),
        _texel(roughness) if orm is None else _float32(roughness * orm[..., 1:2]),
        _texel(metallic) if orm is None else _float32(metallic * orm[..., 2:]),
        None if occlusion is None else _float32(occlusion[..., :1]),
        None if normal is None else normal * 2.0 - 1.0,
        given.name or key,
        *_opacity(pbr, textured),
    )


def _opacity(pbr: Any, textured: bool) -> tuple[np.ndarray | None, float | None]:
    """Opacity and cutoff as ``Material`` has them; None where the mode is opaque."""
    if pbr.alphaMode not in ("MASK", "BLEND"):
        return None, None
    factor = 1.0 if pbr.baseColorFactor is None else float(pbr.baseColorFactor[3]) / 255.0
    image = pbr.baseColorTexture if textured else None
    alpha = _texel(1.0) if image is None else np.asarray(image.convert("RGBA"), np.float32)[..., 3:] / 255.0
    cutoff = 0.5 if pbr.alphaCutoff is None else float(pbr.alphaCutoff)
    return _float32(factor * alpha), cutoff if pbr.alphaMode == "MASK" else None


def _float32(image: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(image, np.float32)


def _texel(value: float) -> np.ndarray:
    return np.full((1, 1, 1), value, np.float32)


def _picture(image: np.ndarray) -> Any:
    from PIL import Image

    return Image.fromarray(np.rint(np.clip(image, 0, 1) * 255).astype(np.uint8))


def _pixels(image: Any) -> np.ndarray | None:
    """``[H, W, 3]`` float32 in [0, 1] of a Pillow image."""
    return None if image is None else np.asarray(image.convert("RGB"), np.float32) / 255.0
