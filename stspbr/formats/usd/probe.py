"""Binary USD files opened by another process first: usd-core aborts, hangs or claims terabytes on damaged ones."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from stspbr.errors import StspbrError

_SECONDS, _SECONDS_PER_MB = 30.0, 1.0  # a sound file takes a tenth of a second and 0.01 per MB
_MEMORY, _MEMORY_PER_BYTE = 4 << 30, 64  # address space, most of it that of usd-core's threads
_READ_ALL = """
import sys
try:
    import resource
    resource.setrlimit(resource.RLIMIT_AS, (int(sys.argv[2]),) * 2)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
except ImportError:
    pass
from pxr import Tf, Usd
try:
    stage = Usd.Stage.Open(sys.argv[1])
    for prim in stage.TraverseAll():
        for attribute in prim.GetAuthoredAttributes():
            attribute.Get(Usd.TimeCode.EarliestTime())
except Tf.ErrorException:
    pass  # the reader reports it
"""


def check_binary(path: Path) -> None:
    """StspbrError if usd-core does not survive reading a binary or packed USD file; text needs no such check."""
    with path.open("rb") as file:
        if file.read(8) != b"PXR-USDC" and path.suffix.lower() != ".usdz":
            return
    size = path.stat().st_size
    memory, seconds = _MEMORY + _MEMORY_PER_BYTE * size, _SECONDS + _SECONDS_PER_MB * size / 1e6
    try:
        done = subprocess.run(
            [sys.executable, "-c", _READ_ALL, str(path), str(memory)], capture_output=True, timeout=seconds, check=False
        )
    except subprocess.TimeoutExpired:
        raise StspbrError(f"{path} is corrupt (reading it does not end): export or copy it again") from None
    if done.returncode < 0 or b"MemoryError" in done.stderr:
        raise StspbrError(f"{path} is corrupt (usd-core breaks off on it): export or copy it again")
