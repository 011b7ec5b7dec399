"""What a machine lacks for stspbr's CUDA path: pure functions of a description of the machine.

Facts used: CUDA 11, 12 and 13 need drivers from 450, 525 and 580 (NVIDIA's minor version compatibility); a GPU runs
kernels built for its own major version and a minor one that is not newer, or PTX of any older version. Warp's wheel is
built with CUDA 13: it needs a driver from 580 and a GPU from Turing. The machine itself is described in
``cuda_machine``; what has to be compiled on it in ``compiled``.
"""

from __future__ import annotations

from functools import partial

from stspbr.doctor.checks import Check
from stspbr.doctor.compiled import check_library, check_toolkit
from stspbr.doctor.machine import NO_DEVICE, TURING, CudaMachine, digits_of, version_of
from stspbr.doctor.torch_choice import torch_command, torch_index

_DRIVER_FOR_CUDA = {11: 450, 12: 525, 13: 580}
_WARP_DRIVER = 580
_WARP_COMMAND = "pip install 'stspbr[cuda]'"


def examine(machine: CudaMachine) -> list[Check]:
    """CUDA, Warp, and the choice of ``--backend auto``; all of them optional.

    nvdiffrast and tiny-cuda-nn, which need compilers, are examined if they are installed, or if Warp cannot work here.
    """
    cuda = check_cuda(machine)
    warp = check_warp(machine, cuda)
    checks = [cuda, warp]
    compiled: list[Check] = []
    stuck = cuda.state == "ok" and warp.state != "ok" and not warp.remedy.startswith("pip ")
    if stuck or machine.nvdiffrast.installed or machine.tinycudann.installed:
        toolkit = check_toolkit(machine)
        compiled = [check_library(name, machine, cuda, toolkit) for name in ("nvdiffrast", "tinycudann")]
        if stuck or any(check.state == "broken" for check in compiled):
            checks.append(toolkit)
        wanted = zip(compiled, (machine.nvdiffrast, machine.tinycudann), strict=True)
        checks += [check for check, package in wanted if stuck or package.installed]
    return [*checks, _auto(cuda, warp, compiled)]


def check_cuda(machine: CudaMachine) -> Check:
    """Whether torch can work on the GPU, and if not, why."""
    check = partial(Check, "CUDA", optional=True)
    if machine.driver_error:
        remedy = "reboot; if that does not help, reinstall the driver"
        return check("broken", f"nvidia-smi: {machine.driver_error}", remedy)
    if not machine.gpus and not machine.torch_devices:
        return check("missing", "no NVIDIA GPU: everything runs on the CPU")
    if machine.torch is None:
        return check("missing", "torch is not installed", torch_command(machine))
    if machine.torch_cuda is None:
        return check("missing", "there is an NVIDIA GPU, but torch is its CPU build", torch_command(machine))
    if machine.torch_devices == 0:
        return check("broken", *_why_unseen(machine))
    for name, capability in machine.gpus:
        if machine.torch_architectures and not runs_on(machine.torch_architectures, capability):
            detail = f"torch {machine.torch} has no kernels for {name} (sm_{digits_of(capability)})"
            return check("broken", f"{detail}: it has {' '.join(machine.torch_architectures)}", torch_command(machine))
    names = ", ".join(name for name, _ in machine.gpus) or f"{machine.torch_devices} device(s)"
    return check("ok", f"{names} (torch for CUDA {machine.torch_cuda}, driver {machine.driver})")


def check_warp(machine: CudaMachine, cuda: Check) -> Check:
    """Whether our own kernels can run on the GPU: they need no toolkit and no compiler."""
    check = partial(Check, "raster backend warp", optional=True)
    if machine.warp.installed and machine.warp.error:
        return check("broken", f"warp: {machine.warp.error}", "pip install --force-reinstall warp-lang")
    if cuda.state != "ok":
        return (
            check("ok", "warp can be imported; on a CPU it is for tests")
            if machine.warp.installed
            else check("missing", NO_DEVICE)
        )
    driver = version_of(machine.driver or "0")[0]
    if machine.driver is not None and driver < _WARP_DRIVER:
        remedy = f"update the NVIDIA driver to {_WARP_DRIVER} or newer"
        return check("missing", f"Warp's wheel needs driver {_WARP_DRIVER}, but {machine.driver} is installed", remedy)
    old = [name for name, capability in machine.gpus if capability < TURING]
    if old and len(old) == len(machine.gpus):
        return check("missing", f"Warp needs a GPU from Turing on, and {old[0]} is older", "use --device cpu")
    if not machine.warp.installed:
        return check("missing", "warp is not installed", _WARP_COMMAND)
    return check("ok", "our kernels on the GPU, without a compiler")


def runs_on(architectures: tuple[str, ...], capability: tuple[int, int]) -> bool:
    """Whether code built for ``architectures`` (``sm_86``, ``compute_120``, ``sm_90a``) runs on a GPU."""
    for architecture in architectures:
        kind, _, digits = architecture.partition("_")
        exact = digits[-1:].isalpha()
        digits = digits.rstrip("af")
        if not digits.isdigit():
            continue
        built = int(digits[:-1]), int(digits[-1])
        if kind == "compute" and built <= capability:
            return True
        if kind == "sm" and (built == capability or (not exact and built[0] == capability[0] and built <= capability)):
            return True
    return False


def _auto(cuda: Check, warp: Check, compiled: list[Check]) -> Check:
    if cuda.state != "ok":
        return Check("--backend auto", "ok", f"takes cpu: {cuda.detail}")
    if warp.state == "ok":
        return Check("--backend auto", "ok", "takes warp; cpu with --device cpu")
    if not compiled or compiled[0].state != "ok":
        return Check("--backend auto", "missing", f"only --device cpu works: {warp.detail}", warp.remedy, True)
    name = "tinycudann" if compiled[1].state == "ok" else f"torch ({compiled[1].detail})"
    return Check("--backend auto", "ok", f"takes nvdiffrast and, for encodings, {name}; cpu with --device cpu")


def _why_unseen(machine: CudaMachine) -> tuple[str, str]:
    """Why a CUDA build of torch finds no device though the driver lists a GPU, and what to do."""
    seen = f"torch for CUDA {machine.torch_cuda} finds no device"
    if machine.visible is not None and machine.visible.strip() in ("", "-1"):
        return f"{seen}: CUDA_VISIBLE_DEVICES={machine.visible!r} hides it", "unset CUDA_VISIBLE_DEVICES"
    needed = _DRIVER_FOR_CUDA.get(version_of(machine.torch_cuda or "")[0])
    if machine.driver is not None and needed is not None and version_of(machine.driver)[0] < needed:
        update = f"update the NVIDIA driver to {needed} or newer"
        remedy = update if torch_index(machine) is None else f"{update}, or: {torch_command(machine)}"
        return f"{seen}: it needs driver {needed}, but {machine.driver} is installed", remedy
    return seen, "in a container: start it with --gpus all; else reboot, as after an update of the driver"
