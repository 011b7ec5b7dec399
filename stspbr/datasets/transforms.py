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

import functools
import json
import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from stspbr.datasets.exposure_keys import exposure_keys, read_exposure
from stspbr.datasets.fitting import folded
from stspbr.datasets.frame_files import flat_name, frame_path, image_suffix, warn_of_clipping, write_images
from stspbr.datasets.lens import Lens, lens, parameter_names, resized_lens
from stspbr.datasets.mask_files import find_masks, mask_folder
from stspbr.datasets.posed_images import (
    HOLD_OUT_EVERY,
    PosedImage,
    held_out,
    read_posed_images,
    warn_of_unlisted,
)
from stspbr.datasets.validation import Log, checked
from stspbr.datasets.world_axes import original, tilt, turned_pose, y_up_from
from stspbr.errors import StspbrError
from stspbr.files import find_file, read_file, write_file
from stspbr.formats.choices import USUAL, FileChoices
from stspbr.formats.images import IMAGE_SUFFIXES, image_size, write_exr
from stspbr.formats.lights import read_light
from stspbr.notes import Notes, first_few
from stspbr.scene.camera import Camera
from stspbr.scene.capture import Capture, Frame
from stspbr.scene.light import turned_light

Json = dict[str, Any]
_DISTORTION = ("k1", "k2", "k3", "k4", "k5", "k6", "p1", "p2", "omega", "sx1", "sy1")
_LISTED = ("k1", "k2", "k3", "k4", "p1", "p2")  # nerfstudio's order in distortion_params
_TILTED = 30.0  # degrees; cameras that look down from one side only are tilted, too
_PERSPECTIVE = ("PINHOLE", "SIMPLE_PINHOLE", "PERSPECTIVE", "SIMPLE_RADIAL", "RADIAL", "OPENCV", "FULL_OPENCV")


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
    poses = [_matrix(name, entry, "transform_matrix") for entry, name in zip(entries, names, strict=True)]
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


def write_json(path: Path, content: Json) -> None:
    """Write a JSON object beside ``path`` and rename it into place."""
    write_file(path, json.dumps(content, indent=1, allow_nan=False) + "\n")


def original_from_world(path: Path) -> np.ndarray | None:
    """The similarity ``[4, 4]`` of a ``transforms.json`` back to the world that its poses came in; None without one."""
    return _similarity(path, read_json(path))


def read_json(path: Path) -> Json:
    """A JSON object from a file; StspbrError if it is missing or broken."""
    try:
        content = json.loads(read_file(path))
    except ValueError as error:
        raise StspbrError(f"{path} is truncated or not JSON ({error}): export or copy it again") from error
    if not isinstance(content, dict):
        raise StspbrError(f"{path} is not a JSON object: export it again")
    return content


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
        name = _posix(entry["file_path"])
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
        place = path.parent / _posix(str(entry["mask_path"]))
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
    object_to_world = _matrix(file, entry, "object_to_world") if "object_to_world" in entry else np.eye(4)
    try:
        planes: dict[str, float] = {key: float(keys[key]) for key in ("near", "far") if key in keys}
        fields = {"saturation": float(entry["saturation"])} if "saturation" in entry else {}
        fields |= read_exposure(file, keys)
    except (TypeError, ValueError) as error:
        raise StspbrError(f"frame {file}: its camera has a value that is no number ({error}): fix it") from error
    return PosedImage(
        name=file,
        image=path.parent / file,
        lens=functools.partial(_lens, keys, file, notes),
        camera_to_world=rotation @ _matrix(file, entry, "transform_matrix"),
        split=split,
        mask=mask,
        object_to_world=turned_pose(rotation, object_to_world),
        planes=planes,
        fields=fields,
    )


def _lens(keys: Json, file: str, notes: Notes | None, width: int, height: int) -> Lens:
    """The lens of a frame from its own keys over the file's; without w and h the image's size counts."""
    size = width, height
    try:
        width, height = int(keys.get("w", width)), int(keys.get("h", height))
        fx = _focal(keys, "fl_x", "camera_angle_x", width)
        fy = _focal(keys, "fl_y", "camera_angle_y", height)
        fx, fy = fy if fx is None else fx, fx if fy is None else fy
        if fx is None or fy is None:
            raise StspbrError(f"frame {file}: no focal length: give fl_x and fl_y, or camera_angle_x")
        cx, cy = float(keys.get("cx", width / 2)), float(keys.get("cy", height / 2))
        listed = dict(zip(_LISTED, keys.get("distortion_params") or (), strict=False))
        distortion = {key: float(value or 0.0) for key, value in (keys | listed).items() if key in _DISTORTION}
    except (TypeError, ValueError, OverflowError) as error:
        raise StspbrError(f"frame {file}: its camera has a value that is no number ({error}): fix it") from error
    model = str(keys.get("camera_model", "PINHOLE")).upper()
    model = "OPENCV_FISHEYE" if keys.get("is_fisheye") else model  # instant-ngp's key
    distortion = {key: value for key, value in distortion.items() if value}
    if keys.get("skew") and notes is not None:
        notes("the skew of its camera is left out", file)
    if model in _PERSPECTIVE:
        model = _perspective_model(model, distortion, file)
    names = parameter_names(model)
    extra = sorted(set(distortion) - set(names)) if names else []
    if extra:
        raise StspbrError(f"frame {file}: its camera has {', '.join(extra)}, which {model} lacks: fix it")
    if not keys.keys() & {"w", "h"}:
        _check_size(file, cx, cy, width, height)
    numbers = {"fx": fx, "fy": fy, "cx": cx, "cy": cy, "f": fx} | distortion
    made = lens(model, [numbers.get(name, 0.0) for name in names], width, height, f"frame {file}")
    return resized_lens(made, *size, f"frame {file}", notes)


def _check_size(file: str, cx: float, cy: float, width: int, height: int) -> None:
    """StspbrError if intrinsics without w and h are those of images ``scale`` times as large as these are."""
    x, y = 2 * cx / width, 2 * cy / height
    if min(x, y) > 0 and abs(x / y - 1) < 0.1 and not 0.6 < x < 1.6:
        raise StspbrError(
            f"frame {file}: the principal point ({cx:g}, {cy:g}) lies in the corner of the image ({width}x{height}): "
            f"fl_x, cx and cy seem to be those of {round(2 * cx)}x{round(2 * cy)}; give w and h, to which they belong"
        )


def _perspective_model(model: str, distortion: dict[str, float], file: str) -> str:
    """The smallest model with these coefficients: files name one and give those of another."""
    if not distortion:
        return "PINHOLE"
    if not distortion.keys() & {"k3", "k4", "k5", "k6"}:
        return "OPENCV"
    if "k4" in distortion and not distortion.keys() & {"k5", "k6"} and model != "FULL_OPENCV":
        raise StspbrError(
            f"frame {file}: k4 of {model} is a factor of r^8 for some and a denominator for others: "
            "write FULL_OPENCV if it is OpenCV's, or undistort the images"
        )
    return "FULL_OPENCV"


def _focal(keys: Json, focal: str, angle: str, size: int) -> float | None:
    if focal in keys:
        return float(keys[focal])
    return 0.5 * size / math.tan(0.5 * float(keys[angle])) if angle in keys else None


def _matrix(file: str, entry: Json, key: str) -> np.ndarray:
    try:
        matrix = np.asarray(entry[key], np.float64)
    except (KeyError, ValueError, TypeError):
        raise StspbrError(f"frame {file}: {key} is missing or not a matrix: export the poses again") from None
    if matrix.shape == (3, 4):
        matrix = np.concatenate([matrix, [[0.0, 0.0, 0.0, 1.0]]])
    if matrix.shape != (4, 4):
        raise StspbrError(f"frame {file}: {key} has shape {matrix.shape}, not 4x4: export the poses again")
    return matrix


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
        listed = [{_posix(str(name)) for name in content.get(key, [])} for key in keys]
        own = [{_posix(entry["file_path"]), name} for entry, name in zip(entries, names, strict=True)]
        return ["train" if o & listed[0] else "test" if o & (listed[1] | listed[2]) else None for o in own]
    return list(held_out(names, hold_out_every))


def _posix(name: str) -> str:
    """A path of the file with slashes: Windows tools write backslashes."""
    return PurePosixPath(name.replace("\\", "/")).as_posix()


def _intrinsics(camera: Camera) -> dict[str, float]:
    keys = {"fl_x": camera.fx, "fl_y": camera.fy, "cx": camera.cx, "cy": camera.cy}
    out: dict[str, float] = {key: float(value) for key, value in keys.items()}
    out |= {"w": int(camera.width), "h": int(camera.height), "near": float(camera.near), "far": float(camera.far)}
    return out
