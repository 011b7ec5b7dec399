"""One photograph of equal objects as a capture: frames, poses, what is unknown, and the record beside them."""

from __future__ import annotations

import json
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from stspbr.datasets.captures import read_capture
from stspbr.errors import StspbrError
from stspbr.formats.images import write_exr
from stspbr.geometry.visual_hull import estimate_box
from stspbr.photos.instance_plane import resting_plane
from stspbr.photos.instance_poses import FoundPoses
from stspbr.photos.instances import find_copies
from stspbr.photos.silhouette_check import Silhouettes
from stspbr.procedural.packages import label_can
from stspbr.procedural.pile import PileOptions, lay_pile, mirrored, with_foreign
from stspbr.render.pile_photo import pile_labels
from stspbr.report.gallery import copies_rows, copies_sheet
from stspbr.report.records import read_record
from stspbr.scene.light import latlong_to_direction
from stspbr.settings import CaptureDuplicatesSettings
from stspbr.stages import capture_duplicates as stage
from stspbr.stages.capture import run_capture

SIDE = 1000
pytest.importorskip("pycolmap")
pytest.importorskip("cv2")


@pytest.fixture(scope="module")
def pile():
    return lay_pile(label_can(32), PileOptions(5, size=(SIDE, SIDE), spacing=1.15))


@pytest.fixture(scope="module")
def files(pile, tmp_path_factory):
    folder = tmp_path_factory.mktemp("pile")
    labels = pile_labels(pile)
    image = np.full((SIDE, SIDE, 3), 90, np.uint8)
    image[labels > 0] = (40 + 30 * labels[labels > 0])[:, None]
    Image.fromarray(image).save(folder / "photo.png")
    Image.fromarray(labels.astype(np.uint8)).save(folder / "labels.png")
    return folder / "photo.png", folder / "labels.png", labels


@pytest.fixture
def known_poses(pile, monkeypatch):
    """The search, replaced by the truth without copy 2."""

    def found(display, labels, copies, search, say):
        camera = pile.camera.world_to_camera
        true = {k + 1: 0.5 * camera @ pose for k, pose in enumerate(pile.poses) if k != 1}
        for pose in true.values():  # rigid, in units of half the world's
            pose[:3, :3] *= 2.0
            pose[3, 3] = 1.0
        silhouettes = Silhouettes(labels, copies)
        coherence = silhouettes.check(true, search.focal)
        how = {copy.number: "registered" if copy.number in true else "rejected" for copy in copies}
        return FoundPoses(true, search.focal, None, coherence, np.zeros((9, 3)), 0.5, how, {2: "incoherent"},
                          {(1, 3): (40, 30)}, plane=resting_plane(true))  # fmt: skip

    monkeypatch.setattr(stage, "find_poses", found)


@pytest.fixture
def artifact(session, files, pile, known_poses):
    settings = CaptureDuplicatesSettings(photo=str(files[0]), instances=str(files[1]), focal=pile.camera.fx)
    return run_capture(session, settings)


def test_frames_are_the_copies_through_one_camera(artifact, files, pile):
    capture = read_capture(artifact.path)
    assert [frame.name for frame in capture.frames] == [f"images/copy_{k:03d}.exr" for k in (1, 3, 4, 5)]
    first = capture.frames[0].camera
    for frame in capture.frames:
        assert np.allclose(frame.camera.camera_to_world, first.camera_to_world) and frame.camera.width == first.width
        assert np.allclose(frame.object_to_world[:3, :3] @ frame.object_to_world[:3, :3].T, np.eye(3), atol=1e-6)
    # the object's frame is upright, and all of it is in the hull of the masks
    turns = np.stack([frame.object_to_world[:3, :3] for frame in capture.frames])
    assert np.allclose(turns[:, 1, 1], 1.0, atol=1e-3)
    low, high = estimate_box(capture.frames)
    assert 0.5 < (high - low)[1] / 2 < 1.6 and np.abs(0.5 * (low + high)).max() < 0.5


def test_the_true_surface_lies_under_the_masks(artifact, pile):
    capture, points = read_capture(artifact.path), pile.asset.mesh.positions.astype(np.float64)
    record = json.loads((artifact.path / "duplicates.json").read_text())
    names = [entry["label"] for entry in record["copies"] if "frame" in entry]
    assert names == [1, 3, 4, 5]
    for frame, number in zip(capture.frames, names, strict=True):
        camera, true = frame.camera, pile.camera.world_to_camera @ pile.poses[number - 1]
        local = points @ true[:3, :3].T + true[:3, 3]
        column = camera.cx - camera.fx * local[:, 0] / local[:, 2]
        row = camera.cy + camera.fy * local[:, 1] / local[:, 2]
        i, j = np.floor(row).astype(int), np.floor(column).astype(int)
        assert min(i.min(), j.min()) >= 0 and max(i.max(), j.max()) < camera.width
        known = np.ones_like(frame.alpha) if frame.known is None else frame.known
        shown = frame.alpha[i, j, 0] > 0
        beside = (np.roll(frame.alpha, 2, axis=0) + np.roll(frame.alpha, -2, axis=0))[i, j, 0] > 0
        near = shown | (known[i, j, 0] < 1) | beside
        assert shown.mean() > 0.3 and near.mean() > 0.97
        assert not (frame.alpha * (1 - known)).any() and not frame.image[frame.alpha[..., 0] == 0].any()


def test_record_sheet_and_report(artifact, session):
    record = json.loads((artifact.path / "duplicates.json").read_text())
    states = {entry["label"]: entry["state"] for entry in record["copies"]}
    assert states == {1: "registered", 2: "rejected", 3: "registered", 4: "registered", 5: "registered"}
    assert all(entry["coherence"] > 0.95 for entry in record["copies"] if "coherence" in entry)
    sheet = np.asarray(Image.open(artifact.path / "contact_sheet.png")).reshape(-1, 3)
    for colour in ((40, 220, 90), (240, 60, 60)):
        assert (sheet == colour).all(axis=1).sum() > 200
    report = read_record(session.run)
    assert copies_rows(report)[1][1] == "rejected" and copies_rows(report)[1][4] == "incoherent"
    assert copies_sheet(report) is not None


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"focal": 1500, "fov": 40}, "exclude each other"),
        ({"keep": [1, 9]}, "no label 9"),
        ({"keep": [1, 2]}, "at least 3 are needed"),
        ({"instances": None}, "give --instances"),
        ({"photo": "nowhere.jpg"}, "no such photo"),
    ],
)
def test_bad_input_is_one_line_and_leaves_nothing(changes, message, files, session):
    settings = {"photo": str(files[0]), "instances": str(files[1])} | changes
    with pytest.raises(StspbrError, match=message) as caught:
        run_capture(session, CaptureDuplicatesSettings(**settings))
    assert "\n" not in str(caught.value) and not list(session.run.glob("capture/v*"))


def test_copies_do_not_touch_and_labels_are_theirs(pile, files):
    labels = files[2]
    for number, pose in enumerate(pile.poses, start=1):
        local = pile.camera.world_to_camera @ np.append(pose[:3, 3], 1.0)
        column = pile.camera.cx - pile.camera.fx * local[0] / local[2]
        row = pile.camera.cy + pile.camera.fy * local[1] / local[2]
        assert labels[int(row), int(column)] in (number, *range(number + 1, 6))  # a nearer one may be in front
    gaps = [np.linalg.norm(a[:3, 3] - b[:3, 3]) for k, a in enumerate(pile.poses) for b in pile.poses[:k]]
    assert min(gaps) > 2 * 0.56  # upright cans: their radii
    _, copies = find_copies(labels)
    assert len(copies) == 5


def test_a_mirrored_copy_is_another_object(pile):
    other = mirrored(pile.asset)
    changed = with_foreign(pile, [(2, other)])
    assert len(changed.poses) == 4 and np.allclose(changed.others[0][1], pile.poses[2])
    mesh = other.mesh
    a, b, c = (mesh.positions[mesh.faces[:, k]].astype(np.float64) for k in range(3))
    assert np.einsum("ij,ij->i", a, np.cross(b, c)).sum() > 0  # still turned outwards


def test_a_known_light_is_laid_where_the_camera_looks(files, pile, known_poses, session):
    """The middle of the light's map lies behind the pile; up is away from the table."""
    light = np.full((32, 64, 3), 0.1, np.float32)
    light[15:17, 31:33] = 50.0  # straight ahead, level
    path = session.run / "probe.exr"
    write_exr(path, light)
    common = {"photo": str(files[0]), "instances": str(files[1]), "focal": pile.camera.fx, "light": str(path)}
    for turn in (0.0, 90.0):
        made = run_capture(session, CaptureDuplicatesSettings(**common, light_turn=turn))
        capture = read_capture(made.path)
        radiance = capture.light.radiance[..., 0]
        row, column = np.unravel_index(radiance.argmax(), radiance.shape)
        way = latlong_to_direction(np.array([[(column + 0.5) / radiance.shape[1], (row + 0.5) / radiance.shape[0]]]))[0]
        ahead = -capture.frames[0].camera.camera_to_world[:3, 2] * (1.0, 0.0, 1.0)
        ahead /= np.linalg.norm(ahead)
        left = np.cross((0.0, 1.0, 0.0), ahead)
        assert way @ (ahead if turn == 0 else left) > 0.98


def test_exif_is_a_prior_and_given_numbers_are_exact(files, monkeypatch):
    settings = CaptureDuplicatesSettings(photo=str(files[0]), instances=str(files[1]))
    monkeypatch.setattr(stage, "read_exif", lambda photo: SimpleNamespace(focal=1234.0))
    said = []
    assert stage._focal(settings, files[0], (SIDE, SIDE), said.append) == (1234.0, 0.01) and "Exif" in said[0]
    exact = settings.model_copy(update={"fov": 90.0})
    assert stage._focal(exact, files[0], (SIDE, SIDE), said.append) == (pytest.approx(SIDE / 2), 0.0)
    monkeypatch.setattr(stage, "read_exif", lambda photo: SimpleNamespace(focal=None))
    assert stage._focal(settings, files[0], (SIDE, SIDE), said.append) == (None, 0.0)
