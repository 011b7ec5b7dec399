"""What of the Dockerfile can be told without building it."""

from __future__ import annotations

import re
import subprocess
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
TEXT = (ROOT / "Dockerfile").read_text(encoding="utf-8")


def test_what_it_copies_is_there_and_not_ignored():
    sources = [name for line in re.findall(r"^COPY (?!--from)(.+)$", TEXT, re.MULTILINE) for name in line.split()[:-1]]
    assert {"constraints.txt", "pyproject.toml", "stspbr"} <= set(sources)
    kept = {line[1:] for line in (ROOT / ".dockerignore").read_text(encoding="utf-8").split() if line.startswith("!")}
    for name in sources:
        assert (ROOT / name).exists() and name in kept, name


def test_it_runs_stspbr_as_nobody_in_particular():
    final = TEXT.rsplit("\nFROM ", 1)[1]
    assert 'ENTRYPOINT ["stspbr"]' in final and re.search(r"^USER stspbr$", final, re.MULTILINE)
    assert "UNBUILT" in TEXT


def test_torch_is_the_one_that_the_tests_run_with():
    (expression,) = re.findall(r"\"torch==\$\((sed -n '[^']+') /tmp/constraints.txt\)\"", TEXT)
    out = subprocess.run(["sh", "-c", f"{expression} constraints.txt"], cwd=ROOT, capture_output=True, text=True)
    assert re.fullmatch(r"\d+\.\d+\.\d+", out.stdout.strip())


@pytest.mark.parametrize(("given", "torch_list"), [("75;86;120", "7.5;8.6;12.0"), ("120", "12.0"), ("90", "9.0")])
def test_one_list_of_architectures_serves_both_libraries(given, torch_list):
    (command,) = re.findall(r'TORCH_CUDA_ARCH_LIST="\$\((.+)\)"', TEXT)
    out = subprocess.run(
        ["sh", "-c", command], env={"ARCHITECTURES": given, "PATH": "/usr/bin:/bin"}, capture_output=True
    )
    assert out.stdout.decode().strip() == torch_list


def stages() -> dict[str, str]:
    """The text of each stage by its name; the last one has none."""
    parts = re.split(r"^FROM ", TEXT, flags=re.MULTILINE)[1:]
    return {(re.search(r"^\S+ AS (\S+)", part) or [None, ""])[1]: part for part in parts}


def test_nothing_is_compiled_unless_one_asks_for_it():
    found = stages()
    assert re.search(r"^ARG LIBRARIES=warp$", TEXT, re.MULTILINE) and found["build"].startswith("${LIBRARIES} AS build")
    for name in ("warp", "build", ""):
        assert not re.search(r"build-essential|-devel|git\+|ninja", found[name]), name
    assert "nvdiffrast" in found["compiled"] and "build-essential" in found["compiled"]


def test_the_toolkit_is_of_torch_s_cuda_and_the_builds_get_what_they_need():
    (cuda,) = re.findall(r"^ARG CUDA=(\d+)\.", TEXT, re.MULTILINE)
    (index,) = re.findall(r"^ARG TORCH_INDEX=cu(\d+)\d$", TEXT, re.MULTILINE)
    assert cuda == index
    assert '"setuptools<82"' in stages()["compiled"]
    torch = re.search(r"^torch==(\d+)\.(\d+)", (ROOT / "constraints.txt").read_text(), re.MULTILINE)
    assert (int(torch[1]), int(torch[2])) < (2, 14), "tiny-cuda-nn does not build with newer ones"


def test_its_extras_are_there():
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["optional-dependencies"]
    (named,) = re.findall(r'"/src\[(.+)\]"', TEXT)
    assert set(named.split(",")) <= set(extras) and "cuda" in named.split(",")
