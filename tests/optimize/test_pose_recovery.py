"""Poses that are off are found again by the reconstruction's own losses, with shape and appearance known."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch

from stspbr.optimize.appearance import TextureAppearance
from stspbr.optimize.cameras import Cameras
from stspbr.optimize.geometry import FixedGeometry
from stspbr.optimize.lights import KnownLight
from stspbr.optimize.loop import Stopwatch
from stspbr.optimize.reconstruction import Reconstruction
from stspbr.optimize.routing import backpropagate
from stspbr.optimize.views import ViewSet
from stspbr.procedural.jar import demo_asset
from stspbr.render.backend import get_backend
from stspbr.render.gbuffer import ViewBatch
from stspbr.render.light import EnvironmentCube
from stspbr.scene import Frame
from stspbr.scene.camera_rig import object_cameras
from stspbr.settings import CoarseSettings
from stspbr.settings.camera import PoseSettings

CPU = torch.device("cpu")
VIEWS, SIZE = 8, 64


def maps(asset):
    from stspbr.optimize.appearance import MaterialMaps

    material = asset.materials[0]
    rough, metal = (torch.as_tensor(v, dtype=torch.float32) for v in (material.roughness, material.metallic))
    return MaterialMaps(torch.as_tensor(material.albedo, dtype=torch.float32), torch.cat([rough, metal], dim=-1), None)


def problem(frames: list[Frame], asset, cameras: Cameras | None) -> Reconstruction:
    backend = get_backend("cpu", CPU)
    geometry = FixedGeometry(asset.mesh, movable=False, laplacian=0.0, folding=0.0, device=CPU)
    appearance = TextureAppearance(
        [maps(asset)], face_material=None, roughness_range=(0.03, 1.0), learn_normal=False, joint=False, backend=backend
    )
    cube = EnvironmentCube(16, 0.8, False)
    with torch.no_grad():
        cube.set_radiance(0.3 + torch.rand(cube.radiance.shape, generator=torch.Generator().manual_seed(1)))
    light = KnownLight(cube.prefilter())
    optimize = CoarseSettings().optimize.model_copy(update={"batch": VIEWS})
    return Reconstruction(
        ViewSet(frames, 1, CPU), geometry, appearance, light, settings=optimize, backend=backend, seed=0,
        cameras=cameras,
    )  # fmt: skip


def test_poses_are_found_again():
    asset = demo_asset(64, 32, 24)
    train, _ = object_cameras(asset.mesh, VIEWS, 1, SIZE, fov_degrees=40.0)
    empty = [Frame(f"f{k}", c, np.zeros((SIZE, SIZE, 3), np.float32), np.ones((SIZE, SIZE, 1), np.float32))
             for k, c in enumerate(train)]  # fmt: skip
    exact = problem([replace(empty[0], image=empty[0].image + 0.5)], asset, None)
    frames = []
    for frame in empty:
        out = exact.render(ViewBatch.of([frame.camera], [np.eye(4)], CPU))
        alpha = out["alpha"][0].clamp(0, 1).numpy()
        frames.append(replace(frame, image=out["rgb"][0].numpy(), alpha=alpha))
    cameras = Cameras(frames, PoseSettings(prior=0.0), 0.0)
    wrong = torch.randn(VIEWS, 6, generator=torch.Generator().manual_seed(0)) * 0.005
    with torch.no_grad():
        cameras.poses.twist.copy_(wrong)
        cameras.constrain()
    before = cameras.poses.twist.detach().norm(dim=1).mean()
    fit = problem(frames, asset, cameras)
    optimizer = torch.optim.Adam(cameras.parameters(), lr=0.001)
    for step in range(60):
        optimizer.param_groups[0]["lr"] = 0.001 if step < 40 else 0.0002
        terms = fit.terms(step, 0.5, Stopwatch())
        backpropagate(terms, {"cameras": list(cameras.parameters())}, "strict")
        optimizer.step()
        cameras.constrain()
    after = cameras.poses.twist.detach().norm(dim=1).mean()
    assert before > 0.008 and after < 0.15 * before, (before, after)
    assert cameras.lens.abs().max() < 0.002
