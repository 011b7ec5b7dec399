"""LLFF: rows written by hand, resampled images, and counts that differ."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from stspbr.datasets.llff import read_llff, write_llff
from stspbr.errors import StspbrError
from stspbr.formats.images import write_exr


def write_rows(folder, ball, count=12):
    """Rows as the LLFF repository documents them, without our writer."""
    (folder / "images").mkdir(parents=True)
    capture = ball.capture(count)
    rows = []
    for k, frame in enumerate(capture.frames):
        pose = frame.camera.camera_to_world
        down, right, back = -pose[:3, 1], pose[:3, 0], pose[:3, 2]
        hwf = np.array([40.0, 48.0, 60.0])
        rows.append([*np.stack([down, right, back, pose[:3, 3], hwf], axis=1).ravel(), 2.0, 4.0])
        write_exr(folder / f"images/IMG_{k:04d}.exr", frame.image, alpha=frame.alpha)
    np.save(folder / "poses_bounds.npy", np.array(rows))
    return capture


def test_hand_written_rows(tmp_path, ball):
    expected = write_rows(tmp_path, ball)
    (tmp_path / "images/.DS_Store").write_text("")
    capture = read_llff(tmp_path, up="+y")
    for first, second in zip(expected.frames, capture.frames, strict=True):
        a, b = first.camera, second.camera
        assert b.camera_to_world == pytest.approx(a.camera_to_world)
        assert (b.fx, b.fy, b.cx, b.cy, b.width, b.height) == (60, 60, 24, 20, 48, 40)
        image, _ = ball.photograph(b)
        assert np.array_equal(second.image, image)
    assert [frame.split for frame in capture.frames] == ["test", *["train"] * 7, "test", *["train"] * 3]
    assert not read_llff(tmp_path, hold_out_every=0).split("test")
    assert len(read_llff(tmp_path, hold_out_every=3).split("test")) == 4


def test_written_rows_are_in_the_order_of_names(tmp_path, ball):
    capture = ball.capture()
    capture.frames.reverse()
    write_llff(tmp_path, capture)
    rows = np.load(tmp_path / "poses_bounds.npy")
    assert rows.shape == (12, 17) and rows.dtype == np.float64
    assert rows[0, [3, 8, 13]] == pytest.approx(capture.frames[-1].camera.position)
    assert rows[0, [4, 9, 14]].tolist() == [40, 48, 60]
    distance = np.linalg.norm(capture.frames[-1].camera.position)
    assert rows[0, 15] == pytest.approx(distance - 0.5, abs=0.05)
    assert rows[0, 16] == pytest.approx(distance + 0.5, abs=0.05)
    assert (tmp_path / "test_id.txt").read_text().split() == ["001.png", "005.png", "009.png"]


def test_images_resampled_later_get_their_own_focal_length(tmp_path, ball):
    write_rows(tmp_path, ball)
    for path in (tmp_path / "images").iterdir():
        small = ball.capture(12, fx=30.0, fy=30.0, cx=12.0, cy=10.0, width=24, height=20)
        frame = small.frames[int(path.stem[-4:])]
        write_exr(path, frame.image, alpha=frame.alpha)
    for frame in read_llff(tmp_path).frames:
        camera = frame.camera
        assert (camera.fx, camera.fy, camera.cx, camera.cy, camera.width, camera.height) == (30, 30, 12, 10, 24, 20)


def test_what_is_wrong(tmp_path, ball):
    write_rows(tmp_path, ball)
    rows = np.load(tmp_path / "poses_bounds.npy")
    np.save(tmp_path / "poses_bounds.npy", rows[:-1])
    with pytest.raises(StspbrError, match=r"images contains 12 images, but .*poses_bounds.npy has 11 poses"):
        read_llff(tmp_path)
    np.save(tmp_path / "poses_bounds.npy", rows[:, :14])
    with pytest.raises(StspbrError, match=r"shape \(12, 14\), not \[images, 17\]"):
        read_llff(tmp_path)
    broken = rows.copy()
    broken[3, 14] = 0
    np.save(tmp_path / "poses_bounds.npy", broken)
    with pytest.raises(StspbrError, match=r"frame images/IMG_0003.exr: its focal length is not a positive number"):
        read_llff(tmp_path)
    np.save(tmp_path / "poses_bounds.npy", rows)
    data = (tmp_path / "poses_bounds.npy").read_bytes()
    (tmp_path / "poses_bounds.npy").write_bytes(data[:-40])
    with pytest.raises(StspbrError, match=r"poses_bounds.npy is truncated"):
        read_llff(tmp_path)
    (tmp_path / "poses_bounds.npy").unlink()
    with pytest.raises(StspbrError, match=r"poses_bounds.npy does not exist"):
        read_llff(tmp_path)
    np.save(tmp_path / "poses_bounds.npy", rows)
    write_exr(tmp_path / "images/IMG_0005.exr", np.full((40, 48, 3), 0.5, np.float32))
    with pytest.raises(StspbrError, match=r"^no masks: 1 \(images/IMG_0005.exr\) of 12 images"):
        read_llff(tmp_path)
    (tmp_path / "masks").mkdir()
    Image.new("L", (48, 30), 255).save(tmp_path / "masks/IMG_0005.png")
    with pytest.raises(StspbrError, match=r"frame images/IMG_0005.exr: its mask is 48x30, the image 48x40"):
        read_llff(tmp_path)


def test_an_order_of_names_that_is_not_that_of_their_numbers_is_warned_of(tmp_path, ball):
    write_rows(tmp_path, ball)
    notes = []
    read_llff(tmp_path, notes.append)
    assert not any("order of bytes" in note for note in notes)
    for k in range(12):
        (tmp_path / f"images/IMG_{k:04d}.exr").rename(tmp_path / f"images/img{k + 1}.exr")
    read_llff(tmp_path, notes.append)
    (note,) = [note for note in notes if "order of bytes" in note]
    assert "img10.exr comes before img2.exr" in note and "rename the images" in note


@pytest.mark.parametrize("content", [b"PK\x03\x04", b"\x93NUMPY\x01\x00", b""])
def test_files_that_are_no_array(tmp_path, content):
    (tmp_path / "images").mkdir(parents=True)
    (tmp_path / "poses_bounds.npy").write_bytes(content)
    with pytest.raises(StspbrError, match="poses_bounds.npy is"):
        read_llff(tmp_path)
