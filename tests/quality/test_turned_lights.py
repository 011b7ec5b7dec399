"""The two captures differ in the light alone."""

from __future__ import annotations

import numpy as np

from stspbr.procedural.by_name import procedural_asset, procedural_light
from stspbr.quality.turned_lights import rendered, views


def test_views_are_the_same_and_the_light_is_not(tmp_path):
    asset = procedural_asset("procedural:demo")
    at = {turned: views(asset, 3, 48, turned, seed=4) for turned in (True, False)}
    for (camera, pose), (other, still) in zip(at[True], at[False], strict=True):
        assert np.allclose(camera.world_to_camera @ pose, other.world_to_camera, atol=1e-9)
        assert np.array_equal(still, np.eye(4)) and np.allclose(camera.camera_to_world, at[True][0][0].camera_to_world)
    shots = {k: rendered(asset, procedural_light("procedural:studio"), v, tmp_path).frames for k, v in at.items()}
    for one, other in zip(shots[True], shots[False], strict=True):
        assert np.allclose(one.alpha, other.alpha, atol=1e-3) and 0.1 < one.alpha.mean() < 0.9
    apart = [np.abs(a.image - b.image).mean() for a, b in zip(shots[True], shots[False], strict=True)]
    assert min(apart[1:]) > 3e-3
