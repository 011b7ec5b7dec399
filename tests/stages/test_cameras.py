"""What the camera did, through the stages: fitted for photographs, handed on, used by evaluate; nothing for renders."""

from __future__ import annotations

import json
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from stspbr.artifacts import ArtifactStore
from stspbr.datasets.transforms import read_transforms
from stspbr.datasets.transforms_writer import write_nerfstudio
from stspbr.errors import StspbrError
from stspbr.optimize.cameras import Cameras
from stspbr.scene import Camera, Capture, Frame, Normalization, look_at
from stspbr.settings import CaptureFolderSettings, CoarseSettings, SpecializeSettings
from stspbr.settings.camera import CameraSettings, PoseSettings
from stspbr.stages.cameras import CAMERAS, camera_models, chosen, load_response, refined_capture, write_cameras
from stspbr.stages.capture import run_capture
from stspbr.stages.coarse import run_coarse
from stspbr.stages.session import Session
from stspbr.stages.specialize import run_specialize
from stspbr.stages.state import load_capture

SMALL = {"levels": 2, "log2_table_size": 8}
COARSE = {
    "fields": {"appearance": SMALL, "reflectance": SMALL, "width": 8, "hidden_layers": 1},
    "geometry": {"resolution": 12},
    "light": {"learned_resolution": 16},
    "transport": {"mode": "off"},
    "camera": {"poses": {"mode": "auto", "start": 0.25}},
}

REFINED = CameraSettings.model_validate(COARSE["camera"])


def coarse_settings(**changes) -> CoarseSettings:
    own = CoarseSettings.model_validate(COARSE | changes)
    return own.model_copy(update={"optimize": own.optimize.model_copy(update={"iterations": 4, "batch": 2})})


@pytest.fixture(scope="module")
def photographs(tiny_run, tmp_path_factory):
    """The tiny capture of the jar as 8-bit images with exposures, and its coarse and specialize stages."""
    capture = load_capture(ArtifactStore(tiny_run).resolve("capture"))
    folder = tmp_path_factory.mktemp("photographs")
    frames = [
        f.with_pixels(lambda image, alpha, gain=1 + 0.1 * k: (image * gain, alpha), exposure=1 + 0.1 * k)
        for k, f in enumerate(capture.frames)
    ]
    write_nerfstudio(folder / "set", replace(capture, frames=frames, light=None), "png")
    session = Session.open(folder / "run", device="cpu", quiet=True, threads=1)
    run_capture(session, CaptureFolderSettings(kind="nerfstudio", folder=str(folder / "set")))
    coarse = run_coarse(session, coarse_settings())
    own = SpecializeSettings()
    few = own.optimize.model_copy(update={"iterations": 2, "batch": 2})
    short = {
        "survey": own.survey.model_copy(update={"at": []}),
        "light_solve": own.light_solve.model_copy(update={"steps": 5}),
    }
    specialize = run_specialize(session, own.model_copy(update={"optimize": few, **short}))
    return session, coarse, specialize


def test_photographs_are_told_from_renders(tiny_run, photographs):
    session, coarse, _ = photographs
    rendered = ArtifactStore(tiny_run).resolve("capture")
    source = session.store.resolve("capture")
    for artifact, wanted in ((rendered, False), (source, True)):
        frames = load_capture(artifact).split("train")
        assert chosen("auto", artifact, frames) is wanted
        assert chosen("on", artifact, frames) and not chosen("off", artifact, frames)
    hdr = [frame.with_fields(saturation=np.inf) for frame in load_capture(source).split("train")]
    assert not chosen("auto", source, hdr)
    models = camera_models(session, rendered, load_capture(rendered), REFINED)
    assert models.response is None and models.cameras is None


def test_what_was_divided_out_is_known(photographs):
    session, _, _ = photographs
    capture = load_capture(session.store.resolve("capture"))
    stated = np.array([frame.divided_by for frame in capture.frames])
    assert np.ptp(stated) > 0.3 and (stated == stated[:, :1]).all()
    assert all(frame.exposure is None for frame in capture.frames)


def test_it_is_fitted_saved_and_handed_on(photographs):
    session, coarse, specialize = photographs
    first, second = (load_response(artifact, CameraSettings()) for artifact in (coarse, specialize))
    assert first.log_gains.abs().max() > 0 and not torch.equal(first.log_slopes, second.log_slopes)
    assert (first.log_slopes - second.log_slopes).abs().max() < 0.05  # it went on from there
    capture = load_capture(session.store.resolve("capture"))
    moved = refined_capture(capture, coarse)
    for old, new in zip(capture.frames, moved.frames, strict=True):
        same = np.array_equal(old.camera.camera_to_world, new.camera.camera_to_world)
        assert same == (old.split == "test")
        assert np.abs(old.camera.camera_to_world - new.camera.camera_to_world).max() < 0.1
        assert old.camera.fx != new.camera.fx  # the lens is shared, also by held-out views
        rotation = new.camera.camera_to_world[:3, :3]
        np.testing.assert_allclose(rotation @ rotation.T, np.eye(3), atol=1e-9)
    metrics = json.loads(specialize.file("metrics.json").read_text())["camera"]
    assert "fitted on their own pixels" in metrics["response"]["held_out"]
    assert metrics["cameras"]["rotation_degrees"] > 0


def test_a_checkpoint_has_all_of_it(photographs):
    from stspbr.optimize.photography import Photography
    from stspbr.optimize.views import ViewSet

    session, coarse, _ = photographs
    capture = load_capture(session.store.resolve("capture"))
    source = session.store.resolve("capture")
    models = camera_models(session, source, capture, REFINED)
    photography = Photography.of(models.response, ViewSet(capture.split("train"), 1, torch.device("cpu")))
    names = set(photography.state_dict()) | set(models.cameras.state_dict())
    assert {"response.log_gains", "response.log_slopes", "response.log_falloff", "poses.twist", "lens"} <= names


def test_renders_get_nothing(tiny_run, tmp_path):
    import shutil

    shutil.copytree(tiny_run, tmp_path / "run")
    session = Session.open(tmp_path / "run", device="cpu", quiet=True, threads=1)
    auto, off = (
        run_coarse(session, coarse_settings(camera={"response": {"mode": mode}, "poses": {"mode": mode}}))
        for mode in ("auto", "off")
    )
    assert not {"response.json", "cameras.json"} & set(auto.files)
    for name in ("mesh.safetensors", "fields.safetensors"):
        assert auto.file(name).read_bytes() == off.file(name).read_bytes()


def test_damaged_files_are_named(photographs, tmp_path):
    import shutil

    session, coarse, _ = photographs
    shutil.copytree(session.run, tmp_path / "run")
    store = ArtifactStore(tmp_path / "run")
    broken = store.resolve("coarse")
    (broken.path / "cameras.json").write_text('{"images/a": 1')
    capture = load_capture(store.resolve("capture"))
    with pytest.raises(StspbrError, match="cameras.json"):
        refined_capture(capture, broken)


def test_an_exported_data_set_has_the_corrected_cameras(photographs, tmp_path):
    from stspbr.settings import ExportDatasetSettings
    from stspbr.stages.export_dataset import export_dataset

    session, _, specialize = photographs
    out = export_dataset(session.run, tmp_path / "out", ExportDatasetSettings(to="nerfstudio", image_format="png"))
    capture = refined_capture(load_capture(session.store.resolve("capture")), specialize)
    again = {frame.name: frame for frame in read_transforms(out).frames}
    assert len(again) == len(capture.frames)
    written = sorted(f.camera.fx for f in again.values())
    np.testing.assert_allclose(written, sorted(f.camera.fx for f in capture.frames), rtol=1e-9)
    centres = [np.sort(np.linalg.norm([f.camera.position for f in frames], axis=1)) for frames in
               (again.values(), capture.frames)]  # fmt: skip
    np.testing.assert_allclose(*centres, rtol=1e-6)


def test_corrected_object_poses_come_back_in_the_units_of_the_capture(tmp_path):
    """One camera, a moving object: the correction of the normalised poses is that of the capture's own."""
    camera = Camera(look_at((0.5, 2.0, 6.0), (0, 0, 0)), 60.0, 60.0, 12.0, 12.0, 24, 24)
    frames = []
    for k in range(4):
        pose = look_at((np.sin(k), 0.3 * k, np.cos(k)), (0, 0, 0))
        pose[:3, 3] *= 0.4
        frames.append(Frame(f"f{k}", camera, np.zeros((24, 24, 3), np.float32), np.ones((24, 24, 1), np.float32), pose))
    capture = Capture(frames)
    normalization = Normalization(np.array([0.1, -0.2, 0.05]), 1.7)
    inside = normalization.capture(capture).frames
    own = Cameras(inside, PoseSettings(intrinsics=False), 0.0)
    with torch.no_grad():
        own.poses.twist.normal_(0.0, 0.02, generator=torch.Generator().manual_seed(0))
    views = SimpleNamespace(names=[f.name for f in inside], original_camera=lambda k: inside[k].camera)
    write_cameras(tmp_path, SimpleNamespace(photography=None, cameras=own, views=views, held_out=None), 1.7)
    written = SimpleNamespace(files={CAMERAS: ""}, file=lambda name: tmp_path / name, path=tmp_path)
    for k, frame in enumerate(normalization.capture(refined_capture(capture, written)).frames):
        found = frame.camera.world_to_camera @ frame.object_to_world
        start = inside[k].camera.world_to_camera @ inside[k].object_to_world
        wanted = own.poses.inverse(torch.tensor([k]))[0].double().detach().numpy() @ start
        assert np.allclose(found, wanted, atol=1e-5) and not np.allclose(found, start, atol=1e-3)
        assert np.allclose(frame.camera.camera_to_world, inside[k].camera.camera_to_world)
