"""What was made of a tensor, kept for the next call with the same tensor."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

import torch

_Made = TypeVar("_Made")


class OfLastTensor(Generic[_Made]):
    """``make(tensor, *more)`` of the tensor seen last.

    It is known again by identity and by torch's count of writes: comparing contents would wait for a GPU.
    """

    def __init__(self, make: Callable[..., _Made]) -> None:
        self._make = make
        self._seen: tuple[weakref.ref[torch.Tensor], int, tuple[Hashable, ...], _Made] | None = None

    def __call__(self, tensor: torch.Tensor, *more: Hashable) -> _Made:
        if tensor.is_inference():  # of these torch counts no writes
            return self._make(tensor, *more)
        if self._seen is not None:
            seen, version, given, made = self._seen
            if seen() is tensor and version == tensor._version and given == more:
                return made
        made = self._make(tensor, *more)
        self._seen = weakref.ref(tensor), tensor._version, more, made
        return made
