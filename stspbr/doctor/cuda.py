"""What stands between a machine and stspbr's CUDA path: pure functions over a described machine.

Facts used: CUDA 11, 12 and 13 need drivers from 450, 525 and 580 (NVIDIA's minor version compatibility), Blackwell
(10.0, 12.0) a toolkit and a torch from CUDA 12.8 and a driver from 570; a GPU runs kernels built for its own major
version and a minor one that is not newer, or PTX of any older version; a torch extension is built with the toolkit of
torch's own CUDA major version; tiny-cuda-nn builds for ``TCNN_CUDA_ARCHITECTURES`` (120 for RTX 50xx) and its bindings
need networks, nvdiffrast for ``TORCH_CUDA_ARCH_LIST`` (12.0). The machine itself is described in ``cuda_machine``.
"""

from __future__ import annotations

from dataclasses import dataclass

from stspbr.doctor.checks import Check, State

_DRIVER_FOR_CUDA = {11: 450, 12: 525, 13: 580}
_TOOLKIT_FOR = (((10, 0), (12, 8)), ((8, 9), (11, 8)), ((8, 6), (11, 1)), ((8, 0), (11, 0)))
_BLACKWELL, _BLACKWELL_DRIVER = (10, 0), 570
_TURING = (7, 5)
_TINY_NEWEST = 120
_NVDIFFRAST = "git+https://github.com/NVlabs/nvdiffrast.git"
_TINYCUDANN = "git+https://github.com/NVlabs/tiny-cuda-nn/#subdirectory=bindings/torch"
_NO_DEVICE = "it needs a CUDA device that torch sees"


@dataclass(frozen=True)
class Package:
    """A package that is compiled on the user's machine. ``error``: why it does not work, in one line; else empty."""

    installed: bool
    error: str = ""


@dataclass(frozen=True)
class CudaMachine:
    """What matters of a machine for the CUDA path.

    Attributes:
        gpus: name and compute capability (12, 0) of each, as the driver tells.
        driver: version of the NVIDIA driver; None where there is none. driver_error: what nvidia-smi complains of.
        torch: its version; torch_cuda: the CUDA that it was built for (``"12.8"``), None for a CPU build.
        torch_devices: how many CUDA devices it sees. torch_architectures: ``sm_90``, ``compute_120``, …
        visible: ``CUDA_VISIBLE_DEVICES``, None where it is not set.
        nvcc: release of the toolkit's compiler (``"12.8"``), None where there is none.
        compiler: whether there is a C++ compiler; windows: whether commands are for cmd.exe.
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
    nvdiffrast: Package = Package(False)
    tinycudann: Package = Package(False)


def examine(machine: CudaMachine) -> list[Check]:
    """CUDA, its toolkit, the two libraries, and what ``--backend auto`` takes; all of them optional."""
    cuda, toolkit = check_cuda(machine), check_toolkit(machine)
    raster = _library("raster backend nvdiffrast", "nvdiffrast", machine.nvdiffrast, machine, cuda, toolkit)
    encoding = _library("encoding backend tinycudann", "tinycudann", machine.tinycudann, machine, cuda, toolkit)
    return [cuda, toolkit, raster, encoding, _auto(cuda, raster, encoding)]


def check_cuda(machine: CudaMachine) -> Check:
    """Whether torch can work on the GPU, and why not."""

    def check(state: State, detail: str, remedy: str = "") -> Check:
        return Check("CUDA", state, detail, remedy, optional=True)

    if machine.driver_error:
        return check(
            "broken", f"nvidia-smi: {machine.driver_error}", "reboot; if that does not help, reinstall the driver"
        )
    if not machine.gpus and not machine.torch_devices:
        return check("missing", "no NVIDIA GPU: everything runs on the CPU")
    if machine.torch is None:
        return check("missing", "torch is not installed", _torch_command(machine))
    if machine.torch_cuda is None:
        return check("missing", "there is an NVIDIA GPU, but torch is its CPU build", _torch_command(machine))
    if machine.torch_devices == 0:
        return check("broken", *_why_unseen(machine))
    for name, capability in machine.gpus:
        if machine.torch_architectures and not runs_on(machine.torch_architectures, capability):
            detail = f"torch {machine.torch} has no kernels for {name} (sm_{_digits(capability)})"
            return check("broken", f"{detail}: it has {' '.join(machine.torch_architectures)}", _torch_command(machine))
    names = ", ".join(name for name, _ in machine.gpus) or f"{machine.torch_devices} device(s)"
    return check("ok", f"{names} (torch for CUDA {machine.torch_cuda}, driver {machine.driver})")


def check_toolkit(machine: CudaMachine) -> Check:
    """Whether the compilers are there that nvdiffrast and tiny-cuda-nn are built with."""

    def check(state: State, detail: str, remedy: str = "") -> Check:
        return Check("CUDA toolkit", state, detail, remedy, optional=True)

    if not machine.gpus or machine.torch_cuda is None:
        return check("missing", f"of no use yet: {_NO_DEVICE}")
    wanted = max([_version(machine.torch_cuda), *(_toolkit_for(capability) for _, capability in machine.gpus)])
    if wanted[0] != _version(machine.torch_cuda)[0]:
        return check("missing", "no toolkit fits both this torch and this GPU", _torch_command(machine))
    remedy = _toolkit_command(".".join(map(str, wanted)), machine.windows)
    if machine.nvcc is None:
        return check("missing", "no nvcc: nvdiffrast and tiny-cuda-nn cannot be built", remedy)
    found = _version(machine.nvcc)
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


def torch_index(machine: CudaMachine) -> str | None:
    """PyTorch's wheel index for this driver and these GPUs, e.g. ``cu128``; None where the driver is too old."""
    driver = _version(machine.driver or "0")[0]
    oldest = min((capability for _, capability in machine.gpus), default=_TURING)
    newest = max((capability for _, capability in machine.gpus), default=_TURING)
    if oldest >= _TURING or newest >= _BLACKWELL:  # beside a Blackwell an older GPU than Turing has to stand back
        if driver >= 580:
            return "cu130"
        if driver >= _BLACKWELL_DRIVER:
            return "cu128"
    return "cu126" if driver >= 525 and newest < _BLACKWELL else None


def install_command(library: str, machine: CudaMachine, again: bool = False) -> str:
    """The command that builds ``nvdiffrast`` or ``tinycudann`` for this machine's GPUs; ``again`` over a broken one."""
    capabilities = sorted({capability for _, capability in machine.gpus})
    if library == "nvdiffrast":
        name, value, source = "TORCH_CUDA_ARCH_LIST", ";".join(f"{a}.{b}" for a, b in capabilities), _NVDIFFRAST
    else:
        name, source = "TCNN_CUDA_ARCHITECTURES", _TINYCUDANN
        value = ",".join(map(str, sorted({min(int(_digits(c)), _TINY_NEWEST) for c in capabilities})))
    over = "--force-reinstall --no-deps --no-cache-dir " if again else ""
    install = f'pip install --no-build-isolation {over}"{source}"'
    variable = f'set "{name}={value}" && ' if machine.windows else f'{name}="{value}" '
    return f"pip install setuptools wheel ninja && {variable if value else ''}{install}"


def _library(label: str, library: str, package: Package, machine: CudaMachine, cuda: Check, toolkit: Check) -> Check:
    if cuda.state != "ok":
        return Check(label, "missing", _NO_DEVICE, "", True)
    if package.installed and not package.error:
        return Check(label, "ok", f"{library} works", optional=True)
    command = install_command(library, machine, again=package.installed)
    if toolkit.state != "ok":
        command = f"first the CUDA toolkit (above), then: {command}"
    if not package.installed:
        return Check(label, "missing", f"{library} is not installed", command, True)
    return Check(label, "broken", f"{_cause(package.error)}{package.error}", command, True)


def _cause(error: str) -> str:
    """What the loader's message means."""
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


def _auto(cuda: Check, raster: Check, encoding: Check) -> Check:
    if cuda.state != "ok":
        return Check("--backend auto", "ok", f"takes cpu, not nvdiffrast: {cuda.detail}")
    if raster.state != "ok":
        return Check("--backend auto", "missing", f"only --device cpu works: {raster.detail}", raster.remedy, True)
    name = "tinycudann" if encoding.state == "ok" else f"torch ({encoding.detail})"
    return Check("--backend auto", "ok", f"takes nvdiffrast and, for encodings, {name}; cpu with --device cpu")


def _why_unseen(machine: CudaMachine) -> tuple[str, str]:
    """Why a CUDA build of torch sees no device though the driver lists a GPU, and what to do."""
    seen = f"torch for CUDA {machine.torch_cuda} sees no device"
    if machine.visible is not None and machine.visible.strip() in ("", "-1"):
        return f"{seen}: CUDA_VISIBLE_DEVICES={machine.visible!r} hides it", "unset CUDA_VISIBLE_DEVICES"
    needed = _DRIVER_FOR_CUDA.get(_version(machine.torch_cuda or "")[0])
    if machine.driver is not None and needed is not None and _version(machine.driver)[0] < needed:
        update = f"update the NVIDIA driver to {needed} or newer"
        remedy = update if torch_index(machine) is None else f"{update}, or: {_torch_command(machine)}"
        return f"{seen}: driver {machine.driver} is older than the {needed} that it needs", remedy
    return seen, "in a container: start it with --gpus all; else reboot, as after an update of the driver"


def _torch_command(machine: CudaMachine) -> str:
    index = torch_index(machine)
    if index is not None:
        return f"pip install --force-reinstall torch --index-url https://download.pytorch.org/whl/{index}"
    newest = max((capability for _, capability in machine.gpus), default=_TURING)
    needed = _BLACKWELL_DRIVER if newest >= _BLACKWELL else 525
    return f"update the NVIDIA driver to {needed} or newer, then run `stspbr doctor` again"


def _toolkit_command(release: str, windows: bool) -> str:
    where = f"install CUDA toolkit {release} (https://developer.nvidia.com/cuda-toolkit-archive)"
    if windows:
        return where
    return f"{where}, then: export CUDA_HOME=/usr/local/cuda-{release} PATH=/usr/local/cuda-{release}/bin:$PATH"


def _toolkit_for(capability: tuple[int, int]) -> tuple[int, int]:
    """The oldest toolkit that builds for a GPU."""
    return next((toolkit for newer, toolkit in _TOOLKIT_FOR if capability >= newer), (10, 0))


def _version(text: str) -> tuple[int, int]:
    major, minor, *_ = [int(part) for part in text.split(".")[:2] if part.isdigit()] + [0, 0]
    return major, minor


def _digits(capability: tuple[int, int]) -> str:
    return f"{capability[0]}{capability[1]}"
