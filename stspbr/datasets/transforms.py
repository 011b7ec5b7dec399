"""Captures as nerfstudio has them: a folder with ``transforms.json``, images, and masks or alpha.

Our additions to the format, all optional: per frame ``object_to_world`` (4×4, rigid), ``split`` (``"train"`` or
``"test"``), ``saturation``, ``exposure`` (relative, linear) or else ``exposure_time`` (seconds), ``iso`` and
``f_number`` together, ``white_balance`` (the three gains that the camera applied), and ``divided_by`` (three factors
that were divided out of the image already); for the file ``environment``
(a lat-long HDR or EXR: the known light, in the convention of :mod:`stspbr.scene.light` about +Y), ``near``, ``far``,
``up_axis`` and ``original_from_world`` (a 4×4 similarity: puts what is made from this capture back into the world that
its poses came in).

Lenses are per file or per frame: ``camera_model`` (OPENCV with k1, k2, k3, p1, p2; FULL_OPENCV with k1 … k6, p1, p2;
OPENCV_FISHEYE or ``is_fisheye`` with k1 … k4; or another of COLMAP's by its own names). Images are undistorted when
they are read; where every coefficient is 0 they are taken as they are.

nerfstudio's world is Z-up, ours is +Y up. Without ``"up_axis": "y"`` cameras and object poses are turned by −90°
about X, (x, y, z) → (x, z, −y); nothing later turns them back. What is written says ``"up_axis": "y"``.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from stspbr.datasets.json_frames import matrix_of, posix, read_entries, read_frames, read_json
from stspbr.datasets.json_lens import Json
from stspbr.datasets.mask_files import mask_folder
from stspbr.datasets.posed_images import HOLD_OUT_EVERY, held_out, warn_of_unlisted
from stspbr.datasets.validation import Log, checked
from stspbr.datasets.world_axes import original, tilt, y_up_from
from stspbr.errors import StspbrError
from stspbr.formats.choices import USUAL, FileChoices
from stspbr.formats.images import image_size
from stspbr.formats.lights import read_light
from stspbr.notes import Notes
from stspbr.scene.capture import Capture
from stspbr.scene.light import turned_light

_TILTED = 30.0  # degrees; cameras that look down from one side only are tilted, too


def read_transforms(
    path: str | Path,
    on_warning: Log = None,
    *,
    up: str = "auto",
    masks: str | None = None,
    hold_out_every: int = HOLD_OUT_EVERY,
    stream: Log = None,
    choices: FileChoices = USUAL,
) -> Capture:
    """Read and check a capture.

    Alpha is the image's own or the mask of ``mask_path`` (black: not the object), of both the smaller. Frames are split
    by their ``split`` key, else by the lists ``train_filenames``, ``val_filenames`` and ``test_filenames`` (validation
    counts as held out, frames in no list are left out), else every 8th in the order of names is held out.

    Args:
        path: the folder, or the JSON file itself.
        masks: a folder of masks for the frames without ``mask_path``.
        on_warning, up, hold_out_every, stream, choices: see :func:`stspbr.datasets.captures.read_capture`.

    Raises:
        StspbrError: anything missing, broken or contradictory; a lens that no pinhole image can replace.
    """
    path = Path(path)
    path = path / "transforms.json" if path.is_dir() else path
    content, entries, names = read_entries(path)
    own_up = content.get("up_axis", "z")
    if own_up not in ("y", "z"):
        raise StspbrError(f"{path}: up_axis is {own_up!r}: it must be y or z")
    rotation = _upright(path, content, entries, names, up, own_up, on_warning)
    splits = _splits(path, content, entries, names, hold_out_every)
    warn_of_unlisted(names, splits, on_warning)
    chosen = [(entry, name, split) for entry, name, split in zip(entries, names, splits, strict=True) if split]
    folder = None if masks is None else mask_folder(path.parent, masks)
    light = None
    with Notes.into(on_warning) as notes:
        frames = read_frames(
            path, content, chosen, rotation=rotation, masks=folder, stream=stream, choices=choices, notes=notes
        )
        if content.get("environment"):
            light = read_light(path.parent / content["environment"], notes=notes)
            light = turned_light(light, (rotation @ y_up_from(f"+{own_up}").T)[:3, :3])
    back = _similarity(path, content)
    back = original(rotation) if back is None else back @ rotation.T
    return checked(Capture(frames, light, back), on_warning)


def frame_sizes(path: Path) -> tuple[int, int, int]:
    """Number of frames in a ``transforms.json``, and width and height of the largest image; none is decoded."""
    content, entries, names = read_entries(path)
    sizes = set()
    for entry, name in zip(entries, names, strict=True):
        own = {**content, **entry}
        known = "w" in own and "h" in own
        sizes.add((int(own["w"]), int(own["h"])) if known else image_size(path.parent / name))
    return len(entries), *max(sizes, key=lambda size: size[0] * size[1])


def _upright(
    path: Path, content: Json, entries: list[Json], names: list[str], up: str, own_up: str, on_warning: Log
) -> np.ndarray:
    """``[4, 4]`` from the file's world to +Y up.

    ``applied_transform`` is what ns-process-data leaves with poses of COLMAP, whose world has no up axis: it is put
    upright by the cameras, as nerfstudio does when it loads such a file.
    """
    if up != "auto":
        return y_up_from(up)
    poses = [matrix_of(name, entry, "transform_matrix") for entry, name in zip(entries, names, strict=True)]
    rotation = y_up_from(f"+{own_up}")
    angle = tilt(rotation, poses)
    own = "up_axis" in content
    if angle < 1.0 or own or not np.isfinite(angle):
        return rotation
    if "applied_transform" in content:
        if on_warning is not None:
            on_warning(
                f"the world is put upright by the cameras' mean, {angle:.0f} degrees from its +Z: "
                "if +Z is up, give +z with up"
            )
        return y_up_from("auto", poses, on_warning)
    if angle > _TILTED and on_warning is not None:
        on_warning(
            f"the cameras' mean up axis is {angle:.0f} degrees from +Z, which counts as up: "
            f"if the world of {path.name} is not upright, give its axis with up"
        )
    return rotation


def original_from_world(path: Path) -> np.ndarray | None:
    """The similarity ``[4, 4]`` of a ``transforms.json`` back to the world that its poses came in; None without one."""
    return _similarity(path, read_json(path))


def _similarity(path: Path, content: Json) -> np.ndarray | None:
    """``original_from_world`` ``[4, 4]``: rotation, uniform scale and translation; None where the file is silent."""
    if "original_from_world" not in content:
        return None
    try:
        matrix = np.asarray(content["original_from_world"], np.float64)
        square = matrix[:3, :3] @ matrix[:3, :3].T
        sound = matrix.shape == (4, 4) and np.isfinite(matrix).all() and np.linalg.det(matrix[:3, :3]) > 0
        sound = sound and np.allclose(square, np.eye(3) * square[0, 0], rtol=0, atol=1e-4 * square[0, 0])
        sound = sound and np.allclose(matrix[3], (0, 0, 0, 1))
    except (ValueError, TypeError, IndexError):
        sound = False
    if not sound:
        raise StspbrError(f"{path}: original_from_world is not a 4x4 similarity: export it again, or remove it")
    return matrix


def _splits(path: Path, content: Json, entries: list[Json], names: list[str], hold_out_every: int) -> list[str | None]:
    """``"train"``, ``"test"`` or None (left out) for each frame."""
    if any("split" in entry for entry in entries):
        lost = next((name for entry, name in zip(entries, names, strict=True) if "split" not in entry), None)
        if lost is not None:
            raise StspbrError(f"{path}: frame {lost} has no split, others have: give it to all frames or to none")
        return ["test" if entry["split"] == "val" else entry["split"] for entry in entries]
    keys = ("train_filenames", "val_filenames", "test_filenames")
    if any(key in content for key in keys):
        listed = [{posix(str(name)) for name in content.get(key, [])} for key in keys]
        own = [{posix(entry["file_path"]), name} for entry, name in zip(entries, names, strict=True)]
        return ["train" if o & listed[0] else "test" if o & (listed[1] | listed[2]) else None for o in own]
    return list(held_out(names, hold_out_every))
