"""Packed maps: each channel where it belongs."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from stspbr.errors import StspbrError
from stspbr.formats.gltf.writer import write_glb
from stspbr.formats.images import read_pixels, write_exr, write_png8, write_png16
from stspbr.formats.orm import unpack
from stspbr.scene.asset import Asset
from stspbr.scene.material import Material
from stspbr.scene.mesh import Corners, Mesh
from stspbr.scene.orm import pack_orm, unpack_orm


def maps(height=4, width=8):
    values = np.arange(3 * height * width, dtype=np.float32).reshape(3, height, width, 1) / 255
    return values[0], values[1], values[2]


def test_pack_and_unpack():
    packed = pack_orm(*maps())
    assert packed[1, 2].tolist() == pytest.approx([10 / 255, 42 / 255, 74 / 255])
    for first, second in zip(maps(), unpack_orm(packed), strict=True):
        assert np.array_equal(first, second)
    assert (pack_orm(None, *maps()[1:])[..., 0] == 1).all()


def test_other_sizes_are_brought_together():
    occlusion, roughness, _ = maps()
    packed = pack_orm(occlusion, np.full((1, 1, 1), 0.5), np.array([[[0.0]], [[1.0]]]))
    assert packed.shape == (4, 8, 3) and (packed[..., 1] == 0.5).all()
    assert packed[:, 0, 2].tolist() == [0, 0, 1, 1]
    ramp = pack_orm(roughness, roughness, np.full((3, 3, 1), 0.25))
    assert np.allclose(ramp[..., 2], 0.25)  # no whole multiple: blended


@pytest.mark.parametrize("bits", [8, 16])
def test_unpack_an_image(tmp_path, bits):
    write = write_png8 if bits == 8 else write_png16
    write(tmp_path / "orm.png", pack_orm(*maps()), srgb=False)
    written = unpack(tmp_path / "orm.png", tmp_path / "out", bits)
    assert [path.name for path in written] == ["occlusion.png", "roughness.png", "metallic.png"]
    for path, expected in zip(written, maps(), strict=True):
        assert np.abs(read_pixels(path) - expected).max() < 1e-6
        assert path.read_bytes()[24] == bits and path.read_bytes()[25] == 0  # bit depth; one grey channel


def test_unpack_an_asset_multiplies_factors_and_names_by_material(tmp_path):
    mesh = Mesh(
        np.array([[0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1]], np.float32),
        np.array([[0, 1, 2], [0, 1, 3]], np.int32),
        Corners(np.zeros((1, 2), np.float32), np.zeros((2, 3), np.int32)),
        face_material=np.array([0, 1], np.int32),
    )
    albedo = np.full((1, 1, 3), 0.5, np.float32)
    first = Material(albedo, *maps()[1:], occlusion=maps()[0], name="glaze")
    second = Material(albedo, np.full((1, 1, 1), 0.2, np.float32), np.ones((1, 1, 1), np.float32), name="my trim")
    write_glb(tmp_path / "one.glb", Asset(mesh, [first, second]))
    written = unpack(tmp_path / "one.glb", tmp_path / "out")
    assert [path.name for path in written] == [
        f"{name}_{kind}.png" for name in ("glaze", "my_trim") for kind in ("occlusion", "roughness", "metallic")
    ]
    assert np.abs(read_pixels(written[1]) - maps()[1]).max() < 1e-6
    assert [int(np.asarray(Image.open(path))[0, 0]) for path in written[3:]] == [255, 51, 255]


def test_a_single_material_has_no_prefix(tmp_path):
    faces = np.array([[0, 1, 2]], np.int32)
    mesh = Mesh(np.eye(3, dtype=np.float32), faces, Corners(np.eye(3, 2, dtype=np.float32), faces))
    material = Material(np.ones((1, 1, 3), np.float32), *maps()[1:])
    write_glb(tmp_path / "a.glb", Asset(mesh, [material]))
    written = unpack(tmp_path / "a.glb", tmp_path / "out", 16)
    assert [path.name for path in written] == ["occlusion.png", "roughness.png", "metallic.png"]
    assert (read_pixels(written[0]) == 1).all()


def test_bad_input(tmp_path):
    write_png8(tmp_path / "grey.png", np.zeros((2, 2, 1)), srgb=False)
    with pytest.raises(StspbrError, match="grey image"):
        unpack(tmp_path / "grey.png", tmp_path)
    with pytest.raises(StspbrError, match="expected one of"):
        unpack(tmp_path / "a.fbx", tmp_path)
    write_exr(tmp_path / "orm.exr", pack_orm(*maps()))
    assert len(unpack(tmp_path / "orm.exr", tmp_path)) == 3
    with pytest.raises(StspbrError, match="choose 8 or 16"):
        unpack(tmp_path / "orm.exr", tmp_path, 12)
    with pytest.raises(ValueError, match="three channels"):
        unpack_orm(np.zeros((2, 2, 2)))
