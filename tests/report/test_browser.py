"""The pages in a headless Chromium: no console errors, a model that is seen, modes and cameras that do what they say.

Needs the package ``playwright`` and a Chromium of the system; nothing is downloaded.
"""

from __future__ import annotations

import numpy as np
import pytest

from stspbr.report.compare_page import compare_page
from stspbr.report.comparison import compare_records
from stspbr.report.records import read_record
from stspbr.report.run_page import run_page
from stspbr.scene import Asset, Corners, Material, Mesh
from stspbr.scene.light import latlong_to_direction

WAIT = 120_000  # milliseconds: a software renderer on a busy machine takes its time
SPOT = np.array([0.8, 0.4, 0.45]) / np.linalg.norm([0.8, 0.4, 0.45])


@pytest.fixture
def opened(new_page, tmp_path):
    """Open HTML as a file."""

    def go(html: str, init: str | None = None, width: int = 900):
        path = tmp_path / "page.html"
        path.write_text(html, encoding="utf-8")
        page = new_page("file:", width, 700)
        if init:
            page.add_init_script(init)
        page.goto(path.as_uri())
        return page

    return go


def ball(roughness: float = 0.0) -> Asset:
    """A smooth unit sphere of bare white metal."""
    rows, columns = 32, 64
    v, u = np.mgrid[0 : rows + 1, 0 : columns + 1]
    points = latlong_to_direction(np.stack([u / columns, v / rows], axis=-1)).reshape(-1, 3).astype(np.float32)
    corner = (np.arange(rows)[:, None] * (columns + 1) + np.arange(columns)).reshape(-1)
    right, below = corner + 1, corner + columns + 1
    faces = np.concatenate([np.stack([corner, right, below], 1), np.stack([right, below + 1, below], 1)])
    outward = np.cross(points[faces[:, 1]] - points[faces[:, 0]], points[faces[:, 2]] - points[faces[:, 0]])
    if (outward * points[faces].sum(axis=1)).sum() < 0:
        faces = faces[:, ::-1]
    faces = faces.astype(np.int32)
    mesh = Mesh(points, faces, normals=Corners(points, faces))
    constant = [np.full((1, 1, n), value, np.float32) for n, value in ((3, 1.0), (1, roughness), (1, 1.0))]
    return Asset(mesh, [Material(*constant)], "ball")


def one_spot() -> np.ndarray:
    """A dim light with one red spot in the direction ``SPOT``."""
    v, u = (np.mgrid[0:128, 0:256] + 0.5) / np.array([128.0, 256.0])[:, None, None]
    light = np.full((128, 256, 3), 0.02, np.float32)
    light[latlong_to_direction(np.stack([u, v], axis=-1)) @ SPOT > np.cos(0.15)] = (4.0, 0.02, 0.02)
    return light


def show(page) -> None:
    page.locator(".viewers").scroll_into_view_if_needed()
    page.wait_for_selector('figure[data-state="waiting"]', state="detached", timeout=WAIT)
    settle(page)


def settle(page) -> None:
    """Until everything that was asked for is drawn."""
    page.evaluate("() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")


def pixels(page, number: int = 0) -> np.ndarray:
    """A 3D view's picture, [H, W, 4] in 0 … 255."""
    page.evaluate("document.querySelector('.viewers').stspbr.refresh()")
    settle(page)
    width, height, data = page.evaluate(
        """(number) => {
            const canvas = document.querySelectorAll(".stages canvas")[number];
            const { data } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
            return [canvas.width, canvas.height, btoa(Array.from(data, (v) => String.fromCharCode(v)).join(""))];
        }""",
        number,
    )
    import base64

    return np.frombuffer(base64.b64decode(data), np.uint8).reshape(height, width, 4).astype(np.int64)


def test_a_report(opened, make_run):
    page = opened(run_page(read_record(make_run())))
    show(page)
    shading = pixels(page)
    covered = shading[..., 3] == 255
    assert 0.05 < covered.mean() < 0.9
    assert shading[covered][:, :3].std(axis=0).min() > 5
    page.click("[data-mode=roughness]")
    roughness = pixels(page)
    grey = roughness[roughness[..., 3] == 255]
    assert (np.abs(roughness - shading).max(axis=-1)[covered] > 10).mean() > 0.5
    assert (grey[:, :3].max(axis=1) == grey[:, :3].min(axis=1)).all() and grey[:, 0].std() > 5
    page.click("[data-mode=normal]")
    facing = pixels(page)
    assert facing[covered][:, 2].mean() > 128 + 64  # normals of what is seen look at the camera

    # a chart: another scale, a hidden line, values under the pointer
    chart = page.locator("figure.chart").first
    chart.scroll_into_view_if_needed()
    before = chart.locator("path").first.get_attribute("d")
    chart.get_by_label("log scale").uncheck()
    assert chart.locator("path").first.get_attribute("d") != before
    assert chart.locator("path").count() == 2
    chart.locator(".legend button").first.click()
    assert chart.locator("path").count() == 1
    chart.locator("svg").hover()
    assert "A/logl1" in chart.locator(".tip").inner_text()

    # a picture opens large, and a narrow window needs no sideways scrolling
    page.locator("button.picture").first.click()
    assert page.locator("dialog#large").is_visible()
    page.keyboard.press("Escape")
    page.set_viewport_size({"width": 390, "height": 700})
    settle(page)
    assert page.evaluate("document.documentElement.scrollWidth") <= 390


def seen_place(eye: np.ndarray, size: int) -> np.ndarray:
    """Column and row where a mirroring unit sphere at the origin shows ``SPOT`` to a camera that looks at it."""
    normal = eye / np.linalg.norm(eye)
    for _ in range(50):  # the normal halves the angle between the eye and the light; the eye is not far away
        to_eye = eye - normal
        normal = to_eye / np.linalg.norm(to_eye) + SPOT
        normal /= np.linalg.norm(normal)
    back = eye / np.linalg.norm(eye)
    right = np.cross([0.0, 1.0, 0.0], back)
    right /= np.linalg.norm(right)
    ray = normal - eye
    focal = 0.5 * size / np.tan(np.radians(15.0))
    depth = -(ray @ back)
    return size / 2 + focal / depth * np.array([ray @ right, -(ray @ np.cross(back, right))])


def red_place(image: np.ndarray) -> np.ndarray:
    """Column and row of the middle of what is bright red."""
    red = (image[..., 0] > 200) & (image[..., 1] < 120) & (image[..., 3] == 255)
    assert 20 < red.sum() < 0.5 * red.size
    return np.argwhere(red).mean(axis=0)[::-1]


def test_light_comes_from_where_our_convention_says(opened, make_run):
    """The highlight on a mirror ball, and the light itself behind the ball, stand where directions say."""
    page = opened(run_page(read_record(make_run(asset=ball(), light=one_spot(), logs=False, pictures=False))))
    page.add_style_tag(content=".stages canvas { width: 300px !important; height: 300px !important; }")
    show(page)
    look = "([position, target]) => document.querySelector('.viewers').stspbr.look({ position, target })"
    for eye in ([2.0, 1.0, 4.0], [3.5, 2.0, -0.5]):
        page.evaluate(look, [eye, [0, 0, 0]])
        image = pixels(page)
        assert red_place(image) == pytest.approx(seen_place(np.array(eye), image.shape[0]), abs=3)
    # from far behind the ball the light is seen in the background, in the middle of the picture
    page.check("[data-control=background]")
    far = (-6.0 * SPOT + np.array([0.0, 4.0, 0.0])).tolist()
    page.evaluate(look, [far, (np.array(far) + SPOT).tolist()])
    image = pixels(page)
    assert red_place(image) == pytest.approx(np.array(image.shape[1::-1]) / 2, abs=3)
    # half a turn about +Y: the spot is behind the camera's back
    page.evaluate("document.querySelector('.viewers').stspbr.set({ rotation: 180 })")
    assert (pixels(page)[..., 0] < 120).all()


def test_a_comparison_has_one_camera_and_stored_values(opened, make_run):
    runs = [make_run(name, asset=ball(r), logs=False, pictures=False) for name, r in (("one", 0.25), ("two", 0.5))]
    page = opened(compare_page(compare_records([*runs, make_run("bare", stages=("capture",), logs=False)])))
    show(page)
    page.click("[data-mode=roughness]")
    for number, wanted in ((0, 64), (1, 128)):
        image = pixels(page, number)
        inside = image[image.shape[0] // 2, image.shape[1] // 2]
        assert np.abs(inside[:3] - wanted).max() <= 1 and inside[3] == 255
    page.click("[data-mode=normal]")
    before = pixels(page, 0), pixels(page, 1)
    box = page.locator(".stages canvas").first.bounding_box()
    page.mouse.move(box["x"] + 60, box["y"] + 60)
    page.mouse.down()
    page.mouse.move(box["x"] + 120, box["y"] + 90, steps=3)
    page.mouse.up()
    page.mouse.wheel(0, -240)
    for _ in range(100):  # the wheel's event comes when it comes
        after = pixels(page, 0), pixels(page, 1)
        if (after[0][..., 3] > 0).sum() > 1.05 * (before[0][..., 3] > 0).sum():
            break
    assert (after[0][..., 3] > 0).sum() > 1.05 * (before[0][..., 3] > 0).sum()  # nearer
    assert np.abs(after[0] - after[1]).max() <= 2  # both moved, and alike


def test_without_webgl_the_page_says_so(opened, make_run):
    no_webgl = """
        const real = HTMLCanvasElement.prototype.getContext;
        HTMLCanvasElement.prototype.getContext = function (kind, ...rest) {
            return kind.startsWith("webgl") ? null : real.call(this, kind, ...rest);
        };"""
    page = opened(run_page(read_record(make_run(logs=False))), init=no_webgl)
    assert "has no WebGL 2" in page.locator(".viewers").inner_text()


def camera_page(tmp_path) -> str:
    """A capture's check: four training cameras on the horizon, a held-out one above, one of them with a warning."""
    from dataclasses import replace

    from stspbr.scene import Camera, Capture, Frame, look_at
    from stspbr.stages.capture_check import check_frames, write_check

    frames = []
    for k, eye in enumerate([(0, 0, 4), (4, 0, 0), (0, 0, -4), (-4, 0, 0), (0.1, 4, 0)]):
        rows, columns = np.mgrid[:48, :48] + 0.5
        alpha = (np.hypot(rows - 24, columns - 24) < 15)[..., None].astype(np.float32)
        image = alpha * np.array([0.9, 0.1 + 0.01 * k, 0.1], np.float32)
        pose = look_at(np.array(eye, float), np.zeros(3))
        camera = Camera(pose, 60.0, 60.0, 24.0, 24.0, 48, 48)
        frames.append(Frame(f"<{k}>.png", camera, image, alpha, split="test" if k == 4 else "train"))
    frames[2] = replace(frames[2], image=frames[2].image + np.float32(0.1))
    write_check(check_frames(Capture(frames)), frames, tmp_path / "check")
    return (tmp_path / "check" / "check.html").read_text(encoding="utf-8")


def covers(image: np.ndarray, colour: tuple[int, int, int]) -> int:
    return int(((np.abs(image[..., :3] - colour).max(axis=-1) < 40) & (image[..., 3] > 200)).sum())


def test_the_cameras_of_a_capture(opened, tmp_path):
    page = opened(camera_page(tmp_path))
    page.wait_for_selector('.frusta figure[data-state="ready"]', timeout=WAIT)

    def drawn() -> np.ndarray:
        settle(page)
        width, height, data = page.evaluate(
            """() => {
                const canvas = document.querySelector(".frusta canvas");
                const { data } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
                return [canvas.width, canvas.height, btoa(Array.from(data, (v) => String.fromCharCode(v)).join(""))];
            }"""
        )
        import base64

        return np.frombuffer(base64.b64decode(data), np.uint8).reshape(height, width, 4).astype(np.int64)

    train, test, noted = (0x3B, 0x82, 0xF6), (0xF0, 0x8C, 0x28), (0xD6, 0x28, 0x7C)
    everything = drawn()
    assert min(covers(everything, colour) for colour in (train, test, noted)) > 30
    red = covers(everything, (243, 89, 89))  # sRGB of the images
    assert red > 200
    page.uncheck("[data-show=test]")
    assert covers(drawn(), test) < 0.2 * covers(everything, test) and covers(drawn(), train) > 30
    page.check("[data-show=test]")
    page.uncheck("[data-show=pictures]")
    assert covers(drawn(), (243, 89, 89)) < 0.05 * red
    # from the front the first camera's image is in the middle, and a click there names it
    look = "([position, target]) => document.querySelector('.frusta').stspbr.look({ position, target })"
    page.evaluate(look, [[0, 0, 14], [0, 0, 0]])
    settle(page)
    assert page.evaluate("document.querySelector('.frusta').stspbr.pick(0.5, 0.5)") == "<0>.png"
    assert page.locator(".frusta output").inner_text() == "<0>.png (training)"
    page.evaluate(look, [[0, 14, 0.01], [0, 0, 0]])
    settle(page)
    page.locator(".frusta canvas").scroll_into_view_if_needed()
    box = page.locator(".frusta canvas").bounding_box()
    page.mouse.click(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    assert page.locator(".frusta output").inner_text() == "<4>.png (held out)"
    assert page.locator(".frusta figcaption img").is_visible()
    page.set_viewport_size({"width": 390, "height": 700})
    settle(page)
    assert page.evaluate("document.documentElement.scrollWidth") <= 390


def test_the_cameras_without_webgl(opened, tmp_path):
    no_webgl = """
        const real = HTMLCanvasElement.prototype.getContext;
        HTMLCanvasElement.prototype.getContext = function (kind, ...rest) {
            return kind.startsWith("webgl") ? null : real.call(this, kind, ...rest);
        };"""
    page = opened(camera_page(tmp_path), init=no_webgl)
    assert "see cameras.png" in page.locator(".frusta").inner_text()
