"""The whole way: an asset and its light to USD, a turntable around them, pictures by USD's matrices, and back."""

from __future__ import annotations

import numpy as np
import pytest
import torch

pytest.importorskip("pxr", reason="usd-core is absent")
from pxr import Gf, Usd, UsdGeom, UsdLux  # noqa: E402

from stspbr.datasets.usd_scene import read_usd_scene  # noqa: E402
from stspbr.formats.images import read_image, write_exr  # noqa: E402
from stspbr.formats.usd.asset import read_usd  # noqa: E402
from stspbr.formats.usd.writer import write_usd  # noqa: E402
from stspbr.metrics.image import psnr  # noqa: E402
from stspbr.procedural.jar import demo_asset  # noqa: E402
from stspbr.render.asset_renderer import AssetRenderer  # noqa: E402
from stspbr.render.backend import get_backend  # noqa: E402
from stspbr.render.gbuffer import ViewBatch  # noqa: E402
from stspbr.render.light import EnvironmentCube  # noqa: E402
from stspbr.scene import Corners, EnvironmentLight, latlong_to_direction  # noqa: E402

CPU = torch.device("cpu")
BACKEND = get_backend("cpu", CPU)
SIZE, FRAMES = 48, 10


def cube(light: EnvironmentLight):
    return EnvironmentCube.from_latlong(light, 16).prefilter().detach()


def sky() -> np.ndarray:
    """A light with one colour from each side, in our layout."""
    u, v = np.meshgrid((np.arange(64) + 0.5) / 64, (np.arange(32) + 0.5) / 32)
    direction = latlong_to_direction(np.stack([u, v], axis=-1))
    return np.maximum(0.05, direction + 0.2 * np.roll(direction, 1, axis=-1)).astype(np.float32) * 2


def turntable(folder) -> None:
    """A Z-up stage in centimetres that refers to the asset's file, turns it, and flies past it under its dome."""
    stage = Usd.Stage.CreateNew(str(folder / "shot.usda"))
    UsdGeom.SetStageUpAxis(stage, "Z")
    UsdGeom.SetStageMetersPerUnit(stage, 0.01)
    stage.SetStartTimeCode(1)
    stage.SetEndTimeCode(FRAMES)
    spin = UsdGeom.Xform.Define(stage, "/Shot/Spin").AddRotateZOp()
    spin.Set(0.0, 1)
    spin.Set(250.0, FRAMES)
    thing = UsdGeom.Xform.Define(stage, "/Shot/Spin/Jar")
    thing.AddTranslateOp().Set(Gf.Vec3d(4, -3, 6))
    thing.AddScaleOp().Set(Gf.Vec3f(100, 100, 100))  # the asset is in metres
    thing.AddRotateXOp().Set(90.0)  # and +Y up
    UsdGeom.Xform.Define(stage, "/Shot/Spin/Jar/Asset").GetPrim().GetReferences().AddReference("./jar.usdc")
    dome = UsdLux.DomeLight_1.Define(stage, "/Shot/Sky")
    dome.GetTextureFileAttr().Set("./jar_textures/environment.exr")
    dome.AddRotateZOp().Set(90.0)
    camera = UsdGeom.Camera.Define(stage, "/Shot/Camera")
    camera.GetHorizontalApertureAttr().Set(24.0)
    camera.GetVerticalApertureAttr().Set(24.0)
    camera.GetHorizontalApertureOffsetAttr().Set(1.0)
    camera.GetFocalLengthAttr().Set(40.0)
    camera.GetClippingRangeAttr().Set(Gf.Vec2f(50, 2000))
    pose = camera.AddTransformOp()
    for frame in range(1, FRAMES + 1):
        eye = Gf.Vec3d(380 * np.cos(0.2 * frame), 380 * np.sin(0.2 * frame), 30.0 * frame - 100)
        pose.Set(Gf.Matrix4d().SetLookAt(eye, Gf.Vec3d(0, 0, 0), Gf.Vec3d(0, 0, 1)).GetInverse(), frame)
    stage.GetRootLayer().Save()


def usd_view(stage, frame: int) -> ViewBatch:
    """The asset's own space to clip space and to the dome's axes, by USD's matrices alone."""
    cache = UsdGeom.XformCache(frame)
    asset = np.array(cache.GetLocalToWorldTransform(stage.GetPrimAtPath("/Shot/Spin/Jar/Asset"))).T
    dome = np.array(cache.GetLocalToWorldTransform(stage.GetPrimAtPath("/Shot/Sky"))).T[:3, :3]
    upright = np.array([[1.0, 0, 0], [0, 0, -1], [0, 1, 0]])  # poleAxis scene on a Z-up stage: +Y to +Z, +Z to −Y
    frustum = UsdGeom.Camera(stage.GetPrimAtPath("/Shot/Camera")).GetCamera(frame).frustum
    clip = np.array(frustum.ComputeViewMatrix() * frustum.ComputeProjectionMatrix()).T @ asset
    eye = np.linalg.solve(asset, [*frustum.position, 1.0])[:3]
    to_dome = (dome @ upright).T @ asset[:3, :3] / 100

    def tensor(values: np.ndarray) -> torch.Tensor:
        return torch.as_tensor(np.ascontiguousarray(values)[None], dtype=torch.float32)

    return ViewBatch(tensor(np.diag([1, -1, 1, 1]) @ clip), tensor(eye), tensor(to_dome), (SIZE, SIZE))


@pytest.fixture(scope="module")
def shot(tmp_path_factory):
    """The folder of the scene with its pictures, rendered in the asset's and the dome's own axes."""
    folder = tmp_path_factory.mktemp("shot")
    jar, light = demo_asset(64), EnvironmentLight(sky())
    write_usd(folder / "jar.usdc", jar, light)
    turntable(folder)
    # the texture as the dome has it: in its own axes the middle is +Z, which in our layout is half a turn away
    texture, _, _ = read_image(folder / "jar_textures/environment.exr")
    lit = cube(EnvironmentLight(np.roll(texture, texture.shape[1] // 2, axis=1)))
    renderer = AssetRenderer(jar, BACKEND, CPU)
    stage = Usd.Stage.Open(str(folder / "shot.usda"))
    for frame in range(1, FRAMES + 1):
        image = renderer.render(usd_view(stage, frame), lit)
        write_exr(folder / f"beauty.{frame:04d}.exr", image["rgb"][0].numpy(), alpha=image["alpha"][0].numpy())
    return folder


def test_the_capture_shows_the_asset_under_the_light(shot):
    capture = read_usd_scene(
        shot / "shot.usda", "/Shot/Camera", "beauty.$F4.exr", f"1:{FRAMES}", "/Shot/Spin/Jar/Asset"
    )
    asset = read_usd(shot / "jar.usdc")
    # object space is the prim's own axes turned with the stage, Z-up to +Y up: undone here, as for any Z-up stage
    turn = np.array([[1.0, 0, 0], [0, 0, 1], [0, -1, 0]])
    asset.mesh.positions = (asset.mesh.positions @ turn.T).astype(np.float32)
    normals = asset.mesh.normals
    asset.mesh.normals = Corners((normals.values @ turn.T).astype(np.float32), normals.index)
    renderer, lit = AssetRenderer(asset, BACKEND, CPU), cube(capture.light)
    for frame in capture.frames:
        image = renderer.render(ViewBatch.of([frame.camera], [frame.object_to_world], CPU), lit)
        assert frame.alpha.mean() > 0.1
        assert psnr(image["rgb"][0], torch.as_tensor(frame.image)) > 45
        assert psnr(image["alpha"][0], torch.as_tensor(frame.alpha)) > 50


def test_a_light_turned_by_a_quarter_would_be_seen(shot):
    """The measure above can fail: the sky has another colour on each side."""
    capture = read_usd_scene(
        shot / "shot.usda", "/Shot/Camera", "beauty.$F4.exr", f"1:{FRAMES}", "/Shot/Spin/Jar/Asset"
    )
    asset = read_usd(shot / "jar.usdc")
    wrong = EnvironmentLight(np.roll(capture.light.radiance, 16, axis=1))
    frame = capture.frames[0]
    image = AssetRenderer(asset, BACKEND, CPU).render(
        ViewBatch.of([frame.camera], [frame.object_to_world], CPU), cube(wrong)
    )
    assert psnr(image["rgb"][0], torch.as_tensor(frame.image)) < 30
