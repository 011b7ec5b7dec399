"""A finished asset as a problem again: mesh, maps, light and views, as bake or refine left them."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from stspbr.artifacts import Artifact
from stspbr.formats.gltf.reader import read_gltf
from stspbr.geometry.tangents import with_frames
from stspbr.optimize.appearance import MaterialMaps, TextureAppearance
from stspbr.optimize.camera_response import CameraResponse
from stspbr.optimize.geometry import FixedGeometry
from stspbr.optimize.lights import Light, in_units_of
from stspbr.optimize.reconstruction import Reconstruction
from stspbr.optimize.transport import TransportSchedule
from stspbr.scene import Asset, Capture, Material, Normalization
from stspbr.settings import BakeSettings, CoarseSettings, RefineSettings, parse_settings
from stspbr.stages.baked_maps import bake_fields
from stspbr.stages.cameras import CameraModels, camera_models, refined_capture
from stspbr.stages.fit import problem_parts
from stspbr.stages.session import Session
from stspbr.stages.state import continued, load_capture, load_normalization, make_fields
from stspbr.texture.atlas import TexelMap, rasterize_layout
from stspbr.transport.transport import Transport


@dataclass
class Baked:
    """The parts of a finished asset's problem.

    Attributes:
        asset: as it was written, with frames if a normal map needs them.
        capture: in its own units, with the cameras as the stage corrected them; normalization: to those of the problem.
        geometry, appearance: fixed mesh and its maps, in normalised units.
        transport, light: as the artifact's stage left them; the light's scale is settled.
        response: of the cameras, as the stage left it; None: none is fitted.
    """

    asset: Asset
    source: Artifact
    capture: Capture
    normalization: Normalization
    geometry: FixedGeometry
    appearance: TextureAppearance
    transport: Transport | None
    light: Light
    response: CameraResponse | None


def load_baked(session: Session, artifact: Artifact, learn_normal: bool = False, occluded: bool = False) -> Baked:
    """The asset of ``artifact`` (a bake, or its refinement), and all that it was fitted with.

    Args:
        learn_normal: whether the normal maps are trainable; occluded: a learned occlusion map darkens the shading.
    """
    lineage = session.lineage(artifact)
    coarse, source = lineage["coarse"], lineage["capture"]
    settings = parse_settings(CoarseSettings, coarse.settings, f"{coarse.path}: settings")
    capture = refined_capture(load_capture(source, session), artifact)
    asset = read_gltf(artifact.file("asset.glb"))
    normalization = load_normalization(lineage["specialize"])
    mesh = asset.mesh
    if any(material.normal is not None for material in asset.materials):
        mesh = with_frames(mesh)
    owner = mesh.face_material
    occluded = occluded and settings.fields.occlusion and artifact.settings.get("occlusion") == "learned"
    appearance = TextureAppearance(
        [_maps(material, session.device, occluded) for material in asset.materials],
        face_material=None if owner is None else torch.as_tensor(owner, dtype=torch.int64, device=session.device),
        roughness_range=settings.fields.roughness_range,
        learn_normal=learn_normal,
        joint=settings.fields.mode == "joint",
        backend=session.backend,
    ).to(session.device)
    cutoffs = [material.cutoff for material in asset.materials if material.opacity is not None]
    appearance.cutoff = cutoffs[0] if cutoffs else None
    transport, light = continued(artifact, source, capture, settings, session, normalization)
    light.settle()
    geometry = FixedGeometry(normalization.mesh(mesh), movable=False, laplacian=0.0, folding=0.0, device=session.device)
    response = camera_models(session, source, normalization.capture(capture), settings.camera, artifact).response
    asset = replace(asset, mesh=mesh)
    return Baked(asset, source, capture, normalization, geometry, appearance, transport, light, response)


def reopened(session: Session, artifact: Artifact) -> tuple[Baked, Reconstruction]:
    """The problem of a finished asset, whose transport has been looked at anew; nothing of it will be optimised."""
    baked = load_baked(session, artifact, occluded=True)
    where = f"{artifact.path}: settings"
    settings: BakeSettings | RefineSettings = (
        parse_settings(RefineSettings, artifact.settings, where)
        if artifact.stage == "refine"
        else parse_settings(BakeSettings, artifact.settings, where)
    )
    schedule = None if baked.transport is None else TransportSchedule(baked.transport, settings.optimize.iterations)
    capture = baked.normalization.capture(baked.capture)
    models = CameraModels(baked.response)
    problem = Reconstruction(
        **problem_parts(
            session, settings.optimize, capture, baked.geometry, baked.appearance, baked.light, schedule, models
        )
    )
    if schedule is not None:
        schedule.transport.refresh(problem.geometry.surface(), problem.material)
    return baked, problem


@torch.no_grad()
def first_maps(session: Session, artifact: Artifact, baked: Baked) -> list[Tensor]:
    """``[H, W, 5]`` per material: albedo, roughness and metallic that the stage of ``artifact`` began with.

    Those of the bake for its refinement; for a bake what the networks say, at the texels of the mesh as it is now.
    """
    lineage, device = session.lineage(artifact), session.device
    if artifact.stage == "refine":
        maps = [
            (own.albedo[0], own.reflectance[0]) for own in load_baked(session, lineage["bake"]).appearance.materials
        ]
        return [torch.cat([albedo, reflectance[..., :2]], dim=-1).detach() for albedo, reflectance in maps]
    specialized, where = lineage["specialize"], lineage["coarse"]
    settings = parse_settings(CoarseSettings, where.settings, f"{where.path}: settings")
    generator = torch.Generator().manual_seed(session.seed)  # of numbers that the file replaces
    fields = make_fields(settings.fields, session, generator, specialized.file("fields.safetensors"))
    capture = load_capture(baked.source, session)
    light = continued(specialized, baked.source, capture, settings, session, baked.normalization)[1]
    sides = [(own.albedo.shape[1], own.albedo.shape[2]) for own in baked.appearance.materials]
    out = []
    mesh = baked.normalization.mesh(baked.asset.mesh)
    for side, texels in zip(sides, texels_of(baked.asset, sides, device), strict=True):
        if texels is None:
            out.append(torch.zeros(*side, 5, device=device))
            continue
        found = bake_fields(fields, mesh, texels, with_normals=False)[0]
        out.append(torch.cat([in_units_of(light, found.albedo), found.reflectance[..., :2]], dim=-1))
    return out


def texels_of(asset: Asset, sides: list[tuple[int, int]], device: torch.device) -> list[TexelMap | None]:
    """The texels that each material's faces cover in maps of ``sides`` (height, width); None: it has no faces."""
    owner, out = asset.mesh.material_of, []
    for number, side in enumerate(sides):
        faces = (owner == number).nonzero()[0]
        uvs = asset.mesh.required("uvs") if len(faces) else None
        out.append(None if uvs is None else rasterize_layout(uvs, side, faces, 1, device))
    return out


def _maps(material: Material, device: torch.device, occluded: bool) -> MaterialMaps:
    """The trainable maps of a baked material."""

    def tensor(values):  # noqa: ANN001, ANN202
        return None if values is None else torch.as_tensor(values, dtype=torch.float32, device=device)

    albedo, roughness, metallic = (tensor(own) for own in (material.albedo, material.roughness, material.metallic))
    parts = [roughness, metallic]
    if occluded and material.occlusion is not None:
        parts.append(tensor(material.occlusion))
    return MaterialMaps(albedo, torch.cat(parts, dim=-1), tensor(material.normal), tensor(material.opacity))
