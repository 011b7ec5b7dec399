"""One way in and one way out by the file's suffix."""

from __future__ import annotations

import numpy as np
import pytest

from stspbr.errors import StspbrError
from stspbr.formats.assets import read_asset, write_asset
from stspbr.procedural.jar import demo_asset, demo_light


@pytest.mark.parametrize("name", ["my jar.glb", "a.gltf", "a.obj", "a.OBJ", "a.usda", "a.usdz"])
def test_what_is_written_is_read_again(tmp_path, name):
    if ".usd" in name:
        pytest.importorskip("pxr", reason="usd-core is absent")
    asset = demo_asset(16, around=12, along=12)
    notes = write_asset(tmp_path / "folder" / name, asset, demo_light(16))
    assert all("\n" not in note for note in notes)
    again = read_asset(tmp_path / "folder" / name)
    assert len(again.mesh.faces) == len(asset.mesh.faces)
    np.testing.assert_allclose(again.materials[0].roughness, asset.materials[0].roughness, atol=1 / 255)


def test_a_file_of_another_name_is_left_alone(tmp_path):
    (tmp_path / "my_jar.obj").write_text("another's")
    write_asset(tmp_path / "my jar.obj", demo_asset(16, around=12, along=12))
    assert (tmp_path / "my_jar.obj").read_text() == "another's"
    assert "mtllib my_jar.mtl" in (tmp_path / "my jar.obj").read_text()


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("a.stl", {}, r"cannot write \.stl: use \.glb, .* or \.ply"),
        ("a", {}, "a file without suffix"),
        ("a.obj", {"quantized": True}, r"quantized goes with \.glb and \.gltf"),
        ("a.glb", {"texture_format": "exr"}, r"use 'png', or 'exr' with \.obj"),
        ("a.obj", {"texture_format": "jpg"}, "texture_format 'jpg'"),
    ],
)
def test_what_does_not_fit_is_one_line_and_writes_nothing(tmp_path, name, options, message):
    with pytest.raises(StspbrError, match=message):
        write_asset(tmp_path / name, demo_asset(16, around=12, along=12), **options)
    assert not list(tmp_path.iterdir())
