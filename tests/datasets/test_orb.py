"""Stanford-ORB scenes in both layouts, with lights that are known in each camera's own axes."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest

from stspbr.datasets.captures import read_capture
from stspbr.datasets.orb import read_orb
from stspbr.errors import StspbrError
from stspbr.formats.images import write_exr, write_png8
from stspbr.scene.light import latlong_to_direction

Z_UP = np.array([[1.0, 0, 0, 0], [0, 0, -1, 0], [0, 1, 0, 0], [0, 0, 0, 1]])  # (x, y, z) → (x, −z, y)
SCENE = "teapot_scene001"


def sky(direction):
    """A smooth light of our world: bright above, a warm lobe towards +X, a blue one towards −Z."""
    x, y, z = np.moveaxis(direction, -1, 0)
    return np.stack([1.0 + y + np.exp(4 * (x - 1)), 1.0 + y, 1.0 + y + np.exp(4 * (-z - 1))], axis=-1)


def latlong(height, rotation):
    """A map in axes turned by ``rotation``: its pixel ``d`` is our world's ``rotation @ d``."""
    v, u = np.mgrid[:height, : 2 * height] + 0.5
    directions = latlong_to_direction(np.stack([u / (2 * height), v / height], axis=-1))
    return sky(directions @ np.asarray(rotation)[:3, :3].T).astype(np.float32)


def write_blender(root, ball, kind="HDR"):
    folder = root / f"blender_{kind}" / SCENE
    capture = ball.capture()
    maps = root / "ground_truth" / SCENE / "env_map"
    for split in ("train", "test"):
        entries = []
        for k, frame in enumerate(capture.split(split)):
            name = f"{split}/{k:04d}"
            entries.append({"file_path": name, "transform_matrix": (Z_UP @ frame.camera.camera_to_world).tolist()})
            opaque = np.where(frame.alpha > 0, frame.image, 0.7)
            (folder / split).mkdir(parents=True, exist_ok=True)
            if kind == "HDR":
                write_exr(folder / f"{name}.exr", opaque)
            else:
                write_png8(folder / f"{name}.png", opaque, srgb=True)
            write_png8(folder / f"{split}_mask/{k:04d}.png", frame.alpha, srgb=False)
            if split == "test":
                write_exr(maps / f"{k:04d}.exr", latlong(64, frame.camera.camera_to_world))
        content = {"camera_angle_x": 2 * math.atan(24 / 60), "frames": entries}
        (folder / f"transforms_{split}.json").write_text(json.dumps(content))
    other = {"file_path": "test/0000", "scene_name": "teapot_scene002", "camera_angle_x": 0.7}
    (folder / "transforms_novel.json").write_text(json.dumps({"frames": [other, other]}))
    return folder, capture


@pytest.mark.parametrize("kind", ["HDR", "LDR"])
def test_blender_layout(tmp_path, ball, kind):
    folder, expected = write_blender(tmp_path, ball, kind)
    warnings = []
    capture = read_capture(folder, warnings.append, kind="orb")
    assert warnings[0] == "the 2 views of transforms_novel.json are left out: other scenes have other lights"
    assert capture.light is None and len(capture.split("test")) == 3
    for first, second in zip(expected.split("train"), capture.split("train"), strict=True):
        assert second.camera.camera_to_world == pytest.approx(first.camera.camera_to_world)
        assert np.array_equal(second.alpha, first.alpha)
        assert np.abs(second.image - first.image).max() < (1e-6 if kind == "HDR" else 5e-3)
        assert second.saturation == (math.inf if kind == "HDR" else 1.0)


def test_the_known_light_is_turned_into_the_world(tmp_path, ball):
    folder, _ = write_blender(tmp_path, ball)
    light = read_orb(folder, known_light=True).light
    assert light.radiance == pytest.approx(latlong(64, np.eye(3)), abs=0.02)
    for path in (tmp_path / "ground_truth" / SCENE / "env_map").iterdir():
        path.unlink()
    with pytest.raises(StspbrError, match="env_map has no light for any of the test images"):
        read_orb(folder, known_light=True)


def test_colmap_layout(tmp_path, ball):
    pytest.importorskip("pycolmap")
    from stspbr.datasets.colmap import write_colmap

    _, expected = write_blender(tmp_path, ball)
    folder = tmp_path / "llff_colmap_HDR" / SCENE
    for frame in expected.frames:
        frame.name = f"{int(frame.name[7:10]):04d}.png"
    write_colmap(folder, expected, "png")  # the model says PNG, the pictures are EXR
    names = {"train": [], "test": []}
    for frame in expected.frames:
        (folder / "images" / frame.name).unlink()
        write_exr(folder / "images" / frame.name.replace("png", "exr"), np.where(frame.alpha > 0, frame.image, 0.7))
        write_png8(folder / "masks" / frame.name, frame.alpha, srgb=False)
        names[frame.split].append(frame.name)
    for split, listed in names.items():
        (folder / f"{split}_id.txt").write_text("\n".join(listed) + "\n")
    (folder / "sparse/0/test.txt").unlink()
    (folder / "sparse/teapot_scene002").mkdir()
    # Without a light of its own name, the ground truth's first names are tried: rename the maps as the benchmark does.
    maps = tmp_path / "ground_truth" / SCENE / "env_map"
    for path in maps.iterdir():
        path.unlink()
    first = expected.split("test")[1]
    write_exr(maps / first.name.replace("png", "exr"), latlong(64, first.camera.camera_to_world))
    warnings = []
    capture = read_orb(folder, warnings.append, up="+y", known_light=True)
    assert any("other scenes are left out" in warning and "teapot_scene002" in warning for warning in warnings)
    assert [frame.name[7:11] + ".png" for frame in capture.split("test")] == names["test"]
    for a, b in zip(expected.frames, capture.frames, strict=True):
        assert np.array_equal(a.image, b.image) and b.camera.camera_to_world == pytest.approx(a.camera.camera_to_world)
    assert capture.light.radiance == pytest.approx(latlong(64, np.eye(3)), abs=0.02)


def test_what_is_missing(tmp_path, ball):
    folder, _ = write_blender(tmp_path, ball)
    (folder / "train_mask/0002.png").unlink()
    (folder / "train_mask/0005.png").unlink()
    with pytest.raises(StspbrError, match=r"lacks 2 \(train_mask/0002.png, train_mask/0005.png\) of 9 masks"):
        read_orb(folder)
    for k in range(2, 7):
        (folder / f"train/{k:04d}.exr").unlink()
    with pytest.raises(StspbrError, match=r"train/0002 does not exist \(nor do 4 \(train/0003, .*, …\) more of 9"):
        read_orb(folder)
    with pytest.raises(StspbrError, match="is not a Stanford-ORB scene"):
        read_orb(tmp_path)
