"""Refinement by path tracing: the truth is its fixed point, and a wrong albedo finds back to it."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from stspbr.metrics.image import psnr_srgb
from stspbr.optimize.appearance import MaterialMaps, TextureAppearance
from stspbr.optimize.geometry import FixedGeometry
from stspbr.optimize.lights import KnownLight
from stspbr.optimize.loop import optimize
from stspbr.optimize.path_refinement import Defects
from stspbr.optimize.progress import SilentReporter
from stspbr.optimize.transport import TransportSchedule
from stspbr.optimize.views import ViewSet
from stspbr.procedural.jar import demo_asset, demo_light
from stspbr.render.backend import get_backend
from stspbr.render.gbuffer import render_gbuffer
from stspbr.render.mitsuba_bsdf import llvm_status
from stspbr.render.prefilter import prefilter_latlong
from stspbr.scene import Frame
from stspbr.scene.camera_rig import object_cameras
from stspbr.settings import RefineSettings, settings_for
from stspbr.transport.transport import Transport

CPU = torch.device("cpu")
SIZE = 48
FEW = ["rounds=2", "paths=64", "optimize.batch=2", "optimize.iterations=60", "polish=0",
       "optimize.rates.appearance.rate=0.02", "optimize.rates.reflectance.rate=0.005",
       "polish_pixels=2048", "max_depth=4"]  # fmt: skip


def test_defects_are_the_difference_and_its_certainty():
    defects = Defects.none(2, (2, 2), CPU)
    assert defects.weight.abs().sum() == 0
    ours = torch.full((2, 2, 3), 1.0)
    inside = torch.tensor([[[True], [True]], [[True], [False]]])
    first, second = np.full((2, 2, 3), 1.5, np.float32), np.full((2, 2, 3), 1.5, np.float32)
    first[0, 1], second[0, 1] = 1.1, 1.9  # 0.4 of noise at a radiance of 1: twice the tone at which the weight is ½
    size = defects.measure(1, (first, second), inside, ours)
    assert size == pytest.approx(0.5)
    assert defects.image[0].abs().sum() == 0
    expected = torch.tensor([[0.5, 0.5], [0.5, 0.0]])
    assert torch.allclose(defects.image[1].float(), expected[..., None].expand(2, 2, 3), atol=1e-3)
    assert torch.allclose(defects.weight[1].float()[..., 0], torch.tensor([[1.0, 0.2], [1.0, 0.0]]), atol=1e-3)


@pytest.fixture(scope="module")
def scene():
    """The jar, path-traced: its asset, its light and six views, one of them with the object turned."""
    ok, message = llvm_status()
    if not ok:
        pytest.skip(f"path-traced reference: {message}")
    from stspbr.render.mitsuba_scene import render

    asset, light = demo_asset(64, around=32, along=32), demo_light(height=64)
    cameras, _ = object_cameras(asset.mesh, 6, 0, SIZE, fov_degrees=40.0, seed=0)
    poses = [np.eye(4) for _ in cameras]
    poses[-1][:3, :3] = [[0.0, 0.0, 1.0], [0.0, 1.0, 0.0], [-1.0, 0.0, 0.0]]
    images = render(asset, light, cameras, poses, spp=400, max_depth=4, seed=3)
    frames = [
        Frame(f"{k}", camera, image, alpha, object_to_world=pose)
        for k, (camera, pose, (image, alpha)) in enumerate(zip(cameras, poses, images, strict=True))
    ]
    return asset, light, frames, prefilter_latlong(light, base_resolution=128)


def refined(scene, overrides, albedo=1.0, resume_at=None):
    """The maps after refining the true asset with its albedo times a factor, and the true maps."""
    from stspbr.optimize.path_refinement import PathRefinement
    from stspbr.render.path_gradients import PathGradients

    asset, light, frames, prefiltered = scene
    settings = settings_for(RefineSettings, [*FEW, *overrides])
    backend = get_backend("cpu", CPU)
    truth = asset.materials[0]
    maps = [torch.from_numpy(np.ascontiguousarray(own)) for own in (truth.albedo, truth.roughness, truth.metallic)]
    start = MaterialMaps((maps[0] * albedo).clamp(max=1.0), torch.cat(maps[1:], dim=-1), None)
    appearance = TextureAppearance([start], roughness_range=(0.03, 1.0), joint=False, backend=backend)
    geometry = FixedGeometry(asset.mesh, movable=False, laplacian=0.0, folding=0.0, device=CPU)
    radiance = torch.from_numpy(np.asarray(light.radiance, np.float32))
    problem = PathRefinement(
        ViewSet(frames, settings.optimize.image_scale, CPU), geometry, appearance, KnownLight(prefiltered),
        settings=settings.optimize, backend=backend, seed=0,
        transport=TransportSchedule(Transport(backend, "numba", 2), settings.optimize.iterations),
        frames=frames, tracer=PathGradients(asset, light, settings.max_depth), environment=lambda: radiance,
        refine=settings,
    )  # fmt: skip
    optimize(
        problem, settings.optimize, reporter=SilentReporter(), checkpoints=None, resume=False, device=CPU,
        before=problem.corrections(),
    )  # fmt: skip
    # texels that the views show: those that get a gradient
    seen = torch.zeros(64, 64, dtype=torch.bool)
    batch, _ = problem.views.batch(list(range(len(frames))))
    uv = render_gbuffer(geometry.surface(), batch, backend).coordinates()[0].detach()
    place = (uv.remainder(1.0) * 64).long().clamp(max=63)
    seen[place[:, 1], place[:, 0]] = True
    found = problem.appearance.plain_maps()
    return [float((a.detach() - b)[seen].abs().mean()) for a, b in zip(found, maps, strict=True)], problem


@pytest.mark.slow
@pytest.mark.parametrize("polish", [0, 20])
def test_the_truth_stays(scene, polish):
    gentle = ["optimize.rates.appearance.rate=0.002", "optimize.rates.reflectance.rate=0.002"]
    errors, _ = refined(scene, [*gentle, f"polish={polish}"])
    assert max(errors) < 0.02  # the noise of the views


@pytest.mark.parametrize(
    "steps",  # by corrections, and by the path tracer's gradient alone
    [["optimize.iterations=60"], pytest.param(["polish=50"], marks=pytest.mark.slow)],
)
def test_a_wrong_albedo_comes_back(scene, steps):
    start, _ = refined(scene, ["optimize.iterations=2", "optimize.rates.appearance.rate=1e-9"], albedo=0.6)
    errors, _ = refined(scene, steps, albedo=0.6)
    assert errors[0] < 0.35 * start[0]


def test_the_shading_plus_its_defects_is_the_path_tracer(scene):
    _, problem = refined(
        scene, ["rounds=1", "optimize.iterations=1", "optimize.rates.appearance.rate=1e-9", "paths=1024"]
    )
    asset, light, frames, _ = scene
    values = []
    for number, frame in enumerate(frames):
        batch, _ = problem.views.batch([number])
        out = problem.render(batch)
        image, weight = problem._corrected(torch.cat([out["rgb"], out["alpha"]], dim=3), [number])
        inside = weight[0, ..., 0] > 0
        values.append(psnr_srgb(frame.image, image[0, ..., :3].detach().numpy(), inside.numpy()[..., None]))
    assert np.mean(values) > 40  # what is left is the noise of 1024 and of 400 paths


def test_resuming_keeps_the_defects(scene):
    _, problem = refined(scene, ["optimize.iterations=2", "rounds=2"])
    state = problem.state()
    assert state["defects"]["image"].abs().sum() > 0
    kept = {part: {k: v.clone() for k, v in values.items()} for part, values in state.items()}
    problem._defects = Defects.none(len(problem.views), problem.views.resolution, CPU)
    problem.load_state(kept)
    assert torch.equal(problem.state()["defects"]["image"], kept["defects"]["image"])


def test_every_round_has_noise_of_its_own_and_views_may_be_reduced(scene):
    _, problem = refined(scene, ["optimize.iterations=2", "optimize.image_scale=2", "polish=0"])
    assert problem.views.resolution == (SIZE // 2, SIZE // 2)
    found = []
    for number in (0, 1, 1):
        problem.correct(number)
        found.append(problem.state()["defects"]["image"].clone())
    assert torch.equal(found[1], found[2]) and not torch.equal(found[0], found[1])
