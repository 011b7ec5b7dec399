"""Refine: the baked maps against the photographs by path tracing, on the fixed mesh and its UVs."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from stspbr.artifacts import Artifact
from stspbr.errors import StspbrError
from stspbr.fields.material_values import METALLIC, ROUGHNESS
from stspbr.geometry.topology import mesh_report
from stspbr.metrics.image import psnr_srgb
from stspbr.optimize.appearance import TextureAppearance
from stspbr.optimize.geometry import FixedGeometry
from stspbr.optimize.lights import LearnedLight, Light
from stspbr.optimize.path_refinement import PathRefinement
from stspbr.optimize.transport import TransportSchedule
from stspbr.optimize.views import FULL_COVERAGE
from stspbr.render.mitsuba_bsdf import require_mitsuba
from stspbr.render.mitsuba_scene import Floor
from stspbr.render.path_gradients import PathGradients
from stspbr.scene import Asset, Capture, EnvironmentLight, Frame
from stspbr.settings import RefineSettings
from stspbr.stages.baked_maps import dilated
from stspbr.stages.baked_problem import load_baked
from stspbr.stages.cameras import CameraModels, copy_cameras, write_cameras
from stspbr.stages.confidence_files import settled, write_confidence
from stspbr.stages.fit import fit, problem_parts, write_asset_files
from stspbr.stages.session import Session, on_first_rank
from stspbr.texture.atlas import rasterize_layout
from stspbr.transport.transport import Transport

_LIGHT_WIDTH = 1024  # of a learned light, as it is exported
_CHECKED = 4  # held-out views that are path-traced before and after


@on_first_rank
def run_refine(session: Session, settings: RefineSettings) -> Artifact:
    """Refine the newest bake; mesh, UVs and normals stay.

    Writes what ``bake`` writes: ``asset.glb``, ``obj/``, ``light.hdr``, ``light.safetensors`` (if learned) and
    ``metrics.json``, here with the PSNR of path-traced held-out views before and after, and how sure the maps are.

    Raises:
        StspbrError: Mitsuba is missing, or the capture shows no shadows, because a rasteriser rendered it.
    """
    require_mitsuba("stspbr refine")
    bake = session.parent("bake")
    source = session.capture_of(bake)
    if source.settings.get("renderer") == "raster":
        raise StspbrError(
            f"{source.path} was rendered without shadows and bounces (renderer=raster): refine would bend the "
            "materials to shadows that the images do not show; capture with --renderer mitsuba, or keep the bake"
        )
    baked = load_baked(session, bake, settings.normals)
    asset, capture, geometry, appearance = baked.asset, baked.capture, baked.geometry, baked.appearance
    transport, light = baked.transport, baked.light
    if any(material.opacity is not None for material in asset.materials):
        raise StspbrError(f"{bake.path} has cut-outs (fields.alpha), which refine does not fit: keep the bake")
    if light.flash is not None:
        raise StspbrError(f"{bake.path} is lit by a flash, which refine does not path-trace: keep the bake")
    environment = _environment(light, capture, session)
    floor = _floor(transport, light, geometry)
    schedule = None if transport is None else TransportSchedule(transport, settings.optimize.iterations)
    models = CameraModels(baked.response)  # poses are known by now: the path tracer's are fixed
    parts = problem_parts(
        session, settings.optimize, baked.normalization.capture(capture), geometry, appearance, light, schedule, models
    )
    reconstruction = PathRefinement(
        **parts,
        frames=capture.split("train"),
        tracer=PathGradients(asset, EnvironmentLight(environment().detach().cpu().numpy()), settings.max_depth, floor),
        environment=environment,
        refine=settings,
    )
    frames = _few(capture.split("test"))
    before = _psnr(reconstruction, frames, settings.paths)

    def write(folder: Path) -> dict:
        known, fill = settled(reconstruction, settings.confidence)  # the rounds move what bake has filled, too
        refined = _asset(asset, appearance, settings.normals)
        write_asset_files(folder, refined, light, capture, settings.texture_bits)
        if known is not None and settings.confidence.maps:
            write_confidence(folder, reconstruction, known, [own.name for own in asset.materials])
        write_cameras(folder, reconstruction, baked.normalization.scale)
        copy_cameras(bake, folder)
        return {
            "mesh": mesh_report(asset.mesh.positions, asset.mesh.faces),
            **fill,
            "path_traced": {
                "views": len(frames),
                "psnr_before": before,
                "psnr": _psnr(reconstruction, frames, settings.paths),
            },
        }

    return fit(session, "refine", settings, bake, reconstruction, write, reconstruction.corrections())


def _environment(light: Light, capture: Capture, session: Session):  # noqa: ANN202
    """The present light as a lat-long tensor; a learned one is differentiable."""
    if isinstance(light, LearnedLight):
        return lambda: light.cube.latlong(_LIGHT_WIDTH, session.backend.texture)
    if capture.light is None:
        raise StspbrError("the light is known, but the capture stores none")
    fixed = torch.as_tensor(np.asarray(capture.light.radiance, np.float32), device=session.device)
    return lambda: fixed


def _floor(transport: Transport | None, light: Light, geometry: FixedGeometry) -> Floor | None:
    """The floor that ``bake`` learned, where the path tracer has its world; None: there is none."""
    if transport is None or transport.ground is None or light.floor is None:
        return None
    surface = geometry.surface()
    used = surface.positions[surface.faces.long()].detach()
    # what is under a floor is on it for our shading; a path tracer would not see it
    height = min(transport.ground.world_height(used), transport.ground.world_lowest(used))
    return Floor(height, light.floor.grey.tolist())


def _asset(asset: Asset, appearance: TextureAppearance, normals: bool) -> Asset:
    """``asset`` with the present maps, dilated outside of the charts; ``normals``: with the normal maps, too."""
    materials, owner = [], asset.mesh.material_of
    for number, (material, own) in enumerate(zip(asset.materials, appearance.materials, strict=True)):
        faces = np.flatnonzero(owner == number)
        if len(faces):
            albedo, reflectance = own.albedo[0].detach(), own.reflectance[0].detach()
            found = rasterize_layout(
                asset.mesh.required("uvs"), (albedo.shape[0], albedo.shape[1]), faces, 1, albedo.device
            )
            normal = material.normal
            if normals and own.normal is not None:
                normal = dilated(own.normal[0].detach(), found)
            material = replace(
                material, albedo=dilated(albedo, found), roughness=dilated(reflectance[..., ROUGHNESS], found),
                metallic=dilated(reflectance[..., METALLIC], found),
                normal=normal,
            )  # fmt: skip
        materials.append(material)
    return replace(asset, materials=materials)


def _few(frames: list[Frame]) -> list[Frame]:
    return frames[:: max(1, len(frames) // _CHECKED)][:_CHECKED]


def _psnr(reconstruction: PathRefinement, frames: list[Frame], paths: int) -> float | None:
    """Mean PSNR of path-traced views, on sRGB over what the target's mask fills; None without views."""
    rendered = [
        reconstruction.photographed(frame, image, np.where(frame.alpha > FULL_COVERAGE, 1.0, 0.0).astype(np.float32))
        for frame, image in zip(frames, reconstruction.path_traced(frames, paths), strict=True)
    ]
    # at the outline a floor shows beside the object
    values = [
        psnr_srgb(f.image, image, np.where(f.alpha > FULL_COVERAGE, f.alpha, 0.0))
        for f, image in zip(frames, rendered, strict=True)
    ]
    return float(np.mean(values)) if values else None
