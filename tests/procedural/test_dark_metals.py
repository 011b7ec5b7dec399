"""The dark metals: clean meshes, and metal and paint of the promised albedo and roughness in equal places."""

from __future__ import annotations

import numpy as np
import pytest

from stspbr.geometry.topology import mesh_report
from stspbr.metrics.geometry import self_intersections
from stspbr.procedural.by_name import procedural_asset
from stspbr.procedural.dark_metals import ALBEDOS, ROUGHNESSES

NAMES = ("iron-hoop", "gunmetal", "painted-steel")
LUMINANCE = np.array([0.2126, 0.7152, 0.0722])


@pytest.fixture(scope="module")
def assets():
    return {name: procedural_asset(f"procedural:{name}") for name in NAMES}


@pytest.mark.parametrize("name", NAMES)
def test_mesh_is_closed_simple_and_smooth(assets, name):
    mesh = assets[name].mesh
    report = mesh_report(mesh.positions, mesh.faces)
    assert report["watertight"] and report["volume"] > 0.5 and (report["components"], report["genus"]) == (1, 0)
    assert self_intersections(mesh.positions, mesh.faces) == 0
    p = mesh.positions.astype(np.float64)
    assert np.linalg.norm(p, axis=1).max() < 1.0
    corners = p[mesh.faces]
    normal = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    normal /= np.linalg.norm(normal, axis=1, keepdims=True)
    assert (mesh.normals.values[mesh.normals.index] * normal[:, None]).sum(-1).min() > 0.9


@pytest.mark.parametrize("name", NAMES)
def test_maps_are_in_range_pure_and_the_same_every_time(assets, name):
    material, again = assets[name].materials[0], procedural_asset(f"procedural:{name}").materials[0]
    for image, other in zip(material.maps(), again.maps(), strict=True):
        assert image.dtype == np.float32 and image.min() >= 0 and image.max() <= 1 and np.array_equal(image, other)
    metallic = material.metallic[..., 0]
    assert 0.2 < (metallic > 0.99).mean() < 0.6 and ((metallic > 0.01) & (metallic < 0.99)).mean() < 0.06
    assert (material.albedo @ LUMINANCE).min() > 0.025
    assert material.roughness.min() >= 0.149 and material.roughness.max() < 0.75


def test_gunmetal_has_metal_and_gloss_of_every_albedo_and_roughness_in_equal_shares(assets):
    material = assets["gunmetal"].materials[0]
    grey, rough, metallic = material.albedo @ LUMINANCE, material.roughness[..., 0], material.metallic[..., 0]
    for albedo in ALBEDOS:
        for roughness in ROUGHNESSES:
            here = (np.abs(grey / albedo - 1.0) < 0.02) & (np.abs(rough - roughness) < 0.005)
            metal, paint = here & (metallic > 0.99), here & (metallic < 0.01)
            assert metal.mean() > 0.008 and paint.mean() > 0.008
            colours = [material.albedo[part].mean(axis=0) for part in (metal, paint)]
            np.testing.assert_allclose(*colours, atol=0.01 * albedo)  # the colour does not give the kind away


def test_the_hoops_are_darker_than_the_wood_and_raised(assets):
    asset = assets["iron-hoop"]
    material = asset.materials[0]
    metal = material.metallic[..., 0] > 0.99
    levels = np.unique(np.round(material.albedo[metal] @ LUMINANCE, 2))
    assert levels.tolist() == pytest.approx([0.06, 0.10, 0.16])
    rough = material.roughness[..., 0]
    assert rough[metal].max() < 0.46 and rough[material.metallic[..., 0] < 0.01].min() > 0.6
    p = asset.mesh.positions
    radius = np.hypot(p[:, 0], p[:, 2])

    def mean_radius(low, high):
        return radius[(p[:, 1] > 0.86 * low) & (p[:, 1] < 0.86 * high)].mean()

    assert mean_radius(0.18, 0.29) > mean_radius(-0.10, 0.10) + 0.015


def test_blued_steel_is_as_rough_as_the_black_coat_beside_it(assets):
    material = assets["painted-steel"].materials[0]
    grey, metallic = material.albedo @ LUMINANCE, material.metallic[..., 0]
    rough = np.abs(material.roughness[..., 0] - 0.35) < 0.01
    assert (rough & (metallic > 0.99) & (np.abs(grey - 0.08) < 0.005)).mean() > 0.02
    assert (rough & (metallic < 0.01) & (grey < 0.04)).mean() > 0.05
