"""Coarse: learn geometry and colour; network B is held back by its rate."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from stspbr.artifacts import Artifact
from stspbr.errors import StspbrError
from stspbr.geometry.resting_floor import resting_level
from stspbr.geometry.shapes import SHAPES
from stspbr.geometry.stereo_hull import stereo_hull_sdf
from stspbr.geometry.tet_grid import tight_grid
from stspbr.geometry.visual_hull import estimate_box, visual_hull_sdf
from stspbr.optimize.appearance import FieldAppearance
from stspbr.optimize.geometry import FixedGeometry, ImplicitGeometry
from stspbr.optimize.lost_parts import LostParts
from stspbr.optimize.unshown_parts import without_unshown
from stspbr.scene import Capture, Mesh, Normalization
from stspbr.settings import CoarseSettings
from stspbr.stages.cameras import camera_models
from stspbr.stages.fit import fit, reconstruct, write_fields
from stspbr.stages.given_mesh import read_given_mesh, save_given_mesh
from stspbr.stages.ground import common_plane
from stspbr.stages.session import Session
from stspbr.stages.state import flash_distance, grey_of, load_capture, make_fields, make_light, make_transport


def run_coarse(session: Session, settings: CoarseSettings) -> Artifact:
    """Learn geometry, materials and an unknown light from a capture.

    Writes ``mesh.safetensors`` (the surface in the normalised box), ``geometry.safetensors`` (the implicit shape,
    absent if a mesh was given), ``given.*`` (the parts of a given mesh that the export keeps),
    ``fields.safetensors``, ``light.safetensors`` and ``light.hdr`` (a learned light), ``normalization.json`` and
    ``metrics.json``; of photographs ``response.json`` and ``cameras.json``, what was fitted of the cameras.
    """
    source = session.parent("capture")
    capture = load_capture(source, session)
    given = read_given_mesh(settings, capture.original_from_world)
    normalization, extent = _normalization(capture, settings, None if given is None else given.mesh)
    capture_n = normalization.capture(capture)
    generator = torch.Generator().manual_seed(session.seed)

    fixed = None if given is None else normalization.mesh(given.mesh)
    geometry: ImplicitGeometry | FixedGeometry
    if given is None or fixed is None:
        plane = common_plane(capture) if source.settings.get("kind") == "duplicates" else None
        up = None if plane is None else plane[0]
        geometry = _implicit_geometry(settings, capture_n, extent, session, generator, up)
    else:
        geometry = FixedGeometry(
            fixed, movable=False, laplacian=0.0, folding=0.0, device=session.device, normal_maps=given.normal_maps
        )
    # a shape that is learned must not be cut away before it has settled
    opacity_from = settings.normals_from if given is None else 0.0
    fields = make_fields(settings.fields, session, generator, metal_prior=settings.optimize.losses.metal_prior)
    appearance = FieldAppearance(fields, settings.normals_from, opacity_from)
    transport = make_transport(
        source, capture, settings.transport, session, normalization, cut_outs=settings.fields.cut_outs
    )
    flash = flash_distance(source, capture_n, settings.light)
    light = make_light(capture, settings.light, session, grey=grey_of(transport), flash=flash)
    ramp = settings.transport.ramp if given is None else None
    models = camera_models(session, source, capture_n, settings.camera)
    reconstruction = reconstruct(session, settings, capture_n, geometry, appearance, light, transport, models, ramp)

    def write(folder: Path) -> dict:
        if given is not None:
            save_given_mesh(given, folder)
        if isinstance(geometry, ImplicitGeometry):
            geometry.settle()
        surface = geometry.surface()
        mesh = fixed or Mesh(surface.positions.detach().cpu().numpy(), surface.faces.cpu().numpy())
        dropped = 0
        if fixed is None:
            mesh, dropped = without_unshown(reconstruction, mesh)
        return write_fields(folder, reconstruction, mesh, normalization) | (
            {"unshown_parts": dropped} if dropped else {}
        )

    resize = None
    if isinstance(geometry, ImplicitGeometry):
        resize = geometry.resize(settings.optimize.iterations, LostParts(reconstruction, capture_n.split("train")))
    return fit(session, "coarse", settings, source, reconstruction, write, resize=resize, normalization=normalization)


def _normalization(capture: Capture, settings: CoarseSettings, given: Mesh | None) -> tuple[Normalization, np.ndarray]:
    """The normalisation of the cube around the object, with a margin; ``[3]`` the object's extent, world units."""
    if settings.geometry.box is not None:
        low, high = np.array(settings.geometry.box[:3]), np.array(settings.geometry.box[3:])
        if not (high > low).all():
            raise StspbrError("geometry.box: give xmin, ymin, zmin, xmax, ymax, zmax with every max above its min")
        margin = 0.0
    elif given is not None:
        used = given.positions[np.unique(given.faces)]
        low, high, margin = used.min(axis=0), used.max(axis=0), settings.geometry.margin
    else:
        low, high = estimate_box(capture.split("train"), margin=0.0)
        margin = settings.geometry.margin
    centre = 0.5 * (np.asarray(low, np.float64) + np.asarray(high, np.float64))
    extent = np.asarray(high) - np.asarray(low)
    return Normalization(centre, float(0.5 * extent.max() * (1.0 + margin))), extent


def _implicit_geometry(
    settings: CoarseSettings,
    capture: Capture,
    extent: np.ndarray,
    session: Session,
    generator: torch.Generator,
    up: np.ndarray | None,
) -> ImplicitGeometry:
    """The shape to begin with; ``up``: of the table that the object is known to stand on, in every view."""
    kind = SHAPES[settings.geometry.kind]
    resolution, half = tight_grid(settings.geometry.resolution, extent, kind.per_cell)
    shape = kind(resolution, -half, half, generator)
    points, frames = shape.grid.numpy(), capture.split("train")
    if settings.geometry.initial == "hull":
        distance = visual_hull_sdf(points, frames)
        if up is not None:
            level = resting_level(frames, np.asarray(half), up)
            distance = np.maximum(distance, level - points @ up).astype(np.float32)
        shape.init_sdf(distance)
    elif settings.geometry.initial == "stereo":
        shape.init_sdf(stereo_hull_sdf(points, frames, -half, half))
    else:
        shape.init_sphere(0.7)
    return ImplicitGeometry(shape, settings.geometry).to(session.device)
