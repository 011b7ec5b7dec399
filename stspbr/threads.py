"""Threads and memory of the process: one setting for torch and Numba."""

from __future__ import annotations

import ctypes
import os
import sys


def available_cores() -> int:
    """Number of cores that this process may use: its affinity mask, limited by the cgroup's CPU quota."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    try:
        with open("/sys/fs/cgroup/cpu.max") as stream:
            quota, period = stream.read().split()[:2]
        if quota != "max":
            cores = min(cores, max(1, round(int(quota) / int(period))))
    except (OSError, ValueError):
        pass  # no cgroup v2 here
    return cores


def prepare_process() -> None:
    """Set what must be set before torch and Numba are imported; may be called again.

    Torch and Numba have an OpenMP pool each: with passive waiting the idle one does not spin on the cores of the busy
    one. By default glibc returns every large temporary to the kernel; the page faults cost a third of a training step.
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    if not os.access(os.path.dirname(os.path.abspath(__file__)), os.W_OK):
        cache = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
        os.environ.setdefault("NUMBA_CACHE_DIR", os.path.join(cache, "stspbr", "numba"))
    if sys.platform.startswith("linux"):
        try:
            mallopt = ctypes.CDLL(None).mallopt
            mallopt(-4, 0)  # M_MMAP_MAX
            mallopt(-1, 2**31 - 1)  # M_TRIM_THRESHOLD
            mallopt(-2, 64 << 20)  # M_TOP_PAD
        except (OSError, AttributeError):
            pass  # not glibc


def set_threads(count: int | None = None) -> int:
    """Give torch, Numba and libigl the same number of threads; ``None`` means all cores. Returns the number."""
    import numba
    import torch

    count = min(count or available_cores(), numba.config.NUMBA_NUM_THREADS)
    os.environ["IGL_NUM_THREADS"] = str(count)  # libigl reads it when it first runs in parallel
    torch.set_num_threads(count)
    numba.set_num_threads(count)
    return count
