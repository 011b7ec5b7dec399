"""Cut-outs and blended surfaces in files: every format that has a place for them reads back what was written."""

from __future__ import annotations

import json
import struct

import numpy as np
import pytest

from stspbr.formats.assets import read_asset
from stspbr.formats.gltf.writer import write_glb
from stspbr.formats.obj_writer import write_obj
from stspbr.scene import Asset, Corners, Material, Mesh


def card(opacity: np.ndarray, cutoff: float | None) -> Asset:
    """A square with a map of opacity."""
    positions = np.array([[0, 0, 0], [1, 0, 0], [1, 1, 0], [0, 1, 0]], np.float32)
    faces = np.array([[0, 1, 2], [0, 2, 3]], np.int32)
    uvs = Corners(np.array([[0, 1], [1, 1], [1, 0], [0, 0]], np.float32), faces)
    rng = np.random.default_rng(3)
    albedo = rng.random((8, 8, 3), np.float32)
    rough, metal = (np.full((1, 1, 1), value, np.float32) for value in (0.5, 0.0))
    return Asset(
        Mesh(positions, faces, uvs), [Material(albedo, rough, metal, name="leaf", opacity=opacity, cutoff=cutoff)]
    )


def steps(values: int) -> np.ndarray:
    """``[8, 8, 1]`` with exact 8-bit values."""
    return (np.random.default_rng(4).integers(0, values, (8, 8, 1)) * (255 // (values - 1)) / 255).astype(np.float32)


def write_usd(path, asset):
    pytest.importorskip("pxr")
    from stspbr.formats.usd.writer import write_usd as write

    write(path, asset)


WRITERS = {"glb": lambda path, asset: write_glb(path, asset), "obj": write_obj, "usda": write_usd}


@pytest.mark.parametrize("suffix", WRITERS)
@pytest.mark.parametrize("cutoff", [None, 0.5])
def test_maps_of_opacity_come_back(tmp_path, suffix, cutoff):
    opacity = steps(2) if cutoff else steps(6)
    asset = card(opacity, cutoff)
    WRITERS[suffix](tmp_path / f"leaf.{suffix}", asset)
    found = read_asset(tmp_path / f"leaf.{suffix}").materials[0]
    assert found.alpha_mode == ("mask" if cutoff else "blend")
    assert found.cutoff == cutoff
    assert np.allclose(found.opacity, opacity, atol=1e-6)
    assert np.allclose(found.albedo, asset.materials[0].albedo, atol=0.01)  # not multiplied by the opacity


@pytest.mark.parametrize("suffix", WRITERS)
def test_one_opacity_for_all_comes_back(tmp_path, suffix):
    WRITERS[suffix](tmp_path / f"glass.{suffix}", card(np.full((1, 1, 1), 0.25, np.float32), None))
    found = read_asset(tmp_path / f"glass.{suffix}").materials[0]
    assert found.alpha_mode == "blend"
    assert found.opacity.min() == found.opacity.max() == pytest.approx(0.25, abs=1 / 255)


@pytest.mark.parametrize("suffix", WRITERS)
def test_an_opaque_material_has_no_opacity(tmp_path, suffix):
    WRITERS[suffix](tmp_path / f"solid.{suffix}", card(None, None))
    assert read_asset(tmp_path / f"solid.{suffix}").materials[0].opacity is None


def test_gltf_shows_both_sides_and_its_own_cutoff(tmp_path):
    write_glb(tmp_path / "leaf.glb", card(steps(6), 0.3))
    data = (tmp_path / "leaf.glb").read_bytes()
    length = struct.unpack("<I", data[12:16])[0]
    (material,) = json.loads(data[20 : 20 + length])["materials"]
    assert material["doubleSided"] is True and material["alphaMode"] == "MASK"
    assert material["alphaCutoff"] == pytest.approx(0.3)
    assert read_asset(tmp_path / "leaf.glb").materials[0].cutoff == pytest.approx(0.3)


def test_an_obj_has_cut_outs_as_0_and_1(tmp_path):
    asset = card(steps(6), 0.3)
    write_obj(tmp_path / "leaf.obj", asset)
    found = read_asset(tmp_path / "leaf.obj").materials[0]
    assert np.array_equal(found.coverage(), asset.materials[0].coverage())


def test_map_d_takes_the_alpha_of_the_coloured_texture(tmp_path):
    from stspbr.formats.images import write_png8

    alpha = steps(2)
    write_png8(tmp_path / "leaf.png", np.full((8, 8, 3), 0.5, np.float32), srgb=True, alpha=alpha)
    (tmp_path / "leaf.mtl").write_text("newmtl leaf\nmap_Kd leaf.png\nmap_d leaf.png\nPr 0.5\n")
    (tmp_path / "leaf.obj").write_text(
        "mtllib leaf.mtl\nv 0 0 0\nv 1 0 0\nv 0 1 0\nvt 0 0\nvt 1 0\nvt 0 1\nusemtl leaf\nf 1/1 2/2 3/3\n"
    )
    found = read_asset(tmp_path / "leaf.obj").materials[0]
    assert np.array_equal(found.opacity, alpha) and found.cutoff == 0.5
