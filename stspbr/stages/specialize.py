"""Specialize: network B learns the reflectance; A, the light and a mesh of fixed topology are only polished."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path

import torch

from stspbr.artifacts import Artifact
from stspbr.optimize.appearance import FieldAppearance
from stspbr.optimize.geometry import FixedGeometry
from stspbr.optimize.light_scale import rescale_light
from stspbr.optimize.light_solve import solve_light
from stspbr.optimize.lights import LearnedLight
from stspbr.optimize.survey import record, shares, survey
from stspbr.scene import Mesh
from stspbr.settings import CoarseSettings, SpecializeSettings, parse_settings
from stspbr.stages.cameras import camera_models, refined_capture
from stspbr.stages.fit import fit, reconstruct, write_fields
from stspbr.stages.given_mesh import load_given_mesh
from stspbr.stages.resurfacing import remeshed
from stspbr.stages.session import Session
from stspbr.stages.state import (
    continued,
    load_capture,
    load_mesh,
    load_normalization,
    make_fields,
    save_tensors,
)


def run_specialize(session: Session, settings: SpecializeSettings) -> Artifact:
    """Specialise the reflectance of a coarse result.

    A learned light is solved for (``optimize.light_solve``). A survey finds metals that the gradient does not find
    (``optimize.survey``); what it says of the result is kept in ``survey.safetensors``. The coarse surface becomes a
    mesh of fixed topology, made anew of even triangles if ``remesh`` says so, whose vertices may still move a little
    and are smoothed in the end where they let faces cut each other; a given mesh does not change. Writes
    ``mesh.safetensors``, ``fields.safetensors``, ``light.safetensors`` and ``light.hdr`` (a learned light),
    ``normalization.json`` and ``metrics.json``.
    """
    coarse = session.parent("coarse")
    coarse_settings = parse_settings(CoarseSettings, coarse.settings, f"{coarse.path}: settings")
    source = session.parent_of(coarse, "capture")
    capture = refined_capture(load_capture(source, session), coarse)
    normalization = load_normalization(coarse)
    capture_n = normalization.capture(capture)
    mesh = load_mesh(coarse.file("mesh.safetensors"))
    given = load_given_mesh(coarse)
    report: dict = {}
    if given is None and settings.remesh == "adaptive":
        made, _, report = session.ranks.first(lambda: remeshed(mesh, settings.target_faces))
        mesh = Mesh(made.positions, made.faces)

    geometry = FixedGeometry(
        mesh,
        movable=given is None,
        laplacian=settings.laplacian,
        folding=settings.folding,
        device=session.device,
        normal_maps=() if given is None else given.normal_maps,
    )
    geometry = geometry.to(session.device)
    generator = torch.Generator().manual_seed(session.seed)
    fields = make_fields(coarse_settings.fields, session, generator, coarse.file("fields.safetensors"))
    never = coarse_settings.normals_from > 1.0
    appearance = FieldAppearance(fields, coarse_settings.normals_from if never else 0.0)
    transport, light = continued(coarse, source, capture, coarse_settings, session, normalization)
    models = camera_models(session, source, capture_n, coarse_settings.camera, coarse)
    reconstruction = reconstruct(session, settings, capture_n, geometry, appearance, light, transport, models)

    def write(folder: Path) -> dict:
        tangled, left = geometry.untangle()
        polished = mesh
        if given is None:
            polished = replace(mesh, positions=geometry.surface().positions.detach().cpu().numpy())
        metrics = write_fields(folder, reconstruction, polished, normalization)
        metrics["intersections"] = {"after_moving": tangled, "untangled": left}
        if report:
            metrics["cleanup"] = report
        if settings.survey.at and (cells := record(reconstruction, fields, settings.survey)):
            save_tensors(cells, folder / "survey.safetensors")
            metrics["survey"] = shares(cells)
        return metrics

    def before(step: int) -> str:
        lines = []
        if step in scales:  # before the survey: under a light that is too dark, paint shines like a dark metal
            lines.append(rescale_light(reconstruction, settings.light_scale))
        if step in surveys:
            lines.append(survey(reconstruction, fields, settings.survey))
        if step in solves:  # after the survey: half a metal's highlight would be too strong for the light's scale
            lines.append(solve_light(reconstruction, fields, settings.light_solve))
        return "\n".join(lines)

    surveys = settings.optimize.steps_at(settings.survey.at)
    solved = isinstance(light, LearnedLight) and light.flash is None  # a flash is not a part of the solve
    solves = settings.optimize.steps_at(settings.light_solve.at) if solved else []
    scales = settings.optimize.steps_at(settings.light_scale.at) if solved else []
    interludes = {step: partial(before, step) for step in sorted({*surveys, *solves, *scales})}
    return fit(session, "specialize", settings, coarse, reconstruction, write, interludes)
