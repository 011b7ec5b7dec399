"""Do N turned lights beat N cameras under a fixed light? ``make quality-duplicates ARGS="--turned"``.

N copies in one photograph are N views, each under another light. The same N views of one object that stands still, by N
cameras, have one light. Both captures have the true poses and the same pixels of the object; only the light differs. In
both it is learned. What roughness and metallic are worth afterwards answers the question.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from stspbr.artifacts import Artifact
from stspbr.scene import Camera, Capture, EnvironmentLight, Frame, look_at
from stspbr.settings import CaptureMeshSettings

_ELEVATION, _FOV = 40.0, 30.0  # degrees
_STEP = 35.0  # degrees from one view to the next, on average
_MARGIN = 1.1


def views(asset: Any, count: int, side: int, turned: bool, seed: int = 0) -> list[tuple[Camera, np.ndarray]]:
    """Cameras and ``object_to_world`` ``[4, 4]`` of N views of an upright object from one height.

    Args:
        turned: the camera stands still and the object turns; else the other way round. The views are the same.
    """
    points = np.asarray(asset.mesh.positions, np.float64)
    middle = 0.5 * (points.min(axis=0) + points.max(axis=0))
    radius = float(np.linalg.norm(points - middle, axis=1).max())
    rng = np.random.default_rng(seed)
    yaws = np.radians(_STEP * (np.arange(count) + rng.uniform(-0.2, 0.2, count)))
    distance = _MARGIN * radius / np.sin(np.radians(0.5 * _FOV))
    slope = np.radians(_ELEVATION)
    place = middle + distance * np.array([0.0, np.sin(slope), np.cos(slope)])
    focal = 0.5 * side / np.tan(np.radians(0.5 * _FOV))
    near, far = distance - 1.5 * radius, distance + 1.5 * radius
    still = Camera(look_at(place, middle), focal, focal, 0.5 * side, 0.5 * side, side, side, near=near, far=far)
    out = []
    for yaw in yaws:
        turn = _about(middle, -yaw if turned else yaw)
        if turned:
            out.append((still, turn))
        else:
            out.append((replace(still, camera_to_world=turn @ still.camera_to_world), np.eye(4)))
    return out


def rendered(asset: Any, light: EnvironmentLight, at: Sequence[tuple[Camera, np.ndarray]], cache: Path) -> Capture:
    """The capture of these views as the stages would see them: no shadows, no noise; the light is not in it."""
    import torch

    from stspbr.render.asset_renderer import AssetRenderer
    from stspbr.render.backend import get_backend
    from stspbr.render.gbuffer import ViewBatch
    from stspbr.render.prefilter import prefilter_latlong

    device = torch.device("cpu")
    bare = replace(asset, materials=[replace(m, occlusion=None) for m in asset.materials])
    renderer = AssetRenderer(bare, get_backend("cpu", device), device)
    prefiltered = prefilter_latlong(light, base_resolution=256, cache_dir=cache).to(device)
    frames = []
    for number, (camera, pose) in enumerate(at):
        out = renderer.render(ViewBatch.of([camera], [pose], device), prefiltered)
        image, alpha = (out[name][0].numpy() for name in ("rgb", "alpha"))
        frames.append(Frame(f"images/view_{number:03d}.exr", camera, image.clip(min=0.0), alpha.clip(0.0, 1.0), pose))
    return Capture(frames)


def compared(
    folder: Path, asset: str, light: str, count: int = 8, side: int = 128, seed: int = 0,
    overrides: Sequence[str] = (), threads: int = 1,
) -> dict[str, Any]:  # fmt: skip
    """Both captures through the stages of the recipe ``pile``, with equal settings and seed.

    Args:
        asset, light: files, or ``procedural:NAME``.
        overrides: of the recipe, as ``--set`` has them.

    Returns:
        ``"turned"`` and ``"fixed"``: errors on the seen surface; ``"ratio"``: turned over fixed.
    """
    rows = {name: _run(folder / name, asset, light, count, side, seed, overrides, threads, name == "turned")
            for name in ("turned", "fixed")}  # fmt: skip
    ratio = {}
    for name in ("roughness_mae", "metallic_mae", "albedo_mae_scaled"):
        own, other = rows["turned"][name], rows["fixed"][name]
        if own is not None and other:
            ratio[name] = own / other
    return {"asset": asset, "light": light, "views": count, "side": side, "seed": seed, **rows, "ratio": ratio}


def _run(
    run: Path, asset: str, light: str, count: int, side: int, seed: int, overrides: Sequence[str], threads: int,
    turned: bool,
) -> dict[str, float | None]:  # fmt: skip
    from stspbr.quality.metrics import read_values
    from stspbr.settings import load_recipe
    from stspbr.stages.run import run_recipe
    from stspbr.stages.session import Session

    session = Session.open(run, seed=seed, device="cpu", threads=threads, quiet=True, resume=True)
    settings = CaptureMeshSettings(asset=asset, light=light, views=count, test_views=0, resolution=side, fov=_FOV,
                                   elevation=(_ELEVATION, _ELEVATION), store_light=False)  # fmt: skip
    known = ["coarse.camera.poses.mode=off", *overrides]
    recipe = load_recipe("pile", known).model_copy(update={"capture": settings})
    capture = session.store.find("capture", settings.model_dump(mode="json"), [], seed)
    if capture is None:
        capture = _written(session, settings, turned)
    return read_values(run_recipe(session, recipe, lambda line: None, capture, without=["unpack-orm"]))


def _written(session: Any, settings: CaptureMeshSettings, turned: bool) -> Artifact:
    from stspbr.datasets.transforms_writer import write_transforms
    from stspbr.stages.capture_mesh import load_asset, load_light

    asset = load_asset(settings)
    at = views(asset, settings.views, settings.resolution, turned, session.seed)
    capture = rendered(asset, load_light(settings.light), at, session.run / ".cache")
    with session.create("capture", settings) as draft:
        write_transforms(draft.path, capture)
    return draft.artifact


def _about(middle: np.ndarray, yaw: float) -> np.ndarray:
    """``[4, 4]`` a turn about the vertical axis through ``middle``."""
    out = np.eye(4)
    cos, sin = np.cos(yaw), np.sin(yaw)
    out[:3, :3] = [[cos, 0.0, sin], [0.0, 1.0, 0.0], [-sin, 0.0, cos]]
    out[:3, 3] = middle - out[:3, :3] @ middle
    return out
