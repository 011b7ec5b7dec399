"""The state behind a page: what is listed, what is chosen, what a broken run says; and that nothing is written."""

from __future__ import annotations

import shutil
import time
from dataclasses import replace

import numpy as np
import pytest

from stspbr.artifacts import ArtifactStore
from stspbr.errors import StspbrError
from stspbr.formats.images import write_hdr, write_png8
from stspbr.optimize.live_model import LIVE_MODEL, read_live_model
from stspbr.report.curves import Curve
from stspbr.stages.view import Turntable, azimuth, run_turntable
from stspbr.view.drawing import Look
from stspbr.view.painter import PageCamera, Painter, Tab
from stspbr.view.progress import charts, read_preview
from stspbr.view.viewer import BOTH, DIFFERENCE, NEWEST, NOTHING, PHOTO, Choice

from .conftest import log, tree, viewer_of

CAMERA = PageCamera(np.array([0.0, 1.0, 0.0, 0.0]), np.array([0.0, 0.0, 3.7]), width=64, height=48)


def camera(viewer):
    return viewer.placement().camera(CAMERA.wxyz, CAMERA.position, CAMERA.field, 64, 48)


def drawn(viewer, **choice):
    """A picture without an error."""
    view = viewer.draw(Choice(**choice), camera(viewer))
    assert view.error == ""
    return view.image.astype(int)


@pytest.fixture(scope="module")
def viewer(finished):
    found = viewer_of(finished)
    found.poll()
    return found


def test_versions_channels_and_lights_are_listed(viewer):
    assert viewer.shown() == [NEWEST, "bake/v0001", "specialize/v0001", "coarse/v0001", "capture/v0001"]
    assert viewer.besides(None) == [NOTHING, *viewer.shown()[1:]]
    assert viewer.besides(3)[:4] == [NOTHING, PHOTO, DIFFERENCE, BOTH]
    assert viewer.lights() == ["its own"]
    assert viewer.resolved(NEWEST) == viewer.resolved("bake/v0009") == "bake/v0001"
    confidences = tuple(f"confidence: {name}" for name in ("albedo", "metallic", "roughness"))
    assert viewer.channels(Choice()) == ("shaded", "albedo", "roughness", "metallic", "normal", *confidences)
    assert viewer.headline().startswith("finished: bake/v0001")
    assert viewer.losses.stages() == ["coarse", "specialize", "bake"]
    assert {"mask", "A"} <= viewer.losses.of("coarse").keys() and viewer.losses.step("coarse") == 2
    assert len(viewer.frames()[0]) == 8


@pytest.mark.parametrize("name", ["bake/v0001", "specialize/v0001", "coarse/v0001", "capture/v0001"])
def test_every_stage_is_drawn(viewer, name):
    pictures = [drawn(viewer, show=name, look=Look(channel)) for channel in ("shaded", "albedo", "roughness", "normal")]
    background = pictures[0][0, 0]
    for image in pictures:
        assert 0.05 < (np.abs(image - background).max(axis=-1) > 2).mean() < 0.9
    assert np.abs(pictures[0] - pictures[1]).max() > 10


def test_two_versions_have_a_line_between(viewer):
    left, right = (drawn(viewer, show=name) for name in ("bake/v0001", "capture/v0001"))
    both = drawn(viewer, show="bake/v0001", beside="capture/v0001", split=0.5)
    assert np.abs(both[:30, :30] - left[:30, :30]).max() <= 2 and np.abs(both[:30, 34:] - right[:30, 34:]).max() <= 2
    assert (both[:30, 31:33] > 200).all()
    whole = drawn(viewer, show="bake/v0001", beside="capture/v0001", split=0.0)
    assert np.abs(whole[:30, 1:] - right[:30, 1:]).max() <= 2


def test_a_photo_beside_and_its_difference(viewer):
    """In the photo's own pixels: the capture's asset is what the photo shows."""

    def picture(**choice) -> np.ndarray:
        own = viewer.placement().camera(CAMERA.wxyz, CAMERA.position, CAMERA.field, 32, 32)
        return viewer.draw(Choice(photo=0, **choice), own).image.astype(int)

    photo = picture(show="capture/v0001", beside=PHOTO, split=0.0)[:, 1:]
    truth, coarse = (picture(show=name)[:, 1:] for name in ("capture/v0001", "coarse/v0001"))
    assert seen(photo) > 0.1
    assert np.abs(truth - photo).mean() < 0.3 * np.abs(coarse - photo).mean()
    near, far = (picture(show=name, beside=DIFFERENCE) for name in ("capture/v0001", "coarse/v0001"))
    assert near.mean() < 0.5 * far.mean()
    assert np.array_equal(drawn(viewer, beside=PHOTO), drawn(viewer))  # no photo is looked through


@pytest.mark.parametrize("size", [(96, 32), (32, 96)])
def test_photo_render_and_difference_side_by_side(viewer, size):
    """Each third is what it is alone, in the frame's own pixels."""
    own = viewer.placement().camera(CAMERA.wxyz, CAMERA.position, CAMERA.field, *size)
    choice = Choice(show="coarse/v0001", beside=BOTH, photo=0)
    thirds = np.split(viewer.draw(choice, own).image.astype(int), 3, axis=1 if size[0] > size[1] else 0)
    alone = viewer.placement().camera(CAMERA.wxyz, CAMERA.position, CAMERA.field, 32, 32)
    for third, name in ((0, PHOTO), (1, NOTHING), (2, DIFFERENCE)):
        expected = viewer.draw(Choice(show="coarse/v0001", beside=name, photo=0, split=0.0), alone).image.astype(int)
        assert np.abs(thirds[third] - expected)[2:, 2:].max() <= 2  # but for the lines
    albedo = np.split(viewer.draw(replace(choice, look=Look("albedo")), own).image.astype(int), 3,
                      axis=1 if size[0] > size[1] else 0)  # fmt: skip
    assert np.abs(albedo[1] - thirds[1]).max() > 10 and np.array_equal(albedo[2], thirds[2])
    if size[0] > size[1]:  # what the controls hide stays empty
        room = viewer.draw(replace(choice, covered=0.25), own).image.astype(int)
        assert np.ptp(room[:, 73:]) == 0 and np.ptp(room[:, :72]) > 50


def seen(image: np.ndarray) -> float:
    """The share of a picture that is not background."""
    return float((np.abs(image - image[0, 0]).max(axis=-1) > 12).mean())


def test_lights_are_exchanged(finished, tmp_path):
    write_hdr(tmp_path / "red.hdr", np.float32([1, 0, 0]) * np.ones((16, 32, 1), np.float32))
    viewer = viewer_of(finished, [str(tmp_path / "red.hdr")])
    assert viewer.lights() == ["its own", "red"]
    view = viewer.draw(Choice(light="red"), camera(viewer))
    on = np.isfinite(view.depth)
    on &= np.logical_and.reduce([np.roll(on, by, axis) for by in (1, -1) for axis in (0, 1)])
    assert on.sum() > 100 and (view.image[on][:, 1:] < 5).all() and view.image[on][:, 0].mean() > 20
    assert drawn(viewer)[on][:, 1].mean() > 20


def test_confidence_is_shown_where_there_is_any(finished, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(finished, run)
    store = ArtifactStore(run)
    bake = store.resolve("bake")
    parents = [store.parent_of(bake, "specialize")]
    with store.create("bake", settings=bake.settings, parents=parents, seed=0) as draft:
        for name in (name for name in bake.files if not name.startswith("confidence/")):
            (draft.path / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(bake.file(name), draft.path / name)
        (draft.path / "confidence").mkdir()
        ramp = np.linspace(0.0, 1.0, 64, dtype=np.float32)[:, None, None] * np.ones((1, 64, 1), np.float32)
        write_png8(draft.path / "confidence" / "roughness.png", ramp, srgb=False)
    viewer = viewer_of(run)
    assert viewer.channels(Choice())[-1] == "confidence: roughness"
    image = drawn(viewer, look=Look("confidence: roughness"))
    on = np.abs(image - image[0, 0]).max(axis=-1) > 20
    assert (image[on][:, 0] > image[on][:, 2]).any() and (image[on][:, 0] < image[on][:, 2]).any()
    error = viewer.draw(Choice(show="coarse/v0001", look=Look("confidence: roughness")), camera(viewer)).error
    assert error == "coarse/v0001 has no channel confidence: roughness"


def test_a_damaged_version_is_one_line_and_the_others_go_on(finished, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(finished, run)
    (run / "bake/v0001/asset.glb").write_bytes(b"glTF")
    viewer = viewer_of(run)
    view = viewer.draw(Choice(), camera(viewer))
    assert "asset.glb was truncated" in view.error and "\n" not in view.error
    assert np.ptp(view.image) == 0
    drawn(viewer, show="coarse/v0001")


def test_a_run_is_followed(going_on):
    shutil.rmtree(going_on / "logs")
    viewer = viewer_of(going_on)
    assert viewer.resolved(NEWEST) == "specialize/v0001" and not viewer.poll()
    log(going_on, "bake", steps=3)
    assert viewer.poll() and not viewer.poll()
    assert viewer.headline() == "bake is running, step 3" and viewer.losses.stages() == ["bake"]
    assert read_preview(viewer.state.activity.preview).shape == (8, 16, 3)
    assert viewer.live_name() is None
    shutil.rmtree(going_on / "logs/bake")
    log(going_on, "bake", steps=2)  # somebody has begun anew
    assert viewer.poll() and viewer.headline() == "bake is running, step 2"


def test_the_surface_of_a_stage_that_goes_on(finished, going_on):
    """Each stage has left the surface of its last preview; here it is taken for one that goes on."""
    shutil.copytree(finished / "logs", going_on / "logs", dirs_exist_ok=True)
    model = going_on / "logs/bake/previews" / LIVE_MODEL
    kept = model.read_bytes()
    log(going_on, "bake", steps=2)
    viewer = viewer_of(going_on)
    viewer.poll()
    assert viewer.shown()[:2] == [NEWEST, "bake, going on"] and viewer.resolved(NEWEST) == "bake, going on"
    live = drawn(viewer, look=Look("albedo"))
    done = viewer_of(finished)
    with_maps = drawn(done, show="bake/v0001", look=Look("albedo"))
    assert np.abs(live - with_maps).mean() < 4  # the same surface and colours, but for what lies between vertices
    assert np.abs(live - live[0, 0]).max() > 20
    drawn(viewer)  # under the learned light
    found = read_live_model(model)
    assert found.step == 2 and found.light is not None and len(found.material["albedo"]) == len(found.mesh.positions)
    # a newer one takes its place
    before = viewer._key(viewer.live_name())
    time.sleep(0.02)
    model.write_bytes(kept)
    assert viewer.poll() and viewer._key(viewer.live_name()) != before
    model.write_bytes(kept[:100])
    viewer.poll()
    assert "wait for the next preview" in viewer.draw(Choice(), camera(viewer)).error


def test_nothing_is_written_to_the_run(finished, tmp_path):
    before = tree(finished)
    viewer = viewer_of(finished)
    viewer.poll()
    for name in viewer.shown():
        drawn(viewer, show=name, look=Look(transport=True))
    drawn(viewer, photo=1, beside=PHOTO)
    run_turntable(viewer.source._session, tmp_path / "a.gif", Turntable(frames=2, size=64, channel="albedo"), [])
    assert tree(finished) == before


def test_an_empty_run_and_none(tmp_path):
    with pytest.raises(StspbrError, match="no such folder"):
        viewer_of(tmp_path / "nothing")
    viewer = viewer_of(tmp_path)
    view = viewer.draw(Choice(), camera(viewer))
    assert (viewer.shown(), view.error, np.ptp(view.image)) == ([NEWEST], "", 0)
    assert viewer.frames() == ([], "there is no finished capture yet")
    with pytest.raises(StspbrError, match="no finished capture"):
        run_turntable(viewer.source._session, tmp_path / "a.gif", Turntable(), [])


def test_charts_hold_curves_of_the_same_steps():
    curves = {
        "A": Curve([1, 2, 3], [1.0, 0.1, 0.0]),
        "late": Curve([2, 3], [10.0, 1.0]),
        "B": Curve([1, 2, 3], [0.0] * 3),
    }
    found = charts(curves, logarithmic=False)
    assert list(found) == [("A", "B"), ("late",)]
    assert [column.tolist() for column in found["A", "B"]] == [[1, 2, 3], [1.0, 0.1, 0.0], [0.0, 0.0, 0.0]]
    found = charts(curves, logarithmic=True)
    assert list(found) == [("A",), ("late",)]  # of B nothing has a logarithm
    assert found["A",][1] == pytest.approx([0.0, -1.0, -1.0]) and found["late",][1] == pytest.approx([1.0, 0.0])
    assert charts({}, logarithmic=True) == {}


class Recorder:
    """A tab that remembers what it was shown."""

    def __init__(self):
        self.pictures, self.lines = [], []
        self.tab = Tab(lambda view, whole: self.pictures.append((view.image.shape, whole)), self.lines.append)

    def wait(self, count: int) -> None:
        end = time.monotonic() + 60
        while len(self.pictures) < count and time.monotonic() < end:
            time.sleep(0.01)
        assert len(self.pictures) >= count


def test_a_camera_that_moves_gets_small_pictures_and_rest_draws_nothing(viewer, monkeypatch):
    painter, one, two = Painter(viewer, largest=320), Recorder(), Recorder()
    wide = replace(CAMERA, width=640, height=320)
    try:
        painter.add(one.tab)
        painter.add(two.tab)
        painter._pace = 1.0  # as on a machine that is very slow
        painter.moved(one.tab, wide)
        one.wait(2)
        assert one.pictures == [((48, 96, 3), False), ((160, 320, 3), True)]
        assert not two.pictures  # each tab gets its own
        painter.changed(one.tab, Choice(look=Look("normal")))
        one.wait(3)
        assert one.pictures[2] == ((160, 320, 3), True)
        time.sleep(0.6)
        count = painter.drawn
        time.sleep(0.6)
        assert painter.drawn == count == 3  # nothing changed, nothing is drawn
        painter.moved(two.tab, wide)
        two.wait(2)
        painter.remove(two.tab)
        painter.refresh()  # losses were logged: the picture would be the same
        time.sleep(0.6)
        assert len(one.pictures) == 3
        monkeypatch.setattr(viewer, "depicted", lambda _: ("bake/v0002",))
        painter.refresh()
        one.wait(4)
        assert len(two.pictures) == 2
    finally:
        painter.close()


def test_a_run_that_goes_on_is_followed_seldom_and_one_that_ends_at_once(viewer, monkeypatch):
    monkeypatch.setattr("stspbr.view.painter._FOLLOWED", 1e-9)
    painter, one, written = Painter(viewer), Recorder(), iter(range(99))
    try:
        painter.add(one.tab)
        painter.moved(one.tab, replace(CAMERA, width=96, height=96))
        one.wait(2)  # small and whole
        monkeypatch.setattr(viewer, "running", lambda: True)
        monkeypatch.setattr(viewer, "depicted", lambda _: (str(next(written)),))  # always something newer
        before = time.monotonic()
        painter.refresh()
        one.wait(3)  # the first one is drawn
        while painter._follow_from == 0.0 and time.monotonic() < before + 10.0:
            time.sleep(0.01)
        assert before + 590.0 < painter._follow_from <= time.monotonic() + 600.0  # ten minutes at most
        painter.refresh()
        time.sleep(0.4)
        assert len(one.pictures) == 3 and one.tab.follows
        painter.changed(one.tab, Choice(look=Look("normal")))  # what a person asks for does not wait
        one.wait(4)
        assert not one.tab.follows
        painter.refresh()
        monkeypatch.setattr(viewer, "running", lambda: False)
        painter.refresh()
        one.wait(5)
    finally:
        painter.close()


def test_a_picture_that_fails_does_not_end_the_page(viewer, monkeypatch):
    painter, one = Painter(viewer), Recorder()
    try:
        painter.add(one.tab)
        with monkeypatch.context() as patch:
            patch.setattr(viewer, "draw", lambda *_: 1 / 0)
            painter.moved(one.tab, replace(CAMERA, width=96, height=96))
            end = time.monotonic() + 30
            while not any("failed" in line for line in one.lines) and time.monotonic() < end:
                time.sleep(0.01)
        assert any(line == "this picture failed (division by zero)" for line in one.lines)
        painter.changed(one.tab, Choice())
        one.wait(1)
    finally:
        painter.close()


def test_photos_by_azimuth(viewer):
    frames = viewer.frames()[0]
    angles = [azimuth(frame, viewer.placement().centre) for frame in frames]
    assert len(set(np.round(angles, 3))) == len(frames) and all(0 <= angle < 2 * np.pi for angle in angles)
    eye = frames[0].camera.position - viewer.placement().centre
    assert np.sin(angles[0]) * np.hypot(eye[0], eye[2]) == pytest.approx(eye[0])


def with_coarse_settings(finished, run, **changes):
    """A copy of the run with second versions, which say that ``coarse`` had other settings."""
    shutil.copytree(finished, run)
    store = ArtifactStore(run)
    lineage, made = store.lineage(store.resolve("bake")), {}
    for stage in ("coarse", "specialize", "bake"):
        old = lineage[stage]
        settings = {**old.settings, **changes} if stage == "coarse" else old.settings
        parents = [made.get(parent, lineage[parent]) for parent in old.parents]
        with store.create(stage, settings=settings, parents=parents, seed=0) as draft:
            for name in old.files:
                (draft.path / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(old.file(name), draft.path / name)
        made[stage] = draft.artifact
    return viewer_of(run)


def test_a_run_with_transport_has_shadows_and_bounces(finished, tmp_path):
    coarse = ArtifactStore(finished).resolve("coarse")
    viewer = with_coarse_settings(finished, tmp_path / "run", transport={**coarse.settings["transport"], "mode": "on"})
    open_, shadowed = (drawn(viewer, show="bake/v0002", look=Look(transport=on)) for on in (False, True))
    on = np.abs(open_ - open_[0, 0]).max(axis=-1) > 10
    assert shadowed[on].mean() < open_[on].mean() and np.abs(shadowed - open_).max() > 5
    assert np.array_equal(*(drawn(viewer, show="bake/v0001", look=Look(transport=on)) for on in (False, True)))


def test_settings_of_another_version_leave_the_asset_to_be_seen(finished, tmp_path):
    """An asset needs no settings to be drawn."""
    viewer = with_coarse_settings(finished, tmp_path / "run", a_setting_of_the_future=1)
    drawn(viewer, show="bake/v0002", look=Look(transport=True))
    error = viewer.draw(Choice(show="coarse/v0002"), camera(viewer)).error
    assert "a_setting_of_the_future" in error
