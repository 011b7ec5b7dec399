"""Metrics of a step: their parts, their sums and their sizes."""

from __future__ import annotations

import pytest
import torch

from stspbr.bench.measure import PARTS, _medians, measure
from stspbr.bench.scenes import make_problems, make_scene
from stspbr.bench.settings import bench_settings
from stspbr.errors import StspbrError
from stspbr.render.backend import get_backend

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def problems():
    settings, backend = bench_settings("tiny"), get_backend("cpu", CPU)
    scene = make_scene(settings, backend, CPU)
    return {name: (optimize, problem) for name, optimize, problem in make_problems(scene, settings, backend, CPU)}


@pytest.mark.parametrize("name", ["coarse, learned light", "refinement, known light"])
def test_every_part_of_a_step_is_timed(problems, name):
    optimize, problem = problems[name]
    metrics = measure(problem, optimize, CPU, steps=2, warm_up=1)
    parts = metrics["parts"]
    assert set(parts) == {*PARTS, "whole"}
    both = {"geometry", "rasterize", "material", "shade", "antialias", "losses", "smoothness"}
    both |= {"light"} if "learned" in name else set()
    assert {part for part in PARTS if set(parts[part]) == {"forward", "backward"}} == both
    assert all(cell["wall"] >= 0 for part in parts.values() for cell in part.values() if part is not parts["rest"])
    assert metrics["pixels"] == 2 * 32 * 32 and 0 < metrics["covered"] < metrics["pixels"]
    assert metrics["covered_per_second"] == metrics["covered"] / metrics["wall"]
    assert metrics["triangles"] == bench_settings("tiny").triangles or name.startswith("coarse")
    assert metrics["peak_bytes"] > 2**20


def test_the_rest_of_a_backward_pass_is_what_no_part_took():
    step = {
        ("shade", "forward"): (1.0, 1.0),
        ("shade", "backward"): (2.0, 3.0),
        ("rest", "backward"): (0.5, 0.5),
        ("backward", "forward"): (7.0, 8.0),
    }
    out = _medians([step])
    assert out["rest"]["backward"] == {"wall": 5.0, "cpu": 5.0}
    assert out["whole"]["backward"] == {"wall": 7.0, "cpu": 8.0}
    assert "backward" not in out
    later = {**step, ("backward", "forward"): (9.0, 8.0)}
    assert _medians([step, later])["whole"]["backward"]["wall"] == 8.0


def test_the_scene_is_the_same_every_time(problems):
    settings, backend = bench_settings("tiny"), get_backend("cpu", CPU)
    again = make_scene(settings, backend, CPU)
    _, problem = problems["coarse, known light"]
    assert torch.equal(problem.views.image, torch.stack([torch.from_numpy(f.image) for f in again.frames]))


def test_unknown_settings_are_named():
    with pytest.raises(StspbrError, match="--settings big: unknown; choose cpu, gpu, tiny"):
        bench_settings("big")


def test_the_fixed_sizes():
    cpu, gpu = bench_settings("cpu"), bench_settings("gpu")
    assert (cpu.resolution, cpu.batch, cpu.triangles) == (256, 4, 20_000)
    assert (gpu.resolution, gpu.batch, gpu.grid) == (512, 8, 64)
