"""What the optimising stages share: run the loop, write the artifact, validate."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from stspbr.artifacts import Artifact
from stspbr.errors import StspbrError
from stspbr.formats.gltf.writer import write_glb
from stspbr.formats.images import write_hdr
from stspbr.formats.obj_writer import write_obj
from stspbr.geometry.topology import mesh_report
from stspbr.metrics.image import psnr_srgb
from stspbr.optimize.appearance import Appearance, FieldAppearance
from stspbr.optimize.geometry import Geometry, ImplicitGeometry
from stspbr.optimize.lights import LearnedLight, Light
from stspbr.optimize.live_model import LIVE_MODEL, write_live_model
from stspbr.optimize.loop import Resized, Stopwatch, optimize
from stspbr.optimize.pacing import Converging
from stspbr.optimize.photography import Photography
from stspbr.optimize.reconstruction import Reconstruction
from stspbr.optimize.transport import TransportSchedule
from stspbr.optimize.views import ViewSet
from stspbr.render.blocks import render_view
from stspbr.scene import Asset, Capture, Mesh, Normalization
from stspbr.settings import BakeSettings, CoarseSettings, OptimizeSettings, RefineSettings, SpecializeSettings
from stspbr.stages.cameras import CameraModels, camera_facts, write_cameras
from stspbr.stages.session import Session
from stspbr.stages.state import load_normalization, save_json, save_mesh, save_state
from stspbr.transport.ground import floored_light
from stspbr.transport.transport import Transport

_DRIFT = 0.5  # degrees by which a refined pose moves before its bounces are sought anew


def reconstruct(
    session: Session,
    settings: CoarseSettings | SpecializeSettings | BakeSettings,
    capture: Capture,
    geometry: Geometry,
    appearance: Appearance,
    light: Light,
    transport: Transport | None,
    models: CameraModels,
    ramp: tuple[float, float] | None = None,
) -> Reconstruction:
    """The problem of one stage: its parts, fitted to the training frames and validated on the held-out ones.

    Args:
        capture: in normalised units.
        transport: shadows and bounces; ramp: fractions of the stage over which they fade in; None: whole at once.
        models: of the cameras.
    """
    schedule = None if transport is None else TransportSchedule(transport, settings.transport_refresh, ramp)
    if transport is not None and models.cameras is not None:
        transport.drift = _DRIFT
    parts = problem_parts(session, settings.optimize, capture, geometry, appearance, light, schedule, models)
    return Reconstruction(**parts)


def problem_parts(
    session: Session,
    settings: OptimizeSettings,
    capture: Capture,
    geometry: Geometry,
    appearance: Appearance,
    light: Light,
    transport: TransportSchedule | None,
    models: CameraModels,
) -> dict[str, Any]:
    """The arguments of ``Reconstruction`` by name; ``capture`` is in normalised units."""
    train, test = capture.split("train"), capture.split("test")
    how = (settings.image_scale, session.device, settings.views, settings.crop)
    views = ViewSet(train, *how)
    return {
        "views": views,
        "geometry": geometry,
        "appearance": appearance,
        "light": light,
        "settings": settings,
        "backend": session.backend,
        "seed": session.seed,
        "held_out": ViewSet(test, *how) if test else None,
        "ranks": session.ranks,
        "transport": transport,
        "photography": None if models.response is None else Photography.of(models.response, views),
        "cameras": models.cameras,
        "weights": models.weights,
    }


def fit(
    session: Session,
    stage: str,
    settings: CoarseSettings | SpecializeSettings | BakeSettings | RefineSettings,
    parent: Artifact,
    reconstruction: Reconstruction,
    write: Callable[[Path], dict],
    before: Mapping[int, Callable[[], str]] | None = None,
    resize: Mapping[int, Callable[[], Resized]] | None = None,
    normalization: Normalization | None = None,
) -> Artifact:
    """Optimise ``reconstruction`` and write it as the next version of ``stage``.

    Args:
        normalization: of the object, unless ``parent`` has it; None and no such parent: no live model is written.
        write: writes the stage's payload into a folder; returns metrics, among them the mesh's report (``mesh``).
        before, resize: functions to call before certain steps; see ``optimize``.
    """
    checkpoints = session.checkpoints(stage, settings, [parent])
    began = time.monotonic()
    transport = None if reconstruction.transport is None else reconstruction.transport.transport
    if normalization is None and "normalization.json" in parent.files:
        normalization = load_normalization(parent)

    def live(folder: Path, step: int) -> None:
        if normalization is not None and isinstance(reconstruction, Reconstruction):
            write_live_model(reconstruction, normalization, folder / LIVE_MODEL, step)

    pace = _pace(reconstruction, settings.optimize, [*(before or {}), *(resize or {})])
    session.order_sums(settings.optimize.deterministic)
    with session.reporter(stage, settings.optimize, live) as reporter:
        if transport is not None and transport.why:
            reporter.message(transport.why)
        watch = optimize(
            reconstruction,
            settings.optimize,
            reporter=reporter,
            checkpoints=checkpoints,
            resume=session.resume,
            device=session.device,
            ranks=session.ranks,
            before=before,
            resize=resize,
            pace=pace,
        )
        reconstruction.progress = 1.0

        def finish() -> Artifact:
            with session.create(stage, settings, [parent]) as draft:
                metrics = write(draft.path)
                if reconstruction.held_out is not None:
                    metrics["held_out"] = validate(reconstruction, reconstruction.held_out)
                metrics |= camera_facts(reconstruction)
                if pace is not None:
                    metrics["convergence"] = pace.facts()
                write_learned_light(reconstruction.light, draft.path)
                if reconstruction.light.flash is not None:
                    scale = 1.0 if normalization is None else normalization.scale
                    metrics["flash"] = reconstruction.light.flash.facts(scale)
                if transport is not None and transport.ground is not None and reconstruction.light.floor is not None:
                    surface = reconstruction.geometry.surface()
                    height = transport.ground.world_height(surface.positions[surface.faces.long()])
                    metrics["ground"] = {"height": height, "grey": reconstruction.light.floor.grey.tolist()}
                save_json(metrics, draft.path / "metrics.json")
                facts = {"seconds_per_step": step_seconds(watch), "seconds": time.monotonic() - began}
                draft.run.update(facts, processes=session.ranks.size)
            checkpoints.clear()
            reporter.summary(summary_lines(draft.artifact, metrics, watch))
            return draft.artifact

        return session.ranks.first(finish)


def _pace(reconstruction: Reconstruction, settings: OptimizeSettings, interludes: list[int]) -> Converging | None:
    """The pace by the loss on the training views, if the stage has one; ``interludes``: the steps that have any."""
    if not settings.convergence.on:
        return None
    if not reconstruction.image_terms.pixelwise:
        raise StspbrError("optimize.convergence: losses of whole images (msssim) have no loss of a view alone")
    reconstruction.watched = True
    changes = settings.steps_at(reconstruction.changes())
    return Converging(
        settings.convergence, settings.iterations, reconstruction.epoch, lambda: reconstruction.shown, changes,
        interludes,
    )  # fmt: skip


def validate(reconstruction: Reconstruction, views: ViewSet) -> dict[str, float]:
    """Mean and lowest PSNR over ``views``, on sRGB clipped to [0, 1], over the target's mask."""
    light = reconstruction.light.prefiltered()
    values = []
    for number, pose in enumerate(views.poses):
        frame = views.frame(number)
        found = render_view(
            frame.camera, pose, lambda batch: reconstruction.render(batch, light), views.device, ("rgb", "alpha")
        )
        values.append(psnr_srgb(frame.image, reconstruction.photographed(frame, **found), frame.alpha))
    return {"views": len(values), "psnr_mean": float(np.mean(values)), "psnr_min": float(np.min(values))}


def write_fields(folder: Path, reconstruction: Reconstruction, mesh: Mesh, normalization: Normalization) -> dict:
    """The payload of coarse and specialize: surface, implicit shape (coarse alone), networks, normalisation.

    Args:
        mesh: the surface after the last step, normalised.
    """
    save_mesh(mesh, folder / "mesh.safetensors")
    if isinstance(reconstruction.geometry, ImplicitGeometry):
        save_state(reconstruction.geometry, folder / "geometry.safetensors")
    if isinstance(reconstruction.appearance, FieldAppearance):
        save_state(reconstruction.appearance.fields, folder / "fields.safetensors")
    save_json(normalization.to_json(), folder / "normalization.json")
    write_cameras(folder, reconstruction, normalization.scale)
    return {"mesh": mesh_report(mesh.positions, mesh.faces)}


def write_asset_files(folder: Path, asset: Asset, light: Light, capture: Capture, texture_bits: int) -> None:
    """Write ``asset.glb`` and ``obj/``, and ``light.hdr`` if the light is known, with its floor if there is one."""
    write_glb(folder / "asset.glb", asset, texture_bits=texture_bits)
    write_obj(folder / "obj" / "asset.obj", asset)
    if capture.light is not None and not isinstance(light, LearnedLight):
        known = capture.light if light.floor is None else floored_light(capture.light, light.floor.grey.tolist())
        write_hdr(folder / "light.hdr", known.radiance)


def write_learned_light(light: Light, folder: Path) -> None:
    """Write a learned light as ``light.safetensors`` (for the next stage) and ``light.hdr`` (to look at)."""
    if isinstance(light, LearnedLight):
        save_state(light, folder / "light.safetensors")
        write_hdr(folder / "light.hdr", light.to_latlong().radiance)


def step_seconds(watch: Stopwatch) -> dict[str, float]:
    """Mean seconds per step by part."""
    steps = max(watch.totals.get("steps", 0.0), 1.0)
    return {name: total / steps for name, total in watch.totals.items() if name != "steps"}


def summary_lines(artifact: Artifact, metrics: dict, watch: Stopwatch) -> list[str]:
    """What was written, where, and how good it is."""
    mesh = metrics["mesh"]
    lines = [f"wrote {artifact.path}: {', '.join(artifact.files)}"]
    if "held_out" in metrics:
        held = metrics["held_out"]
        lines.append(
            f"held-out PSNR {held['psnr_mean']:.2f} dB over {held['views']} views (lowest {held['psnr_min']:.2f})"
        )
    closed = "watertight" if mesh["watertight"] else f"{mesh['boundary_edges']} boundary edges"
    lines.append(f"mesh: {closed}, {mesh['components']} component(s)")
    report = metrics.get("cleanup") or {}
    if "remesh" in report:
        made = report["remesh"]
        lines.append(
            f"remeshed: {report['before']['faces']} to {made['faces']} triangles, {made['split_edges']} hard edges, "
            f"self-intersections {made['intersections_before']} to {made['intersections_after']}"
        )
    if "texture" in report:
        maps = report["texture"]
        lines.append(
            f"maps of {maps['resolution']}²: {maps['because']}; {maps['charts']} charts fill {100 * maps['fill']:.0f} %"
        )
    if "export_psnr" in metrics:
        lines.append(f"exported GLB against the trainer's render: {metrics['export_psnr']:.1f} dB")
    lines.append(f"{step_seconds(watch).get('step', 0.0):.3f} s per step")
    return lines
