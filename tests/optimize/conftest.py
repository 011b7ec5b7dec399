"""A small object with known maps, and photographs of it by our own shading."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from stspbr.optimize.appearance import MaterialMaps, TextureAppearance
from stspbr.optimize.geometry import FixedGeometry
from stspbr.optimize.lights import KnownLight
from stspbr.optimize.reconstruction import Reconstruction
from stspbr.optimize.views import ViewSet
from stspbr.procedural.jar import demo_asset, demo_light
from stspbr.render.backend import get_backend
from stspbr.render.light import EnvironmentCube
from stspbr.scene import Frame
from stspbr.scene.camera_rig import object_cameras
from stspbr.settings import BakeSettings

CPU = torch.device("cpu")


def photographed_jar(views: int = 8, noise: float = 0.003, seed: int = 0, only: list[int] | None = None):
    """The demo jar with its own maps of 32² as a problem, and photographs of exactly these maps, with noise."""
    backend = get_backend("cpu", CPU)
    asset = demo_asset(32, around=24, along=20)
    mesh, truth = asset.mesh, asset.materials[0]
    mesh.positions[:] = mesh.positions / (1.1 * np.abs(mesh.positions).max())
    cameras = object_cameras(mesh, views, 0, 40)[0]
    cameras = cameras if only is None else [cameras[k] for k in only]
    empty = np.zeros((40, 40, 4), np.float32)
    frames = [Frame(f"view_{k}", camera, empty[..., :3], empty[..., 3:]) for k, camera in enumerate(cameras)]
    frames[0].alpha[:] = 1.0  # a capture without any coverage is refused
    reflectance = torch.as_tensor(np.concatenate([truth.roughness, truth.metallic], axis=-1))
    appearance = TextureAppearance(
        [MaterialMaps(torch.as_tensor(truth.albedo), reflectance, None)],
        roughness_range=(0.03, 1.0), joint=False, backend=backend,
    )  # fmt: skip
    light = KnownLight(EnvironmentCube.from_latlong(demo_light(64), 32).prefilter().detach())
    geometry = FixedGeometry(mesh, movable=False, laplacian=0.0, folding=0.0, device=CPU)

    def problem(frames: list[Frame]) -> Reconstruction:
        return Reconstruction(
            ViewSet(frames, 1, CPU), geometry, appearance, light,
            settings=BakeSettings().optimize, backend=backend, seed=0,
        )  # fmt: skip

    first, rng = problem(frames), np.random.default_rng(seed)
    photographs = []
    for k, frame in enumerate(frames):
        found = first.render(first.views.batch([k])[0])
        alpha = found["alpha"][0].numpy()
        image = found["rgb"][0].numpy() * (1.0 + noise * rng.normal(size=(40, 40, 3))).astype(np.float32)
        photographs.append(frame.with_fields(image=image * (alpha > 0), alpha=alpha))
    return problem(photographs)


@pytest.fixture(scope="module")
def jar():
    return photographed_jar()
