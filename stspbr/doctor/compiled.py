"""nvdiffrast and tiny-cuda-nn, which are compiled on the user's machine: what they need, and the commands.

Facts used: a torch extension is built with the toolkit of torch's own CUDA major version; tiny-cuda-nn builds for
``TCNN_CUDA_ARCHITECTURES`` (at most 120), nvdiffrast for ``TORCH_CUDA_ARCH_LIST``. tiny-cuda-nn's setup imports
``pkg_resources``, which setuptools has up to 81, and asks for C++17, which torch's headers refuse from 2.14 on (on
Windows from 2.13 on).
"""

from __future__ import annotations

from functools import partial

from stspbr.doctor.checks import Check
from stspbr.doctor.machine import NO_DEVICE, CudaMachine, Package, digits_of, version_of
from stspbr.doctor.torch_choice import torch_command

_TOOLKIT_FOR = (((10, 0), (12, 8)), ((8, 9), (11, 8)), ((8, 6), (11, 1)), ((8, 0), (11, 0)))
_TINY_NEWEST = 120
_SETUPTOOLS = (82, 0)  # the first without pkg_resources
_NVDIFFRAST = "git+https://github.com/NVlabs/nvdiffrast.git"
_TINYCUDANN = "git+https://github.com/NVlabs/tiny-cuda-nn/#subdirectory=bindings/torch"


def check_toolkit(machine: CudaMachine) -> Check:
    """Whether the compilers that nvdiffrast and tiny-cuda-nn need are installed."""
    check = partial(Check, "CUDA toolkit", optional=True)
    if not machine.gpus or machine.torch_cuda is None:
        return check("missing", f"not needed yet: {NO_DEVICE}")
    wanted = max([version_of(machine.torch_cuda), *(_toolkit_for(capability) for _, capability in machine.gpus)])
    if wanted[0] != version_of(machine.torch_cuda)[0]:
        return check("missing", "no toolkit fits both this torch and this GPU", torch_command(machine))
    remedy = _toolkit_command(".".join(map(str, wanted)), machine.windows)
    if machine.nvcc is None:
        return check("missing", "no nvcc: nvdiffrast and tiny-cuda-nn cannot be built", remedy)
    found = version_of(machine.nvcc)
    if found[0] != wanted[0]:
        return check("broken", f"nvcc {machine.nvcc}, but torch is built for CUDA {machine.torch_cuda}", remedy)
    for name, capability in machine.gpus:
        if found < _toolkit_for(capability):
            needed = ".".join(map(str, _toolkit_for(capability)))
            return check("broken", f"nvcc {machine.nvcc} cannot build for {name}: it needs CUDA {needed}", remedy)
    if not machine.compiler:
        remedy = "install Visual Studio Build Tools (C++)" if machine.windows else "apt-get install build-essential"
        return check("missing", f"nvcc {machine.nvcc}, but no C++ compiler", remedy)
    return check("ok", f"nvcc {machine.nvcc} and a C++ compiler")


def check_library(library: str, machine: CudaMachine, cuda: Check, toolkit: Check) -> Check:
    """Whether ``nvdiffrast`` or ``tinycudann`` works, and if not, the command that fits the versions at hand."""
    label = f"{'raster' if library == 'nvdiffrast' else 'encoding'} backend {library}"
    package: Package = getattr(machine, library)
    if cuda.state != "ok":
        return Check(label, "missing", NO_DEVICE, "", True)
    if package.installed and not package.error:
        return Check(label, "ok", f"{library} works", optional=True)
    state, detail = "missing", f"{library} is not installed"
    if package.installed:
        state, detail = "broken", f"{_cause(package.error)}{package.error}"
    command = install_command(library, machine, again=package.installed)
    if (limit := torch_limit(library, machine)) is not None:
        detail += f"; it cannot be built with torch {machine.torch}"
        command = f"{torch_command(machine, limit)} && {command}"
    if toolkit.state != "ok":
        command = f"first the CUDA toolkit (above), then: {command}"
    return Check(label, "broken" if state == "broken" else "missing", detail, command, True)


def torch_limit(library: str, machine: CudaMachine) -> str | None:
    """The torch that this one must be older than, for the library to be built; None: it can be built."""
    limit = "2.13" if machine.windows else "2.14"
    if library != "tinycudann" or machine.torch is None or version_of(machine.torch) < version_of(limit):
        return None
    return limit


def install_command(library: str, machine: CudaMachine, again: bool = False) -> str:
    """The command that builds ``nvdiffrast`` or ``tinycudann`` for this machine's GPUs; ``again`` replaces a build."""
    capabilities = sorted({capability for _, capability in machine.gpus})
    if library == "nvdiffrast":
        name, value, source = "TORCH_CUDA_ARCH_LIST", ";".join(f"{a}.{b}" for a, b in capabilities), _NVDIFFRAST
    else:
        name, source = "TCNN_CUDA_ARCHITECTURES", _TINYCUDANN
        value = ",".join(map(str, sorted({min(int(digits_of(c)), _TINY_NEWEST) for c in capabilities})))
    over = "--force-reinstall --no-deps --no-cache-dir " if again else ""
    install = f'pip install --no-build-isolation {over}"{source}"'
    variable = f'set "{name}={value}" && ' if machine.windows else f'{name}="{value}" '
    old = machine.setuptools is not None and version_of(machine.setuptools) < _SETUPTOOLS
    tools = "pip install wheel ninja" if old else f'pip install "setuptools<{_SETUPTOOLS[0]}" wheel ninja'
    return f"{tools} && {variable if value else ''}{install}"


def _cause(error: str) -> str:
    """The meaning of the loader's message."""
    text = error.lower()
    if "undefined symbol" in text or "dll load failed" in text or "procedure could not be found" in text:
        return "built for another torch: "
    if "no kernel image" in text or "compute capability" in text:
        return "built for another GPU: "
    if "libcudart" in text or "libnvrtc" in text or "cublas" in text:
        return "built with another CUDA: "
    if "glibcxx" in text or "cxxabi" in text:
        return "built with another C++ compiler: "
    return ""


def _toolkit_command(release: str, windows: bool) -> str:
    where = f"install CUDA toolkit {release} (https://developer.nvidia.com/cuda-toolkit-archive)"
    if windows:
        return where
    return f"{where}, then: export CUDA_HOME=/usr/local/cuda-{release} PATH=/usr/local/cuda-{release}/bin:$PATH"


def _toolkit_for(capability: tuple[int, int]) -> tuple[int, int]:
    """The oldest toolkit that builds for a GPU."""
    return next((toolkit for newer, toolkit in _TOOLKIT_FOR if capability >= newer), (10, 0))
