"""USD scenes as captures: rays and silhouettes against USD's own frustum; units, motion, apertures, bad input."""

from __future__ import annotations

import shutil

import numpy as np
import pytest
import torch

pytest.importorskip("pxr", reason="usd-core is absent")
from pxr import Gf, Sdf, Usd, UsdGeom, UsdLux, UsdRender  # noqa: E402

from stspbr.datasets.usd_scene import frame_numbers, read_usd_scene  # noqa: E402
from stspbr.errors import StspbrError  # noqa: E402
from stspbr.formats.images import write_exr, write_png8  # noqa: E402
from stspbr.render.backend import get_backend  # noqa: E402

WIDTH, HEIGHT = 96, 64
CAMERA, OBJECT = "/World/Rig/Camera", "/World/Table/Thing"
BACKEND = get_backend("cpu", torch.device("cpu"))
# a chair-like shape without any symmetry, in units of the prim (metres before scaling)
POINTS = np.array(
    [[-1, -0.7, -0.4], [1, -0.7, -0.4], [1, 0.7, -0.4], [-1, 0.7, -0.4], [0.9, 0.5, 1.1], [-0.2, -0.6, 0.5]]
)
FACES = np.array([[0, 2, 1], [0, 3, 2], [1, 2, 4], [2, 3, 4], [3, 0, 5], [0, 1, 5], [1, 4, 5], [4, 3, 5]], np.int32)


def write_scene(path, up="Z", metres=0.001, frames=10, **changes) -> None:
    """A turntable that turns, a scaled object on it, a camera that moves and zooms, with lens shift."""
    stage = Usd.Stage.CreateNew(str(path))
    UsdGeom.SetStageUpAxis(stage, up)
    UsdGeom.SetStageMetersPerUnit(stage, metres)
    stage.SetStartTimeCode(1)
    stage.SetEndTimeCode(frames)
    unit = 1 / metres
    axis = Gf.Vec3d(0, 0, 1) if up == "Z" else Gf.Vec3d(0, 1, 0)
    UsdGeom.Xform.Define(stage, "/World")
    table = UsdGeom.Xform.Define(stage, "/World/Table")
    table.AddTranslateOp().Set(Gf.Vec3d(0.3, -0.2, 0.1) * unit)
    turn = table.AddRotateZOp() if up == "Z" else table.AddRotateYOp()
    turn.Set(0.0, 1)
    turn.Set(200.0, frames)
    thing = UsdGeom.Xform.Define(stage, OBJECT)
    thing.AddTranslateOp().Set(Gf.Vec3d(0.05, 0.1, -0.02) * unit)
    thing.AddRotateXYZOp().Set(Gf.Vec3f(10, 20, 30))
    thing.AddScaleOp().Set(Gf.Vec3f(*changes.get("scale", (0.5, 0.5, 0.5))))
    mesh = UsdGeom.Mesh.Define(stage, OBJECT + "/Mesh")
    mesh.GetPointsAttr().Set((POINTS * unit).astype(np.float32))
    mesh.GetFaceVertexCountsAttr().Set([3] * len(FACES))
    mesh.GetFaceVertexIndicesAttr().Set(FACES.reshape(-1))
    UsdGeom.Xform.Define(stage, "/World/Rig").AddScaleOp().Set(Gf.Vec3f(2, 2, 2))  # rigs of cameras are often scaled
    camera = UsdGeom.Camera.Define(stage, CAMERA)
    camera.GetHorizontalApertureAttr().Set(changes.get("horizontal", 36.0))
    camera.GetVerticalApertureAttr().Set(changes.get("vertical", 24.0))
    camera.GetHorizontalApertureOffsetAttr().Set(2.5)
    camera.GetVerticalApertureOffsetAttr().Set(-1.5)
    camera.GetClippingRangeAttr().Set(Gf.Vec2f(0.1 * unit, 50 * unit))
    pose = camera.AddTransformOp()
    for frame in range(1, frames + 1):
        camera.GetFocalLengthAttr().Set(35.0 + frame, frame)
        angle, lift = 0.25 * frame, 0.4 + 0.1 * frame
        ring = (np.cos(angle), np.sin(angle), lift) if up == "Z" else (np.cos(angle), lift, np.sin(angle))
        eye = (Gf.Vec3d(0.3, -0.2, 0.1) + Gf.Vec3d(*ring) * 3.5) * unit * 0.5
        target = Gf.Vec3d(0.3, -0.2, 0.1) * unit * 0.5
        pose.Set(Gf.Matrix4d().SetLookAt(eye, target, axis).GetInverse(), frame)
    stage.GetRootLayer().Save()


def usd_rasterised(stage, frame: int) -> np.ndarray:
    """Coverage ``[H, W, 1]`` of the mesh by USD's own matrices (row vectors, y up): nothing of ours but the raster."""
    mesh = UsdGeom.Mesh(stage.GetPrimAtPath(OBJECT + "/Mesh"))
    points = np.array(mesh.GetPointsAttr().Get(frame), np.float64)
    world = np.array(mesh.ComputeLocalToWorldTransform(frame))
    frustum = UsdGeom.Camera(stage.GetPrimAtPath(CAMERA)).GetCamera(frame).frustum
    clip = np.c_[points, np.ones(len(points))] @ world @ frustum.ComputeViewMatrix() @ frustum.ComputeProjectionMatrix()
    return rasterised(clip * (1, -1, 1, 1))


def rasterised(clip: np.ndarray) -> np.ndarray:
    positions = torch.as_tensor(clip[None].astype(np.float32))
    rast, _ = BACKEND.rasterize(positions, torch.as_tensor(FACES), (HEIGHT, WIDTH))
    return (rast[0, :, :, 3:] > 0).numpy().astype(np.float32)


def render(folder, path, frames=10, pattern="render.{:04d}.exr") -> None:
    stage = Usd.Stage.Open(str(path))
    for frame in range(1, frames + 1):
        alpha = usd_rasterised(stage, frame)
        image = alpha * np.float32([0.2, 0.4, 0.1 * frame])
        write_exr(folder / pattern.format(frame), image, alpha=alpha)


@pytest.fixture(scope="module")
def millimetres(tmp_path_factory):
    folder = tmp_path_factory.mktemp("usd")
    write_scene(folder / "scene.usda")
    render(folder, folder / "scene.usda")
    return folder


def read(folder, name="scene.usda", **changes):
    arguments = {"camera": CAMERA, "images": "render.$F4.exr", "frames": "1:10", "object_path": OBJECT, **changes}
    return read_usd_scene(folder / name, **arguments)


def object_rays(frame, columns, rows) -> tuple[np.ndarray, np.ndarray]:
    """Origin and unit directions in object space of a frame's pixels."""
    view = frame.camera
    turned = np.linalg.inv(frame.object_to_world) @ view.camera_to_world
    x, y = (columns - view.cx) / view.fx, -(rows - view.cy) / view.fy
    direction = np.stack([x, y, -np.ones_like(x)], axis=-1) @ turned[:3, :3].T
    return turned[:3, 3], direction / np.linalg.norm(direction, axis=-1, keepdims=True)


@pytest.mark.parametrize(("up", "metres"), [("Z", 0.001), ("Y", 0.01), ("Y", 1.0), ("Z", 0.3048)])
def test_rays_in_object_space_are_those_of_usds_frustum(tmp_path, up, metres):
    path = tmp_path / "scene.usdc"
    write_scene(path, up, metres)
    render(tmp_path, path)
    capture = read(tmp_path, "scene.usdc")
    stage = Usd.Stage.Open(str(path))
    # the statement of the module: object point = R · prim point · metersPerUnit · scale
    turn = np.array([[1, 0, 0], [0, 0, 1], [0, -1, 0]]) if up == "Z" else np.eye(3)
    to_object = turn * metres * 0.5
    columns, rows = (v.reshape(-1) for v in np.meshgrid(np.linspace(0, WIDTH, 7), np.linspace(0, HEIGHT, 5)))
    for index, frame in enumerate(capture.frames):
        time = index + 1
        frustum = UsdGeom.Camera(stage.GetPrimAtPath(CAMERA)).GetCamera(time).frustum
        to_prim = UsdGeom.XformCache(time).GetLocalToWorldTransform(stage.GetPrimAtPath(OBJECT)).GetInverse()
        from_clip = (frustum.ComputeViewMatrix() * frustum.ComputeProjectionMatrix()).GetInverse() * to_prim
        origin, direction = object_rays(frame, columns, rows)
        np.testing.assert_allclose(origin, to_object @ to_prim.Transform(frustum.position), atol=1e-5)
        for k, (column, row) in enumerate(zip(columns, rows, strict=True)):
            ends = [from_clip.Transform(Gf.Vec3d(2 * column / WIDTH - 1, 1 - 2 * row / HEIGHT, z)) for z in (-1, 0.9)]
            along = to_object @ (np.array(ends[1]) - np.array(ends[0]))
            np.testing.assert_allclose(direction[k], along / np.linalg.norm(along), atol=1e-5)
        assert frame.camera.near == pytest.approx(0.1, rel=1e-5)
        assert frame.camera.far == pytest.approx(50, rel=1e-5)
        # and the mesh in object space, drawn by our camera, is USD's own picture
        points = np.array(UsdGeom.Mesh(stage.GetPrimAtPath(OBJECT + "/Mesh")).GetPointsAttr().Get()) @ to_object.T
        clip = np.c_[points, np.ones(len(points))] @ frame.camera.clip_from_object(frame.object_to_world).T
        assert np.abs(rasterised(clip) - frame.alpha).sum() <= 1
        assert frame.alpha.sum() > 100


def test_the_turntable_turns_the_object_and_not_the_camera_alone(millimetres):
    capture = read(millimetres)
    poses = np.stack([frame.object_to_world for frame in capture.frames])
    angle = np.degrees(np.arccos((np.trace(poses[0, :3, :3].T @ poses[9, :3, :3]) - 1) / 2))
    assert angle == pytest.approx(360 - 200, abs=0.01)
    up = poses[:, :3, :3] @ np.linalg.inv(poses[0, :3, :3]) @ [0, 1, 0]
    np.testing.assert_allclose(up, np.tile([0, 1, 0], (10, 1)), atol=1e-6)  # about +Y, though the stage is Z-up
    np.testing.assert_allclose(poses[0, :3, 3], [0.35, 0.08, 0.1], atol=1e-6)  # (x, z, −y) of the stage in metres


def test_without_an_object_it_stands_still_in_the_world(millimetres):
    capture = read(millimetres, object_path=None)
    assert all(np.array_equal(frame.object_to_world, np.eye(4)) for frame in capture.frames)


def test_it_says_what_was_done_to_units_and_axes(millimetres):
    remarks: list[str] = []
    read(millimetres, on_warning=remarks.append)
    text = "\n".join(remarks)
    for wanted in ("scene.usda is in millimetres", "factor of 0.001", "Z-up: turned to +Y", "scaled by 0.5"):
        assert wanted in text


def test_held_out_frames_and_steps(millimetres):
    capture = read(millimetres, hold_out_every=4)
    assert [k for k, frame in enumerate(capture.frames) if frame.split == "test"] == [0, 4, 8]
    capture = read(millimetres, frames="2:10:3", hold_out_every=0)
    assert [frame.name for frame in capture.frames] == [f"render.{k:04d}.exr" for k in (2, 5, 8)]
    assert not capture.split("test")
    assert frame_numbers("3:9:3") == [3, 6, 9] and frame_numbers("7") == [7]


@pytest.mark.parametrize("pattern", ["pictures/a_####.exr", "pictures/a_%04d.exr", "{}/pictures/a_$F4.exr"])
def test_patterns_for_images(millimetres, tmp_path, pattern):
    shutil.copy(millimetres / "scene.usda", tmp_path)
    (tmp_path / "pictures").mkdir()
    for frame in range(1, 11):
        shutil.copy(millimetres / f"render.{frame:04d}.exr", tmp_path / f"pictures/a_{frame:04d}.exr")
    capture = read(tmp_path, images=pattern.format(tmp_path))
    assert [frame.name for frame in capture.frames][:2] == ["a_0001.exr", "a_0002.exr"]


def test_masks_count_where_images_have_none(millimetres, tmp_path):
    shutil.copy(millimetres / "scene.usda", tmp_path)
    whole = read(millimetres)
    for number, frame in enumerate(whole.frames, 1):
        write_exr(tmp_path / f"render.{number:04d}.exr", np.maximum(frame.image, 0.05))  # a grey background
        write_png8(tmp_path / f"mask.{number}.png", frame.alpha, srgb=False)
    with pytest.raises(StspbrError, match="has no mask"):
        read(tmp_path)
    capture = read(tmp_path, masks="mask.$F.png")
    for ours, wanted in zip(capture.frames, whole.frames, strict=True):
        np.testing.assert_allclose(ours.alpha, wanted.alpha)
        np.testing.assert_array_equal(ours.image[wanted.alpha[..., 0] == 0], 0)


@pytest.mark.parametrize(
    ("fit", "policy", "expected"),
    [
        ("auto", None, (100 / 36, 100 / 36)),
        ("horizontal", "cropAperture", (100 / 36, 100 / 36)),
        ("vertical", None, (100 / 24, 100 / 24)),
        ("both", None, (100 / 36, 100 / 24)),
        ("auto", "expandAperture", (100 / 36, 100 / 36)),
        ("auto", "cropAperture", (100 / 24, 100 / 24)),
        ("auto", "adjustApertureWidth", (100 / 24, 100 / 24)),
        ("auto", "adjustPixelAspectRatio", (100 / 36, 100 / 24)),
    ],
)
def test_apertures_that_disagree_with_the_image(tmp_path, fit, policy, expected):
    """36 × 24 mm for square images of 100 pixels at f = 50; the centre stays where the offset puts it."""
    from stspbr.formats.usd.camera import aperture_fit, camera_at, camera_remarks

    stage = Usd.Stage.CreateInMemory()
    camera = UsdGeom.Camera.Define(stage, "/Camera")
    camera.GetHorizontalApertureAttr().Set(36.0)
    camera.GetVerticalApertureAttr().Set(24.0)
    camera.GetHorizontalApertureOffsetAttr().Set(3.0)
    if policy:
        product = UsdRender.Product.Define(stage, "/Render/Product")
        product.CreateCameraRel().SetTargets(["/Camera"])
        settings = UsdRender.Settings.Define(stage, "/Render/Settings")
        settings.CreateProductsRel().SetTargets(["/Render/Product"])
        settings.CreateAspectRatioConformPolicyAttr().Set(policy)
    rule = aperture_fit(stage, camera.GetPrim(), fit)
    view = camera_at(camera.GetPrim(), 0.0, 100, 100, np.eye(3), 1.0, rule)
    np.testing.assert_allclose([view.fx, view.fy], np.array(expected) * 50, rtol=1e-6)
    assert (view.cx - 50) / view.fx == pytest.approx(-3.0 / 50)
    said = bool(camera_remarks(camera.GetPrim(), 0.0, 100, 100, rule))
    assert said == (rule.policy != "adjustPixelAspectRatio")


def test_a_dome_becomes_the_known_light_and_a_lamp_makes_it_unknown(millimetres, tmp_path):
    for file in millimetres.iterdir():
        shutil.copy(file, tmp_path)
    stage = Usd.Stage.Open(str(tmp_path / "scene.usda"))
    dome = UsdLux.DomeLight_1.Define(stage, "/World/Dome")
    sky = np.random.default_rng(0).uniform(0.1, 1, (8, 16, 3)).astype(np.float32)
    write_exr(tmp_path / "sky.exr", sky)
    dome.GetTextureFileAttr().Set("./sky.exr")
    dome.GetExposureAttr().Set(1.0)
    stage.Save()
    light = read(tmp_path).light
    # upright in both worlds; latitude 0, longitude 0 is −Y of a Z-up stage, which is +Z of ours
    np.testing.assert_allclose(light.radiance, np.roll(sky, 8, axis=1) * 2, rtol=1e-6)
    assert read(tmp_path, light="none").light is None
    UsdLux.RectLight.Define(stage, "/World/Lamp")
    stage.Save()
    remarks: list[str] = []
    assert read(tmp_path, on_warning=remarks.append).light is None
    assert any("/World/Lamp (RectLight)" in remark for remark in remarks)
    assert read(tmp_path, light="dome").light is not None


def break_scene(stage, what: str) -> None:
    camera = UsdGeom.Camera(stage.GetPrimAtPath(CAMERA))
    thing = UsdGeom.Xformable(stage.GetPrimAtPath(OBJECT))
    scale = thing.GetPrim().GetAttribute("xformOp:scale")
    if what == "stretched":
        scale.Set(Gf.Vec3f(1, 1, 2))
    elif what == "mirrored":
        scale.Set(Gf.Vec3f(-1, 1, 1))
    elif what == "growing":
        scale.Set(Gf.Vec3f(1, 1, 1), 1)
        scale.Set(Gf.Vec3f(2, 2, 2), 10)
    elif what == "orthographic":
        camera.GetProjectionAttr().Set("orthographic")
    elif what == "inactive":
        camera.GetPrim().SetActive(False)
    elif what == "over":
        stage.OverridePrim("/World/Ghost")


@pytest.mark.parametrize(
    ("what", "changes", "wanted"),
    [
        ("", {"camera": "/World/Rig/Camrea"}, "has no prim /World/Rig/Camrea: did you mean /World/Rig/Camera?"),
        ("", {"camera": "Camera"}, "has no prim Camera: did you mean /World/Rig/Camera?"),
        ("", {"camera": OBJECT}, "is a Xform, not a valid camera"),
        ("", {"object_path": "/World/Tabel/Thing"}, "did you mean /World/Table/Thing"),
        ("", {"object_path": CAMERA}, "is a Camera, not a valid object"),
        ("", {"camera": "/World/Rig/ Camera"}, "did you mean /World/Rig/Camera?"),
        ("over", {"object_path": "/World/Ghost"}, "only an over"),
        ("inactive", {}, "/World/Rig/Camera is inactive"),
        ("orthographic", {}, "is orthographic"),
        ("stretched", {}, "object /World/Table/Thing at frame 1 is not rigid: non-uniform scale or shear"),
        ("mirrored", {}, "mirrors"),
        ("growing", {}, "changes its scale from 1 at frame 1 to 2 at frame 10"),
        ("", {"frames": "1:12"}, "frame 11 is outside its range 1 to 10"),
        ("", {"frames": "5:1"}, "expected A:B or A:B:STEP"),
        ("", {"frames": "one:2"}, "expected A:B or A:B:STEP"),
        ("", {"images": "beauty.$F4.exr"}, "beauty.0001.exr and 9 more of 10 are missing"),
        ("", {"images": "render.0001.exr"}, "names one file for all frames"),
        ("", {"masks": "mask.$F4.png"}, "mask.0001.png and 9 more of 10 are missing"),
    ],
)
def test_bad_scenes_give_one_line(millimetres, tmp_path, what, changes, wanted):
    for file in millimetres.iterdir():
        shutil.copy(file, tmp_path)
    stage = Usd.Stage.Open(str(tmp_path / "scene.usda"))
    break_scene(stage, what)
    stage.Save()
    with pytest.raises(StspbrError) as caught:
        read(tmp_path, **changes)
    assert wanted in str(caught.value) and "\n" not in str(caught.value)


def test_bad_files_give_one_line(millimetres, tmp_path):
    whole = tmp_path / "whole.usdc"
    stage = Usd.Stage.Open(str(millimetres / "scene.usda"))
    stage.GetRootLayer().Export(str(whole))
    data = whole.read_bytes()
    (tmp_path / "cut.usdc").write_bytes(data[: len(data) // 2])
    (tmp_path / "cut.usda").write_bytes((millimetres / "scene.usda").read_bytes()[:900])
    (tmp_path / "empty.usda").write_text("#usda 1.0\n")
    (tmp_path / "nothing.usda").write_text('#usda 1.0\ndef Xform "World" {}\n')
    (tmp_path / "lost.usda").write_text('#usda 1.0\ndef Xform "World" (references = @./gone.usda@) {}\n')
    for name, wanted in {
        "none.usda": "does not exist", "scene.blend": "does not exist", "cut.usdc": "truncated",
        "cut.usda": "truncated", "empty.usda": "holds no prims", "nothing.usda": "there is no camera in the file",
    }.items():  # fmt: skip
        with pytest.raises(StspbrError, match=wanted) as caught:
            read(tmp_path, name)
        assert "\n" not in str(caught.value)


def test_a_camera_in_an_instance_has_its_own_place(millimetres, tmp_path):
    for file in millimetres.iterdir():
        shutil.copy(file, tmp_path)
    (tmp_path / "shots.usda").write_text(
        '#usda 1.0\n(\n upAxis = "Z"\n metersPerUnit = 0.001\n)\n'
        'def Xform "Shot" (instanceable = true\n prepend references = @./scene.usda@</World>) {}\n'
    )
    capture = read(tmp_path, "shots.usda", camera="/Shot/Rig/Camera", object_path="/Shot/Table/Thing")
    np.testing.assert_allclose(
        capture.frames[3].camera.camera_to_world, read(tmp_path).frames[3].camera.camera_to_world
    )
    stage = Usd.Stage.Open(str(tmp_path / "shots.usda"))
    prototype = stage.GetPrototypes()[0].GetPath()
    with pytest.raises(StspbrError, match="prototype"):
        read(tmp_path, "shots.usda", camera=f"{prototype}/Rig/Camera")


def test_the_command(millimetres, tmp_path, monkeypatch, capsys):
    import sys

    from stspbr.cli import main
    from stspbr.datasets.captures import read_capture

    argv = ["capture", "usd", str(tmp_path / "run"), str(millimetres / "scene.usda"), "--camera", CAMERA]
    argv += ["--object", OBJECT, "--frames", "1:10", "--images", "render.$F4.exr", "--held-out", "5"]
    monkeypatch.setattr(sys, "argv", ["stspbr", *argv])
    with pytest.raises(SystemExit) as ended:
        main()
    assert not ended.value.code
    assert "millimetres" in capsys.readouterr().err
    written = read_capture(tmp_path / "run" / "capture" / "v0001")
    wanted = read(millimetres, hold_out_every=5)
    for ours, theirs in zip(written.frames, wanted.frames, strict=True):
        np.testing.assert_allclose(ours.object_to_world, theirs.object_to_world)
        assert ours.split == theirs.split
    monkeypatch.setattr(sys, "argv", ["stspbr", *[a.replace("Rig/Camera", "Rig/Camra") for a in argv]])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 2
    assert "did you mean /World/Rig/Camera" in capsys.readouterr().err
    assert Sdf.Path(CAMERA).name == "Camera"


def test_a_recipe_holds_a_usd_capture(tmp_path):
    from stspbr.settings import CaptureUsdSettings, load_recipe

    recipe = tmp_path / "shot.toml"
    recipe.write_text(
        'name = "shot"\n[capture]\nkind = "usd"\nfile = "shot.usda"\ncamera = "/World/Camera"\n'
        'object = "/World/Jar"\nframes = "1:48"\nimages = "render.$F4.exr"\n'
    )
    settings = load_recipe(recipe, []).capture
    assert isinstance(settings, CaptureUsdSettings)
    assert (settings.object, settings.hold_out_every, settings.fit, settings.light) == ("/World/Jar", 8, "auto", "auto")
    recipe.write_text(recipe.read_text() + 'fit = "diagonal"\n')
    with pytest.raises(StspbrError, match="capture.fit=diagonal: choose auto, horizontal"):
        load_recipe(recipe, [])
