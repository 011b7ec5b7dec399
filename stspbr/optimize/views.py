"""The frames of a capture as tensors, and which of them a step sees.

Images lie on the device (*resident*), or in the host's memory, from where each batch is copied (*streamed*): pinned
and non-blocking where the device is a GPU, so that the host does not wait. Both give the same batches, bit for bit.
The GPU part of this has not run on a GPU yet.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from stspbr.errors import StspbrError
from stspbr.optimize.losses import measure_exposure
from stspbr.render.gbuffer import ViewBatch
from stspbr.scene import Frame

FULL_COVERAGE = 0.999
"""Coverage from which a pixel counts as one that no silhouette crosses."""


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
    """Frames of one size, reduced by ``scale`` with a box filter; their batches are on ``device``.

    Args:
        storage: where the images lie: ``"resident"`` on the device, ``"streamed"`` in the host's memory; ``"auto"``
            keeps them on a GPU while they take less than half of its free memory. ``self.storage`` is what was chosen.

    Raises:
        StspbrError: no frames, or frames whose sizes differ or are not divisible by ``scale``.
    """

    def __init__(
        self,
        frames: list[Frame],
        scale: int,
        device: torch.device,
        storage: Literal["auto", "resident", "streamed"] = "auto",
    ) -> None:
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
        image = _tensor(np.stack([_box_reduce(frame.image, scale) for frame in frames]), torch.device("cpu"))
        alpha = _tensor(np.stack([_box_reduce(frame.alpha, scale) for frame in frames]), torch.device("cpu"))
        self.storage = choose_storage(storage, image.nbytes + alpha.nbytes, device)
        self.image, self.alpha = (self._store(values) for values in (image, alpha))
        self.saturation = _tensor(np.array([f.saturation for f in frames]).reshape(-1, 1, 1, 1), device)
        views = ViewBatch.of([frame.camera for frame in frames], [frame.object_to_world for frame in frames], device)
        self.cameras = replace(views, resolution=self.resolution)

    def __len__(self) -> int:
        return len(self.names)

    def batch(self, ids: list[int]) -> tuple[ViewBatch, Targets]:
        """The views and targets of the frames ``ids``."""
        index = _to_device(torch.as_tensor(ids, dtype=torch.int64), self.device)
        targets = Targets(
            self._gather(self.image, ids, index),
            self._gather(self.alpha, ids, index),
            self.saturation.index_select(0, index),
        )
        return self.cameras.select(index), targets

    def _store(self, values: Tensor) -> Tensor:
        if self.storage == "resident":
            return values.to(self.device)
        try:
            return values.pin_memory() if self.device.type == "cuda" else values
        except RuntimeError:  # more than may be locked in memory: copies then wait, and that is all
            return values

    def _gather(self, values: Tensor, ids: list[int], index: Tensor) -> Tensor:
        if self.storage == "resident":
            return values.index_select(0, index)
        out = torch.empty((len(ids), *values.shape[1:]), dtype=values.dtype, device=self.device)
        for place, number in enumerate(ids):
            out[place].copy_(values[number], non_blocking=True)
        return out

    def exposure(self) -> float:
        """Typical squared radiance of the covered pixels, which relMSE's ε is relative to."""
        covered = torch.nonzero(self.alpha.reshape(-1) > 0.5).squeeze(1)
        if len(covered) == 0:
            raise StspbrError("the masks of all frames are empty: there is nothing to reconstruct")
        return float(measure_exposure(self.image.reshape(-1, 3).index_select(0, covered)))


def choose_storage(storage: str, needed: int, device: torch.device) -> str:
    """``resident`` or ``streamed`` for images of ``needed`` bytes; see ``ViewSet``."""
    if storage != "auto":
        return storage
    if device.type != "cuda":
        return "resident"
    free, _ = torch.cuda.mem_get_info(device)
    return "resident" if needed < free / 2 else "streamed"


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


def _to_device(values: Tensor, device: torch.device) -> Tensor:
    """A small tensor of the host on ``device``; the host does not wait for a GPU."""
    return values.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else values.to(device)
