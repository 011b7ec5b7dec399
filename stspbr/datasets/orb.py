"""Scenes of the Stanford-ORB benchmark (Kuang et al. 2023), LDR and HDR, in the two layouts that it comes in.

``blender_LDR|HDR/OBJECT_sceneNNN`` is NeRF's layout with masks in ``train_mask/`` and ``test_mask/``;
``llff_colmap_LDR|HDR/OBJECT_sceneNNN`` is COLMAP's with ``masks/``, ``train_id.txt`` and ``test_id.txt`` (the model
names PNG files; in HDR folders their EXR twins are read). Frames of other scenes, ``transforms_novel.json`` and
``sparse/OBJECT_sceneNNN``, show the object under another light and are left out, with a warning.

``ground_truth/OBJECT_sceneNNN/env_map/NAME.exr`` is the light about one test camera, in that camera's axes; its
lat-long convention is ours.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path, PurePosixPath

from stspbr.datasets.colmap import read_colmap
from stspbr.datasets.json_frames import read_entries, read_frames, read_json
from stspbr.datasets.validation import Log, checked
from stspbr.datasets.world_axes import original, y_up_from
from stspbr.errors import StspbrError
from stspbr.formats.choices import USUAL, FileChoices
from stspbr.formats.lights import read_light
from stspbr.notes import Notes, first_few
from stspbr.scene.capture import Capture, Frame
from stspbr.scene.light import EnvironmentLight, turned_light


def read_orb(
    folder: str | Path,
    on_warning: Log = None,
    *,
    up: str = "auto",
    known_light: bool = False,
    stream: Log = None,
    choices: FileChoices = USUAL,
) -> Capture:
    """Read and check one scene.

    Args:
        folder: ``…/blender_HDR/teapot_scene001`` or the like.
        up: the world's up axis; ``"auto"`` is Blender's +Z, and the mean of the cameras' own for COLMAP's layout.
        known_light: take the light from ``ground_truth``: of the first test image that has one. The benchmark gives
            it for evaluation only.
        on_warning, stream, choices: see :func:`stspbr.datasets.captures.read_capture`.

    Raises:
        StspbrError: neither layout; masks or images that are missing; no ground truth if it is asked for.
    """
    folder = Path(folder)
    if (folder / "transforms_train.json").is_file():
        capture = _read_blender(folder, up, on_warning, stream, choices)
    elif (folder / "poses_bounds.npy").is_file() or (folder / "sparse").is_dir():
        others = sorted(p.name for p in (folder / "sparse").glob("*") if p.is_dir() and p.name != "0")
        if others and on_warning is not None:
            on_warning(f"views from other scenes are left out, these have other lights: {', '.join(others)}")
        capture = read_colmap(folder, up=up, stream=stream, choices=choices)
    else:
        raise StspbrError(
            f"{folder} is not a Stanford-ORB scene (no transforms_train.json, no sparse/0): give the folder of one "
            "scene, e.g. blender_HDR/teapot_scene001"
        )
    if known_light:
        capture = replace(capture, light=_light(folder, capture.frames))
    return checked(capture, on_warning)


def _read_blender(folder: Path, up: str, on_warning: Log, stream: Log, choices: FileChoices) -> Capture:
    rotation = y_up_from("+z" if up == "auto" else up)
    frames: list[Frame] = []
    with Notes.into(on_warning) as notes:
        for split in ("train", "test"):
            path = folder / f"transforms_{split}.json"
            content, entries, names = read_entries(path)
            masks = [_mask(file) for file in names]
            lost = [mask for mask in masks if not (folder / mask).is_file()]
            if lost:
                raise StspbrError(f"{folder} lacks {first_few(lost)} of {len(masks)} masks: unpack the data set again")
            masked = [{**entry, "mask_path": mask} for entry, mask in zip(entries, masks, strict=True)]
            chosen = [(entry, file, split) for entry, file in zip(masked, names, strict=True)]
            frames += read_frames(path, content, chosen, rotation=rotation, stream=stream, choices=choices, notes=notes)
    novel = folder / "transforms_novel.json"
    if novel.is_file() and on_warning is not None:
        count = len(read_json(novel).get("frames") or [])
        on_warning(f"the {count} views of transforms_novel.json are left out: other scenes have other lights")
    return Capture(frames, original_from_world=original(rotation))


def _mask(file: str) -> str:
    """``train/0001.exr`` has its mask in ``train_mask/0001.png``."""
    path = PurePosixPath(file)
    return (path.parent.with_name(path.parent.name + "_mask") / path.with_suffix(".png").name).as_posix()


def _light(folder: Path, frames: list[Frame]) -> EnvironmentLight:
    maps = folder.parent.parent / "ground_truth" / folder.name / "env_map"
    for frame in frames:
        file = maps / PurePosixPath(frame.name).with_suffix(".exr").name
        if frame.split == "test" and file.is_file():
            light = read_light(file)
            return turned_light(light, frame.camera.camera_to_world[:3, :3])
    raise StspbrError(f"{maps} has no light for any of the test images: unpack ground_truth, or leave known_light out")
