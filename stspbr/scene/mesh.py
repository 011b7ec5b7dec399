"""Triangle meshes, each attribute with its own index."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Generic, Literal, TypeVar

import numpy as np

from stspbr.errors import StspbrError

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
