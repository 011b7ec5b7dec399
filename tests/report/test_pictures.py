"""Pictures, lights and models as a page carries them."""

from __future__ import annotations

import base64
import io
import json
import struct

import numpy as np
import pytest
from PIL import Image

from stspbr.errors import StspbrError
from stspbr.formats.gltf.reader import read_gltf
from stspbr.formats.gltf.writer import write_glb
from stspbr.formats.images import write_png8, write_png16
from stspbr.formats.rgbe import decode_rgbe
from stspbr.procedural.jar import demo_asset
from stspbr.report.glb_copy import page_copy
from stspbr.report.pictures import light_base64, light_exposure, light_picture, picture, resized_light


def decoded(uri: str) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(uri.partition(",")[2]))))


def test_a_small_png_stays_as_it_is(tmp_path):
    write_png8(tmp_path / "a.png", np.full((4, 6, 3), 0.5, np.float32), srgb=False)
    made = picture(tmp_path / "a.png")
    assert (made.width, made.height, made.reduced) == (6, 4, False)
    assert base64.b64decode(made.uri.partition(",")[2]) == (tmp_path / "a.png").read_bytes()


def test_a_large_one_becomes_a_smaller_jpeg(tmp_path):
    noise = np.random.default_rng(0).random((300, 200, 3), dtype=np.float32)
    write_png8(tmp_path / "a.png", noise, srgb=False)
    made = picture(tmp_path / "a.png", side=150, limit=1000)
    assert (made.width, made.height, made.reduced) == (100, 150, True) and made.uri.startswith("data:image/jpeg")
    assert decoded(made.uri).mean() == pytest.approx(127.5, abs=2.0)


def test_sixteen_bits_and_coverage(tmp_path):
    grey = np.full((8, 8, 1), 0.25, np.float32)
    write_png16(tmp_path / "grey.png", grey, srgb=False)
    assert decoded(picture(tmp_path / "grey.png", limit=1).uri) == pytest.approx(64, abs=2)
    write_png8(tmp_path / "half.png", np.ones((8, 8, 3), np.float32), srgb=False, alpha=np.full((8, 8, 1), 0.5))
    assert decoded(picture(tmp_path / "half.png", limit=1).uri) == pytest.approx(128, abs=2)


def test_no_image_is_no_picture(tmp_path):
    (tmp_path / "a.png").write_bytes(b"no image")
    assert picture(tmp_path / "a.png") is None and picture(tmp_path / "b.png") is None


def test_a_light_keeps_its_mean_and_its_place():
    light = np.random.default_rng(1).random((64, 128, 3), dtype=np.float32)
    light[10, 20] = 500.0
    small = resized_light(light, 16)
    assert small.shape == (16, 32, 3) and small.mean() == pytest.approx(light.mean(), rel=1e-5)
    assert np.unravel_index(small[..., 0].argmax(), (16, 32)) == (2, 5)
    assert resized_light(small, 16) is small
    back = decode_rgbe(base64.b64decode(light_base64(light, 16)))
    np.testing.assert_allclose(back, small, rtol=0.01, atol=0.01 * small.max(axis=-1).max() / 256)


def test_a_uniform_light_shows_as_a_third():
    light = np.full((16, 32, 3), 7.0, np.float32)
    assert light_exposure(light) == pytest.approx(0.5 / 7.0)
    shown = decoded(light_picture(light, light_exposure(light)).uri)
    assert shown == pytest.approx(156, abs=2)  # sRGB of 0.5 / 1.5
    assert light_exposure(np.zeros((4, 8, 3), np.float32)) == 1.0


def test_a_model_that_fits_is_untouched(tmp_path):
    write_glb(tmp_path / "a.glb", demo_asset(32, around=12, along=10))
    data = (tmp_path / "a.glb").read_bytes()
    assert page_copy(data, len(data)) == (data, "")


def test_a_model_that_does_not_fit_keeps_its_mesh(tmp_path):
    asset = demo_asset(512, around=24, along=20)
    rng = np.random.default_rng(2)
    asset.materials[0].albedo = rng.random(asset.materials[0].albedo.shape, dtype=np.float32) * 0.1 + 0.4
    write_glb(tmp_path / "a.glb", asset)
    data = (tmp_path / "a.glb").read_bytes()
    small, note = page_copy(data, 160_000)
    assert len(small) <= 160_000 < len(data) and "JPEGs of at most" in note
    (tmp_path / "b.glb").write_bytes(small)
    before, after = read_gltf(tmp_path / "a.glb"), read_gltf(tmp_path / "b.glb")
    np.testing.assert_array_equal(after.mesh.positions, before.mesh.positions)
    np.testing.assert_array_equal(after.mesh.faces, before.mesh.faces)
    np.testing.assert_array_equal(after.mesh.uvs.values, before.mesh.uvs.values)
    for name in ("albedo", "roughness", "metallic"):
        one, other = getattr(before.materials[0], name), getattr(after.materials[0], name)
        assert other.mean() == pytest.approx(one.mean(), abs=0.01)


def test_a_model_that_is_nearly_all_mesh_is_said_to_be_so(tmp_path):
    write_glb(tmp_path / "a.glb", demo_asset(8, around=60, along=60))
    data = (tmp_path / "a.glb").read_bytes()
    small, note = page_copy(data, 1000)
    assert len(small) <= len(data) and note


@pytest.mark.parametrize("data", [b"", b"glTF", struct.pack("<4sII", b"glTF", 1, 12), b'{"asset": {}}' * 4])
def test_what_is_no_model_is_an_error(data):
    with pytest.raises(StspbrError, match="no binary glTF"):
        page_copy(data, 10)


def test_the_copy_is_aligned_and_says_its_length(tmp_path):
    write_glb(tmp_path / "a.glb", demo_asset(256, around=12, along=10))
    small, _ = page_copy((tmp_path / "a.glb").read_bytes(), 1)
    magic, version, length = struct.unpack_from("<4sII", small)
    size, kind = struct.unpack_from("<I4s", small, 12)
    content = json.loads(small[20 : 20 + size])
    assert (magic, version, length, kind) == (b"glTF", 2, len(small), b"JSON") and size % 4 == 0
    assert all(view["byteOffset"] % 4 == 0 for view in content["bufferViews"])
