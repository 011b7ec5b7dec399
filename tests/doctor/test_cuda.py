"""What the doctor says to described machines: a table of them, and the commands it gives."""

from __future__ import annotations

from dataclasses import replace

import pytest

from stspbr.doctor.checks import Check
from stspbr.doctor.cuda import CudaMachine, Package, examine, install_command, runs_on, torch_index
from stspbr.doctor.cuda_machine import describe_machine, parse_gpus, parse_nvcc

RTX5090, RTX4090, RTX3090, H100, GTX1080, SPARK = (
    ("NVIDIA GeForce RTX 5090", (12, 0)),
    ("NVIDIA GeForce RTX 4090", (8, 9)),
    ("NVIDIA GeForce RTX 3090", (8, 6)),
    ("NVIDIA H100", (9, 0)),
    ("NVIDIA GeForce GTX 1080", (6, 1)),
    ("NVIDIA GB10", (12, 1)),
)
CU128 = ("sm_75", "sm_80", "sm_86", "sm_90", "sm_100", "sm_120", "compute_120")
CU126 = ("sm_50", "sm_60", "sm_70", "sm_75", "sm_80", "sm_86", "sm_90")
READY = CudaMachine(
    gpus=(RTX5090,),
    driver="575.57.08",
    torch="2.13.0+cu128",
    torch_cuda="12.8",
    torch_devices=1,
    torch_architectures=CU128,
    nvcc="12.8",
    nvdiffrast=Package(True),
    tinycudann=Package(True),
)
TOOLKIT_128 = "export CUDA_HOME=/usr/local/cuda-12.8 PATH=/usr/local/cuda-12.8/bin:$PATH"
WHEEL = "pip install --force-reinstall torch --index-url https://download.pytorch.org/whl/"
TCNN_120 = (
    'pip install setuptools wheel ninja && TCNN_CUDA_ARCHITECTURES="120" pip install --no-build-isolation '
    '"git+https://github.com/NVlabs/tiny-cuda-nn/#subdirectory=bindings/torch"'
)


def named(machine: CudaMachine) -> dict[str, Check]:
    checks = examine(machine)
    assert all(check.optional or check.state == "ok" for check in checks), "stspbr runs without any of them"
    assert all(check.detail and "\n" not in check.detail for check in checks)
    return {check.name.split()[-1] if "backend" in check.name else check.name: check for check in checks}


def test_a_machine_that_is_ready():
    checks = named(READY)
    assert {check.state for check in checks.values()} == {"ok"}
    assert "takes nvdiffrast and, for encodings, tinycudann" in checks["auto"].detail


MACHINES = {
    "no GPU": (CudaMachine(torch="2.13.0"), "CUDA", "missing", "no NVIDIA GPU", ""),
    "CPU build, new driver": (
        CudaMachine(gpus=(RTX4090,), driver="580.82", torch="2.13.0+cpu"),
        "CUDA",
        "missing",
        "CPU build",
        WHEEL + "cu130",
    ),
    "CPU build, RTX 50xx, driver 572": (
        CudaMachine(gpus=(RTX5090,), driver="572.16", torch="2.13.0+cpu"),
        "CUDA",
        "missing",
        "CPU build",
        WHEEL + "cu128",
    ),
    "CPU build, RTX 50xx, driver 550": (
        CudaMachine(gpus=(RTX5090,), driver="550.54", torch="2.13.0+cpu"),
        "CUDA",
        "missing",
        "CPU build",
        "update the NVIDIA driver to 570 or newer",
    ),
    "no torch": (
        CudaMachine(gpus=(H100,), driver="535.1"),
        "CUDA",
        "missing",
        "torch is not installed",
        WHEEL + "cu126",
    ),
    "torch without kernels for the GPU": (
        replace(READY, torch="2.13.0+cu126", torch_cuda="12.6", torch_architectures=CU126),
        "CUDA",
        "broken",
        "no kernels for NVIDIA GeForce RTX 5090 (sm_120)",
        WHEEL + "cu128",
    ),
    "a GPU that torch has given up": (
        replace(READY, gpus=(GTX1080,)),
        "CUDA",
        "broken",
        "no kernels for NVIDIA GeForce GTX 1080 (sm_61)",
        WHEEL + "cu126",
    ),
    "driver too old for torch": (
        CudaMachine(gpus=(RTX4090,), driver="545.23", torch="2.13.0", torch_cuda="13.0"),
        "CUDA",
        "broken",
        "it needs driver 580, but 545.23 is installed",
        f"driver to 580 or newer, or: {WHEEL}cu126",
    ),
    "hidden": (
        CudaMachine(gpus=(H100,), driver="580.1", torch="2.13.0", torch_cuda="13.0", visible=""),
        "CUDA",
        "broken",
        "CUDA_VISIBLE_DEVICES='' hides it",
        "unset CUDA_VISIBLE_DEVICES",
    ),
    "unseen for no reason": (
        CudaMachine(gpus=(H100,), driver="580.1", torch="2.13.0", torch_cuda="13.0"),
        "CUDA",
        "broken",
        "finds no device",
        "--gpus all",
    ),
    "driver and library differ": (
        CudaMachine(driver_error="Failed to initialize NVML: Driver/library version mismatch", torch="2.13.0"),
        "CUDA",
        "broken",
        "version mismatch",
        "reboot",
    ),
    "no nvcc": (replace(READY, nvcc=None), "CUDA toolkit", "missing", "no nvcc", TOOLKIT_128),
    "toolkit of another CUDA": (
        replace(READY, nvcc="11.8"),
        "CUDA toolkit",
        "broken",
        "nvcc 11.8, but torch is built for CUDA 12.8",
        TOOLKIT_128,
    ),
    "toolkit newer by a major": (
        replace(READY, nvcc="13.0"),
        "CUDA toolkit",
        "broken",
        "nvcc 13.0, but torch is built for",
        TOOLKIT_128,
    ),
    "toolkit too old for the GPU": (
        replace(READY, nvcc="12.4"),
        "CUDA toolkit",
        "broken",
        "cannot build for NVIDIA GeForce RTX 5090",
        TOOLKIT_128,
    ),
    "toolkit of another minor version": (
        replace(READY, gpus=(RTX4090,), nvcc="12.4"),
        "CUDA toolkit",
        "ok",
        "nvcc 12.4",
        "",
    ),
    "no C++ compiler": (
        replace(READY, compiler=False),
        "CUDA toolkit",
        "missing",
        "no C++ compiler",
        "build-essential",
    ),
    "nvdiffrast absent": (
        replace(READY, nvdiffrast=Package(False)),
        "nvdiffrast",
        "missing",
        "not installed",
        'TORCH_CUDA_ARCH_LIST="12.0" pip install --no-build-isolation "git+https://github.com/NVlabs/nvdiffrast.git"',
    ),
    "tiny-cuda-nn absent": (
        replace(READY, tinycudann=Package(False)),
        "tinycudann",
        "missing",
        "not installed",
        TCNN_120,
    ),
    "absent, and no toolkit either": (
        replace(READY, tinycudann=Package(False), nvcc=None),
        "tinycudann",
        "missing",
        "not installed",
        f"first the CUDA toolkit (above), then: {TCNN_120}",
    ),
    "built for another GPU": (
        replace(
            READY,
            tinycudann=Package(True, "Could not find compatible tinycudann extension for compute capability 120."),
        ),
        "tinycudann",
        "broken",
        "built for another GPU",
        "--force-reinstall --no-deps --no-cache-dir",
    ),
    "built for another torch": (
        replace(READY, nvdiffrast=Package(True, "_nvdiffrast_c.so: undefined symbol: _ZN3c106detail14torchCheckFail")),
        "nvdiffrast",
        "broken",
        "built for another torch",
        "--force-reinstall",
    ),
    "built with another CUDA": (
        replace(READY, nvdiffrast=Package(True, "libcudart.so.12: cannot open shared object file")),
        "nvdiffrast",
        "broken",
        "built with another CUDA",
        "--force-reinstall",
    ),
    "auto without nvdiffrast": (
        replace(READY, nvdiffrast=Package(False)),
        "auto",
        "missing",
        "only --device cpu works",
        "nvdiffrast.git",
    ),
    "auto without tiny-cuda-nn": (
        replace(READY, tinycudann=Package(False)),
        "auto",
        "ok",
        "for encodings, torch (tinycudann is not installed)",
        "",
    ),
    "auto without a GPU": (CudaMachine(torch="2.13.0"), "auto", "ok", "takes cpu, not nvdiffrast", ""),
}


@pytest.mark.parametrize("case", MACHINES)
def test_what_is_said(case):
    machine, name, state, detail, remedy = MACHINES[case]
    check = named(machine)[name]
    assert check.state == state, check
    assert detail in check.detail, check
    assert (remedy in check.remedy) if remedy else not check.remedy, check


@pytest.mark.parametrize(
    ("gpus", "windows", "torch_list", "tiny_list"),
    [
        ((RTX5090,), False, 'TORCH_CUDA_ARCH_LIST="12.0" pip', 'TCNN_CUDA_ARCHITECTURES="120" pip'),
        ((H100, RTX3090, RTX3090), False, 'TORCH_CUDA_ARCH_LIST="8.6;9.0" pip', 'TCNN_CUDA_ARCHITECTURES="86,90" pip'),
        ((SPARK,), False, 'TORCH_CUDA_ARCH_LIST="12.1" pip', 'TCNN_CUDA_ARCHITECTURES="120" pip'),
        ((RTX4090,), True, 'set "TORCH_CUDA_ARCH_LIST=8.9" && pip', 'set "TCNN_CUDA_ARCHITECTURES=89" && pip'),
    ],
)
def test_commands_name_the_architectures(gpus, windows, torch_list, tiny_list):
    machine = CudaMachine(gpus=gpus, windows=windows)
    assert torch_list in install_command("nvdiffrast", machine)
    assert tiny_list in install_command("tinycudann", machine)


@pytest.mark.parametrize(
    ("architectures", "capability", "runs"),
    [
        (("sm_86",), (8, 6), True),
        (("sm_86",), (8, 9), True),
        (("sm_89",), (8, 6), False),
        (("sm_90",), (12, 0), False),
        (("sm_90a",), (9, 0), True),
        (("sm_100a",), (10, 3), False),
        (("compute_90",), (12, 0), True),
        (("compute_120",), (9, 0), False),
        (CU126, (12, 0), False),
        (CU128, (12, 1), True),
        (("gfx90a",), (9, 0), False),
    ],
)
def test_which_code_runs_where(architectures, capability, runs):
    assert runs_on(architectures, capability) is runs


@pytest.mark.parametrize(
    ("driver", "gpus", "index"),
    [
        ("580.1", (RTX5090,), "cu130"),
        ("575", (H100,), "cu128"),
        ("550.9", (RTX4090,), "cu126"),
        ("580", (GTX1080,), "cu126"),
        ("520", (RTX4090,), None),
        ("550", (RTX5090,), None),
        ("580", (GTX1080, RTX5090), "cu130"),
        (None, (), None),
    ],
)
def test_which_torch(driver, gpus, index):
    assert torch_index(CudaMachine(driver=driver, gpus=gpus)) == index


def test_reading_the_tools():
    smi = "NVIDIA GeForce RTX 5090, 12.0, 575.57.08\nNVIDIA RTX A6000, Ada, 8.9, 575.57.08\n"
    assert parse_gpus(smi) == ((RTX5090, ("NVIDIA RTX A6000, Ada", (8, 9))), "575.57.08")
    assert parse_gpus('Field "compute_cap" is not a valid field to query.\n') == ((), None)
    said = "nvcc: NVIDIA (R) Cuda compiler driver\nCuda compilation tools, release 12.8, V12.8.93\n"
    assert parse_nvcc(said) == "12.8" and parse_nvcc("bash: nvcc: command not found") is None


def test_this_machine_can_be_described(monkeypatch, tmp_path):
    """Tools that answer nonsense are no reason to fail."""
    for name in ("nvidia-smi", "nvcc"):
        tool = tmp_path / name
        tool.write_text("#!/bin/sh\necho 'Driver/library version mismatch' >&2\nexit 18\n")
        tool.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    monkeypatch.setenv("CUDA_HOME", str(tmp_path / "nowhere"))
    machine = describe_machine()
    assert machine.driver_error == "Driver/library version mismatch" and machine.nvcc is None and machine.torch
    assert named(machine)["CUDA"].state == "broken"
