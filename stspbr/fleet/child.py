"""``python -m stspbr.fleet.child ARGUMENTS…``: `stspbr`, but it ends with whoever started it.

Its standard input is a pipe that nobody writes to. When the process at the other end is gone, even killed, the pipe
ends, and so does this one: a task that is tried again elsewhere has no ghost that goes on writing.
"""

from __future__ import annotations

import os
import runpy
import sys
import threading


def main() -> None:
    """Entry point."""
    threading.Thread(target=_end_with_parent, daemon=True).start()
    runpy.run_module("stspbr", run_name="__main__")


def _end_with_parent() -> None:
    while os.read(0, 1024):
        pass
    os._exit(143)


if __name__ == "__main__":
    sys.argv[0] = "stspbr"
    main()
