"""When a tab's picture is drawn: small while its camera moves, whole when it rests, never when nothing changes."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from stspbr.errors import first_line
from stspbr.view.placement import FIELD_OF_VIEW
from stspbr.view.viewer import Choice, View, Viewer

_REST = 0.25  # seconds after the last movement
_FRAME = 0.1  # seconds that a picture of a moving camera may take
_SMALLEST = 96  # pixels along its longer side
_FOLLOWED = 0.02  # of the time that pictures may take which nobody but a run that goes on asks for
_LONGEST = 600.0  # seconds between two of them, however slow they are
LARGEST = 1280
"""Pixels along the longer side of a picture of a camera that rests."""


@dataclass(frozen=True)
class PageCamera:
    """A tab's camera: see ``Placement.camera``."""

    wxyz: np.ndarray
    position: np.ndarray
    field: float = FIELD_OF_VIEW
    width: int = 640
    height: int = 480

    def sized(self, longest: int) -> tuple[int, int]:
        """Width and height of a picture of this shape."""
        scale = min(1.0, longest / max(self.width, self.height, 1))
        return max(1, round(self.width * scale)), max(1, round(self.height * scale))


class Tab:
    """What one tab wants drawn: ``show`` gets each picture and whether it is whole, ``busy`` a line of what is read."""

    def __init__(self, show: Callable[[View, bool], None], busy: Callable[[str], None]) -> None:
        self.show, self.busy = show, busy
        self.choice = Choice()
        self.camera: PageCamera | None = None
        self.wants_small = self.wants_whole = False
        self.follows = False  # a run that goes on has something newer, which can wait
        self.moved = 0.0
        self.depicted: tuple[str, ...] | None = None  # what the last picture is of; None: it failed


class Painter:
    """Draws for all tabs, one picture after the other, in a thread of its own.

    Args:
        largest: pixels along the longer side of a whole picture.
    """

    def __init__(self, viewer: Viewer, largest: int = LARGEST) -> None:
        self._viewer, self._largest = viewer, largest
        self._tabs: list[Tab] = []
        self._wake = threading.Condition()
        self._stopped = False
        self._pace = 2e-6  # seconds per pixel, measured as it goes
        self._follow_from = 0.0
        self.drawn = 0
        self._thread = threading.Thread(target=self._run, name="stspbr-view-painter", daemon=True)
        self._thread.start()

    def add(self, tab: Tab) -> None:
        """Draw for a new tab."""
        with self._wake:
            self._tabs.append(tab)

    def remove(self, tab: Tab) -> None:
        """Draw no more for a tab that is closed."""
        with self._wake:
            self._tabs = [other for other in self._tabs if other is not tab]

    def moved(self, tab: Tab, camera: PageCamera) -> None:
        """A tab's camera has moved."""
        with self._wake:
            tab.camera, tab.moved = camera, time.monotonic()
            tab.wants_small = tab.wants_whole = True
            self._wake.notify()

    def changed(self, tab: Tab, choice: Choice, dragged: bool = False) -> None:
        """A tab shows something else; ``dragged``: a slider is being moved, so that more of the kind will come."""
        with self._wake:
            tab.choice = choice
            tab.wants_whole = True
            if dragged:
                tab.wants_small, tab.moved = True, time.monotonic()
            self._wake.notify()

    def refresh(self) -> None:
        """The run has changed: draw the tabs again whose picture is of something else now.

        While it goes on, only so often that this takes a small share of the time: a run with quick steps shall not
        wait for its spectators.
        """
        running = self._viewer.running()
        with self._wake:
            for tab in self._tabs:
                if tab.depicted is None or tab.depicted != self._viewer.depicted(tab.choice):
                    if running and tab.depicted is not None:
                        tab.follows = True
                    else:
                        tab.wants_whole = True
            self._wake.notify()

    def close(self) -> None:
        """Stop after the present picture."""
        with self._wake:
            self._stopped = True
            self._wake.notify()
        self._thread.join(timeout=30)

    def _run(self) -> None:
        while (job := self._next()) is not None:
            tab, choice, camera, small, followed = job
            longest = self._small_side(camera) if small else self._largest
            missing = self._viewer.missing(choice)
            if missing:
                tab.busy(missing)
            width, height = camera.sized(longest)
            began = time.monotonic()
            tab.depicted = None
            try:
                depicted = self._viewer.depicted(choice)
                placed = self._viewer.placement().camera(camera.wxyz, camera.position, camera.field, width, height)
                view = self._viewer.draw(choice, placed)
                self.drawn += 1
                tab.show(view, not small)
            except Exception as error:  # a bug, or a tab that is gone: the other tabs go on
                logging.getLogger(__name__).exception("a picture of stspbr view failed")
                tab.busy(f"this picture failed ({first_line(error)})")
                continue
            if not view.error:
                tab.depicted = depicted
            if followed:
                now = time.monotonic()
                self._follow_from = now + min((now - began) / _FOLLOWED, _LONGEST)
            if not missing and not view.error:
                took = (time.monotonic() - began) / (width * height)
                self._pace += 0.3 * (took - self._pace)

    def _small_side(self, camera: PageCamera) -> int:
        shape = camera.width * camera.height / max(camera.width, camera.height) ** 2
        return int(np.clip((_FRAME / max(self._pace, 1e-9) / shape) ** 0.5, _SMALLEST, self._largest))

    def _next(self) -> tuple[Tab, Choice, PageCamera, bool, bool] | None:
        """Wait for the next picture to draw; None at the end. Without anything to draw it sleeps."""
        with self._wake:
            while not self._stopped:
                now = time.monotonic()
                due = now >= self._follow_from
                waiting = [
                    tab for tab in self._tabs if tab.camera is not None and (tab.wants_whole or (due and tab.follows))
                ]
                for tab in waiting:
                    small = tab.wants_small and now - tab.moved < _REST
                    if not tab.wants_small and now - tab.moved < _REST:
                        continue
                    followed = not tab.wants_whole
                    tab.wants_small = tab.follows = False
                    tab.wants_whole = small
                    self._tabs.append(self._tabs.pop(self._tabs.index(tab)))  # the others come first next time
                    assert tab.camera is not None
                    return tab, tab.choice, tab.camera, small, followed
                later = [tab.moved + _REST - now for tab in waiting]
                if not due and any(tab.follows for tab in self._tabs):
                    later.append(self._follow_from - now)
                rest = min(later, default=None)
                self._wake.wait(None if rest is None else max(rest, 0.001))
        return None
