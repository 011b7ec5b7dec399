"""LLFF data sets: ``poses_bounds.npy`` with a row for each file in ``images/``, in the order of names.

A row has 17 numbers: a 3×5 matrix, row by row, whose columns are the camera's axes (down, right, back) and centre in
the world, and (height, width, focal length); then the nearest and the farthest depth. The principal point is the
image's middle, pixels are square, and there is no distortion. The world is that of the SfM tool: no up axis, no scale.
"""

from __future__ import annotations

import re
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np

from stspbr.datasets.fitting import centred, folded
from stspbr.datasets.frame_files import flat_name, image_suffix, warn_of_clipping, write_images
from stspbr.datasets.lens import Lens, lens, resized_lens
from stspbr.datasets.mask_files import find_masks, mask_folder
from stspbr.datasets.posed_images import (
    HOLD_OUT_EVERY,
    PosedImage,
    held_out,
    listed_splits,
    read_posed_images,
    warn_of_unlisted,
    with_clip_planes,
)
from stspbr.datasets.validation import Log, checked
from stspbr.datasets.world_axes import folder_light, original, y_up_from
from stspbr.errors import StspbrError, first_line
from stspbr.files import atomic_path, write_file
from stspbr.formats.choices import USUAL, FileChoices
from stspbr.formats.images import IMAGE_SUFFIXES, write_exr
from stspbr.notes import Notes
from stspbr.scene.capture import Capture, Frame
from stspbr.scene.object_sphere import estimate_object_sphere


def read_llff(
    folder: str | Path,
    on_warning: Log = None,
    *,
    up: str = "auto",
    masks: str | None = None,
    hold_out_every: int = HOLD_OUT_EVERY,
    stream: Log = None,
    choices: FileChoices = USUAL,
) -> Capture:
    """Read and check an LLFF data set.

    Images that were resampled after the poses had been made get the focal length that belongs to their size. Masks and
    held-out images are found as :func:`stspbr.datasets.colmap.read_colmap` finds them (``test_id.txt``). For the
    arguments see :func:`stspbr.datasets.captures.read_capture`.

    Raises:
        StspbrError: no ``poses_bounds.npy``, or not one row for each image; and what the checks find.
    """
    folder = Path(folder)
    rows = _read_rows(folder / "poses_bounds.npy")
    pictures = folder / "images"
    files = sorted(p.name for p in pictures.glob("*") if p.suffix.lower() in IMAGE_SUFFIXES and p.name[0] != ".")
    if len(files) != len(rows):
        raise StspbrError(
            f"{pictures} contains {len(files)} images, but {folder / 'poses_bounds.npy'} has {len(rows)} poses: they "
            "are matched in the order of names, so the counts must be equal"
        )
    natural = sorted(files, key=_natural)
    if natural != files and on_warning is not None:
        first = next(k for k, (a, b) in enumerate(zip(files, natural, strict=True)) if a != b)
        on_warning(
            f"images belong to the poses in the order of bytes, in which {files[first]} comes before {natural[first]}: "
            "if the poses were made in the order of numbers or whatever the case, rename the images so that both agree"
        )
    camera_to_world = [_camera_to_world(row) for row in rows]
    rotation = y_up_from(up, camera_to_world, on_warning)
    splits = listed_splits(files, folder / "train_id.txt", folder / "test_id.txt") or held_out(files, hold_out_every)
    warn_of_unlisted(files, splits, on_warning)
    mask_place = mask_folder(folder, masks)
    mask_files = find_masks(mask_place, files)
    items = [
        PosedImage(
            name=f"images/{file}",
            image=pictures / file,
            lens=_lens_of(row, f"frame images/{file}"),
            camera_to_world=rotation @ pose,
            split=split,
            mask=mask_files.get(file),
        )
        for file, row, pose, split in zip(files, rows, camera_to_world, splits, strict=True)
        if split is not None
    ]
    with Notes.into(on_warning) as notes:
        frames = with_clip_planes(read_posed_images(items, mask_place, stream, choices=choices, notes=notes))
        light = folder_light(folder, rotation, notes)
    return checked(Capture(frames, light, original(rotation)), on_warning)


def write_llff(folder: str | Path, capture: Capture, image_format: str = "png", on_warning: Log = None) -> Path:
    """Write an LLFF data set: images of one size, ``poses_bounds.npy``, and ``train_id.txt`` and ``test_id.txt``.

    The world is ours, +Y up: read it again with ``up="+y"``. The depths are those of a sphere about the object.

    Args:
        image_format: see :func:`stspbr.datasets.frame_files.write_images`.

    Returns:
        The path of ``poses_bounds.npy``, which is written last.

    Raises:
        StspbrError: see :func:`stspbr.datasets.fitting.centred`.
    """
    folder, capture = Path(folder), folded(capture, on_warning)
    frames = centred(capture.frames, "llff", on_warning, one_focal=False)
    warn_of_clipping(frames, image_format, on_warning)
    focals = [frame.camera.fx for frame in frames]
    if max(focals) > min(focals) * (1 + 1e-6) and on_warning is not None:
        on_warning(f"focal lengths reach from {min(focals):g} to {max(focals):g}: most LLFF readers take one for all")
    taken: set[str] = set()
    named = sorted(zip((flat_name(f.name, taken) + image_suffix(image_format) for f in frames), frames, strict=True),
                   key=lambda item: item[0])  # fmt: skip
    write_images(folder, [frame for _, frame in named], [f"images/{name}" for name, _ in named], image_format)
    if capture.light is not None:
        write_exr(folder / "environment.exr", capture.light.radiance)
    for split in ("train", "test"):
        write_file(folder / f"{split}_id.txt", "".join(f"{name}\n" for name, frame in named if frame.split == split))
    sphere = estimate_object_sphere(frames)
    rows = np.stack([_row(frame, sphere) for _, frame in named])
    with atomic_path(folder / "poses_bounds.npy") as temporary:
        np.save(temporary, rows)
    return folder / "poses_bounds.npy"


def _read_rows(path: Path) -> np.ndarray:
    try:
        rows = np.load(path, mmap_mode="r", allow_pickle=False)  # a header that claims more than there is fails at once
    except FileNotFoundError:
        raise StspbrError(f"{path} does not exist: check the path") from None
    except (OSError, ValueError, EOFError, OverflowError, zipfile.BadZipFile) as error:
        what = f"{path} is truncated or not an array of numbers ({first_line(error)})"
        raise StspbrError(f"{what}: make it again") from error
    if not isinstance(rows, np.ndarray):
        raise StspbrError(f"{path} is an archive, not one array of numbers: make it again")
    if rows.ndim != 2 or rows.shape[1] != 17 or not len(rows) or rows.dtype.kind not in "fiu":
        raise StspbrError(f"{path} has {rows.dtype} numbers of shape {rows.shape}, not [images, 17]: make it again")
    return rows.astype(np.float64)


def _natural(name: str) -> list[tuple[int, str]]:
    """A key that sorts img2 before IMG10."""
    parts = re.split(r"(\d+)", name.lower())
    return [(int(part), "") if k % 2 else (-1, part) for k, part in enumerate(parts)]


def _camera_to_world(row: np.ndarray) -> np.ndarray:
    matrix = row[:15].reshape(3, 5)
    out = np.eye(4)
    out[:3, 0], out[:3, 1], out[:3, 2], out[:3, 3] = matrix[:, 1], -matrix[:, 0], matrix[:, 2], matrix[:, 3]
    return out


def _lens_of(row: np.ndarray, where: str) -> Callable[[int, int], Lens]:
    h, w, focal = row[:15].reshape(3, 5)[:, 4]

    def of_size(width: int, height: int) -> Lens:
        if not np.isfinite([h, w]).all() or min(h, w) < 1:
            raise StspbrError(f"{where}: its pose is for {w:g}x{h:g} pixels: make poses_bounds.npy again")
        made = lens("SIMPLE_PINHOLE", (focal, w / 2, h / 2), round(w), round(h), where)
        return resized_lens(made, width, height, where)  # the format's images are often resampled ones

    return of_size


def _row(frame: Frame, sphere: tuple[np.ndarray, float] | None) -> np.ndarray:
    camera = frame.camera
    pose = np.asarray(camera.camera_to_world, np.float64)
    near, far = camera.near, camera.far
    if sphere is not None:
        depth = float((camera.world_to_camera @ np.append(sphere[0], 1.0))[2] * -1.0)
        near, far = max(depth - sphere[1], 0.01 * depth), depth + sphere[1]
    size = (camera.height, camera.width, camera.fx)
    matrix = np.stack([-pose[:3, 1], pose[:3, 0], pose[:3, 2], pose[:3, 3], size], axis=1)
    return np.concatenate([matrix.ravel(), (near, far)])
