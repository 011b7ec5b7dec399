"""transforms.json: poses, intrinsics, masks, splits and the known light, there and back."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from PIL import Image

from stspbr.colour import srgb_to_linear
from stspbr.datasets.captures import read_capture
from stspbr.datasets.lens import lens, parameter_names
from stspbr.datasets.transforms import read_transforms
from stspbr.datasets.transforms_writer import write_nerfstudio, write_transforms
from stspbr.errors import StspbrError
from stspbr.formats.images import write_exr, write_png8
from stspbr.scene import Normalization
from stspbr.scene.camera import Camera, look_at
from stspbr.scene.capture import Capture, Frame
from stspbr.scene.light import EnvironmentLight

HEIGHT, WIDTH = 12, 16


def disk(camera, object_to_world=None, radius=0.5, value=0.5):
    """Image and alpha of a sphere about the object's origin, as its outline in this camera."""
    pose = np.eye(4) if object_to_world is None else object_to_world
    x, y, z = (camera.world_to_camera @ pose @ (0, 0, 0, 1))[:3]
    column, row = camera.cx - camera.fx * x / z, camera.cy + camera.fy * y / z
    rows, columns = np.mgrid[: camera.height, : camera.width] + 0.5
    inside = np.hypot(columns - column, rows - row) < camera.fx * radius / -z
    alpha = inside[..., None].astype(np.float32)
    shade = value + 0.01 * rows[..., None] * np.array([1, 2, 3]) / 8 + 0.002 * columns[..., None]
    return (shade * alpha).astype(np.float32), alpha


def ring(count=12, height=HEIGHT, width=WIDTH, distance=3.0):
    frames = []
    for k in range(count):
        angle = 2 * math.pi * k / count
        position = distance * np.array([math.sin(angle), 0.3 + 0.1 * (k % 3), math.cos(angle)])
        camera = Camera(look_at(position, np.zeros(3)), 20.0, 21.0, 8.25, 5.75, width, height, 0.5, 9.0)
        image, alpha = disk(camera, value=0.3 + 0.01 * k)
        split = "test" if k % 4 == 1 else "train"
        frames.append(Frame(f"images/{k:03d}.exr", camera, image, alpha, split=split))
    return frames


def edit(path, change):
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))
    return path


def write(folder, image_format="exr32", count=12):
    return write_transforms(folder, Capture(ring(count)), image_format)


def test_exact_round_trip(tmp_path):
    frames = ring()
    turn = look_at(np.zeros(3), np.array([0.1, 0.2, -1.0]))
    frames[3].object_to_world[:] = turn
    frames[3].image[:], frames[3].alpha[:] = disk(frames[3].camera, turn)
    frames[5].saturation = 4.0
    light = EnvironmentLight(np.random.default_rng(0).random((4, 8, 3)).astype(np.float32) * 1e5)
    warnings = []
    path = write_transforms(tmp_path, Capture(frames, light), "exr32")
    again = read_capture(tmp_path, warnings.append)
    assert warnings == ["only 9 training frames: expect errors where few of them look, better 50 and more"]
    assert np.array_equal(again.light.radiance, light.radiance)
    for first, second in zip(frames, again.frames, strict=True):
        assert (first.name, first.split, first.saturation) == (second.name, second.split, second.saturation)
        assert np.array_equal(first.image, second.image) and np.array_equal(first.alpha, second.alpha)
        assert np.array_equal(first.object_to_world, second.object_to_world)
        a, b = first.camera, second.camera
        assert np.array_equal(a.camera_to_world, b.camera_to_world)
        assert (a.fx, a.fy, a.cx, a.cy, a.width, a.height, a.near, a.far) == (
            (b.fx, b.fy, b.cx, b.cy, b.width, b.height, b.near, b.far)
        )
    content = json.loads(path.read_text())
    assert content["up_axis"] == "y" and content["fl_x"] == 20.0 and "fl_x" not in content["frames"][0]


@pytest.mark.parametrize(("image_format", "tolerance"), [("exr", 3e-4), ("png16", 3e-5), ("png", 3e-3)])
def test_lossy_formats(tmp_path, image_format, tolerance):
    frames = ring()
    for frame in frames:
        soft = np.where(frame.alpha > 0, 0.8, 0.0).astype(np.float32)
        frame.image, frame.alpha = frame.image * soft, frame.alpha * soft
    write_transforms(tmp_path, Capture(frames), image_format)
    again = read_transforms(tmp_path)
    for first, second in zip(frames, again.frames, strict=True):
        assert np.abs(first.image - second.image).max() < tolerance
        assert np.abs(first.alpha - second.alpha).max() < tolerance
        assert second.saturation == (1.0 if image_format.startswith("png") else math.inf)
        assert second.name == first.name.replace(".exr", ".png" if image_format.startswith("png") else ".exr")


def test_radiance_beyond_half_floats_is_kept(tmp_path):
    frames = ring()
    frames[0].image[5, 8] = 1e5
    write_transforms(tmp_path, Capture(frames), "exr")
    assert read_transforms(tmp_path).frames[0].image.max() == np.float32(1e5)


def test_own_intrinsics_of_each_frame(tmp_path):
    frames = ring()
    frames[2].camera = Camera(frames[2].camera.camera_to_world, 25.0, 25.0, 8, 6, WIDTH, HEIGHT)
    write_transforms(tmp_path, Capture(frames))
    cameras = [frame.camera for frame in read_transforms(tmp_path).frames]
    assert (cameras[2].fx, cameras[3].fx) == (25.0, 20.0) and (cameras[2].near, cameras[3].near) == (0.01, 0.5)


def test_a_z_up_world_is_turned(tmp_path):
    path = write(tmp_path)
    turn = np.array([[1, 0, 0, 0], [0, 0, -1, 0], [0, 1, 0, 0], [0, 0, 0, 1.0]])  # y-up to z-up: (x, y, z) → (x, −z, y)
    expected = [frame.camera.camera_to_world for frame in read_transforms(tmp_path).frames]

    def make_z_up(content):
        del content["up_axis"]
        for frame in content["frames"]:
            frame["transform_matrix"] = (turn @ np.asarray(frame["transform_matrix"])).tolist()
            pose = turn @ look_at(np.zeros(3), np.array([0.0, 0.0, -1.0])) @ turn.T
            frame["object_to_world"] = pose.tolist()

    edit(path, make_z_up)
    again = read_transforms(tmp_path)
    for frame, matrix in zip(again.frames, expected, strict=True):
        assert frame.camera.camera_to_world == pytest.approx(matrix)
        assert frame.object_to_world == pytest.approx(np.eye(4))
    edit(path, lambda content: content.update(up_axis="x"))
    with pytest.raises(StspbrError, match="up_axis is 'x'"):
        read_transforms(tmp_path)


def test_field_of_view_and_the_image_size_stand_in_for_intrinsics(tmp_path):
    path = write(tmp_path)

    def change(content):
        for key in ("fl_x", "fl_y", "cx", "cy", "w", "h"):
            del content[key]
        content["camera_angle_x"] = 2 * math.atan(0.5 * WIDTH / 20)

    edit(path, change)
    camera = read_transforms(tmp_path).frames[0].camera
    assert (camera.fx, camera.fy) == pytest.approx((20.0, 20.0))
    assert (camera.cx, camera.cy, camera.width, camera.height) == (8, 6, WIDTH, HEIGHT)
    edit(path, lambda content: content.pop("camera_angle_x"))
    with pytest.raises(StspbrError, match=r"frame images/000\.exr: no focal length"):
        read_transforms(tmp_path)


def test_soft_edges_in_alpha_and_mask_count_once(tmp_path):
    path = write(tmp_path, "png")
    for file in (tmp_path / "images").glob("*.png"):
        pixels = np.array(Image.open(file))
        pixels[5, :, 3] //= 2
        Image.fromarray(pixels).save(file)
    before = read_transforms(tmp_path).frames

    def add_masks(content):
        for frame in content["frames"]:
            alpha = np.asarray(Image.open(tmp_path / frame["file_path"]))[..., 3]
            frame["mask_path"] = frame["file_path"].replace(".png", "_mask.png")
            Image.fromarray(alpha).save(tmp_path / frame["mask_path"])

    edit(path, add_masks)
    for frame, first in zip(read_transforms(tmp_path).frames, before, strict=True):
        assert 0 < first.alpha.min(initial=1, where=first.alpha > 0) < 1  # there are soft edges
        assert np.array_equal(frame.alpha, first.alpha) and frame.image == pytest.approx(first.image, abs=1e-6)


def test_mask_files_and_names_without_suffix(tmp_path):
    path = write(tmp_path, "png")
    content = json.loads(path.read_text())
    for frame in content["frames"]:
        file = tmp_path / frame["file_path"]
        pixels = np.asarray(Image.open(file))
        mask = file.with_name(file.stem + "_mask.png")
        Image.fromarray(pixels[..., 3]).save(mask)
        opaque = np.maximum(pixels[..., :3], 77)  # a background that must not come through
        Image.fromarray(opaque).save(file)
        frame["mask_path"] = mask.relative_to(tmp_path).as_posix()
        frame["file_path"] = "./" + frame["file_path"].removesuffix(".png")
    path.write_text(json.dumps(content))
    for frame, first in zip(read_transforms(tmp_path).frames, ring(), strict=True):
        assert frame.name == first.name.replace("exr", "png")
        assert np.array_equal(frame.alpha, first.alpha)
        assert np.array_equal(frame.image[first.alpha[..., 0] == 0], np.zeros(((first.alpha == 0).sum(), 3)))
        assert np.abs(frame.image - np.maximum(first.image, srgb_to_linear(77 / 255) * first.alpha)).max() < 3e-3
    Image.new("L", (WIDTH, HEIGHT + 1), 255).save(tmp_path / content["frames"][4]["mask_path"])
    with pytest.raises(StspbrError, match=r"frame images/004\.png: its mask is 16x13, the image 16x12"):
        read_transforms(tmp_path)
    content["frames"][4]["mask_path"] = "gone.png"
    path.write_text(json.dumps(content))
    with pytest.raises(StspbrError, match=r"gone\.png does not exist"):
        read_transforms(tmp_path)


def test_the_three_ways_to_split(tmp_path):
    path = write(tmp_path)
    names = [frame.name for frame in ring()]

    def splits():
        return {frame.name: frame.split for frame in read_transforms(tmp_path).frames}

    assert [name for name, split in splits().items() if split == "test"] == [names[1], names[5], names[9]]
    edit(path, lambda content: [frame.pop("split") for frame in content["frames"]])
    assert [name for name, split in splits().items() if split == "test"] == [names[0], names[8]]
    lists = {"train_filenames": names[:9], "val_filenames": names[9:10], "test_filenames": names[9:11]}
    edit(path, lambda content: content.update(lists))
    assert splits() == {name: "train" for name in names[:9]} | {name: "test" for name in names[9:11]}
    edit(path, lambda content: content["frames"][0].update(split="train"))
    with pytest.raises(StspbrError, match=r"frame images/001\.exr has no split"):
        read_transforms(tmp_path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: c.update(camera_model="OPENCV", k4=0.01), r"000\.exr: k4 of OPENCV is a factor of r\^8 for some"),
        (lambda c: c.update(camera_model="OPENCV_FISHEYE", p1=0.1, k5=1), r"its camera has k5, p1, which OPENCV"),
        (lambda c: c.update(camera_model="FISHEYE624"), r"000\.exr: the camera model FISHEYE624 is unknown"),
        (lambda c: c.update(camera_model="EQUIRECTANGULAR"), r"000\.exr: .* EQUIRECTANGULAR is a panorama"),
        (lambda c: c["frames"][2].update(k1="much"), r"002\.exr: its camera has a value that is no number"),
        (lambda c: c.update(w=32), "frame images/000.exr: the image is 16x12 but its camera 32x12"),
        (lambda c: c.update(fl_x="wide"), "000.exr: its camera has a value that is no number"),
        (lambda c: c["frames"][1].update(transform_matrix=[[1, 0], [0, 1]]), r"001\.exr: transform_matrix has shape"),
        (lambda c: c["frames"][1].pop("transform_matrix"), r"001\.exr: transform_matrix is missing"),
        (lambda c: c["frames"][1].update(file_path="images/gone.exr"), r"gone\.exr.*does not exist"),
        (lambda c: c["frames"][1].pop("file_path"), "a frame has no file_path"),
        (lambda c: c["frames"][1].update(split="holdout"), r"001\.exr: its split is 'holdout'"),
        (lambda c: c.update(frames=[]), "has no frames"),
        (lambda c: c.update(environment="gone.hdr"), r"gone\.hdr does not exist"),
    ],
)
def test_what_is_wrong_is_said_with_the_frame(tmp_path, change, message):
    edit(write(tmp_path), change)
    with pytest.raises(StspbrError, match=message) as caught:
        read_transforms(tmp_path)
    assert "\n" not in str(caught.value)


def test_zero_distortion_is_no_distortion(tmp_path):
    edit(write(tmp_path), lambda c: c.update(camera_model="OPENCV", k1=0.0, k2=0, p1=0.0, p2=0.0))
    assert len(read_transforms(tmp_path).frames) == 12


@pytest.mark.parametrize(
    ("model", "numbers"),
    [
        ("OPENCV", {"k1": -0.2, "k2": 0.05, "p1": 0.004, "p2": -0.003}),
        ("OPENCV", {"k1": -0.2, "k2": 0.05, "k3": -0.01}),
        ("FULL_OPENCV", {"k1": 0.1, "k2": 0.02, "p1": 0.003, "k3": 0.01, "k4": 0.3, "k5": 0.03, "k6": 0.01}),
        ("OPENCV_FISHEYE", {"k1": 0.05, "k2": -0.02, "k3": 0.01, "k4": 0.0}),
        ("is_fisheye", {"k1": 0.05, "k2": -0.02}),
    ],
)
@pytest.mark.parametrize("masks", ["alpha", "mask_path", "folder"])
def test_lenses_are_undistorted(tmp_path, ball, model, numbers, masks):
    """Photographs by a lens, each with its own focal length, become what a pinhole there would see."""
    pytest.importorskip("pycolmap")
    pytest.importorskip("cv2")
    name = "OPENCV_FISHEYE" if "is" in model else "FULL_OPENCV" if "k3" in numbers and model == "OPENCV" else model
    entries = []
    for k, pose in enumerate(ball.poses()):
        head = {"fx": 60.0 + k, "fy": 61.0, "cx": 23.2, "cy": 20.9}
        own = lens(name, [(head | numbers).get(n, 0.0) for n in parameter_names(name)], *ball.size, "here")
        image, alpha = ball.through(own, pose)
        file = f"images/{k:03d}.exr"
        if masks == "alpha":
            write_exr(tmp_path / file, image, alpha=alpha)
        else:
            write_exr(tmp_path / file, np.where(alpha > 0, image, 0.6).astype(np.float32))
            write_png8(tmp_path / "silhouettes" / f"{file}.png", alpha, srgb=False)
        turned = np.array([[1, 0, 0, 0], [0, 0, -1, 0], [0, 1, 0, 0], [0, 0, 0, 1.0]]) @ pose
        entries.append({"file_path": file, "transform_matrix": turned.tolist(), "fl_x": head["fx"]})
        entries[-1] |= {"mask_path": f"silhouettes/{file}.png"} if masks == "mask_path" else {}
    content = {"fl_y": 61.0, "cx": 23.2, "cy": 20.9, "w": ball.size[0], "h": ball.size[1], **numbers, "frames": entries}
    content |= {"is_fisheye": True} if "is" in model else {"camera_model": model}
    (tmp_path / "transforms.json").write_text(json.dumps(content))
    for frame in read_transforms(tmp_path, masks="silhouettes" if masks == "folder" else None).frames:
        image, alpha = ball.photograph(frame.camera)
        both = ((alpha == 1) & (frame.alpha > 0.999))[..., 0]
        assert np.abs(frame.alpha - alpha).mean() < 0.02 and both.sum() > 200
        assert np.abs(frame.image - image)[both].mean() < 0.003


def test_nerfstudio_finds_its_own_keys(tmp_path, ball):
    write_nerfstudio(tmp_path, ball.capture(), "png")
    content = json.loads((tmp_path / "transforms.json").read_text())
    assert content["camera_model"] == "PINHOLE" and "up_axis" not in content
    assert {key: content[key] for key in ("fl_x", "fl_y", "cx", "cy", "w", "h")} == {
        "fl_x": 60, "fl_y": 60, "cx": 24, "cy": 20, "w": 48, "h": 40
    }  # fmt: skip
    paths = [frame["file_path"] for frame in content["frames"]]
    lists = [content[f"{split}_filenames"] for split in ("train", "val", "test")]
    assert sorted(lists[0] + lists[2]) == paths and lists[1] == lists[2] == [paths[1], paths[5], paths[9]]
    assert all((tmp_path / path).is_file() for path in paths)
    x, y, z = ball.poses()[0][:3, 3]
    assert np.array(content["frames"][0]["transform_matrix"])[:3, 3] == pytest.approx([x, -z, y])  # Z is up


def test_missing_images_are_counted(tmp_path):
    path = write(tmp_path)
    for k in (2, 3, 5, 7, 8):
        (tmp_path / f"images/{k:03d}.exr").unlink()
    with pytest.raises(StspbrError, match=r"frame images/002.exr: .* \(nor do 4 \(images/003.exr, .*…\) more of 12"):
        read_transforms(path)
    with pytest.raises(StspbrError, match="the mask folder .* does not exist"):
        read_transforms(write(tmp_path), masks="nowhere")


def test_broken_files(tmp_path):
    path = write(tmp_path)
    image = tmp_path / "images/003.exr"
    bad = ring()[3]
    bad.image[4, 5] = np.nan
    write_exr(image, bad.image, alpha=bad.alpha)
    with pytest.raises(StspbrError, match=r"frame images/003\.exr: 1 pixels are NaN"):
        read_transforms(tmp_path)
    image.write_bytes(image.read_bytes()[:-50])
    with pytest.raises(StspbrError, match=r"003\.exr is truncated"):
        read_transforms(tmp_path)
    path.write_text(path.read_text()[:-20])
    with pytest.raises(StspbrError, match=r"transforms\.json is truncated"):
        read_transforms(tmp_path)
    with pytest.raises(StspbrError, match="contains no transforms.json"):
        read_capture(tmp_path / "images")


def test_an_image_without_mask_is_refused(tmp_path):
    write(tmp_path, "png")
    file = tmp_path / "images/006.png"
    write_png8(file, np.random.default_rng(0).random((HEIGHT, WIDTH, 3)), srgb=True)
    with pytest.raises(StspbrError, match=r"frame images/006\.png: has no mask"):
        read_transforms(tmp_path)


def test_names_become_safe_paths(tmp_path):
    frames = ring(2)
    frames[0].name, frames[1].name = "../../up/a.exr", "plain"
    write_transforms(tmp_path / "in", Capture(frames))
    files = {path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*.exr")}
    assert files == {"in/up/a.exr", "in/images/plain.exr"}
    frames[0].name, frames[1].name = "a.png", "A.exr"
    with pytest.raises(StspbrError, match="the same file name"):
        write_transforms(tmp_path, Capture(frames))


@pytest.mark.parametrize("up", ["y", "z"])
def test_the_way_back_to_the_original_world_survives(tmp_path, up):
    turn, _ = np.linalg.qr(np.random.default_rng(0).normal(size=(3, 3)))
    back = np.eye(4)
    back[:3, :3], back[:3, 3] = 0.3 * turn * np.sign(np.linalg.det(turn)), (1, 2, 3)
    write_transforms(tmp_path, Capture(ring(), original_from_world=back))
    path = tmp_path / "transforms.json"
    content = json.loads(path.read_text())
    assert np.array_equal(content["original_from_world"], back)
    path.write_text(json.dumps(content | {"up_axis": up}))
    capture = read_transforms(path)
    expected = [back @ frame.camera.camera_to_world for frame in ring()]  # where the cameras were at first
    for frame, pose in zip(capture.frames, expected, strict=True):
        assert capture.original_from_world @ frame.camera.camera_to_world == pytest.approx(pose, abs=1e-9)
    moved = Normalization(np.array([0.2, 0.1, -0.3]), 2.5).capture(capture)
    for frame, pose in zip(moved.frames, expected, strict=True):
        centre = moved.original_from_world @ np.append(frame.camera.position, 1)
        assert centre == pytest.approx(pose[:, 3], abs=1e-9)


@pytest.mark.parametrize("bad", [[[1, 2], [3, 4]], "x", *(np.diag([k, 1.0, 1.0, 1.0]).tolist() for k in (2.0, -1.0))])
def test_a_way_back_that_is_none(tmp_path, bad):
    write_transforms(tmp_path, Capture(ring()))
    path = tmp_path / "transforms.json"
    content = json.loads(path.read_text())
    assert "original_from_world" not in content and read_transforms(path).original_from_world is None
    path.write_text(json.dumps(content | {"original_from_world": bad}))
    with pytest.raises(StspbrError, match="original_from_world is not a 4x4 similarity"):
        read_transforms(path)


def tilted(folder, degrees, **keys):
    """A nerfstudio folder whose world is turned about X away from +Z up."""
    path = write_nerfstudio(folder, Capture(ring()), "exr32")
    a = math.radians(degrees)
    turn = np.eye(4)
    turn[1:3, 1:3] = [[math.cos(a), -math.sin(a)], [math.sin(a), math.cos(a)]]

    def change(content):
        content.update(keys)
        for frame in content["frames"]:
            frame["transform_matrix"] = (turn @ np.array(frame["transform_matrix"])).tolist()

    return edit(path, change), turn


def mean_up(capture):
    up = np.mean([frame.camera.camera_to_world[:3, 1] for frame in capture.frames], axis=0)
    return up / np.linalg.norm(up)


APPLIED = {"applied_transform": [[1, 0, 0, 0], [0, 0, 1, 0], [0, -1, 0, 0]]}


@pytest.mark.parametrize("degrees", [60, 150])
def test_a_world_of_colmap_is_put_upright_by_the_cameras(tmp_path, degrees):
    path, turn = tilted(tmp_path, degrees, **APPLIED)
    notes = []
    capture = read_transforms(path, notes.append)
    assert mean_up(capture) == pytest.approx([0, 1, 0], abs=0.02)
    assert sum("the world is put upright by the cameras' mean" in note for note in notes) == 1
    kept = read_transforms(path, up="+z")
    assert mean_up(kept)[1] == pytest.approx(math.cos(math.radians(degrees)), abs=0.02)
    for frame, entry in zip(capture.frames, json.loads(path.read_text())["frames"], strict=True):
        original = capture.original_from_world @ frame.camera.camera_to_world
        assert original == pytest.approx(np.array(entry["transform_matrix"]), abs=1e-9)


def test_another_world_that_is_tilted_is_warned_of_and_kept(tmp_path):
    path, _ = tilted(tmp_path, 60)
    notes = []
    capture = read_transforms(path, notes.append)
    assert mean_up(capture)[1] == pytest.approx(0.5, abs=0.02)
    assert sum("mean up axis is 60 degrees from +Z, which counts as up" in note for note in notes) == 1
    for keys, degrees in (({}, 0), (APPLIED, 0), ({}, 20)):
        notes = []
        read_transforms(tilted(tmp_path, degrees, **keys)[0], notes.append)
        assert not any("degrees from" in note for note in notes)


def test_intrinsics_of_another_size_are_named_once_with_their_cause(tmp_path):
    path = write_nerfstudio(tmp_path, Capture(ring()), "exr32")

    def stale(content):
        for key in ("w", "h"):
            del content[key]
        for key in ("fl_x", "fl_y", "cx", "cy"):
            content[key] *= 2

    edit(path, stale)
    with pytest.raises(
        StspbrError, match=r"principal point \(16.5, 11.5\) lies in the corner of the image \(16x12\)"
    ) as caught:
        read_transforms(path)
    assert "those of 33x23" in str(caught.value) and "and 11 more images of 12" in str(caught.value)
    edit(path, lambda content: content.update(w=32, h=24))  # the remedy: they are scaled
    notes = []
    camera = read_transforms(path, notes.append).frames[0].camera
    assert (camera.fx, camera.fy, camera.cx, camera.cy, camera.width) == (20.0, 21.0, 8.25, 5.75, 16)
    assert sum("the images are 16x12, their cameras 32x24" in note for note in notes) == 1


def test_a_principal_point_in_the_corner_is_warned_of_once(tmp_path):
    path = write_nerfstudio(tmp_path, Capture(ring()), "exr32")
    edit(path, lambda content: content.update(cx=15.5, cy=11.5))
    notes = []
    read_transforms(path, notes.append)
    found = [note for note in notes if "principal point" in note or "its mask is not where" in note]
    assert len(found) == 2 and all(note.startswith("12 frames (") for note in found)


def test_original_from_world_survives_a_world_that_is_z_up(tmp_path):
    back = np.eye(4)
    back[:3, 3] = 1.0, 2.0, 3.0
    capture = Capture(ring(), original_from_world=back)
    write_nerfstudio(tmp_path, capture, "exr32")
    again = read_transforms(tmp_path)
    for a, b in zip(capture.frames, again.frames, strict=True):
        assert again.original_from_world @ b.camera.camera_to_world == pytest.approx(back @ a.camera.camera_to_world)


def test_distortion_in_a_list_and_skew(tmp_path, ball):
    """nerfstudio's distortion_params are k1, k2, k3, k4, p1, p2."""
    path = write(tmp_path)
    edit(path, lambda content: content.update(k1=0.05, p2=0.01))
    expected = read_transforms(tmp_path).frames
    edit(path, lambda content: [content.pop(key) for key in ("k1", "p2")])
    edit(path, lambda content: content.update(distortion_params=[0.05, 0, 0, 0, 0, 0.01], skew=2.0))
    notes = []
    for frame, first in zip(read_transforms(tmp_path, notes.append).frames, expected, strict=True):
        assert np.array_equal(frame.image, first.image) and frame.camera.fx == first.camera.fx
    assert any("the skew of its camera is left out" in note for note in notes)


def test_sizes_that_are_no_numbers_are_named(tmp_path):
    path = write(tmp_path)
    for size in ("Infinity", "NaN", "null"):
        edit(path, lambda content, size=size: content.update(w=json.loads(size)))
        with pytest.raises(StspbrError, match="its camera has a value that is no number"):
            read_transforms(tmp_path)
