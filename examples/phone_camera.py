"""A phone's camera, from linear radiance to the pixels of a JPEG: its lens, its sensor, and what its software does.

In order: radial distortion, auto exposure and white balance, vignetting, blur, shot and read noise, clipping, a
sigmoidal tone curve, sharpening. Each part can be left out by setting it to 0.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from stspbr.colour import linear_to_srgb, luminance_of, srgb_to_linear
from stspbr.scene.camera import Camera

_ROUNDS = 30  # of Newton's iteration


@dataclass(frozen=True)
class PhoneCamera:
    """What is not ideal about the camera.

    Attributes:
        contrast: of the sigmoidal tone curve; 0: the sRGB curve alone.
        auto_exposure: share of a view's deviation from the mean brightness, in stops, that the exposure makes up for;
            exposure_stops: largest random deviation beside that, in stops.
        balance_drift: standard deviation of the logarithm of red's and blue's gains.
        vignetting: share of light that the farthest corner lacks.
        distortion: k₁ of r·(1 + k₁r²), r = 1 at one focal length from the centre.
        blur: standard deviation in pixels.
        photons: per white pixel, for the shot noise; read_noise: as a share of white.
        sharpening: share of what an unsharp mask of one pixel finds that is added.
    """

    contrast: float = 4.0
    auto_exposure: float = 0.5
    exposure_stops: float = 0.3
    balance_drift: float = 0.04
    vignetting: float = 0.25
    distortion: float = 0.0
    blur: float = 0.5
    photons: float = 4000.0
    read_noise: float = 0.002
    sharpening: float = 0.3


IDEAL = PhoneCamera(0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, float("inf"), 0.0, 0.0)
"""A camera that changes nothing but to clip and to encode."""


def tone_curve(exposure: np.ndarray, contrast: float) -> np.ndarray:
    """Encoded values in [0, 1] of linear ``exposure``, any shape; 1 and more is white.

    A logistic function of the sRGB-encoded value, stretched to go from 0 to 1: darker shadows, softer highlights.
    """
    x = linear_to_srgb(np.clip(exposure, 0.0, 1.0)).astype(np.float64)
    if contrast == 0:
        return x
    low, high = (1.0 / (1.0 + np.exp(-contrast * (end - 0.45))) for end in (0.0, 1.0))
    sigmoid = (1.0 / (1.0 + np.exp(-contrast * (x - 0.45))) - low) / (high - low)
    return 0.2 * x + 0.8 * sigmoid


def response(exposure: np.ndarray, contrast: float) -> np.ndarray:
    """Linear values behind the sRGB curve, as a reader takes the file's pixels, of linear ``exposure``."""
    return srgb_to_linear(tone_curve(exposure, contrast)).astype(np.float64)


def exposures(brightness: np.ndarray, phone: PhoneCamera, white: float, rng: np.random.Generator) -> np.ndarray:
    """``[V]`` factors of radiance, 1 is white: the brightness ``white`` of a mean view comes to white.

    Args:
        brightness: ``[V]`` of the views, for auto exposure.
    """
    stops = np.log2(np.maximum(brightness, 1e-6))
    drift = phone.auto_exposure * (stops.mean() - stops)
    drift = np.clip(drift, -1.0, 1.0) + rng.uniform(-phone.exposure_stops, phone.exposure_stops, len(stops))
    return 2.0 ** (drift - drift.mean()) / white


def balances(count: int, phone: PhoneCamera, rng: np.random.Generator) -> np.ndarray:
    """``[V, 3]`` gains of red, green (1) and blue, drifting slowly from view to view."""
    steps = rng.normal(size=(count, 2)).cumsum(axis=0)
    steps = (steps - steps.mean(axis=0)) / np.maximum(steps.std(axis=0), 1e-6) if count > 1 else np.zeros((count, 2))
    gains = np.exp(phone.balance_drift * steps)
    return np.stack([gains[:, 0], np.ones(count), gains[:, 1]], axis=1)


def falloff(camera: Camera, vignetting: float) -> np.ndarray:
    """``[H, W, 1]`` the share of light that each pixel gets."""
    x, y = np.meshgrid(np.arange(camera.width) + 0.5 - camera.cx, np.arange(camera.height) + 0.5 - camera.cy)
    r2 = (x**2 + y**2) / (camera.cx**2 + camera.cy**2)
    return (1.0 - vignetting * (0.7 * r2 + 0.3 * r2**2))[..., None]


def distorted(image: np.ndarray, camera: Camera, k1: float) -> np.ndarray:
    """``[H, W, C]`` through a lens with radial distortion, of what a pinhole of the same intrinsics shows."""
    if k1 == 0:
        return image
    from scipy.ndimage import map_coordinates

    x, y = np.meshgrid((np.arange(camera.width) + 0.5 - camera.cx) / camera.fx,
                       (np.arange(camera.height) + 0.5 - camera.cy) / camera.fy)  # fmt: skip
    bent = np.hypot(x, y)
    straight = bent.copy()
    for _ in range(_ROUNDS):
        straight -= (straight * (1.0 + k1 * straight**2) - bent) / (1.0 + 3.0 * k1 * straight**2)
    factor = np.where(bent > 0, straight / np.maximum(bent, 1e-12), 1.0)
    place = [y * factor * camera.fy + camera.cy - 0.5, x * factor * camera.fx + camera.cx - 0.5]
    channels = [map_coordinates(np.asarray(layer, np.float64), place, order=1, mode="nearest")
                for layer in np.moveaxis(image, -1, 0)]  # fmt: skip
    return np.stack(channels, axis=-1)


def photographed(radiance: np.ndarray, phone: PhoneCamera, rng: np.random.Generator) -> np.ndarray:
    """``[H, W, 3]`` linear as from a sensor: blurred by the lens, with shot and read noise, clipped at 1."""
    from scipy.ndimage import gaussian_filter

    image = np.asarray(radiance, np.float64)
    if phone.blur > 0:
        image = gaussian_filter(image, (phone.blur, phone.blur, 0.0))
    deviation = np.sqrt(np.maximum(image, 0.0) / phone.photons + phone.read_noise**2)
    return np.clip(image + deviation * rng.normal(size=image.shape), 0.0, 1.0).astype(np.float32)


def developed(sensor: np.ndarray, phone: PhoneCamera) -> np.ndarray:
    """``[H, W, 3]`` encoded values in [0, 1] of a sensor's linear ones."""
    from scipy.ndimage import gaussian_filter

    encoded = tone_curve(sensor, phone.contrast)
    if phone.sharpening > 0:
        encoded = encoded + phone.sharpening * (encoded - gaussian_filter(encoded, (1.0, 1.0, 0.0)))
    return np.clip(encoded, 0.0, 1.0)


def brightness_of(radiance: np.ndarray, cover: np.ndarray) -> float:
    """What an exposure meter that looks at the object and a little at the rest says."""
    weight = 0.25 + cover[..., 0]
    return float((weight * luminance_of(np.asarray(radiance, np.float64))).sum() / weight.sum())
