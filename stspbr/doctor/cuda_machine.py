"""Describe this machine for ``doctor.cuda``: the driver, torch, the toolkit, and a trial of the libraries."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stspbr.doctor.machine import CudaMachine, Package
from stspbr.errors import first_line

if TYPE_CHECKING:
    import torch


def describe_machine() -> CudaMachine:
    """This machine. Takes seconds if there is a GPU, and raises nothing."""
    gpus, driver, driver_error = _driver()
    version, cuda, devices, architectures = _torch()
    return CudaMachine(
        gpus=gpus,
        driver=driver,
        driver_error=driver_error,
        torch=version,
        torch_cuda=cuda,
        torch_devices=devices,
        torch_architectures=architectures,
        visible=os.environ.get("CUDA_VISIBLE_DEVICES"),
        nvcc=_nvcc(),
        compiler=any(shutil.which(name) for name in (os.environ.get("CXX", "c++"), "g++", "clang++", "cl")),
        windows=sys.platform == "win32",
        setuptools=_setuptools(),
        warp=_tried("warp", _try_warp if devices else _import_warp, max(devices, 1)),
        nvdiffrast=_tried("nvdiffrast", _try_nvdiffrast, devices),
        tinycudann=_tried("tinycudann", _try_tinycudann, devices),
    )


def parse_gpus(text: str) -> tuple[tuple[tuple[str, tuple[int, int]], ...], str | None]:
    """GPUs and driver from ``nvidia-smi --query-gpu=name,compute_cap,driver_version --format=csv,noheader``."""
    gpus, driver = [], None
    for line in text.strip().splitlines():
        parts = [part.strip() for part in line.rsplit(",", 2)]
        capability = re.fullmatch(r"(\d+)\.(\d+)", parts[1]) if len(parts) == 3 else None
        if capability is not None:
            gpus.append((parts[0], (int(capability[1]), int(capability[2]))))
            driver = parts[2]
    return tuple(gpus), driver


def parse_nvcc(text: str) -> str | None:
    """The release (``"12.8"``) in the output of ``nvcc --version``."""
    found = re.search(r"release (\d+\.\d+)", text)
    return None if found is None else found[1]


def _driver() -> tuple[tuple[tuple[str, tuple[int, int]], ...], str | None, str]:
    tool = shutil.which("nvidia-smi")
    if tool is None:
        return (), None, ""
    query = ["--query-gpu=name,compute_cap,driver_version", "--format=csv,noheader"]
    try:
        answer = subprocess.run([tool, *query], capture_output=True, text=True, timeout=60)
    except (OSError, subprocess.TimeoutExpired) as error:
        return (), None, first_line(error)
    if answer.returncode != 0:
        output = answer.stderr.strip() or answer.stdout.strip()
        return (), None, "" if "No devices were found" in output else first_line(output)
    return (*parse_gpus(answer.stdout), "")


def _torch() -> tuple[str | None, str | None, int, tuple[str, ...]]:
    try:
        import torch
    except Exception:  # missing or broken: another line of the report
        return None, None, 0, ()
    if not torch.cuda.is_available():
        return torch.__version__, torch.version.cuda, 0, ()
    return torch.__version__, torch.version.cuda, torch.cuda.device_count(), tuple(torch.cuda.get_arch_list())


def _nvcc() -> str | None:
    home = os.environ.get("CUDA_HOME") or os.environ.get("CUDA_PATH")
    beside = shutil.which("nvcc", path=str(Path(home) / "bin")) if home else None  # torch looks there first
    tool = beside or shutil.which("nvcc")
    if tool is None:
        return None
    try:
        return parse_nvcc(subprocess.run([tool, "--version"], capture_output=True, text=True, timeout=60).stdout)
    except (OSError, subprocess.TimeoutExpired):
        return None


def _setuptools() -> str | None:
    try:
        return importlib.metadata.version("setuptools")
    except importlib.metadata.PackageNotFoundError:
        return None


def _tried(package: str, trial: Callable[[], str], devices: int) -> Package:
    if importlib.util.find_spec(package) is None:
        return Package(False)
    if devices == 0:
        return Package(True)
    try:
        return Package(True, trial())
    except Exception as error:  # a build for another torch, GPU or CUDA can raise anything
        return Package(True, first_line(error))


def _import_warp() -> str:
    importlib.import_module("warp")
    return ""


def _try_warp() -> str:
    """Rasterize one triangle; returns what is wrong, or nothing. It has not run on a GPU yet."""
    import torch

    from stspbr.render.backend import get_backend

    device = torch.device("cuda", torch.cuda.current_device())
    return try_rasterize(get_backend("warp", device).rasterize, device)


def _try_nvdiffrast() -> str:
    """Rasterize one triangle; returns what is wrong, or nothing. It has not run on a GPU yet."""
    import torch

    from stspbr.render.nvdiffrast import nvdiffrast_backend

    device = torch.device("cuda", torch.cuda.current_device())
    return try_rasterize(nvdiffrast_backend(device).rasterize, device)


def try_rasterize(rasterize: Callable[..., Any], device: torch.device) -> str:
    """Rasterize a triangle over a whole small image; returns what is wrong, or nothing."""
    import torch

    clip = torch.tensor([[[-1.0, -1.0, 0.0, 1.0], [3.0, -1.0, 0.0, 1.0], [-1.0, 3.0, 0.0, 1.0]]], device=device)
    rast, _ = rasterize(clip, torch.tensor([[0, 1, 2]], dtype=torch.int32, device=device), (8, 8))
    return "" if bool((rast[..., 3] == 1).all()) else "a triangle over the whole image left holes"


def _try_tinycudann() -> str:
    """Compare a small grid with the CPU kernels; returns what is wrong, or nothing. It has not run on a GPU yet."""
    import torch

    from stspbr.fields.hash_grid import HashGridEncoding

    generator = torch.Generator().manual_seed(0)
    ours, theirs = (
        HashGridEncoding(3, 2, 8, 4, 16, generator=generator, backend=name) for name in ("cpu", "tinycudann")
    )
    theirs.load_state_dict(ours.state_dict())
    points = torch.rand(300, 3, generator=generator)
    wanted, found = ours(points), theirs.cuda()(points.cuda()).cpu()
    close = torch.allclose(found, wanted, rtol=1e-2, atol=1e-7)
    return "" if close else "its hash grid differs from the CPU kernels'; use --backend auto+torch"
