"""The timed rays: what they are, and that a backend that is missing is named."""

from __future__ import annotations

import sys

import pytest
import torch

from stspbr.bench.rays import measure_rays, surface_rays
from stspbr.bench.scenes import make_scene
from stspbr.bench.settings import bench_settings
from stspbr.render import mitsuba_bsdf
from stspbr.render.backend import get_backend


def test_rays_leave_a_surface_evenly_and_by_the_cosine():
    positions = torch.tensor([[0.0, 0, 0], [2, 0, 0], [2, 2, 0], [0, 2, 0]])
    faces = torch.tensor([[0, 1, 2], [0, 2, 3]], dtype=torch.int32)
    origins, directions = surface_rays(positions, faces, 100_000)
    assert torch.allclose(directions.norm(dim=1), torch.ones(100_000), atol=1e-5)
    assert bool((directions[:, 2] > 0).all()) and float(directions[:, 2].mean()) == pytest.approx(2 / 3, abs=0.005)
    assert float((directions[:, 2] ** 2).mean()) == pytest.approx(1 / 2, abs=0.005)
    assert origins[:, :2].mean(0).tolist() == pytest.approx([1, 1], abs=0.02)
    assert origins[:, :2].var(0).tolist() == pytest.approx([1 / 3, 1 / 3], abs=0.01)
    assert bool(((origins[:, 2] > 0) & (origins[:, 2] < 1e-3)).all())


def test_backends_agree_on_the_hits_and_missing_ones_are_named(monkeypatch):
    settings = bench_settings("tiny")
    cpu = torch.device("cpu")
    scene = make_scene(settings, get_backend("cpu", cpu), cpu)
    for row in measure_rays(scene, settings, repeats=1):
        if "skipped" not in row:
            assert row["rays"] == 16 * settings.points and row["hits"] == pytest.approx(0.06, abs=0.03)
            assert all(row[query][clock] > 0 for query in ("any", "closest") for clock in ("wall", "cpu"))

    monkeypatch.setitem(sys.modules, "stspbr.render.rays.embree", None)
    monkeypatch.setattr(mitsuba_bsdf, "llvm_status", lambda: (False, "no LLVM"))
    rows = {row["name"]: row for row in measure_rays(scene, settings, repeats=1)}
    assert list(rows) == ["numba", "embreex", "mitsuba"] and "skipped" not in rows["numba"]
    assert "embreex" in rows["embreex"]["skipped"] and rows["mitsuba"]["skipped"]
