"""COLMAP models: ``cameras``, ``images`` and ``points3D`` as text or binary files, with the photographs beside them.

COLMAP's cameras have OpenCV's axes (+X right, +Y down, +Z forward) and are turned to OpenGL's. Its world has no up axis
and no scale: poses are kept but for a rotation (see :func:`stspbr.datasets.world_axes.y_up_from`), near and far planes
follow the cameras' distance to the object.
"""

from __future__ import annotations

import codecs
import functools
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from stspbr.colour import linear_to_srgb
from stspbr.datasets.colmap_binary import check_binary_model
from stspbr.datasets.fitting import folded
from stspbr.datasets.frame_files import flat_name, image_suffix, warn_of_clipping, write_images
from stspbr.datasets.lens import Lens, lens, pycolmap_for, resized_lens
from stspbr.datasets.mask_files import find_masks, mask_folder
from stspbr.datasets.posed_images import (
    HOLD_OUT_EVERY,
    PosedImage,
    find_image,
    held_out,
    listed_splits,
    read_posed_images,
    warn_of_unlisted,
    with_clip_planes,
)
from stspbr.datasets.validation import Log, checked
from stspbr.datasets.world_axes import (
    camera_to_world_from_opencv,
    folder_light,
    opencv_from_camera_to_world,
    original,
    y_up_from,
)
from stspbr.errors import StspbrError, first_line
from stspbr.files import read_file, write_file
from stspbr.formats.choices import USUAL, FileChoices
from stspbr.formats.images import IMAGE_SUFFIXES, write_exr
from stspbr.notes import Notes, first_few
from stspbr.scene.capture import Capture, Frame
from stspbr.scene.object_sphere import estimate_object_sphere

_SEED_POINTS = 5000
_MODEL_FILES = ("cameras.txt", "frames.txt", "rigs.txt")


def read_colmap(
    folder: str | Path,
    on_warning: Log = None,
    *,
    up: str = "auto",
    masks: str | None = None,
    hold_out_every: int = HOLD_OUT_EVERY,
    stream: Log = None,
    choices: FileChoices = USUAL,
) -> Capture:
    """Read and check a COLMAP model and its photographs, which are undistorted if their lens needs it.

    The model lies in ``sparse/0``, ``sparse`` or ``folder`` itself, the photographs in ``images`` (or ``folder``).
    Masks are the images' alpha, or files in ``masks`` (``NAME.png`` or ``STEM.png``, black where the object is not).
    What is held out is in ``test_id.txt`` (and ``train_id.txt``) or ``sparse/0/test.txt`` if there are such lists,
    else it is every 8th image in the order of names. For the arguments see
    :func:`stspbr.datasets.captures.read_capture`.

    Raises:
        StspbrError: a model or images that are missing or broken; no masks; a camera model that is not a perspective;
            and what the checks find. Without the extra ``photos``, too.
    """
    folder = Path(folder)
    place = model_folder(folder)
    model, names_of = _load(place)
    others = [p.name for p in sorted(folder.glob("sparse/*")) if p.is_dir() and p.name.isdigit() and p != place]
    if others and on_warning is not None:
        on_warning(f"{place} is read; sparse contains {first_few(others)} more models: name one of them to read it")
    posed_images = [(names_of[number], image) for number, image in model.images.items() if image.has_pose]
    chosen = [(name.replace("\\", "/"), image) for name, image in posed_images]
    names, posed = zip(*sorted(chosen, key=lambda item: item[0]), strict=True) if chosen else ((), ())
    if not posed:
        raise StspbrError(f"{place} has no image with a pose: run COLMAP's mapper again")
    root = _root(folder, place)
    pictures = root / "images" if (root / "images").is_dir() else root
    found = [find_image(pictures, name) for name in names]
    lost = [name for name, file in zip(names, found, strict=True) if file is None]
    if lost:
        raise StspbrError(f"{pictures} lacks {first_few(lost)} of {len(posed)} images that {place} has poses for")
    _warn_of_the_unposed(pictures, {file for file in found if file}, on_warning)
    lenses = {camera_id: _lens(camera, place) for camera_id, camera in model.cameras.items()}
    camera_to_world = [camera_to_world_from_opencv(image.cam_from_world().matrix()) for image in posed]
    rotation = y_up_from(up, camera_to_world, on_warning)
    splits: Sequence[str | None] | None = listed_splits(names, root / "train_id.txt", root / "test_id.txt")
    splits = splits or listed_splits(names, place / "train.txt", place / "test.txt")
    splits = splits or held_out(names, hold_out_every)
    warn_of_unlisted(names, splits, on_warning)
    mask_place = mask_folder(root, masks)
    mask_files = find_masks(mask_place, names)
    with Notes.into(on_warning) as notes:
        items = [
            PosedImage(
                name=f"{pictures.name}/{file}" if pictures != root else str(file),
                image=pictures / str(file),
                lens=functools.partial(
                    resized_lens, lenses[image.camera_id], where=f"frame {pictures.name}/{file}", notes=notes
                ),
                camera_to_world=rotation @ pose,
                split=split,
                mask=mask_files.get(name),
            )
            for name, image, file, pose, split in zip(names, posed, found, camera_to_world, splits, strict=True)
            if split is not None
        ]
        frames = with_clip_planes(read_posed_images(items, mask_place, stream, choices=choices, notes=notes))
        light = folder_light(root, rotation, notes)
    return checked(Capture(frames, light, original(rotation)), on_warning)


def model_folder(folder: Path) -> Path:
    """Where the model lies: ``sparse/0``, ``sparse``, ``colmap/sparse/0`` or the folder itself."""
    for place in (folder / "sparse/0", folder / "sparse", folder / "colmap/sparse/0", folder):
        if any(all((place / f"{name}.{kind}").is_file() for name in ("cameras", "images")) for kind in ("bin", "txt")):
            return place
    wanted = "COLMAP model (cameras and images as .bin or .txt, in sparse/0, sparse or the folder itself)"
    raise StspbrError(f"{folder} contains no {wanted}: check the path")


def write_colmap(
    folder: str | Path, capture: Capture, image_format: str = "png", on_warning: Log = None, *, text: bool = False
) -> Path:
    """Write a data set as COLMAP's undistorter leaves one: ``images/`` and ``sparse/0`` with PINHOLE cameras.

    The world is ours, +Y up: read it again with ``up="+y"``. Trainers that start from COLMAP's points find some, which
    are drawn at random where all the masks say that the object is; they belong to no track. Held-out images are named
    in ``sparse/0/test.txt``.

    Args:
        image_format: see :func:`stspbr.datasets.frame_files.write_images`.
        text: write text files in place of binary ones, which need the extra ``photos``.

    Returns:
        The folder of the model, which is written last.
    """
    pycolmap = None if text else pycolmap_for("COLMAP models")
    folder, capture = Path(folder), folded(capture, on_warning)
    warn_of_clipping(capture.frames, image_format, on_warning)
    taken: set[str] = set()
    names = [flat_name(frame.name, taken) + image_suffix(image_format) for frame in capture.frames]
    write_images(folder, capture.frames, [f"images/{name}" for name in names], image_format)
    if capture.light is not None:
        write_exr(folder / "environment.exr", capture.light.radiance)
    place = folder / "sparse/0"
    held = [name for frame, name in zip(capture.frames, names, strict=True) if frame.split == "test"]
    write_file(place / "test.txt", "".join(f"{name}\n" for name in held))
    if pycolmap is None:
        _write_text(place, capture.frames, names)
        return place
    with tempfile.TemporaryDirectory() as scratch:
        _write_text(Path(scratch), capture.frames, names)
        pycolmap.Reconstruction(scratch).write_binary(str(place))
    return place


def _load(place: Path) -> tuple[Any, dict[int, str]]:
    """The model, and the names of its images by number, which it cannot hold itself if text has blanks in them.

    pycolmap gets a copy if it would refuse the files: blanks in names, byte order marks, no points.
    """
    pycolmap = pycolmap_for("COLMAP models")
    check_binary_model(place)
    binary = (place / "images.bin").is_file()
    try:
        if binary and (place / "points3D.bin").is_file():
            model = pycolmap.Reconstruction(str(place))
            return model, {number: image.name for number, image in model.images.items()}
        with tempfile.TemporaryDirectory() as scratch:
            names = {} if binary else _copy_text(place, Path(scratch))
            for file in place.glob("*.bin") if binary else ():
                shutil.copy(file, scratch)
            Path(scratch, "points3D.bin" if binary else "points3D.txt").write_bytes(bytes(8) if binary else b"")
            model = pycolmap.Reconstruction(scratch)
        return model, names or {number: image.name for number, image in model.images.items()}
    except UnicodeDecodeError as error:
        raise StspbrError(f"{place}: a name of an image is not UTF-8: rename the images, and export again") from error
    except StspbrError:
        raise
    except Exception as error:  # its own C++ errors, of several kinds
        what = f"{place} is not a readable COLMAP model ({first_line(error)})"
        raise StspbrError(f"{what}: export it again, or update pycolmap if its camera model is newer") from error


def _copy_text(place: Path, scratch: Path) -> dict[int, str]:
    """Copy a text model without its points, its images being named by their numbers; the names by number."""
    for name in _MODEL_FILES:
        if (place / name).is_file():
            (scratch / name).write_bytes(read_file(place / name).removeprefix(codecs.BOM_UTF8))
    every = _image_lines(place)
    text = b"".join(b" ".join([*tokens[:9], tokens[0]]) + b"\n\n" for tokens in every)
    (scratch / "images.txt").write_bytes(text)
    return {int(tokens[0]): tokens[9].decode() for tokens in every if len(tokens) == 10 and tokens[0].isdigit()}


def _image_lines(place: Path) -> list[list[bytes]]:
    """The ten fields of each image of ``images.txt``."""
    content = read_file(place / "images.txt").removeprefix(codecs.BOM_UTF8)
    lines = [line.strip() for line in content.splitlines()]
    out, at = [], 0
    while at < len(lines):
        if lines[at] and not lines[at].startswith(b"#"):
            points = lines[at + 1] if at + 1 < len(lines) else b""
            if points and not points.rsplit(None, 1)[-1].lstrip(b"-").isdigit():  # of the last point, its number
                raise StspbrError(
                    f"{place / 'images.txt'}: the line after an image does not hold its points "
                    "(it is empty if there are none): export the model again"
                )
            out.append(lines[at].split(None, 9))
            at += 1
        at += 1
    return out


def _root(folder: Path, place: Path) -> Path:
    """The data set's folder, also where ``folder`` is the model's own."""
    if place == folder and not (folder / "images").is_dir():
        for above in (folder.parent, folder.parent.parent):
            if (above / "images").is_dir():
                return above
    return folder


def _lens(camera: Any, place: Path) -> Lens:
    where = f"camera {camera.camera_id} of {place}"
    return lens(camera.model.name, list(camera.params), camera.width, camera.height, where)


def _warn_of_the_unposed(folder: Path, used: set[str], on_warning: Log) -> None:
    if on_warning is None or folder.name != "images":
        return
    files = [
        path for path in sorted(folder.rglob("*")) if path.suffix.lower() in IMAGE_SUFFIXES and path.name[0] != "."
    ]
    rest = [name for name in (path.relative_to(folder).as_posix() for path in files) if name not in used]
    if rest:
        on_warning(f"{first_few(rest)} of {len(files)} images have no pose and are left out")


def _write_text(place: Path, frames: list[Frame], names: list[str]) -> None:
    """``cameras.txt``, ``images.txt`` and ``points3D.txt``: https://colmap.github.io/format.html"""
    from scipy.spatial.transform import Rotation

    cameras: dict[str, int] = {}
    lines = []
    for number, (frame, name) in enumerate(zip(frames, names, strict=True), start=1):
        camera = frame.camera
        key = f"PINHOLE {camera.width} {camera.height} {_numbers(camera.fx, camera.fy, camera.cx, camera.cy)}"
        camera_id = cameras.setdefault(key, len(cameras) + 1)
        pose = opencv_from_camera_to_world(camera.camera_to_world)
        x, y, z, w = Rotation.from_matrix(pose[:3, :3]).as_quat()
        lines += [f"{number} {_numbers(w, x, y, z, *pose[:3, 3])} {camera_id} {name}", ""]  # no points of its own
    points = [
        f"{number} {_numbers(*point)} {colour[0]} {colour[1]} {colour[2]} 0"
        for number, (point, colour) in enumerate(zip(*_points_inside(frames), strict=True), start=1)
    ]
    files = {"points3D": points, "cameras": [f"{number} {key}" for key, number in cameras.items()], "images": lines}
    for file, rows in files.items():
        write_file(place / f"{file}.txt", "".join(f"{row}\n" for row in rows))


def _numbers(*values: float) -> str:
    return " ".join(repr(float(value)) for value in values)


def _points_inside(frames: list[Frame]) -> tuple[np.ndarray, np.ndarray]:
    """Points ``[N, 3]`` where every mask has the object, and their mean colours ``[N, 3]`` uint8 sRGB."""
    sphere = estimate_object_sphere(frames)
    if sphere is None:
        return np.zeros((0, 3)), np.zeros((0, 3), np.uint8)
    random = np.random.default_rng(0)
    points = random.normal(size=(20 * _SEED_POINTS, 3))
    points *= 1.5 * sphere[1] * random.random((len(points), 1)) ** (1 / 3) / np.linalg.norm(points, axis=1)[:, None]
    points += sphere[0]
    colours, counts = np.zeros_like(points), np.zeros(len(points))
    for frame in frames:
        camera = frame.camera
        x, y, z = ((points - camera.position) @ np.asarray(camera.camera_to_world)[:3, :3]).T
        with np.errstate(divide="ignore", invalid="ignore"):
            column = np.floor(camera.cx - camera.fx * x / z)
            row = np.floor(camera.cy + camera.fy * y / z)
        shown = (z < 0) & (column >= 0) & (row >= 0) & (column < camera.width) & (row < camera.height)
        at = row[shown].astype(int), column[shown].astype(int)
        keep = np.ones(len(points), bool)
        keep[shown] = frame.alpha[..., 0][at] > 0.5
        colours[shown] += frame.image[at]
        counts[shown] += 1
        points, colours, counts = points[keep], colours[keep], counts[keep]
    points, colours, counts = points[:_SEED_POINTS], colours[:_SEED_POINTS], counts[:_SEED_POINTS]
    srgb = linear_to_srgb(np.clip(colours / np.maximum(counts, 1)[:, None], 0, 1))
    return points, np.rint(255 * srgb).astype(np.uint8)
