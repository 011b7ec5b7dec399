"""NeRF-synthetic folders: ``transforms_train.json``, ``transforms_test.json``, ``transforms_val.json``.

Blender's world is Z-up and is turned to +Y up (see :mod:`stspbr.datasets.transforms`); PNG alpha is straight. The
format holds one field of view for all images, square pixels, and a principal point in the middle.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from stspbr.datasets.fitting import centred, folded
from stspbr.datasets.frame_files import flat_name, image_suffix, warn_of_clipping, write_images
from stspbr.datasets.json_frames import read_entries, read_frames, write_json
from stspbr.datasets.mask_files import mask_folder
from stspbr.datasets.validation import Log, checked
from stspbr.datasets.world_axes import folder_light, original, y_up_from
from stspbr.formats.choices import USUAL, FileChoices
from stspbr.formats.images import write_exr
from stspbr.notes import Notes
from stspbr.scene.capture import Capture, Frame


def read_nerf_synthetic(
    folder: str | Path,
    on_warning: Log = None,
    *,
    include_val: bool = False,
    up: str = "auto",
    masks: str | None = None,
    stream: Log = None,
    choices: FileChoices = USUAL,
) -> Capture:
    """Read and check a NeRF-synthetic capture.

    Args:
        folder: contains the JSON files, the images that they name, and ``environment.exr`` if the light is known.
        include_val: take the validation frames, too, as held-out ones.
        up: the world's up axis; ``"auto"`` is Blender's, +Z.
        on_warning, masks, stream, choices: see :func:`stspbr.datasets.captures.read_capture`.

    Raises:
        StspbrError: no training file, or anything missing, broken or contradictory.
    """
    folder = Path(folder)
    rotation = y_up_from("+z" if up == "auto" else up)
    files = {"train": "train", "test": "test"} | ({"val": "test"} if include_val else {})
    place = None if masks is None else mask_folder(folder, masks)
    frames: list[Frame] = []
    with Notes.into(on_warning) as notes:
        for name, split in files.items():
            path = folder / f"transforms_{name}.json"
            if not path.exists() and name != "train":
                continue
            content, entries, names = read_entries(path)
            chosen = [(entry, file, split) for entry, file in zip(entries, names, strict=True)]
            frames += read_frames(
                path, content, chosen, rotation=rotation, masks=place, stream=stream, choices=choices, notes=notes
            )
        # The light's axes are those that Blender's world has when it is turned to +Y up.
        light = folder_light(folder, rotation @ y_up_from("+z").T, notes)
    return checked(Capture(frames, light, original(rotation)), on_warning)


def write_nerf_synthetic(
    folder: str | Path, capture: Capture, image_format: str = "png", on_warning: Log = None
) -> Path:
    """Write a data set as NeRF's Blender scenes are: ``train/`` and ``test/`` with their JSON files, Z-up.

    What is held out is written as validation, too, because most readers want that file. A known light goes along as
    ``environment.exr``, whose axes are ours after the world is turned back to +Y up: its zenith is the file's +Z, its
    middle +Y.

    Args:
        image_format: see :func:`stspbr.datasets.frame_files.write_images`; readers elsewhere take ``"png"`` only.

    Returns:
        The path of ``transforms_train.json``, which is written last.

    Raises:
        StspbrError: see :func:`stspbr.datasets.fitting.centred`.
    """
    folder, capture = Path(folder), folded(capture, on_warning)
    frames = centred(capture.frames, "nerf", on_warning, one_focal=True)
    warn_of_clipping(frames, image_format, on_warning)
    taken: set[str] = set()
    names = [f"{frame.split}/{_own_name(frame, taken)}" for frame in frames]
    write_images(folder, frames, [name + image_suffix(image_format) for name in names], image_format)
    if capture.light is not None:
        write_exr(folder / "environment.exr", capture.light.radiance)
    to_z_up = y_up_from("+z").T
    for file in ("test", "val", "train"):
        split = "train" if file == "train" else "test"
        entries: list[dict[str, Any]] = [
            {"file_path": f"./{name}", "transform_matrix": (to_z_up @ frame.camera.camera_to_world).tolist()}
            for name, frame in zip(names, frames, strict=True)
            if frame.split == split
        ]
        camera = frames[0].camera
        angle = 2.0 * math.atan(0.5 * camera.width / camera.fx)
        if entries:
            write_json(folder / f"transforms_{file}.json", {"camera_angle_x": angle, "frames": entries})
        elif file == "test" and on_warning is not None:
            on_warning("no held-out frames: transforms_test.json and transforms_val.json are not written")
    return folder / "transforms_train.json"


def _own_name(frame: Frame, taken: set[str]) -> str:
    """The frame's flat name without the folder of its split, which it gets anew."""
    return flat_name(frame.name.removeprefix("./").removeprefix(f"{frame.split}/"), taken)
