"""Synthetic photographs from the path tracer with the defects of real ones, and the truth beside them.

An asset is placed on a printed table under an environment. The photos have different exposures (in their Exif), sensor
noise, a slight blur and JPEG artefacts; the masks are wrong by about two pixels.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from photo_table import table_asset
from stspbr.colour import linear_to_srgb
from stspbr.errors import StspbrError
from stspbr.files import atomic_path
from stspbr.formats.images import write_png8
from stspbr.scene.asset import Asset
from stspbr.scene.camera import Camera, look_at
from stspbr.scene.camera_rig import bounding_sphere
from stspbr.scene.light import EnvironmentLight

_F_NUMBER, _ISO = 8.0, 100


@dataclass(frozen=True)
class PhotoSetOptions:
    """Options of the photos.

    Attributes:
        views: their number, on three rings; size: ``(width, height)`` in pixels.
        fov_degrees: of the shorter side.
        samples, max_depth: of the path tracer.
        exposure_stops: largest deviation of an exposure from the mean, in stops.
        photons: per white pixel, for the shot noise; read_noise: as a share of white.
        blur: standard deviation in pixels; quality: of the JPEG.
        mask_error: standard deviation of the masks' outlines in pixels.
        seed: of everything random.
    """

    views: int = 30
    size: tuple[int, int] = (512, 384)
    fov_degrees: float = 40.0
    samples: int = 64
    max_depth: int = 4
    exposure_stops: float = 0.5
    photons: float = 4000.0
    read_noise: float = 0.002
    blur: float = 0.5
    quality: int = 92
    mask_error: float = 2.0
    seed: int = 0


def make_photo_set(
    folder: str | Path,
    asset: Asset,
    light: EnvironmentLight,
    options: PhotoSetOptions | None = None,
    on_photo: Callable[[int, int], None] = lambda done, total: None,
) -> Path:
    """Render a set: ``images/*.jpg``, ``masks/*.png`` (with errors), ``true_masks/*.png``, ``truth.json``.

    ``truth.json`` has nerfstudio's keys: the cameras (``transform_matrix``, OpenGL axes, ``"up_axis": "y"``), and the
    ``exposure`` of each frame, a factor of its linear image.

    Returns:
        The path of ``truth.json``.

    Raises:
        StspbrError: Mitsuba is missing, or the folder cannot be written.
    """
    from stspbr.render.mitsuba_scene import PathTracer

    options = options or PhotoSetOptions()
    folder = Path(folder)
    points = asset.mesh.positions[np.unique(asset.mesh.faces)]
    centre, radius = bounding_sphere(points)
    table = table_asset(float(points[:, 1].min()), size=9.0 * radius, seed=options.seed)
    tracer = PathTracer(asset, light, options.max_depth, table, show_light=True)
    rng = np.random.default_rng(options.seed)
    cameras = ring_cameras(options, centre, radius, rng)
    stops = rng.uniform(-options.exposure_stops, options.exposure_stops, len(cameras))
    frames = []
    for index, (camera, stop) in enumerate(zip(cameras, stops, strict=True)):
        name, seed = f"photo_{index:03d}", options.seed * 1000 + index
        rgb, _ = tracer.view(camera, spp=options.samples, seed=seed)
        cover = tracer.coverage(camera, seed=seed)
        # as in a camera, the exposure is a shutter time of few digits
        time = float(f"{1 / 50 * 2.0**stop:.4g}")
        exposure = time * 50
        write_jpeg(folder / "images" / f"{name}.jpg", photographed(rgb * exposure, options, rng), camera, time, options)
        write_png8(folder / "true_masks" / f"{name}.png", cover, srgb=False)
        wrong = displaced_mask(cover[..., 0], options.mask_error, rng)
        write_png8(folder / "masks" / f"{name}.png", wrong[..., None].astype(np.float32), srgb=False)
        frames.append({"file_path": f"images/{name}.jpg", "mask_path": f"true_masks/{name}.png",
                       "transform_matrix": camera.camera_to_world.tolist(), "exposure": exposure})  # fmt: skip
        on_photo(index + 1, len(cameras))
    camera = cameras[0]
    content = {"fl_x": camera.fx, "fl_y": camera.fy, "cx": camera.cx, "cy": camera.cy, "w": camera.width,
               "h": camera.height, "up_axis": "y", "frames": frames}  # fmt: skip
    with atomic_path(folder / "truth.json") as temporary:
        temporary.write_text(json.dumps(content, indent=1) + "\n", "utf-8")
    return folder / "truth.json"


def ring_cameras(options: PhotoSetOptions, centre: np.ndarray, radius: float, rng: np.random.Generator) -> list[Camera]:
    """Cameras on three rings around the object, with inexact heights, distances and aims, as if hand-held."""
    width, height = options.size
    if options.views < 3 or min(width, height) < 16:
        raise StspbrError(f"a photo set of {options.views} views of {width}x{height} is too small: use 3 of 16x16")
    focal = 0.5 * min(width, height) / np.tan(0.5 * np.radians(options.fov_degrees))
    distance = 1.25 * radius / np.sin(0.5 * np.radians(options.fov_degrees))
    cameras = []
    for index in range(options.views):
        turn = 2.0 * np.pi * (index / options.views * 3.0 + rng.uniform(-0.02, 0.02))
        ring = index * 3 // options.views
        lift = np.radians((18.0, 36.0, 58.0)[ring] + rng.uniform(-3.0, 3.0))
        away = distance * rng.uniform(0.95, 1.1)
        direction = np.array([np.cos(lift) * np.sin(turn), np.sin(lift), np.cos(lift) * np.cos(turn)])
        aim = centre + 0.08 * radius * rng.normal(size=3)
        pose = look_at(centre + away * direction, aim)
        cameras.append(Camera(pose, focal, focal, width / 2, height / 2, width, height, 0.01 * away, 100.0 * away))
    return cameras


def photographed(radiance: np.ndarray, options: PhotoSetOptions, rng: np.random.Generator) -> np.ndarray:
    """``[H, W, 3]`` linear as from a sensor: blurred by the lens, with shot and read noise, clipped at 1."""
    from scipy.ndimage import gaussian_filter

    image = np.asarray(radiance, np.float64)
    if options.blur > 0:
        image = gaussian_filter(image, (options.blur, options.blur, 0.0))
    deviation = np.sqrt(np.maximum(image, 0.0) / options.photons + options.read_noise**2)
    return np.clip(image + deviation * rng.normal(size=image.shape), 0.0, 1.0).astype(np.float32)


def displaced_mask(cover: np.ndarray, error: float, rng: np.random.Generator) -> np.ndarray:
    """``[H, W]`` bool: a mask as drawn by hand, its outline smoothly wrong by ``error`` pixels (standard deviation)."""
    from scipy.ndimage import distance_transform_edt, gaussian_filter

    mask = cover > 0.5
    if error <= 0 or not mask.any() or mask.all():
        return mask
    outline = np.where(mask, 0.5 - distance_transform_edt(mask), distance_transform_edt(~mask) - 0.5)
    waves = gaussian_filter(rng.normal(size=mask.shape), 8.0)
    return outline < error * waves / waves.std()


def write_jpeg(path: Path, image: np.ndarray, camera: Camera, time: float, options: PhotoSetOptions) -> None:
    """Linear ``[H, W, 3]`` as JPEG, with focal length (35 mm equivalent), exposure time, aperture and ISO as Exif."""
    from PIL import Image
    from PIL.TiffImagePlugin import IFDRational

    exif = Image.Exif()
    exif[0x010F], exif[0x0110] = "stspbr", "path tracer"
    diagonal = np.hypot(camera.width, camera.height)
    exif.get_ifd(0x8769).update(
        {
            0x829A: IFDRational(round(time * 1e7), 10**7),
            0x829D: IFDRational(int(_F_NUMBER * 10), 10),
            0x8827: _ISO,
            0xA405: round(camera.fx * np.hypot(36.0, 24.0) / diagonal),
        }
    )
    pixels = np.rint(255.0 * linear_to_srgb(np.clip(image, 0.0, 1.0))).astype(np.uint8)
    with atomic_path(path) as temporary:
        Image.fromarray(pixels).save(temporary, quality=options.quality, exif=exif)
