"""Frames in one file of tiles: the same numbers as in memory, one file per run, safe under interruption."""

from __future__ import annotations

import os
import time
from dataclasses import replace

import numpy as np
import pytest

from stspbr.datasets.tiled_frames import tiled
from stspbr.datasets.transforms import frame_sizes
from stspbr.datasets.transforms_writer import write_transforms
from stspbr.errors import StspbrError
from stspbr.scene import Camera, Capture, EnvironmentLight, Frame, look_at
from stspbr.scene.object_sphere import mask_summary

WIDTH, HEIGHT = 150, 97  # no whole number of tiles or blocks


def make_capture() -> Capture:
    rng = np.random.default_rng(0)
    frames = []
    for number, kind in enumerate(("half", "float", "opaque")):
        camera = Camera(look_at((number, 1, 3), (0, 0, 0)), 101.0, 103.5, 70.0, 50.3, WIDTH, HEIGHT, 0.1 / 3, 7.0)
        alpha = np.zeros((HEIGHT, WIDTH, 1), np.float32)
        alpha[20:80, 10:140] = 1.0 if kind == "opaque" else rng.random((60, 130, 1), dtype=np.float32)
        image = rng.random((HEIGHT, WIDTH, 3), dtype=np.float32) * alpha
        if kind != "float":
            image, alpha = (values.astype(np.float16).astype(np.float32) for values in (image, alpha))
        pose = look_at((0.1, 2, 3), (0, 0, 0.3)) if number == 1 else np.eye(4)
        more = {"exposure": 1 / 3, "white_balance": (0.1, 1.0, 1.7)} if number == 2 else {"saturation": 1.0}
        split = "test" if number == 2 else "train"
        frames.append(Frame(f"images/{kind}.exr", camera, image, alpha, pose, split, **more))
    return Capture(frames, EnvironmentLight(rng.random((8, 16, 3), dtype=np.float32)), np.diag([2.0, 2.0, 2.0, 1.0]))


def never():
    raise AssertionError("the capture is made again")


def test_the_frames_are_the_same_bit_for_bit(tmp_path):
    capture, path = make_capture(), tmp_path / "cache" / "a.tiles"
    written, new = tiled(path, make_capture, 3)
    again, second = tiled(path, never, 3)
    assert (new, second) == (True, False)
    for found in (written, again):
        np.testing.assert_array_equal(found.light.radiance, capture.light.radiance)
        np.testing.assert_array_equal(found.original_from_world, capture.original_from_world)
        for frame, stored in zip(capture.frames, found.frames, strict=True):
            for name in ("name", "split", "saturation", "exposure", "white_balance"):
                assert getattr(frame, name) == getattr(stored, name), name
            assert vars(replace(frame.camera, camera_to_world=0)) == vars(replace(stored.camera, camera_to_world=0))
            np.testing.assert_array_equal(frame.camera.camera_to_world, stored.camera.camera_to_world)
            np.testing.assert_array_equal(frame.object_to_world, stored.object_to_world)
            np.testing.assert_array_equal(frame.image, stored.image)
            np.testing.assert_array_equal(frame.alpha, stored.alpha)
            assert stored.summary(mask_summary) == frame.summary(mask_summary)


@pytest.mark.parametrize("window", [(0, 0, 150, 97), (60, 60, 8, 9), (3, 90, 147, 7), (149, 96, 1, 1), (0, 64, 64, 33)])
def test_windows_are_cut_from_the_frame(tmp_path, window):
    capture = make_capture()
    found, _ = tiled(tmp_path / "a.tiles", make_capture, 1)
    for frame, stored in zip(capture.frames, found.frames, strict=True):
        for ours, theirs in zip(stored.window(*window), frame.window(*window), strict=True):
            np.testing.assert_array_equal(ours, theirs)
            assert ours.shape[:2] == window[:1:-1]


def test_what_is_unknown_stays_unknown(tmp_path):
    def make():
        capture = make_capture()
        known = np.ones((HEIGHT, WIDTH, 1), np.float32)
        known[30:50, 60:90], known[50, 60:90] = 0.0, 0.5
        frames = [replace(capture.frames[0], known=known, image=capture.frames[0].image * known,
                          alpha=capture.frames[0].alpha * known), *capture.frames[1:]]  # fmt: skip
        return replace(capture, frames=frames)

    capture, (written, _) = make(), tiled(tmp_path / "a.tiles", make, 3)
    first, second = written.frames[:2]
    np.testing.assert_array_equal(first.known, capture.frames[0].known)
    np.testing.assert_array_equal(first.image, capture.frames[0].image)
    np.testing.assert_array_equal(first.known_window(50, 20, 40, 40), capture.frames[0].known[20:60, 50:90])
    np.testing.assert_array_equal(first.known_reduced(3), capture.frames[0].known_reduced(3))
    assert second.known is None and second.known_window(50, 20, 40, 40) is None and second.known_reduced(3) is None


def test_reductions_are_kept_or_made(tmp_path):
    found, _ = tiled(tmp_path / "a.tiles", make_capture, 3)
    for frame, stored in zip(make_capture().frames, found.frames, strict=True):
        for scale in (1, 2, 3):
            for ours, theirs in zip(stored.reduced(scale), frame.reduced(scale), strict=True):
                np.testing.assert_array_equal(ours, theirs)
        np.testing.assert_allclose(frame.reduced(3)[0][1, 2], frame.image[3:6, 6:9].mean(axis=(0, 1)), rtol=1e-6)
        assert frame.reduced(3)[0].shape == (32, 50, 3)


def test_what_is_changed_is_not_read_from_the_tiles(tmp_path):
    stored = tiled(tmp_path / "a.tiles", make_capture, 3)[0].frames[0]
    darker = stored.with_pixels(lambda image, alpha: (image / 2, alpha))
    np.testing.assert_array_equal(darker.window(30, 30, 5, 4)[0], stored.image[30:34, 30:35] / 2)
    np.testing.assert_array_equal(darker.reduced(3)[0], stored.reduced(3)[0] / 2)
    moved = stored.with_fields(split="test")
    np.testing.assert_array_equal(moved.window(30, 30, 5, 4)[0], stored.window(30, 30, 5, 4)[0])


def test_empty_tiles_take_no_room(tmp_path):
    path = tmp_path / "a.tiles"
    tiled(path, make_capture, 1)
    covered = 60 * 130  # of 97 × 150, in tiles of 64
    assert path.stat().st_size < 3 * 16 * HEIGHT * WIDTH * 0.75 + 10_000
    assert path.stat().st_size > covered * (6 + 8 + 16)


@pytest.mark.parametrize("damage", ["truncated", "index", "foreign", "other scale"])
def test_a_file_that_is_not_whole_is_made_again(tmp_path, damage):
    path = tmp_path / "a.tiles"
    tiled(path, make_capture, 1)
    data = path.read_bytes()
    if damage == "truncated":
        path.write_bytes(data[: len(data) // 2])
    elif damage == "index":
        path.write_bytes(data[:-200] + bytes([data[-200] ^ 1]) + data[-199:])
    elif damage == "foreign":
        path.write_bytes(b"something else")
    calls = []
    _, new = tiled(path, lambda: calls.append(1) or make_capture(), 2 if damage == "other scale" else 1)
    assert new and calls == [1]
    if damage != "other scale":
        assert path.stat().st_size == len(data)


def test_an_interruption_leaves_nothing(tmp_path):
    path = tmp_path / "a.tiles"
    capture = make_capture()
    seen = []

    class Interrupted(Frame):
        def loaded(self):
            seen.append(self.name)
            raise KeyboardInterrupt

    last = capture.frames[2]
    capture.frames[2] = Interrupted(**vars(last))
    with pytest.raises(KeyboardInterrupt):
        tiled(path, lambda: capture, 1)
    assert seen and list(tmp_path.iterdir()) == []
    assert tiled(path, make_capture, 1)[1]


def test_there_is_one_file_and_abandoned_ones_go(tmp_path):
    tiled(tmp_path / "old.tiles", make_capture, 1)
    abandoned, busy = tmp_path / ".new.1-0.tiles", tmp_path / ".new.2-0.tiles"
    for partial in (abandoned, busy):
        partial.write_bytes(b"x")
    os.utime(abandoned, (time.time() - 7200,) * 2)
    tiled(tmp_path / "new.tiles", make_capture, 1)
    assert sorted(file.name for file in tmp_path.iterdir()) == [busy.name, "new.tiles"]


def test_a_place_that_cannot_be_written_is_one_line(tmp_path):
    (tmp_path / "cache").write_text("a file where a folder should be")
    with pytest.raises(StspbrError, match="cannot write"):
        tiled(tmp_path / "cache" / "a.tiles", make_capture, 1)


def test_sizes_are_known_without_reading(tmp_path):
    path = write_transforms(tmp_path, make_capture())
    for file in (tmp_path / "images").iterdir():
        file.write_bytes(b"no image")
    assert frame_sizes(path) == (3, WIDTH, HEIGHT)
