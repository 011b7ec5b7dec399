"""The page of a scene model: the server, guard and style of ``stspbr view``, with other controls."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from stspbr.errors import first_line, one_line
from stspbr.view.placement import rotation_of
from stspbr.view.scene_view import SceneChoice, SceneShow, Shown, canvas, tiles
from stspbr.view.serving import ServedPage

if TYPE_CHECKING:
    import viser

_FLIP = np.diag([1.0, -1.0, -1.0])  # between OpenGL's axes of a camera and those of the page
_ROUNDS = 32  # path-traced pictures that the reference is the mean of, at most
_SPP = (2, 512)
_STEP = 10  # paths per pixel per key press
_START = (1.5, 1.6, 1.8)  # of the camera


class SceneServer(ServedPage):
    """The page of a scene model.

    Args:
        host, port: as of ``ServedPage``.

    Raises:
        StspbrError: viser is not installed, or no port is free.
    """

    def __init__(self, show: SceneShow, host: str = "127.0.0.1", port: int = 8080) -> None:
        super().__init__(host, port)
        self._show, self._pages = show, dict[int, ScenePage]()
        self._wake = threading.Condition()
        self._inner.initial_camera.position = _START
        self._inner.initial_camera.look_at = (0.2, 0.4, 0.2)
        self._thread = threading.Thread(target=self._run, name="stspbr-scenes-painter", daemon=True)
        self._serve(self._thread)

    def close(self) -> None:
        """End the page."""
        self._ended.set()
        with self._wake:
            self._wake.notify()
        self.guard.close()
        self._thread.join(timeout=60)
        self._stop()

    def _connected(self, client: viser.ClientHandle) -> None:
        page = ScenePage(client, self._show.count, self._notify)
        with self._wake:
            self._pages[client.client_id] = page
            self._wake.notify()

    def _disconnected(self, client: viser.ClientHandle) -> None:
        with self._wake:
            self._pages.pop(client.client_id, None)

    def _notify(self) -> None:
        with self._wake:
            self._wake.notify()

    def _run(self) -> None:
        """Predictions first, of all tabs; when none is asked for, references are refined."""
        while not self._ended.is_set():
            with self._wake:
                pages = list(self._pages.values())
                page = next((one for one in pages if one.stale), None)
                page = page or next((one for one in pages if one.rounds < _ROUNDS), None)
                if page is None:
                    self._wake.wait()
                    continue
            try:
                page.draw(self._show)
            except Exception as error:  # the other tabs go on
                page.say(one_line(error) or f"this picture failed ({first_line(error)})")
                page.give_up()
                if one_line(error) is None:
                    logging.getLogger(__name__).exception("a picture of stspbr scenes view failed")


class ScenePage:
    """The controls of one tab, and its pictures."""

    def __init__(self, client: viser.ClientHandle, count: int, changed: Callable[[], None]) -> None:
        self._client, self._count, self._changed = client, count, changed
        self.choice = SceneChoice()
        self.stale, self.rounds = True, 0
        self._shown: Shown | None = None
        self._sum: np.ndarray | None = None
        self._camera: np.ndarray | None = None
        self._build()
        client.camera.on_update(self._camera_moved)

    def draw(self, show: SceneShow) -> None:
        """One step of work: a prediction, or one more picture of the reference."""
        choice = self.choice
        if self.stale or self._shown is None:
            self.stale = False
            self._shown = show.predict(choice)
            self._sum, self.rounds = None, 0
            self.say("  \n".join(self._shown.lines))
        else:
            one = show.reference(choice, self.rounds)
            if choice == self.choice:
                self._sum = one if self._sum is None else self._sum + one
                self.rounds += 1
        reference = None if self._sum is None else self._sum / self.rounds
        width, height = self._size()
        image = canvas(self._shown, reference, choice, width, height)
        self._client.scene.set_background_image(image, format="jpeg", jpeg_quality=92)

    def say(self, line: str) -> None:
        """A line above the controls."""
        self._head.content = line

    def give_up(self) -> None:
        """Draw no more until something is chosen."""
        self.stale, self.rounds = False, _ROUNDS

    def ask(self, **change: Any) -> None:
        """Choose something else."""
        choice = replace(self.choice, **change)
        if choice != self.choice:
            self.choice, self.stale = choice, True
            self._changed()

    def clicked(self, x: float, y: float) -> None:
        """A click at a place of the page, in [0, 1]: on the prediction it asks where that pixel comes from."""
        if self._shown is None:
            return
        width, height = self._size()
        places = tiles(width, height, len(self._shown.observations), len(self._shown.buffers))
        pixel = places["predicted"].pixel(x * width, y * height, self._shown.predicted.shape[0])
        self.ask(pixel=pixel)

    def _build(self) -> None:
        gui, names = self._client.gui, [str(k) for k in range(self._count)]
        self._head = gui.add_markdown("")
        with gui.add_folder("Scene"):
            parts = {}
            for part in ("light", "geometry", "material"):
                parts[part] = gui.add_dropdown(f"{part} of", names, hint="number of a test scene")
                parts[part].on_update(lambda _, p=part: self.ask(**{p: int(parts[p].value)}))
            self._parts = parts
            gui.add_button("new scene", hint="key R").on_click(lambda _: self._new_scene())
            gui.add_button("new observations", hint="key O").on_click(lambda _: self._new_observations())
            gui.add_button("the scene's own view").on_click(lambda _: self._reset())
        with gui.add_folder("Paths per pixel"):
            self._query = gui.add_slider("query", *_SPP, 1, self.choice.query_spp, hint="keys J, H: ±10")
            self._observation = gui.add_slider("observations", *_SPP, 1, self.choice.observation_spp, hint="keys M, N")
            self._query.on_update(lambda _: self.ask(query_spp=int(self._query.value)))
            self._observation.on_update(lambda _: self.ask(observation_spp=int(self._observation.value)))
        with gui.add_folder("Attribution"):
            self._clicks = gui.add_checkbox("click asks for a pixel", False, hint="else the mouse moves the camera")
            self._patch = gui.add_slider("patch", 1, 16, 1, 1, hint="pixels a side")
            self._range = gui.add_slider("range", 0.02, 1.0, 0.02, 1.0, hint="heat that is white")
            self._clicks.on_update(lambda _: self._listen())
            self._patch.on_update(lambda _: self.ask(patch=int(self._patch.value)))
            self._range.on_update(lambda _: self.ask(range=float(self._range.value)))
        for key, act in (
            ("R", self._new_scene),
            ("O", self._new_observations),
            ("J", lambda: self._step(self._query, _STEP)),
            ("H", lambda: self._step(self._query, -_STEP)),
            ("M", lambda: self._step(self._observation, _STEP)),
            ("N", lambda: self._step(self._observation, -_STEP)),
        ):
            gui.add_command(f"key {key}", hotkey=key).on_trigger(lambda _, a=act: a())

    def _step(self, slider: Any, by: int) -> None:
        slider.value = int(np.clip(slider.value + by, *_SPP))

    def _new_scene(self) -> None:
        number = (self.choice.geometry + 1) % self._count
        for control in self._parts.values():
            control.value = str(number)

    def _new_observations(self) -> None:
        self.ask(round=self.choice.round + 1)

    def _reset(self) -> None:
        self.ask(world_to_camera=None, pixel=None)

    def _listen(self) -> None:
        scene = self._client.scene
        if self._clicks.value:
            scene.on_pointer_event(event_type="click")(lambda event: self.clicked(*event.screen_pos[0]))
        else:
            scene.remove_pointer_callback()
            self.ask(pixel=None)

    def _camera_moved(self, camera: viser.CameraHandle) -> None:
        pose = np.eye(4)
        pose[:3, :3] = rotation_of(np.asarray(camera.wxyz)) @ _FLIP
        pose[:3, 3] = camera.position
        # a page says where its camera is when it opens, before it is at its start, and when its window changes
        if self._camera is None and not np.allclose(camera.position, _START, atol=1e-3):
            return
        before, self._camera = self._camera, pose
        if before is not None and not np.allclose(before, pose, atol=1e-4):
            self.ask(world_to_camera=tuple(np.linalg.inv(pose).ravel().tolist()), pixel=None)

    def _size(self) -> tuple[int, int]:
        camera = self._client.camera
        width, height = max(camera.image_width, 1), max(camera.image_height, 1)
        scale = 1200.0 / max(width, height)
        return max(64, int(width * scale)), max(64, int(height * scale))
