"""A run without any optimisation: the artifacts that a page reads, made by hand."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from stspbr.artifacts import Artifact, ArtifactStore
from stspbr.formats.gltf.writer import write_glb
from stspbr.formats.images import write_hdr, write_png8
from stspbr.optimize.progress import Reporter
from stspbr.procedural.jar import demo_asset

STEPS = 20


def region(scale: float) -> dict:
    return {
        "count": 1000,
        "albedo_mae": 0.02 * scale,
        "albedo_mae_se": 0.0001,
        "albedo_psnr": 30.0,
        "roughness_mae": 0.05 * scale,
        "roughness_bias": -0.01 * scale,
        "metallic_mae": 0.03 * scale,
        "false_metal_rate": 0.015 * scale,
        "missed_metal_rate": None,
        "normal_angle_mean": 3.0,
    }


def evaluation(scale: float) -> dict:
    """Errors by the contract of ``stspbr evaluate``."""
    return {
        "schema": 1,
        "package": "0.1.0",
        "reference": "asset.glb",
        "alignment": {"mode": "none", "matrix": np.eye(4).tolist()},
        "material": {
            "samples": 2000,
            "used": 1900,
            "unseen": 60,
            "too_far": 30,
            "opposed": 10,
            "albedo_scale": [1.0, 1.1, 0.9],
            "all": region(scale),
            "lit": region(scale),
            "dark": region(2.0 * scale),
            "unseen_surface": region(3.0 * scale),
        },
        "geometry": {
            "chamfer_l1": 0.002 * scale,
            "f_score_0.5%": 0.98,
            "boundary_edges": 4,
            "genus": 1,
            "reference": {"boundary_edges": 0, "genus": 1},
        },
        "views": {
            "psnr": 31.5 / scale,
            "ssim": 0.97,
            "ms_ssim": 0.98,
            "lpips": None,
            "lpips_missing": "the package lpips is not installed",
            "count": 2,
            "split": "test",
            "per_view": [{"name": "test_0000", "psnr": 31.0, "ssim": 0.96}, {"name": "test_0001", "psnr": 32.0}],
        },
        "relighting": {"hall": {"psnr": 29.0, "ssim": 0.95, "psnr_scaled": 29.5, "ssim_scaled": 0.96, "per_view": []}},
        "light": {
            "mae": 0.1,
            "direction_error": 4.0,
            "directions": [
                {"energy_share": 0.4, "azimuth": 30.0, "elevation": 60.0, "angle": 3.5},
                {"energy_share": 0.1, "azimuth": -90.0, "elevation": 5.0, "angle": None},
            ],
        },
        "error_peaks": {"albedo": 0.25},
    }


@pytest.fixture
def make_run(tmp_path):
    """Build a run folder: ``make_run(name, stages=…, scale=…, …)`` gives its path."""

    def build(
        name: str = "run",
        *,
        stages: tuple[str, ...] = ("capture", "coarse", "specialize", "bake", "evaluate"),
        scale: float = 1.0,
        learned: bool = True,
        pictures: bool = True,
        logs: bool = True,
        asset=None,
        light: np.ndarray | None = None,
        rate: float = 0.01,
    ) -> Path:
        run = tmp_path / name
        store = ArtifactStore(run)
        radiance = np.full((32, 64, 3), 0.8, np.float32) if light is None else light
        above: list[Artifact] = []
        for stage in stages:
            settings = {"optimize": {"iterations": STEPS, "rate": rate, "routing": "strict"}}
            if stage == "capture":
                settings = {"asset": "jar.glb", "renderer": "raster", "views": 6, "test_views": 2, "resolution": 32}
            elif stage == "coarse":
                settings |= {"light": {"mode": "learned" if learned else "auto"}, "fields": {"mode": "split"}}
            with store.create(stage, settings=settings, parents=above[-1:], seed=0) as draft:
                fill(stage, draft.path, radiance, asset, scale, pictures)
                draft.run["seconds"] = 12.5
            above.append(draft.artifact)
        if logs:
            for stage in stages[1:4]:
                with Reporter(stage, STEPS, run / "logs" / stage, quiet=True, log_every=5) as reporter:
                    for step in range(1, STEPS + 1):
                        reporter.step(step, {"A": 1.0 / step, "A/logl1": 0.5 / step}, {"geometry": rate}, {})
                    reporter.image("target | result", np.full((8, 16, 3), 0.5), STEPS)
        return run

    return build


def fill(stage: str, folder: Path, radiance: np.ndarray, asset, scale: float, pictures: bool) -> None:
    rng = np.random.default_rng(7)

    def paint(name: str, side: int = 16) -> None:
        (folder / name).parent.mkdir(exist_ok=True)
        write_png8(folder / name, rng.random((side, side, 3), dtype=np.float32), srgb=True)

    if stage == "capture":
        write_hdr(folder / "environment.hdr", radiance * 2.0)
        (folder / "transforms.json").write_text(json.dumps({"environment": "environment.hdr", "frames": []}))
    elif stage in ("coarse", "specialize", "bake"):
        metrics = {"held_out": {"psnr_mean": 28.0, "psnr_min": 25.0, "views": 2}, "mesh": {"vertices": 9, "faces": 14}}
        (folder / "metrics.json").write_text(json.dumps(metrics))
    if stage == "bake":
        write_glb(folder / "asset.glb", demo_asset(64, around=24, along=20) if asset is None else asset)
        write_hdr(folder / "light.hdr", radiance)
        for channel in ("albedo", "roughness", "metallic"):
            paint(f"obj/material_{channel}.png")
    elif stage == "evaluate":
        (folder / "errors.json").write_text(json.dumps(evaluation(scale)))
        if pictures:
            for part in ("target", "result", "error", "material_error"):
                paint(f"views/test_0000_{part}.png")
            for part in ("reference", "estimate", "error"):
                paint(f"maps/{part}_albedo.png")
                paint(f"maps/{part}_false_metal.png")
            for part in ("truth", "result"):
                paint(f"relit/hall_test_0000_{part}.png")
        paint("contact_sheet.png", 64)
