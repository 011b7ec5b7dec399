"""The page's server: viser on loopback behind our guard, a thread that looks at the run, and one page per tab."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from stspbr.errors import StspbrError
from stspbr.view.page import Page
from stspbr.view.painter import LARGEST, Painter
from stspbr.view.serving import ServedPage
from stspbr.view.viewer import Viewer

if TYPE_CHECKING:
    import viser

POLL = 2.0
"""Seconds between two looks at the run."""


class Server(ServedPage):
    """The page of a run.

    Args:
        host, port: as of ``ServedPage``.
        largest: pixels along the longer side of a picture; poll: seconds between two looks at the run.
        say: gets a line when the state of the run changes.

    Raises:
        StspbrError: viser is not installed, or no port is free.
    """

    def __init__(
        self,
        viewer: Viewer,
        host: str = "127.0.0.1",
        port: int = 8080,
        *,
        largest: int = LARGEST,
        poll: float = POLL,
        say: Callable[[str], None] = lambda _: None,
    ) -> None:
        super().__init__(host, port)
        self._viewer, self._poll, self._say = viewer, poll, say
        self._pages: dict[int, Page] = {}
        self._lock = threading.Lock()
        self.painter = Painter(viewer, largest)
        self._watch = threading.Thread(target=self._look, name="stspbr-view-watch", daemon=True)
        self._serve(self._watch)

    def close(self) -> None:
        """End the page."""
        self._ended.set()
        self.guard.close()
        self.painter.close()
        self._stop()
        self._watch.join(timeout=10)

    def _connected(self, client: viser.ClientHandle) -> None:
        page = Page(client, self._viewer, self.painter)
        with self._lock:
            self._pages[client.client_id] = page
        page.refresh()

    def _disconnected(self, client: viser.ClientHandle) -> None:
        with self._lock:
            page = self._pages.pop(client.client_id, None)
        if page is not None:
            page.close()

    def _look(self) -> None:
        """Look at the run from time to time. Without a tab only its headline is of interest."""
        headline, shown_at = "", 0.0
        while not self._ended.wait(self._poll):
            with contextlib.suppress(OSError, StspbrError):
                changed = self._viewer.poll()
                now = self._viewer.headline()
                with self._lock:
                    pages = list(self._pages.values())
                if changed or (now != headline and time.monotonic() - shown_at > 20.0):
                    shown_at = time.monotonic()
                    for page in pages:
                        page.refresh()
                if changed and pages:
                    self.painter.refresh()
                if now.partition(",")[0] != headline.partition(",")[0]:
                    self._say(now)
                headline = now
