"""Captures of equal noise, and the tracks that they and the transport bring."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from stspbr.optimize.progress import SilentReporter
from stspbr.quality import runner
from stspbr.quality.configurations import FLOOR
from stspbr.quality.ladder import TRACKS, jobs_of, recipe_of, small_ladder
from stspbr.quality.statistics import compare
from stspbr.settings import CaptureMeshSettings
from stspbr.stages.capture_mesh import load_asset, load_light, render_capture
from stspbr.stages.session import Session

from .test_ladder import CPU, JOB, TINY
from .test_table import record

SMALL = CaptureMeshSettings(
    asset="procedural:ramp", light="procedural:studio", views=2, test_views=0, resolution=24, samples=16
)


@pytest.fixture(scope="module")
def captures(tmp_path_factory):
    """A rasterised capture, and the same with noise."""
    pytest.importorskip("mitsuba")
    from stspbr.quality.noise import with_noise

    session = Session.open(tmp_path_factory.mktemp("noise"), device="cpu", quiet=True)
    clean = render_capture(session, SMALL, SilentReporter())
    return clean, with_noise(clean, SMALL, 0)


def test_the_noise_is_a_path_tracer_s(captures):
    from stspbr.render.mitsuba_scene import render_each

    clean, noisy = captures
    asset, light, cameras = load_asset(SMALL), load_light(SMALL.light), [frame.camera for frame in clean.frames]
    options = {"spp": SMALL.samples, "max_depth": SMALL.max_depth}
    runs = [[rgb for rgb, _ in render_each(asset, light, cameras, seed=10 + k, **options)] for k in range(16)]
    spread = np.std(runs, axis=0, ddof=1)
    for number, frame in enumerate(clean.frames):
        added = noisy.frames[number].image - frame.image
        inside = (frame.alpha[..., 0] > 0.999) & (noisy.frames[number].image > 0).all(axis=-1)
        ratio = np.sqrt(np.mean(added[inside] ** 2) / np.mean(spread[number][inside] ** 2))
        assert 0.75 < ratio < 1.3
        standard = added[inside] / np.maximum(spread[number][inside], 1e-6)
        assert abs(np.median(standard)) < 0.15 and abs(np.clip(standard, -3, 3).mean()) < 0.15


def test_only_covered_pixels_change_and_none_becomes_negative(captures):
    for before, after in zip(captures[0].frames, captures[1].frames, strict=True):
        assert np.array_equal(before.alpha, after.alpha) and float(after.image.min()) >= 0.0
        outside = before.alpha[..., 0] == 0
        assert np.array_equal(before.image[outside], after.image[outside])
        assert not np.array_equal(before.image, after.image)


def test_tracks_differ_in_capture_and_transport_alone():
    recipes = {track: recipe_of(replace(JOB, track=track), TINY) for track in TRACKS}
    modes = {track: recipe.coarse.transport.mode for track, recipe in recipes.items()}
    assert modes == {"same": "auto", "path": "on", "noise": "auto", "path-off": "off"}
    assert recipes["path"].capture == recipes["path-off"].capture and recipes["path"].capture.renderer == "mitsuba"
    assert recipes["same"].capture == recipes["noise"].capture and recipes["same"].capture.renderer == "raster"
    assert replace(JOB, track="path-off").capture_name == replace(JOB, track="path").capture_name
    assert replace(JOB, track="noise").capture_name != replace(JOB, track="same").capture_name
    # transport belongs to the renderer: the baseline gets the same
    for track in TRACKS:
        joint = recipe_of(replace(JOB, track=track, configuration="joint"), TINY)
        assert joint.coarse.transport == recipes[track].coarse.transport
    jobs = jobs_of(small_ladder(), tuple(TRACKS))
    assert len({job.name for job in jobs}) == len(jobs) == 2 * len(jobs_of(small_ladder()))


def test_rows_of_equal_noise_and_of_no_transport_stand_beside_the_path_traced():
    records = [record(name, 0, track, roughness_mae=value) for track, value in
               {"same": 0.01, "noise": 0.02, "path": 0.03, "path-off": 0.09}.items()
               for name in ("joint", "ours", FLOOR)]  # fmt: skip
    (path,) = [comparison for comparison in compare(records) if comparison.group[2] == "path"]
    means = {name: row["roughness_mae"].mean for name, row in path.rows.items()}
    assert means == {
        "joint": 0.03, "ours": 0.03, "floor": 0.03, "floor, same shading": 0.01,
        "ours, same shading, equal noise": 0.02, "floor, same shading, equal noise": 0.02,
        "joint, path-traced, transport off": 0.09, "ours, path-traced, transport off": 0.09,
        "floor, path-traced, transport off": 0.09,
    }  # fmt: skip


@pytest.mark.slow
def test_jobs_of_the_new_tracks_end_to_end(tmp_path):
    pytest.importorskip("mitsuba")
    size = replace(TINY, capture={**TINY.capture, "samples": 4})
    for track in ("noise", "path-off", "path"):
        done = runner.carry_out(replace(JOB, track=track), size, tmp_path, CPU, "sources")
        assert done["status"] == "done", done["error"]
    assert sorted(p.name for p in (tmp_path / "captures").iterdir()) == ["ramp-studio-noise", "ramp-studio-path"]
    facts = json.loads((tmp_path / "captures" / "ramp-studio-noise" / "capture" / "v0001" / "run.json").read_text())
    assert facts["noise"] == "of 4 paths per pixel"
