"""What is textured: a given mesh with its layouts, the parts that prompts speak of, and the asset that comes out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from stspbr.errors import StspbrError, did_you_mean
from stspbr.fields.material_values import METALLIC, ROUGHNESS
from stspbr.optimize.distill import Distillation
from stspbr.optimize.geometry import FixedGeometry
from stspbr.optimize.texture_views import seen_texels
from stspbr.priors.vocabulary import Vocabulary
from stspbr.scene import Asset, Corners, Material, Mesh, Normalization
from stspbr.settings import TextureSettings
from stspbr.stages.baked_maps import at_texels, dilated
from stspbr.stages.given_mesh import GivenMesh, given_mesh, with_layouts
from stspbr.stages.prior import load_mesh_asset
from stspbr.stages.session import Session
from stspbr.texture.atlas import FARTHEST_UV, TexelMap, rasterize_layout


@dataclass
class Subject:
    """The mesh, its layouts, and the parts that the prompts speak of.

    Attributes:
        asset: as it was read; given: the parts of it that are kept.
        geometry: the mesh with frames in the unit ball about the origin; final_mesh: the same in its own units.
        texels: of each material's maps; places: their numbers ``[N]`` and points ``[N, 3]`` in the unit ball.
        prompts: of each part; part_of: ``[M]`` the part of each material.
        renewed: the materials that got new UVs.
    """

    asset: Asset
    given: GivenMesh
    geometry: FixedGeometry
    texels: list[TexelMap]
    places: list[tuple[Tensor, Tensor]]
    final_mesh: Mesh
    prompts: list[str]
    part_of: list[int]
    renewed: list[int]


def read_subject(session: Session, settings: TextureSettings) -> Subject:
    """The mesh ready to be textured; StspbrError for one that cannot be, and for parts that it does not have."""
    asset = load_mesh_asset(settings.mesh)
    uvs = asset.mesh.uvs
    if uvs is not None and not (np.abs(uvs.values) <= FARTHEST_UV).all():
        raise StspbrError(f"{settings.mesh}: some UVs are NaN, infinite or beyond a million: unwrap the mesh again")
    given = given_mesh(asset, keep_normal_maps=True)
    for material in given.materials:
        material.size = None  # maps are new, and of one size
    mesh, _, renewed = with_layouts(given, settings.size, settings.padding)
    used = mesh.positions[np.unique(mesh.faces)].astype(np.float64)
    centre = 0.5 * (used.min(0) + used.max(0))
    normalization = Normalization(centre, float(np.linalg.norm(used - centre, axis=1).max()))
    inner = normalization.mesh(mesh)
    geometry = FixedGeometry(
        inner, movable=False, laplacian=0.0, folding=0.0, device=session.device, normal_maps=given.normal_maps
    )
    texels, places = [], []
    for number in range(len(given.materials)):
        own = np.flatnonzero(inner.material_of == number)
        found = rasterize_layout(inner.required("uvs"), (settings.size, settings.size), own, 1, session.device)
        texels.append(found)
        places.append((found.texel, at_texels(found, Corners(inner.positions, inner.faces))))
    names = [material.name for material in given.materials]
    prompts, part_of = parts_of(settings, names)
    return Subject(asset, given, geometry, texels, places, mesh, prompts, part_of, renewed)


def parts_of(settings: TextureSettings, names: Sequence[str]) -> tuple[list[str], list[int]]:
    """The prompts, and which of them each material ``names`` is made of.

    Raises:
        StspbrError: a part that does not exist, one that is named twice, or a part without a prompt.
    """
    found: dict[str | None, str] = dict(Vocabulary.read().split(settings.prompt, names))
    for entry in settings.part:
        name, separator, prompt = entry.partition("=")
        if not separator or not prompt.strip():
            raise StspbrError(f"--part {entry}: write NAME=PROMPT, e.g. handle='black plastic'")
        if name not in names:
            near = did_you_mean(name, names) or f"; there are {', '.join(names)}"
            raise StspbrError(f"--part {name}: the mesh has no material of this name{near}")
        if name in found:
            raise StspbrError(f"--part {name}: this part already has a prompt, {found[name]!r}")
        found[name] = prompt.strip()
    bare = [name for name in names if name not in found]
    if bare and None not in found:
        raise StspbrError(f"--prompt says nothing of {', '.join(bare)}: add what all other parts are made of")
    keys: list[str | None] = [key for key in found if key is not None or bare]
    prompts = [found[key] for key in keys]
    return prompts, [keys.index(name) if name in found else keys.index(None) for name in names]


@torch.no_grad()
def textured(
    session: Session, settings: TextureSettings, subject: Subject, problem: Distillation
) -> tuple[Asset, dict[str, Any]]:
    """The asset with its new maps, whose unseen texels are like their neighbours; and how many these are."""
    seen = seen_texels(subject.geometry.surface(), problem.appearance, session.backend, min(settings.size, 512))
    materials, unseen, covered = [], 0, 0
    for number, (own, texels) in enumerate(zip(problem.appearance.materials, subject.texels, strict=True)):
        known = seen[number].flatten()[texels.texel]
        covered, unseen = covered + len(texels.texel), unseen + int((~known).sum())
        visible = _only(texels, known) if bool(known.any()) else texels
        reflectance = dilated(own.reflectance[0].detach(), visible)
        normal = subject.given.materials[number].normal_map
        if own.normal is not None:
            normal = dilated(own.normal[0].detach(), visible)
        materials.append(
            Material(
                albedo=dilated(own.albedo[0].detach(), visible), roughness=reflectance[..., ROUGHNESS],
                metallic=reflectance[..., METALLIC], normal=normal, name=subject.given.materials[number].name,
            )
        )  # fmt: skip
    asset = Asset(subject.final_mesh, materials, subject.asset.name, subject.given.nodes, origin=subject.asset.origin)
    return asset, {"texels": covered, "unseen": unseen, "unseen_share": unseen / max(covered, 1)}


def part_names(subject: Subject) -> list[str]:
    """Names of the parts: of their materials, joined."""
    names = [material.name for material in subject.given.materials]
    return [
        " + ".join(name for name, own in zip(names, subject.part_of, strict=True) if own == part)
        for part in range(len(subject.prompts))
    ]


def _only(texels: TexelMap, rows: Tensor) -> TexelMap:
    """The rows of a texel map."""
    return replace(
        texels, texel=texels.texel[rows], triangle=texels.triangle[rows], barycentric=texels.barycentric[rows],
        inside=texels.inside[rows],
    )  # fmt: skip
