"""What every live page has: viser on loopback behind our guard, and a thread beside it."""

from __future__ import annotations

import contextlib
import io
import threading
from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Self

from stspbr.errors import missing_extra
from stspbr.view.guard import Guard, is_loopback, new_token
from stspbr.view.page import START
from stspbr.view.placement import FIELD_OF_VIEW

if TYPE_CHECKING:
    import viser


class ServedPage(ABC):
    """A page that is being served. Use it as a context manager, or ``close`` it.

    A page of its own kind calls ``_serve`` when it is ready for tabs.

    Args:
        host: to listen on; beyond loopback a token is asked for.
        port: the first that is tried.

    Raises:
        StspbrError: viser is not installed, or no port is free.
    """

    def __init__(self, host: str, port: int) -> None:
        require_viser()
        self._ended = threading.Event()
        self._inner = quiet_viser()
        try:
            self.guard = Guard(host, port, self._inner.get_port(), None if is_loopback(host) else new_token())
        except BaseException:
            self._stop()
            raise

    @property
    def url(self) -> str:
        """Where the page is."""
        return self.guard.url

    def wait(self) -> None:
        """Until ``close``, or Ctrl-C."""
        while not self._ended.wait(3600.0):
            pass

    @abstractmethod
    def close(self) -> None:
        """End the page."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @abstractmethod
    def _connected(self, client: viser.ClientHandle) -> Any:
        """A tab has come."""

    @abstractmethod
    def _disconnected(self, client: viser.ClientHandle) -> Any:
        """A tab has gone."""

    def _serve(self, thread: threading.Thread) -> None:
        """Let tabs in, and start the ``thread`` beside them."""
        self._inner.on_client_connect(self._connected)
        self._inner.on_client_disconnect(self._disconnected)
        thread.start()

    def _stop(self) -> None:
        with silent():
            self._inner.stop()


def require_viser() -> None:
    """StspbrError that names the extra if viser is not installed."""
    try:
        import viser  # noqa: F401
    except ImportError:
        raise missing_extra("viser", "view", "pages of `stspbr view`") from None


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
