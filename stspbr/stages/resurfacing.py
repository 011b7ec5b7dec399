"""A learned surface in new triangles: before its reflectance is specialised, and before it is unwrapped."""

from __future__ import annotations

import numpy as np

from stspbr.errors import StspbrError
from stspbr.geometry.remesh import LEAST_BUDGET, Remeshed, remesh
from stspbr.geometry.topology import mesh_report
from stspbr.scene import Mesh
from stspbr.texture.cleanup import clean


def cleaned(mesh: Mesh, target_faces: int | None) -> tuple[np.ndarray, np.ndarray, dict]:
    """``clean`` of a learned mesh: positions, faces, report.

    Raises:
        StspbrError: no face is left.
    """
    positions, faces, report = clean(mesh.positions, mesh.faces, target_faces)
    if len(faces) == 0:
        raise StspbrError("the mesh is empty after clean-up: the coarse stage found no solid surface; check the masks")
    return positions, faces, report


def remeshed(mesh: Mesh, target_faces: int) -> tuple[Remeshed, Mesh, dict]:
    """A learned mesh, cleaned, in at most ``target_faces`` triangles, and no more than it had.

    Returns:
        What ``remesh`` made; the cleaned mesh before that; the report of ``clean``, with that of the remeshing under
        ``remesh``.

    Raises:
        StspbrError: no face is left.
    """
    positions, faces, report = cleaned(mesh, None)
    # more triangles than the source has would show nothing more
    made = remesh(positions, faces, max(min(target_faces, len(faces)), LEAST_BUDGET))
    report |= {"remesh": made.report | {"split_edges": 0}, "after": mesh_report(made.positions, made.faces)}
    return made, Mesh(positions, faces), report
