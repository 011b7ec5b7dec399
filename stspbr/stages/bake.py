"""Bake: a clean mesh with UVs, the fields as dilated maps, their refinement against the images, and the asset."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from stspbr.artifacts import Artifact
from stspbr.errors import StspbrError
from stspbr.formats.gltf import read_gltf
from stspbr.formats.gltf_writer import write_glb
from stspbr.formats.images import write_hdr
from stspbr.formats.obj import write_obj
from stspbr.geometry.topology import mesh_report
from stspbr.metrics.image import psnr_srgb
from stspbr.optimize.appearance import TextureAppearance
from stspbr.optimize.lights import LearnedLight, in_units_of
from stspbr.optimize.reconstruction import Reconstruction
from stspbr.optimize.surfaces import FixedGeometry
from stspbr.optimize.views import ViewSet
from stspbr.recipe import BakeSettings, CoarseSettings, parse_settings
from stspbr.render.asset_renderer import AssetRenderer
from stspbr.scene import Asset, Capture, Material, Mesh
from stspbr.stages.baked_maps import bake_fields, reexpress, shape_normals, spread
from stspbr.stages.fit import fit, reconstruct
from stspbr.stages.model import (
    denormalized,
    load_capture,
    load_mesh,
    load_normal_map,
    load_normalization,
    make_fields,
    make_light,
    normalized,
)
from stspbr.stages.session import Session
from stspbr.texture.atlas import TexelMap, rasterize_atlas
from stspbr.texture.cleanup import clean
from stspbr.texture.tangents import with_frames
from stspbr.texture.unwrap import unwrap


def run_bake(session: Session, settings: BakeSettings) -> Artifact:
    """Bake and refine a specialised result.

    Writes ``asset.glb``, ``obj/`` (OBJ, MTL and separate maps), ``light.hdr`` (the known or the learned light),
    ``light.safetensors`` (a learned one) and ``metrics.json``.
    """
    parent = session.parent("specialize")
    coarse = session.parent_of(parent, "coarse")
    coarse_settings = parse_settings(CoarseSettings, coarse.settings, f"{coarse.path}: settings")
    capture = load_capture(session.parent_of(coarse, "capture"))
    normalization = load_normalization(parent)
    capture_n = capture.normalized(*normalization)
    given = coarse_settings.mesh is not None

    before = load_mesh(parent.file("mesh.safetensors"))
    mesh, clean_report = session.ranks.first(lambda: _prepare_mesh(before, given, settings))
    texels = rasterize_atlas(
        mesh.uvs, mesh.uv_faces, settings.texture_resolution, session.backend.rasterize, session.device
    )
    generator = torch.Generator().manual_seed(session.seed)
    fields = make_fields(coarse_settings.fields, session, generator, parent.file("fields.safetensors"))
    with_normals = coarse_settings.normals_from <= 1.0
    normal_map = load_normal_map(parent)
    kept = None if normal_map is None else shape_normals(before, normal_map, texels, session.backend)
    maps = bake_fields(fields, mesh, texels, with_normals, kept)

    state = parent.file("light.safetensors") if "light.safetensors" in parent.files else None
    light = make_light(capture, coarse_settings.light, session, state)
    geometry = FixedGeometry(
        mesh, movable=not given, laplacian=settings.laplacian, folding=settings.folding, device=session.device
    )
    appearance = TextureAppearance(
        in_units_of(light, maps.albedo).detach(),
        maps.reflectance,
        maps.normal,
        roughness_range=coarse_settings.fields.roughness_range,
        learn_normal=with_normals,
        joint=coarse_settings.fields.mode == "joint",
        backend=session.backend,
    ).to(session.device)
    light.settle()
    reconstruction = reconstruct(session, settings, capture_n, geometry, appearance, light)

    def write(folder: Path) -> dict:
        asset = _final_asset(mesh, geometry, appearance, texels, normalization)
        write_glb(folder / "asset.glb", asset, texture_bits=settings.texture_bits)
        write_obj(folder / "obj", asset)
        if not isinstance(light, LearnedLight):
            write_hdr(folder / "light.hdr", capture.light.radiance)
        return {
            "mesh": mesh_report(asset.mesh.positions, asset.mesh.faces),
            "cleanup": clean_report,
            "export_psnr": _export_psnr(folder / "asset.glb", reconstruction, capture_n, normalization, session),
        }

    return fit(session, "bake", settings, parent, reconstruction, write)


def _prepare_mesh(mesh: Mesh, given: bool, settings: BakeSettings) -> tuple[Mesh, dict]:
    """UVs, smooth normals and tangents for the mesh; a given mesh keeps its own UVs where one texture can hold them."""
    report: dict = {}
    if given and not _one_chart_space(mesh):
        mesh = replace(mesh, uvs=None, uv_faces=None)
    if not given:
        positions, faces, report = clean(mesh.positions, mesh.faces, settings.target_faces)
        mesh = Mesh(positions, faces)
        if len(faces) == 0:
            raise StspbrError("nothing is left of the mesh after clean-up: the coarse stage found no solid surface")
    if mesh.uvs is None:
        uvs, uv_faces = unwrap(mesh.positions, mesh.faces, settings.texture_resolution, settings.padding)
        mesh = replace(mesh, uvs=uvs, uv_faces=uv_faces, tangents=None, tangent_faces=None)
        report["new_uvs"] = True
    return with_frames(mesh), report


def _one_chart_space(mesh: Mesh) -> bool:
    """Whether the mesh has UVs of one material inside the unit square (a repeating or shared one cannot be baked)."""
    if mesh.uvs is None or (mesh.face_material is not None and len(np.unique(mesh.face_material)) > 1):
        return False
    used = mesh.uvs[np.unique(mesh.uv_faces)]
    return bool(used.min() >= -1e-4 and used.max() <= 1 + 1e-4)


def _final_asset(
    mesh: Mesh,
    geometry: FixedGeometry,
    appearance: TextureAppearance,
    texels: TexelMap,
    normalization: tuple[np.ndarray, float],
) -> Asset:
    """The refined mesh in the object's units, its maps dilated again, normals in its own final tangent frame."""
    surface = geometry.surface()
    normal_map = None if appearance.normal is None else appearance.normal[0].detach()
    final = mesh
    if geometry.movable:
        final = with_frames(
            replace(
                mesh,
                positions=surface.positions.detach().cpu().numpy(),
                normals=surface.normals.detach().cpu().numpy(),
                normal_faces=mesh.faces,
                tangents=None,
            )
        )
        if normal_map is not None:
            normal_map = reexpress(normal_map, mesh, final, texels)

    def dilated(maps: Tensor) -> np.ndarray:
        flat = maps.reshape(-1, maps.shape[-1])
        return spread(flat.index_select(0, texels.texel), texels).cpu().numpy()

    reflectance = dilated(appearance.reflectance[0].detach())
    material = Material(
        albedo=dilated(appearance.albedo[0].detach()),
        roughness=reflectance[..., :1],
        metallic=reflectance[..., 1:2],
        occlusion=reflectance[..., 2:3] if reflectance.shape[-1] > 2 else None,
        normal=None if normal_map is None else dilated(normal_map),
    )
    return Asset(denormalized(replace(final, face_material=None), *normalization), [material])


def _export_psnr(
    path: Path,
    reconstruction: Reconstruction,
    capture: Capture,
    normalization: tuple[np.ndarray, float],
    session: Session,
) -> float:
    """PSNR of the exported GLB, read again and rendered, against the trainer's own render (lowest of four views)."""
    asset = read_gltf(path)
    asset = replace(asset, mesh=normalized(asset.mesh, *normalization))
    renderer = AssetRenderer(asset, session.backend, session.device)
    light = reconstruction.light.prefiltered()
    frames = capture.split("test") or capture.split("train")
    views = ViewSet(frames[:: max(1, len(frames) // 4)][:4], 1, session.device)
    values = []
    for number in range(len(views)):
        batch, _ = views.batch([number])
        trained, exported = reconstruction.render(batch, light), renderer.render(batch, light)
        images = (trained["rgb"], exported["rgb"], trained["alpha"])
        values.append(psnr_srgb(*(image[0].cpu().numpy() for image in images)))
    return float(min(values))
