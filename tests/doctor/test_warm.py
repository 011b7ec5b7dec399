"""`doctor --warm` leaves nothing to compile for the steps of the stages."""

from __future__ import annotations

import pytest
import torch

from stspbr.bench import measure
from stspbr.bench.scenes import make_problems, make_scene
from stspbr.bench.settings import bench_settings
from stspbr.doctor.warm import warm
from stspbr.kernel_cache import CompileClock
from stspbr.render.backend import get_backend


@pytest.mark.slow
def test_after_warming_no_step_compiles_anything():
    lines = []
    warm(lines.append)
    for stage in ("capture", "coarse", "specialize", "bake", "evaluate"):
        assert sum(line.startswith(f"{stage}: running (") for line in lines) == 2
    device, settings = torch.device("cpu"), bench_settings("tiny")
    backend = get_backend("cpu", device)
    with CompileClock() as clock:
        for _, optimize, problem in make_problems(make_scene(settings, backend, device), settings, backend, device):
            measure.measure(problem, optimize, device, steps=1, warm_up=0)
    assert clock.count == 0
