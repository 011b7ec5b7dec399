"""`capture photos`: what it says where it cannot, and a whole run on ray-cast photos with known cameras and masks."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from stspbr.cli import main
from stspbr.datasets.transforms import read_transforms
from stspbr.errors import StspbrError
from stspbr.settings import CapturePhotosSettings, Recipe, parse_settings
from stspbr.stages import capture_photos as stage
from stspbr.stages.capture import run_capture

pytest.importorskip("pycolmap")
pytest.importorskip("cv2")


def ball_scene(*arguments, **options):
    path = Path(__file__).parents[1] / "photos" / "conftest.py"
    spec = importlib.util.spec_from_file_location("ball_photos", path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module.ball_scene(*arguments, **options)


def fill(folder, count=4, mode="RGB"):
    folder.mkdir(parents=True, exist_ok=True)
    for k in range(count):
        Image.new(mode, (40, 30), (20 * k, 90, 60, 255)[: len(mode)]).save(folder / f"p{k}.png")
    return folder


def settings(folder, **changes) -> CapturePhotosSettings:
    return CapturePhotosSettings(folder=str(folder), **changes)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"masks": "x", "mask": "grabcut"}, "exclude each other"),
        ({"mask": "grabcut"}, "--mask grabcut needs --box"),
        ({"box": (1, 2, 3, 4)}, "--box needs --mask grabcut"),
        ({"features": "object", "mask": "grabcut", "box": (1, 2, 3, 4)}, "features=object needs --masks"),
        ({"mask": "rembg"}, "--mask rembg needs --mask-model FILE"),
        ({"mask_model": "u2net.onnx"}, "--mask-model needs --mask rembg"),
        ({"masks": "gone"}, "gone is not a folder of masks"),
        ({"camera_model": "FISH"}, "camera model 'FISH' is unknown"),
        ({}, "no poses: 4 of 4 photos have too few features"),
        ({"mask": "grabcut", "box": (1, 1, 9, 9), "box_image": "q2"}, r"no such photo \(nearest: p2.png\)"),
        ({"mask": "grabcut", "box": (1, 1, 9, 9)}, "no poses: 4 of 4 photos have too few features"),
    ],
)
def test_what_cannot_be_done_is_said(tmp_path, session, changes, says):
    folder = fill(tmp_path / "photos")
    with pytest.raises(StspbrError, match=says) as caught:
        run_capture(session, settings(folder, **changes))
    assert "\n" not in str(caught.value)
    assert not list(session.run.glob(".photos-*")) and not list(session.run.glob("capture/v*"))


def test_broken_photos_are_left_out_until_too_few_are_left(tmp_path, session):
    folder = fill(tmp_path / "photos", 3)
    whole = (folder / "p1.png").read_bytes()
    (folder / "p1.png").write_bytes(whole[:60])
    with pytest.raises(StspbrError, match="2 of 3 photos can be used, at least 3 are needed: .*p1.png is truncated"):
        run_capture(session, settings(folder, mask="grabcut", box=(1, 1, 9, 9)))


def test_the_report():
    report = stage.PhotoReport(5, 4, 3, 0.456, 99, {"b.jpg": "too few features (3)", "a.jpg": "no mask"}, "table",
                               ["PINHOLE 4x3, focal length 5.0 pixels"], ["exposure is ignored"])  # fmt: skip
    assert report.lines() == [
        "registered 4 of 5 photos, reprojection error 0.46 pixels, 99 points; 3 frames in the capture",
        "  camera: PINHOLE 4x3, focal length 5.0 pixels",
        "  up: from the table",
        "  left out: a.jpg: no mask",
        "  left out: b.jpg: too few features (3)",
        "  note: exposure is ignored",
    ]
    assert json.loads(json.dumps(report.facts()))["failed"]["b.jpg"] == "too few features (3)"


def test_settings_of_a_recipe():
    capture = {"kind": "photos", "folder": "shots", "mask": "grabcut", "box": [1, 2, 30, 40], "camera_model": "OPENCV"}
    recipe = parse_settings(Recipe, {"name": "x", "capture": capture}, "x.toml")
    assert isinstance(recipe.capture, CapturePhotosSettings) and recipe.capture.box == (1, 2, 30, 40)


@pytest.mark.parametrize("box", ["1,2,3", "a,b,c,d", "1,2,0,4"])
def test_the_command_line(tmp_path, capsys, monkeypatch, box):
    words = ["capture", "photos", str(tmp_path / "run"), str(tmp_path), "--mask", "grabcut", "--box", box]
    monkeypatch.setattr(sys, "argv", ["stspbr", *words])
    with pytest.raises(SystemExit) as caught:
        main()
    said = capsys.readouterr().err
    assert caught.value.code == 2 and f"--box {box}: give x,y,width,height" in said and "Traceback" not in said
    assert not (tmp_path / "run").exists()


@pytest.fixture(scope="module")
def ball_run(tmp_path_factory):
    """Nine photos of a ball on a table, one of them a photo of nothing, masks with one that is black; one run."""
    from stspbr.stages.session import Session

    scene = ball_scene(8, (400, 300), arc=160.0)
    folder = tmp_path_factory.mktemp("ball")
    for name in ("photos", "masks"):
        (folder / name).mkdir()
    for k, (image, mask) in enumerate(zip(scene.images, scene.masks, strict=True)):
        Image.fromarray(image).save(folder / "photos" / f"p{k}.png")
        Image.fromarray((mask & (k != 3)).astype(np.uint8) * 255).save(folder / "masks" / f"p{k}.png")
    Image.new("RGB", (400, 300), (90, 90, 90)).save(folder / "photos" / "p9.png")
    Image.fromarray(scene.masks[0].astype(np.uint8) * 255).save(folder / "masks" / "p9.png")
    session = Session.open(folder / "run", device="cpu", quiet=True)
    artifact = run_capture(session, settings(folder / "photos", masks=str(folder / "masks")))
    return scene, artifact, session


@pytest.mark.slow
def test_poses_are_those_of_the_cameras(ball_run):
    scene, artifact, session = ball_run
    facts = json.loads((artifact.path / "run.json").read_text())["photos"]
    assert (facts["photos"], facts["registered"], facts["frames"]) == (9, 8, 7)
    assert facts["failed"]["p9.png"].startswith("too few features (0)")
    assert facts["failed"]["p3.png"] == "its mask is empty: the object is not in it"
    assert facts["reprojection_error"] < 1.0
    assert not list(session.run.glob(".photos-*"))
    capture = read_transforms(artifact.path)
    names = [int(Path(frame.name).stem[1:]) for frame in capture.frames]
    assert names == [0, 1, 2, 4, 5, 6, 7]
    found = np.stack([frame.camera.camera_to_world for frame in capture.frames])
    truth = np.stack([scene.cameras[k].camera_to_world for k in names])
    turn, error = aligned(found, truth)
    assert error < 0.02 * 4.8  # of the distance
    for a, b in zip(found, truth, strict=True):
        cosine = (np.trace((turn @ a[:3, :3]).T @ b[:3, :3]) - 1) / 2
        assert np.degrees(np.arccos(np.clip(cosine, -1, 1))) < 1.0
    assert (turn @ (0, 1, 0))[1] > np.cos(np.radians(2.0))  # up is up


@pytest.mark.slow
def test_the_object_is_at_the_origin_and_can_be_put_back(ball_run):
    _, artifact, _ = ball_run
    capture = read_transforms(artifact.path)
    for frame in capture.frames:
        covered = frame.alpha[..., 0] > 0.5
        rows, columns = np.nonzero(covered)
        local = frame.camera.world_to_camera @ (0, 0, 0, 1)
        x = frame.camera.cx - frame.camera.fx * local[0] / local[2]
        y = frame.camera.cy + frame.camera.fy * local[1] / local[2]
        size = np.ptp(columns)
        assert np.hypot(x - columns.mean(), y - rows.mean()) < 0.2 * size
        assert 0.7 < size * -local[2] / frame.camera.fx / 2 <= 1.05  # a sphere of radius 1 holds it
    back = capture.original_from_world
    assert back is not None and np.linalg.det(back[:3, :3]) > 0


def aligned(found: np.ndarray, truth: np.ndarray) -> tuple[np.ndarray, float]:
    """Umeyama's similarity of the centres: its rotation, and the largest distance that is left."""
    a, b = found[:, :3, 3], truth[:, :3, 3]
    ca, cb = a - a.mean(axis=0), b - b.mean(axis=0)
    u, s, vt = np.linalg.svd(cb.T @ ca)
    flip = np.diag([1, 1, np.sign(np.linalg.det(u @ vt))])
    turn = u @ flip @ vt
    scale = (s * np.diag(flip)).sum() / (ca**2).sum()
    return turn, float(np.linalg.norm(scale * ca @ turn.T - cb, axis=1).max())
