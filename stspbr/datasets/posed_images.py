"""From image files with lenses and poses to frames: what the readers of all data sets share."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from stspbr.datasets.lens import Lens, PinholeImage, object_bounds, pinhole_image, undistorted, undistortion_map
from stspbr.datasets.validation import Log, pixel_findings
from stspbr.errors import StspbrError
from stspbr.files import find_file
from stspbr.formats.choices import USUAL, FileChoices
from stspbr.formats.images import IMAGE_SUFFIXES, image_size, read_image
from stspbr.formats.masks import MaskReading
from stspbr.notes import Notes, first_few
from stspbr.scene.camera import Camera
from stspbr.scene.capture import Frame
from stspbr.scene.object_sphere import estimate_object_sphere, mask_summary
from stspbr.scene.stored_frame import Pixels, StoredFrame, for_each_frame, memory_line, workers
from stspbr.threads import available_cores

HOLD_OUT_EVERY = 8
_NO_MASK = 0.999  # alpha that is nowhere less than this is no mask


@dataclass(frozen=True)
class PosedImage:
    """An image that is still on disk.

    Attributes:
        name: of the frame.
        image, mask: files; of a mask (:mod:`stspbr.formats.masks`) and the image's own alpha the smaller counts.
        lens: from the image's width and height in pixels to its lens.
        camera_to_world, object_to_world: ``[4, 4]``, as :class:`stspbr.scene.capture.Frame` has them.
        split: ``"train"`` or ``"test"``.
        planes: ``near`` and ``far`` of the camera, where the data set has them.
        fields: other fields of the frame that the data set has, e.g. ``saturation``, which is the file type's else.
    """

    name: str
    image: Path
    lens: Callable[[int, int], Lens]
    camera_to_world: np.ndarray
    split: str
    mask: Path | None = None
    object_to_world: np.ndarray = field(default_factory=lambda: np.eye(4))
    planes: dict[str, float] = field(default_factory=dict)
    fields: dict[str, Any] = field(default_factory=dict)


def read_posed_images(
    images: Sequence[PosedImage],
    masks: Path | None = None,
    stream: Log = None,
    *,
    choices: FileChoices = USUAL,
    notes: Notes | None = None,
) -> list[Frame]:
    """Read the images in parallel, and resample those that were not taken through a pinhole.

    All photographs of one lens become pinhole images of one size, see :func:`stspbr.datasets.lens.pinhole_image`.

    Args:
        masks: the folder that masks were looked for in, for the error if an image has neither mask nor alpha.
        stream: leave the pixels on disk (:class:`stspbr.scene.stored_frame.StoredFrame`): every image is looked at
            once, or twice if it is resampled, and none is held. Called with one line: how many images, how large,
            and how much memory that takes.
        choices: how images and masks are read if there are several ways.
        notes: receives what was chosen, converted or left out.

    Raises:
        StspbrError: files that are missing or broken, all of them counted; masks or lenses of another size; masks of
            several labels.
    """
    sizes = [image_size(item.image) for item in images]
    reading = _Reading(MaskReading([item.mask for item in images if item.mask], choices, notes), choices, notes)
    if stream is not None and images:
        stream(memory_line(sizes))
    kept: dict[int, _Read] | None = {} if stream is None else None  # what is wanted in memory anyway is read once
    pixels = [width * height for width, height in sizes]
    at_once = available_cores() if stream is None else workers(max(pixels, default=0))
    with ThreadPoolExecutor(at_once) as pool:
        looks = list(pool.map(lambda index: _looked_at(images[index], index, reading, kept), range(len(images))))
    sound = _sound(images, looks, masks)
    frames = _stored_frames(images, sound, pixels, reading, kept)
    if stream is None:
        with ThreadPoolExecutor(at_once) as pool:
            return list(pool.map(StoredFrame.loaded, frames))
    resampled = [frame for frame, look in zip(frames, sound, strict=True) if not look.lens.is_pinhole]
    for_each_frame(resampled, lambda frame: frame.summary(mask_summary))
    return [*frames]


def held_out(names: Sequence[str], every: int = HOLD_OUT_EVERY) -> list[str]:
    """``"train"`` or ``"test"`` for each name: every 8th in the order of names is held out, none where every is 0."""
    test = set(sorted(range(len(names)), key=lambda k: names[k])[::every]) if every else ()
    return ["test" if index in test else "train" for index in range(len(names))]


def listed_splits(names: Sequence[str], train: Path, test: Path) -> list[str | None] | None:
    """Splits from text files that list names, one a line (suffixes do not matter); None for names in neither.

    Returns:
        None where ``test`` is absent. Without ``train`` whatever is not listed is for training.
    """
    if not test.is_file():
        return None
    tests = _listed(test)
    trains = _listed(train) if train.is_file() else None

    stems = map(_stem, names)
    return ["test" if s in tests else "train" if trains is None or s in trains else None for s in stems]


def warn_of_unlisted(names: Sequence[str], splits: Sequence[str | None], on_warning: Log) -> None:
    """Warn of the images whose split is None."""
    rest = [name for name, split in zip(names, splits, strict=True) if split is None]
    if rest and on_warning is not None:
        on_warning(f"{first_few(rest, 'images')}: left out, the lists of splits do not name them")


def find_image(folder: Path, name: str) -> str | None:
    """``name`` if ``folder`` has it, or the file of that stem with another image suffix (an HDR twin), or None."""
    stem = name.rpartition(".")[0] or name
    found = find_file(*(folder / each for each in (name, *(stem + s for s in IMAGE_SUFFIXES))))
    return None if found is None else (PurePosixPath(name).parent / found.name).as_posix()


def with_clip_planes(frames: list[Frame]) -> list[Frame]:
    """Near and far planes for a world of unknown scale: 1/100 and 100 times the cameras' distance to the object."""
    covered = [frame for frame in frames if frame.summary(mask_summary).box is not None]
    sphere = estimate_object_sphere(covered)
    if sphere is None:
        return frames
    centres = [(np.asarray(f.object_to_world) @ np.append(sphere[0], 1.0))[:3] for f in covered]
    distance = float(np.median([np.linalg.norm(c - f.camera.position) for c, f in zip(centres, covered, strict=True)]))
    if not np.isfinite(distance) or distance <= 0:
        return frames
    near, far = 0.01 * distance, 100.0 * distance
    return [frame.with_fields(camera=replace(frame.camera, near=near, far=far)) for frame in frames]


_Read = tuple[np.ndarray, np.ndarray | None, Lens, float, np.ndarray | None]
"""Premultiplied image, alpha, lens, saturation, and ``Frame.known``."""
_WANTED = (mask_summary, pixel_findings)


@dataclass(frozen=True)
class _Reading:
    masks: MaskReading
    choices: FileChoices
    notes: Notes | None


@dataclass(frozen=True)
class _Look:
    """What is known of an image that was read once.

    Attributes:
        bounds: of the object if the lens is not a pinhole, or the error that there are none.
        summaries: of the frame, if the frame is the image as it stands.
    """

    lens: Lens
    saturation: float
    bare: bool
    lowest: float
    bounds: tuple[float, float, float, float] | StspbrError | None = None
    summaries: dict[Callable[[Frame], Any], Any] = field(default_factory=dict)


def _looked_at(item: PosedImage, index: int, reading: _Reading, kept: dict[int, _Read] | None) -> _Look | StspbrError:
    """Read an image; its pixels go into ``kept`` unless that is None."""
    try:
        image, alpha, lens, saturation, known = read = _read(item, reading)
    except StspbrError as error:
        return error
    lowest = 1.0 if alpha is None else float(alpha.min(initial=1.0))
    look = _Look(lens, saturation, alpha is None, lowest)
    if kept is not None:
        kept[index] = read
    if not lens.is_pinhole:
        if alpha is None or lowest >= _NO_MASK:
            return look
        try:
            return replace(look, bounds=object_bounds(lens, alpha, f"frame {item.name}"))
        except StspbrError as error:
            return replace(look, bounds=error)
    if kept is None:
        frame = Frame(item.name, _camera(item, pinhole_image(lens)), image, _or_full(alpha, image), known=known,
                      **_fields(item, saturation))  # fmt: skip
        look.summaries.update({of: of(frame) for of in _WANTED})
    return look


def _sound(images: Sequence[PosedImage], every: Sequence[_Look | StspbrError], masks: Path | None) -> list[_Look]:
    """``every`` without errors; of images that cannot be read the first is named and the others are counted."""
    faults = [look for look in every if isinstance(look, StspbrError)]
    if faults:
        more = f" (and {len(faults) - 1} more images of {len(images)})" if len(faults) > 1 else ""
        raise StspbrError(f"{faults[0]}{more}") from faults[0]
    looks = [look for look in every if not isinstance(look, StspbrError)]
    bare = [item.name for item, look in zip(images, looks, strict=True) if look.bare]
    if bare and masks is not None:
        raise StspbrError(
            f"no masks: {first_few(bare)} of {len(images)} images have neither alpha nor a mask in {masks} "
            "(NAME.png or STEM.png, black where the object is not): make masks, or name their folder"
        )
    for item, look in zip(images, looks, strict=True):
        # Resampling brings empty borders, which would hide from the checks that there is no mask.
        if not look.lens.is_pinhole and look.lowest >= _NO_MASK:
            raise StspbrError(f"frame {item.name}: has no mask: give alpha in the image or a mask_path")
    for look in looks:
        if isinstance(look.bounds, StspbrError):
            raise look.bounds
    return looks


def _stored_frames(
    images: Sequence[PosedImage],
    looks: Sequence[_Look],
    pixels: Sequence[int],
    reading: _Reading,
    kept: dict[int, _Read] | None,
) -> list[StoredFrame]:
    bounds: dict[Lens, list[Any]] = {}
    for look in looks:
        bounds.setdefault(look.lens, []).extend([look.bounds] if look.bounds else [])
    pinholes = {lens: pinhole_image(lens, found) for lens, found in bounds.items()}
    mapped = functools.lru_cache(1)(undistortion_map)  # photographs of one lens follow one another as a rule

    def stored(index: int) -> StoredFrame:
        item, lens = images[index], looks[index].lens
        pinhole = pinholes[lens]

        def read() -> Pixels:
            image, alpha, _, _, known = _read(item, reading) if kept is None else kept.pop(index)
            if not lens.is_pinhole:
                source = mapped(lens, pinhole)
                image = undistorted(image, source)
                alpha = None if alpha is None else undistorted(alpha, source)
                known = None if known is None else 1.0 - undistorted(1.0 - known, source)
            pixels = image, _or_full(alpha, image)
            return pixels if known is None else (*pixels, known)

        frame = StoredFrame(item.name, _camera(item, pinhole), read, pixels[index], _WANTED if kept is None else (),
                            **_fields(item, looks[index].saturation))  # fmt: skip
        return frame.with_summaries(looks[index].summaries)

    return list(map(stored, range(len(images))))


def _or_full(alpha: np.ndarray | None, image: np.ndarray) -> np.ndarray:
    return np.ones((*image.shape[:2], 1), np.float32) if alpha is None else alpha  # the checks report "no mask"


def _read(item: PosedImage, reading: _Reading) -> _Read:
    image, alpha, saturation = read_image(item.image, layer=reading.choices.layer, notes=reading.notes)
    height, width = image.shape[:2]
    known = None
    if item.mask is not None:
        mask, known = reading.masks.read_both(item.mask)
        if mask.shape[:2] != (height, width):
            shape = f"{mask.shape[1]}x{mask.shape[0]}, the image {width}x{height}"
            raise StspbrError(f"frame {item.name}: its mask is {shape}: export the mask again")
        if alpha is None:
            image *= mask
            alpha = mask
        else:  # the smaller one: a mask that was made from the alpha has the same soft edges
            image *= np.minimum(np.divide(mask, alpha, out=mask.copy(), where=alpha > 0), 1.0)
            alpha = np.minimum(alpha, mask)
    lens = item.lens(width, height)
    if not lens.is_pinhole and (lens.width, lens.height) != (width, height):
        raise StspbrError(
            f"frame {item.name}: the image is {width}x{height} but its camera {lens.width}x{lens.height}: "
            "give w, h and the focal length of this very image"
        )
    return image, alpha, lens, saturation, known


def _camera(item: PosedImage, pinhole: PinholeImage) -> Camera:
    options: dict[str, Any] = {**vars(pinhole), **item.planes}
    return Camera(item.camera_to_world, **options)


def _fields(item: PosedImage, saturation: float) -> dict[str, Any]:
    return {"object_to_world": item.object_to_world, "split": item.split, "saturation": saturation, **item.fields}


def _listed(path: Path) -> set[str]:
    try:
        lines = path.read_text("utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise StspbrError(f"{path} cannot be read ({error}): remove or replace it") from error
    return {_stem(line.strip()) for line in lines if line.strip()}


def _stem(name: str) -> str:
    name = name.replace("\\", "/")
    stem, dot, suffix = name.rpartition(".")
    return stem if dot and f".{suffix.lower()}" in IMAGE_SUFFIXES else name
