"""Scenes: JSON, data on disk, symmetries, what varies in a batch, and that everything follows from the seed."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from stspbr.errors import StspbrError
from stspbr.neural.model import Views
from stspbr.scenes.archviz import Archviz
from stspbr.scenes.data import (
    Batch,
    Batches,
    read_batch,
    read_batch_scenes,
    varied,
    write_batch,
    write_batch_scenes,
)
from stspbr.scenes.description import composed, looking, placed, read_view, view_json
from stspbr.scenes.furniture import FURNITURE, find_shape
from stspbr.scenes.generation import drawn_batch, kind_of
from stspbr.scenes.rooms import OBJECTS, ROOMS
from stspbr.scenes.shapes import SHAPES
from stspbr.scenes.symmetry import COUNT, matrix, moved, wall_order
from stspbr.scenes.tracing import pose_numbers, traced_scene
from stspbr.settings.scene_files import load_scene_config
from stspbr.settings.scene_model import CHANNELS


def _mini(**change):
    return load_scene_config("room_mini")[0].model_copy(update=change)


@pytest.mark.parametrize("kind", [*ROOMS, "archviz"])
def test_a_batch_varies_its_factor_and_nothing_else(kind):
    config = _mini(dataset=kind, objects=5)
    seen = set()
    for number in range(6):
        factor, scenes = drawn_batch(config, kind_of(config), 3, "train", number)
        assert varied([scene for scene, _ in scenes]) == {factor}
        assert len({tuple(camera.position) for _, cameras in scenes for camera in cameras}) == 32
        seen.add(factor)
        again = drawn_batch(config, kind_of(config), 3, "train", number)
        assert again == (factor, scenes)
    assert len(seen) > 1
    factor, scenes = drawn_batch(config, kind_of(config), 3, "test", 0)
    assert factor == -1
    assert varied([scene for scene, _ in scenes]) == {0, 1, 2}


def test_rooms_keep_the_published_ranges():
    random = np.random.default_rng(0)
    for name, kind in ROOMS.items():
        for _ in range(20):
            lights, shapes, materials = kind.light(random), kind.geometry(random), kind.material(random)
            assert len(lights) == (10 if "many" in name and "light" in name or name == "manymanyroom" else 1)
            assert any(max(light.emission) > 0 for light in lights)
            places = [np.array(shape.transform)[3] for shape in shapes if shape.material in OBJECTS]
            there = [place[[0, 2]] for place in places if place[1] > -1]
            for k, place in enumerate(there):
                assert np.abs(place).max() <= 2.25
                assert all(np.linalg.norm(place - other) >= 1.55 for other in there[:k])
            levels = {materials[name].roughness for name in OBJECTS}
            if name == "fewmaterialroom":
                assert levels == {1.0}
            elif "manymaterial" not in name and name != "manymanyroom":
                assert levels <= {1.0, 0.5, 0.05}
            camera = kind.camera(random)
            assert 1.0 <= camera.position[1] <= 2.0
            assert np.abs(camera.position).max() <= 3.0


def test_a_view_survives_its_file_and_unknown_keys(tmp_path):
    config = _mini()
    _, scenes = drawn_batch(config, kind_of(config), 0, "test", 0)
    scene, cameras = scenes[0]
    path = tmp_path / "view000.json"
    values = json.loads(view_json(scene, cameras[1])) | {"something_new": 3}
    path.write_text(json.dumps(values))
    assert read_view(path) == (scene, cameras[1])
    write_batch_scenes(tmp_path / "b", -1, scenes[:2])
    assert read_batch_scenes(tmp_path / "b") == (-1, scenes[:2])
    (tmp_path / "b" / "factor.txt").write_text("0")
    with pytest.raises(StspbrError, match="a batch varies one factor"):
        read_batch_scenes(tmp_path / "b")
    for text, words in (("{", "not a JSON"), ("{}", "Field required"), ("[]", "valid dictionary")):
        path.write_text(text)
        with pytest.raises(StspbrError, match=words) as caught:
            read_view(path)
        assert "\n" not in str(caught.value)


def test_composition_takes_each_part_from_its_scene():
    config = _mini()
    _, scenes = drawn_batch(config, kind_of(config), 0, "test", 0)
    a, b, c = (scene for scene, _ in scenes[:3])
    made = composed(a, b, c)
    assert (made.lights, made.geometry, made.materials) == (a.lights, b.geometry, c.materials)
    living = Archviz().scene((), Archviz().geometry(np.random.default_rng(0)), {})
    with pytest.raises(StspbrError, match="different kinds"):
        composed(a, living, c)


@pytest.mark.parametrize("name", [*SHAPES, *FURNITURE])
def test_shapes_are_closed_outward_and_of_unit_normals(name):
    shape = find_shape(name)
    corners = shape.positions[shape.faces]
    area = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    size = np.linalg.norm(area, axis=1)
    np.testing.assert_allclose(np.linalg.norm(shape.normals, axis=1), 1.0, atol=1e-6)
    agree = (area * shape.normals[shape.faces].mean(axis=1)).sum(axis=1)
    assert (agree[size > 1e-9] > 0).all()
    if name in FURNITURE:
        assert abs(shape.positions[:, 1].min()) < 0.01
    elif name != "grid":
        volume = (corners[:, 0] * area).sum() / 6.0
        assert volume > 0.05


def test_unknown_shapes_materials_and_textures_are_one_line():
    config = _mini()
    _, scenes = drawn_batch(config, kind_of(config), 0, "test", 0)
    scene = scenes[0][0]
    wrong = scene.geometry[-1].model_copy(update={"type": "file", "path": "cubee"})
    with pytest.raises(StspbrError, match="did you mean cube"):
        traced_scene(scene.model_copy(update={"geometry": (wrong,)}))
    wrong = scene.geometry[0].model_copy(update={"material": "flor"})
    with pytest.raises(StspbrError, match="did you mean floor"):
        traced_scene(scene.model_copy(update={"geometry": (wrong,)}))
    material = scene.materials["floor"].model_copy(update={"texture": "stripe"})
    with pytest.raises(StspbrError, match="did you mean stripes"):
        traced_scene(scene.model_copy(update={"materials": {**scene.materials, "floor": material}}))


def test_transforms_have_their_translation_last_and_turn_as_said():
    transform = np.array(placed((1.0, 2.0, 3.0), 2.0, yaw=90.0)).T
    np.testing.assert_allclose(transform @ [0, 0, 1, 1], [3, 2, 3, 1], atol=1e-12)
    assert placed((1.0, 2.0, 3.0))[3] == (1.0, 2.0, 3.0, 1.0)
    for shape in ROOMS["room"].geometry(np.random.default_rng(0))[:6]:
        corner = np.array(shape.transform).T
        inward = corner[:3, :3] @ [0, 1, 0]
        assert inward @ (np.array([0, 1.0, 0]) - corner[:3, 3]) > 0, shape.name


def _batch(random, passes=("beauty", "normal"), side=8, factor=1):
    buffers = {name: random.uniform(-1, 1, (3, 2, CHANNELS[name], side, side)) for name in passes}
    return Batch(buffers, random.uniform(size=(3, 2, 16)).astype(np.float32), factor)


def test_batches_survive_the_disk_and_equal_ones_are_equal_bytes(tmp_path):
    random = np.random.default_rng(0)
    batch = _batch(random)
    for name in ("a", "b"):
        write_batch(tmp_path / f"{name}.npz", batch)
    assert (tmp_path / "a.npz").read_bytes() == (tmp_path / "b.npz").read_bytes()
    found = read_batch(tmp_path / "a.npz", ["normal"])
    np.testing.assert_array_equal(found.buffers["normal"], batch.buffers["normal"].astype(np.float16))
    np.testing.assert_array_equal(found.poses, batch.poses)
    assert found.factor == 1
    with np.load(tmp_path / "a.npz") as stored:
        assert stored["poses"].shape == (3, 2, 16, 1, 1)
    bright = Batch({"beauty": np.full((1, 2, 3, 8, 8), 1e9)}, np.zeros((1, 2, 16), np.float32), 0)
    write_batch(tmp_path / "c.npz", bright)
    assert np.isfinite(read_batch(tmp_path / "c.npz", ["beauty"]).buffers["beauty"]).all()


def test_bad_batches_are_one_line(tmp_path):
    random, path = np.random.default_rng(0), tmp_path / "a.npz"
    write_batch(path, _batch(random))
    whole = path.read_bytes()

    def fails(words, passes=("beauty",)):
        with pytest.raises(StspbrError, match=words) as caught:
            read_batch(path, passes)
        assert "\n" not in str(caught.value)
        assert "a.npz" in str(caught.value)

    fails("no pass ao", ["ao"])
    path.write_bytes(whole[: len(whole) // 2])
    fails("not a whole npz")
    damaged = bytearray(whole)
    damaged[200:260] = b"x" * 60
    path.write_bytes(bytes(damaged))
    fails("not a whole npz")
    path.write_bytes(b"no zip")
    fails("not a whole npz")
    arrays = {"beauty": np.zeros((3, 2, 3, 8, 8), np.float16), "poses": np.zeros((3, 2, 16, 1, 1), np.float32)}
    np.savez(path, **arrays, factor=np.array([0, 1]))
    fails("factor 0, 1: a batch varies one factor")
    np.savez(path, **{**arrays, "beauty": np.zeros((3, 2, 1, 8, 8))}, factor=0)
    fails("beauty has the shape")
    np.savez(path, **{**arrays, "beauty": np.full((3, 2, 3, 8, 8), np.nan)}, factor=0)
    fails("not finite")
    np.savez(path, beauty=arrays["beauty"], factor=0)
    fails("there is no poses")
    with pytest.raises(StspbrError, match="no batches"):
        Batches(tmp_path / "nowhere", ["beauty"])


@pytest.mark.parametrize("number", range(COUNT))
def test_symmetries_move_points_and_cameras_alike(number):
    random = np.random.default_rng(number)
    turn = matrix(number)
    assert abs(np.linalg.det(turn)) == pytest.approx(1.0)
    pose = np.linalg.inv(looking(np.array([2.0, 1.0, 1.0]), np.array([0.0, 0.5, 0.2])))
    points = random.uniform(-1, 1, (3, 4, 4)).astype(np.float32)
    views = Views(
        {"position": torch.from_numpy(points)[None, None], "id": torch.full((1, 1, 1, 4, 4), 3 / 9)},
        torch.from_numpy(pose.reshape(1, 1, 16).astype(np.float32)),
    )
    found = moved(views, number, 9)
    back = found.poses[0, 0].reshape(4, 4).double().numpy()
    assert np.linalg.det(back[:3, :3]) == pytest.approx(1.0, abs=1e-5)  # a camera, not its mirror image
    position = found.buffers["position"][0, 0].numpy()
    for row in range(4):
        for column in range(4):
            other = 3 - column if number >= 4 else column
            world = position[:, row, other]
            np.testing.assert_allclose(world, turn @ points[:, row, column], atol=1e-6)
            before = pose @ [*points[:, row, column], 1.0]
            after = back @ [*world, 1.0]
            before[0] *= -1.0 if number >= 4 else 1.0
            np.testing.assert_allclose(after, before, atol=1e-5)
    # the east wall, 3, now has the number of the wall where it is
    assert found.buffers["id"][0, 0, 0, 0, 0].item() * 9 == pytest.approx(2 + wall_order(turn)[1])


def test_poses_are_world_to_camera_row_major():
    camera = ROOMS["room"].camera(np.random.default_rng(0))
    matrix_ = pose_numbers([camera])[0].reshape(4, 4)
    np.testing.assert_allclose(matrix_ @ [*camera.position, 1.0], [0, 0, 0, 1], atol=1e-5)
    ahead = matrix_ @ [*camera.lookat, 1.0]
    assert ahead[2] < 0
    np.testing.assert_allclose(ahead[:2], 0, atol=1e-5)
