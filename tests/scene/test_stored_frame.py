"""Frames that stay on disk: the same numbers as those in memory, and no more than one of them at a time."""

from __future__ import annotations

import json
import math
import subprocess
import sys
import tracemalloc
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from stspbr.datasets.preparation.prepare import prepare
from stspbr.datasets.transforms import read_transforms
from stspbr.datasets.transforms_writer import write_transforms
from stspbr.scene import look_at, stored_frame
from stspbr.scene.object_sphere import mask_summary
from stspbr.settings import CaptureFolderSettings

pytest.importorskip("pycolmap")
pytest.importorskip("cv2")


def photographs(folder: Path, count: int, width: int, height: int) -> Path:
    """JPEG files with masks, taken through a lens with distortion, of a textured disk before noise."""
    for name in ("images", "masks"):
        (folder / name).mkdir(parents=True)
    tile = np.random.default_rng(0).integers(0, 256, (50, 50, 3), dtype=np.uint8)
    picture = np.tile(tile, (math.ceil(height / 50), math.ceil(width / 50), 1))[:height, :width]
    rows, columns = np.ogrid[:height, :width]
    mask = np.hypot(columns - width / 2, rows - height / 2) < 0.3 * height
    Image.fromarray(mask.astype(np.uint8) * 255).save(folder / "masks" / "all.png")
    frames = []
    for k in range(count):
        Image.fromarray(np.roll(picture, 7 * k, axis=1)).save(folder / "images" / f"{k:02d}.jpg")
        turn = 2 * math.pi * k / count
        pose = look_at((4 * math.sin(turn), 1 + 0.1 * k, 4 * math.cos(turn)), (0, 0, 0))
        frames.append(
            {"file_path": f"images/{k:02d}.jpg", "mask_path": "masks/all.png", "transform_matrix": pose.tolist(),
             "exposure": 1 + 0.1 * k}
        )  # fmt: skip
    content = {"camera_model": "OPENCV", "k1": -0.05, "fl_x": width, "fl_y": width, "w": width, "h": height,
               "up_axis": "y", "frames": frames}  # fmt: skip
    (folder / "transforms.json").write_text(json.dumps(content))
    return folder


@pytest.fixture(scope="module")
def twelve(tmp_path_factory) -> Path:
    return photographs(tmp_path_factory.mktemp("twelve"), 12, 900, 600)


def settings(**changes) -> CaptureFolderSettings:
    return CaptureFolderSettings(kind="nerfstudio", folder="x", **changes)


@pytest.mark.parametrize("chosen", [settings(), settings(crop=True, max_side=128, light_frame="camera")])
def test_stored_frames_give_the_numbers_of_frames_in_memory(twelve, chosen):
    lines, warnings = [], ([], [])
    held = prepare(read_transforms(twelve, warnings[0].append), chosen)
    stored = prepare(read_transforms(twelve, warnings[1].append, stream=lines.append), chosen)
    assert len(lines) == 1 and lines[0].startswith("12 images of up to 900x600, ") and warnings[0] == warnings[1]
    assert all(isinstance(frame, stored_frame.StoredFrame) for frame in stored.frames)
    for a, b in zip(held.frames, stored.frames, strict=True):
        b = b.loaded()
        assert np.array_equal(a.image, b.image) and np.array_equal(a.alpha, b.alpha)
        assert replace(a.camera, camera_to_world=0) == replace(b.camera, camera_to_world=0)
        assert np.array_equal(a.camera.camera_to_world, b.camera.camera_to_world)
        assert (a.name, a.split, a.saturation, a.exposure) == (b.name, b.split, b.saturation, b.exposure)


def test_pixels_are_read_once_for_all_summaries():
    camera = read_transforms_camera()
    reads = []

    def read():
        reads.append(1)
        return np.zeros((4, 6, 3), np.float32), np.eye(4, 6, dtype=np.float32)[..., None]

    frame = stored_frame.StoredFrame("a", camera, read, 24, (mask_summary, np_sum), split="test")
    assert frame.summary(mask_summary).box == (0, 0, 4, 4) and frame.summary(np_sum) == 4 and len(reads) == 1
    moved = frame.with_fields(exposure=2.0)
    assert moved.summary(np_sum) == 4 and len(reads) == 1 and (moved.exposure, moved.split) == (2.0, "test")
    doubled = moved.with_pixels(lambda image, alpha: (image + 1, 2 * alpha), saturation=3.0)
    assert doubled.summary(np_sum) == 8 and len(reads) == 2 and frame.summary(np_sum) == 4
    whole = doubled.loaded()
    assert type(whole).__name__ == "Frame" and (whole.image == 1).all() and whole.saturation == 3.0


def np_sum(frame) -> float:
    return float(frame.alpha.sum())


def read_transforms_camera():
    from stspbr.scene import Camera

    return Camera(np.eye(4), 5.0, 5.0, 3.0, 2.0, 6, 4)


@pytest.mark.parametrize("chosen", [settings(), settings(max_side=64)])
def test_memory_does_not_grow_with_the_number_of_frames(tmp_path, monkeypatch, chosen):
    monkeypatch.setattr(stored_frame, "_AT_ONCE", 1)  # one frame at a time, however small
    peaks = []
    for count in (4, 12):
        folder = photographs(tmp_path / str(count), count, 900, 600)
        tracemalloc.start()
        capture = prepare(read_transforms(folder, stream=lambda line: None), chosen)
        write_transforms(tmp_path / f"out{count}", capture)
        peaks.append(tracemalloc.get_traced_memory()[1] / (900 * 600 * 16))  # bytes of a frame's image and alpha
        tracemalloc.stop()
    assert peaks[1] < 4 and peaks[1] < peaks[0] + 0.5, peaks


def test_the_line_about_memory(monkeypatch):
    monkeypatch.setattr(stored_frame, "available_cores", lambda: 64)
    line = stored_frame.memory_line([(400, 300)] * 99 + [(6000, 4000)], "photos")
    assert line == "100 photos of up to 6000x4000, 1 at a time: at most about 1.9 GB of memory"
    assert stored_frame.workers(0) == 64 and stored_frame.workers(10**9) == 1


@pytest.mark.slow
def test_twelve_photographs_of_24_megapixels_take_the_memory_of_one(tmp_path):
    folder = photographs(tmp_path / "large", 12, 6000, 4000)
    script = (
        "import resource, sys; from pathlib import Path; from stspbr.stages.session import Session\n"
        "from stspbr.stages.capture import run_capture; from stspbr.settings import CaptureFolderSettings\n"
        "from stspbr.threads import prepare_process; prepare_process()\n"
        "settings = CaptureFolderSettings(kind='nerfstudio', folder=sys.argv[1], max_side=640)\n"
        "run_capture(Session.open(Path(sys.argv[2]), device='cpu', quiet=True), settings)\n"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024)"
    )
    done = subprocess.run([sys.executable, "-c", script, folder, tmp_path / "run"], capture_output=True, check=True)
    assert int(done.stdout.split()[-1]) < 2.2e9  # all twelve are 4.6 GB
