"""Parts of the surface that no mask shows: what stood where nothing is known, and so was never told to go."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch

from stspbr.geometry.topology import face_components, keep_faces
from stspbr.render.gbuffer import render_gbuffer
from stspbr.scene import Mesh

if TYPE_CHECKING:
    from stspbr.optimize.reconstruction import Reconstruction

_COVERED = 0.5  # coverage of a pixel that shows the object
_SPECK = 0.001  # of a view's object pixels: fewer show no part


@torch.no_grad()
def without_unshown(problem: Reconstruction, mesh: Mesh) -> tuple[Mesh, int]:
    """The mesh without the parts that are in front on hardly any pixel of a mask, and how many these are.

    Only views with pixels that are unknown can keep such a part; without any, the mesh is returned as it is.

    Args:
        problem: its training views; the mesh is its surface at this time.
    """
    part = face_components(mesh.faces)
    if len(np.unique(part)) < 2:
        return mesh, 0
    views, surface = problem.views, problem.geometry.surface()
    shown, unknown = np.zeros(part.max() + 1, bool), False
    for number in range(len(views)):
        batch, targets = views.batch([number])
        buffer = render_gbuffer(surface, problem.seen(batch, [number]), problem.backend)
        alpha = targets.alpha.reshape(-1)
        if targets.known is not None:
            known = targets.known.reshape(-1)
            unknown |= bool((known < 1).any())
            alpha = alpha * known
        front = buffer.triangle[alpha[buffer.covered] > _COVERED].cpu().numpy()
        counts = np.bincount(part[front], minlength=len(shown))
        shown |= counts > _SPECK * float((alpha > _COVERED).sum())
    kept = shown[part]
    if not unknown or kept.all() or not kept.any():
        return mesh, 0
    positions, faces = keep_faces(mesh.positions, mesh.faces, kept)
    return Mesh(positions, faces), int((~shown[np.unique(part)]).sum())
