"""Exposure and white balance that differ from frame to frame, divided out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from stspbr.errors import StspbrError
from stspbr.scene.capture import Frame


def relative_factors(frames: Sequence[Frame]) -> np.ndarray | None:
    """What each frame's radiance was multiplied by, relative to the median over the frames.

    From ``Frame.exposure`` (linear factor) and ``Frame.white_balance`` (gains of red, green and blue); either may
    be absent from all frames and then counts as equal.

    Returns:
        ``[N, 3]`` float64, its median over the frames near 1 so that brightness and tint stay; None if no frame has
        either.

    Raises:
        StspbrError: some frames have it and others do not, or a value is not positive.
    """
    exposures = _of_all(frames, "exposure", [frame.exposure for frame in frames])
    gains = _of_all(frames, "white_balance", [frame.white_balance for frame in frames])
    if exposures is None and gains is None:
        return None
    factors = np.ones((len(frames), 3))
    if exposures is not None:
        factors *= (exposures / np.median(exposures)).reshape(-1, 1)
    if gains is not None:
        factors *= gains / np.median(gains, axis=0)
    return factors


def divided(frame: Frame, factor: np.ndarray) -> Frame:
    """``frame`` as it would have been without ``factor`` ``[3]``, and with nothing left to divide out.

    Its saturation is one number for three channels: the smallest of theirs, so that no clipped value passes for
    a measured one; channels that clip later lose what they hold above it.
    """
    factor = np.asarray(factor, np.float64)
    fields: dict[str, Any] = {"saturation": frame.saturation / float(factor.max())}
    fields |= {"exposure": None, "white_balance": None}
    if (factor == 1).all():
        return frame.with_fields(**fields)
    red, green, blue = (np.asarray(frame.divided_by or (1.0, 1.0, 1.0)) * factor).tolist()
    fields["divided_by"] = (red, green, blue)
    divisor = factor.astype(np.float32)
    return frame.with_pixels(lambda image, alpha: (image / divisor, alpha), **fields)


def _of_all(frames: Sequence[Frame], key: str, values: list) -> np.ndarray | None:
    """The values as an array; None if no frame has one."""
    lacking = [frame.name for frame, value in zip(frames, values, strict=True) if value is None]
    if len(lacking) == len(frames):
        return None
    if lacking:
        raise StspbrError(
            f"frame {lacking[0]}: has no {key}, {len(frames) - len(lacking)} other frames have: give it to all frames "
            "or leave all as they are with --exposure ignore"
        )
    array = np.asarray(values, np.float64)
    bad = ~(np.isfinite(array) & (array > 0)).reshape(len(frames), -1).all(axis=1)
    if bad.any():
        raise StspbrError(f"frame {frames[int(bad.argmax())].name}: its {key} is not positive: fix it")
    return array
