"""The page's server: viser on loopback behind our guard, a thread that looks at the run, and one page per tab."""

from __future__ import annotations

import contextlib
import io
import threading
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from stspbr.errors import StspbrError, missing_extra
from stspbr.view.guard import Guard, is_loopback, new_token
from stspbr.view.page import START, Page
from stspbr.view.painter import LARGEST, Painter
from stspbr.view.placement import FIELD_OF_VIEW
from stspbr.view.viewer import Viewer

if TYPE_CHECKING:
    import viser

POLL = 2.0
"""Seconds between two looks at the run."""


def require_viser() -> None:
    """StspbrError that names the extra if viser is not installed."""
    try:
        import viser  # noqa: F401
    except ImportError:
        raise missing_extra("viser", "view", "pages of `stspbr view`") from None


class Server:
    """A page that is being served. Use it as a context manager, or ``close`` it.

    Args:
        host: to listen on; beyond loopback a token is asked for.
        port: the first that is tried.
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
        require_viser()
        self._viewer, self._poll, self._say = viewer, poll, say
        self._pages: dict[int, Page] = {}
        self._lock = threading.Lock()
        self._ended = threading.Event()
        self._inner = quiet_viser()
        try:
            token = None if is_loopback(host) else new_token()
            self.guard = Guard(host, port, self._inner.get_port(), token)
        except BaseException:
            self._stop_inner()
            raise
        self.painter = Painter(viewer, largest)
        self._inner.on_client_connect(self._connected)
        self._inner.on_client_disconnect(self._disconnected)
        self._watch = threading.Thread(target=self._look, name="stspbr-view-watch", daemon=True)
        self._watch.start()

    @property
    def url(self) -> str:
        """Where the page is."""
        return self.guard.url

    def wait(self) -> None:
        """Until ``close``, or Ctrl-C."""
        while not self._ended.wait(3600.0):
            pass

    def close(self) -> None:
        """End the page."""
        self._ended.set()
        self.guard.close()
        self.painter.close()
        self._stop_inner()
        self._watch.join(timeout=10)

    def __enter__(self) -> Server:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

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

    def _stop_inner(self) -> None:
        with silent():
            self._inner.stop()


def quiet_viser() -> viser.ViserServer:
    """A server of viser on a free port of loopback that prints nothing, and that no tab can open to the world."""
    import viser

    with silent():
        server = viser.ViserServer(host="127.0.0.1", port=0, label="stspbr view", verbose=False)
    server.request_share_url = lambda verbose=True: None
    server.gui.configure_theme(show_share_button=False, show_logo=False, dark_mode=True, control_width="medium")
    server.scene.set_up_direction("+y")
    camera = server.initial_camera
    camera.position, camera.look_at, camera.up = tuple(START), (0.0, 0.0, 0.0), (0.0, 1.0, 0.0)
    camera.fov = float(FIELD_OF_VIEW)
    return server


@contextlib.contextmanager
def silent() -> Iterator[None]:
    """Nothing is printed in here."""
    with contextlib.redirect_stdout(io.StringIO()):
        yield
