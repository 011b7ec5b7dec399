"""The stages on a GPU, where there is one: near what the CPU makes of the same capture, and able to be read there."""

from __future__ import annotations

import json

import pytest
import torch

from stspbr.render.backend import why_no_gpu_backend, why_no_nvdiffrast
from stspbr.settings import BakeSettings, CoarseSettings, SpecializeSettings, settings_for
from stspbr.stages.bake import run_bake
from stspbr.stages.coarse import run_coarse
from stspbr.stages.session import Session
from stspbr.stages.specialize import run_specialize
from stspbr.warp_runtime import why_no_warp

pytestmark = [
    pytest.mark.skipif(not torch.cuda.is_available(), reason="the stages on CUDA: no GPU here"),
    pytest.mark.skipif(
        torch.cuda.is_available() and why_no_gpu_backend(torch.device("cuda")) is not None,
        reason="the stages on CUDA: no raster operations for it",
    ),
]
SHORT = ["optimize.iterations=30", "optimize.batch=2", "optimize.checkpoint_every=20"]


def held_out(artifact) -> float:
    return json.loads(artifact.file("metrics.json").read_text(encoding="utf-8"))["held_out"]["psnr_mean"]


def stages(run, specialize_on=("cuda", "auto"), **options):
    session = Session.open(run, quiet=True, **options)
    overrides = [*SHORT, "geometry.resolution=20", "light.mode=learned", "normals_from=0.5"]
    coarse = run_coarse(session, settings_for(CoarseSettings, overrides))
    device, backend = specialize_on
    session = Session.open(run, device=device, backend=backend, quiet=True)
    specialized = run_specialize(session, settings_for(SpecializeSettings, SHORT))
    baked = run_bake(session, settings_for(BakeSettings, [*SHORT, "texture_resolution=64", "target_faces=400"]))
    return session, [coarse, specialized, baked]


@pytest.mark.parametrize("backend", ["auto", "warp+torch", "nvdiffrast+torch"])
def test_all_stages_come_near_the_cpu(tiny_run, backend):
    if "nvdiffrast" in backend and (reason := why_no_nvdiffrast()) is not None:
        pytest.skip(reason)
    _, there = stages(tiny_run, ("cuda", backend), device="cuda", backend=backend)
    _, here = stages(tiny_run, ("cpu", "cpu"), device="cpu")
    for ours, theirs in zip(there, here, strict=True):
        assert abs(held_out(ours) - held_out(theirs)) < 1.0  # dB; sums in another order move a short run a little
    used = [run[0].manifest["backends"]["raster"] for run in (there, here)]
    assert used[0] in (("warp", "nvdiffrast") if backend == "auto" else backend) and used[1] == "cpu"


def test_deterministic_sums_give_equal_bits(tiny_run):
    if (reason := why_no_warp(torch.device("cuda"))) is not None:
        pytest.skip(reason)
    settings = settings_for(CoarseSettings, [*SHORT, "geometry.resolution=20", "optimize.deterministic=true"])
    meshes = []
    for _ in range(2):
        session = Session.open(tiny_run, device="cuda", backend="warp", quiet=True)
        meshes.append(run_coarse(session, settings).file("mesh.safetensors").read_bytes())
    assert meshes[0] == meshes[1]


def test_what_a_gpu_began_the_cpu_goes_on_with(tiny_run):
    _, artifacts = stages(tiny_run, ("cpu", "cpu"), device="cuda")
    assert artifacts[2].manifest["device"] == "cpu" and held_out(artifacts[2]) > 10
