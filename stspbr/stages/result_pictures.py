"""One picture of a finished run: photographs that were held out, what the asset shows there, and its channels."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from stspbr.artifacts import Artifact
from stspbr.colour import linear_to_srgb
from stspbr.files import atomic_path
from stspbr.render.blocks import render_view
from stspbr.report.contact_sheet import contact_sheet
from stspbr.stages.baked_problem import reopened
from stspbr.stages.session import Session

RESULT = "result.png"
"""The picture's name in a run."""
_SHOWN = 4
_COLUMNS = ["photograph", "result", "albedo", "roughness", "metallic", "normal"]


def write_result(session: Session, asset: Artifact, path: Path) -> Path:
    """Write a PNG with a row per view: up to four held-out ones, or training views if none was held out.

    Args:
        asset: a bake, or its refinement.
    """
    _, problem = reopened(session, asset)
    views = problem.held_out or problem.views
    chosen = np.unique(np.linspace(0, len(views) - 1, _SHOWN).round().astype(int)).tolist()
    light = problem.light.prefiltered()
    rows, names = [], []
    for number in chosen:
        frame = views.frame(number, whole=not views.crop)
        pose = views.poses[number]
        found = render_view(frame.camera, pose, lambda batch: problem.render(batch, light), views.device)
        shown = problem.photographed(frame, found["rgb"], found["alpha"])
        pictures = [
            linear_to_srgb(np.clip(frame.image, 0.0, 1.0)),
            linear_to_srgb(np.clip(shown, 0.0, 1.0)),
            linear_to_srgb(np.clip(found["albedo"], 0.0, 1.0)),
            found["roughness"],
            found["metallic"],
            0.5 * (found["normal"] + found["alpha"]),
        ]
        rows.append(cut([np.asarray(picture) for picture in pictures], found["alpha"], frame.alpha))
        names.append(frame.name)
    with atomic_path(path) as temporary:
        contact_sheet(rows, names, _COLUMNS, temporary, cell=256)
    return path


def cut(pictures: list[np.ndarray], *covers: np.ndarray) -> list[np.ndarray]:
    """All pictures cut to the object with a little space about it."""
    covered = np.logical_or.reduce([cover[..., 0] > 0.5 for cover in covers])
    if not covered.any():
        return pictures
    height, width = covered.shape
    rows, columns = (np.flatnonzero(covered.any(axis=axis)) for axis in (1, 0))
    space = max(2, round(0.05 * max(np.ptp(rows), np.ptp(columns))))
    part = (slice(max(rows[0] - space, 0), min(rows[-1] + space + 1, height)),
            slice(max(columns[0] - space, 0), min(columns[-1] + space + 1, width)))  # fmt: skip
    return [picture[part] for picture in pictures]
