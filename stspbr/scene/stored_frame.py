"""Frames that stay on disk: their pixels are made anew whenever they are asked for, and nothing holds them.

A hundred photographs of 24 megapixels are 38 GB as arrays; one at a time they are 1 GB.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import numpy as np

from stspbr.scene.camera import Camera
from stspbr.scene.capture import Frame, changed_pixels
from stspbr.threads import available_cores

T = TypeVar("T")
Pixels = tuple[np.ndarray, ...]  # image and alpha, as a Frame has them, and known, if that is not 1 everywhere
_BYTES_PER_PIXEL = 48  # of the file, while it is decoded, undistorted, checked and written: 4 channels three times
_AT_ONCE = 2 << 30  # bytes that the frames in work may take together
_PROCESS = 700 << 20  # bytes of the process itself: torch, Numba and the libraries for images


class StoredFrame(Frame):
    """A :class:`Frame` whose ``image`` and ``alpha`` are made by ``read`` whenever they are asked for.

    Whoever needs both, or one twice, takes ``loaded()``; whoever needs a few numbers takes ``summary()``.

    Args:
        read: gives image and alpha of the camera's size, and ``known`` if it is not 1 everywhere.
        file_pixels: of the largest image that ``read`` has in memory.
        wanted: summaries that are made whenever the pixels are there: another reading is saved.
        window: gives the image and alpha of a window without reading the rest; None: all is read, and cut.
        small: gives those of the frame reduced by a scale, or None if it has not got it; None: all is read.
    """

    def __init__(
        self,
        name: str,
        camera: Camera,
        read: Callable[[], Pixels],
        file_pixels: int,
        wanted: Sequence[Callable[[Frame], Any]] = (),
        window: Callable[[int, int, int, int], Pixels] | None = None,
        small: Callable[[int], Pixels | None] | None = None,
        **fields: Any,
    ) -> None:
        own = {"object_to_world": np.eye(4), "split": Frame.split, "saturation": Frame.saturation,
               "exposure": Frame.exposure, "white_balance": Frame.white_balance,
               "divided_by": Frame.divided_by}  # fmt: skip
        vars(self).update(own | fields, name=name, camera=camera)
        self.file_pixels = file_pixels
        self._read, self._wanted = read, tuple(wanted)
        self._summaries: dict[Callable[[Frame], Any], Any] = {}
        self._window, self._small = window, small

    __repr__ = object.__repr__  # a dataclass's would read the pixels

    @property
    def image(self) -> np.ndarray:  # type: ignore[override]
        return self.loaded().image

    @property
    def alpha(self) -> np.ndarray:  # type: ignore[override]
        return self.loaded().alpha

    @property
    def known(self) -> np.ndarray | None:  # type: ignore[override]
        return self.loaded().known

    def loaded(self) -> Frame:
        image, alpha, *known = self._read()
        frame = Frame(self.name, self.camera, image, alpha, self.object_to_world, self.split, self.saturation,
                      self.exposure, self.white_balance, self.divided_by, known[0] if known else None)  # fmt: skip
        for of in self._wanted:
            if of not in self._summaries:
                self._summaries[of] = of(frame)
        return frame

    def summary(self, of: Callable[[Frame], T]) -> T:
        if of not in self._summaries:
            frame = self.loaded()
            self._summaries.setdefault(of, of(frame))
        return self._summaries[of]

    def window(self, left: int, top: int, width: int, height: int) -> tuple[np.ndarray, np.ndarray]:
        if self._window is not None:
            image, alpha, *_ = self._window(left, top, width, height)
            return image, alpha
        return self.loaded().window(left, top, width, height)

    def reduced(self, scale: int) -> tuple[np.ndarray, np.ndarray]:
        found = None if self._small is None else self._small(scale)
        if found is None:
            return self.loaded().reduced(scale)
        image, alpha, *_ = found
        return image, alpha

    def known_window(self, left: int, top: int, width: int, height: int) -> np.ndarray | None:
        if self._window is not None:
            known = self._window(left, top, width, height)[2:]
            return known[0] if known else None
        return self.loaded().known_window(left, top, width, height)

    def known_reduced(self, scale: int) -> np.ndarray | None:
        found = None if self._small is None else self._small(scale)
        if found is None:
            return self.loaded().known_reduced(scale)
        return found[2] if len(found) > 2 else None

    def with_summaries(self, summaries: dict[Callable[[Frame], Any], Any]) -> StoredFrame:
        """This frame with summaries that are known already."""
        self._summaries.update(summaries)
        return self

    def with_fields(self, **fields: Any) -> StoredFrame:
        out = copy.copy(self)  # the pixels are the same, and so are their summaries
        vars(out).update(fields)
        return out

    def with_pixels(
        self, change: Callable[[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]], **fields: Any
    ) -> StoredFrame:
        out, read = self.with_fields(**fields), self._read
        out._read, out._summaries = lambda: changed_pixels(change, read()), {}
        out._window = out._small = None
        return out


def for_each_frame(frames: Sequence[Frame], work: Callable[..., T], *others: Sequence[Any]) -> list[T]:
    """``work(frame, …)`` of every frame, in order; several at once, of stored frames as many as memory has room for.

    Args:
        others: further arguments of ``work``, one per frame.
    """
    file_pixels = max((frame.file_pixels for frame in frames if isinstance(frame, StoredFrame)), default=0)
    with ThreadPoolExecutor(workers(file_pixels)) as pool:
        return list(pool.map(work, frames, *others))


def workers(file_pixels: int) -> int:
    """How many images of so many pixels are worked on at once."""
    return max(1, min(available_cores(), _AT_ONCE // max(1, _BYTES_PER_PIXEL * file_pixels)))


def memory_line(sizes: Sequence[tuple[int, int]], what: str = "images") -> str:
    """For people, before a long work: how many images of which size, and the memory that is expected at its peak.

    Args:
        sizes: width and height of each.
    """
    width, height = max(sizes, key=lambda size: size[0] * size[1])
    count = min(workers(width * height), len(sizes))
    peak = _PROCESS + count * _BYTES_PER_PIXEL * width * height
    amount = f"at most about {peak / 1e9:.1f} GB of memory"
    return f"{len(sizes)} {what} of up to {width}x{height}, {count} at a time: {amount}"
