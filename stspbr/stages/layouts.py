"""Where the maps are baked: in one new atlas for a learned mesh, in each material's own layout for a given one."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial

import numpy as np
from torch import Tensor

from stspbr.geometry.creases import Bend, split_normals, supported_creases
from stspbr.geometry.tangents import with_frames
from stspbr.scene import Capture, Mesh, Node, Normalization
from stspbr.settings import BakeSettings
from stspbr.stages.baked_maps import shape_normals
from stspbr.stages.given_mesh import GivenMesh, with_layouts
from stspbr.stages.resurfacing import cleaned, remeshed
from stspbr.stages.session import Session
from stspbr.texture.atlas import TexelMap, rasterize_atlas, rasterize_layout
from stspbr.texture.resolution import resolution_of_views
from stspbr.texture.unwrap import atlas_report, unwrap

_SHARERS = (8, 64)  # least and most of the parts sharing a texel that are evaluated; small maps take more
_POINTS = 4_000_000  # evaluated points per material, if more than the least number of sharers


@dataclass
class Layout:
    """A mesh with UVs and frames, and the texels of each of its materials' maps.

    Attributes:
        mesh: in the normalised box.
        names: of the materials.
        texels: of each material's maps.
        normals: ``[N, 3]`` object-space normals at each material's texels, from a normal map that is part of the
            shape; None without one.
        positions: ``[V, 3]`` the given vertices in the object's own units, bit for bit; None if learned.
        nodes: indexed by ``mesh.face_node``.
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
        """Whether the mesh was given and does not change."""
        return self.positions is not None


def new_layout(
    mesh: Mesh, capture: Capture, settings: BakeSettings, session: Session, bend: Bend | None = None
) -> Layout:
    """A learned surface, cleaned, remeshed and unwrapped into one atlas; StspbrError if no face is left.

    Args:
        mesh: in the normalised box, as ``capture`` is, whose views say how fine automatic maps are.
        bend: offsets ``[N, 3]`` of the learned normals from the mesh's smooth ones at points ``[N, 3]``; None: none
            were learned.
    """
    prepared, report = session.ranks.first(lambda: _prepare_mesh(mesh, capture, settings, bend))
    texels = rasterize_atlas(
        prepared.required("uvs"), report["texture"]["resolution"], session.backend.rasterize, session.device
    )
    return Layout(prepared, ["material"], [texels], [None], report=report)


def given_layout(
    given: GivenMesh, normalization: Normalization, capture: Capture, settings: BakeSettings, session: Session
) -> Layout:
    """A given mesh's own layouts, with new UVs for the materials that have none; ``capture`` is normalised."""
    resolution = _resolution(normalization.mesh(given.mesh), capture, settings)[0]
    prepare = partial(with_layouts, given, resolution, settings.padding)
    mesh, sizes, renewed = session.ranks.first(prepare)
    positions, mesh = mesh.positions, normalization.mesh(mesh)
    texels, normals, report = [], [], []
    for number, material in enumerate(given.materials):
        own = np.flatnonzero(mesh.face_material == number)
        limit = min(max(_POINTS // (sizes[number][0] * sizes[number][1]), _SHARERS[0]), _SHARERS[1])
        found = rasterize_layout(mesh.required("uvs"), sizes[number], own, limit, session.device)
        kept, uvs = material.normal_map, "new" if number in renewed else "kept"
        texels.append(found)
        normals.append(None if kept is None else shape_normals(mesh, kept, found, session.backend))
        facts = {"resolution": list(sizes[number]), "uvs": uvs, "own_normal_map": kept is not None}
        report.append({"name": material.name, **facts})
    names = [material.name for material in given.materials]
    summary = {"materials": report, "nodes": len(given.nodes)}
    return Layout(mesh, names, texels, normals, positions, given.nodes, summary)


def _prepare_mesh(mesh: Mesh, capture: Capture, settings: BakeSettings, bend: Bend | None) -> tuple[Mesh, dict]:
    """Clean topology, UVs, normals that are smooth except at creases, and tangents."""
    if settings.remesh == "off":
        positions, faces, report = cleaned(mesh, settings.target_faces)
        sharp = np.zeros(faces.shape, bool)
    else:
        made, source, report = remeshed(mesh, settings.target_faces)
        positions, faces = made.positions, made.faces
        sharp = made.sharp & supported_creases(positions, faces, made.sharp, source.positions, source.faces, bend)
        report["remesh"]["split_edges"] = int(sharp.sum()) // 2
    normals = split_normals(positions, faces, sharp) if sharp.any() else None
    resolution, why = _resolution(Mesh(positions, faces), capture, settings)
    uvs = unwrap(positions, faces, resolution, settings.padding, normals=normals)
    report["texture"] = {"resolution": resolution, "because": why} | atlas_report(uvs, resolution)
    return with_frames(Mesh(positions, faces, uvs, normals)), report


def _resolution(mesh: Mesh, capture: Capture, settings: BakeSettings) -> tuple[int, str]:
    """Side of the maps, and why."""
    if settings.texture_resolution != "auto":
        return settings.texture_resolution, "it was given"
    return resolution_of_views(
        mesh, [frame.camera for frame in capture.frames], [frame.object_to_world for frame in capture.frames]
    )
