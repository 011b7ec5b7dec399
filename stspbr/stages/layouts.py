"""Where the maps are baked: one new atlas for a mesh that was learned, every material's own layout for a given one."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from torch import Tensor

from stspbr.errors import StspbrError
from stspbr.geometry.tangents import with_frames
from stspbr.scene import Mesh, Node, Normalization
from stspbr.settings import BakeSettings
from stspbr.stages.baked_maps import shape_normals
from stspbr.stages.given_mesh import GivenMesh, with_layouts
from stspbr.stages.session import Session
from stspbr.texture.atlas import TexelMap, rasterize_atlas, rasterize_layout
from stspbr.texture.cleanup import clean
from stspbr.texture.unwrap import unwrap

_SHARERS = (8, 64)  # of the parts that share a texel, so many are asked: at least, and at most where maps are small
_POINTS = 4_000_000  # a material, beyond the least: the fields are evaluated at each


@dataclass
class Layout:
    """A mesh with UVs and frames, and the texels of each of its materials' maps.

    Attributes:
        mesh: in the normalised box.
        names: of the materials.
        texels: of each material's maps.
        normals: ``[N, 3]`` object-space normals at each material's texels, of a normal map that is part of the shape;
            None where it has none.
        positions: ``[V, 3]`` the vertices in the object's own units, bit for bit as they were given; None if learned.
        nodes: that ``mesh.face_node`` points into.
        report: what was done, for ``metrics.json``.
    """

    mesh: Mesh
    names: list[str]
    texels: list[TexelMap]
    normals: list[Tensor | None]
    positions: np.ndarray | None = None
    nodes: list[Node] = field(default_factory=list)
    report: dict = field(default_factory=dict)

    @property
    def given(self) -> bool:
        """Whether the mesh was given, and stays as it is."""
        return self.positions is not None


def new_layout(mesh: Mesh, settings: BakeSettings, session: Session) -> Layout:
    """A learned surface cleaned and unwrapped into one atlas; StspbrError where nothing of it is left."""
    prepared, report = session.ranks.first(lambda: _prepare_mesh(mesh, settings))
    uvs, resolution = prepared.required("uvs"), settings.texture_resolution
    texels = rasterize_atlas(uvs, resolution, session.backend.rasterize, session.device)
    return Layout(prepared, ["material"], [texels], [None], report=report)


def given_layout(given: GivenMesh, normalization: Normalization, settings: BakeSettings, session: Session) -> Layout:
    """A given mesh's own layouts, with new UVs for the materials that have none."""
    mesh, sizes, renewed = session.ranks.first(
        lambda: with_layouts(given, settings.texture_resolution, settings.padding)
    )
    positions, mesh = mesh.positions, normalization.mesh(mesh)
    texels, normals, report = [], [], []
    for number, material in enumerate(given.materials):
        own = np.flatnonzero(mesh.face_material == number)
        limit = min(max(_POINTS // (sizes[number][0] * sizes[number][1]), _SHARERS[0]), _SHARERS[1])
        found = rasterize_layout(mesh.required("uvs"), sizes[number], own, limit, session.device)
        kept = material.normal_map
        texels.append(found)
        normals.append(None if kept is None else shape_normals(mesh, kept, found, session.backend))
        report.append(
            {
                "name": material.name,
                "resolution": list(sizes[number]),
                "uvs": "new" if number in renewed else "kept",
                "own_normal_map": kept is not None,
            }
        )
    names = [material.name for material in given.materials]
    summary = {"materials": report, "nodes": len(given.nodes)}
    return Layout(mesh, names, texels, normals, positions, given.nodes, summary)


def _prepare_mesh(mesh: Mesh, settings: BakeSettings) -> tuple[Mesh, dict]:
    """Clean topology, UVs, smooth normals and tangents."""
    positions, faces, report = clean(mesh.positions, mesh.faces, settings.target_faces)
    if len(faces) == 0:
        raise StspbrError("nothing is left of the mesh after clean-up: the coarse stage found no solid surface")
    uvs = unwrap(positions, faces, settings.texture_resolution, settings.padding)
    return with_frames(Mesh(positions, faces, uvs)), report
