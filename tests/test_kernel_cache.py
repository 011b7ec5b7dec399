"""Kernels on disk: an edit elsewhere is noticed; how long compiling took is known."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import stspbr
from stspbr.kernel_cache import CompileClock, kernel

PACKAGE = {
    "__init__.py": "",
    "callee.py": "from stspbr.kernel_cache import kernel\n\n\n@kernel\ndef twice(x):\n    return 2 * x\n",
    "caller.py": (
        "from stspbr.kernel_cache import kernel\nfrom tiny.callee import twice\n\n\n"
        "@kernel(fastmath=True)\ndef run(x):\n    return twice(x) + 1\n"
    ),
}


@pytest.fixture
def tiny(tmp_path) -> Path:
    """A package of two kernels in two modules, one of which the other inlines."""
    (tmp_path / "tiny").mkdir()
    for name, source in PACKAGE.items():
        (tmp_path / "tiny" / name).write_text(source)
    return tmp_path


def run(folder: Path) -> list[float]:
    """The caller's value, and how often it was found in the cache, in a process of its own."""
    script = "from tiny.caller import run; print(run(3.0), sum(run.stats.cache_hits.values()))"
    paths = os.pathsep.join([str(folder), str(Path(stspbr.__file__).parents[1])])
    environment = {key: value for key, value in os.environ.items() if key != "NUMBA_CACHE_DIR"}
    done = subprocess.run([sys.executable, "-c", script], env=environment | {"PYTHONPATH": paths},
                          capture_output=True, text=True, check=True)  # fmt: skip
    return [float(number) for number in done.stdout.split()]


def test_an_edit_of_the_callee_reaches_the_cached_caller(tiny):
    assert run(tiny) == [7.0, 0] and run(tiny) == [7.0, 1]
    callee = tiny / "tiny" / "callee.py"
    callee.write_text(callee.read_text().replace("2 * x", "5 * x"))
    assert run(tiny) == [16.0, 0] and run(tiny) == [16.0, 1]


def test_kernels_work_where_no_cache_can_be_written(monkeypatch):
    from numba.core import caching

    monkeypatch.setattr(caching.CacheImpl, "_locator_classes", [])

    @kernel
    def add(x):
        return x + 1

    assert add(1.0) == 2.0


def test_the_clock_runs_while_kernels_compile():
    def add(x):
        return x + 1

    fresh = [kernel(add), kernel(add)]
    for each in fresh:
        each._cache.disable()
    said = []
    with CompileClock(lambda: said.append(1)) as clock:
        fresh[0](1.0)
        after_one = clock.seconds
        fresh[0](2.0)  # compiled already
        assert said == [1] and clock.count == 1 and clock.seconds == after_one > 0
        fresh[1](1.0)
        assert said == [1] and clock.count == 2 and clock.seconds > after_one
    fresh[0](1)  # another signature, when nobody counts any more
    assert clock.count == 2
