"""Meshes, materials and the two together."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Generic, Literal, TypeVar

import numpy as np

from stspbr.errors import StspbrError

if TYPE_CHECKING:
    import trimesh

Array = TypeVar("Array")


@dataclass(frozen=True)
class Corners(Generic[Array]):
    """An attribute of the triangles' corners, as NumPy arrays or as tensors.

    Attributes:
        values: ``[N, C]``.
        index: ``[F, 3]`` int32: each corner's row in ``values``.
    """

    values: Array
    index: Array


@dataclass
class Mesh:
    """A triangle mesh with its own index for each corner attribute, as OBJ has it.

    Positions are *welded* (one vertex a point in space, seams notwithstanding), so that topology,
    Laplacian and silhouettes see the surface; UVs, normals and tangents split where they must.

    Attributes:
        positions: ``[V, 3]`` float32, object space.
        faces: ``[F, 3]`` int32 into ``positions``, counter-clockwise from outside.
        uvs: ``[T, 2]`` float32, glTF's convention: (0, 0) is the image's top-left corner; or None.
        normals: ``[N, 3]`` float32 unit; or None (then: area-weighted smooth normals of ``positions``).
        tangents: ``[M, 4]`` float32, glTF's TANGENT: unit tangent and handedness (bitangent = w · n × t); or None.
            A row of zeros where the file gives none: ``geometry.tangents.with_frames`` computes it.
        face_material: ``[F]`` int32 into the asset's materials; or None (all 0).
        face_node: ``[F]`` int32 into the asset's nodes: the part that each triangle belongs to; or None (no parts).
    """

    positions: np.ndarray
    faces: np.ndarray
    uvs: Corners[np.ndarray] | None = None
    normals: Corners[np.ndarray] | None = None
    tangents: Corners[np.ndarray] | None = None
    face_material: np.ndarray | None = None
    face_node: np.ndarray | None = None

    def attributes(self) -> Iterator[tuple[str, Corners[np.ndarray]]]:
        """Name and corners of each attribute that the mesh has, of ``uvs``, ``normals`` and ``tangents``."""
        for name, corners in (("uvs", self.uvs), ("normals", self.normals), ("tangents", self.tangents)):
            if corners is not None:
                yield name, corners

    @property
    def material_of(self) -> np.ndarray:
        """``[F]``: ``face_material``, or 0 for all faces."""
        return np.zeros(len(self.faces), np.int32) if self.face_material is None else self.face_material

    @property
    def node_of(self) -> np.ndarray:
        """``[F]``: ``face_node``, or 0 for all faces."""
        return np.zeros(len(self.faces), np.int32) if self.face_node is None else self.face_node

    def required(self, name: Literal["uvs", "normals", "tangents"]) -> Corners[np.ndarray]:
        """The attribute ``name``; StspbrError if the mesh lacks it."""
        corners = dict(self.attributes()).get(name)
        if corners is None:
            raise StspbrError(f"the mesh has no {name}")
        return corners

    def with_corners(self, change: Callable[[Corners[np.ndarray]], Corners[np.ndarray]]) -> Mesh:
        """The mesh with ``change`` applied to its positions and faces, and to each attribute that it has."""
        points = change(Corners(self.positions, self.faces))
        changed = {name: change(corners) for name, corners in self.attributes()}
        uvs, normals, tangents = (changed.get(name) for name in ("uvs", "normals", "tangents"))
        return replace(self, positions=points.values, faces=points.index, uvs=uvs, normals=normals, tangents=tangents)

    def of_faces(self, chosen: np.ndarray) -> Mesh:
        """The triangles ``chosen`` (``[F]`` bool, or their numbers) over the same tables of values."""
        out = self.with_corners(lambda corners: Corners(corners.values, corners.index[chosen]))
        material, node = (None if own is None else own[chosen] for own in (self.face_material, self.face_node))
        return replace(out, face_material=material, face_node=node)


@dataclass
class Material:
    """glTF 2.0 metallic-roughness textures with their factors multiplied in. Row 0 is the top (v = 0).

    Attributes:
        albedo: ``[H, W, 3]`` float32 linear in [0, 1].
        roughness: ``[H, W, 1]`` float32 perceptual roughness in [0, 1] (α = roughness²).
        metallic: ``[H, W, 1]`` float32 in [0, 1].
        occlusion: ``[H, W, 1]`` float32, 1 = open; or None.
        normal: ``[H, W, 3]`` float32 tangent space, components in [−1, 1], +Y up (OpenGL); or None.

    Each map may have its own size; a constant is a 1×1 map.
    """

    albedo: np.ndarray
    roughness: np.ndarray
    metallic: np.ndarray
    occlusion: np.ndarray | None = None
    normal: np.ndarray | None = None
    name: str = "material"

    @classmethod
    def of(
        cls,
        albedo: np.ndarray,
        roughness: np.ndarray,
        metallic: np.ndarray,
        occlusion: np.ndarray | None = None,
        normal: np.ndarray | None = None,
        name: str = "material",
    ) -> Material:
        """From arrays of any type and layout, as contiguous float32."""
        a, r, m = (np.ascontiguousarray(image, np.float32) for image in (albedo, roughness, metallic))
        o, n = (None if image is None else np.ascontiguousarray(image, np.float32) for image in (occlusion, normal))
        return cls(a, r, m, o, n, name)

    def maps(self) -> list[np.ndarray]:
        """The maps that the material has."""
        every = (self.albedo, self.roughness, self.metallic, self.occlusion, self.normal)
        return [image for image in every if image is not None]


def is_constant(image: np.ndarray) -> bool:
    """Whether a map has a single texel."""
    return image.shape[:2] == (1, 1)


@dataclass
class Node:
    """One node of an asset's hierarchy, as glTF has it. The mesh's positions have all transforms applied.

    Attributes:
        name: as the file has it.
        local_to_parent: ``[4, 4]`` float64.
        parent: index of the parent among the asset's nodes, always below its own; None for a root.
        mesh: name of the mesh that hangs here; None where there is none.
    """

    name: str
    local_to_parent: np.ndarray
    parent: int | None = None
    mesh: str | None = None


@dataclass
class Asset:
    """A mesh, the materials that its ``face_material`` and the nodes that its ``face_node`` point into."""

    mesh: Mesh
    materials: list[Material]
    name: str = "asset"
    nodes: list[Node] = field(default_factory=list)
    extras: dict = field(default_factory=dict)

    def to_trimesh(self) -> trimesh.Scene:
        """A trimesh scene with one mesh for each material: UVs (v upwards), normals and a ``PBRMaterial`` each.

        Vertices are split at seams. Colours and maps have 8 bits there; tangents and nodes stay behind.
        """
        from stspbr.formats.trimesh_exchange import to_trimesh

        return to_trimesh(self)

    @classmethod
    def from_trimesh(cls, source: trimesh.Trimesh | trimesh.Scene, name: str = "asset") -> Asset:
        """All triangle meshes of a trimesh scene, transforms applied, with their UVs, vertex normals and materials.

        What has no place here, such as colours that differ from vertex to vertex, is named in ``extras["notes"]``.

        Raises:
            StspbrError: no triangles, or vertices that are not finite.
        """
        from stspbr.formats.trimesh_exchange import from_trimesh

        return from_trimesh(source, name)
