"""Relighting errors: equal assets, a darker albedo, poses; small path-traced pictures."""

from __future__ import annotations

import importlib.util
import json
from dataclasses import replace

import numpy as np
import pytest

from stspbr.errors import StspbrError
from stspbr.metrics.relighting import BEST_PSNR, frame_labels, relighting_error
from stspbr.procedural.jar import demo_asset, demo_light
from stspbr.render import mitsuba_bsdf
from stspbr.scene import Asset, Camera, EnvironmentLight, Frame, Material, Mesh, look_at

OPTIONS = {"samples": 16, "max_depth": 3, "seed": 5}


@pytest.fixture(scope="module")
def mitsuba():
    ok, message = mitsuba_bsdf.llvm_status()
    if not ok:
        pytest.skip(f"path-traced reference: {message}")


@pytest.fixture(scope="module")
def jar():
    return demo_asset(64, around=24, along=20)


@pytest.fixture(scope="module")
def lights():
    return {"studio": demo_light(16), "night": EnvironmentLight(np.float32(0.01) * demo_light(16).radiance)}


def test_equal_assets_look_equal_and_lights_are_exposed(mitsuba, jar, lights):
    frames = [_frame("images/test_0000.exr"), _frame("images/test_0001.exr", turn=90.0)]
    metrics, pictures = relighting_error(jar, jar, lights, frames, albedo_scale=[1, 1, 1], **OPTIONS)
    assert list(metrics) == ["studio", "night"]
    for found in metrics.values():
        for name in ("psnr", "psnr_scaled"):
            assert found[name] == BEST_PSNR
        assert found["ssim"] == pytest.approx(1.0) and len(found["per_view"]) == 2
    assert metrics["night"]["exposure"] == pytest.approx(100 * metrics["studio"]["exposure"], rel=1e-5)
    assert set(pictures) == {f"{x}_test_000{k}_{y}" for x in lights for k in (0, 1) for y in ("truth", "result")}
    first = pictures["studio_test_0000_truth"]
    assert first.shape == (24, 24, 3) and 0.0 <= first.min() and first.max() <= 1.0 and 0.1 < first.mean()
    np.testing.assert_allclose(pictures["night_test_0000_truth"], first, atol=2e-3)  # only the light's level differs
    assert np.abs(pictures["studio_test_0001_truth"] - first).max() > 0.05  # the pose counts
    assert [view["name"] for view in metrics["studio"]["per_view"]] == ["test_0000", "test_0001"]
    json.dumps(metrics, allow_nan=False)


def test_a_darker_albedo_is_forgiven_by_its_scale(mitsuba, jar, lights):
    (material,) = jar.materials
    dark = Asset(jar.mesh, [replace(material, albedo=material.albedo * np.float32([0.8, 0.5, 0.8]))])
    scale = [1 / 0.8, 1 / 0.5, 1 / 0.8]
    studio = {"studio": lights["studio"]}
    metrics, pictures = relighting_error(jar, dark, studio, [_frame("a.png")], albedo_scale=scale, **OPTIONS)
    found = metrics["studio"]
    assert found["psnr_scaled"] > 70.0 > 30.0 > found["psnr"]
    assert found["ssim_scaled"] > 0.9999 > found["ssim"]
    assert pictures["studio_a_result"].mean() < pictures["studio_a_truth"].mean()  # shown as it is, not scaled


def test_a_flat_surface_shows_the_error_that_it_has(mitsuba):
    """White light on a matt dielectric: what it sends back is its directional albedo, and PSNR follows."""
    trimesh = pytest.importorskip("trimesh")
    made = trimesh.creation.icosphere(subdivisions=2)
    mesh = Mesh(np.float32(made.vertices), np.int32(made.faces))
    white = {"even": EnvironmentLight(np.ones((4, 8, 3), np.float32))}
    ours, theirs = (Asset(mesh, [_plain(value)]) for value in (0.2, 0.6))
    metrics, pictures = relighting_error(ours, theirs, white, [_frame("a")], albedo_scale=[1, 1, 1], **OPTIONS)
    assert metrics["even"]["exposure"] == pytest.approx(0.5)
    a, b = (pictures[f"even_a_{name}"][8:16, 8:16].mean() for name in ("truth", "result"))
    # directional albedos 0.208 and 0.590 (both with roughness 1), exposed by ½ and encoded
    assert a == pytest.approx(0.357, abs=0.01) and b == pytest.approx(0.580, abs=0.01)
    assert metrics["even"]["psnr"] == pytest.approx(-20 * np.log10(0.580 - 0.357), abs=0.5)


def test_bad_requests_have_clear_errors(mitsuba, jar, lights):
    with pytest.raises(StspbrError, match="no frame"):
        relighting_error(jar, jar, lights, [], albedo_scale=[1, 1, 1], **OPTIONS)
    with pytest.raises(StspbrError, match="three factors"):
        relighting_error(jar, jar, lights, [_frame("a")], albedo_scale=[1, 1], **OPTIONS)
    black = {"cellar": EnvironmentLight(np.zeros((4, 8, 3), np.float32))}
    with pytest.raises(StspbrError, match="cellar is black"):
        relighting_error(jar, jar, black, [_frame("a")], albedo_scale=[1, 1, 1], **OPTIONS)
    away = _frame("gone.png")
    away.object_to_world = np.eye(4) + 100.0 * np.eye(4, k=3)
    with pytest.raises(StspbrError, match=r"gone\.png does not see"):
        relighting_error(jar, jar, lights, [away], albedo_scale=[1, 1, 1], **OPTIONS)
    assert relighting_error(jar, jar, {}, [_frame("a")], albedo_scale=[1, 1, 1], **OPTIONS) == ({}, {})


def test_missing_mitsuba_names_the_extra(monkeypatch, jar, lights):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(StspbrError, match=r"stspbr\[reference\]"):
        relighting_error(jar, jar, lights, [_frame("a")], albedo_scale=[1, 1, 1], **OPTIONS)


def test_labels_are_short_and_unique():
    def labels(*names):
        return frame_labels([_frame(name) for name in names])

    assert labels("images/test_0000.exr", "./test/r_1") == ["test_0000", "r_1"]
    assert labels("./train/r_0.png", "../test/r_0.png") == ["train_r_0", "test_r_0"]
    with pytest.raises(StspbrError, match="same name"):
        labels("a/b.png", "a/b.png")


def _frame(name: str, turn: float = 0.0) -> Frame:
    camera = Camera(look_at((0.0, 0.6, 3.4), (0.0, 0.0, 0.0)), 30.0, 30.0, 12.0, 12.0, 24, 24)
    pose, angle = np.eye(4), np.radians(turn)
    pose[:3, :3] = [[np.cos(angle), 0, np.sin(angle)], [0, 1, 0], [-np.sin(angle), 0, np.cos(angle)]]
    return Frame(name, camera, np.zeros((24, 24, 3), np.float32), np.zeros((24, 24, 1), np.float32), pose)


def _plain(albedo: float) -> Material:
    one = np.ones((1, 1, 1), np.float32)
    return Material(np.full((1, 1, 3), albedo, np.float32), one, 0 * one)
