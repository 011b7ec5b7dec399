"""The page of a scene model in a headless Chromium: parts are chosen, a pixel is asked for, the camera moves.

Needs the packages ``viser`` and ``playwright`` and a Chromium of the system; nothing is downloaded. A stand-in for the
model computes what the page shows, so that a colour in the picture tells which choice was drawn.
"""

from __future__ import annotations

import io
import time

import numpy as np
import pytest
from PIL import Image

from stspbr.errors import StspbrError
from stspbr.view.scene_view import SceneChoice, Shown

pytest.importorskip("viser")

WAIT = 120.0  # seconds: a software renderer on a busy machine takes its time
COLOURS = np.eye(3)  # of the three scenes' shapes
SIDE = 8


class _Show:
    """Predictions have the colour of the scene whose shapes are taken; heat is at the first observation."""

    count = 3

    def __init__(self) -> None:
        self.choices: list[SceneChoice] = []

    def predict(self, choice: SceneChoice) -> Shown:
        self.choices.append(choice)
        if choice.material == 2:
            raise StspbrError("the materials of scene 2 are lost")
        blank = np.zeros((SIDE, SIDE, 3))
        heat = None if choice.pixel is None else np.stack([np.ones((SIDE, SIDE)), np.zeros((SIDE, SIDE))])
        line = f"light of {choice.light}, shapes of {choice.geometry}, materials of {choice.material}"
        asked = [] if choice.pixel is None else [f"asked: {choice.pixel[0]} and {choice.pixel[1]}"]
        return Shown(blank + COLOURS[choice.geometry], [blank + 0.2] * 2, {"normal": blank}, heat, [line, *asked])

    def reference(self, choice: SceneChoice, round: int) -> np.ndarray:
        return np.zeros((SIDE, SIDE, 3)) + 0.5 * COLOURS[choice.geometry]


def until(what, message: str):
    """Wait until ``what()`` is true, and return it."""
    end = time.monotonic() + WAIT
    while time.monotonic() < end:
        if found := what():
            return found
        time.sleep(0.1)
    raise AssertionError(message)


def pixels(page) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(page.screenshot())).convert("RGB")).astype(int)


def lit(page) -> np.ndarray:
    """The share of the page's left half that is clearly red, green or blue."""
    image = pixels(page)[:, :500]
    others = np.sort(image, axis=-1)[..., 1]
    clear = image.max(axis=-1) > others + 90
    return np.array([((image.argmax(axis=-1) == k) & clear).mean() for k in range(3)])


def place_of(page, channel: int) -> tuple[float, float]:
    """A place in the prediction, which is the brightest in a channel, as the reference has half its radiance."""
    image = pixels(page)
    rows, columns = np.nonzero((image[..., channel] > 235) & (np.delete(image, channel, axis=-1).max(axis=-1) < 60))
    return float(np.median(columns)), float(np.median(rows))


def test_the_page_of_a_scene_model(new_page):
    from stspbr.view.scene_server import SceneServer

    show = _Show()
    with SceneServer(show) as server:
        page = new_page("http://localhost:", 1000, 520)
        page.goto(server.url)
        page.add_style_tag(content=".mantine-Notifications-root { display: none; }")  # viser tells of software WebGL

        until(lambda: lit(page)[0] > 0.05, "there is no prediction of scene 0")
        assert lit(page)[1:].max() < 0.01
        assert "light of 0, shapes of 0, materials of 0" in page.inner_text("body")

        # a key draws the next scene, the three parts together
        page.mouse.click(20, 500)
        page.keyboard.press("r")
        until(lambda: lit(page)[1] > 0.05, "the key R draws no other scene")
        until(lambda: "light of 1, shapes of 1, materials of 1" in page.inner_text("body"), "parts stay behind")

        # one part of another scene
        page.get_by_label("geometry of").click()
        page.get_by_role("option", name="2", exact=True).click()
        until(lambda: lit(page)[2] > 0.05, "the chosen shapes are not drawn")
        until(lambda: "light of 1, shapes of 2, materials of 1" in page.inner_text("body"), "other parts have moved")

        # the reference comes after the prediction, without being asked for
        until(lambda: lit(page)[2] > 0.12, "there is no reference beside the prediction")

        # a click asks where a pixel comes from
        page.get_by_text("click asks for a pixel").click()
        page.wait_for_timeout(500)
        x, y = place_of(page, 2)
        page.mouse.click(x, y)
        until(lambda: show.choices[-1].pixel is not None, "a click asks nothing")
        column, row = show.choices[-1].pixel
        until(lambda: pixels(page)[int(y), int(x)].min() > 200, "another pixel than the one under the mouse is marked")
        until(lambda: f"asked: {column} and {row}" in page.inner_text("body"), "the answer is not shown")
        page.get_by_text("click asks for a pixel").click()
        until(lambda: show.choices[-1].pixel is None, "the question stays")

        # the mouse moves the camera
        assert show.choices[-1].world_to_camera is None
        page.mouse.move(200, 250)
        page.mouse.down()
        page.mouse.move(300, 260, steps=4)
        page.mouse.up()
        until(lambda: show.choices[-1].world_to_camera is not None, "the camera stays")
        matrix = np.array(show.choices[-1].world_to_camera).reshape(4, 4)
        assert np.allclose(matrix[:3, :3] @ matrix[:3, :3].T, np.eye(3), atol=1e-5)
        page.get_by_role("button", name="the scene's own view").click()

        # what goes wrong is said, and the page goes on
        page.get_by_label("material of").click()
        page.get_by_role("option", name="2", exact=True).click()
        until(lambda: "the materials of scene 2 are lost" in page.inner_text("body"), "an error is not said")
        page.get_by_label("material of").click()
        page.get_by_role("option", name="0", exact=True).click()
        until(lambda: "light of 1, shapes of 2, materials of 0" in page.inner_text("body"), "it stops at an error")
