"""`stspbr capture` on folders: radiance stays linear, and preparation reaches what is written."""

from __future__ import annotations

import contextlib
import html
import json
import math

import numpy as np
import pytest
from PIL import Image

from stspbr.colour import srgb_to_linear
from stspbr.datasets.captures import read_capture
from stspbr.errors import StspbrError
from stspbr.formats.images import write_exr, write_png8
from stspbr.scene import look_at
from stspbr.settings import CaptureFolderSettings
from stspbr.stages.capture import run_capture
from stspbr.stages.capture_check import run_capture_check
from stspbr.stages.report import write_report

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


def masked(folder, masks, **keys):
    """JPEGs without alpha, a mask of each from ``masks(k, coverage)``, and backslashes in the file."""
    write_folder(folder, ".png", **keys)
    (folder / "masks").mkdir()
    content = json.loads((folder / "transforms.json").read_text())
    for k, entry in enumerate(content["frames"]):
        image = Image.open(folder / entry["file_path"])
        image.convert("RGB").save(folder / f"images/IMG_{k:02d}.JPG", "JPEG", quality=95)
        masks(k, np.asarray(image)[..., 3] > 0).save(folder / f"masks/IMG_{k:02d}.PNG", "PNG")
        entry |= {"file_path": f".\\images\\IMG_{k:02d}.jpg", "mask_path": f"masks\\img_{k:02d}.png"}
    content["train_filenames"] = [entry["file_path"] for entry in content["frames"][:10]]
    content["test_filenames"] = [entry["file_path"] for entry in content["frames"][10:]]
    (folder / "transforms.json").write_text(json.dumps(content))
    return folder


def two_labels(_, inside):
    return Image.fromarray(np.where(inside, 1, np.indices(inside.shape)[1] < 4).astype(np.uint8) + inside)


def test_masks_of_windows_tools(session, tmp_path):
    folder = masked(tmp_path / "in", lambda _, inside: Image.fromarray(inside.astype(np.uint8)))
    capture, artifact = captured(session, folder)
    assert len(capture.split("train")) == 10 and len(capture.split("test")) == 2
    for frame in capture.frames:
        assert frame.alpha.max() == 1 and frame.alpha.mean() == pytest.approx(
            np.pi * 7.5**2 / (WIDTH * HEIGHT), rel=0.03
        )
    line = "12 files (masks/IMG_00.PNG, masks/IMG_01.PNG, masks/IMG_02.PNG, …): the values 0 and 1 (of 255) are read as"
    recorded = json.loads((artifact.path / "run.json").read_text())["warnings"]
    assert [each for each in recorded if each.startswith(line)] and len(recorded) == len(set(recorded))


def test_the_object_is_chosen_among_labels(session, tmp_path):
    folder = masked(tmp_path / "in", two_labels)
    with pytest.raises(StspbrError, match="several labels, 1, 2 .*--mask-label 1"):
        captured(session, folder)
    capture, _ = captured(session, folder, mask_label=2)
    assert all(frame.alpha[HEIGHT // 2, WIDTH // 2] == 1 and frame.alpha[0].max() == 0 for frame in capture.frames)


def test_inverted_masks_are_named_whatever_comes_of_them(session, tmp_path, capsys):
    folder = masked(tmp_path / "in", lambda _, inside: Image.fromarray(255 * (~inside).astype(np.uint8)))
    session.quiet = False
    with contextlib.suppress(StspbrError):
        captured(session, folder)
    assert "12 of 12 masks cover all four borders of their images" in capsys.readouterr().err
    capture, _ = captured(session, folder, invert_masks=True)
    assert all(frame.alpha[HEIGHT // 2, WIDTH // 2] == 1 and frame.alpha[0].max() == 0 for frame in capture.frames)


def test_notes_are_in_the_check_and_in_the_report(session, tmp_path):
    def tinted(path):
        Image.open(path).convert("RGB").save(path, "JPEG", icc_profile=b"broken profile", quality=95)

    folder = masked(tmp_path / "in", lambda _, inside: Image.fromarray(inside.astype(np.uint8)))
    for path in (folder / "images").glob("*.JPG"):
        tinted(path)
    captured(session, folder)
    said = "its colour profile cannot be used (its ICC profile is cut off): it is read as sRGB"
    check, out = run_capture_check(session.run)
    assert any(line.startswith("12 files (IMG_00.JPG,") and line.endswith(said) for line in check.notes)
    assert json.loads((out / "check.json").read_text())["notes"] == check.notes
    assert said in html.unescape((out / "check.html").read_text())
    check, _ = run_capture_check(folder, tmp_path / "out")  # before it is captured
    assert any(line.endswith(said) for line in check.notes)
    page = tmp_path / "report.html"
    write_report(session.run, page)
    assert said in html.unescape(page.read_text())
