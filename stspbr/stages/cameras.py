"""What a stage knows of the cameras, their response and their corrected poses: read from its parent, written again."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from stspbr.artifacts import Artifact
from stspbr.errors import StspbrError
from stspbr.metrics.sharpness import sharpness, sharpness_weights
from stspbr.optimize.camera_response import CameraResponse
from stspbr.optimize.cameras import Cameras
from stspbr.optimize.reconstruction import Reconstruction
from stspbr.optimize.views import ViewSet
from stspbr.scene import Camera, Capture, Frame
from stspbr.settings.camera import CameraSettings
from stspbr.stages.session import Session
from stspbr.stages.state import save_json

_SIDE = 1024
RESPONSE, CAMERAS = "response.json", "cameras.json"
_PHOTOGRAPHED = ("photos", "colmap", "llff", "nerfstudio")  # kinds of captures


@dataclass(frozen=True)
class CameraModels:
    """What a stage fits of the cameras; None: nothing.

    Attributes:
        response: what they made of radiance; cameras: corrections of their poses and lenses.
        weights: ``[V]`` how much each training view counts, by its sharpness; all the same if None.
    """

    response: CameraResponse | None = None
    cameras: Cameras | None = None
    weights: torch.Tensor | None = None


def camera_models(
    session: Session,
    source: Artifact,
    capture: Capture,
    settings: CameraSettings,
    parent: Artifact | None = None,
) -> CameraModels:
    """The models of the training views of ``capture``, which is normalised and has the cameras of ``parent``.

    Args:
        source: the capture's artifact, which says whether it is of photographs.
        parent: the stage before, whose response is continued; None: this is the first.
    """
    frames, device = capture.split("train"), session.device
    response = cameras = None
    if chosen(settings.response.mode, source, frames):
        known = None if parent is None else load_response(parent, settings)
        response = (known or CameraResponse.of(frames, settings.response)).to(device)
        if response.names != [frame.name for frame in frames]:
            raise StspbrError(f"{parent.path if parent else source.path}: its response is of other views: run it again")
    if chosen(settings.poses.mode, source, frames):
        cameras = Cameras(frames, settings.poses, 0.0 if parent is not None else settings.poses.start).to(device)
    weights = None
    if chosen(settings.sharpness, source, frames):
        found = sharpness_weights([_sharpness(frame) for frame in frames])
        weights = None if (found == 1.0).all() else torch.as_tensor(found, dtype=torch.float32, device=device)
    return CameraModels(response, cameras, weights)


def _sharpness(frame: Frame) -> float | None:
    """Of a frame of at most ``_SIDE`` pixels: what is blurred only above that does no harm."""
    scale = max(1, -(-max(frame.camera.width, frame.camera.height) // _SIDE))
    image, alpha = frame.reduced(scale)
    return sharpness(np.asarray(image), np.asarray(alpha))


def chosen(mode: str, source: Artifact, frames: Sequence[Frame]) -> bool:
    """Whether a model of the cameras is fitted; ``auto``: if the frames are photographs of 8 bits."""
    if mode != "auto":
        return mode == "on"
    return source.settings.get("kind") in _PHOTOGRAPHED and all(np.isfinite(frame.saturation) for frame in frames)


def load_response(artifact: Artifact, settings: CameraSettings) -> CameraResponse | None:
    """The response that a stage has learned; None if it has none."""
    if RESPONSE not in artifact.files:
        return None
    return CameraResponse.from_json(_json(artifact, RESPONSE), settings.response)


def refined_capture(capture: Capture, artifact: Artifact) -> Capture:
    """``capture`` with the cameras as ``artifact`` corrected them; itself if it corrected none."""
    if CAMERAS not in artifact.files:
        return capture
    known = _json(artifact, CAMERAS)
    try:
        frames = [_corrected(f, known[f.name]) if f.name in known else f for f in capture.frames]
    except (KeyError, TypeError, ValueError):
        raise StspbrError(f"{artifact.path / CAMERAS} is damaged: run the stage again") from None
    return replace(capture, frames=frames)


def write_cameras(folder: Path, reconstruction: Reconstruction, scale: float) -> None:
    """Write ``response.json`` and ``cameras.json`` of a stage that has them.

    Args:
        scale: of the capture's units to those of the reconstruction's box.
    """
    if reconstruction.photography is not None:
        save_json(reconstruction.photography.response.to_json(), folder / RESPONSE)
    if reconstruction.cameras is not None:
        own = reconstruction.cameras
        entries = _entries(reconstruction.views, own.camera, own.object_motion, scale)
        if reconstruction.held_out is not None:
            lens = own.through_lens
            entries |= _entries(reconstruction.held_out, lambda _, c: lens(c), lambda *_: None, scale)
        save_json(entries, folder / CAMERAS)


def copy_cameras(artifact: Artifact, folder: Path) -> None:
    """Hand on the corrected cameras of ``artifact``, if it has any, from a stage that corrects none."""
    if CAMERAS in artifact.files:
        shutil.copyfile(artifact.file(CAMERAS), folder / CAMERAS)


def camera_facts(reconstruction: Reconstruction) -> dict[str, Any]:
    """For ``metrics.json``: what was fitted of the cameras; empty if nothing was."""
    out: dict[str, Any] = {}
    if reconstruction.photography is not None:
        own = reconstruction.photography
        out["response"] = own.response.facts()
        out["response"]["noise"] = None if own.noise is None else {"a": own.noise.a, "b": own.noise.b}
        out["response"]["held_out"] = "exposure and white balance of held-out views are fitted on their own pixels"
    if reconstruction.cameras is not None:
        out["cameras"] = reconstruction.cameras.facts()
    return {"camera": out} if out else {}


def _entries(views: ViewSet, corrected: Any, moved: Any, scale: float) -> dict[str, Any]:
    out = {}
    for number, name in enumerate(views.names):
        camera = corrected(number, views.original_camera(number))
        pose = np.array(camera.camera_to_world, np.float64)
        pose[:3, 3] *= scale
        out[name] = {"camera_to_world": pose.tolist(), "fx": camera.fx, "fy": camera.fy, "cx": camera.cx,
                     "cy": camera.cy, "width": camera.width, "height": camera.height}  # fmt: skip
        motion = moved(number, camera)
        if motion is not None:
            motion[:3, 3] *= scale
            out[name]["object_motion"] = motion.tolist()
    return out


def _corrected(frame: Frame, entry: dict[str, Any]) -> Frame:
    """A frame with its camera, or its object's pose, as a stage corrected it."""
    pose = np.asarray(frame.object_to_world, np.float64)
    if "object_motion" in entry:
        pose = np.asarray(entry["object_motion"], np.float64).reshape(4, 4) @ pose
    return frame.with_fields(camera=_camera(frame.camera, entry), object_to_world=pose)


def _camera(camera: Camera, entry: dict[str, Any]) -> Camera:
    if (camera.width, camera.height) != (entry["width"], entry["height"]):
        raise ValueError
    fx, fy, cx, cy = (float(entry[name]) for name in ("fx", "fy", "cx", "cy"))
    pose = np.asarray(entry["camera_to_world"], np.float64).reshape(4, 4)
    return replace(camera, camera_to_world=pose, fx=fx, fy=fy, cx=cx, cy=cy)


def _json(artifact: Artifact, name: str) -> dict[str, Any]:
    try:
        return json.loads(artifact.file(name).read_text(encoding="utf-8"))
    except ValueError as error:
        raise StspbrError(f"{artifact.path / name} is damaged: run the stage again") from error
