"""What the Stanford-ORB benchmark asks of a scene, its results files, and how images are read for its figures.

``results.json`` holds, under ``info`` and a scene's name, the pairs of files that are compared: ``view``, ``light``,
``material`` (``output_image``, ``target_image``, ``target_mask``), ``geometry`` and ``shape``. The figures are computed
from such a file alone, whoever wrote it.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from stspbr.colour import srgb_to_linear
from stspbr.datasets.json_frames import read_json
from stspbr.errors import StspbrError
from stspbr.formats.assets import read_asset
from stspbr.formats.images import image_size, read_pixels, three_channels
from stspbr.metrics import orb
from stspbr.notes import first_few
from stspbr.scene.camera import Camera
from stspbr.scene.capture import block_means

FACTOR = 4
"""Photographs are reduced by this before they are compared."""
TASKS = ("view", "light", "geometry", "material", "shape")


@dataclass(frozen=True)
class Wanted:
    """A picture that the benchmark asks for.

    Attributes:
        scene: that the photograph was taken in; name: of the photograph, e.g. ``0061``.
        image: the photograph, an HDR EXR, whose mask lies in ``<its folder>_mask``.
        camera: at the size of the result, in the world of the scene that was trained on.
        light: a light about that camera, in its axes; None: there is none.
    """

    scene: str
    name: str
    image: Path
    camera: Camera
    light: Path | None


def wanted_views(root: Path, scene: str, novel: bool) -> list[Wanted]:
    """The held-out views of a scene, or the views of the same object in other scenes, in the order of their file.

    Args:
        root: the folder that holds ``blender_HDR`` and ``ground_truth``.

    Raises:
        StspbrError: the scene, or a file that it names, is missing.
    """
    folder = root / "blender_HDR" / scene
    path = folder / f"transforms_{'novel' if novel else 'test'}.json"
    if not path.is_file():
        raise StspbrError(f"{path} does not exist: the protocol needs blender_HDR of Stanford-ORB; unpack it there")
    content, found = read_json(path), []
    for entry in content.get("frames") or []:
        try:
            other = str(entry.get("scene_name", scene))
            file = PurePosixPath(str(entry["file_path"]))
            pose = np.asarray(entry["transform_matrix"], np.float64).reshape(4, 4)
            angle = float(entry.get("camera_angle_x", content.get("camera_angle_x")))
        except (KeyError, TypeError, ValueError) as error:
            raise StspbrError(f"{path}: a frame lacks a name, a pose or an angle ({error}): unpack it again") from None
        image = root / "blender_HDR" / other / file.with_suffix(".exr")
        light = root / "ground_truth" / other / "env_map" / f"{file.stem}.exr"
        found.append((other, file.stem, image, pose, angle, light if light.is_file() else None))
    missing = [str(image) for _, _, image, *_ in found if not image.is_file()]
    if missing:
        raise StspbrError(f"{first_few(missing)} of {len(found)} photographs are missing: unpack Stanford-ORB again")
    return [
        Wanted(other, name, image, _camera(image, pose, angle), light)
        for other, name, image, pose, angle, light in found
    ]


def target_files(root: Path, scene: str, kind: str, suffix: str, names: Sequence[str]) -> dict[str, Path]:
    """Files of ``ground_truth/<scene>/<kind>`` by the name of their photograph; those that are there."""
    files = {name: root / "ground_truth" / scene / kind / f"{name}.{suffix}" for name in names}
    return {name: path for name, path in files.items() if path.is_file()}


def target_mesh(root: Path, scene: str) -> Path:
    """The scan of a scene's object, in the world of ``blender_HDR``."""
    return root / "ground_truth" / scene / "mesh_blender" / "mesh.obj"


def mask_of(image: Path) -> Path:
    """The mask of a photograph."""
    return image.parent.with_name(image.parent.name + "_mask") / f"{image.stem}.png"


def read_results(path: Path) -> dict[str, Any]:
    """``info`` of a results file.

    Raises:
        StspbrError: no such file, or not one of the benchmark's.
    """
    try:
        info = json.loads(path.read_text(encoding="utf-8"))["info"]
        if not all(isinstance(tasks, dict) for tasks in info.values()):
            raise ValueError("its scenes have no tasks")
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise StspbrError(f"{path} is no results file of Stanford-ORB ({error}): it needs info/SCENE/view …") from None
    return info


def scores_of(info: dict[str, Any], folder: Path) -> dict[str, Any]:
    """The benchmark's figures of results: ``scores_stats``, ``scores`` and ``info``, as its own files have them.

    Tasks that a scene lacks, or whose list is empty, have no figures.

    Args:
        info: by scene; folder: what paths are relative to, unless they exist as they are.

    Raises:
        StspbrError: a file is missing, broken or of another size than its target asks for.
    """
    scores: dict[str, dict[str, dict[str, float | None]]] = {f"{task}_all": {} for task in TASKS}
    of_task = {"view": _views, "light": _relit, "geometry": _geometry, "material": _material}
    for scene, tasks in info.items():
        for task, figures in of_task.items():
            if rows := tasks.get(task):
                scores[f"{task}_all"][scene] = figures(rows, folder)
        pair = tasks.get("shape") or {}
        if pair.get("output_mesh"):
            target, own = (read_asset(_place(pair[key], folder)).mesh for key in ("target_mesh", "output_mesh"))
            scores["shape_all"][scene] = {"bidir_chamfer": orb.chamfer(target, own)}
    return {"scores_stats": orb.statistics(scores), "scores": scores, "info": info}


def _views(rows: list[dict], folder: Path) -> dict[str, float | None]:
    return orb.means(orb.image_scores(*images, scaled=False) for images in _photographs(rows, folder))


def _relit(rows: list[dict], folder: Path) -> dict[str, float | None]:
    return orb.means(orb.image_scores(*images, scaled=True) for images in _photographs(rows, folder))


def _photographs(rows: list[dict], folder: Path) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Target, result and mask of each pair."""
    for row in rows:
        path = _place(row["target_image"], folder)
        target = block_means(three_channels(_floats(path)), FACTOR)
        mask = block_means(read_pixels(mask_of(path))[..., :1], FACTOR)[..., 0]
        yield target, _result(row["output_image"], folder, target.shape), mask


def _material(rows: list[dict], folder: Path) -> dict[str, float | None]:
    def pairs() -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
        for row in rows:
            # the benchmark reduces the encoded picture, and decodes it then
            stored = three_channels(read_pixels(_place(row["target_image"], folder)))
            target = srgb_to_linear(block_means(stored, FACTOR))
            mask = block_means(read_pixels(_place(row["target_mask"], folder))[..., :1], FACTOR)[..., 0]
            yield target, _result(row["output_image"], folder, target.shape), mask

    return orb.means(orb.albedo_scores(*images) for images in pairs())


def _geometry(rows: list[dict], folder: Path) -> dict[str, float | None]:
    normals, depths = [], []
    for row in rows:
        mask = block_means(read_pixels(_place(row["target_mask"], folder))[..., :1], FACTOR)[..., 0]
        if row.get("output_normal") and row.get("target_normal"):
            target = _array(_place(row["target_normal"], folder), 3)
            normals.append(
                {"normal_angle": orb.normal_distance(target, _array(_place(row["output_normal"], folder), 3, 1), mask)}
            )
        if row.get("output_depth") and row.get("target_depth"):
            target = _array(_place(row["target_depth"], folder), 1)[..., 0]
            depths.append((target, _array(_place(row["output_depth"], folder), 1, 1)[..., 0], mask))
    out = orb.means(normals)
    return out | ({"depth_mse_scene": orb.depth_error(*zip(*depths, strict=True))} if depths else {})


def _result(file: str | None, folder: Path, shape: Sequence[int]) -> np.ndarray:
    """``[H, W, 3]`` linear, not negative; white if a method has no result."""
    if file is None:
        return np.ones(shape, np.float32)
    path = _place(file, folder)
    image = three_channels(_floats(path))
    image = image if path.suffix.lower() == ".exr" else srgb_to_linear(image)
    if image.shape != tuple(shape):
        raise StspbrError(
            f"{path} is {image.shape[1]}x{image.shape[0]}, its target asks for {shape[1]}x{shape[0]}: render it so"
        )
    return np.maximum(image, 0.0)


def _array(path: Path, channels: int, factor: int = FACTOR) -> np.ndarray:
    """``[H, W, channels]`` of an NPY or an image, reduced."""
    if path.suffix == ".npy":
        try:
            values = np.load(path, allow_pickle=False)
        except (OSError, ValueError) as error:
            raise StspbrError(f"{path} is no array ({error}): unpack Stanford-ORB again") from None
    else:
        values = _floats(path)
    values = np.asarray(values, np.float32).reshape(*values.shape[:2], -1)[..., :channels]
    return block_means(values, factor)


def _floats(path: Path) -> np.ndarray:
    return np.nan_to_num(read_pixels(path))


def _place(file: str, folder: Path) -> Path:
    path = Path(file)
    path = path if path.is_file() else folder / path
    if not path.is_file():
        raise StspbrError(f"{file} does not exist, nor {path}: results name files from where you are or beside them")
    return path


def _camera(image: Path, pose: np.ndarray, angle: float) -> Camera:
    width, height = (side // FACTOR for side in image_size(image))
    if min(width, height) < 1 or not 0 < angle < math.pi:
        raise StspbrError(f"{image}: it cannot be read, or its camera has no angle: unpack Stanford-ORB again")
    focal = 0.5 * width / math.tan(0.5 * angle)
    return Camera(pose, focal, focal, 0.5 * width, 0.5 * height, width, height)
