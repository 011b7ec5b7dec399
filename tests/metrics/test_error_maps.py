"""Errors on the reference's UVs: where they are drawn, and how large they are said to be."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from stspbr.metrics.error_maps import ERROR_PEAKS, UNMATCHED, error_maps, heat, material_differences
from stspbr.render.backend import get_backend
from stspbr.scene import Asset, Corners, Material, Mesh

SIZE = 32


@pytest.fixture(scope="module")
def rasterize():
    return get_backend("auto", torch.device("cpu")).rasterize


def test_errors_stand_where_the_reference_has_them_whatever_the_estimates_uvs(rasterize):
    reference = Asset(_quad(), [_material()])
    wrong = _material(metallic=(np.arange(SIZE) >= SIZE // 2)[:, None] * np.ones((SIZE, SIZE)))  # the lower half
    turned = replace(_quad(), uvs=np.float32([[1, 0], [0, 0], [0, 1], [1, 1]]))  # the picture upside down and mirrored
    upside_down = replace(wrong, metallic=wrong.metallic[::-1, ::-1].copy())
    maps = error_maps(reference, Asset(turned, [upside_down]), rasterize, SIZE)
    for channel in ("albedo", "roughness", "normal"):
        np.testing.assert_allclose(maps[channel].error, heat(np.zeros((SIZE, SIZE)), 1.0), atol=1e-6)
        np.testing.assert_allclose(maps[channel].estimate, maps[channel].reference, atol=1e-6)
    upper, lower = maps["metallic"].error[: SIZE // 2 - 1], maps["metallic"].error[SIZE // 2 + 1 :]
    np.testing.assert_allclose(upper, np.broadcast_to(heat(np.float64(0), 1.0), upper.shape), atol=1e-6)
    np.testing.assert_allclose(lower, np.broadcast_to(heat(np.float64(1), 1.0), lower.shape), atol=1e-6)
    np.testing.assert_allclose(maps["metallic"].estimate[SIZE // 2 + 1 :], 1.0, atol=1e-6)
    np.testing.assert_allclose(maps["metallic"].reference, 0.0)
    np.testing.assert_allclose(maps["albedo"].reference, 0.7353569830524495, atol=1e-5)  # 0.5 in sRGB
    np.testing.assert_allclose(maps["normal"].reference, np.float64([0.5, 0.5, 1.0]) + np.zeros((SIZE, SIZE, 1)))


def test_what_has_no_partner_is_marked(rasterize):
    quad = _quad()
    half = replace(quad, faces=quad.faces[:1], uvs=Corners(quad.uvs.values, quad.uvs.index[:1]))
    shown = error_maps(Asset(quad, [_material()]), Asset(half, [_material()]), rasterize, SIZE)["albedo"].error
    lost = (np.abs(shown - UNMATCHED) < 1e-6).all(axis=2)
    assert lost[2, 2] and not lost[-3, -3] and lost.mean() == pytest.approx(0.46, abs=0.03)
    turned = replace(quad, faces=quad.faces[:, ::-1].copy(), uvs=Corners(quad.uvs.values, quad.uvs.index[:, ::-1]))
    shown = error_maps(Asset(quad, [_material()]), Asset(turned, [_material()]), rasterize, SIZE)["albedo"].error
    np.testing.assert_allclose(shown, np.broadcast_to(UNMATCHED, shown.shape))


def test_several_materials_share_the_picture(rasterize):
    mesh = replace(_quad(), face_material=np.int32([0, 2]))
    mesh.uvs = Corners(mesh.uvs.values + np.float32([3, -2]), mesh.uvs.index)
    materials = [_material(rough=0.1), _material(rough=0.5), _material(rough=0.9)]
    shown = error_maps(Asset(mesh, materials), Asset(mesh, materials), rasterize, SIZE)["roughness"].reference
    left, right = shown[: SIZE // 2, : SIZE // 2, 0], shown[: SIZE // 2, SIZE // 2 :, 0]
    assert left[-3, -3] == pytest.approx(0.1) and right[2, 2] == pytest.approx(0.9)
    assert len(np.unique(np.round(shown, 6))) == 3  # the two, and the ground between
    assert np.ptp(shown[SIZE // 2 :]) == 0


def test_without_uvs_there_are_no_maps(rasterize):
    bare = Asset(replace(_quad(), uvs=None), [_material(side=1)])
    assert error_maps(bare, bare, rasterize, SIZE) == {}


def test_heat_rises_from_black_to_white():
    ramp = heat(np.linspace(0, 2, 41), 1.0)
    light = ramp @ [0.2126, 0.7152, 0.0722]
    assert (np.diff(light[:21]) > 0).all() and light[0] < 0.05 and light[20] > 0.95
    np.testing.assert_array_equal(ramp[20:], np.broadcast_to(ramp[20], (21, 3)))


def test_differences_by_channel():
    up = np.float64([[0, 0, 1]])
    truth = {"albedo": np.float64([[0.1, 0.2, 0.3]]), "roughness": np.ones(1), "metallic": np.zeros(1), "normal": up}
    guess = {**truth, "albedo": np.float64([[0.1, 0.5, 0.0]]), "normal": np.float64([[0, 0.6, 0.8]])}
    found = material_differences(truth, guess)
    assert set(found) == set(ERROR_PEAKS)
    assert found["albedo"][0] == pytest.approx(0.2) and found["roughness"][0] == found["metallic"][0] == 0
    assert found["normal"][0] == pytest.approx(np.degrees(np.arctan2(0.6, 0.8)))


def _quad():
    p = np.float32([[-1, -1, 0], [1, -1, 0], [1, 1, 0], [-1, 1, 0]])
    f = np.int32([[0, 1, 2], [0, 2, 3]])
    return Mesh(p, f, Corners(np.float32([[0, 1], [1, 1], [1, 0], [0, 0]]), f))


def _material(rough=0.4, metallic=None, side=SIZE):
    one = np.ones((side, side, 1), np.float32)
    metal = 0 * one if metallic is None else metallic[..., None].astype(np.float32)
    return Material(0.5 * np.ones((side, side, 3), np.float32), np.float32(rough) * one, metal)
