"""The description of a machine, as far as the CUDA path is concerned."""

from __future__ import annotations

from dataclasses import dataclass

NO_DEVICE = "it needs a CUDA device that torch finds"
TURING = (7, 5)


@dataclass(frozen=True)
class Package:
    """A library of GPU kernels. ``error``: why it does not work, in one line, or empty."""

    installed: bool
    error: str = ""


@dataclass(frozen=True)
class CudaMachine:
    """The parts of a machine that matter for the CUDA path.

    Attributes:
        gpus: name and compute capability, such as (12, 0), of each GPU, from the driver.
        driver: version of the NVIDIA driver, or None; driver_error: the error of nvidia-smi.
        torch: its version; torch_cuda: the CUDA that it was built for (``"12.8"``), None for a CPU build.
        torch_devices: number of CUDA devices that torch finds; torch_architectures: ``sm_90``, ``compute_120``, …
        visible: ``CUDA_VISIBLE_DEVICES``, None if not set.
        nvcc: release of the toolkit's compiler (``"12.8"``), or None.
        compiler: whether there is a C++ compiler; windows: whether commands are for cmd.exe.
        setuptools: version of the package, or None.
    """

    gpus: tuple[tuple[str, tuple[int, int]], ...] = ()
    driver: str | None = None
    driver_error: str = ""
    torch: str | None = None
    torch_cuda: str | None = None
    torch_devices: int = 0
    torch_architectures: tuple[str, ...] = ()
    visible: str | None = None
    nvcc: str | None = None
    compiler: bool = True
    windows: bool = False
    setuptools: str | None = None
    warp: Package = Package(False)
    nvdiffrast: Package = Package(False)
    tinycudann: Package = Package(False)


def version_of(text: str) -> tuple[int, int]:
    """Major and minor number at the start of a version; 0 for what is not there."""
    major, minor, *_ = [int(part) for part in text.split(".")[:2] if part.isdigit()] + [0, 0]
    return major, minor


def digits_of(capability: tuple[int, int]) -> str:
    """(12, 0) as ``120``."""
    return f"{capability[0]}{capability[1]}"
