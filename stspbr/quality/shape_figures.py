"""The figures of one learned surface, free of its material."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from stspbr.metrics.creases import crease_error
from stspbr.metrics.geometry import geometry_error
from stspbr.metrics.material import material_error
from stspbr.scene import Asset, Material, Mesh

MARGIN = 0.1
"""Free space around an object's box, as the default of ``geometry.margin``."""


def shape_figures(reference: Mesh, estimate: Mesh, samples: int, **views: Any) -> dict[str, Any]:
    """The figures of one surface ``Mesh``; lengths are parts of the reference's diagonal, angles degrees.

    Materials play no part: normals are those of the meshes, without normal maps.
    """
    found = geometry_error(reference, estimate, samples, **views)
    grey = Material.of(np.full((1, 1, 3), 0.5), np.full((1, 1, 1), 0.5), np.zeros((1, 1, 1)))
    truth, guess = (Asset(replace(mesh, face_material=None), [grey]) for mesh in (reference, estimate))
    normals = material_error(truth, guess, samples=samples // 2, max_distance_fraction=0.05, back=False, **views)
    creases = crease_error(truth, guess, samples=samples // 4, **views)
    kept = ("f_score_0.5%", "normal_consistency", "self_intersections", "slivers", "boundary_edges", "components",
            "genus", "faces")  # fmt: skip
    out = {name: found[name] for name in kept} | {"chamfer": found["chamfer_l1"] / found["diagonal"]}
    if seen := found.get("seen"):
        out |= {"seen_chamfer": seen["chamfer_l1"] / found["diagonal"], "seen_f_score_0.5%": seen["f_score_0.5%"]}
        out["seen_share"] = seen["reference_share"]
    out["normal_angle"] = normals["all"]["normal_angle_mean"]
    out["crease_sides"] = None if creases is None else creases["both_within_2_degrees"]
    out["crease_angle"] = None if creases is None else creases["angle_median"]
    return out | {f"true_{name}": found["reference"][name] for name in ("components", "genus")}


def cube_of(points: np.ndarray) -> list[float]:
    """xmin, ymin, zmin, xmax, ymax, zmax of the cube around ``points [N, 3]``, with the margin of a box from masks."""
    low, high = points.min(axis=0), points.max(axis=0)
    half = 0.5 * (1.0 + MARGIN) * float((high - low).max())
    return [*(0.5 * (low + high) - half), *(0.5 * (low + high) + half)]
