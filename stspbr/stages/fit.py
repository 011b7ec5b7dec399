"""The common course of the stages that optimise fields: run the loop, validate, write the artifact."""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np

from stspbr.artifacts import Artifact
from stspbr.formats.images import write_hdr
from stspbr.geometry.topology import mesh_report
from stspbr.optimize.lights import LearnedLight, Light
from stspbr.optimize.loop import Stopwatch, optimize
from stspbr.optimize.reconstruction import Reconstruction
from stspbr.optimize.surfaces import ImplicitGeometry
from stspbr.optimize.views import ViewSet
from stspbr.recipe import CoarseSettings, SpecializeSettings
from stspbr.scene import Mesh
from stspbr.stages.model import save_json, save_mesh, save_state
from stspbr.stages.session import Session
from stspbr.stages.validation import validate


def run_reconstruction(
    session: Session,
    stage: str,
    settings: CoarseSettings | SpecializeSettings,
    parent: Artifact,
    held_out: ViewSet | None,
    reconstruction: Reconstruction,
    current_mesh: Callable[[], Mesh],
    normalization: tuple[np.ndarray, float],
) -> Artifact:
    """Optimise ``reconstruction`` and write it as the next version of ``stage``.

    Args:
        held_out: the views that the metrics are measured on.
        current_mesh: the surface as it stands after the last step, normalised.
        normalization: centre and scale back to the object's units.
    """
    checkpoints = session.checkpoints(stage, settings, [parent])
    began = time.monotonic()
    with session.reporter(stage, settings.optimize) as reporter:
        watch = optimize(
            reconstruction,
            settings.optimize,
            reporter=reporter,
            checkpoints=checkpoints,
            resume=session.resume,
            device=session.device,
        )
        reconstruction.progress = 1.0
        mesh = current_mesh()
        metrics = {"mesh": mesh_report(mesh.positions, mesh.faces)}
        if held_out is not None:
            metrics["held_out"] = validate(reconstruction, held_out)
        with session.store.create(
            stage,
            settings=settings.model_dump(mode="json"),
            parents=[parent],
            device=str(session.device),
            threads=session.threads,
            seed=session.seed,
        ) as draft:
            draft.run.update(seconds_per_step=step_seconds(watch), seconds=time.monotonic() - began)
            save_mesh(mesh, draft.path / "mesh.safetensors")
            if isinstance(reconstruction.geometry, ImplicitGeometry):
                save_state(reconstruction.geometry, draft.path / "geometry.safetensors")
            save_state(reconstruction.appearance.fields, draft.path / "fields.safetensors")
            write_learned_light(reconstruction.light, draft.path)
            centre, scale = normalization
            save_json({"centre": [float(c) for c in centre], "scale": scale}, draft.path / "normalization.json")
            save_json(metrics, draft.path / "metrics.json")
        checkpoints.clear()
        reporter.summary(summary_lines(draft.artifact, metrics, watch))
    return draft.artifact


def write_learned_light(light: Light, folder) -> None:  # noqa: ANN001
    """``light.safetensors`` to go on from and ``light.hdr`` to look at; nothing for a known light."""
    if isinstance(light, LearnedLight):
        save_state(light, folder / "light.safetensors")
        write_hdr(folder / "light.hdr", light.cube.to_latlong().radiance)


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
    lines.append(f"{step_seconds(watch).get('step', 0.0):.3f} s per step")
    return lines
