"""Which build of torch fits a machine's driver and GPUs, and the command that installs it.

Facts used: Blackwell (10.0, 12.0) needs a torch from CUDA 12.8 and a driver from 570. PyTorch's index cu128 ends with
torch 2.11, cu126 with 2.14, and pip takes what was last there without a word: the command says so.
"""

from __future__ import annotations

from stspbr.doctor.machine import TURING, CudaMachine, version_of

_BLACKWELL, _BLACKWELL_DRIVER = (10, 0), 570
_NO_NEWER = {"cu126": "2.15", "cu128": "2.12"}


def torch_index(machine: CudaMachine) -> str | None:
    """PyTorch's wheel index for this driver and these GPUs, e.g. ``cu128``; None if the driver is too old."""
    driver = version_of(machine.driver or "0")[0]
    oldest = min((capability for _, capability in machine.gpus), default=TURING)
    newest = max((capability for _, capability in machine.gpus), default=TURING)
    if oldest >= TURING or newest >= _BLACKWELL:  # beside a Blackwell, GPUs before Turing are ignored
        if driver >= 580:
            return "cu130"
        if driver >= _BLACKWELL_DRIVER:
            return "cu128"
    return "cu126" if driver >= 525 and newest < _BLACKWELL else None


def torch_command(machine: CudaMachine, below: str | None = None) -> str:
    """The command that installs a torch for this driver and these GPUs, or what to do about the driver.

    Args:
        below: the version that torch must be older than; None: any.
    """
    index = torch_index(machine)
    if index is not None:
        limits = [limit for limit in (_NO_NEWER.get(index), below) if limit is not None]
        torch = f'"torch<{min(limits, key=version_of)}"' if limits else "torch"
        return f"pip install --force-reinstall {torch} --index-url https://download.pytorch.org/whl/{index}"
    newest = max((capability for _, capability in machine.gpus), default=TURING)
    needed = _BLACKWELL_DRIVER if newest >= _BLACKWELL else 525
    return f"update the NVIDIA driver to {needed} or newer, then run `stspbr doctor` again"
