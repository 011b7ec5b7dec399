"""Exposure and white balance of a frame, from the keys of a ``transforms.json``."""

from __future__ import annotations

import math
from typing import Any

from stspbr.errors import StspbrError
from stspbr.scene.capture import Frame

_CAMERA = ("exposure_time", "iso", "f_number")


def read_exposure(name: str, keys: dict[str, Any]) -> dict[str, Any]:
    """``exposure``, ``white_balance`` and ``divided_by`` of a frame (:class:`stspbr.scene.capture.Frame`).

    Args:
        name: the frame's, for errors.
        keys: the frame's over the file's: ``exposure`` (relative, linear), else ``exposure_time`` (seconds), ``iso``
            and ``f_number`` together, which give time times ISO over N²; ``white_balance``, the gains of red, green and
            blue; ``divided_by``, the three factors that were divided out already.

    Raises:
        StspbrError: a value that is not a positive number, or a camera setting without the others.
    """
    return {
        "exposure": _exposure(name, keys),
        "white_balance": _gains(name, keys, "white_balance"),
        "divided_by": _gains(name, keys, "divided_by"),
    }


def exposure_keys(frame: Frame) -> dict[str, Any]:
    """The keys that :func:`read_exposure` reads; empty if nothing is known."""
    keys: dict[str, Any] = {}
    if frame.exposure is not None:
        keys["exposure"] = float(frame.exposure)
    if frame.white_balance is not None:
        keys["white_balance"] = [float(gain) for gain in frame.white_balance]
    if frame.divided_by is not None:
        keys["divided_by"] = [float(gain) for gain in frame.divided_by]
    return keys


def _exposure(name: str, keys: dict[str, Any]) -> float | None:
    if "exposure" in keys:
        return _positive(name, "exposure", keys["exposure"])
    given = [key for key in _CAMERA if key in keys]
    if not given:
        return None
    lacking = ", ".join(key for key in _CAMERA if key not in keys)
    if lacking:
        raise StspbrError(f"frame {name}: {given[0]} alone is not an exposure: give {lacking}, too (or exposure)")
    time, iso, number = (_positive(name, key, keys[key]) for key in _CAMERA)
    return time * iso / number**2


def _gains(name: str, keys: dict[str, Any], key: str) -> tuple[float, float, float] | None:
    gains = keys.get(key)
    if gains is None:
        return None
    if not isinstance(gains, list) or len(gains) != 3:
        raise StspbrError(f"frame {name}: {key} is {gains!r}: give the three gains [red, green, blue]")
    red, green, blue = (_positive(name, key, gain) for gain in gains)
    return red, green, blue


def _positive(name: str, key: str, value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value < math.inf:
        raise StspbrError(f"frame {name}: its {key} is {value!r}: it must be a positive number")
    return float(value)
