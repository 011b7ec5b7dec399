"""Install the pinned torch: the CPU build if there is no NVIDIA GPU, which saves gigabytes of CUDA libraries.

Usage: python scripts/install_torch.py constraints.txt   (standard library only; installs into its own interpreter)

On Linux without a GPU, in this order: pip's own choice if that is a CPU build; PyTorch's CPU index if it answers; pip's
own choice. Elsewhere: pip's own choice.
"""

from __future__ import annotations

import importlib.metadata
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

CPU_INDEX = "https://download.pytorch.org/whl/cpu"
PIP = [sys.executable, "-m", "pip", "--disable-pip-version-check"]


def pinned_version(constraints: Path) -> str:
    """The version that ``torch==…`` names in the constraints file."""
    match = re.search(r"^torch==([0-9][^\s;#+]*)", constraints.read_text(encoding="utf-8"), re.MULTILINE)
    if match is None:
        raise SystemExit(f"{constraints}: no line torch==VERSION")
    return match.group(1)


def installed_version() -> str | None:
    """Version of torch in this interpreter without its local part (2.13.0+cpu is 2.13.0), or None."""
    try:
        return importlib.metadata.version("torch").partition("+")[0]
    except importlib.metadata.PackageNotFoundError:
        return None


def has_gpu() -> bool:
    """Whether the NVIDIA driver answers and lists a GPU."""
    tool = shutil.which("nvidia-smi")
    if tool is None:
        return False
    try:
        answer = subprocess.run([tool, "-L"], capture_output=True, text=True, timeout=60)
    except (OSError, subprocess.TimeoutExpired):
        return False
    return answer.returncode == 0 and "GPU" in answer.stdout


def is_cpu_build(metadata: dict) -> bool:
    """Whether a wheel's metadata (from pip's report) belong to a build of torch without CUDA."""
    local = metadata["version"].partition("+")[2]
    if local:
        return local.startswith("cpu")
    return not any(re.match(r"nvidia|cuda", line) for line in metadata.get("requires_dist") or [])


def pip_would_choose(requirement: str) -> dict | None:
    """Metadata of the wheel that the configured pip would install; None if there is none or pip reports none."""
    command = [*PIP, "install", "--quiet", "--dry-run", "--ignore-installed", "--no-deps", "--only-binary", ":all:"]
    try:
        answer = subprocess.run([*command, "--report", "-", requirement], capture_output=True, text=True, timeout=300)
        return json.loads(answer.stdout)["install"][0]["metadata"] if answer.returncode == 0 else None
    except (subprocess.TimeoutExpired, ValueError, KeyError, IndexError):
        return None


def index_answers(index: str, version: str) -> bool:
    """Whether ``index`` can be reached within seconds and lists ``version``; uses pip and its settings."""
    command = [*PIP, "--timeout", "5", "--retries", "0", "index", "versions", "torch", "--index-url", index]
    try:
        answer = subprocess.run(command, capture_output=True, text=True, timeout=30)
    except subprocess.TimeoutExpired:
        return False
    return answer.returncode == 0 and f"{version}+cpu" in answer.stdout


def choose(version: str, linux: bool, gpu: bool) -> list[str]:
    """Arguments of ``pip install`` for the right build of torch ``version``."""
    plain = f"torch=={version}"
    if not linux:
        return [plain]
    found = pip_would_choose(plain)
    cpu_found = found is not None and is_cpu_build(found)
    if gpu:
        # a CPU build in pip's indexes sorts above the plain one; === excludes it
        exact = f"torch==={version}"
        return [exact] if cpu_found and pip_would_choose(exact) is not None else [plain]
    if cpu_found:
        return [f"torch=={found['version']}"]
    if index_answers(CPU_INDEX, version):
        return ["--extra-index-url", CPU_INDEX, f"torch=={version}+cpu"]
    return [plain]


def main() -> int:
    constraints = Path(sys.argv[1] if len(sys.argv) > 1 else "constraints.txt")
    version = pinned_version(constraints)
    if installed_version() == version:
        return 0
    arguments = choose(version, sys.platform.startswith("linux"), has_gpu())
    print("installing", arguments[-1], flush=True)
    return subprocess.call([*PIP, "install", "--quiet", "-c", str(constraints), *arguments])


if __name__ == "__main__":
    sys.exit(main())
