"""Frames of a capture from undistorted photos: those whose mask holds, in the object's own frame of reference."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from stspbr.datasets.posed_images import held_out
from stspbr.datasets.validation import pixel_findings
from stspbr.errors import StspbrError
from stspbr.photos.carried_masks import object_points
from stspbr.photos.consensus_hull import pixels_of
from stspbr.photos.object_frame import ObjectFrame, moved_camera, object_frame
from stspbr.photos.shots import Shot, UnpackedMasks
from stspbr.scene.object_sphere import mask_summary
from stspbr.scene.stored_frame import StoredFrame

_LEAST_AREA = 1e-4  # share of the picture that the object must cover


def chosen_shots(shots: list[Shot], points: np.ndarray, failed: dict[str, str]) -> list[Shot]:
    """The shots, looked at, whose mask shows the object.

    Args:
        points: ``[P, 3]`` sparse points in the world of the poses.
        failed: receives the reasons for the others.

    Raises:
        StspbrError: fewer than three are left.
    """
    count = len(shots) + len(failed)
    good = []
    for shot in shots:
        if shot.covered.unpacked().mean() < _LEAST_AREA:
            failed[shot.view.name] = "its mask is empty: the object is not in it"
        elif shot.view.name not in failed:
            good.append(shot)
    known = points[object_points(good, UnpackedMasks(good), points)]
    for shot in list(good):
        # all of the object's points project into its mask, whether seen or not; an object without texture has none
        columns, rows, visible = pixels_of(known, shot.camera)
        if len(known) and not shot.covered.unpacked()[rows[visible], columns[visible]].any():
            failed[shot.view.name] = "its mask touches no point of the object: it covers something else"
            good.remove(shot)
    if len(good) < 3:
        reason = next(iter(failed.items()), ("", "no masks"))
        first = f"the first that failed is {reason[0]}: {reason[1]}"
        raise StspbrError(f"{len(good)} of {count} photos have a pose and a mask, at least 3 are needed; {first}")
    return good


def place_object(shots: list[Shot], points: np.ndarray) -> ObjectFrame:
    """The object's own frame, from masks and sparse points ``[P, 3]``."""
    masks = UnpackedMasks(shots)
    return object_frame([shot.camera for shot in shots], masks, points, object_points(shots, masks, points))


def stored_frames(
    shots: list[Shot], world_from_original: np.ndarray, hold_out_every: int, notes: list[str]
) -> list[StoredFrame]:
    """A frame of each shot, whose pixels stay in the photo's file.

    Args:
        world_from_original: ``[4, 4]`` similarity into the object's frame.
        hold_out_every: every so many frames one is held out; 0, or of three frames: none.
        notes: receives remarks for people.
    """
    exposures = [shot.photo.exif.exposure for shot in shots]
    if any(exposures) and not all(exposures):
        silent = sum(not exposure for exposure in exposures)
        notes.append(f"{silent} of {len(shots)} photos have no exposure data: exposure is ignored")
        exposures = [None] * len(shots)
    splits = held_out([shot.view.name for shot in shots], hold_out_every if len(shots) > 3 else 0)
    return [
        StoredFrame(
            shot.view.name,
            replace(shot.camera, camera_to_world=moved_camera(shot.camera, world_from_original)),
            shot.pixels,
            shot.file_pixels,
            (mask_summary, pixel_findings),
            split=split,
            saturation=1.0,
            exposure=exposure,
        ).with_summaries({mask_summary: shot.summary})
        for shot, exposure, split in zip(shots, exposures, splits, strict=True)
    ]
