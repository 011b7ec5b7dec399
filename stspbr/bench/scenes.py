"""The timed problems: a coarse and a refinement step on an object made in memory."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from stspbr.bench.settings import BenchSettings
from stspbr.fields.materials import MaterialFields
from stspbr.geometry.dmtet import DMTet
from stspbr.geometry.visual_hull import visual_hull_sdf
from stspbr.optimize.appearance import Appearance, FieldAppearance, MaterialMaps, TextureAppearance
from stspbr.optimize.geometry import FixedGeometry, Geometry, ImplicitGeometry
from stspbr.optimize.lights import KnownLight, LearnedLight, Light
from stspbr.optimize.loop import Stopwatch
from stspbr.optimize.map_adam import Visited
from stspbr.optimize.reconstruction import Reconstruction
from stspbr.optimize.routing import Term
from stspbr.optimize.views import ViewSet
from stspbr.procedural.jar import demo_asset, demo_light
from stspbr.render.asset_renderer import AssetRenderer
from stspbr.render.light import EnvironmentCube
from stspbr.render.prefilter import PrefilteredLight, prefilter_latlong
from stspbr.render.raster_backend import RasterBackend
from stspbr.scene import Asset, Camera, EnvironmentLight, Frame
from stspbr.scene.camera_rig import object_cameras
from stspbr.settings import BakeSettings, CoarseSettings, OptimizeSettings

_SEED = 0
_PROGRESS = 0.5  # of a stage: a typical step


@dataclass
class BenchScene:
    """The demo object, its light, cameras around it and their frames; the object fits into [−1, 1]³."""

    asset: Asset
    light: EnvironmentLight
    prefiltered: PrefilteredLight
    cameras: list[Camera]
    frames: list[Frame]


def make_scene(settings: BenchSettings, backend: RasterBackend, device: torch.device) -> BenchScene:
    """The scene of ``settings``; equal settings give equal scenes."""
    asset = demo_asset(settings.texture_resolution, settings.around, settings.along)
    light = demo_light(128)
    prefiltered = prefilter_latlong(light, base_resolution=settings.light_resolution).to(device)
    cameras, _ = object_cameras(
        asset.mesh, settings.views, 0, settings.resolution, fov_degrees=40.0, seed=_SEED, elevation_degrees=(-60, 80)
    )
    renderer = AssetRenderer(asset, backend, device)
    side = settings.resolution
    blank = [
        Frame(f"{k:04d}.exr", camera, np.zeros((side, side, 3), np.float32), np.ones((side, side, 1), np.float32))
        for k, camera in enumerate(cameras)
    ]
    views, frames = ViewSet(blank, 1, device), []
    for number, frame in enumerate(blank):
        out = renderer.render(views.batch([number])[0], prefiltered)
        image, alpha = (out[name][0].cpu().numpy() for name in ("rgb", "alpha"))
        frames.append(replace(frame, image=image.clip(min=0.0), alpha=alpha.clip(0.0, 1.0)))
    return BenchScene(asset, light, prefiltered, cameras, frames)


def make_problems(
    scene: BenchScene, settings: BenchSettings, backend: RasterBackend, device: torch.device
) -> Iterator[tuple[str, OptimizeSettings, Reconstruction]]:
    """(name, settings of the loop, problem) of each timed step, with a known and with a learned light."""
    views = ViewSet(scene.frames, 1, device)
    coarse, bake = CoarseSettings(), BakeSettings()

    def problem(optimize: OptimizeSettings, geometry: Geometry, appearance: Appearance, light: Light):  # noqa: ANN202
        optimize, parts = optimize.model_copy(update={"batch": settings.batch}), (geometry, appearance, light)
        return optimize, Reconstruction(views, *parts, settings=optimize, backend=backend, seed=_SEED)

    for kind in ("known", "learned"):
        geometry, appearance = _coarse_parts(scene, settings, coarse, device)
        yield f"coarse, {kind} light", *problem(coarse.optimize, geometry, appearance, _light(kind, scene, device))
        geometry, appearance = _refinement_parts(scene, coarse, bake, backend, device)
        yield f"refinement, {kind} light", *problem(bake.optimize, geometry, appearance, _light(kind, scene, device))


class SteadyProblem:
    """A problem held at one point of its stage, so that all steps do the same work.

    Args:
        problem: what the loop optimises.
        after_forward: called with the terms of each step before they are differentiated.
    """

    def __init__(self, problem: Reconstruction, after_forward: Any) -> None:
        self._problem = problem
        self._after_forward = after_forward

    @property
    def share(self) -> float:
        return self._problem.share

    @property
    def visited(self) -> Sequence[Visited]:
        return self._problem.visited

    def groups(self) -> dict[str, list[Tensor]]:
        return self._problem.groups()

    def maps(self) -> list[Tensor]:
        return self._problem.maps()

    def terms(self, step: int, progress: float, watch: Stopwatch) -> list[Term]:
        terms = self._problem.terms(step, _PROGRESS, watch)
        self._after_forward(terms)
        return terms

    def constrain(self) -> None:
        self._problem.constrain()

    def preview(self) -> dict[str, Any]:
        return {}

    def state(self) -> dict[str, dict[str, Tensor]]:
        return self._problem.state()

    def load_state(self, state: dict[str, dict[str, Tensor]]) -> None:
        self._problem.load_state(state)


def _coarse_parts(
    scene: BenchScene, settings: BenchSettings, coarse: CoarseSettings, device: torch.device
) -> tuple[Geometry, Appearance]:
    generator = torch.Generator().manual_seed(_SEED)
    dmtet = DMTet(settings.grid, np.full(3, -1.1), np.full(3, 1.1), generator)
    dmtet.init_sdf(visual_hull_sdf(dmtet.grid.numpy(), scene.frames))
    box = torch.tensor([[-1.1] * 3, [1.1] * 3])
    fields = MaterialFields(coarse.fields, box, generator).to(device)
    return ImplicitGeometry(dmtet, coarse.geometry).to(device), FieldAppearance(fields, coarse.normals_from)


def _refinement_parts(
    scene: BenchScene, coarse: CoarseSettings, bake: BakeSettings, backend: RasterBackend, device: torch.device
) -> tuple[Geometry, Appearance]:
    """The object itself with a flat normal map: the maps start at the truth, which does not change a step's work."""
    material = scene.asset.materials[0]
    mesh = replace(scene.asset.mesh, face_material=None)
    geometry = FixedGeometry(mesh, movable=True, laplacian=bake.laplacian, folding=bake.folding, device=device)

    def tensor(values: np.ndarray) -> Tensor:
        return torch.as_tensor(values, dtype=torch.float32, device=device)

    flat = np.broadcast_to(np.array([0.0, 0.0, 1.0], np.float32), material.albedo.shape).copy()
    reflectance = np.concatenate([material.roughness, material.metallic], axis=-1)
    appearance = TextureAppearance(
        [MaterialMaps(tensor(material.albedo), tensor(reflectance), tensor(flat))],
        roughness_range=coarse.fields.roughness_range,
        joint=False,
        backend=backend,
    ).to(device)
    return geometry.to(device), appearance


def _light(kind: str, scene: BenchScene, device: torch.device) -> Light:
    if kind == "known":
        return KnownLight(scene.prefiltered)
    settings = CoarseSettings().light
    cube = EnvironmentCube(settings.learned_resolution, settings.initial_radiance, settings.common_scale)
    return LearnedLight(cube, settings.white_balance, settings.smoothness).to(device)
