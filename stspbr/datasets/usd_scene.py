"""A USD scene and the images rendered from it as a capture: the way from a DCC to a data set.

Camera and object may both move: a turntable is an animated object. What is distant light stays in the world.

*World*: the stage's, turned to +Y up and in metres. *Object space*: the object prim's own axes and origin, turned in
the same way, with every scale above the prim taken into the lengths: metres as the object stands in the world. So a
point ``x`` of the prim is the object point ``R · x · metersPerUnit · scale``, and an object that stands at the stage's
origin untransformed has the identity as its pose. Scales must be uniform and the same at all frames. Where a +Y-up
asset is referred to by a Z-up stage, its prim lies on its side in object space: name the turntable above it instead.
"""

from __future__ import annotations

import functools
import re
from pathlib import Path
from typing import Any

import numpy as np

from stspbr.datasets.lens import Lens
from stspbr.datasets.posed_images import PosedImage, read_posed_images
from stspbr.datasets.validation import Log, checked
from stspbr.errors import StspbrError
from stspbr.formats.choices import USUAL, FileChoices
from stspbr.formats.images import image_size
from stspbr.formats.usd.camera import Fit, aperture_fit, camera_at, camera_remarks
from stspbr.formats.usd.light import LightChoice, read_lights
from stspbr.formats.usd.stage import (
    find_prim,
    local_to_world,
    one_line_errors,
    open_stage,
    rigid_and_scale,
    up_and_metres,
)
from stspbr.notes import Notes
from stspbr.scene.capture import Capture

_TOKEN = re.compile(r"\$F(?P<houdini>\d*)|(?P<hashes>#+)|%(?:0(?P<printf>\d+))?d")


def read_usd_scene(
    path: str | Path,
    camera: str,
    images: str,
    frames: str,
    object_path: str | None = None,
    masks: str | None = None,
    hold_out_every: int = 8,
    fit: Fit = "auto",
    light: LightChoice = "auto",
    on_warning: Log = None,
    stream: Log = None,
    choices: FileChoices = USUAL,
) -> Capture:
    """Read and check a USD scene with its rendered images.

    Args:
        path: the USD file; a frame's number is its time code.
        camera: path of a ``Camera`` prim; every perspective camera that USD has, at each frame's own values.
        images: one image per frame, relative to the USD file's folder or absolute; ``$F4``, ``####`` or ``%04d``
            become the frame's number. EXR and HDR are linear, PNG and JPEG sRGB; alpha is the mask.
        frames: ``"A:B"`` or ``"A:B:STEP"``, both ends included.
        object_path: path of the prim that the images show, whose motion is the object's pose. None: the object
            stands still, object space is the world.
        masks: as ``images``: black where the object is not; if the images have alpha, too, the smaller counts.
        hold_out_every: every so many frames one is held out, from the first on; 0: none.
        fit: see :func:`stspbr.formats.usd.camera.aperture_fit`.
        light: see :func:`stspbr.formats.usd.light.read_lights`.
        on_warning: called with each remark (units, up axis, lights, apertures) and warning, one line each.
        stream, choices: see :func:`stspbr.datasets.posed_images.read_posed_images`.

    Raises:
        StspbrError: usd-core is absent; anything missing (files, prims: the nearest are named), broken, contradictory
            or not rigid; frames outside the stage's range; an orthographic camera.
    """
    path, numbers = Path(path), frame_numbers(frames)
    stage, remarks = open_stage(path)
    from pxr import UsdGeom

    with one_line_errors(path):
        rotation, metres, units = up_and_metres(stage)
        remarks += units
        lens = find_prim(stage, camera, "camera", lambda prim: prim.IsA(UsdGeom.Camera))
        target = None if object_path is None else find_prim(stage, object_path, "object", _can_be_object)
        _check_range(stage, path, numbers)
        image_files = frame_files(path, images, numbers, "image")
        mask_files = frame_files(path, masks, numbers, "mask") if masks else [None] * len(numbers)
        poses = _object_poses(target, numbers, rotation, metres, remarks)
        known = read_lights(stage, target, numbers, rotation, light, remarks.append)
        aperture = aperture_fit(stage, lens, fit)
        sizes = [image_size(file) for file in image_files]
        sizes = [size if all(size) else (1, 1) for size in sizes]  # the reader says why
        remarks += camera_remarks(lens, numbers[0], *sizes[0], aperture)
        items = []
        for index, (number, name, size) in enumerate(zip(numbers, _names(images, numbers), sizes, strict=True)):
            view = camera_at(lens, number, *size, rotation, metres, aperture)
            items.append(
                PosedImage(
                    name,
                    image_files[index],
                    functools.partial(Lens, "PINHOLE", (view.fx, view.fy, view.cx, view.cy)),
                    view.camera_to_world,
                    "test" if hold_out_every and index % hold_out_every == 0 else "train",
                    mask_files[index],
                    poses[index],
                    {"near": view.near, "far": view.far},
                )
            )
    if on_warning is not None:
        for remark in dict.fromkeys(remarks):
            on_warning(remark)
    with Notes.into(on_warning) as notes:
        read = read_posed_images(items, stream=stream, choices=choices, notes=notes)
    back = np.eye(4)
    back[:3, :3] = rotation.T / metres
    original = None if np.array_equal(back, np.eye(4)) else back
    return checked(Capture(read, known, original), on_warning)


def frame_numbers(text: str) -> list[int]:
    """The frames of ``"A:B"`` or ``"A:B:STEP"``, both ends included; ``"A"`` is one frame."""
    parts = text.split(":")
    try:
        first, last, step = (int(parts[0]), int(parts[min(1, len(parts) - 1)]), int(parts[2]) if parts[2:] else 1)
    except ValueError:
        parts = []
    if not 1 <= len(parts) <= 3 or step < 1 or last < first:
        raise StspbrError(f"frames {text!r}: expected A:B or A:B:STEP with A ≤ B and STEP ≥ 1, e.g. 1:120:2")
    return list(range(first, last + 1, step))


def frame_files(path: Path, pattern: str, numbers: list[int], what: str) -> list[Path]:
    """The file of each frame; StspbrError that names the first missing one and counts them."""
    if _TOKEN.search(pattern) is None and len(numbers) > 1:
        raise StspbrError(f"{what}s {pattern!r} names one file for all frames: write $F4, #### or %04d for the number")
    files = [path.parent / _numbered(pattern, number) for number in numbers]
    missing = [file for file in files if not file.is_file()]
    if missing:
        more = f" and {len(missing) - 1} more of {len(files)} are" if len(missing) > 1 else " is"
        raise StspbrError(f"{what} {missing[0]}{more} missing: check --{what}s and --frames")
    return files


def _numbered(pattern: str, number: int) -> str:
    def digits(match: re.Match[str]) -> str:
        width = len(match["hashes"]) if match["hashes"] else int(match["houdini"] or match["printf"] or 1)
        return f"{number:0{width + (number < 0)}d}"  # the sign takes no digit away

    return _TOKEN.sub(digits, pattern)


def _names(pattern: str, numbers: list[int]) -> list[str]:
    """Frame names: the pattern below its last folder without a number."""
    fixed = pattern[: match.start()] if (match := _TOKEN.search(pattern)) else pattern
    start = fixed.replace("\\", "/").rfind("/") + 1
    return [_numbered(pattern[start:], number) for number in numbers]


def _can_be_object(prim: Any) -> bool:
    from pxr import UsdGeom, UsdLux

    return prim.IsA(UsdGeom.Xformable) and not prim.IsA(UsdGeom.Camera) and not prim.HasAPI(UsdLux.LightAPI)


def _check_range(stage: Any, path: Path, numbers: list[int]) -> None:
    if not stage.HasAuthoredTimeCodeRange():
        return
    start, end = stage.GetStartTimeCode(), stage.GetEndTimeCode()
    outside = [number for number in numbers if not start <= number <= end]
    if outside:
        raise StspbrError(f"{path.name}: frame {outside[0]} is outside its range {start:g} to {end:g}: change --frames")


def _object_poses(
    target: Any, numbers: list[int], rotation: np.ndarray, metres: float, remarks: list[str]
) -> list[np.ndarray]:
    """``object_to_world`` ``[4, 4]`` of every frame: rigid, from object space in metres to the world in metres."""
    from pxr import UsdGeom

    if target is None:
        return [np.eye(4) for _ in numbers]
    poses: list[np.ndarray] = []
    scales = []
    for number in numbers:
        where = f"object {target.GetPath()} at frame {number}"
        turn, place, scale = rigid_and_scale(local_to_world(UsdGeom.XformCache(number), target), where)
        pose = np.eye(4)
        pose[:3, :3], pose[:3, 3] = rotation @ turn @ rotation.T, rotation @ place * metres
        # float32 transforms leave 1e-8 behind: a still object is exactly still
        poses.append(poses[-1] if poses and np.abs(pose - poses[-1]).max() < 1e-7 else pose)
        scales.append(scale)
    change = np.abs(np.array(scales) / scales[0] - 1)
    if change.max() > 1e-4:
        raise StspbrError(
            f"object {target.GetPath()} changes its scale from {scales[0]:.4g} at frame {numbers[0]} to "
            f"{scales[int(change.argmax())]:.4g} at frame {numbers[int(change.argmax())]}: poses must be rigid"
        )
    if abs(scales[0] - 1) > 1e-4:
        remarks.append(f"object {target.GetPath()} is scaled by {scales[0]:.4g}: object space has the scaled size")
    return poses
