"""What is compared: both sides really differentiate, and take turns."""

from __future__ import annotations

import pytest
import torch

from stspbr.bench.baselines import take_turns
from stspbr.bench.dense_step import WholeImageStep
from stspbr.bench.scenes import make_problems, make_scene
from stspbr.bench.settings import bench_settings
from stspbr.render.backend import get_backend

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def scene():
    return make_scene(bench_settings("tiny"), get_backend("cpu", CPU), CPU)


def test_both_sides_take_turns_after_one_to_warm_up():
    calls = []
    out = take_turns(
        "n", ("us", lambda: calls.append("ours")), ("them", lambda: calls.append("theirs")), CPU, repeats=2
    )
    assert calls == ["ours", "theirs"] * 3
    assert len(out["ours_seconds"]["wall"]) == len(out["theirs_seconds"]["cpu"]) == 2
    median, low, high = out["ratio"]["wall"]
    assert low <= median <= high


@pytest.mark.slow
def test_the_whole_image_configuration_differentiates_everything(scene):
    settings, backend = bench_settings("tiny"), get_backend("cpu", CPU)
    problems = {name: problem for name, _, problem in make_problems(scene, settings, backend, CPU)}
    step = WholeImageStep(scene, settings, problems["coarse, learned light"], CPU)
    gradients = step()
    assert step.how == "our encoding"
    assert len(gradients) >= 6
    assert all(gradient is not None and bool(gradient.any()) for gradient in gradients)
    assert all(bool(torch.isfinite(gradient).all()) for gradient in gradients)


@pytest.mark.slow
def test_mitsuba_differentiates_maps_and_environment(scene):
    pytest.importorskip("mitsuba")
    from stspbr.bench.mitsuba_baseline import MitsubaStep
    from stspbr.render.mitsuba_bsdf import llvm_status

    if not llvm_status()[0]:
        pytest.skip(llvm_status()[1])
    gradients = MitsubaStep(scene, 2)(1)  # its making raises where a gradient is all zero
    assert {name.rsplit(".", 2)[-2] for name in gradients} == {"base_color", "roughness", "metallic", "light"}
