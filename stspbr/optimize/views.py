"""The frames of a capture as tensors, and which of them a step sees."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from stspbr.errors import StspbrError
from stspbr.optimize.losses import measure_exposure
from stspbr.render.gbuffer import ViewBatch
from stspbr.scene import Frame


@dataclass
class Targets:
    """What the frames of one batch show.

    Attributes:
        image: ``[B, H, W, 3]`` linear radiance premultiplied by alpha.
        alpha: ``[B, H, W, 1]``.
        saturation: ``[B, 1, 1, 1]`` radiance at which each frame clips.
    """

    image: Tensor
    alpha: Tensor
    saturation: Tensor


class ViewSet:
    """Frames of one size, reduced by ``scale`` with a box filter, on ``device``.

    Raises:
        StspbrError: no frames, or frames whose sizes differ or are not divisible by ``scale``.
    """

    def __init__(self, frames: list[Frame], scale: int, device: torch.device) -> None:
        if not frames:
            raise StspbrError("the capture has no frames of the split that is needed")
        first = frames[0].camera
        for frame in frames:
            size = (frame.camera.width, frame.camera.height)
            if size != (first.width, first.height):
                raise StspbrError(
                    f"frame {frame.name} is {size[0]}×{size[1]}, frame {frames[0].name} is "
                    f"{first.width}×{first.height}: all frames of a capture need one size"
                )
        if first.width % scale or first.height % scale:
            raise StspbrError(f"image_scale={scale} does not divide the frames' size {first.width}×{first.height}")
        self.names = [frame.name for frame in frames]
        self.device = device
        self.resolution = (first.height // scale, first.width // scale)
        self.image = _tensor(np.stack([_box_reduce(frame.image, scale) for frame in frames]), device)
        self.alpha = _tensor(np.stack([_box_reduce(frame.alpha, scale) for frame in frames]), device)
        self.saturation = _tensor(np.array([f.saturation for f in frames]).reshape(-1, 1, 1, 1), device)
        poses = [np.asarray(frame.object_to_world, dtype=np.float64) for frame in frames]
        clip = [frame.camera.clip_from_object(pose) for frame, pose in zip(frames, poses, strict=True)]
        eyes = [_apply(np.linalg.inv(p), f.camera.position) for f, p in zip(frames, poses, strict=True)]
        self.clip_from_object = _tensor(np.stack(clip), device)
        self.eye = _tensor(np.stack(eyes), device)
        self.object_rotation = _tensor(np.stack([pose[:3, :3] for pose in poses]), device)

    def __len__(self) -> int:
        return len(self.names)

    def batch(self, ids: list[int]) -> tuple[ViewBatch, Targets]:
        """The views and targets of the frames ``ids``."""
        index = torch.as_tensor(ids, dtype=torch.int64, device=self.device)
        views = ViewBatch(
            self.clip_from_object.index_select(0, index),
            self.eye.index_select(0, index),
            self.object_rotation.index_select(0, index),
            self.resolution,
        )
        targets = Targets(
            self.image.index_select(0, index),
            self.alpha.index_select(0, index),
            self.saturation.index_select(0, index),
        )
        return views, targets

    def exposure(self) -> float:
        """Typical squared radiance of the covered pixels, which relMSE's ε is relative to."""
        covered = torch.nonzero(self.alpha.reshape(-1) > 0.5).squeeze(1)
        if len(covered) == 0:
            raise StspbrError("the masks of all frames are empty: there is nothing to reconstruct")
        return float(measure_exposure(self.image.reshape(-1, 3).index_select(0, covered)))


def batch_ids(step: int, count: int, batch: int, seed: int) -> list[int]:
    """Frames of one step: each epoch is a fresh shuffle of all ``count``, a function of ``seed`` alone.

    Stateless, so that a resumed run sees what an uninterrupted one does.
    """
    ids = []
    for position in range(step * batch, (step + 1) * batch):
        epoch, place = divmod(position, count)
        order = np.random.Generator(np.random.Philox(key=[seed, epoch])).permutation(count)
        ids.append(int(order[place]))
    return ids


def step_generator(step: int, seed: int, device: torch.device) -> torch.Generator:
    """The random numbers of one step, a function of ``seed`` and ``step`` alone."""
    value = np.random.Generator(np.random.Philox(key=[seed, step], counter=1)).integers(2**63 - 1)
    return torch.Generator(device=device).manual_seed(int(value))


def _box_reduce(image: np.ndarray, scale: int) -> np.ndarray:
    h, w, c = image.shape
    return image.reshape(h // scale, scale, w // scale, scale, c).mean(axis=(1, 3)) if scale > 1 else image


def _tensor(array: np.ndarray, device: torch.device) -> Tensor:
    return torch.as_tensor(np.ascontiguousarray(array, dtype=np.float32), device=device)


def _apply(matrix: np.ndarray, point: np.ndarray) -> np.ndarray:
    return matrix[:3, :3] @ point + matrix[:3, 3]
