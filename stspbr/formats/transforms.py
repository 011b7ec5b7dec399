"""Captures as nerfstudio has them: a folder with ``transforms.json``, images, and masks or alpha.

Our additions to the format, all optional: per frame ``object_to_world`` (4×4, rigid), ``split`` (``"train"`` or
``"test"``) and ``saturation``; for the file ``environment`` (a lat-long HDR or EXR: the known light, in the
convention of :mod:`stspbr.scene.light` about +Y), ``near``, ``far``, ``up_axis`` and ``original_from_world`` (a 4×4
similarity: puts what is made from this capture back into the world that its poses came in).

nerfstudio's world is Z-up, ours is +Y up. Without ``"up_axis": "y"`` cameras and object poses are turned by −90°
about X, (x, y, z) → (x, z, −y); nothing later turns them back. What is written says ``"up_axis": "y"``.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from stspbr.errors import StspbrError
from stspbr.formats.capture_checks import checked
from stspbr.formats.images import (
    IMAGE_SUFFIXES,
    atomic_path,
    read_image,
    read_pixels,
    write_exr,
    write_png8,
    write_png16,
)
from stspbr.scene.camera import Camera
from stspbr.scene.capture import Capture, Frame
from stspbr.scene.light import EnvironmentLight
from stspbr.threads import available_cores

Y_UP_FROM_Z_UP = np.array([[1.0, 0, 0, 0], [0, 0, 1, 0], [0, -1, 0, 0], [0, 0, 0, 1]])
_DISTORTION = ("k1", "k2", "k3", "k4", "k5", "k6", "p1", "p2")
_HELD_OUT_EVERY = 8


def read_transforms(path: str | Path, on_warning: Callable[[str], None] | None = None) -> Capture:
    """Read and check a capture.

    Alpha is the image's own, times the mask of ``mask_path`` (black: not the object). Frames are split by their
    ``split`` key, else by the lists ``train_filenames``, ``val_filenames`` and ``test_filenames`` (validation
    counts as held out, frames in no list are left out), else every 8th in the order of names is held out.

    Args:
        path: the folder, or the JSON file itself.
        on_warning: called with each warning of :func:`stspbr.formats.capture_checks.check_capture`.

    Raises:
        StspbrError: anything missing, broken or contradictory; lens distortion that is not zero.
    """
    path = Path(path)
    path = path / "transforms.json" if path.is_dir() else path
    content = read_json(path)
    entries = content.get("frames")
    if not isinstance(entries, list) or not entries:
        raise StspbrError(f"{path} has no frames: check the file")
    up = content.get("up_axis", "z")
    if up not in ("y", "z"):
        raise StspbrError(f"{path}: up_axis is {up!r}: it must be y or z")
    names = [frame_file(path, entry) for entry in entries]
    splits = _splits(path, content, entries, names)
    chosen = [(entry, name, split) for entry, name, split in zip(entries, names, splits, strict=True) if split]
    frames = read_frames(path, content, chosen, z_up=up == "z")
    light = None
    if content.get("environment"):
        radiance, _, _ = read_image(path.parent / content["environment"])
        light = EnvironmentLight(radiance)
    back = _similarity(path, content)
    if back is not None and up == "z":
        back = back @ Y_UP_FROM_Z_UP.T
    return checked(Capture(frames, light, back), on_warning)


def write_transforms(folder: str | Path, capture: Capture, image_format: str = "exr") -> Path:
    """Write a capture: images with alpha, ``environment.exr`` where the light is known, and ``transforms.json``.

    Args:
        image_format: ``"exr"`` (linear half floats, or floats where radiance passes 65504), ``"exr32"`` (floats,
            exact), ``"png"`` or ``"png16"`` (sRGB of 8 or 16 bits, clipped at 1, straight alpha).

    Returns:
        The path of ``transforms.json``, which is written last.
    """
    folder = Path(folder)
    if image_format not in ("exr", "exr32", "png", "png16"):
        raise StspbrError(f"image format {image_format!r}: choose exr, exr32, png or png16")
    suffix = ".exr" if image_format.startswith("exr") else ".png"
    files = [_file_name(frame.name, suffix) for frame in capture.frames]
    if len({file.lower() for file in files}) != len(files):
        raise StspbrError(f"cannot write {folder}: two frames would have the same file name")

    def write(item: tuple[Frame, str]) -> None:
        _write_image(folder / item[1], item[0], image_format)

    with ThreadPoolExecutor(available_cores()) as pool:
        list(pool.map(write, zip(capture.frames, files, strict=True)))
    content: dict[str, Any] = {"camera_model": "PINHOLE", "up_axis": "y"}
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
        content["frames"].append(entry)
    with atomic_path(folder / "transforms.json") as temporary:
        temporary.write_text(json.dumps(content, indent=1, allow_nan=False) + "\n", "utf-8")
    return folder / "transforms.json"


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object from a file; StspbrError where it is missing or broken."""
    try:
        content = json.loads(path.read_bytes())
    except FileNotFoundError:
        raise StspbrError(f"{path} does not exist: check the path") from None
    except OSError as error:
        raise StspbrError(f"{path} cannot be read ({error.strerror}): check the path") from error
    except ValueError as error:
        raise StspbrError(f"{path} is truncated or no JSON ({error}): export or copy it again") from error
    if not isinstance(content, dict):
        raise StspbrError(f"{path} is not a JSON object: export it again")
    return content


def frame_file(path: Path, entry: dict[str, Any]) -> str:
    """The image of a frame relative to the folder of ``path``; a suffix that the entry leaves out is found."""
    if not isinstance(entry, dict) or not isinstance(entry.get("file_path"), str):
        raise StspbrError(f"{path}: a frame has no file_path: export it again")
    name = PurePosixPath(entry["file_path"].replace("\\", "/")).as_posix()
    for candidate in (name, *(name + suffix for suffix in IMAGE_SUFFIXES)):
        if (path.parent / candidate).is_file():
            return candidate
    raise StspbrError(f"frame {name}: {path.parent / name} does not exist: check file_path in {path}")


def read_frames(
    path: Path, content: dict[str, Any], chosen: Sequence[tuple[dict[str, Any], str, str]], *, z_up: bool
) -> list[Frame]:
    """The frames ``(entry, file, split)`` of one JSON file, images read in parallel."""

    def read(item: tuple[dict[str, Any], str, str]) -> Frame:
        return _read_frame(path, content, *item, z_up=z_up)

    with ThreadPoolExecutor(available_cores()) as pool:
        return list(pool.map(read, chosen))


def _read_frame(path: Path, content: dict[str, Any], entry: dict[str, Any], file: str, split: str, z_up: bool) -> Frame:
    image, alpha, saturation = read_image(path.parent / file)
    if entry.get("mask_path"):
        mask = read_pixels(path.parent / entry["mask_path"])[..., :1]
        if mask.shape[:2] != image.shape[:2]:
            (h, w), (mh, mw) = image.shape[:2], mask.shape[:2]
            raise StspbrError(f"frame {file}: its mask is {mw}x{mh}, the image {w}x{h}: export the mask again")
        image, alpha = image * mask, mask if alpha is None else alpha * mask
    if alpha is None:
        alpha = np.ones((*image.shape[:2], 1), np.float32)  # which the checks report as "no mask"
    camera_to_world = _matrix(file, entry, "transform_matrix")
    object_to_world = _matrix(file, entry, "object_to_world") if "object_to_world" in entry else np.eye(4)
    if z_up:
        camera_to_world = Y_UP_FROM_Z_UP @ camera_to_world
        object_to_world = Y_UP_FROM_Z_UP @ object_to_world @ Y_UP_FROM_Z_UP.T
    camera = _camera({**content, **entry}, file, image.shape[1], image.shape[0], camera_to_world)
    saturation = float(entry.get("saturation", saturation))
    return Frame(file, camera, image, alpha, object_to_world, split, saturation)


def _camera(keys: dict[str, Any], file: str, width: int, height: int, camera_to_world: np.ndarray) -> Camera:
    """The camera of a frame from its own keys over the file's; without w and h the image's size counts."""
    model = str(keys.get("camera_model", "PINHOLE")).upper()
    distorted = [key for key in _DISTORTION if keys.get(key)]
    if distorted or keys.get("is_fisheye") or "FISHEYE" in model or "EQUIRECT" in model:
        what = ", ".join(distorted) or model
        raise StspbrError(f"frame {file}: the camera has lens distortion ({what}): undistort the images first")
    try:
        width, height = int(keys.get("w", width)), int(keys.get("h", height))
        fx = _focal(keys, "fl_x", "camera_angle_x", width)
        fy = _focal(keys, "fl_y", "camera_angle_y", height)
        fx = fy if fx is None else fx
        fy = fx if fy is None else fy
        if fx is None:
            raise StspbrError(f"frame {file}: no focal length: give fl_x and fl_y, or camera_angle_x")
        cx, cy = float(keys.get("cx", width / 2)), float(keys.get("cy", height / 2))
        planes = {key: float(keys[key]) for key in ("near", "far") if key in keys}
    except (TypeError, ValueError) as error:
        raise StspbrError(f"frame {file}: its camera has a value that is no number ({error}): fix it") from error
    return Camera(camera_to_world, fx, fy, cx, cy, width, height, **planes)


def _focal(keys: dict[str, Any], focal: str, angle: str, size: int) -> float | None:
    if focal in keys:
        return float(keys[focal])
    return 0.5 * size / math.tan(0.5 * float(keys[angle])) if angle in keys else None


def _matrix(file: str, entry: dict[str, Any], key: str) -> np.ndarray:
    try:
        matrix = np.asarray(entry[key], np.float64)
    except (KeyError, ValueError, TypeError):
        raise StspbrError(f"frame {file}: {key} is missing or no matrix of numbers: export the poses again") from None
    if matrix.shape == (3, 4):
        matrix = np.concatenate([matrix, [[0.0, 0.0, 0.0, 1.0]]])
    if matrix.shape != (4, 4):
        raise StspbrError(f"frame {file}: {key} has shape {matrix.shape}, not 4x4: export the poses again")
    return matrix


def _similarity(path: Path, content: dict[str, Any]) -> np.ndarray | None:
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
        raise StspbrError(f"{path}: original_from_world is no 4x4 similarity: export it again, or remove it")
    return matrix


def _splits(path: Path, content: dict[str, Any], entries: list[dict[str, Any]], names: list[str]) -> list[str | None]:
    """``"train"``, ``"test"`` or None (left out) for each frame."""
    if any("split" in entry for entry in entries):
        lost = next((name for entry, name in zip(entries, names, strict=True) if "split" not in entry), None)
        if lost is not None:
            raise StspbrError(f"{path}: frame {lost} has no split, others have: give it to all frames or to none")
        return ["test" if entry["split"] == "val" else entry["split"] for entry in entries]
    keys = ("train_filenames", "val_filenames", "test_filenames")
    if any(key in content for key in keys):
        listed = [{PurePosixPath(name).as_posix() for name in content.get(key, [])} for key in keys]
        own = [{PurePosixPath(entry["file_path"]).as_posix(), name} for entry, name in zip(entries, names, strict=True)]
        return ["train" if o & listed[0] else "test" if o & (listed[1] | listed[2]) else None for o in own]
    held_out = set(sorted(range(len(names)), key=lambda k: names[k])[::_HELD_OUT_EVERY])
    return ["test" if index in held_out else "train" for index in range(len(names))]


def _file_name(name: str, suffix: str) -> str:
    """Where a frame's image goes: its own relative path, or ``images/`` where it has no folder."""
    path = PurePosixPath(name.replace("\\", "/"))
    parts = [part for part in path.parts if part not in ("..", "/", ".")]
    stem = parts[-1] if parts else "frame"
    if PurePosixPath(stem).suffix.lower() in IMAGE_SUFFIXES:
        stem = PurePosixPath(stem).stem
    return "/".join([*(parts[:-1] or ["images"]), stem + suffix])


def _write_image(path: Path, frame: Frame, image_format: str) -> None:
    if image_format.startswith("exr"):
        half = image_format == "exr" and float(frame.image.max(initial=0.0)) <= 65504.0
        write_exr(path, frame.image, alpha=frame.alpha, half=half)
        return
    straight = frame.image / np.where(frame.alpha > 0, frame.alpha, 1.0)
    write = write_png8 if image_format == "png" else write_png16
    write(path, straight, srgb=True, alpha=frame.alpha)


def _intrinsics(camera: Camera) -> dict[str, float]:
    keys = {"fl_x": camera.fx, "fl_y": camera.fy, "cx": camera.cx, "cy": camera.cy}
    out: dict[str, float] = {key: float(value) for key, value in keys.items()}
    out |= {"w": int(camera.width), "h": int(camera.height), "near": float(camera.near), "far": float(camera.far)}
    return out
