"""Lenses: the projection of each model, and photographs resampled to pinholes to a fraction of a pixel."""

from __future__ import annotations

import sys

import numpy as np
import pytest

from stspbr.datasets.lens import (
    Lens,
    lens,
    object_bounds,
    parameter_names,
    pinhole_image,
    undistorted,
    undistortion_map,
)
from stspbr.errors import StspbrError

WIDTH, HEIGHT = 200, 160
HEAD = {"f": 150.0, "fx": 150.0, "fy": 146.0, "cx": 98.3, "cy": 82.6}
COEFFICIENTS = {
    "SIMPLE_RADIAL": {"k": -0.12},
    "RADIAL": {"k1": -0.15, "k2": 0.04},
    "OPENCV": {"k1": -0.15, "k2": 0.04, "p1": 0.004, "p2": -0.003},
    "FULL_OPENCV": {"k1": 0.1, "k2": 0.02, "p1": 0.003, "p2": 0.002, "k3": 0.01, "k4": 0.2, "k5": 0.03, "k6": 0.01},
    "SIMPLE_DIVISION": {"k": -0.1},
    "DIVISION": {"k": 0.1},
    "FOV": {"omega": 0.7},
    "EUCM": {"alpha": 0.5, "beta": 1.1},
    "SIMPLE_FISHEYE": {},
    "FISHEYE": {},
    "SIMPLE_RADIAL_FISHEYE": {"k": 0.03},
    "RADIAL_FISHEYE": {"k1": 0.03, "k2": -0.01},
    "OPENCV_FISHEYE": {"k1": 0.03, "k2": -0.01, "k3": 0.004, "k4": -0.002},
    "THIN_PRISM_FISHEYE": {"k1": 0.03, "k2": -0.01, "p1": 0.003, "p2": -0.002, "k3": 0.002, "sx1": 0.002, "sy1": 0.003},
    "RAD_TAN_THIN_PRISM_FISHEYE": {"k0": 0.03, "k1": -0.01, "p0": 0.003, "p1": -0.002, "s0": 0.002, "s2": -0.002},
}


def made(model: str, **changes: float) -> Lens:
    numbers = HEAD | COEFFICIENTS.get(model, {}) | changes
    return lens(model, [numbers.get(name, 0.0) for name in parameter_names(model)], WIDTH, HEIGHT, "here")


def known(model: str) -> Lens:
    """The lens, or a skip where the installed pycolmap is older than its model."""
    pycolmap = pytest.importorskip("pycolmap")
    if model not in pycolmap.CameraModelId.__members__:
        pytest.skip(f"pycolmap {pycolmap.__version__} has no {model}")
    return made(model)


def dots(places: np.ndarray, width: int, height: int, sigma: float = 2.0) -> np.ndarray:
    """``[H, W, 1]`` of round dots whose centres lie at ``places`` in our pixel coordinates."""
    rows, columns = np.mgrid[:height, :width] + 0.5
    squares = (columns[..., None] - places[:, 0]) ** 2 + (rows[..., None] - places[:, 1]) ** 2
    return np.exp(-0.5 * squares / sigma**2).sum(axis=-1, dtype=np.float32)[..., None]


def centroid(image: np.ndarray, near: np.ndarray, reach: int = 8) -> np.ndarray:
    rows, columns = np.mgrid[: image.shape[0], : image.shape[1]] + 0.5
    weight = np.where(np.hypot(columns - near[0], rows - near[1]) < reach, image[..., 0], 0.0)
    return np.array([(columns * weight).sum(), (rows * weight).sum()]) / weight.sum()


@pytest.mark.parametrize("model", COEFFICIENTS)
def test_dots_go_where_the_pinhole_says(model):
    pytest.importorskip("cv2")
    own = known(model)
    points = np.array([(0, 0, 2), (0.5, 0.1, 2), (-0.6, 0.3, 2), (0.2, -0.7, 2), (-0.9, -0.8, 2.5), (0.8, 0.7, 2.5)])
    image = dots(own.project(points), WIDTH, HEIGHT)
    alpha = (image > 0.01).astype(np.float32)
    pinhole = pinhole_image(own, [object_bounds(own, alpha, "here")])
    flat = undistorted(image, undistortion_map(own, pinhole))
    expected = points[:, :2] / points[:, 2:] * (pinhole.fx, pinhole.fy) + (pinhole.cx, pinhole.cy)
    found = np.stack([centroid(flat, place) for place in expected])
    straight = points[:, :2] / points[:, 2:] * (HEAD["fx"], pinhole.fy) + (HEAD["cx"], HEAD["cy"])
    assert np.abs(found - expected).max() < 0.1  # half a pixel lost, or an axis flipped, is far more
    assert np.abs(own.project(points) - straight).max() > 1.0  # there was something to undo


def test_projections_are_the_published_ones():
    cv2 = pytest.importorskip("cv2")
    known("OPENCV")
    rays = np.random.default_rng(0).uniform(-0.5, 0.5, (20, 3))
    rays[:, 2] = 1.0
    zero = np.zeros(3)
    k = np.array([[HEAD["fx"], 0, HEAD["cx"]], [0, HEAD["fy"], HEAD["cy"]], [0, 0, 1]])
    for model in ("OPENCV", "FULL_OPENCV"):
        numbers = np.array([COEFFICIENTS[model].get(name, 0.0) for name in "k1 k2 p1 p2 k3 k4 k5 k6".split()])
        assert made(model).project(rays) == pytest.approx(cv2.projectPoints(rays, zero, zero, k, numbers)[0][:, 0])
    numbers = np.array(list(COEFFICIENTS["OPENCV_FISHEYE"].values()))
    expected = cv2.fisheye.projectPoints(rays[:, None], zero, zero, k, numbers)[0][:, 0]
    assert made("OPENCV_FISHEYE").project(rays) == pytest.approx(expected)
    x, y = rays[:, 0], rays[:, 1]
    r = np.hypot(x, y)
    factor = 1 - 0.12 * r * r
    assert made("SIMPLE_RADIAL").project(rays)[:, 0] == pytest.approx(HEAD["f"] * x * factor + HEAD["cx"])
    factor = np.arctan(2 * r * np.tan(0.35)) / 0.7 / r  # Devernay and Faugeras 2001
    assert made("FOV").project(rays)[:, 1] == pytest.approx(HEAD["fy"] * y * factor + HEAD["cy"])


def test_a_lens_that_does_nothing_moves_nothing():
    pytest.importorskip("cv2")
    known("OPENCV")
    own = made("OPENCV", k1=1e-12, k2=0.0, p1=0.0, p2=0.0)
    image = np.random.default_rng(0).random((HEIGHT, WIDTH, 4), np.float32)
    pinhole = pinhole_image(own)
    assert (pinhole.width, pinhole.height, pinhole.cx, pinhole.cy) == (WIDTH, HEIGHT, HEAD["cx"], HEAD["cy"])
    assert np.abs(undistorted(image, undistortion_map(own, pinhole)) - image).max() < 1e-5


@pytest.mark.parametrize("model", ["OPENCV", "OPENCV_FISHEYE", "FOV"])
def test_no_object_pixel_is_lost(model):
    pytest.importorskip("cv2")
    own = known(model)
    alpha = np.zeros((HEIGHT, WIDTH, 1), np.float32)
    alpha[0:9, 3:60] = alpha[100:, 180:] = alpha[60:70, 90:100] = 1
    bounds = object_bounds(own, alpha, "here")
    assert bounds[0] < -1 and bounds[3] > HEIGHT + 1  # barrel distortion: its corners lie outside the old image
    pinhole = pinhole_image(own, [bounds])
    flat = undistorted(alpha, undistortion_map(own, pinhole))
    # Every covered pixel's own ray meets coverage in the pinhole image.
    places = np.argwhere(alpha[..., 0] > 0)[:, ::-1] + 0.5
    at = own.unproject(places) * (pinhole.fx, pinhole.fy) + (pinhole.cx, pinhole.cy)
    columns, rows = np.floor(at).astype(int).T
    assert columns.min() >= 0 and rows.min() >= 0 and columns.max() < pinhole.width and rows.max() < pinhole.height
    assert flat[rows, columns, 0].min() > 0
    assert (flat > 0).sum() >= (alpha > 0).sum()


def test_what_the_lens_does_not_see_is_empty():
    pytest.importorskip("cv2")
    known("OPENCV")
    own = made("OPENCV", k1=-0.6, k2=0.0, p1=0.0, p2=0.0)  # folds back at r = 0.745
    wide = pinhole_image(own, [(-200, -200, 400, 400)])
    flat = undistorted(np.ones((HEIGHT, WIDTH, 4), np.float32), undistortion_map(own, wide))
    rows, columns = np.mgrid[: wide.height, : wide.width] + 0.5
    radius = np.hypot((columns - wide.cx) / wide.fx, (rows - wide.cy) / wide.fy)
    fold = np.sqrt(1 / 1.8)
    assert flat[radius > fold + 0.02].max() == 0.0
    inside = own.project(np.stack([(columns - wide.cx) / wide.fx, (rows - wide.cy) / wide.fy, 0 * rows + 1], -1)
                         .reshape(-1, 3)).reshape(*rows.shape, 2)  # fmt: skip
    shown = (inside > 1).all(axis=-1) & (inside[..., 0] < WIDTH - 1) & (inside[..., 1] < HEIGHT - 1)
    assert flat[shown & (radius < fold - 0.02)].min() > 0.999


def test_what_no_pinhole_can_hold_is_refused():
    known("FISHEYE")
    own = lens("FISHEYE", (60, 60, 100, 80), WIDTH, HEIGHT, "here")
    alpha = np.zeros((HEIGHT, WIDTH, 1), np.float32)
    alpha[70:90, 180:190] = 1  # 86 degrees
    with pytest.raises(StspbrError, match=r"^frame a.jpg: the object reaches 8\d degrees"):
        object_bounds(own, alpha, "frame a.jpg")
    alpha[70:90, 195:] = 1
    with pytest.raises(StspbrError, match="sees nothing"):
        object_bounds(own, alpha, "frame a.jpg")


@pytest.mark.parametrize(
    ("model", "params", "message"),
    [
        ("TELESCOPE", (1, 2, 3), "camera model TELESCOPE is unknown: choose one of SIMPLE_PINHOLE, "),
        ("EQUIRECTANGULAR", (200, 100), "EQUIRECTANGULAR is a panorama"),
        ("OPENCV", (1, 2, 3), r"OPENCV needs 8 parameters \(fx fy cx cy k1 k2 p1 p2\), not 3"),
        ("PINHOLE", (0, 1, 2, 3), "focal length is not a positive number"),
        ("PINHOLE", (1, float("nan"), 2, 3), "not finite"),
        ("PINHOLE", (1, "x", 2, 3), "not a number"),
    ],
)
def test_bad_lenses(model, params, message):
    with pytest.raises(StspbrError, match=f"^camera 7: .*{message}"):
        lens(model, params, 10, 10, "camera 7")


def test_pinholes_need_no_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "pycolmap", None)
    assert (
        made("PINHOLE").is_pinhole and made("FULL_OPENCV", **dict.fromkeys(COEFFICIENTS["FULL_OPENCV"], 0)).is_pinhole
    )
    assert not made("SIMPLE_RADIAL").is_pinhole and not made("FISHEYE").is_pinhole
    assert made("SIMPLE_RADIAL").intrinsics == (150, 150, 98.3, 82.6)
    with pytest.raises(StspbrError, match=r"pip install 'stspbr\[photos\]'"):
        made("SIMPLE_RADIAL").project(np.ones((1, 3)))


def test_scaling_keeps_rays():
    known("OPENCV")
    own, rays = made("OPENCV"), np.array([[0.2, -0.1, 1.0]])
    assert own.scaled(100, 80).project(rays) == pytest.approx(own.project(rays) / 2)
