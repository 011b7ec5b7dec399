"""Bake: a clean mesh with UVs, the fields as dilated maps, their refinement against the images, and the asset."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from stspbr.artifacts import Artifact
from stspbr.fields.material_values import METALLIC, OCCLUSION, ROUGHNESS
from stspbr.formats.gltf.reader import read_gltf
from stspbr.geometry.tangents import with_frames
from stspbr.geometry.topology import mesh_report
from stspbr.metrics.image import psnr_srgb
from stspbr.optimize.appearance import TextureAppearance
from stspbr.optimize.geometry import FixedGeometry
from stspbr.optimize.light_scale import rescale_light
from stspbr.optimize.lights import LearnedLight, in_units_of
from stspbr.optimize.reconstruction import Reconstruction
from stspbr.render.asset_renderer import AssetRenderer
from stspbr.render.blocks import render_view
from stspbr.render.gbuffer import ViewBatch
from stspbr.scene import Asset, Capture, Corners, Material, Mesh, Normalization
from stspbr.settings import BakeSettings, CoarseSettings, parse_settings
from stspbr.stages.baked_maps import bake_fields, dilated, learned_offsets, reexpress, spread
from stspbr.stages.cameras import camera_models, refined_capture, write_cameras
from stspbr.stages.confidence_files import settled, write_confidence
from stspbr.stages.cutoff import best_cutoff
from stspbr.stages.fit import fit, reconstruct, write_asset_files
from stspbr.stages.given_mesh import load_given_mesh
from stspbr.stages.layouts import Layout, given_layout, new_layout
from stspbr.stages.session import Session
from stspbr.stages.state import (
    continued,
    load_capture,
    load_mesh,
    load_normalization,
    make_fields,
)
from stspbr.transport.bins import direction_bins
from stspbr.transport.cache import visibility


def run_bake(session: Session, settings: BakeSettings) -> Artifact:
    """Bake and refine a specialised result.

    Writes ``asset.glb``, ``obj/`` (OBJ, MTL and separate maps), ``light.hdr`` (known or learned),
    ``light.safetensors`` (if learned), ``metrics.json``, and ``confidence/``, ``std.exr`` and ``confidence.json``: how
    sure each texel is.
    """
    parts = bake_problem(session, settings)
    return fit(session, "bake", settings, parts.parent, parts.reconstruction, parts.write, parts.interludes)


@dataclass
class BakeProblem:
    """What bake optimises.

    Attributes:
        parent: the specialised result; reconstruction: its mesh and maps, which are to be fitted.
        write: writes the stage's payload after the fit, and returns metrics.
        interludes: what happens before which step.
    """

    parent: Artifact
    reconstruction: Reconstruction
    write: Callable[[Path], dict]
    interludes: dict[int, Callable[[], str]]


def bake_problem(
    session: Session, settings: BakeSettings, changed: Callable[[Capture], Capture] = lambda capture: capture
) -> BakeProblem:
    """The problem of bake as the specialised result leaves it.

    Args:
        changed: applied to the capture, for trials with other frames of the same object; the stage itself has it as
            it is.
    """
    parent = session.parent("specialize")
    coarse = session.parent_of(parent, "coarse")
    coarse_settings = parse_settings(CoarseSettings, coarse.settings, f"{coarse.path}: settings")
    source = session.parent_of(coarse, "capture")
    capture = changed(refined_capture(load_capture(source, session), parent))
    normalization = load_normalization(parent)
    capture_n = normalization.capture(capture)

    generator = torch.Generator().manual_seed(session.seed)
    fields = make_fields(coarse_settings.fields, session, generator, parent.file("fields.safetensors"))
    with_normals = coarse_settings.normals_from <= 1.0
    given = load_given_mesh(coarse)
    if given is None:
        bend = partial(learned_offsets, fields, device=session.device) if with_normals else None
        layout = new_layout(load_mesh(parent.file("mesh.safetensors")), capture_n, settings, session, bend)
    else:
        layout = given_layout(given, normalization, capture_n, settings, session)
    transport, light = continued(parent, source, capture, coarse_settings, session, normalization)
    maps = []
    for number, (texels, normals) in enumerate(zip(layout.texels, layout.normals, strict=True)):
        baked, sharing = bake_fields(fields, layout.mesh, texels, with_normals, normals)
        maps.append(replace(baked, albedo=in_units_of(light, baked.albedo).detach()))
        if layout.given:
            layout.report["materials"][number]["shared_texels"] = sharing

    geometry = FixedGeometry(
        layout.mesh,
        movable=not layout.given,
        laplacian=settings.laplacian,
        folding=settings.folding,
        device=session.device,
    )
    owner = layout.mesh.face_material
    appearance = TextureAppearance(
        maps,
        face_material=None if owner is None else torch.as_tensor(owner, dtype=torch.int64, device=session.device),
        roughness_range=coarse_settings.fields.roughness_range,
        learn_normal=with_normals,
        joint=coarse_settings.fields.mode == "joint",
        backend=session.backend,
    ).to(session.device)
    light.settle()
    models = camera_models(session, source, capture_n, coarse_settings.camera, parent)
    reconstruction = reconstruct(session, settings, capture_n, geometry, appearance, light, transport, models)

    def write(folder: Path) -> dict:
        tangled, left = geometry.untangle()
        if coarse_settings.fields.alpha == "mask":
            appearance.cutoff = best_cutoff(reconstruction)
        known, fill = settled(reconstruction, settings.confidence)
        asset = _final_asset(layout, geometry, appearance, normalization)
        asset = _with_occlusion(asset, layout, geometry, settings.occlusion, coarse_settings.transport.rays)
        write_asset_files(folder, asset, light, capture, settings.texture_bits)
        if known is not None and settings.confidence.maps:
            write_confidence(folder, reconstruction, known, layout.names, coarse_settings.transport.rays)
        write_cameras(folder, reconstruction, normalization.scale)
        return {
            "mesh": mesh_report(asset.mesh.positions, asset.mesh.faces),
            "given" if layout.given else "cleanup": layout.report,
            "intersections": {"after_moving": tangled, "untangled": left},
            "cutoff": appearance.cutoff,
            **fill,
            "export_psnr": _export_psnr(folder / "asset.glb", reconstruction, capture_n, normalization, session),
        }

    scaled = settings.light_scale.at if isinstance(light, LearnedLight) else []
    interludes: dict[int, Callable[[], str]] = dict.fromkeys(
        settings.optimize.steps_at(scaled), partial(rescale_light, reconstruction, settings.light_scale)
    )
    return BakeProblem(parent, reconstruction, write, interludes)


def _final_asset(
    layout: Layout, geometry: FixedGeometry, appearance: TextureAppearance, normalization: Normalization
) -> Asset:
    """The mesh in the object's units, its maps dilated again, normals in its own final tangent frame.

    A given mesh keeps its positions, materials and nodes; a learned mesh has the refined vertices.
    """
    normal_maps = [None if own.normal is None else own.normal[0].detach() for own in appearance.materials]
    if layout.positions is not None:
        final = replace(layout.mesh, positions=layout.positions)
    else:
        final, normal_maps = _refined(layout, geometry, normal_maps)
        final = normalization.original_mesh(final)
    materials = []
    for name, texels, own, normal in zip(layout.names, layout.texels, appearance.materials, normal_maps, strict=True):
        reflectance = dilated(own.reflectance[0].detach(), texels)
        materials.append(
            Material(
                albedo=dilated(own.albedo[0].detach(), texels),
                roughness=reflectance[..., ROUGHNESS],
                metallic=reflectance[..., METALLIC],
                occlusion=reflectance[..., OCCLUSION] if reflectance.shape[-1] > OCCLUSION.start else None,
                normal=None if normal is None else dilated(normal, texels),
                name=name,
                opacity=None if own.opacity is None else dilated(own.opacity[0].detach(), texels),
                cutoff=None if own.opacity is None else appearance.cutoff,
            )
        )
    return Asset(final, materials, nodes=layout.nodes)


def _with_occlusion(asset: Asset, layout: Layout, geometry: FixedGeometry, kind: str, rays: str) -> Asset:
    """``asset`` with the occlusion maps that ``bake.occlusion`` asks for."""
    if kind == "learned":
        return asset
    if kind == "none":
        return replace(asset, materials=[replace(material, occlusion=None) for material in asset.materials])
    surface = geometry.surface()
    normals = surface.normals
    cache = visibility(
        surface.positions.detach().cpu(), surface.faces.cpu(), normals.values.detach().cpu(), normals.index.cpu(),
        direction_bins(), rays,
    )  # fmt: skip
    maps = []
    for texels in layout.texels:
        corners, shares = cache.points.corners(texels.triangle.long().cpu(), texels.barycentric[:, 1:].cpu())
        shown = (cache.occlusion()[corners] * shares).sum(1, keepdim=True).to(texels.texel.device)
        maps.append(spread(shown, texels).cpu().numpy())
    materials = [replace(material, occlusion=own) for material, own in zip(asset.materials, maps, strict=True)]
    return replace(asset, materials=materials)


def _refined(
    layout: Layout, geometry: FixedGeometry, normal_maps: list[Tensor | None]
) -> tuple[Mesh, list[Tensor | None]]:
    """The learned mesh with refined vertices and new frames, and the normal maps in these frames."""
    surface = geometry.surface()
    moved = replace(
        layout.mesh,
        positions=surface.positions.detach().cpu().numpy(),
        normals=Corners(surface.normals.values.detach().cpu().numpy(), surface.normals.index.cpu().numpy()),
        tangents=None,
    )
    final = with_frames(moved)
    maps = zip(normal_maps, layout.texels, strict=True)
    return final, [None if own is None else reexpress(own, layout.mesh, final, texels) for own, texels in maps]


def _export_psnr(
    path: Path,
    reconstruction: Reconstruction,
    capture: Capture,
    normalization: Normalization,
    session: Session,
) -> float:
    """PSNR of the exported GLB, read again and rendered, against the trainer's own render (lowest of four views)."""
    asset = read_gltf(path)
    asset = replace(asset, mesh=normalization.mesh(asset.mesh))
    renderer = AssetRenderer(asset, session.backend, session.device)
    light = replace(reconstruction.light.prefiltered(), lamp=None)  # the flash is in no exported file
    frames = capture.split("test") or capture.split("train")
    values = []
    for frame in frames[:: max(1, len(frames) // 4)][:4]:

        def both(view: ViewBatch) -> dict[str, Tensor]:
            trained, exported = reconstruction.render(view, light, transport=False), renderer.render(view, light)
            return {"trained": trained["rgb"], "exported": exported["rgb"], "alpha": trained["alpha"]}

        images = render_view(frame.camera, frame.object_to_world, both, session.device)
        values.append(psnr_srgb(*(images[name] for name in ("trained", "exported", "alpha"))))
    return float(min(values))
