"""`stspbr capture check`: each warning appears on a capture made for it, and not on one that is nearly so."""

from __future__ import annotations

import functools
import json
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image
from scipy import ndimage

from stspbr.datasets.preparation.light_frame import in_light_frame
from stspbr.datasets.transforms_writer import write_transforms
from stspbr.errors import StspbrError
from stspbr.scene import Capture, Frame
from stspbr.scene.camera_rig import sphere_cameras
from stspbr.settings import CaptureFolderSettings
from stspbr.stages.capture import run_capture
from stspbr.stages.capture_check import as_json, check_frames, frame_rows, run_capture_check

SIZE, RADIUS = 64, 0.5


def ball_frame(name, camera, split="train", half_shut=1.0):
    """A ball with a fine pattern under light from one side: views differ in brightness though exposures do not."""
    fine = camera.resized(2 * camera.width, 2 * camera.height)
    rows, columns = np.mgrid[: fine.height, : fine.width] + 0.5
    local = np.stack([(columns - fine.cx) / fine.fx, -(rows - fine.cy) / fine.fy, -np.ones_like(rows)], axis=-1)
    directions = local @ camera.camera_to_world[:3, :3].T
    directions /= np.linalg.norm(directions, axis=-1, keepdims=True)
    origin = camera.position
    along = directions @ origin
    root = along**2 - origin @ origin + RADIUS**2
    hit = (root > 0)[..., None]
    point = origin + directions * (-along - np.sqrt(np.maximum(root, 0)))[..., None]
    light = 0.15 + 0.85 * np.maximum(point @ np.array([0.6, 0.64, 0.48]) / RADIUS, 0)
    waves = np.sin(np.stack([point @ w for w in np.random.default_rng(3).normal(0, 22, (12, 3))], axis=-1))
    pattern = 0.5 + 0.35 * np.clip(waves.sum(axis=-1) / 2.5, -1, 1)
    colour = (light * pattern)[..., None] * np.array([0.8, 0.6, 0.5]) * hit
    pixels = np.concatenate([colour, hit], axis=-1).reshape(camera.height, 2, camera.width, 2, 4).mean(axis=(1, 3))
    pixels = pixels.astype(np.float32)
    return Frame(name, camera, pixels[..., :3], pixels[..., 3:], split=split, saturation=1.0)


EVERY = range(36)  # of the rig's frames


@functools.cache
def rig(train=32, low=-80.0, high=80.0):
    """Frames of an even rig; the arrays are shared, changes go through copies."""
    options = {"radius": 3.0, "fov_degrees": 40.0, "resolution": SIZE, "elevation_degrees": (low, high)}
    views = [("train", camera) for camera in sphere_cameras(train, **options)]
    views += [("test", camera) for camera in sphere_cameras(4, seed=5, offset=0.2, **options)]
    return tuple(ball_frame(f"{split}_{k:02d}.png", camera, split) for k, (split, camera) in enumerate(views))


def good(**options):
    return list(rig(**options))


def changed(index, change, **options):
    """The good frames with the image and alpha of some of them passed through ``change``."""
    frames = good(**options)
    for k in np.atleast_1d(index):
        image, alpha = change(frames[k].image.copy(), frames[k].alpha.copy())
        frames[k] = replace(frames[k], image=image, alpha=alpha)
    return frames


def rolled(pixels, camera_too):
    frames = good()
    frame = frames[8]
    moved = [np.roll(x, pixels, axis=1) for x in (frame.image, frame.alpha)]
    camera = replace(frame.camera, cx=frame.camera.cx + pixels) if camera_too else frame.camera
    frames[8] = replace(frame, image=moved[0], alpha=moved[1], camera=camera)
    return frames


def masked_out(image, alpha, chosen):
    image[chosen], alpha[chosen] = 0.0, 0.0
    return image, alpha


def pinholes(count, size=1):
    def change(image, alpha):
        for k in range(count):
            image, alpha = masked_out(image, alpha, np.s_[24 + 5 * k : 24 + 5 * k + size, 30 : 30 + size])
        return image, alpha

    return change


def specks(count):
    def change(image, alpha):
        for k in range(count):
            alpha[3, 10 + 6 * k], image[3, 10 + 6 * k] = 1.0, 0.2
        return image, alpha

    return change


def ring(image, alpha):
    """Seen from all around, nothing projects into rings only."""
    rows, columns = np.mgrid[:SIZE, :SIZE] + 0.5 - SIZE / 2
    return masked_out(image, alpha, np.hypot(rows, columns) < 12)


def blurred(sigma):
    return lambda image, alpha: (ndimage.gaussian_filter(image, (sigma, sigma, 0)) * (alpha > 0), alpha)


def without(where, degrees):
    """The rig without training cameras within ``degrees`` of a direction."""
    where = np.asarray(where) / np.linalg.norm(where)
    near = np.cos(np.radians(degrees))
    return [f for f in good(train=56) if f.split == "test" or f.camera.position @ where / 3.0 < near]


def dolly(frames):
    camera = frames[0].camera
    out = []
    for k in range(12):
        pose = camera.camera_to_world.copy()
        pose[:3, 3] *= 1.0 + 0.02 * k
        out.append(ball_frame(f"{k}.png", replace(camera, camera_to_world=pose), "test" if k == 3 else "train"))
    return out


def exposed(some):
    frames = good()
    return [replace(f, exposure=2.0) if k in some else f for k, f in enumerate(frames)]


def resized_frame():
    frames = good()
    frames[2] = ball_frame("other.png", replace(frames[2].camera, width=72, cx=36.0))
    return frames


def clipping(share):
    """Frame 5 with ``share`` of its object at the limit."""
    frames = good()
    inside = frames[5].image[frames[5].alpha[..., 0] > 0.5].max(axis=-1)
    limit = float(np.quantile(inside, 1 - share)) / 0.999
    frames[5] = replace(frames[5], saturation=limit)
    return frames


# code, a capture that has it, one that nearly has, frames that are named (None: whatever)
CASES = [
    ("no-mask", lambda: changed(4, lambda i, a: (i, np.ones_like(a))), good, ["train_04.png"]),
    ("empty-mask", lambda: changed(4, lambda i, a: (0 * i, 0 * a)), good, ["train_04.png"]),
    ("misplaced-mask", lambda: rolled(14, False), lambda: rolled(8, False), ["train_08.png"]),
    ("masks-contradict", lambda: changed(EVERY, ring), lambda: changed(5, ring), []),
    ("mask-at-border", lambda: rolled(22, True), lambda: rolled(8, True), ["train_08.png"]),
    ("mask-holes", lambda: changed(7, pinholes(3)), lambda: changed(7, pinholes(1, 9)), ["train_07.png"]),
    ("mask-specks", lambda: changed(7, specks(4)), lambda: changed(7, specks(2)), ["train_07.png"]),
    (
        "colour-outside-mask",
        lambda: changed([1, 9], lambda i, a: (np.where(a > 0, i, 0.05).astype(np.float32), a)),
        lambda: changed([1, 9], lambda i, a: (np.where(a > 0, i, 1e-4).astype(np.float32), a)),
        ["train_01.png", "train_09.png"],
    ),
    (
        "mask-jump",
        lambda: changed(6, lambda i, a: masked_out(i, a, np.s_[:, :32])),
        lambda: changed(6, lambda i, a: masked_out(i, a, np.s_[:, :20])),
        ["train_06.png"],
    ),
    ("bad-pixels", lambda: changed(3, lambda i, a: (i + np.where(i == i.max(), np.nan, 0), a)), good, ["train_03.png"]),
    (
        "blurred",
        lambda: changed([12, 20], blurred(2.0)),
        lambda: changed([12, 20], blurred(0.3)),
        ["train_12.png", "train_20.png"],
    ),
    (
        "exposure-spread",
        lambda: changed([11], lambda i, a: (i * np.float32(0.3), a)),
        lambda: changed([11], lambda i, a: (i * np.float32(0.7), a)),
        ["train_11.png"],
    ),
    ("clipped", lambda: clipping(0.2), lambda: clipping(0.05), ["train_05.png"]),
    ("few-views", lambda: good(train=9), lambda: good(train=12), []),
    ("no-held-out", lambda: [f for f in good() if f.split == "train"], good, []),
    ("no-object", lambda: dolly(good()), good, []),
    ("above-only", lambda: good(train=31, low=5.0, high=80.0), lambda: good(train=20, low=-60.0, high=80.0), []),
    ("below-only", lambda: good(train=20, low=-80.0, high=-5.0), lambda: good(train=20, low=-80.0, high=60.0), []),
    ("coverage-gap", lambda: without((-1, 0, 1), 70), lambda: without((-1, 0, 1), 25), []),
    ("mixed-sizes", resized_frame, good, []),
    ("exposure-partial", lambda: exposed(range(10)), lambda: exposed(EVERY), []),
]  # fmt: skip


def codes(frames):
    return {finding.code: finding for finding in check_frames(Capture(frames)).findings}


@functools.cache
def checked_rig():
    return check_frames(Capture(good()))


def test_a_good_capture_has_no_warnings():
    check = checked_rig()
    assert [finding.text for finding in check.findings] == []
    assert check.comparisons.exposure.spread < 0.3 and check.surface.from_masks
    assert check.place.centre == pytest.approx(0.0, abs=0.02) and check.place.radius == pytest.approx(RADIUS, rel=0.05)
    # brightness itself does differ, by the light
    assert np.ptp([metrics.brightness for metrics in check.frames]) > 1.0


@pytest.mark.parametrize(("code", "bad", "nearly", "named"), CASES, ids=[case[0] for case in CASES])
def test_each_warning_appears_where_it_should_and_not_elsewhere(code, bad, nearly, named):
    found = codes(bad())
    assert code in found
    assert found[code].frames == named
    if nearly is not good:  # which has no warning at all
        assert code not in codes(nearly())


def test_the_words_help():
    assert (
        codes(good(train=31, low=5.0, high=80.0))["above-only"].text
        == "31 views from above only: the underside will be guessed"
    )
    assert "no view within 70° of the front-left" in codes(without((-1, 0, 1), 70))["coverage-gap"].text
    text = codes(changed([11], lambda i, a: (i * np.float32(0.25), a)))["exposure-spread"].text
    assert text.startswith("exposure differs by 2.") and "darkest train_11.png" in text and "estimate" in text
    assert codes(changed(20, blurred(2.0)))["blurred"].text.startswith("frame train_20.png: blurred")


def test_a_turntable_covers_what_moving_cameras_do():
    """Directions are those of the object: nothing changes when the camera stands still and the object turns."""
    turned = check_frames(in_light_frame(Capture(good()), "camera"))
    assert (turned.coverage.counts == checked_rig().coverage.counts).all()
    assert turned.place.centre == pytest.approx(checked_rig().place.centre, abs=1e-6) and turned.findings == []


def test_given_exposures_count():
    """A bracketed capture whose exposures are told is as good as an even one."""
    factors = [1.0, 4.0, 0.25]
    frames = [replace(f, image=f.image * np.float32(factors[k % 3])) for k, f in enumerate(good())]
    assert "exposure-spread" in codes(frames)
    told = [replace(f, exposure=100.0 * factors[k % 3]) for k, f in enumerate(frames)]
    assert "exposure-spread" not in codes(told)


def test_what_a_glittering_surface_cannot_tell_is_no_warning():
    """A spread of 1.6 stops is one on a matte ball, and none where places differ by more from view to view."""

    def glittering(stops):
        rng = np.random.default_rng(6)
        shape = (SIZE, SIZE, 1)
        return [replace(f, image=f.image * np.exp2(rng.normal(0, stops, shape)).astype(np.float32)) for f in frames]

    frames = [replace(f, saturation=float("inf")) for f in changed(11, lambda i, a: (i * np.float32(0.35), a))]
    assert "exposure-spread" in codes(glittering(0.1)) and "exposure-spread" not in codes(glittering(1.5))


def test_exposures_can_be_estimated(session, tmp_path):
    factors = 2.0 ** np.random.default_rng(2).uniform(-1.5, 1.5, 36)
    truth = good()
    frames = [
        replace(f, image=f.image * np.float32(x), saturation=float("inf")) for f, x in zip(truth, factors, strict=True)
    ]
    write_transforms(tmp_path / "in", Capture(frames), "exr32")
    settings = CaptureFolderSettings(kind="nerfstudio", folder=str(tmp_path / "in"), exposure="estimate")
    check, _ = run_capture_check(run_capture(session, settings).path, tmp_path / "check")
    assert check.comparisons.exposure.spread < 0.2
    assert [finding.code for finding in check.findings] == []


def test_what_is_written(tiny_run, tmp_path):
    check, out = run_capture_check(tiny_run, tmp_path / "out")
    assert check.source == tiny_run / "capture" / "v0001" and out == tmp_path / "out"
    stored = json.loads((out / "check.json").read_text())
    assert stored == json.loads(json.dumps(as_json(check)))
    assert [frame["name"] for frame in stored["frames"]] == [row[0] for row in frame_rows(check)]
    assert len(stored["coverage"]["counts"]) == stored["coverage"]["cells"]
    sheet, cameras = (np.asarray(Image.open(out / name)) for name in ("contact-sheet-01.png", "cameras.png"))
    assert (sheet == (255, 60, 200)).all(axis=-1).sum() > 8 * 40  # outlines
    for colour in ((90, 160, 255), (255, 150, 60)):  # training and held-out cameras, lines smoothed
        assert (np.abs(cameras.astype(int) - colour).max(axis=-1) < 12).sum() > 50
    assert Image.open(out / "coverage.png").size == (960, 542)
    html = (out / "check.html").read_text()
    assert "only 6 training views" in html and "6 / 2" in html


def test_pages_of_an_earlier_check_go_away(tmp_path):
    write_transforms(tmp_path / "many", Capture(good(train=40)))
    write_transforms(tmp_path / "few", Capture(good(train=9)))
    run_capture_check(tmp_path / "many", tmp_path / "out")
    assert (tmp_path / "out" / "contact-sheet-02.png").is_file()
    (tmp_path / "out" / "mine.png").write_bytes(b"kept")
    run_capture_check(tmp_path / "few", tmp_path / "out")
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == [
        "cameras.png", "check.html", "check.json", "contact-sheet-01.png", "coverage.png", "mine.png"
    ]  # fmt: skip


def test_a_capture_that_would_be_refused_is_shown(tmp_path):
    """Without masks nothing is known of the shape, but cameras, images and coverage are."""
    frames = [replace(f, alpha=np.ones_like(f.alpha)) for f in good()]
    write_transforms(tmp_path / "in", Capture(frames))
    check, out = run_capture_check(tmp_path / "in", tmp_path / "out")
    assert [finding.code for finding in check.findings] == ["refused", "no-mask"]
    assert "has no mask" in check.findings[0].text
    assert not check.place.from_masks and np.linalg.norm(check.place.centre) < 0.1
    assert check.coverage.gaps[0].angle < 40 and (out / "cameras.png").is_file()


def test_a_broken_pose_is_one_line(tmp_path):
    path = write_transforms(tmp_path / "in", Capture(good(train=9)))
    content = json.loads(path.read_text())
    content["frames"][3]["transform_matrix"] = np.zeros((4, 4)).tolist()
    path.write_text(json.dumps(content))
    with pytest.raises(StspbrError, match=r"train_03\.\w+: its camera matrix"):
        run_capture_check(tmp_path / "in", tmp_path / "out")
    # one that is merely scaled is shown
    content["frames"][3]["transform_matrix"] = (
        np.diag([2.0, 2, 2, 1]) @ good(train=9)[3].camera.camera_to_world
    ).tolist()
    path.write_text(json.dumps(content))
    check, _ = run_capture_check(tmp_path / "in", tmp_path / "out")
    assert "not rigid" in check.findings[0].text and (tmp_path / "out" / "cameras.png").is_file()


@pytest.mark.slow
def test_real_photographs_without_masks(shared_assets, tmp_path):
    check, out = run_capture_check(shared_assets / "captures" / "buddha13", tmp_path)
    assert {finding.code for finding in check.findings} == {"refused", "no-mask", "coverage-gap"}
    assert len(check.frames) == 13 and (out / "check.html").is_file()


def test_nothing_to_check(tmp_path):
    with pytest.raises(StspbrError, match="contains no transforms.json"):
        run_capture_check(tmp_path)
    write_transforms(tmp_path / "in", Capture(good()))
    with pytest.raises(StspbrError, match="not a run: --from"):
        run_capture_check(tmp_path / "in", tmp_path / "out", "v0001")
    (tmp_path / "file").write_text("")
    with pytest.raises(StspbrError, match="cannot write"):
        run_capture_check(tmp_path / "in", tmp_path / "file")
