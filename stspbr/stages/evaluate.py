"""Evaluate: compare the bake with its reference at points of the surface, in views and under other lights."""

from __future__ import annotations

import glob
import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from stspbr.artifacts import Artifact
from stspbr.errors import StspbrError
from stspbr.formats.assets import read_asset
from stspbr.formats.gltf.reader import read_gltf
from stspbr.formats.images import read_image, write_png8
from stspbr.metrics.alignment import align
from stspbr.metrics.creases import crease_error
from stspbr.metrics.error_maps import ERROR_PEAKS, error_maps
from stspbr.metrics.geometry import geometry_error
from stspbr.metrics.image import display
from stspbr.metrics.light import light_error
from stspbr.metrics.material import material_error
from stspbr.metrics.relighting import frame_labels, relighting_error
from stspbr.metrics.sampling import pixel_footprint
from stspbr.optimize.camera_response import CameraResponse
from stspbr.procedural.by_name import is_procedural
from stspbr.render.mitsuba_bsdf import require_mitsuba
from stspbr.scene import Asset, Capture, EnvironmentLight, Frame
from stspbr.settings import CaptureMeshSettings, CoarseSettings, EvaluateSettings, parse_settings
from stspbr.stages.cameras import load_response, refined_capture
from stspbr.stages.capture_mesh import load_asset, load_light
from stspbr.stages.error_record import SCHEMA, ErrorRecord, error_table, write_csv
from stspbr.stages.evaluation_pictures import Renders, write_pictures
from stspbr.stages.given_mesh import in_world_of
from stspbr.stages.prompt_evaluation import evaluate_prompt
from stspbr.stages.session import Session, on_first_rank
from stspbr.stages.state import load_capture, make_transport, save_json
from stspbr.transport.ground import floored_light
from stspbr.transport.transport import Transport
from stspbr.version import __version__

__all__ = ["error_table", "run_evaluate"]

_LIGHT_SUFFIXES = (".hdr", ".exr")


@dataclass
class _Subjects:
    """What is compared, in two coordinate frames; without alignment they are the same.

    Attributes:
        reference, aligned: truth and estimate in the reference's frame, in which surfaces are compared.
        truth, estimate: the two in the capture's frame, which cameras and lights share.
        cameras, poses: training views in the reference's frame.
    """

    reference: Asset
    aligned: Asset
    truth: Asset
    estimate: Asset
    capture: Capture
    cameras: list
    poses: list[np.ndarray]


@on_first_rank
def run_evaluate(session: Session, settings: EvaluateSettings) -> Artifact:
    """Compare the newest bake, or its refinement, with the reference.

    Writes ``errors.json`` (``ErrorRecord``), ``errors.csv`` (the same, one row per value), ``contact_sheet.png``,
    ``maps/`` (truth, estimate and error on the reference's UVs), ``views/`` (target, result, error and material error
    of held-out views) and ``relit/`` (under ``settings.lights``).
    """
    bake = session.asset()
    if settings.prompt:
        return evaluate_prompt(session, settings, bake)
    source, coarse = session.capture_of(bake), session.lineage(bake)["coarse"]
    lights = load_lights(settings.lights)
    if lights:
        require_mitsuba("relighting (evaluate --lights)")  # before the long work, not after it
    estimate, capture = read_gltf(bake.file("asset.glb")), refined_capture(load_capture(source, session), bake)
    coarse_settings = parse_settings(CoarseSettings, coarse.settings, f"{coarse.path}: settings")
    reference = _reference(settings, source, capture.original_from_world)
    reference = in_world_of(reference, capture.original_from_world, settings.reference or reference.name)
    other = None if settings.other is None else _other_asset(settings.other, source, capture)
    learned = "light.safetensors" in bake.files
    exported = EnvironmentLight(read_image(bake.file("light.hdr"))[0])
    metrics = json.loads(bake.file("metrics.json").read_text(encoding="utf-8"))
    if "ground" in metrics and capture.light is not None:  # as the exported light is
        capture = replace(capture, light=floored_light(capture.light, metrics["ground"]["grey"]))
    light = exported if learned or capture.light is None else capture.light

    matrix, alignment = align(reference.mesh, estimate.mesh, settings.align, seed=session.seed)
    subjects = _subjects(reference, estimate, capture, matrix)
    shown = held_out(capture)[0]
    shown = [shown[i] for i in np.unique(np.linspace(0, len(shown) - 1, settings.views).round().astype(int))]
    with session.create("evaluate", settings, [bake]) as draft:
        errors = {
            "schema": SCHEMA,
            "package": __version__,
            "reference": Path(
                settings.reference or source.settings.get("asset") or source.settings.get("photo", reference.name)
            ).name,
            "alignment": alignment,
            **_surface_errors(session, settings, subjects),
            "light": light_error(capture.light, exported) if learned and capture.light is not None else None,
            "error_peaks": ERROR_PEAKS,
            "bake": metrics,
        }
        response = load_response(bake, coarse_settings.camera)

        def transport() -> Transport | None:
            return make_transport(source, capture, coarse_settings.transport, session)

        flash = metrics.get("flash")
        errors["views"] = _pictures(session, settings, subjects, light, shown, transport, response, flash, draft.path)
        scale = errors["material"]["albedo_scale"]
        errors["relighting"] = _relighting(session, settings, subjects, lights, shown, scale, draft.path)
        if other is not None:
            errors["other"] = _other(
                session, settings, other, reference, capture, light, lights, shown, transport, flash, draft.path
            )
        errors = _finite(errors)
        ErrorRecord.model_validate(errors)
        save_json(errors, draft.path / "errors.json")
        write_csv(errors, draft.path / "errors.csv")
    return draft.artifact


def load_lights(entries: list[str]) -> dict[str, EnvironmentLight]:
    """Lights by name from files, folders (all HDR and EXR in them) and patterns such as ``lights/*.hdr``."""
    paths: list[str] = []
    for entry in entries:
        if entry.startswith("procedural:"):
            found = [entry]
        elif Path(entry).is_dir():
            found = sorted(str(p) for p in Path(entry).iterdir() if p.suffix.lower() in _LIGHT_SUFFIXES)
        elif glob.has_magic(entry) and not Path(entry).exists():
            found = sorted(glob.glob(entry))
        else:
            found = [entry]
        if not found:
            raise StspbrError(f"--lights {entry}: no HDR or EXR found")
        paths += [path for path in found if path not in paths]
    out: dict[str, EnvironmentLight] = {}
    for path in paths:
        name = path.removeprefix("procedural:") if path.startswith("procedural:") else Path(path).stem
        name = "".join(c if c.isalnum() or c in "-_." else "-" for c in name)
        if name in out:
            raise StspbrError(f"two lights are called {name}: rename one of the files")
        out[name] = load_light(path)
    return out


def held_out(capture: Capture) -> tuple[list[Frame], str]:
    """The held-out frames, or the training frames if there are none; and the name of the split."""
    test = capture.split("test")
    return (test, "test") if test else (capture.split("train"), "train")


def _reference(settings: EvaluateSettings, source: Artifact, original_from_world: np.ndarray | None) -> Asset:
    """The reference asset; it keeps occlusion maps only if the capture was rendered with them.

    The object of a procedural pile is put where its copies were found, on the whole: its axes and size are a capture's.
    """
    pile = source.settings.get("kind") == "duplicates" and is_procedural(str(source.settings.get("photo")))
    if settings.reference is None and source.settings.get("kind") != "mesh" and not pile:
        raise StspbrError("the capture was not rendered from an asset: name the original with --reference asset.glb")
    if settings.reference is not None:
        asset = read_asset(settings.reference, settings.reference_textures)
    elif pile:
        asset = read_asset(source.settings["photo"])
        asset = asset if original_from_world is None else asset.transformed(np.linalg.inv(original_from_world))
    else:
        asset = load_asset(parse_settings(CaptureMeshSettings, source.settings, f"{source.path}: settings"))
    if not source.settings.get("occlusion", False):
        asset = replace(asset, materials=[replace(m, occlusion=None) for m in asset.materials])
    return asset


def _other_asset(path: str, source: Artifact, capture: Capture) -> Asset:
    """Another tool's asset in the capture's world; with occlusion maps only if the capture was rendered with some."""
    asset = in_world_of(read_asset(path), capture.original_from_world, path)
    if source.settings.get("occlusion", False):
        return asset
    return replace(asset, materials=[replace(m, occlusion=None) for m in asset.materials])


def _other(
    session: Session,
    settings: EvaluateSettings,
    other: Asset,
    reference: Asset,
    capture: Capture,
    light: EnvironmentLight,
    lights: dict[str, EnvironmentLight],
    shown: list[Frame],
    transport: Callable[[], Transport | None],
    flash: dict[str, list[float]] | None,
    folder: Path,
) -> dict:
    """What is measured of the result, of another tool's asset. Its views are under the true light if that is known."""
    matrix, alignment = align(reference.mesh, other.mesh, settings.other_align, seed=session.seed)
    subjects = _subjects(reference, other.transformed(matrix), capture, np.eye(4))
    errors: dict[str, Any] = {"name": Path(settings.other or "").name, "alignment": alignment}
    errors |= _surface_errors(session, settings, subjects)
    frames, split = held_out(capture)
    renders = Renders(session, subjects.estimate, capture.light or light, transport(), flash=flash)
    errors["views"] = {"split": split, **renders.metrics(frames)}
    for name, frame in zip(frame_labels(shown), shown, strict=True):
        _png(folder / "views" / f"{name}_other.png", display(renders.of(frame)["rgb"]))
    scale = errors["material"]["albedo_scale"]
    errors["relighting"] = _relighting(session, settings, subjects, lights, shown, scale, folder / "other")
    return errors


def _subjects(reference: Asset, estimate: Asset, capture: Capture, matrix: np.ndarray) -> _Subjects:
    back = np.linalg.inv(matrix)
    train = capture.split("train")
    return _Subjects(
        reference,
        estimate.transformed(matrix),
        reference.transformed(back),
        estimate,
        capture,
        [frame.camera for frame in train],
        [frame.object_to_world @ back for frame in train],
    )


def _surface_errors(session: Session, settings: EvaluateSettings, subjects: _Subjects) -> dict:
    """Material (raw, and averaged over a pixel's footprint) and geometry, in the reference's frame."""
    reference, estimate = subjects.reference, subjects.aligned
    views: dict[str, Any] = {"cameras": subjects.cameras, "poses": subjects.poses}
    common: dict[str, Any] = {"seed": session.seed, "max_distance_fraction": settings.max_distance_fraction, **views}
    footprint, count = settings.footprint, settings.samples
    if footprint is None:
        footprint = pixel_footprint(reference.mesh, **views)
    material = material_error(reference, estimate, samples=count, max_samples=settings.max_samples, **common)
    averaged = None
    if footprint > 0:
        few = min(count or settings.footprint_samples, settings.footprint_samples)
        averaged = material_error(reference, estimate, samples=few, footprint=footprint, back=False, **common)
    geometry = geometry_error(reference.mesh, estimate.mesh, count or 100_000, session.seed, **views)
    geometry["creases"] = crease_error(reference, estimate, min(count or 20_000, 20_000), session.seed, **views)
    return {"material": material, "material_at_footprint": averaged, "geometry": geometry}


def _pictures(
    session: Session,
    settings: EvaluateSettings,
    subjects: _Subjects,
    light: EnvironmentLight,
    shown: list[Frame],
    transport: Callable[[], Transport | None],
    response: CameraResponse | None,
    flash: dict[str, list[float]] | None,
    folder: Path,
) -> dict:
    """Write error maps on the reference's UVs, views and the contact sheet; return the metrics of the views."""
    maps = error_maps(
        subjects.reference,
        subjects.aligned,
        session.backend.rasterize,
        settings.map_resolution,
        settings.max_distance_fraction,
        session.device,
    )
    for channel, found in maps.items():
        for kind in ("reference", "estimate", "error"):
            _png(folder / "maps" / f"{kind}_{channel}.png", getattr(found, kind))
    frames, split = held_out(subjects.capture)
    ours = Renders(session, subjects.estimate, light, transport(), response, flash)
    truth = Renders(session, subjects.truth, subjects.capture.light or light, transport(), response, flash)
    for path, image in write_pictures(ours, truth, shown, folder).items():
        _png(folder / path, image)
    return {"split": split, **ours.metrics(frames)}


def _relighting(
    session: Session,
    settings: EvaluateSettings,
    subjects: _Subjects,
    lights: dict[str, EnvironmentLight],
    shown: list[Frame],
    scale: list[float],
    folder: Path,
) -> dict | None:
    if not lights:
        return None
    found, images = relighting_error(
        subjects.truth,
        subjects.estimate,
        lights,
        shown,
        samples=settings.relight_samples,
        max_depth=settings.relight_max_depth,
        albedo_scale=scale,
        seed=session.seed,
    )
    for name, image in images.items():
        _png(folder / "relit" / f"{name}.png", image)
    return found


def _png(path: Path, image: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_png8(path, image, srgb=False)


def _finite(value):  # noqa: ANN001, ANN202
    """``value`` with None instead of NaN and infinity, which JSON lacks."""
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not np.isfinite(value) else value
