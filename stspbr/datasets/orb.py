"""Scenes of the Stanford-ORB benchmark (Kuang et al. 2023), LDR and HDR, in the two layouts that it comes in.

``blender_LDR|HDR/OBJECT_sceneNNN`` is NeRF's layout with masks in ``train_mask/`` and ``test_mask/``;
``llff_colmap_LDR|HDR/OBJECT_sceneNNN`` is COLMAP's with ``masks/``, ``train_id.txt`` and ``test_id.txt`` (the model
names PNG files; in HDR folders their EXR twins are read). Frames of other scenes, ``transforms_novel.json`` and
``sparse/OBJECT_sceneNNN``, show the object under another light and are left out, with a warning.

``ground_truth/OBJECT_sceneNNN/env_map/NAME.exr`` is the light about one test camera, in that camera's axes; its
lat-long convention is ours.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path, PurePosixPath

from stspbr.datasets.colmap import read_colmap
from stspbr.datasets.posed_images import first_few
from stspbr.datasets.transforms import frame_files, read_frames, read_json
from stspbr.datasets.validation import checked
from stspbr.datasets.world_axes import y_up_from
from stspbr.errors import StspbrError
from stspbr.formats.images import read_image
from stspbr.scene.capture import Capture, Frame
from stspbr.scene.light import EnvironmentLight, turned_light


def read_orb(
    folder: str | Path,
    on_warning: Callable[[str], None] | None = None,
    *,
    up: str = "auto",
    known_light: bool = False,
    stream: Callable[[str], None] | None = None,
) -> Capture:
    """Read and check one scene.

    Args:
        folder: ``…/blender_HDR/teapot_scene001`` or the like.
        on_warning: called with each warning, one line each.
        up: the world's up axis; ``"auto"`` is Blender's +Z, and the mean of the cameras' own for COLMAP's layout.
        known_light: take the light from ``ground_truth``: of the first test image that has one. The benchmark gives
            it for evaluation only.
        stream: leave the pixels on disk, see :func:`stspbr.datasets.posed_images.read_posed_images`.

    Raises:
        StspbrError: neither layout; masks or images that are not there; no ground truth where it is asked for.
    """
    folder = Path(folder)
    if (folder / "transforms_train.json").is_file():
        capture = _read_blender(folder, up, on_warning, stream)
    elif (folder / "poses_bounds.npy").is_file() or (folder / "sparse").is_dir():
        others = sorted(p.name for p in (folder / "sparse").glob("*") if p.is_dir() and p.name != "0")
        if others and on_warning is not None:
            on_warning(f"views from other scenes are left out, these have other lights: {', '.join(others)}")
        capture = read_colmap(folder, up=up, stream=stream)
    else:
        raise StspbrError(
            f"{folder} is no Stanford-ORB scene, it has neither transforms_train.json nor sparse/0: give the folder of "
            "one scene, e.g. blender_HDR/teapot_scene001"
        )
    if known_light:
        capture = replace(capture, light=_light(folder, capture.frames))
    return checked(capture, on_warning)


def _read_blender(
    folder: Path, up: str, on_warning: Callable[[str], None] | None, stream: Callable[[str], None] | None
) -> Capture:
    rotation = y_up_from("+z" if up == "auto" else up)
    frames: list[Frame] = []
    for split in ("train", "test"):
        path = folder / f"transforms_{split}.json"
        content = read_json(path)
        entries = content.get("frames")
        if not isinstance(entries, list) or not entries:
            raise StspbrError(f"{path} has no frames: check the file")
        names = frame_files(path, entries)
        masks = [_mask(file) for file in names]
        lost = [mask for mask in masks if not (folder / mask).is_file()]
        if lost:
            raise StspbrError(f"{folder} lacks {first_few(lost)} of {len(masks)} masks: unpack the data set again")
        chosen = [
            ({**entry, "mask_path": mask}, file, split) for entry, file, mask in zip(entries, names, masks, strict=True)
        ]
        frames += read_frames(path, content, chosen, rotation=rotation, stream=stream)
    novel = folder / "transforms_novel.json"
    if novel.is_file() and on_warning is not None:
        count = len(read_json(novel).get("frames") or [])
        on_warning(f"the {count} views of transforms_novel.json are left out: other scenes have other lights")
    return Capture(frames)


def _mask(file: str) -> str:
    """``train/0001.exr`` has its mask in ``train_mask/0001.png``."""
    path = PurePosixPath(file)
    return (path.parent.with_name(path.parent.name + "_mask") / path.with_suffix(".png").name).as_posix()


def _light(folder: Path, frames: list[Frame]) -> EnvironmentLight:
    maps = folder.parent.parent / "ground_truth" / folder.name / "env_map"
    for frame in frames:
        file = maps / PurePosixPath(frame.name).with_suffix(".exr").name
        if frame.split == "test" and file.is_file():
            light = EnvironmentLight(read_image(file)[0])
            return turned_light(light, frame.camera.camera_to_world[:3, :3])
    raise StspbrError(f"{maps} has no light for any of the test images: unpack ground_truth, or leave known_light out")
