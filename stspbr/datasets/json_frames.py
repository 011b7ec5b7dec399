"""Frames that a JSON file lists with their poses and lenses, whoever's dialect the rest of the file is."""

from __future__ import annotations

import functools
import json
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

import numpy as np

from stspbr.datasets.exposure_keys import read_exposure
from stspbr.datasets.json_lens import Json, json_lens
from stspbr.datasets.mask_files import find_masks
from stspbr.datasets.posed_images import PosedImage, read_posed_images
from stspbr.datasets.validation import Log
from stspbr.datasets.world_axes import turned_pose
from stspbr.errors import StspbrError
from stspbr.files import find_file, read_file, write_file
from stspbr.formats.choices import USUAL, FileChoices
from stspbr.formats.images import IMAGE_SUFFIXES
from stspbr.notes import Notes, first_few
from stspbr.scene.capture import Frame


def read_json(path: Path) -> Json:
    """A JSON object from a file; StspbrError if it is missing or broken."""
    try:
        content = json.loads(read_file(path))
    except ValueError as error:
        raise StspbrError(f"{path} is truncated or not JSON ({error}): export or copy it again") from error
    if not isinstance(content, dict):
        raise StspbrError(f"{path} is not a JSON object: export it again")
    return content


def write_json(path: Path, content: Json) -> None:
    """Write a JSON object beside ``path`` and rename it into place."""
    write_file(path, json.dumps(content, indent=1, allow_nan=False) + "\n")


def read_entries(path: Path) -> tuple[Json, list[Json], list[str]]:
    """The content of a JSON file, the entries of its ``frames``, and their images by :func:`frame_files`."""
    content = read_json(path)
    entries = content.get("frames")
    if not isinstance(entries, list) or not entries:
        raise StspbrError(f"{path} has no frames: check the file")
    return content, entries, frame_files(path, entries)


def frame_files(path: Path, entries: Sequence[Json]) -> list[str]:
    """The images of the frames relative to the folder of ``path``; suffixes that the entries leave out are found."""
    names, missing = [], []
    for entry in entries:
        if not isinstance(entry, dict) or not isinstance(entry.get("file_path"), str):
            raise StspbrError(f"{path}: a frame has no file_path: export it again")
        name = posix(entry["file_path"])
        found = find_file(*(path.parent / each for each in (name, *(name + s for s in IMAGE_SUFFIXES))))
        names.append((PurePosixPath(name).parent / found.name).as_posix() if found else name)
        missing += [] if found else [name]
    if missing:
        more = f" (nor do {first_few(missing[1:])} more of {len(names)} images)" if missing[1:] else ""
        place = path.parent / missing[0]
        raise StspbrError(f"frame {missing[0]}: {place} does not exist{more}: check file_path in {path}")
    return names


def read_frames(
    path: Path,
    content: Json,
    chosen: Sequence[tuple[Json, str, str]],
    *,
    rotation: np.ndarray,
    masks: Path | None = None,
    stream: Log = None,
    choices: FileChoices = USUAL,
    notes: Notes | None = None,
) -> list[Frame]:
    """The frames ``(entry, file, split)`` of one JSON file.

    Args:
        rotation: ``[4, 4]``, from the file's world to ours.
        masks: a folder for the masks of frames without ``mask_path``.
        stream, choices, notes: see :func:`stspbr.datasets.posed_images.read_posed_images`.
    """
    found = {} if masks is None else find_masks(masks, [file for _, file, _ in chosen])

    def mask_of(entry: Json, file: str) -> Path | None:
        if not entry.get("mask_path"):
            return found.get(file)
        place = path.parent / posix(str(entry["mask_path"]))
        return find_file(place) or place

    images = [_posed_image(path, content, *item, rotation, mask_of(*item[:2]), notes) for item in chosen]
    return read_posed_images(images, masks, stream, choices=choices, notes=notes)


def _posed_image(
    path: Path,
    content: Json,
    entry: Json,
    file: str,
    split: str,
    rotation: np.ndarray,
    mask: Path | None,
    notes: Notes | None,
) -> PosedImage:
    keys = {**content, **entry}
    object_to_world = matrix_of(file, entry, "object_to_world") if "object_to_world" in entry else np.eye(4)
    try:
        planes: dict[str, float] = {key: float(keys[key]) for key in ("near", "far") if key in keys}
        fields = {"saturation": float(entry["saturation"])} if "saturation" in entry else {}
        fields |= read_exposure(file, keys)
    except (TypeError, ValueError) as error:
        raise StspbrError(f"frame {file}: its camera has a value that is no number ({error}): fix it") from error
    return PosedImage(
        name=file,
        image=path.parent / file,
        lens=functools.partial(json_lens, keys, file, notes),
        camera_to_world=rotation @ matrix_of(file, entry, "transform_matrix"),
        split=split,
        mask=mask,
        object_to_world=turned_pose(rotation, object_to_world),
        planes=planes,
        fields=fields,
    )


def matrix_of(file: str, entry: Json, key: str) -> np.ndarray:
    """The ``[4, 4]`` matrix under ``key`` of a frame; a ``[3, 4]`` one gets its last row. StspbrError otherwise."""
    try:
        matrix = np.asarray(entry[key], np.float64)
    except (KeyError, ValueError, TypeError):
        raise StspbrError(f"frame {file}: {key} is missing or not a matrix: export the poses again") from None
    if matrix.shape == (3, 4):
        matrix = np.concatenate([matrix, [[0.0, 0.0, 0.0, 1.0]]])
    if matrix.shape != (4, 4):
        raise StspbrError(f"frame {file}: {key} has shape {matrix.shape}, not 4x4: export the poses again")
    return matrix


def posix(name: str) -> str:
    """A path of the file with slashes: Windows tools write backslashes."""
    return PurePosixPath(name.replace("\\", "/")).as_posix()
