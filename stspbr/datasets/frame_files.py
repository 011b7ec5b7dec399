"""The image files of a data set: their names, and how frames are written to them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path, PurePosixPath

import numpy as np

from stspbr.datasets.validation import Log
from stspbr.errors import StspbrError
from stspbr.files import safe_name
from stspbr.formats.images import IMAGE_SUFFIXES, write_exr, write_png8, write_png16
from stspbr.formats.masks import UNKNOWN
from stspbr.scene.capture import WHOLLY_KNOWN, Frame
from stspbr.scene.stored_frame import for_each_frame

IMAGE_FORMATS = ("exr", "exr32", "png", "png16")


def image_suffix(image_format: str) -> str:
    """``".exr"`` or ``".png"``; StspbrError for a format that is not known."""
    if image_format not in IMAGE_FORMATS:
        raise StspbrError(f"image format {image_format!r}: choose exr, exr32, png or png16")
    return ".exr" if image_format.startswith("exr") else ".png"


def write_images(folder: Path, frames: Sequence[Frame], files: Sequence[str], image_format: str) -> dict[str, str]:
    """Write the frames in parallel, with alpha; of stored ones no more are in memory than :func:`for_each_frame` lets.

    Args:
        files: paths relative to ``folder``, one per frame.
        image_format: ``"exr"`` (linear half floats, or floats if radiance passes 65504), ``"exr32"`` (floats,
            exact), ``"png"`` or ``"png16"`` (sRGB of 8 or 16 bits, clipped at 1, straight alpha).

    Returns:
        By file the path of its mask: of the frames with an unknown part, in three values (``formats.masks``).
    """
    image_suffix(image_format)
    if len({file.lower() for file in files}) != len(files):
        raise StspbrError(f"cannot write {folder}: two frames would have the same file name")

    def work(frame: Frame, file: str) -> str | None:
        loaded = frame.loaded()
        _write_image(folder / file, loaded, image_format)
        return None if loaded.known is None else _write_mask(folder, file, loaded.alpha, loaded.known)

    masks = for_each_frame(frames, work, files)
    return {file: mask for file, mask in zip(files, masks, strict=True) if mask is not None}


def frame_path(name: str, suffix: str) -> str:
    """The place of a frame's image: its own relative path, or ``images/`` if it has no folder."""
    parts = _parts(name)
    return "/".join([*(parts[:-1] or ["images"]), parts[-1] + suffix])


def flat_name(name: str, taken: set[str]) -> str:
    """A frame's name for a folder that holds all images: ``train/r_0.png`` becomes ``train_r_0``.

    It is unlike any in ``taken``, to which it is added.
    """
    parts = _parts(name)
    return safe_name("_".join([*(part for part in parts[:-1] if part != "images"), parts[-1]]), taken)


def warn_of_clipping(frames: Sequence[Frame], image_format: str, on_warning: Log) -> None:
    """Report how many frames have radiance above 1, which a PNG cannot store."""
    if on_warning is None or not image_format.startswith("png"):
        return
    count = sum(f.saturation > 1.0 and float((f.image - f.alpha).max(initial=0.0)) > 1e-3 for f in frames)
    if count:
        on_warning(f"{count} frames have radiance above 1, which {image_format} clips: --image-format exr keeps it")


def _parts(name: str) -> list[str]:
    """The folders and the stem of a frame's name, safe to write to."""
    parts = [part for part in PurePosixPath(name.replace("\\", "/")).parts if part not in ("..", "/", ".")]
    stem = parts[-1] if parts else "frame"
    if PurePosixPath(stem).suffix.lower() in IMAGE_SUFFIXES:
        stem = PurePosixPath(stem).stem
    return [*parts[:-1], stem]


def _write_mask(folder: Path, file: str, alpha: np.ndarray, known: np.ndarray) -> str:
    """A mask of three values: white where the object may be, black elsewhere, 128 where nobody knows; its path."""
    place = PurePosixPath("masks") / PurePosixPath(file).with_suffix(".png")
    grey = np.where(known < WHOLLY_KNOWN, UNKNOWN / 255.0, alpha > 0)
    write_png8(folder / place, grey.astype(np.float32), srgb=False)
    return place.as_posix()


def _write_image(path: Path, frame: Frame, image_format: str) -> None:
    if image_format.startswith("exr"):
        half = image_format == "exr" and float(frame.image.max(initial=0.0)) <= 65504.0
        write_exr(path, frame.image, alpha=frame.alpha, half=half)
        return
    straight = frame.image / np.where(frame.alpha > 0, frame.alpha, 1.0)
    write = write_png8 if image_format == "png" else write_png16
    write(path, straight, srgb=True, alpha=frame.alpha)
