"""Describe this machine for ``doctor_cuda``: the driver, torch, the toolkit, and a trial of the two libraries."""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from stspbr.doctor.checks import one_line
from stspbr.doctor.cuda import CudaMachine, Package


def describe_machine() -> CudaMachine:
    """This machine. Takes seconds where there is a GPU, and never raises for the machine's sake."""
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
    """The release (``"12.8"``) in what ``nvcc --version`` prints."""
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
        return (), None, one_line(error)
    if answer.returncode != 0:
        output = answer.stderr.strip() or answer.stdout.strip()
        return (), None, "" if "No devices were found" in output else one_line(output)
    return (*parse_gpus(answer.stdout), "")


def _torch() -> tuple[str | None, str | None, int, tuple[str, ...]]:
    try:
        import torch
    except Exception:  # absent or broken: another line of the report says so
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


def _tried(package: str, trial: Callable[[], str], devices: int) -> Package:
    if importlib.util.find_spec(package) is None:
        return Package(False)
    if devices == 0:
        return Package(True)
    try:
        return Package(True, trial())
    except Exception as error:  # built for another torch, another GPU, another CUDA: anything can come
        return Package(True, one_line(error))


def _try_nvdiffrast() -> str:
    """One triangle over a small image; what is wrong with it, or nothing. It has not run on a GPU yet."""
    import torch

    from stspbr.render.nvdiffrast import nvdiffrast_backend

    device = torch.device("cuda", torch.cuda.current_device())
    clip = torch.tensor([[[-1.0, -1.0, 0.0, 1.0], [3.0, -1.0, 0.0, 1.0], [-1.0, 3.0, 0.0, 1.0]]], device=device)
    faces = torch.tensor([[0, 1, 2]], dtype=torch.int32, device=device)
    rast, _ = nvdiffrast_backend(device).rasterize(clip, faces, (8, 8))
    return "" if bool((rast[..., 3] == 1).all()) else "a triangle over the whole image left holes"


def _try_tinycudann() -> str:
    """A small grid against the embedded kernels; what is wrong with it, or nothing. It has not run on a GPU yet."""
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
    return "" if close else "its hash grid differs from the embedded kernels'; use --backend auto+torch"
