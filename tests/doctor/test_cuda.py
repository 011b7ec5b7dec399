"""What the doctor says to described machines: a table of them, and the commands it gives."""

from __future__ import annotations

from dataclasses import replace

import pytest

from stspbr.doctor.checks import Check
from stspbr.doctor.compiled import check_library, install_command, torch_limit
from stspbr.doctor.cuda import examine, runs_on
from stspbr.doctor.cuda_machine import describe_machine, parse_gpus, parse_nvcc
from stspbr.doctor.machine import CudaMachine, Package
from stspbr.doctor.torch_choice import torch_command, torch_index

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
OLD = CudaMachine(  # Warp's wheel does not run with this driver: what has to be compiled takes its place
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
READY = CudaMachine(
    gpus=(RTX5090,),
    driver="580.82",
    torch="2.15.0",
    torch_cuda="13.0",
    torch_devices=1,
    torch_architectures=CU128,
    compiler=False,
    warp=Package(True),
)
TOOLKIT_128 = "export CUDA_HOME=/usr/local/cuda-12.8 PATH=/usr/local/cuda-12.8/bin:$PATH"
INDEX = "--index-url https://download.pytorch.org/whl/"
WHEEL = {
    "cu130": f"pip install --force-reinstall torch {INDEX}cu130",
    "cu128": f'pip install --force-reinstall "torch<2.12" {INDEX}cu128',
    "cu126": f'pip install --force-reinstall "torch<2.15" {INDEX}cu126',
}
TCNN_120 = (
    'pip install "setuptools<82" wheel ninja && TCNN_CUDA_ARCHITECTURES="120" pip install --no-build-isolation '
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
    assert list(checks) == ["CUDA", "warp", "auto"] and "takes warp" in checks["auto"].detail


def test_without_a_compiler_nothing_asks_for_one():
    """Where Warp works, or only has to be installed, no line names a compiler or what needs one."""
    for machine in (
        READY,
        replace(READY, warp=Package(False)),
        CudaMachine(torch="2.13.0"),
        CudaMachine(warp=READY.warp),
    ):
        for check in named(machine).values():
            text = f"{check.name} {check.detail} {check.remedy}".lower()
            assert not any(word in text for word in ("nvcc", "toolkit", "c++", "nvdiffrast", "tiny")), check
    assert named(replace(READY, warp=Package(False)))["auto"].remedy == "pip install 'stspbr[cuda]'"


def test_a_machine_on_which_warp_does_not_run():
    checks = named(OLD)
    assert checks["warp"].state == "missing" and "driver to 580" in checks["warp"].remedy
    assert {name for name, check in checks.items() if check.state == "ok"} == set(checks) - {"warp"}
    assert "takes nvdiffrast and, for encodings, tinycudann" in checks["auto"].detail


def test_what_is_compiled_beside_warp_is_examined():
    checks = named(replace(READY, nvdiffrast=Package(True)))
    assert list(checks) == ["CUDA", "warp", "nvdiffrast", "auto"] and "takes warp" in checks["auto"].detail
    broken = named(replace(READY, tinycudann=Package(True, "undefined symbol: _ZN3c10")))
    assert broken["CUDA toolkit"].state == "missing" and "built for another torch" in broken["tinycudann"].detail


@pytest.mark.parametrize(
    ("torch", "windows", "limit"),
    [("2.13.0+cu130", False, None), ("2.14.1", False, "2.14"), ("2.13.0", True, "2.13"), ("2.12.1", True, None)],
)
def test_versions_are_checked_before_a_command_is_printed(torch, windows, limit):
    machine = replace(OLD, driver="580.1", torch=torch, windows=windows, tinycudann=Package(False))
    assert torch_limit("tinycudann", machine) == limit and torch_limit("nvdiffrast", machine) is None
    works = Check("CUDA", "ok", "it works")
    check = check_library("tinycudann", machine, works, works)
    assert (f'"torch<{limit}"' in check.remedy) == (limit is not None), check
    for setuptools, wanted in (("81.0.0", "install wheel"), ("82.0.0", '"setuptools<82"'), (None, '"setuptools<82"')):
        assert wanted in install_command("tinycudann", replace(machine, setuptools=setuptools))


def test_no_command_asks_an_index_for_what_it_does_not_have():
    for driver, torch in (("580", "torch"), ("575", '"torch<2.12"'), ("550", '"torch<2.15"')):
        machine = CudaMachine(driver=driver, gpus=(RTX4090,))
        assert torch_command(machine).split()[3] == torch
    assert '"torch<2.12"' in torch_command(CudaMachine(driver="575", gpus=(RTX4090,)), "2.14")
    assert '"torch<2.14"' in torch_command(CudaMachine(driver="580", gpus=(RTX4090,)), "2.14")


MACHINES = {
    "no GPU": (CudaMachine(torch="2.13.0"), "CUDA", "missing", "no NVIDIA GPU", ""),
    "CPU build, new driver": (
        CudaMachine(gpus=(RTX4090,), driver="580.82", torch="2.13.0+cpu"),
        "CUDA",
        "missing",
        "CPU build",
        WHEEL["cu130"],
    ),
    "CPU build, RTX 50xx, driver 572": (
        CudaMachine(gpus=(RTX5090,), driver="572.16", torch="2.13.0+cpu"),
        "CUDA",
        "missing",
        "CPU build",
        WHEEL["cu128"],
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
        WHEEL["cu126"],
    ),
    "torch without kernels for the GPU": (
        replace(OLD, torch="2.13.0+cu126", torch_cuda="12.6", torch_architectures=CU126),
        "CUDA",
        "broken",
        "no kernels for NVIDIA GeForce RTX 5090 (sm_120)",
        WHEEL["cu128"],
    ),
    "a GPU that torch has given up": (
        replace(OLD, gpus=(GTX1080,)),
        "CUDA",
        "broken",
        "no kernels for NVIDIA GeForce GTX 1080 (sm_61)",
        WHEEL["cu126"],
    ),
    "driver too old for torch": (
        CudaMachine(gpus=(RTX4090,), driver="545.23", torch="2.13.0", torch_cuda="13.0"),
        "CUDA",
        "broken",
        "it needs driver 580, but 545.23 is installed",
        f"driver to 580 or newer, or: {WHEEL['cu126']}",
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
    "no nvcc": (replace(OLD, nvcc=None), "CUDA toolkit", "missing", "no nvcc", TOOLKIT_128),
    "toolkit of another CUDA": (
        replace(OLD, nvcc="11.8"),
        "CUDA toolkit",
        "broken",
        "nvcc 11.8, but torch is built for CUDA 12.8",
        TOOLKIT_128,
    ),
    "toolkit newer by a major": (
        replace(OLD, nvcc="13.0"),
        "CUDA toolkit",
        "broken",
        "nvcc 13.0, but torch is built for",
        TOOLKIT_128,
    ),
    "toolkit too old for the GPU": (
        replace(OLD, nvcc="12.4"),
        "CUDA toolkit",
        "broken",
        "cannot build for NVIDIA GeForce RTX 5090",
        TOOLKIT_128,
    ),
    "toolkit of another minor version": (
        replace(OLD, gpus=(RTX4090,), nvcc="12.4"),
        "CUDA toolkit",
        "ok",
        "nvcc 12.4",
        "",
    ),
    "no C++ compiler": (
        replace(OLD, compiler=False),
        "CUDA toolkit",
        "missing",
        "no C++ compiler",
        "build-essential",
    ),
    "nvdiffrast absent": (
        replace(OLD, nvdiffrast=Package(False)),
        "nvdiffrast",
        "missing",
        "not installed",
        'TORCH_CUDA_ARCH_LIST="12.0" pip install --no-build-isolation "git+https://github.com/NVlabs/nvdiffrast.git"',
    ),
    "tiny-cuda-nn absent": (
        replace(OLD, tinycudann=Package(False)),
        "tinycudann",
        "missing",
        "not installed",
        TCNN_120,
    ),
    "absent, and no toolkit either": (
        replace(OLD, tinycudann=Package(False), nvcc=None),
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
        replace(OLD, nvdiffrast=Package(True, "_nvdiffrast_c.so: undefined symbol: _ZN3c106detail14torchCheckFail")),
        "nvdiffrast",
        "broken",
        "built for another torch",
        "--force-reinstall",
    ),
    "built with another CUDA": (
        replace(OLD, nvdiffrast=Package(True, "libcudart.so.12: cannot open shared object file")),
        "nvdiffrast",
        "broken",
        "built with another CUDA",
        "--force-reinstall",
    ),
    "auto without nvdiffrast": (
        replace(OLD, nvdiffrast=Package(False)),
        "auto",
        "missing",
        "only --device cpu works",
        "driver to 580",
    ),
    "auto without tiny-cuda-nn": (
        replace(OLD, tinycudann=Package(False)),
        "auto",
        "ok",
        "for encodings, torch (tinycudann is not installed)",
        "",
    ),
    "auto without a GPU": (CudaMachine(torch="2.13.0"), "auto", "ok", "takes cpu", ""),
    "no Warp": (replace(READY, warp=Package(False)), "warp", "missing", "not installed", "pip install 'stspbr[cuda]'"),
    "a broken Warp": (replace(READY, warp=Package(True, "no libcuda")), "warp", "broken", "no libcuda", "warp-lang"),
    "a GPU before Turing": (
        replace(READY, gpus=(("Tesla V100", (7, 0)),), torch_architectures=("sm_70",)),
        "warp",
        "missing",
        "Tesla V100 is older",
        "--device cpu",
    ),
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
