"""The frames of a capture as tensors, and the choice of each step's frames.

Images are kept on the device (*resident*), or in the host's memory, from which each batch is copied (*streamed*):
pinned and non-blocking for a GPU, so that the host does not wait. Both give the same batches, bit for bit.
The GPU part has not run on a GPU yet.

Of large frames only reduced copies are kept: the *overview*. Their own pixels are read window by window.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from stspbr.errors import StspbrError
from stspbr.optimize.losses import measure_exposure
from stspbr.render.gbuffer import ViewBatch
from stspbr.scene import Camera, Frame
from stspbr.scene.capture import WHOLLY_KNOWN, block_means

WHOLE_SIDE = 1024
"""Longest side in pixels of the views of which, by default, no crops are drawn."""

OVERVIEW_SIDE = 320
"""Longest side in pixels of the reduced copies of views of which crops are drawn."""

_MEASURED = 16  # views whose masks the side of crops is measured in

Window = tuple[int, int]
"""Left column and top row of a crop."""

FULL_COVERAGE = 0.999
"""Coverage above which a pixel counts as fully covered: no silhouette crosses it."""


@dataclass
class Targets:
    """The photographs of one batch.

    Attributes:
        image: ``[B, H, W, 3]`` linear radiance premultiplied by alpha.
        alpha: ``[B, H, W, 1]`` coverage in [0, 1].
        saturation: ``[B, 1, 1, 1]`` radiance at which each frame clips.
        known: ``[B, H, W, 1]``, 1 where the mask is known and 0 where not; None: it is everywhere.
    """

    image: Tensor
    alpha: Tensor
    saturation: Tensor
    known: Tensor | None = None


def crop_side(crop: int | Literal["auto"], resolution: tuple[int, int]) -> int:
    """The side in pixels of the crops of views of ``(height, width)``; 0: views are drawn whole.

    Args:
        crop: the setting; a side that holds the whole view, and 0, mean whole views. Of ``"auto"`` the largest side
            that crops of these views have.
    """
    longest = max(resolution)
    if crop == "auto":
        return OVERVIEW_SIDE if longest > WHOLE_SIDE else 0
    return crop if 0 < crop < longest else 0


def equal_side(alpha: np.ndarray, scale: int) -> int:
    """The side of crops on the object that have as many covered pixels as the whole, reduced views: equal cost.

    Args:
        alpha: ``[V, h, w]`` coverage of the views, reduced by ``scale``.

    Returns:
        Pixels of the full views, a multiple of 16, from 64 to ``OVERVIEW_SIDE``.
    """
    few = alpha[:: -(-len(alpha) // _MEASURED)].astype(np.float64)
    wanted = few.sum() / len(few)
    side = 64
    while side < OVERVIEW_SIDE and _covered_share(few, side / scale) * side * side < wanted:
        side += 16
    return side


def crop_share(alpha: np.ndarray, side: int, scale: int) -> float:
    """The mean part of the object's pixels in a view that is in a crop of ``side`` pixels on the object, in (0, 1].

    Args:
        alpha: ``[V, h, w]`` coverage of the views, reduced by ``scale``.
    """
    few = alpha[:: -(-len(alpha) // _MEASURED)].astype(np.float64)
    whole = few.sum() / len(few)
    covered = _covered_share(few, side / scale) * (side / scale) ** 2
    return float(np.clip(covered / max(whole, 1e-9), 1e-6, 1.0))


def _covered_share(alpha: np.ndarray, side: float) -> float:
    """The mean covered part of squares of ``side`` pixels that are centred at covered pixels."""
    half = max(1, round(0.5 * side))
    rows, columns = (np.arange(n) for n in alpha.shape[1:])
    sums = np.pad(alpha, ((0, 0), (1, 0), (1, 0))).cumsum(axis=1).cumsum(axis=2)
    top, bottom = np.maximum(rows - half, 0), np.minimum(rows + half, len(rows))
    left, right = np.maximum(columns - half, 0), np.minimum(columns + half, len(columns))
    low, high = sums[:, top], sums[:, bottom]
    inside = high[:, :, right] - high[:, :, left] - low[:, :, right] + low[:, :, left]
    area = (bottom - top)[:, None] * (right - left)[None]
    return float((alpha * inside / area).sum() / max(alpha.sum(), 1e-9))


def overview_scale(resolution: tuple[int, int]) -> int:
    """The factor by which views of ``(height, width)`` are reduced to be drawn whole; 1: they are small."""
    return max(1, -(-max(resolution) // OVERVIEW_SIDE))


class ViewSet:
    """Frames of one size, reduced by ``scale`` with a box filter; their batches are on ``device``.

    Args:
        storage: of the images: ``"resident"`` on the device, ``"streamed"`` in the host's memory; ``"auto"`` keeps
            them on a GPU if they take less than half of its free memory. ``self.storage`` is the choice.
        crop: side of the crops that are drawn of large views, see ``crop_side``; 0: none, and all pixels are kept.

    Attributes:
        full: (height, width) of the views.
        crop: side of the crops; 0: none.
        overview: the views of ``batch`` are smaller than ``full`` by this factor, 1 without crops. Columns and rows
            that are no whole block, at the right and at the bottom, are not in them.
        resolution, image, alpha, cameras: of the views of ``batch``.

    Raises:
        StspbrError: no frames, or frames whose sizes differ or are not divisible by ``scale``.
    """

    def __init__(
        self,
        frames: Sequence[Frame],
        scale: int,
        device: torch.device,
        storage: Literal["auto", "resident", "streamed"] = "auto",
        crop: int | Literal["auto"] = 0,
    ) -> None:
        if not frames:
            raise StspbrError("the capture has no frames of the required split: capture more, or change the split")
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
        self.full = (first.height // scale, first.width // scale)
        self.crop = crop_side(crop, self.full)
        self.overview = overview_scale(self.full) if self.crop else 1
        self._frames, self._scale = list(frames), scale
        height, width = (side // self.overview for side in self.full)
        image = torch.empty(len(frames), height, width, 3)
        alpha = torch.empty(len(frames), height, width, 1)
        unknown = [frame.known_reduced(scale * self.overview) for frame in frames]
        self.known = None
        if any(own is not None for own in unknown):
            full = np.ones((height, width, 1), np.float32)
            known = torch.from_numpy(np.stack([_wholly(full if own is None else own) for own in unknown]))
            self.known = known.to(device)
        for number, frame in enumerate(frames):
            pixels = frame.reduced(scale * self.overview)
            for kept, values in zip((image, alpha), pixels, strict=True):
                kept[number] = torch.from_numpy(np.ascontiguousarray(values, np.float32))
        self.resolution = (height, width)
        if self.crop and crop == "auto":
            self.crop = equal_side(alpha[..., 0].numpy(), self.overview)
        self.storage = choose_storage(storage, image.nbytes + alpha.nbytes, device)
        self.image, self.alpha = (self._store(values) for values in (image, alpha))
        self.saturation = _tensor(np.array([f.saturation for f in frames]).reshape(-1, 1, 1, 1), device)
        poses, cameras = [frame.object_to_world for frame in frames], [frame.camera for frame in frames]
        if self.crop:
            cameras = [self._small_camera(number) for number in range(len(frames))]
        self.cameras = replace(ViewBatch.of(cameras, poses, device), resolution=self.resolution)

    def __len__(self) -> int:
        return len(self.names)

    @property
    def poses(self) -> list[np.ndarray]:
        """``[4, 4]`` object to world of every view."""
        return [frame.object_to_world for frame in self._frames]

    def camera(self, number: int) -> Camera:
        """The camera of a view of the size ``full``."""
        return self._frames[number].camera.resized(self.full[1], self.full[0])

    def original_camera(self, number: int) -> Camera:
        """The camera of a view as its frame has it, before any reduction."""
        return self._frames[number].camera

    def frame(self, number: int, whole: bool = True) -> Frame:
        """A view with its pixels in memory, of the size ``full``, or as ``batch`` has it."""
        own = self._frames[number]
        image, alpha = self.whole(number) if whole else (v[number].cpu().numpy() for v in (self.image, self.alpha))
        camera = self.camera(number) if whole else self._small_camera(number)
        return Frame(own.name, camera, image, alpha, own.object_to_world, own.split, own.saturation,
                     divided_by=own.divided_by)  # fmt: skip

    def _small_camera(self, number: int) -> Camera:
        height, width = self.resolution
        return self.camera(number).resampled((0, 0, width * self.overview, height * self.overview), (width, height))

    def whole(self, number: int) -> tuple[np.ndarray, np.ndarray]:
        """Image ``[H, W, 3]`` and alpha ``[H, W, 1]`` of a view of the size ``full``, crops or not."""
        return self._frames[number].reduced(self._scale)

    def batch(self, ids: list[int]) -> tuple[ViewBatch, Targets]:
        """The views and targets of the frames with the indices ``ids``, whole; if crops are drawn, reduced."""
        index = _to_device(torch.as_tensor(ids, dtype=torch.int64), self.device)
        targets = Targets(
            self._gather(self.image, ids, index),
            self._gather(self.alpha, ids, index),
            self.saturation.index_select(0, index),
            None if self.known is None else self.known.index_select(0, index),
        )
        return self.cameras.select(index), targets

    def crops(self, ids: Sequence[int], windows: Sequence[Window]) -> tuple[ViewBatch, Targets]:
        """Views and targets of one crop of each of the frames ``ids``, at the full resolution.

        A crop is seen by a camera of its own, whose principal point lies beside its middle: its pixels are those of
        the view from the window's column and row on.
        """
        height, width = (min(self.crop, side) for side in self.full)
        pixels, cameras, unknown = [], [], []
        for number, (left, top) in zip(ids, windows, strict=True):
            sides = (left, top, width, height)
            read = self._frames[number].window(*(self._scale * value for value in sides))
            pixels.append([block_means(values, self._scale) for values in read])
            if self.known is not None:
                own = self._frames[number].known_window(*(self._scale * value for value in sides))
                full = np.ones((height, width, 1), np.float32)
                unknown.append(full if own is None else _wholly(block_means(own, self._scale)))
            cameras.append(self.camera(number).resampled(sides, (width, height)))
        views = ViewBatch.of(cameras, [self._frames[number].object_to_world for number in ids], self.device)
        index = _to_device(torch.as_tensor(ids, dtype=torch.int64), self.device)
        host = torch.device("cpu")
        image, alpha = (_to_device(_tensor(np.stack(of), host), self.device) for of in zip(*pixels, strict=True))
        known = _to_device(_tensor(np.stack(unknown), host), self.device) if unknown else None
        return views, Targets(image, alpha, self.saturation.index_select(0, index), known)

    @property
    def sample_step(self) -> int:
        """Pixels from one of ``samples`` to the next."""
        return self.overview if self.crop else 1

    def samples(self, number: int) -> tuple[ViewBatch, Targets]:
        """``batch([number])``; if crops are drawn, single pixels of the full view in a regular grid in place of means.

        A pixel of such a view has the centre of the pixel that it shows, but the width of ``overview`` pixels.
        """
        if not self.crop:
            return self.batch([number])
        (height, width), step = self.resolution, self.overview
        first = step // 2
        taken = (slice(first, height * step, step), slice(first, width * step, step))
        image, alpha = (values[taken][None] for values in self.whole(number))
        corner = first + 0.5 - 0.5 * step
        camera = self.camera(number).resampled((corner, corner, width * step, height * step), (width, height))
        views = ViewBatch.of([camera], [self._frames[number].object_to_world], self.device)
        return views, Targets(
            _tensor(image, self.device), _tensor(alpha, self.device), self.saturation[number : number + 1]
        )

    def _store(self, values: Tensor) -> Tensor:
        if self.storage == "resident":
            return values.to(self.device)
        try:
            return values.pin_memory() if self.device.type == "cuda" else values
        except RuntimeError:  # more than may be locked in memory: copies then wait, nothing else changes
            return values

    def _gather(self, values: Tensor, ids: list[int], index: Tensor) -> Tensor:
        if self.storage == "resident":
            return values.index_select(0, index)
        out = torch.empty((len(ids), *values.shape[1:]), dtype=values.dtype, device=self.device)
        for place, number in enumerate(ids):
            out[place].copy_(values[number], non_blocking=True)
        return out

    def exposure(self) -> float:
        """Typical squared radiance of the covered pixels, for relMSE's ε; StspbrError if all masks are empty."""
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
    """Frames of one step: each epoch is a new shuffle of all ``count``, a function of ``seed`` alone.

    Stateless, so that a resumed run gets the same frames as an uninterrupted one.
    """
    ids = []
    for position in range(step * batch, (step + 1) * batch):
        epoch, place = divmod(position, count)
        order = np.random.Generator(np.random.Philox(key=[seed, epoch])).permutation(count)
        ids.append(int(order[place]))
    return ids


def step_generator(step: int, seed: int, device: torch.device) -> torch.Generator:
    """The random generator of one step, a function of ``seed`` and ``step`` alone."""
    value = np.random.Generator(np.random.Philox(key=[seed, step], counter=1)).integers(2**63 - 1)
    return torch.Generator(device=device).manual_seed(int(value))


def _tensor(array: np.ndarray, device: torch.device) -> Tensor:
    return torch.as_tensor(np.ascontiguousarray(array, dtype=np.float32), device=device)


def _wholly(known: np.ndarray) -> np.ndarray:
    """1 where all of a pixel is known, else 0."""
    return (known >= WHOLLY_KNOWN).astype(np.float32)


def _to_device(values: Tensor, device: torch.device) -> Tensor:
    """A small tensor of the host, copied to ``device`` without waiting for a GPU."""
    return values.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else values.to(device)
