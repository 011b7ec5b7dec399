"""How Numba kernels are compiled and kept on disk, and how long compiling takes."""

from __future__ import annotations

import functools
import hashlib
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from numba import njit
from numba.core import event


def kernel(function: Callable | None = None, /, **flags: Any) -> Any:
    """``numba.njit`` whose disk cache notices an edit of any kernel of the package, not only of its own file.

    Numba inlines kernels of other modules, but stamps a cached kernel with the file that defines it alone.

    Args:
        flags: of ``njit``, e.g. ``parallel`` or ``fastmath``.
    """
    if function is None:
        return functools.partial(kernel, **flags)
    dispatcher = njit(**flags)(function)
    try:
        dispatcher.enable_caching()
    except RuntimeError:  # no folder can be written: every process compiles anew
        return dispatcher
    file = Path(function.__code__.co_filename)
    package = [file, *file.parents][function.__module__.count(".")]
    dispatcher._cache._cache_file._source_stamp = _stamp(package)
    return dispatcher


@functools.cache
def _stamp(package: Path) -> str:
    """SHA-256 of all files of a package, or module, that declare kernels."""
    digest = hashlib.sha256()
    for path in sorted(package.rglob("*.py")) if package.is_dir() else [package]:
        source = path.read_bytes()
        if b"\n@kernel" in source:
            digest.update(source)
    return digest.hexdigest()


class CompileClock(event.Listener):
    """How long Numba has compiled since it was started, by the wall clock. Use it as a context manager.

    Args:
        on_first: called when the first kernel is about to be compiled.
    """

    def __init__(self, on_first: Callable[[], None] = lambda: None) -> None:
        self.seconds = 0.0
        self.count = 0
        self._asked = 0.0
        self._on_first, self._lock, self._depth, self._since = on_first, threading.Lock(), 0, 0.0

    def __enter__(self) -> CompileClock:
        event.register("numba:compile", self)
        return self

    def __exit__(self, *_: object) -> None:
        event.unregister("numba:compile", self)

    def taken(self) -> float:
        """Seconds since this was last asked."""
        before, self._asked = self._asked, self.seconds
        return self._asked - before

    def on_start(self, event: Any) -> None:
        with self._lock:
            self.count += 1
            self._depth += 1  # a kernel compiles those that it calls
            if self._depth == 1:
                self._since = time.monotonic()
            first = self.count == 1
        if first:
            self._on_first()

    def on_end(self, event: Any) -> None:
        with self._lock:
            self._depth -= 1
            if self._depth == 0:
                self.seconds += time.monotonic() - self._since
