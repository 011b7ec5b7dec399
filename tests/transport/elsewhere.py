"""A device that is not there: its tensors hold values, which torch keeps apart from the CPU's.

A tensor says that it is on torch's ``meta`` device, and wraps one on the CPU. What a GPU could not do is refused:
mixing tensors of both devices, and reading values in any other way than by a copy or as a number.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

ELSEWHERE = torch.device("meta")


class _There(torch.Tensor):
    """A tensor elsewhere; ``inner`` has its values."""

    inner: torch.Tensor

    @staticmethod
    def __new__(cls, inner: torch.Tensor) -> _There:
        strides = inner.stride() if inner.layout == torch.strided else None
        out = torch.Tensor._make_wrapper_subclass(cls, inner.shape, strides, dtype=inner.dtype, device=ELSEWHERE)
        out.inner = inner
        return out

    @classmethod
    def __torch_dispatch__(cls, function, types, args=(), kwargs=None):
        return _run(function, args, kwargs or {})


class Elsewhere(TorchDispatchMode):
    """While it is active, what is made on ``ELSEWHERE`` or moved there is a tensor with values."""

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        return _run(function, args, kwargs or {})


def _run(function: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    given = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, torch.Tensor)]
    there = any(isinstance(leaf, _There) for leaf in given)
    moves = "_to_copy" in str(function) or "aten.copy_" in str(function)
    if there and not moves:
        odd = [tuple(leaf.shape) for leaf in given if not isinstance(leaf, _There) and leaf.ndim]
        assert not odd, f"{function}: tensors {odd} of the host's among others"
    wanted = kwargs.get("device")
    if wanted is not None:
        there = torch.device(wanted).type == ELSEWHERE.type
        kwargs = kwargs | {"device": torch.device("cpu")}
    inner = tree_map(lambda leaf: leaf.inner if isinstance(leaf, _There) else leaf, (args, kwargs))
    found = function(*inner[0], **inner[1])
    if str(function).split(".")[1].endswith("_") and isinstance(found, torch.Tensor):
        return args[0]  # in place
    return tree_map(lambda leaf: _There(leaf) if there and isinstance(leaf, torch.Tensor) else leaf, found)


def from_host(operation: Callable[..., Any]) -> Callable[..., Any]:
    """``operation`` of the CPU for tensors on any one device: a copy there, and one back."""

    def call(*args: Any, **kwargs: Any) -> Any:
        tensors = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, torch.Tensor)]
        here = tree_map(lambda leaf: leaf.cpu() if isinstance(leaf, torch.Tensor) else leaf, (args, kwargs))
        found = operation(*here[0], **here[1])
        device = tensors[0].device
        return tree_map(lambda leaf: leaf.to(device) if isinstance(leaf, torch.Tensor) else leaf, found)

    return call
