"""What this machine has for stspbr, what is missing, and the command that installs it."""

from __future__ import annotations

import importlib
import importlib.metadata
import importlib.util
import platform
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

from stspbr.doctor.checks import Check
from stspbr.doctor.cuda import examine
from stspbr.doctor.cuda_machine import describe_machine, try_rasterize
from stspbr.errors import StspbrError, first_line
from stspbr.version import __version__

FREE_DISK_GIB = 5.0
_MODULES = {"pillow": "PIL", "fast-simplification": "fast_simplification", "libigl": "igl"}
_PACKAGES = ("numpy", "scipy", "imageio", "pydantic", "safetensors", "trimesh", *_MODULES)


def diagnose(folder: str | Path = ".") -> list[Check]:
    """Run all checks; ``folder`` is where runs would be written. Takes some seconds, never raises."""
    checks: list[Check] = []
    looks: list[tuple[str, Callable[[], list[Check]]]] = [
        ("stspbr", _versions),
        ("packages", _packages),
        ("torch", lambda: [_package("torch")]),
        ("numba", _numba),
        ("xatlas", lambda: [_package("xatlas")]),
        ("OpenImageIO", lambda: [_package("OpenImageIO")]),
        ("tensorboard", _tensorboard),
        ("raster backends", _raster_backend),
        ("encoding backends", _encoding_backend),
        ("CUDA", lambda: examine(describe_machine())),
        ("mitsuba", _mitsuba),
        ("diffusers", _diffusers),
        ("disk", lambda: [_disk(Path(folder))]),
    ]
    for name, look in looks:
        try:
            checks += look()
        except Exception as error:  # a broken installation can raise anything; the other checks still run
            checks.append(Check(name, "broken", first_line(error), "python -m pip install --force-reinstall stspbr"))
    return checks


def healthy(checks: list[Check]) -> bool:
    """Whether everything that stspbr needs works."""
    return all(check.state == "ok" or check.optional for check in checks)


def _versions() -> list[Check]:
    from stspbr.threads import available_cores

    return [
        Check("stspbr", "ok", f"{__version__} at {Path(__file__).parents[1]}"),
        Check("python", "ok", f"{platform.python_version()} at {sys.executable}"),
        Check("platform", "ok", f"{platform.platform()}, {platform.machine()}"),
        Check("cores", "ok", f"{available_cores()} for this process"),
    ]


def _package(name: str, optional: bool = False) -> Check:
    """Import a package and report its version."""
    remedy = f"pip install --force-reinstall {name}"
    module = _MODULES.get(name, name)
    if importlib.util.find_spec(module) is None:
        return Check(name, "missing", "not installed", f"pip install {name}", optional)
    try:
        importlib.import_module(module)
    except Exception as error:  # a wheel of the wrong platform raises OSError, a clash of versions anything
        return Check(name, "broken", first_line(error), remedy, optional)
    return Check(name, "ok", importlib.metadata.version(name), optional=optional)


def _packages() -> list[Check]:
    checks = [_package(name) for name in _PACKAGES]
    wrong = [check for check in checks if check.state != "ok"]
    found = ", ".join(f"{check.name} {check.detail}" for check in checks if check.state == "ok")
    return [Check("packages", "ok", found), *wrong] if found else wrong


def _numba() -> list[Check]:
    check = _package("numba")
    if check.state != "ok":
        return [check]
    import numba
    import numpy as np

    @numba.njit(parallel=True)
    def double(values):
        for i in numba.prange(len(values)):
            values[i] *= 2.0

    values = np.ones(64)
    double(values)
    if not (values == 2.0).all():
        return [Check("numba", "broken", f"{check.detail}: a parallel loop computed a wrong result", "")]
    layer = numba.threading_layer()
    detail = f"{check.detail}, threading layer {layer}, {numba.config.NUMBA_NUM_THREADS} threads"
    if layer == "workqueue":
        remedy = "pip install tbb (or, on Debian/Ubuntu: apt-get install libgomp1)"
        return [Check("numba", "broken", f"{detail}: slow, and unsafe with several Python threads", remedy, True)]
    return [Check("numba", "ok", detail)]


def _tensorboard() -> list[Check]:
    check = _package("tensorboard", optional=True)
    if check.state == "ok":
        from torch.utils.tensorboard import SummaryWriter  # noqa: F401
    return [check]


def _raster_backend() -> list[Check]:
    """``cpu``, tried on one triangle."""
    import torch

    from stspbr.render.backend import get_backend

    cpu = torch.device("cpu")
    return [_kernels("raster backend cpu", lambda: try_rasterize(get_backend("cpu", cpu).rasterize, cpu))]


def _kernels(name: str, trial: Callable[[], str]) -> Check:
    """A check of Numba kernels; ``trial`` returns what is wrong, or nothing."""
    try:
        fault = trial()
    except Exception as error:  # e.g. an unwritable kernel cache
        return Check(name, "broken", first_line(error), "pip install --force-reinstall numba")
    return Check(name, "broken", fault) if fault else Check(name, "ok", "Numba kernels")


def _encoding_backend() -> list[Check]:
    import torch

    def trial() -> str:
        from stspbr.fields.hash_grid import HashGridEncoding

        encoding = HashGridEncoding(2, 2, 8, 4, 8, generator=torch.Generator().manual_seed(0), backend="cpu")
        features = encoding(torch.full((3, 3), 0.3))
        works = features.shape == (3, 4) and bool(torch.isfinite(features).all())
        return "" if works else "a small hash grid gave a wrong result"

    return [_kernels("encoding backend cpu", trial)]


def _mitsuba() -> list[Check]:
    if importlib.util.find_spec("mitsuba") is None:
        return [Check("mitsuba", "missing", "no path-traced captures", "pip install 'stspbr[reference]'", True)]
    from stspbr.render.mitsuba_bsdf import llvm_status

    version = importlib.metadata.version("mitsuba")
    works, status = llvm_status()
    if works:
        return [Check("mitsuba", "ok", f"{version}, {first_line(status)}", optional=True)]
    remedy = "brew install llvm" if sys.platform == "darwin" else "apt-get install libllvm19 (LLVM 19 or newer)"
    return [Check("mitsuba", "broken", f"{version}: {first_line(status)}", remedy, True)]


def _diffusers() -> list[Check]:
    if importlib.util.find_spec("diffusers") is None:
        return [Check("diffusers", "missing", "no priors of diffusers", "pip install 'stspbr[texture]'", True)]
    from stspbr.priors.floyd import load_diffusers

    try:
        found = load_diffusers()
    except StspbrError as error:  # transformers is missing, or a torchvision does not fit torch
        return [Check("diffusers", "broken", str(error), "pip install 'stspbr[texture]'", True)]
    return [Check("diffusers", "ok", found.__version__, optional=True)]


def _disk(folder: Path) -> Check:
    existing = next((path for path in (folder.resolve(), *folder.resolve().parents) if path.exists()), Path("."))
    free = shutil.disk_usage(existing).free / 2**30
    detail = f"{free:.1f} GiB free at {existing}"
    if free < FREE_DISK_GIB:
        return Check("disk", "broken", detail, f"free {FREE_DISK_GIB:.0f} GiB or write runs to another disk", True)
    return Check("disk", "ok", detail)
