"""What structure from motion gives: lenses as COLMAP has them, poses, and a cloud of sparse points."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from stspbr.datasets.lens import Lens


@dataclass(frozen=True)
class View:
    """A photo whose pose is known.

    Attributes:
        name: of the photo.
        lens: its camera.
        camera_to_world: ``[4, 4]`` float64, rigid, OpenGL axes.
        seen: ``[K]`` int indices of the sparse points that were found in it.
    """

    name: str
    lens: Lens
    camera_to_world: np.ndarray
    seen: np.ndarray


@dataclass(frozen=True)
class SparseModel:
    """The poses of the photos that could be registered.

    Attributes:
        views: in the order of the photos.
        points: ``[P, 3]`` float64 in the world of the poses, whose scale, place and turn are arbitrary.
        reprojection_error: mean over all observations, in pixels of the pictures.
        failed: why, by name, for the photos that have no pose.
        still_share: of the photos' pattern that stands still behind an object that was turned; None: the camera moved.
    """

    views: list[View]
    points: np.ndarray
    reprojection_error: float
    failed: dict[str, str] = field(default_factory=dict)
    still_share: float | None = None
