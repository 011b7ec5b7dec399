"""Frames as tensors: sizes, averaging, poses, and units that leave every image as it is."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from stspbr.errors import StspbrError
from stspbr.optimize.views import ViewSet, choose_storage
from stspbr.procedural.jar import demo_asset
from stspbr.render.asset_renderer import AssetRenderer
from stspbr.render.backend import get_backend
from stspbr.render.gbuffer import ViewBatch
from stspbr.render.light import EnvironmentCube
from stspbr.scene import Camera, Capture, Frame, Normalization, look_at

CPU = torch.device("cpu")


def frame(name: str, *, width: int = 12, height: int = 8, seed: int = 0, **fields) -> Frame:
    rng = np.random.default_rng(seed)
    camera = Camera(look_at((0.5, 1, 3), (0, 0, 0)), 10.0, 11.0, width / 2, height / 2, width, height)
    alpha = rng.random((height, width, 1), dtype=np.float32)
    image = rng.random((height, width, 3), dtype=np.float32) * alpha
    return Frame(name, camera, **{"image": image, "alpha": alpha, **fields})


def test_another_size_is_an_error_that_names_the_frame():
    frames = [frame("a.exr"), frame("b.exr"), frame("odd.exr", width=16)]
    with pytest.raises(StspbrError, match=r"odd\.exr is 16×8.*a\.exr is 12×8"):
        ViewSet(frames, 1, CPU)


def test_no_frames_is_an_error():
    with pytest.raises(StspbrError, match="no frames"):
        ViewSet([], 1, CPU)


def test_empty_masks_are_an_error():
    empty = frame("a.exr", image=np.zeros((8, 12, 3), np.float32), alpha=np.zeros((8, 12, 1), np.float32))
    views = ViewSet([empty, empty], 1, CPU)
    with pytest.raises(StspbrError, match="masks of all frames are empty"):
        views.exposure()


def test_a_scale_that_does_not_divide_is_an_error():
    with pytest.raises(StspbrError, match="image_scale=3.*12×8"):
        ViewSet([frame("a.exr")], 3, CPU)


@pytest.mark.parametrize("scale", [1, 2, 4])
def test_reduction_averages_exactly(scale):
    """Values are multiples of 1/256, so that their means are exact in float32."""
    rng = np.random.default_rng(1)
    image, alpha = (rng.integers(0, 256, (8, 12, c)).astype(np.float32) / 256 for c in (3, 1))
    views = ViewSet([frame("a.exr", image=image, alpha=alpha)], scale, CPU)
    assert views.resolution == (8 // scale, 12 // scale)
    batch, targets = views.batch([0])
    assert batch.resolution == views.resolution
    for found, whole in ((targets.image, image), (targets.alpha, alpha)):
        for row in range(8 // scale):
            for column in range(12 // scale):
                block = whole[row * scale : (row + 1) * scale, column * scale : (column + 1) * scale]
                wanted = block.astype(np.float64).mean(axis=(0, 1))
                assert found[0, row, column].tolist() == wanted.tolist()


def test_reduced_views_look_through_the_same_camera():
    one, two = (ViewSet([frame("a.exr")], scale, CPU).batch([0])[0] for scale in (1, 2))
    assert torch.equal(one.clip_from_object, two.clip_from_object) and torch.equal(one.eye, two.eye)


def test_batches_hold_what_was_asked_for_in_order():
    pose = np.eye(4)
    pose[:3, :3], pose[:3, 3] = look_at((1, 2, 3), (0, 0, 0))[:3, :3], (0.1, 0.2, 0.3)
    frames = [frame("a", seed=1), frame("b", seed=2, saturation=1.0, object_to_world=pose), frame("c", seed=3)]
    views = ViewSet(frames, 1, CPU)
    assert len(views) == 3 and views.names == ["a", "b", "c"]
    batch, targets = views.batch([2, 1])
    for place, source in enumerate((frames[2], frames[1])):
        np.testing.assert_array_equal(targets.image[place], source.image)
        np.testing.assert_array_equal(targets.alpha[place], source.alpha)
        assert float(targets.saturation[place]) == source.saturation
        clip = source.camera.clip_from_object(source.object_to_world)
        np.testing.assert_allclose(batch.clip_from_object[place], clip, rtol=1e-6)
        np.testing.assert_allclose(batch.object_rotation[place], source.object_to_world[:3, :3], atol=1e-7)
        eye = source.object_to_world @ np.append(batch.eye[place].double().numpy(), 1.0)
        np.testing.assert_allclose(eye[:3], source.camera.position, atol=1e-6)
    assert targets.saturation.shape == (2, 1, 1, 1) and targets.saturation.dtype == torch.float32
    assert torch.isinf(targets.saturation[0]) and float(targets.saturation[1]) == 1.0


def test_exposure_is_that_of_covered_pixels():
    alpha = np.zeros((8, 12, 1), np.float32)
    alpha[2:4] = 1.0
    image = np.repeat(alpha * 0.25, 3, axis=2)
    assert ViewSet([frame("a", image=image, alpha=alpha)], 1, CPU).exposure() == pytest.approx(0.0625)
    brighter = ViewSet([frame("a", image=4 * image, alpha=alpha)], 1, CPU).exposure()
    assert brighter == pytest.approx(1.0)


@pytest.mark.parametrize("moved", [False, True], ids=["at rest", "moved object"])
def test_normalized_capture_keeps_every_image(moved):
    """The mesh in other units, seen by the normalised cameras, is the picture that it was."""
    asset = demo_asset(32, around=24, along=20)
    big = replace(
        asset, mesh=Normalization(np.array([-3.0, 1.5, 0.7]), 0.25).mesh(asset.mesh)
    )  # far off, four times as large
    middle = 0.5 * (big.mesh.positions.min(axis=0) + big.mesh.positions.max(axis=0)).astype(np.float64)
    pose = np.eye(4)
    if moved:
        pose[:3, :3], pose[:3, 3] = look_at((1, 2, 3), (0, 0, 0))[:3, :3], (1.0, -2.0, 0.5)
    at = (pose @ np.append(middle, 1.0))[:3]
    frames = []
    for number, offset in enumerate(((3, 4, 14.0), (-12, 1, 5))):
        camera = Camera(look_at(at + offset, at), 48, 48, 24, 24, 48, 48, near=1.0, far=40.0)
        black = np.zeros((48, 48, 3), np.float32)
        frames.append(Frame(f"{number}", camera, black, black[..., :1], object_to_world=pose))

    backend = get_backend("cpu", CPU)
    cube = EnvironmentCube(16)
    cube.set_radiance(torch.rand(6, 16, 16, 3, generator=torch.Generator().manual_seed(0)))
    light = cube.prefilter().detach()
    centre, scale = middle + (0.3, -0.2, 0.1), 5.0
    small = replace(big, mesh=Normalization(centre, scale).mesh(big.mesh))
    assert np.abs(small.mesh.positions).max() < 1.2
    original, shrunk = (AssetRenderer(x, backend, CPU) for x in (big, small))
    capture = Normalization(centre, scale).capture(Capture(frames))
    views = ViewSet(capture.frames, 1, CPU)
    for number, source in enumerate(frames):
        wanted = original.render(ViewBatch.of([source.camera], [source.object_to_world], CPU), light)
        found = shrunk.render(views.batch([number])[0], light)
        assert 200 < float(wanted["alpha"].sum()) < 2000
        for name, image in wanted.items():
            torch.testing.assert_close(found[name], image, atol=2e-3, rtol=2e-3, msg=name)
        np.testing.assert_array_equal(capture.frames[number].image, source.image)
        rotation = capture.frames[number].object_to_world[:3, :3]
        np.testing.assert_allclose(rotation @ rotation.T, np.eye(3), atol=1e-12)


def test_normalizing_by_nothing_changes_nothing():
    source = frame("a", object_to_world=look_at((1, 2, 3), (0, 0, 0)))
    same = Normalization(np.zeros(3), 1.0).capture(Capture([source])).frames[0]
    np.testing.assert_array_equal(same.object_to_world, source.object_to_world)
    np.testing.assert_array_equal(same.camera.camera_to_world, source.camera.camera_to_world)
    assert (same.camera.near, same.camera.far) == (source.camera.near, source.camera.far)


@pytest.mark.parametrize("scale", [1, 2])
def test_streamed_frames_are_the_resident_ones_bit_for_bit(scale):
    frames = [frame(name, seed=number) for number, name in enumerate("abcde")]
    resident, streamed = (ViewSet(frames, scale, CPU, storage) for storage in ("resident", "streamed"))
    assert (resident.storage, streamed.storage, ViewSet(frames, 1, CPU).storage) == ("resident", "streamed", "resident")
    for ids in ([3], [4, 0, 4, 1], list(range(5))):
        (views, targets), (other_views, other_targets) = resident.batch(ids), streamed.batch(ids)
        for ours, theirs in ((views, other_views), (targets, other_targets)):
            for name, value in vars(ours).items():
                same = getattr(theirs, name)
                assert torch.equal(value, same) if isinstance(value, torch.Tensor) else value == same, name
    assert resident.exposure() == streamed.exposure()


@pytest.mark.parametrize(("free", "wanted"), [(1000, "resident"), (199, "streamed")])
def test_frames_stay_on_a_gpu_while_they_take_less_than_half_of_it(monkeypatch, free, wanted):
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (free, 10**9))
    assert choose_storage("auto", 100, torch.device("cuda")) == wanted
    assert choose_storage("streamed", 0, torch.device("cuda")) == "streamed"
    assert choose_storage("auto", 10**12, CPU) == "resident"


@pytest.mark.skipif(not torch.cuda.is_available(), reason="streaming to CUDA: no GPU here")
def test_streamed_to_a_gpu():
    frames = [frame(name, seed=number) for number, name in enumerate("abc")]
    streamed = ViewSet(frames, 1, torch.device("cuda"), "streamed")
    assert streamed.image.is_pinned() and streamed.image.device == CPU
    _, targets = streamed.batch([2, 0])
    assert torch.equal(targets.image.cpu(), ViewSet(frames, 1, CPU).batch([2, 0])[1].image)
