"""The machine of a benchmark, its clocks and its peak memory."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import resource
import sys
import time
from pathlib import Path
from typing import Any

import torch

from stspbr.threads import available_cores
from stspbr.version import __version__


def describe_machine(device: torch.device, threads: int) -> dict[str, Any]:
    """The machine and the libraries, without the host's name or any path."""
    out: dict[str, Any] = {
        "cpu": _cpu_model(),
        "cores": available_cores(),
        "threads": threads,
        "load": list(os.getloadavg()) if hasattr(os, "getloadavg") else None,
        "platform": f"{platform.system()} {platform.release()} {platform.machine()}",
        "python": platform.python_version(),
        "stspbr": __version__,
        "device": str(device),
    }
    for name in ("torch", "numba", "numpy", "mitsuba", "embreex", "warp-lang", "nvdiffrast", "tinycudann"):
        try:
            out[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            out[name] = None
    if device.type == "cuda":
        properties = torch.cuda.get_device_properties(device)
        out["gpu"] = properties.name
        out["gpu_bytes"] = properties.total_memory
        out["cuda"] = torch.version.cuda
    return out


def read_clocks(device: torch.device) -> tuple[float, float]:
    """Wall and CPU time in seconds, after the device has finished its work."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter(), time.process_time()


def reset_peak(device: torch.device) -> None:
    """Reset the peak of memory; on the CPU only if Linux permits it."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        return
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        pass  # the peak then includes the start of the process


def peak_bytes(device: torch.device) -> int:
    """Largest memory since ``reset_peak``: allocated by torch on CUDA, resident in the process on the CPU."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM"))
    except (OSError, StopIteration):
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak if sys.platform == "darwin" else peak * 1024


def _cpu_model() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()
