"""NeRF-synthetic folders: Z-up turned to +Y up, straight alpha premultiplied, splits by file."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from PIL import Image

from stspbr.colour import srgb_to_linear
from stspbr.datasets.captures import read_capture
from stspbr.datasets.nerf_synthetic import read_nerf_synthetic, write_nerf_synthetic
from stspbr.errors import StspbrError

SIZE = 20
ANGLE = 0.6911112070083618


def blender_pose(azimuth, elevation=0.5, distance=4.0):
    """Camera-to-world of a camera above the ground plane z = 0 that looks at the origin, with Z up."""
    position = distance * np.array(
        [math.cos(azimuth) * math.cos(elevation), math.sin(azimuth) * math.cos(elevation), math.sin(elevation)]
    )
    back = position / distance
    right = np.cross([0, 0, 1.0], back)
    right /= np.linalg.norm(right)
    out = np.eye(4)
    out[:3, 0], out[:3, 1], out[:3, 2], out[:3, 3] = right, np.cross(back, right), back, position
    return out


def make(folder, counts=(("train", 12), ("test", 3), ("val", 2))):
    start = 0
    for name, count in counts:
        (folder / name).mkdir(parents=True)
        frames = []
        for k in range(count):
            pixels = np.zeros((SIZE, SIZE, 4), np.uint8)
            pixels[..., :3] = 99  # colour under alpha 0 must vanish
            pixels[6:14, 6:14] = (188, 10 * k, start, 255)
            pixels[6, 6:14, 3] = 51
            Image.fromarray(pixels).save(folder / name / f"r_{k}.png")
            pose = blender_pose(0.4 * (start + k))
            frames.append({"file_path": f"./{name}/r_{k}", "rotation": 0.01, "transform_matrix": pose.tolist()})
        start += count
        content = {"camera_angle_x": ANGLE, "frames": frames}
        (folder / f"transforms_{name}.json").write_text(json.dumps(content))
    return folder


def test_cameras_pixels_and_splits(tmp_path):
    capture = read_capture(make(tmp_path))
    assert (len(capture.split("train")), len(capture.split("test"))) == (12, 3) and capture.light is None
    frame = capture.frames[0]
    assert frame.name == "train/r_0.png" and frame.saturation == 1.0
    assert frame.camera.fx == pytest.approx(0.5 * SIZE / math.tan(ANGLE / 2)) and frame.camera.fx == frame.camera.fy
    x, y, z = blender_pose(0.0)[:3, 3]
    assert frame.camera.position == pytest.approx([x, z, -y])  # what was above is above
    up = frame.camera.camera_to_world[:3, 1]
    assert up[1] > 0.8
    assert frame.image[0, 0].tolist() == [0, 0, 0]
    assert frame.image[10, 10, 0] == pytest.approx(srgb_to_linear(188 / 255))
    assert frame.alpha[6, 10, 0] == pytest.approx(0.2)
    assert frame.image[6, 10, 0] == pytest.approx(0.2 * srgb_to_linear(188 / 255))


def test_validation_frames_when_asked(tmp_path):
    make(tmp_path)
    capture = read_nerf_synthetic(tmp_path, include_val=True)
    assert [frame.name for frame in capture.split("test")] == [f"{n}/r_{k}.png" for n, c in (("test", 3), ("val", 2))
                                                              for k in range(c)]  # fmt: skip


def test_only_the_training_file_is_needed(tmp_path):
    make(tmp_path, (("train", 12),))
    warnings = []
    assert len(read_nerf_synthetic(tmp_path, warnings.append).frames) == 12
    assert warnings == ["no held-out frames: the result cannot be judged on unseen views"]


def test_bad_folders(tmp_path):
    with pytest.raises(StspbrError, match=r"transforms_train\.json does not exist"):
        read_nerf_synthetic(tmp_path)
    make(tmp_path)
    (tmp_path / "test/r_1.png").unlink()
    with pytest.raises(StspbrError, match=r"frame test/r_1"):
        read_nerf_synthetic(tmp_path)
    (tmp_path / "transforms_test.json").write_text('{"frames": []}')
    with pytest.raises(StspbrError, match=r"transforms_test\.json has no frames"):
        read_nerf_synthetic(tmp_path)


def test_written_as_blender_scenes_are(tmp_path, ball):
    capture = ball.capture()
    write_nerf_synthetic(tmp_path, capture)
    files = {name: json.loads((tmp_path / f"transforms_{name}.json").read_text()) for name in ("train", "test", "val")}
    assert files["test"] == files["val"] and len(files["train"]["frames"]) == 9
    assert math.tan(files["train"]["camera_angle_x"] / 2) == pytest.approx(24 / 60)
    first = files["train"]["frames"][0]
    assert first["file_path"] == "./train/000" and (tmp_path / "train/000.png").is_file()
    x, y, z = capture.frames[0].camera.position
    assert np.array(first["transform_matrix"])[:3, 3] == pytest.approx([x, -z, y])
    for frame in capture.frames:
        frame.split = "train"
    warnings = []
    write_nerf_synthetic(tmp_path / "all", capture, on_warning=warnings.append)
    assert warnings == ["no held-out frames: transforms_test.json and transforms_val.json are not written"]
    assert not (tmp_path / "all/transforms_test.json").exists() and len(read_capture(tmp_path / "all").frames) == 12
