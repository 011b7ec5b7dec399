"""Photographs to take: they look at what lacks, they are worth less one after the other, and they are told truly."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from stspbr.optimize.confidence import gather, information_maps
from stspbr.optimize.next_photos import next_photos, sites, texel_areas
from stspbr.scene import Corners
from stspbr.texture.atlas import rasterize_layout
from tests.optimize.conftest import photographed_jar


def layout(problem):
    surface = problem.geometry.surface()
    return [rasterize_layout(Corners(surface.uvs.values.numpy(), surface.uvs.index.numpy()), (32, 32), None, 1)]


@pytest.fixture(scope="module")
def one_sided():
    """The jar, photographed from the views on one side alone, +X, and the direction to each camera."""
    everywhere = photographed_jar(16)
    eyes = torch.nn.functional.normalize(everywhere.views.cameras.eye, dim=1)
    chosen = torch.nonzero(eyes[:, 0] > 0.2).squeeze(1).tolist()
    problem = photographed_jar(16, only=chosen)
    evidence = gather(problem, 10**9)
    return problem, evidence, information_maps(problem, evidence)


def test_a_photograph_from_the_unseen_side_helps_most(one_sided):
    problem, evidence, information = one_sided
    places = sites(problem, evidence, information, layout(problem), count=400)
    photos = next_photos(problem, evidence, places, count=4)
    assert photos[0].direction[0] < -0.2
    assert all(np.linalg.norm(photo.direction) == pytest.approx(1.0, abs=1e-5) for photo in photos)
    drops, left = [photo.drop for photo in photos], [photo.left for photo in photos]
    assert left == sorted(left, reverse=True) and min(drops) > 0
    # what each gains is what is gone afterwards
    assert left[0] - left[1] == pytest.approx(drops[1], rel=1e-4)
    assert left[0] + drops[0] <= 1.0 + 1e-6


def test_points_cover_the_surface_by_area(one_sided):
    problem, evidence, information = one_sided
    texels = layout(problem)
    # texels at the charts' borders count whole
    assert float(texel_areas(problem, texels[0]).sum()) == pytest.approx(area(problem), rel=0.1)
    places = sites(problem, evidence, information, texels, count=400)
    assert len(places.share) == 400 and float(places.share.sum()) == pytest.approx(1.0, abs=1e-4)
    again = sites(problem, evidence, information, texels, count=400)
    assert torch.equal(places.seen.position, again.seen.position)


def test_only_chosen_texels_count(one_sided):
    problem, evidence, information = one_sided
    texels = layout(problem)[0]
    surface = problem.geometry.surface()
    position = texels.interpolate(surface.positions, surface.faces)
    chosen = torch.zeros(32 * 32, dtype=torch.bool)
    top = int(position[:, 1].argmax())
    chosen[texels.texel[top]] = True
    places = sites(problem, evidence, information, [texels], [chosen.view(32, 32)])
    assert len(places.share) == 1
    torch.testing.assert_close(places.seen.position[0], position[top])
    assert next_photos(problem, evidence, places, ("roughness",), 1)[0].direction[1] > -0.3


def area(problem) -> float:
    surface = problem.geometry.surface()
    corners = surface.positions[surface.faces.long()]
    sides = torch.linalg.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    return float(0.5 * sides.norm(dim=1).sum())
