"""Kernels in NVIDIA Warp (extra ``cuda``): loading the library, declaring kernels, launching them on torch tensors.

A module of kernels is written like this, and is imported only by what has called :func:`load_warp`::

    import warp as wp

    from stspbr.warp_runtime import launch, warp_function, warp_kernel

    @warp_kernel
    def scale(values: wp.array2d[wp.float32], factor: wp.float32, out: wp.array2d[wp.float32]):
        i, j = wp.tid()
        out[i, j] = factor * values[i, j]

    launch(scale, values.shape, values, 2.0, out)

Gradients are kernels of their own: Warp's tape is not used. Warp's CPU device runs the same kernels in one thread, to
test them; Numba's kernels are the fast ones on a CPU.
"""

from __future__ import annotations

import contextlib
import functools
import importlib
import os
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch

from stspbr.errors import StspbrError, why_not_importable
from stspbr.threads import user_cache

MAX_STRIDE = 1 << 31  # bytes: Warp keeps the strides of arrays in 32 bits
ARCHITECTURES = (75, 90, 120)  # Turing, Hopper, Blackwell: the oldest that Warp compiles for, and two of today's


def why_no_warp(device: torch.device | None = None) -> str | None:
    """Why Warp cannot be used on ``device`` (None: the CPU), in one line with what to do; None if it can."""
    reason = why_not_importable("warp", "warp")
    if reason is not None:
        reinstall = "" if reason.endswith("not installed") else "--force-reinstall "
        return f"{reason.replace('warp', 'warp-lang', 1)}: pip install {reinstall}'stspbr[cuda]'"
    if device is None:
        return None
    if device.type not in ("cpu", "cuda"):
        return f"warp-lang has no {device.type} devices"
    if device.type == "cuda" and not load_warp().is_cuda_available():
        return "warp-lang finds no GPU: it needs an NVIDIA driver of version 580 or newer, see `stspbr doctor`"
    return None


@functools.cache
def load_warp() -> Any:
    """The module ``warp``, initialised: it says nothing below warnings and keeps kernels in our cache folder.

    Kernels are compiled when they are first launched on a device, and kept in ``WARP_CACHE_PATH`` if that is set, else
    in ``stspbr/warp`` of the user's cache folder.

    Raises:
        StspbrError: Warp is not installed, or does not start.
    """
    if (reason := why_no_warp()) is not None:
        raise StspbrError(reason)
    import warp as wp

    wp.config.log_level = wp.LOG_WARNING
    wp.config.enable_backward = False
    if not os.environ.get("WARP_CACHE_PATH"):
        wp.config.kernel_cache_dir = _writable(user_cache("warp"))
    try:
        with _silence() if not torch.cuda.is_available() else contextlib.nullcontext():
            wp.init()
    except RuntimeError as error:
        raise StspbrError(f"Warp does not start: {error}") from error
    return wp


def warp_kernel(function: Callable) -> Any:
    """``warp.kernel`` without a generated backward pass."""
    return load_warp().kernel(function, enable_backward=False)


def warp_function(function: Callable) -> Any:
    """``warp.func``: a function that kernels of any module call."""
    return load_warp().func(function)


def launch(kernel: Any, dim: int | Sequence[int], *arguments: Any) -> None:
    """Run ``kernel`` with ``dim`` threads (up to four dimensions) on the device of its tensors; none if it is empty.

    On CUDA it is queued in torch's current stream, and nothing waits.

    Args:
        kernel: from :func:`warp_kernel`.
        arguments: as declared by the kernel. For an array a torch tensor of the same element type and number of
            dimensions, which the kernel reads and writes in place; an array of vectors or matrices takes their
            components as the last dimensions; ``None`` is an empty array. Else numbers, and Warp's own values.

    Raises:
        ValueError: too few or too many arguments, a tensor that does not fit, or tensors on two devices.
        StspbrError: a tensor whose strides are ``MAX_STRIDE`` or more.
    """
    wp = load_warp()
    size = (dim,) if isinstance(dim, int) else tuple(int(n) for n in dim)
    declared = kernel.adj.args
    if len(arguments) != len(declared):
        raise ValueError(f"{kernel.key} takes {len(declared)} arguments, not {len(arguments)}")
    device = next((value.device for value in arguments if isinstance(value, torch.Tensor)), None)
    if device is None:
        raise ValueError(f"{kernel.key}: no tensor says on which device")
    if 0 in size:
        return
    # descriptors are quicker to make, but Warp's deterministic mode must know the arrays that it sums into
    whole = kernel.module.options["deterministic"] != wp.DeterministicMode.NOT_GUARANTEED
    values = [
        _array(wp, f"{kernel.key}: {argument.label}", value, argument.type, device, whole)
        if isinstance(value, torch.Tensor)
        else value
        for argument, value in zip(declared, arguments, strict=True)
    ]
    if device.type == "cpu":
        wp.launch(kernel, size, values, device="cpu", record_tape=False)
    else:
        stream = _stream(device, torch.cuda.current_stream(device).cuda_stream)
        wp.launch(kernel, size, values, stream=stream, record_tape=False)


@contextlib.contextmanager
def on_torch_stream(device: torch.device) -> Iterator[None]:
    """What Warp does beside launches, such as building a ``wp.Mesh``, is queued in torch's current stream on CUDA."""
    wp = load_warp()
    if device.type != "cuda":
        yield
        return
    with wp.ScopedStream(_stream(device, torch.cuda.current_stream(device).cuda_stream)):
        yield


def set_deterministic(on: bool) -> None:
    """Whether sums of floats by many threads on a GPU are in a fixed order: equal inputs then give equal bits.

    That holds on one kind of GPU; Warp then sorts what is to be added, and the host waits for each such kernel. Else
    atomic additions come in any order. The CPU device has one thread, and is always deterministic. Holds for the
    process; kernels are compiled again if it changes.
    """
    wp = load_warp()
    mode = wp.DeterministicMode.RUN_TO_RUN if on else wp.DeterministicMode.NOT_GUARANTEED
    wp.config.deterministic = mode  # of modules that are not imported yet
    for name in set(kernel_modules()) & set(sys.modules):
        module = wp.get_module(name)
        if module.options["deterministic"] != mode:
            wp.set_module_options({"deterministic": mode}, module=module)


def kernel_modules() -> list[str]:
    """Names of the package's modules that declare kernels."""
    root = Path(__file__).parent
    files = [path for path in sorted(root.rglob("*.py")) if b"\n@warp_kernel" in path.read_bytes()]
    return [".".join((root.name, *path.relative_to(root).with_suffix("").parts)) for path in files]


def compile_ahead(name: str, folder: Path, architectures: Sequence[int] = ARCHITECTURES) -> list[Path]:
    """Compile the kernels of the module ``name`` to PTX, one file per compute capability; needs no GPU or driver."""
    wp = load_warp()
    importlib.import_module(name)
    return list(wp.compile_aot_module(name, arch=list(architectures), module_dir=folder, use_ptx=True))


def _array(wp: Any, name: str, tensor: torch.Tensor, declared: Any, device: torch.device, whole: bool) -> Any:
    """Warp's array of a tensor, or only its descriptor if not ``whole``; nothing is copied."""
    if not hasattr(declared, "ndim"):
        raise ValueError(f"{name} is no array, but a tensor was given")
    inner = len(getattr(declared.dtype, "_shape_", ()))
    if tensor.device != device:
        raise ValueError(f"{name} is on {tensor.device}, but other tensors are on {device}")
    if tensor.dim() != declared.ndim + inner:
        raise ValueError(f"{name} must have {declared.ndim + inner} dimensions, not {list(tensor.shape)}")
    reach = max((step for step, size in zip(tensor.stride(), tensor.shape, strict=True) if size > 1), default=0)
    if reach * tensor.element_size() >= MAX_STRIDE:
        raise StspbrError(f"{name}: {list(tensor.shape)} is too large for Warp: use smaller images or optimize.batch")
    try:
        return wp.from_torch(tensor.detach(), declared.dtype, requires_grad=False, return_ctype=not whole)
    except RuntimeError as error:
        raise ValueError(f"{name}: {error}") from error


@contextlib.contextmanager
def _silence() -> Iterator[None]:
    """Without a driver Warp's library warns on the process's stderr, where a CPU is all that is asked for."""
    sys.stderr.flush()
    kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)


@functools.lru_cache(maxsize=64)
def _stream(device: torch.device, handle: int) -> Any:
    """Warp's view of torch's current stream ``handle``."""
    return load_warp().stream_from_torch(torch.cuda.current_stream(device))


def _writable(folder: Path) -> str:
    """``folder`` if it can be made and written, else a new temporary one."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if os.access(folder, os.W_OK):
            return str(folder)
    except OSError:
        pass
    return tempfile.mkdtemp(prefix="stspbr-warp-")
