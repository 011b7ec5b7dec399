"""From image files with lenses and poses to frames: what the readers of all data sets share."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from stspbr.datasets.lens import Lens, object_bounds, pinhole_image, undistorted, undistortion_map
from stspbr.errors import StspbrError
from stspbr.formats.images import IMAGE_SUFFIXES, read_image, read_pixels
from stspbr.scene.camera import Camera
from stspbr.scene.capture import Frame
from stspbr.scene.object_sphere import estimate_object_sphere
from stspbr.threads import available_cores

HOLD_OUT_EVERY = 8
_NO_MASK = 0.999  # where alpha is nowhere less than this there is none to speak of


@dataclass(frozen=True)
class PosedImage:
    """An image that is still on disk.

    Attributes:
        name: of the frame.
        image, mask: files; a mask is grey, 0 where the object is not, and multiplies the image's own alpha.
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


def read_posed_images(images: Sequence[PosedImage], masks: Path | None = None) -> list[Frame]:
    """Read the images in parallel, and resample those that were not taken through a pinhole.

    All photographs of one lens become pinhole images of one size, see :func:`stspbr.datasets.lens.pinhole_image`.

    Args:
        masks: the folder that masks were looked for in, for the error where an image has neither mask nor alpha.

    Raises:
        StspbrError: files that are missing or broken, all of them counted; masks or lenses of another size.
    """
    with ThreadPoolExecutor(available_cores()) as pool:
        read = _read_all(images, pool)
        bare = [item.name for item, (_, alpha, _, _) in zip(images, read, strict=True) if alpha is None]
        if bare and masks is not None:
            raise StspbrError(
                f"no masks: {first_few(bare)} of {len(images)} images have neither alpha nor a mask in {masks} "
                "(NAME.png or STEM.png, black where the object is not): make masks, or name their folder"
            )
        for item, (_, alpha, lens, _) in zip(images, read, strict=True):
            # Resampling brings empty borders, which would hide from the checks that there is no mask.
            if not lens.is_pinhole and (alpha is None or float(alpha.min(initial=1.0)) >= _NO_MASK):
                raise StspbrError(f"frame {item.name}: has no mask: give alpha in the image or a mask_path")
        return _to_pinholes(images, read, pool)


def held_out(names: Sequence[str], every: int = HOLD_OUT_EVERY) -> list[str]:
    """``"train"`` or ``"test"`` for each name: every 8th in the order of names is held out, none where every is 0."""
    order = sorted(range(len(names)), key=lambda k: names[k])
    test = set(order[::every]) if every else set()
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

    def split(name: str) -> str | None:
        stem = _stem(name)
        if stem in tests:
            return "test"
        return "train" if trains is None or stem in trains else None

    return [split(name) for name in names]


def mask_folder(folder: Path, masks: str | None) -> Path:
    """Where the masks of a data set are: ``masks`` in ``folder``, or the folder that was asked for, which must be."""
    if masks is None:
        return folder / "masks"
    place = next((place for place in (folder / masks, Path(masks)) if place.is_dir()), None)
    if place is None:
        raise StspbrError(f"the mask folder {folder / masks} does not exist: check masks")
    return place


def find_mask(masks: Path, name: str, names: Sequence[str] = ()) -> Path | None:
    """The mask of the image ``name`` (relative, with suffix): ``NAME.png`` as COLMAP has it, ``STEM.png`` or ``NAME``.

    Other image suffixes than PNG do as well. ``names``: of all images; where no two of them have the same last part,
    a mask may lack the folders of its image.
    """
    wanted = [name]
    last = name.rpartition("/")[2]
    if last != name and sum(other.rpartition("/")[2] == last for other in names) == 1:
        wanted.append(last)
    for each in wanted:
        stem = each.rpartition(".")[0] or each
        candidates = [f"{each}.png", f"{stem}.png", *(stem + suffix for suffix in IMAGE_SUFFIXES)]
        found = next((masks / candidate for candidate in candidates if (masks / candidate).is_file()), None)
        if found is not None:
            return found
    return None


def find_image(folder: Path, name: str) -> str | None:
    """``name`` where ``folder`` has it, or the file of that stem with another image suffix (an HDR twin), or None."""
    stem = name.rpartition(".")[0] or name
    candidates = [name, *(stem + s for s in IMAGE_SUFFIXES), *(stem + s.upper() for s in IMAGE_SUFFIXES)]
    return next((candidate for candidate in candidates if (folder / candidate).is_file()), None)


def first_few(names: Sequence[str], count: int = 3) -> str:
    """``"3 (a, b, c)"``, or ``"20 (a, b, c, …)"``: for errors that must stay one line."""
    return f"{len(names)} ({', '.join(names[:count])}{', …' if len(names) > count else ''})"


def with_clip_planes(frames: list[Frame]) -> list[Frame]:
    """Near and far planes for a world of unknown scale: 1/100 and 100 times the cameras' distance to the object."""
    covered = [frame for frame in frames if frame.alpha.max(initial=0.0) > 0.5]
    sphere = estimate_object_sphere(covered)
    if sphere is None:
        return frames
    distances = [
        np.linalg.norm((np.asarray(f.object_to_world) @ np.append(sphere[0], 1.0))[:3] - f.camera.position)
        for f in covered
    ]
    distance = float(np.median(distances))
    if not np.isfinite(distance) or distance <= 0:
        return frames
    near, far = 0.01 * distance, 100.0 * distance
    return [replace(frame, camera=replace(frame.camera, near=near, far=far)) for frame in frames]


_Read = tuple[np.ndarray, np.ndarray | None, Lens, float]  # premultiplied image, alpha, lens, saturation


def _read_all(images: Sequence[PosedImage], pool: ThreadPoolExecutor) -> list[_Read]:
    """Every image; where some cannot be read, the first of them is named and the others are counted."""

    def attempt(item: PosedImage) -> _Read | StspbrError:
        try:
            return _read(item)
        except StspbrError as error:
            return error

    results = list(pool.map(attempt, images))
    faults = [result for result in results if isinstance(result, StspbrError)]
    if faults:
        more = f" (and {len(faults) - 1} more images of {len(images)})" if len(faults) > 1 else ""
        raise StspbrError(f"{faults[0]}{more}") from faults[0]
    return [result for result in results if not isinstance(result, StspbrError)]


def _read(item: PosedImage) -> _Read:
    image, alpha, saturation = read_image(item.image)
    height, width = image.shape[:2]
    if item.mask is not None:
        mask = read_pixels(item.mask)
        mask = mask[..., :1] if mask.shape[-1] != 2 else mask[..., :1] * mask[..., 1:]
        if mask.shape[:2] != (height, width):
            raise StspbrError(
                f"frame {item.name}: its mask is {mask.shape[1]}x{mask.shape[0]}, the image {width}x{height}: "
                "export the mask again"
            )
        image, alpha = image * mask, mask if alpha is None else alpha * mask
    lens = item.lens(width, height)
    if not lens.is_pinhole and (lens.width, lens.height) != (width, height):
        raise StspbrError(
            f"frame {item.name}: the image is {width}x{height} but its camera {lens.width}x{lens.height}: "
            "give w, h and the focal length of this very image"
        )
    return image, alpha, lens, saturation


def _to_pinholes(images: Sequence[PosedImage], read: list[_Read], pool: ThreadPoolExecutor) -> list[Frame]:
    """The frames, in order; ``read`` is emptied on the way, so that no photograph is held twice for long."""
    groups: dict[Lens, list[int]] = {}
    for index, (_, _, lens, _) in enumerate(read):
        groups.setdefault(lens, []).append(index)
    left = dict(enumerate(read))
    read.clear()
    frames: dict[int, Frame] = {}

    def bounds(index: int) -> tuple[float, float, float, float]:
        image, alpha, lens, _ = left[index]
        return object_bounds(lens, _coverage(image, alpha), f"frame {images[index].name}")

    def convert(members: list[int], mapper: Callable[..., Iterable[Any]]) -> None:
        lens = left[members[0]][2]
        pinhole = pinhole_image(lens, [] if lens.is_pinhole else list(mapper(bounds, members)))
        source = None if lens.is_pinhole else undistortion_map(lens, pinhole)

        def make(index: int) -> None:
            image, alpha, _, saturation = left.pop(index)
            alpha = _coverage(image, alpha)
            if source is not None:
                rgba = undistorted(np.concatenate([image, alpha], axis=-1), source)
                image, alpha = rgba[..., :3].copy(), rgba[..., 3:].copy()
            frames[index] = _frame(images[index], vars(pinhole), image, alpha, saturation)

        list(mapper(make, members))

    if len(groups) >= available_cores():  # a lens for each image, as COLMAP has it unless it is told otherwise
        list(pool.map(lambda members: convert(members, map), groups.values()))
    else:
        for members in groups.values():
            convert(members, pool.map)
    return [frames[index] for index in range(len(images))]


def _coverage(image: np.ndarray, alpha: np.ndarray | None) -> np.ndarray:
    """``alpha``, or ones, which the checks report as "no mask"."""
    return np.ones((*image.shape[:2], 1), np.float32) if alpha is None else alpha


def _frame(item: PosedImage, numbers: dict[str, Any], image: np.ndarray, alpha: np.ndarray, saturation: float) -> Frame:
    options: dict[str, Any] = {**numbers, **item.planes}
    camera = Camera(item.camera_to_world, **options)
    fields = {"saturation": saturation, **item.fields}
    return Frame(item.name, camera, image, alpha, item.object_to_world, item.split, **fields)


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
