"""Lenses as nerfstudio's and instant-ngp's JSON files state them, per file or per frame."""

from __future__ import annotations

import math
from typing import Any

from stspbr.datasets.lens import Lens, lens, parameter_names, resized_lens
from stspbr.errors import StspbrError
from stspbr.notes import Notes

Json = dict[str, Any]
_DISTORTION = ("k1", "k2", "k3", "k4", "k5", "k6", "p1", "p2", "omega", "sx1", "sy1")
_LISTED = ("k1", "k2", "k3", "k4", "p1", "p2")  # nerfstudio's order in distortion_params
_PERSPECTIVE = ("PINHOLE", "SIMPLE_PINHOLE", "PERSPECTIVE", "SIMPLE_RADIAL", "RADIAL", "OPENCV", "FULL_OPENCV")


def json_lens(keys: Json, file: str, notes: Notes | None, width: int, height: int) -> Lens:
    """The lens of a frame from its own keys over the file's; without w and h the image's size counts."""
    size = width, height
    try:
        width, height = int(keys.get("w", width)), int(keys.get("h", height))
        fx = _focal(keys, "fl_x", "camera_angle_x", width)
        fy = _focal(keys, "fl_y", "camera_angle_y", height)
        fx, fy = fy if fx is None else fx, fx if fy is None else fy
        if fx is None or fy is None:
            raise StspbrError(f"frame {file}: no focal length: give fl_x and fl_y, or camera_angle_x")
        cx, cy = float(keys.get("cx", width / 2)), float(keys.get("cy", height / 2))
        listed = dict(zip(_LISTED, keys.get("distortion_params") or (), strict=False))
        distortion = {key: float(value or 0.0) for key, value in (keys | listed).items() if key in _DISTORTION}
    except (TypeError, ValueError, OverflowError) as error:
        raise StspbrError(f"frame {file}: its camera has a value that is no number ({error}): fix it") from error
    model = str(keys.get("camera_model", "PINHOLE")).upper()
    model = "OPENCV_FISHEYE" if keys.get("is_fisheye") else model  # instant-ngp's key
    distortion = {key: value for key, value in distortion.items() if value}
    if keys.get("skew") and notes is not None:
        notes("the skew of its camera is left out", file)
    if model in _PERSPECTIVE:
        model = _perspective_model(model, distortion, file)
    names = parameter_names(model)
    extra = sorted(set(distortion) - set(names)) if names else []
    if extra:
        raise StspbrError(f"frame {file}: its camera has {', '.join(extra)}, which {model} lacks: fix it")
    if not keys.keys() & {"w", "h"}:
        _check_size(file, cx, cy, width, height)
    numbers = {"fx": fx, "fy": fy, "cx": cx, "cy": cy, "f": fx} | distortion
    made = lens(model, [numbers.get(name, 0.0) for name in names], width, height, f"frame {file}")
    return resized_lens(made, *size, f"frame {file}", notes)


def _check_size(file: str, cx: float, cy: float, width: int, height: int) -> None:
    """StspbrError if intrinsics without w and h are those of images ``scale`` times as large as these are."""
    x, y = 2 * cx / width, 2 * cy / height
    if min(x, y) > 0 and abs(x / y - 1) < 0.1 and not 0.6 < x < 1.6:
        raise StspbrError(
            f"frame {file}: the principal point ({cx:g}, {cy:g}) lies in the corner of the image ({width}x{height}): "
            f"fl_x, cx and cy seem to be those of {round(2 * cx)}x{round(2 * cy)}; give w and h, to which they belong"
        )


def _perspective_model(model: str, distortion: dict[str, float], file: str) -> str:
    """The smallest model with these coefficients: files name one and give those of another."""
    if not distortion:
        return "PINHOLE"
    if not distortion.keys() & {"k3", "k4", "k5", "k6"}:
        return "OPENCV"
    if "k4" in distortion and not distortion.keys() & {"k5", "k6"} and model != "FULL_OPENCV":
        raise StspbrError(
            f"frame {file}: k4 of {model} is a factor of r^8 for some and a denominator for others: "
            "write FULL_OPENCV if it is OpenCV's, or undistort the images"
        )
    return "FULL_OPENCV"


def _focal(keys: Json, focal: str, angle: str, size: int) -> float | None:
    if focal in keys:
        return float(keys[focal])
    return 0.5 * size / math.tan(0.5 * float(keys[angle])) if angle in keys else None
