"""Evaluate: the baked asset beside the one it should be, at points of the surface and in pictures."""

from __future__ import annotations

import json

import numpy as np

from stspbr.artifacts import Artifact
from stspbr.errors import StspbrError
from stspbr.formats.assets import read_asset
from stspbr.formats.gltf import read_gltf
from stspbr.formats.images import linear_to_srgb, read_image
from stspbr.metrics.contact_sheet import contact_sheet
from stspbr.metrics.surface import geometry_error, material_error, seen_samples
from stspbr.recipe import CaptureMeshSettings, EvaluateSettings, parse_settings
from stspbr.render.asset_renderer import AssetRenderer
from stspbr.render.prefilter import prefilter_latlong
from stspbr.scene import Asset, EnvironmentLight, Frame
from stspbr.stages.capture import load_asset, single_view
from stspbr.stages.model import load_capture, save_json
from stspbr.stages.session import Session

COLUMNS = ["target", "result", "albedo", "roughness", "metallic", "normal"]


def run_evaluate(session: Session, settings: EvaluateSettings) -> Artifact:
    """Write ``errors.json`` (material at 3D points, geometry) and ``contact_sheet.png`` for the newest bake."""
    bake = session.parent("bake")
    chain = [bake]
    for stage in ("specialize", "coarse", "capture"):
        chain.append(session.parent_of(chain[-1], stage))
    source = chain[-1]
    reference = _reference(settings, source)
    estimate = read_gltf(bake.file("asset.glb"))
    capture = load_capture(source)
    train = capture.split("train")
    seen = seen_samples(
        reference.mesh,
        [frame.camera for frame in train],
        [frame.object_to_world for frame in train],
        samples=settings.samples,
        seed=session.seed,
    )
    errors = {
        "material": material_error(reference, estimate, samples=settings.samples, seed=session.seed, seen=seen),
        "geometry": geometry_error(reference.mesh, estimate.mesh, samples=settings.samples, seed=session.seed),
        "bake": json.loads(bake.file("metrics.json").read_text(encoding="utf-8")),
    }
    light = EnvironmentLight(read_image(bake.file("light.hdr"))[0])
    true_light = capture.light or light
    frames = (capture.split("test") or capture.split("train"))[: settings.views]
    with session.store.create(
        "evaluate",
        settings=settings.model_dump(mode="json"),
        parents=[bake],
        device=str(session.device),
        threads=session.threads,
        seed=session.seed,
    ) as draft:
        save_json(errors, draft.path / "errors.json")
        rows = _rows(session, estimate, light, frames, "ours") + _rows(session, reference, true_light, frames, "truth")
        order = [row for pair in zip(rows[: len(frames)], rows[len(frames) :], strict=True) for row in pair]
        contact_sheet([r for _, r in order], [name for name, _ in order], COLUMNS, draft.path / "contact_sheet.png")
    return draft.artifact


def error_table(errors: dict) -> list[tuple[str, str]]:
    """Rows (what, figure) for the terminal: material over the lit part of the seen surface, geometry, views."""
    material, geometry = errors["material"], errors["geometry"]
    lit, dark = material["lit"], material["dark"]
    rows = [
        ("points compared", f"{material['used']} of {material['samples']} ({material['unseen']} never seen)"),
        ("albedo MAE, linear", f"{lit['albedo_mae']:.4f} ({lit['albedo_mae_scaled']:.4f} after a scale per channel)"),
        ("roughness MAE", _number(lit["roughness_mae"])),
        ("metallic MAE", _number(lit["metallic_mae"])),
        ("false metal", f"{_share(lit['false_metal_rate'])} (dark part {_share(dark['false_metal_rate'])})"),
        ("missed metal", _share(lit["missed_metal_rate"])),
        *((f"geometry: {key.replace('_', ' ')}", _number(v)) for key, v in geometry.items() if isinstance(v, float)),
    ]
    if "held_out" in errors["bake"]:
        rows.append(("held-out PSNR", f"{errors['bake']['held_out']['psnr_mean']:.2f} dB"))
    return rows


def _number(value: float | None) -> str:
    return "none" if value is None else f"{value:.4f}"


def _share(value: float | None) -> str:
    return "none there" if value is None else f"{100.0 * value:.2f} %"


def _reference(settings: EvaluateSettings, source: Artifact) -> Asset:
    if settings.reference is not None:
        return read_asset(settings.reference, settings.reference_textures)
    if source.settings.get("kind") != "mesh":
        raise StspbrError("the capture was not rendered from an asset: say what to compare with, --reference asset.glb")
    return load_asset(parse_settings(CaptureMeshSettings, source.settings, f"{source.path}: settings"))


def _rows(session: Session, asset: Asset, light: EnvironmentLight, frames: list[Frame], label: str):  # noqa: ANN202
    renderer = AssetRenderer(asset, session.backend, session.device)
    prefiltered = prefilter_latlong(light, base_resolution=256, cache_dir=session.run / ".cache").to(session.device)
    rows = []
    for frame in frames:
        out = renderer.render(single_view(frame.camera, frame.object_to_world, session.device), prefiltered)
        out = {name: image[0].cpu().numpy() for name, image in out.items()}
        pictures = [
            _display(frame.image),
            _display(out["rgb"]),
            _display(out["albedo"]),
            np.repeat(out["roughness"], 3, axis=2),
            np.repeat(out["metallic"], 3, axis=2),
            (_camera_space(out["normal"], frame) + out["alpha"]) * 0.5,
        ]
        rows.append((f"{label} {frame.name}", [np.clip(p, 0.0, 1.0) for p in pictures]))
    return rows


def _display(linear: np.ndarray) -> np.ndarray:
    return linear_to_srgb(np.clip(linear, 0.0, 1.0))


def _camera_space(normal: np.ndarray, frame: Frame) -> np.ndarray:
    rotation = frame.camera.world_to_camera[:3, :3] @ frame.object_to_world[:3, :3]
    return (normal @ rotation.T).astype(np.float32)
