"""Captures written as folders with ``transforms.json``: for us with all that we know, for others in their keys."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np

from stspbr.datasets.exposure_keys import exposure_keys
from stspbr.datasets.fitting import folded
from stspbr.datasets.frame_files import flat_name, frame_path, image_suffix, warn_of_clipping, write_images
from stspbr.datasets.json_frames import write_json
from stspbr.datasets.json_lens import Json
from stspbr.datasets.validation import Log
from stspbr.datasets.world_axes import y_up_from
from stspbr.formats.images import write_exr
from stspbr.scene.camera import Camera
from stspbr.scene.capture import Capture


def write_transforms(folder: str | Path, capture: Capture, image_format: str = "exr") -> Path:
    """Write a capture: images with alpha, ``environment.exr`` where the light is known, and ``transforms.json``.

    Args:
        image_format: see :func:`stspbr.datasets.frame_files.write_images`.

    Returns:
        The path of ``transforms.json``, which is written last.
    """
    folder = Path(folder)
    files = [frame_path(frame.name, image_suffix(image_format)) for frame in capture.frames]
    content: Json = {"camera_model": "PINHOLE", "up_axis": "y"}
    return _write(folder, capture, files, content, image_format)


def write_nerfstudio(folder: str | Path, capture: Capture, image_format: str = "png", on_warning: Log = None) -> Path:
    """Write a data set for nerfstudio and whatever reads its ``transforms.json``.

    As :func:`write_transforms`, but in keys that others know: the world is Z-up, object poses are folded into the
    cameras, and the splits are file lists (validation is what is held out).

    Returns:
        The path of ``transforms.json``, which is written last.
    """
    folder, capture = Path(folder), folded(capture, on_warning)
    warn_of_clipping(capture.frames, image_format, on_warning)
    taken: set[str] = set()
    files = [f"images/{flat_name(frame.name, taken)}{image_suffix(image_format)}" for frame in capture.frames]
    lists = {split: [f for f, frame in zip(files, capture.frames, strict=True) if frame.split == split]
             for split in ("train", "test")}  # fmt: skip
    content: Json = {"camera_model": "PINHOLE"}
    if lists["test"]:  # an empty list is an error there; without lists nerfstudio draws its own
        content |= {"train_filenames": lists["train"], "val_filenames": lists["test"], "test_filenames": lists["test"]}
    to_z_up = y_up_from("+z").T
    cameras = [replace(f.camera, camera_to_world=to_z_up @ f.camera.camera_to_world) for f in capture.frames]
    frames = [frame.with_fields(camera=camera) for frame, camera in zip(capture.frames, cameras, strict=True)]
    back = None if capture.original_from_world is None else capture.original_from_world @ to_z_up.T
    capture = replace(capture, frames=frames, original_from_world=back)
    return _write(folder, capture, files, content, image_format)


def _write(folder: Path, capture: Capture, files: list[str], content: Json, image_format: str) -> Path:
    unknown = write_images(folder, capture.frames, files, image_format)
    intrinsics = [_intrinsics(frame.camera) for frame in capture.frames]
    shared = bool(intrinsics) and all(item == intrinsics[0] for item in intrinsics)
    content |= intrinsics[0] if shared else {}
    if capture.light is not None:
        write_exr(folder / "environment.exr", capture.light.radiance)
        content["environment"] = "environment.exr"
    if capture.original_from_world is not None:
        content["original_from_world"] = np.asarray(capture.original_from_world, np.float64).tolist()
    content["frames"] = []
    for frame, file, own in zip(capture.frames, files, intrinsics, strict=True):
        entry = {"file_path": file, "split": frame.split, **({} if shared else own)}
        entry["transform_matrix"] = np.asarray(frame.camera.camera_to_world, np.float64).tolist()
        if not np.array_equal(frame.object_to_world, np.eye(4)):
            entry["object_to_world"] = np.asarray(frame.object_to_world, np.float64).tolist()
        if math.isfinite(frame.saturation):
            entry["saturation"] = float(frame.saturation)
        entry |= exposure_keys(frame)
        if file in unknown:
            entry["mask_path"] = unknown[file]
        content["frames"].append(entry)
    write_json(folder / "transforms.json", content)
    return folder / "transforms.json"


def _intrinsics(camera: Camera) -> dict[str, float]:
    keys = {"fl_x": camera.fx, "fl_y": camera.fy, "cx": camera.cx, "cy": camera.cy}
    out: dict[str, float] = {key: float(value) for key, value in keys.items()}
    out |= {"w": int(camera.width), "h": int(camera.height), "near": float(camera.near), "far": float(camera.far)}
    return out
