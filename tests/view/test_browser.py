"""The page in a headless Chromium: nothing goes wrong, the object is seen, controls do what they say.

Needs the packages ``viser`` and ``playwright`` and a Chromium of the system; nothing is downloaded.
"""

from __future__ import annotations

import io
import shutil
import socket
import time
import urllib.error
import urllib.request

import numpy as np
import pytest
from PIL import Image

from .conftest import log, tree, viewer_of

pytest.importorskip("viser")

WAIT = 120.0  # seconds: a software renderer on a busy machine takes its time
OBJECT = (slice(60, 440), slice(60, 480))  # of the page: what the panel does not cover


@pytest.fixture
def serve():
    """Serve a run; at the end all servers are closed."""
    from stspbr.view.server import Server

    servers = []

    def start(run, port: int = 0, **options):
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = port or probe.getsockname()[1]
        servers.append(Server(viewer_of(run), port=port, largest=320, poll=0.2, **options))
        return servers[-1]

    yield start
    for server in servers:
        server.close()


@pytest.fixture
def opened(new_page):
    """Open a page of a server."""

    def go(url: str):
        page = new_page("http://localhost:", 860, 500)
        page.goto(url)
        page.add_style_tag(content=".mantine-Notifications-root { display: none; }")  # viser tells of software WebGL
        return page

    return go


def pixels(page) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(page.screenshot())).convert("RGB")).astype(int)[OBJECT]


def until(what, message: str):
    """Wait until ``what()`` is true, and return it."""
    end = time.monotonic() + WAIT
    while time.monotonic() < end:
        if found := what():
            return found
        time.sleep(0.1)
    raise AssertionError(message)


def settled(page, server) -> np.ndarray:
    """The picture when nothing more is drawn."""
    before = None
    end = time.monotonic() + WAIT
    while time.monotonic() < end:
        count, image = server.painter.drawn, pixels(page)
        if before is not None and count > 0 and np.abs(image - before).max() <= 3 and count == server.painter.drawn:
            return image
        before = image
        page.wait_for_timeout(700)
    raise AssertionError("the picture does not come to rest")


def changed(page, server, before: np.ndarray, by: float, message: str) -> np.ndarray:
    """The picture after it has changed, on the mean, by so much."""
    until(lambda: np.abs(pixels(page) - before).mean() > by, message)
    return settled(page, server)


def seen(image: np.ndarray) -> float:
    """The share of the picture that is not background."""
    return float((np.abs(image - image[0, 0]).max(axis=-1) > 12).mean())


def shown(page, server) -> np.ndarray:
    """The picture when the object is there."""
    until(lambda: seen(pixels(page)) > 0.05, "the picture stays blank")
    return settled(page, server)


def test_a_page(opened, serve, finished):
    """The object is seen, a key changes its channel, the line between two versions moves, a photo is looked through."""
    before = tree(finished)
    server = serve(finished)
    page = opened(server.url)
    shaded = shown(page, server)
    assert 0.05 < seen(shaded) < 0.9
    assert "finished: bake/v0001" in page.inner_text("body")

    page.mouse.click(20, 480)
    page.keyboard.press("5")
    normal = changed(page, server, shaded, 4, "the channel stays")
    assert page.get_by_label("channel").input_value() == "normal"

    # two versions: where the line stands, left of it one and right of it the other
    page.get_by_label("beside it").click()
    page.get_by_role("option", name="capture/v0001").click()
    middle = changed(page, server, normal, 0.5, "there is no line")
    slider = page.locator('[role="slider"]').first
    slider.focus()
    for _ in range(25):
        slider.press("ArrowLeft")
    moved = changed(page, server, middle, 0.5, "the line stays")

    def line(image: np.ndarray) -> int:
        bright = image[:20].mean(axis=(0, 2))
        assert bright.max() > np.median(bright) + 60
        return int(bright.argmax())

    assert 0 < line(moved) < line(middle) - 40

    # the mouse turns the object
    page.mouse.move(200, 250)
    page.mouse.down()
    page.mouse.move(300, 260, steps=4)
    page.mouse.up()
    turned = changed(page, server, moved, 2, "it does not turn")

    # through a photo's camera, the photo right of the line
    page.keyboard.press("n")
    changed(page, server, turned, 2, "no photo is looked through")
    page.get_by_text("Photos", exact=True).click()
    chosen = page.get_by_label("look through")
    until(lambda: chosen.input_value().startswith("images/"), "the photo that is looked through is not named")
    page.get_by_text("Progress", exact=True).click()
    until(lambda: page.locator(".uplot canvas").count() == 1, "there is no chart")
    assert tree(finished) == before


def test_tabs_are_apart_and_a_stage_is_followed_to_its_end(opened, serve, going_on, dead_process):
    shutil.rmtree(going_on / "logs")
    lines: list[str] = []
    server = serve(going_on, say=lines.append)
    one = opened(server.url)
    first = shown(one, server)
    two = opened(server.url)
    shown(two, server)
    two.mouse.click(20, 480)
    two.keyboard.press("5")
    until(lambda: two.get_by_label("channel").input_value() == "normal", "the second tab's channel stays")
    assert np.abs(settled(two, server) - first).mean() > 4
    assert one.get_by_label("channel").input_value() == "shaded"
    assert np.abs(settled(one, server) - first).max() <= 6

    log(going_on, "bake", steps=4)
    for page in (one, two):
        until(lambda page=page: "bake is running, step 4" in page.inner_text("body"), "the page does not follow")
    one.get_by_text("Progress", exact=True).click()
    until(lambda: one.locator("img").count() >= 1, "there is no preview")
    log(going_on, "bake", steps=7, process=dead_process)
    until(lambda: "bake stopped at step 7" in one.inner_text("body"), "the page does not say that it stopped")
    assert [line.split(",")[0] for line in lines][-2:] == ["bake is running", "bake stopped at step 7"]

    # a tab that is closed is drawn for no more
    two.close()
    until(lambda: len(server._pages) == 1, "the closed tab is kept")


def test_a_port_that_is_taken_and_a_token(opened, serve, finished):
    first = serve(finished)
    second = serve(finished, port=first.guard.port)
    assert second.guard.port > first.guard.port
    shown(opened(second.url), second)

    guarded = serve(finished, host="0.0.0.0")
    page = opened(guarded.url)
    shown(page, guarded)
    assert "token" not in page.url
    for path in ("", "?token=wrong"):
        with pytest.raises(urllib.error.HTTPError, match="403"):
            urllib.request.urlopen(f"http://127.0.0.1:{guarded.guard.port}/{path}", timeout=10)
