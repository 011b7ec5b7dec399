"""What of the Dockerfile can be told without building it."""

from __future__ import annotations

import re
import subprocess
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
