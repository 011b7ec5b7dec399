"""Synthetic photographs with the defects of real ones, and the truth beside them.

An asset is placed on a printed table under an environment and path-traced; or it is rendered as in training, with
neither table nor shadows. A phone's camera (``phone_camera``) takes the photos; masks are wrong by about two pixels.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from phone_camera import PhoneCamera, balances, brightness_of, developed, distorted, exposures, falloff, photographed
from phone_camera import response as response_of

from photo_table import table_asset
from stspbr.colour import luminance_of
from stspbr.errors import StspbrError
from stspbr.files import atomic_path
from stspbr.formats.gltf.writer import write_glb
from stspbr.formats.images import write_exr, write_png8
from stspbr.scene.asset import Asset
from stspbr.scene.camera import Camera, look_at
from stspbr.scene.camera_rig import bounding_sphere
from stspbr.scene.light import EnvironmentLight

_F_NUMBER, _ISO = 8.0, 100
_WHITE = 98.0  # percentile of the object's brightness that a mean exposure makes white
_BACKDROP = 0.18  # radiance behind an object without a table, of that at white


@dataclass(frozen=True)
class PhotoSetOptions:
    """Options of the photos.

    Attributes:
        views: their number, on three rings; size: ``(width, height)`` in pixels.
        fov_degrees: of the shorter side.
        renderer: the path tracer, with a table; or as in training: quick, without shadows.
        samples, max_depth: of the path tracer.
        phone: the camera; exif: whether photos say how they were exposed.
        quality: of the JPEG.
        mask_error: standard deviation of the masks' outlines in pixels.
        flash: irradiance that a lamp on the camera sends to the object, over that of a white sky as bright as the light
            on the average; 0: there is no lamp. flash_offset: of the lamp from the lens, to the right, up and back, as
            shares of the distance.
        pose_noise: rotation in degrees, and shift as a share of the distance, of the poses in ``transforms.json``.
        seed: of everything random.
    """

    views: int = 30
    size: tuple[int, int] = (512, 384)
    fov_degrees: float = 40.0
    renderer: Literal["mitsuba", "raster"] = "mitsuba"
    samples: int = 64
    max_depth: int = 4
    phone: PhoneCamera = field(default_factory=PhoneCamera)
    exif: bool = True
    quality: int = 92
    mask_error: float = 2.0
    flash: float = 0.0
    flash_offset: tuple[float, float, float] = (0.01, 0.03, 0.0)
    pose_noise: tuple[float, float] = (0.0, 0.0)
    seed: int = 0


def make_photo_set(
    folder: str | Path,
    asset: Asset,
    light: EnvironmentLight,
    options: PhotoSetOptions | None = None,
    on_photo: Callable[[int, int], None] = lambda done, total: None,
) -> Path:
    """Render a set.

    Writes ``images/*.jpg``, ``masks/*.png`` (with errors), ``true_masks/*.png``; ``transforms.json``, which gives the
    photos, the true masks and the poses with their noise to ``capture nerfstudio``; ``linear/``, the same views as they
    would be without a camera, with exact poses; ``truth/asset.glb`` and ``truth/light.exr``; and ``truth.json``: what
    ``transforms.json`` has, with the true poses, and of each frame ``exposure`` and ``white_balance``, factors of its
    linear image; beside them the tone curve (``response``: exposure and linear value behind the sRGB curve),
    ``vignetting`` and ``distortion``.

    Returns:
        The path of ``truth.json``.

    Raises:
        StspbrError: Mitsuba is missing, or the folder cannot be written.
    """
    options, folder = options or PhotoSetOptions(), Path(folder)
    points = asset.mesh.positions[np.unique(asset.mesh.faces)]
    centre, radius = bounding_sphere(points)
    rng = np.random.default_rng(options.seed)
    cameras = ring_cameras(options, centre, radius, rng)
    rendered = []
    for index, views in enumerate(_rendered(asset, light, cameras, options)):
        rendered.append(views)
        on_photo(index + 1, len(cameras))
    phone = options.phone
    on_object = np.concatenate([rgb[cover[..., 0] > 0.9].mean(axis=1) for rgb, cover in rendered])
    white = float(np.percentile(on_object, _WHITE))
    gains = exposures(np.array([brightness_of(*views) for views in rendered]), phone, white, rng)
    # as in a camera, the exposure is a shutter time of few digits
    times = [float(f"{1 / 50 * gain * white:.4g}") for gain in gains]
    tints = balances(len(cameras), phone, rng)
    entries: list[dict[str, Any]] = []
    for index, (camera, (rgb, cover)) in enumerate(zip(cameras, rendered, strict=True)):
        name, exposure = f"photo_{index:03d}", times[index] * 50 / white
        if options.renderer == "raster":
            rgb = rgb + (1.0 - cover) * _BACKDROP * white
        write_exr(folder / "linear" / "images" / f"{name}.exr", rgb * (cover > 0.5), alpha=(cover > 0.5) * 1.0)
        bent, covered = (distorted(layers, camera, phone.distortion) for layers in (rgb, cover))
        lit = bent * exposure * tints[index] * falloff(camera, phone.vignetting)
        encoded = developed(photographed(lit, phone, rng), phone)
        write_jpeg(folder / "images" / f"{name}.jpg", encoded, camera, times[index] if options.exif else None, options)
        write_png8(folder / "true_masks" / f"{name}.png", covered.astype(np.float32), srgb=False)
        wrong = displaced_mask(covered[..., 0], options.mask_error, rng)
        write_png8(folder / "masks" / f"{name}.png", wrong[..., None].astype(np.float32), srgb=False)
        entries.append({"file_path": f"images/{name}.jpg", "mask_path": f"true_masks/{name}.png",
                        "transform_matrix": camera.camera_to_world.tolist(), "exposure": exposure * white,
                        "white_balance": tints[index].tolist()})  # fmt: skip
    write_glb(folder / "truth" / "asset.glb", asset)
    write_exr(folder / "truth" / "light.exr", light.radiance)
    _write_transforms(folder, cameras, entries, centre, options, rng)
    curve = np.linspace(0.0, 1.0, 101)
    lamp = flash_of(light, cameras, options)
    flash = None if lamp is None else {"intensity": lamp[0], "offset": lamp[1].tolist()}
    truth = {**_lens_keys(cameras[0], 0.0), "frames": entries, "white": white, "vignetting": phone.vignetting,
             "distortion": phone.distortion, "exif": options.exif, "flash": flash,
             "response": {"exposure": curve.tolist(),
                          "linear": response_of(curve, phone.contrast).tolist()}}  # fmt: skip
    return _write_json(folder / "truth.json", truth)


def _rendered(
    asset: Asset, light: EnvironmentLight, cameras: list[Camera], options: PhotoSetOptions
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Linear radiance ``[H, W, 3]`` and coverage ``[H, W, 1]`` of every view."""
    if options.renderer == "raster":
        yield from _rasterized(asset, light, cameras)
        return
    from stspbr.render.mitsuba_scene import PathTracer

    points = asset.mesh.positions[np.unique(asset.mesh.faces)]
    table = table_asset(float(points[:, 1].min()), size=9.0 * bounding_sphere(points)[1], seed=options.seed)
    lamp = flash_of(light, cameras, options)
    tracer = PathTracer(asset, light, options.max_depth, table, show_light=True,
                        lamp=None if lamp is None else (lamp[0],) * 3)  # fmt: skip
    for index, camera in enumerate(cameras):
        seed = options.seed * 1000 + index
        place = None if lamp is None else camera.position + camera.camera_to_world[:3, :3] @ lamp[1]
        view = tracer.view(camera, spp=options.samples, seed=seed, lamp_at=place)
        yield view[0], tracer.coverage(camera, seed=seed)


def flash_of(
    light: EnvironmentLight, cameras: list[Camera], options: PhotoSetOptions
) -> tuple[float, np.ndarray] | None:
    """Intensity of the lamp on the camera, and its offset ``[3]`` from the lens in the camera's axes; None: no lamp."""
    if options.flash <= 0:
        return None
    if options.renderer == "raster":
        raise StspbrError("a flash is path-traced: use the renderer mitsuba")
    distance = float(np.mean([np.linalg.norm(camera.position) for camera in cameras]))
    rows = len(light.radiance)
    around = np.sin((np.arange(rows) + 0.5) / rows * np.pi)[:, None, None]
    mean = float((luminance_of(light.radiance)[..., None] * around).mean() / around.mean())
    return options.flash * np.pi * mean * distance**2, distance * np.array(options.flash_offset)


def _rasterized(
    asset: Asset, light: EnvironmentLight, cameras: list[Camera], scale: int = 2
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    import torch

    from stspbr.render.asset_renderer import AssetRenderer
    from stspbr.render.backend import get_backend
    from stspbr.render.gbuffer import ViewBatch
    from stspbr.render.prefilter import prefilter_latlong

    device = torch.device("cpu")
    asset = replace(asset, materials=[replace(m, occlusion=None) for m in asset.materials])
    renderer = AssetRenderer(asset, get_backend("cpu", device), device)
    prefiltered = prefilter_latlong(light, base_resolution=256)
    for camera in cameras:
        fine = camera.resized(camera.width * scale, camera.height * scale)
        out = renderer.render(ViewBatch.of([fine], [np.eye(4)], device), prefiltered)
        image = torch.cat([out["rgb"], out["alpha"]], dim=3)[0]
        mean = image.reshape(camera.height, scale, camera.width, scale, 4).mean(dim=(1, 3)).numpy()
        yield mean[..., :3].clip(min=0.0), mean[..., 3:].clip(0.0, 1.0)


def _write_transforms(
    folder: Path,
    cameras: list[Camera],
    entries: list[dict[str, Any]],
    centre: np.ndarray,
    options: PhotoSetOptions,
    rng: np.random.Generator,
) -> None:
    """The two data sets, of the photos and of the linear views; what a photo's Exif says is given, no more."""
    photos, linear = [], []
    for entry, camera in zip(entries, cameras, strict=True):
        pose = moved_pose(camera.camera_to_world, centre, options.pose_noise, rng)
        kept = {key: entry[key] for key in ("file_path", "mask_path", *(["exposure"] if options.exif else []))}
        photos.append({**kept, "transform_matrix": pose.tolist()})
        name = f"images/{Path(entry['file_path']).stem}.exr"
        linear.append({"file_path": name, "transform_matrix": entry["transform_matrix"]})
    lens = _lens_keys(cameras[0], options.phone.distortion)
    _write_json(folder / "transforms.json", {**lens, "frames": photos})
    _write_json(folder / "linear" / "transforms.json", {**_lens_keys(cameras[0], 0.0), "frames": linear})


def _lens_keys(camera: Camera, k1: float) -> dict[str, Any]:
    keys = {"fl_x": camera.fx, "fl_y": camera.fy, "cx": camera.cx, "cy": camera.cy, "w": camera.width,
            "h": camera.height, "near": camera.near, "far": camera.far, "up_axis": "y"}  # fmt: skip
    return keys | ({"camera_model": "OPENCV", "k1": k1} if k1 else {})


def _write_json(path: Path, content: dict[str, Any]) -> Path:
    with atomic_path(path) as temporary:
        temporary.write_text(json.dumps(content, indent=1) + "\n", "utf-8")
    return path


def moved_pose(
    pose: np.ndarray, centre: np.ndarray, noise: tuple[float, float], rng: np.random.Generator
) -> np.ndarray:
    """A camera-to-world pose turned by exactly ``noise[0]`` degrees and shifted by ``noise[1]`` of the distance."""
    from scipy.spatial.transform import Rotation

    axis, shift = rng.normal(size=3), rng.normal(size=3)
    axis, shift = axis / np.linalg.norm(axis), shift / np.linalg.norm(shift)
    out = np.array(pose, np.float64)
    out[:3, :3] = out[:3, :3] @ Rotation.from_rotvec(np.radians(noise[0]) * axis).as_matrix()
    out[:3, 3] += noise[1] * np.linalg.norm(out[:3, 3] - centre) * shift
    return out


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


def displaced_mask(cover: np.ndarray, error: float, rng: np.random.Generator) -> np.ndarray:
    """``[H, W]`` bool: a mask as drawn by hand, its outline smoothly wrong by ``error`` pixels (standard deviation)."""
    from scipy.ndimage import distance_transform_edt, gaussian_filter

    mask = cover > 0.5
    if error <= 0 or not mask.any() or mask.all():
        return mask
    outline = np.where(mask, 0.5 - distance_transform_edt(mask), distance_transform_edt(~mask) - 0.5)
    waves = gaussian_filter(rng.normal(size=mask.shape), 8.0)
    return outline < error * waves / waves.std()


def write_jpeg(path: Path, encoded: np.ndarray, camera: Camera, time: float | None, options: PhotoSetOptions) -> None:
    """Encoded ``[H, W, 3]`` as JPEG, with focal length (35 mm equivalent), exposure time, aperture and ISO as Exif.

    Args:
        time: of the exposure in seconds; None: the Exif has the focal length alone.
    """
    from PIL import Image
    from PIL.TiffImagePlugin import IFDRational

    exif = Image.Exif()
    exif[0x010F], exif[0x0110] = "stspbr", "path tracer"
    diagonal = np.hypot(camera.width, camera.height)
    tags: dict[int, Any] = {0xA405: round(camera.fx * np.hypot(36.0, 24.0) / diagonal)}
    if time is not None:
        tags |= {0x829A: IFDRational(round(time * 1e7), 10**7), 0x829D: IFDRational(int(_F_NUMBER * 10), 10),
                 0x8827: _ISO}  # fmt: skip
    exif.get_ifd(0x8769).update(tags)
    pixels = np.rint(255.0 * np.clip(encoded, 0.0, 1.0)).astype(np.uint8)
    with atomic_path(path) as temporary:
        Image.fromarray(pixels).save(temporary, quality=options.quality, exif=exif)
