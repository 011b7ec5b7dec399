"""`stspbr capture` on folders: radiance stays linear, and preparation reaches what is written."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest

from stspbr.colour import srgb_to_linear
from stspbr.datasets.captures import read_capture
from stspbr.errors import StspbrError
from stspbr.formats.images import write_exr, write_png8
from stspbr.scene import look_at
from stspbr.settings import CaptureFolderSettings
from stspbr.stages.capture import run_capture

COUNT, WIDTH, HEIGHT = 12, 30, 20


def write_folder(folder, suffix, value=lambda k: 0.2 + 0.01 * k, size=lambda k: (WIDTH, HEIGHT), **keys):
    """Discs of one colour with alpha, from cameras on a ring; ``value`` is linear, straight."""
    frames = []
    for k in range(COUNT):
        width, height = size(k)
        rows, columns = np.mgrid[:height, :width] + 0.5
        alpha = (np.hypot(columns - width / 2, rows - height / 2) < 7.5)[..., None].astype(np.float32)
        colour = np.full((height, width, 3), value(k), np.float32)
        path = folder / "images" / f"{k:02d}{suffix}"
        path.parent.mkdir(parents=True, exist_ok=True)
        if suffix == ".exr":
            write_exr(path, colour * alpha, alpha=alpha)
        else:
            write_png8(path, colour, srgb=True, alpha=alpha)
        angle = 2 * math.pi * k / COUNT
        pose = look_at((3 * math.sin(angle), 0.5, 3 * math.cos(angle)), (0, 0, 0))
        entry = {"file_path": f"images/{path.name}", "transform_matrix": pose.tolist(), "w": width, "h": height}
        frames.append(entry | {key: of(k) for key, of in keys.items()})
    content = {"fl_x": 40.0, "fl_y": 40.0, "up_axis": "y", "frames": frames}
    (folder / "transforms.json").write_text(json.dumps(content))
    return folder


def captured(session, folder, **settings):
    artifact = run_capture(session, CaptureFolderSettings(kind="nerfstudio", folder=str(folder), **settings))
    return read_capture(artifact.path), artifact


def middle(frame):
    """The colour where every frame has covered pixels."""
    return frame.image[frame.camera.height // 2, frame.camera.width // 2]


def test_exr_stays_linear_and_bright(session, tmp_path):
    capture, _ = captured(session, write_folder(tmp_path / "hdr", ".exr", lambda k: 5.0 + k))
    for k, frame in enumerate(capture.frames):
        assert middle(frame) == pytest.approx(5.0 + k, rel=1e-3) and math.isinf(frame.saturation)


def test_eight_bits_are_linearised(session, tmp_path):
    capture, _ = captured(session, write_folder(tmp_path / "ldr", ".png"))
    for k, frame in enumerate(capture.frames):
        stored = np.round(255 * (1.055 * (0.2 + 0.01 * k) ** (1 / 2.4) - 0.055)) / 255
        assert middle(frame) == pytest.approx(float(srgb_to_linear(stored)), rel=1e-3) and frame.saturation == 1.0


def test_exposure_of_each_frame_is_divided_out(session, tmp_path):
    """A ring of bracketed photographs of one grey; the keys are those of a camera."""
    times = [1 / 30, 1 / 60, 1 / 15]
    folder = write_folder(
        tmp_path / "bracket",
        ".exr",
        lambda k: (0.3 + 0.001 * k) * times[k % 3] * 30,
        exposure_time=lambda k: times[k % 3],
        iso=lambda k: 100 if k < 6 else 200,
        f_number=lambda k: 4.0 if k < 6 else 4.0 * math.sqrt(2.0),
        white_balance=lambda k: [1.5, 1.0, 2.0],
    )
    capture, artifact = captured(session, folder)
    for k, frame in enumerate(capture.frames):
        assert middle(frame) == pytest.approx(0.3 + 0.001 * k, rel=2e-3)
    assert "exposure" not in json.loads((artifact.path / "transforms.json").read_text())["frames"][0]
    kept, _ = captured(session, folder, exposure="ignore")
    assert [middle(frame)[0] for frame in kept.frames[:3]] == pytest.approx([0.3, 0.1505, 0.604], rel=2e-3)


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"exposure_time": lambda k: 0.1}, r"exposure_time alone is not an exposure: give iso, f_number"),
        ({"exposure": lambda k: "bright"}, r"its exposure is 'bright': it must be a positive number"),
        ({"exposure": lambda k: 0}, r"its exposure is 0"),
        ({"white_balance": lambda k: [1, 2]}, r"white_balance is \[1, 2\]: give the three gains"),
        ({"white_balance": lambda k: [1, 2, -1]}, r"white_balance is -1"),
    ],
)
def test_wrong_exposures_are_said_with_the_frame(session, tmp_path, keys, message):
    with pytest.raises(StspbrError, match=rf"frame images/\d\d\.exr: .*{message}"):
        captured(session, write_folder(tmp_path / "in", ".exr", **keys))
    assert not (session.run / "capture").exists()


def test_mixed_sizes_become_one_and_reach_the_training(session, tmp_path):
    import torch

    from stspbr.optimize.views import ViewSet

    folder = write_folder(tmp_path / "mixed", ".exr", size=lambda k: (HEIGHT, WIDTH) if k % 3 else (WIDTH, HEIGHT))
    with pytest.raises(StspbrError, match="need one size"):
        ViewSet(read_capture(folder).frames, 1, torch.device("cpu"))
    capture, _ = captured(session, folder)
    assert ViewSet(capture.frames, 1, torch.device("cpu")).resolution == (WIDTH, WIDTH)
    capture, _ = captured(session, folder, crop=True, max_side=12)
    assert ViewSet(capture.frames, 1, torch.device("cpu")).resolution == (12, 12)


def test_a_cut_object_beside_padding_is_in_the_warnings(session, tmp_path):
    folder = write_folder(tmp_path / "cut", ".exr", size=lambda k: (WIDTH, HEIGHT) if k else (12, 24))
    _, artifact = captured(session, folder)
    warnings = json.loads((artifact.path / "run.json").read_text())["warnings"]
    assert any("images/00.exr" in line and "runs out of the image" in line for line in warnings)
    assert not any("images/01.exr" in line and "runs out" in line for line in warnings)
