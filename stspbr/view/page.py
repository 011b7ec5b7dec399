"""One tab of the page: its controls, the photos in its scene, and the picture behind them."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from stspbr.view.drawing import photo_camera
from stspbr.view.painter import PageCamera, Painter, Tab
from stspbr.view.photos import Frusta
from stspbr.view.placement import FIELD_OF_VIEW
from stspbr.view.progress import ProgressPanel
from stspbr.view.viewer import BOTH, DIFFERENCE, NOTHING, OF_PHOTO, OWN_LIGHT, PHOTO, View, Viewer

if TYPE_CHECKING:
    import viser

START = np.array([1.55, 1.0, 3.2])
"""Of the page's first camera; the object is a unit ball about the origin."""
_NONE = "none"
_PANEL = 340  # pixels of the page that the controls hide at its right
_NARROW = 576  # pixels of a page at whose foot viser puts them instead
_STILL = 2e-3  # how far a camera may be from a photo's and still look through it
_AWAY = 2.0  # how much farther than the farthest camera one stands to see them all
_JUMP = 15.0  # seconds in which a tab takes over a camera that it is given, at most; a busy one takes its time


class Page:
    """The controls of one tab. What it shows is its own: another tab can show something else.

    Args:
        client: viser's handle of the tab.
    """

    def __init__(self, client: viser.ClientHandle, viewer: Viewer, painter: Painter) -> None:
        self._client, self._viewer, self._painter = client, viewer, painter
        self._quiet = False
        self._jumped: float | None = None  # when the tab was given a photo's camera that it has not reported yet
        self._depth_wanted = False
        self.tab = Tab(self._show, self._busy)
        self._build()
        self._frusta = Frusta(client, viewer, self._look_through)
        painter.add(self.tab)
        client.camera.on_update(self._camera_moved)
        self._camera_moved(client.camera)

    def close(self) -> None:
        """The tab is closed."""
        self._painter.remove(self.tab)
        self._frusta.close()

    def refresh(self) -> None:
        """The run has changed: bring lists, lines and charts up to date."""
        self._head.content = f"**{self._viewer.run.resolve().name}** · {self._viewer.headline()}"
        self._progress.refresh()
        with self._silence():
            _offer(self._version, self._viewer.shown())
            _offer(self._beside, self._viewer.besides(self.tab.choice.photo))
            names = [_NONE, *(frame.name for frame in self._viewer.frames()[0])]
            if list(self._photo.options) != names:
                _offer(self._photo, names)
        self._offer_channels()

    # -- controls --------------------------------------------------------------------------------

    def _build(self) -> None:
        gui = self._client.gui
        self._head = gui.add_markdown("")
        self._error = gui.add_markdown("", visible=False)
        tabs = gui.add_tab_group()
        with tabs.add_tab("View"):
            self._version = gui.add_dropdown("show", self._viewer.shown(), hint="stage and version; newest: follow")
            self._channel = gui.add_dropdown("channel", self._viewer.channels(self.tab.choice), hint="keys 1 to 9")
            self._beside = gui.add_dropdown("beside it", self._viewer.besides(None), hint="right of the line")
            self._split = gui.add_slider("line", 0.0, 1.0, 0.01, 0.5, disabled=True)
            with gui.add_folder("Light"):
                self._light = gui.add_dropdown("light", self._viewer.lights())
                self._turn = gui.add_slider("turn", 0, 360, 1, 0, hint="degrees about the upright axis")
                self._exposure = gui.add_slider("exposure", -4.0, 4.0, 0.1, 0.0, hint="stops")
                self._sky = gui.add_checkbox("light behind", False)
                self._transport = gui.add_checkbox("shadows and bounces", False)
            self._reset = gui.add_button("reset the camera", hint="key R")
        with tabs.add_tab("Photos"):
            self._frusta_shown = gui.add_checkbox("cameras", False, hint="click one to look through it; key C")
            self._photo = gui.add_dropdown("look through", (_NONE,), hint="keys N and P: the next, the one before")
            self._photo_mode = gui.add_button_group("with", ("all three", "photo", "difference", "render"))
            self._photo_note = gui.add_markdown("*The line between render and photo is moved in the tab View.*")
        with tabs.add_tab("Progress"):
            self._progress = ProgressPanel(gui, self._viewer)
        for control in (self._version, self._channel, self._light, self._beside, self._sky, self._transport):
            control.on_update(lambda _: self._choose())
        for slider in (self._split, self._turn, self._exposure):
            slider.on_update(lambda _: self._choose(dragged=True))
        self._reset.on_click(lambda _: self._reset_camera())
        self._frusta_shown.on_update(lambda _: self._show_frusta())
        self._photo.on_update(lambda _: self._photo_chosen())
        self._photo_mode.on_click(lambda _: self._photo_with(self._photo_mode.value))
        self._add_keys()

    def _add_keys(self) -> None:
        def command(label: str, key: Any, act: Callable[[], object]) -> None:
            self._client.gui.add_command(label, hotkey=key).on_trigger(lambda _: act())

        for number in range(9):
            command(f"channel {number + 1}", str(number + 1), partial(self._channel_number, number))
        command("reset the camera", "R", self._reset_camera)
        command("cameras", "C", lambda: setattr(self._frusta_shown, "value", not self._frusta_shown.value))
        command("next photo", "N", lambda: self._step_photo(1))
        command("photo before", "P", lambda: self._step_photo(-1))

    @contextlib.contextmanager
    def _silence(self) -> Iterator[None]:
        """Controls that are set in here choose nothing."""
        before, self._quiet = self._quiet, True
        try:
            yield
        finally:
            self._quiet = before

    def _choose(self, dragged: bool = False) -> None:
        """Take over what the controls say."""
        if self._quiet:
            return
        old = self.tab.choice
        look = replace(
            old.look, channel=self._channel.value, exposure=float(self._exposure.value), turn=float(self._turn.value),
            transport=self._transport.value, sky=self._sky.value,
        )  # fmt: skip
        choice = replace(
            old, show=self._version.value, beside=self._beside.value, split=float(self._split.value),
            light=self._light.value, look=look,
        )  # fmt: skip
        self._split.disabled = choice.beside in (NOTHING, DIFFERENCE, BOTH)
        if choice != old:
            self._painter.changed(self.tab, choice, dragged)
            if choice.show != old.show:
                self._offer_channels()

    def _offer_channels(self) -> None:
        names = self._viewer.channels(self.tab.choice)
        with self._silence():
            _offer(self._channel, names)
        self._choose()

    def _channel_number(self, number: int) -> None:
        if number < len(self._channel.options):
            self._channel.value = self._channel.options[number]

    # -- photos ----------------------------------------------------------------------------------

    def _show_frusta(self) -> None:
        self._depth_wanted = self._frusta_shown.value
        shown = self._frusta_shown.value and self.tab.choice.photo is None
        self._frusta.show(shown)
        if shown:
            self._step_back()
        self._painter.changed(self.tab, self.tab.choice)

    def _step_back(self) -> None:
        """Go away from the object until all cameras are in front."""
        farthest, camera = self._frusta.farthest, self._client.camera
        distance = float(np.linalg.norm(camera.position))
        if 0.0 < distance < _AWAY * farthest:
            camera.position = tuple(np.array(camera.position) * (_AWAY * farthest / distance))
            camera.look_at = (0.0, 0.0, 0.0)

    def _photo_chosen(self) -> None:
        if not self._quiet:
            names = list(self._photo.options)
            number = names.index(self._photo.value) - 1
            self._look_through(number) if number >= 0 else self._leave_photo()

    def _step_photo(self, by: int) -> None:
        count = len(self._photo.options) - 1
        if count > 0:
            now = self.tab.choice.photo
            first = 0 if by > 0 else count - 1
            self._photo.value = self._photo.options[1 + (first if now is None else (now + by) % count)]

    def _look_through(self, number: int) -> None:
        """Put the camera where a photo was taken: photo, render and difference side by side."""
        frames = self._viewer.frames()[0]
        if not 0 <= number < len(frames):
            return
        frame, camera = frames[number], self._client.camera
        with self._silence():
            self._photo.value = frame.name
        beside = self.tab.choice.beside
        beside = BOTH if beside == NOTHING else beside
        covered = _covered(camera.image_width)
        self._take(replace(self.tab.choice, photo=number, beside=beside, covered=covered))
        self._frusta.show(False)
        wxyz, position = self._viewer.placement().on_page(frame)
        box = photo_camera(frame, max(camera.image_width, 1), max(camera.image_height, 1))
        field = 2.0 * np.arctan(0.5 * box.height / box.fy)
        self._jumped = time.monotonic()
        with self._client.atomic():
            camera.up_direction = (0.0, 1.0, 0.0)
            camera.position = tuple(position)
            camera.wxyz = tuple(wxyz)
            camera.fov = float(field)

    def _leave_photo(self) -> None:
        with self._silence():
            self._photo.value = _NONE
        choice = self.tab.choice
        beside = NOTHING if choice.beside in OF_PHOTO else choice.beside
        self._take(replace(choice, photo=None, beside=beside))
        self._frusta.show(self._frusta_shown.value)

    def _photo_with(self, mode: str) -> None:
        if self.tab.choice.photo is None and len(self._photo.options) > 1:
            self._look_through(0)
        beside = {"all three": BOTH, "photo": PHOTO, "difference": DIFFERENCE}.get(mode, NOTHING)
        self._take(replace(self.tab.choice, beside=beside if self.tab.choice.photo is not None else NOTHING))

    def _take(self, choice: Any) -> None:
        """Choose from here what the controls cannot say alone."""
        with self._silence():
            _offer(self._beside, self._viewer.besides(choice.photo))
            self._beside.value = choice.beside
        self._split.disabled = choice.beside in (NOTHING, DIFFERENCE, BOTH)
        self._painter.changed(self.tab, choice)

    # -- camera and picture ----------------------------------------------------------------------

    def _camera_moved(self, camera: viser.CameraHandle) -> None:
        now = PageCamera(
            np.array(camera.wxyz), np.array(camera.position), float(camera.fov), camera.image_width, camera.image_height
        )
        photo = self.tab.choice.photo
        if photo is not None:
            if self.tab.choice.covered != (covered := _covered(now.width)):  # the page has another size
                self._painter.changed(self.tab, replace(self.tab.choice, covered=covered))
            wxyz, position = self._viewer.placement().on_page(self._viewer.frames()[0][photo])
            turned = 1.0 - abs(float(np.dot(wxyz, now.wxyz)))
            away = turned > _STILL or np.linalg.norm(position - now.position) > _STILL * np.linalg.norm(position)
            if not away:
                self._jumped = None
            elif self._jumped is None or time.monotonic() - self._jumped > _JUMP:
                self._leave_photo()
        self._painter.moved(self.tab, now)

    def _reset_camera(self) -> None:
        self._leave_photo()
        camera = self._client.camera
        with self._client.atomic():
            camera.up_direction = (0.0, 1.0, 0.0)
            camera.position = tuple(START)
            camera.look_at = (0.0, 0.0, 0.0)
            camera.fov = float(FIELD_OF_VIEW)
        if self._frusta_shown.value:
            self._step_back()

    def _show(self, view: View, whole: bool) -> None:
        """Put a picture behind the scene; with distances if there are cameras that it may hide."""
        depth = None
        if whole and self._depth_wanted:
            depth = np.where(np.isfinite(view.depth), view.depth / self._viewer.placement().radius, 160.0)
        image, quality = view.image, 92 if whole else 70
        self._client.scene.set_background_image(image, format="jpeg", jpeg_quality=quality, depth=depth)
        self._say(view.error)

    def _busy(self, line: str) -> None:
        self._say(line)

    def _say(self, line: str) -> None:
        text = f"⚠ {line}" if line and not line.endswith("…") else line
        if self._error.content != text or self._error.visible != bool(text):
            self._error.content, self._error.visible = text, bool(text)


def _covered(width: int) -> float:
    """The share of a page's width that the controls hide, at its right."""
    return min(_PANEL / width, 0.75) if width > _NARROW else 0.0


def _offer(control: Any, names: Any) -> None:
    """Give a list its entries; what is chosen stays chosen if it is still there."""
    names = tuple(names)
    if tuple(control.options) != names:
        kept = control.value if control.value in names else names[0]
        control.options = names
        if control.value != kept:
            control.value = kept


__all__ = ["OWN_LIGHT", "START", "Page"]
