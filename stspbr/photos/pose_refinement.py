"""Poses that COLMAP's mapper found, adjusted once more with all that the matches say.

The mapper leaves out points that only two photos show, takes an error of 4 pixels of a photo for small, and squares
errors. A photo that few others overlap with then hangs on a handful of points, some of them wrong. Here points of two
photos count, errors are measured in pixels of the pictures that features were sought in, and large ones weigh less
(Triggs et al., *Bundle Adjustment — A Modern Synthesis*, 1999, section 3).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

LARGEST_ERROR = 1.5
"""Pixels of the pictures that features were sought in: what is farther off is no match."""
_ROUNDS = 5
_CHANGE = 5e-4  # share of the observations that change when another round is worth it


def feature_pixel(sizes: list[tuple[int, int]], feature_size: int) -> float:
    """What a pixel of a picture whose longer side is at most ``feature_size`` measures in pixels of the photos."""
    sides = sorted(max(size) for size in sizes)
    return max(1.0, sides[len(sides) // 2] / feature_size)


def refine_poses(pycolmap: Any, model: Any, database: Path, options: Any, pixel: float) -> None:
    """Adjust a model in place: points of two photos, a robust loss, and no point that is far off.

    Args:
        model: a ``pycolmap.Reconstruction`` whose photos and matches are in ``database``.
        options: the ``pycolmap.IncrementalPipelineOptions`` that it was found with.
        pixel: of the pictures that features were sought in, in pixels of the photos.
    """
    with pycolmap.Database.open(database) as opened:
        cache = pycolmap.DatabaseCache.create(opened, pycolmap.DatabaseCacheOptions())
    triangulation = options.get_triangulation()
    triangulation.ignore_two_view_tracks = False
    adjustment = options.get_global_bundle_adjustment()
    adjustment.ceres.loss_function_type = pycolmap.LossFunctionType.SOFT_L1
    adjustment.ceres.loss_function_scale = pixel
    mapping = options.get_mapper()
    mapping.filter_max_reproj_error = LARGEST_ERROR * pixel
    mapper = pycolmap.IncrementalMapper(cache)
    mapper.begin_reconstruction(model)
    for image in sorted(model.reg_image_ids()):
        mapper.triangulate_image(triangulation, image)
    mapper.iterative_global_refinement(_ROUNDS, _CHANGE, mapping, adjustment, triangulation)
    mapper.end_reconstruction(False)
