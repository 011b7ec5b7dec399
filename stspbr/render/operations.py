"""The four raster operations as functions: each runs on the best backend for the device of its tensors."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import ParamSpec, TypeVar

import torch

from stspbr.render.backend import get_backend
from stspbr.render.cpu.antialias import antialias as cpu_antialias
from stspbr.render.cpu.interpolate import interpolate as cpu_interpolate
from stspbr.render.cpu.rasterize import rasterize as cpu_rasterize
from stspbr.render.cpu.texture import texture as cpu_texture

_Arguments = ParamSpec("_Arguments")
_Result = TypeVar("_Result")

_backend = functools.lru_cache(maxsize=8)(functools.partial(get_backend, "auto"))  # a GPU's context is made once


def _by_device(operation: Callable[_Arguments, _Result]) -> Callable[_Arguments, _Result]:
    """The backends' ``operation``, with the signature and documentation of the CPU's."""

    @functools.wraps(operation)
    def run(*args: _Arguments.args, **kwargs: _Arguments.kwargs) -> _Result:
        devices = (value.device for value in (*args, *kwargs.values()) if isinstance(value, torch.Tensor))
        backend = _backend(next(devices, torch.device("cpu")))
        return getattr(backend, operation.__name__)(*args, **kwargs)

    return run


rasterize = _by_device(cpu_rasterize)
interpolate = _by_device(cpu_interpolate)
antialias = _by_device(cpu_antialias)
sample_texture = _by_device(cpu_texture)
