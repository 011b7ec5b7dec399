"""Linear colours of any RGB primaries as sRGB's: matrices, with Bradford's adaptation of the white to D65.

Chromaticities are eight numbers: x and y of red, green, blue and white, as OpenEXR, Radiance and PNG have them.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

SRGB = (0.64, 0.33, 0.30, 0.60, 0.15, 0.06, 0.3127, 0.3290)
ADOBE_RGB = (0.64, 0.33, 0.21, 0.71, 0.15, 0.06, 0.3127, 0.3290)
NAMED = {
    "ACES AP0": (0.7347, 0.2653, 0.0, 1.0, 0.0001, -0.077, 0.32168, 0.33767),
    "ACES AP1 (ACEScg)": (0.713, 0.293, 0.165, 0.83, 0.128, 0.044, 0.32168, 0.33767),
    "Rec. 2020": (0.708, 0.292, 0.17, 0.797, 0.131, 0.046, 0.3127, 0.3290),
    "Display P3": (0.68, 0.32, 0.265, 0.69, 0.15, 0.06, 0.3127, 0.3290),
    "DCI-P3": (0.68, 0.32, 0.265, 0.69, 0.15, 0.06, 0.314, 0.351),
    "Adobe RGB": ADOBE_RGB,
    "ProPhoto": (0.7347, 0.2653, 0.1596, 0.8404, 0.0366, 0.0001, 0.3457, 0.3585),
}
_SAME = 2e-3  # of a chromaticity: what files round to
_BRADFORD = np.array([[0.8951, 0.2664, -0.1614], [-0.7502, 1.7135, 0.0367], [0.0389, -0.0685, 1.0296]])
D50 = np.array([0.9642, 1.0, 0.8249])  # ICC's connection space


def srgb_from(chromaticities: Sequence[float]) -> np.ndarray | None:
    """``[3, 3]``: linear colours of these primaries to linear sRGB; None if they are sRGB's (or Rec. 709's, or all 0).

    Raises:
        ValueError: they span no colours.
    """
    if not np.any(chromaticities) or np.abs(np.subtract(chromaticities, SRGB)).max() < _SAME:
        return None
    return srgb_from_xyz(white_of(chromaticities)) @ xyz_from(chromaticities)


def srgb_from_xyz(white: np.ndarray) -> np.ndarray:
    """``[3, 3]``: XYZ with this white ``[3]`` (Y = 1) to linear sRGB, whose white is D65."""
    cones = (_BRADFORD @ white_of(SRGB)) / (_BRADFORD @ white)
    adapted = np.linalg.inv(_BRADFORD) @ np.diag(cones) @ _BRADFORD
    return np.linalg.inv(xyz_from(SRGB)) @ adapted


def xyz_from(chromaticities: Sequence[float]) -> np.ndarray:
    """``[3, 3]``: linear RGB of these primaries to XYZ; its row for Y has the weights of luminance."""
    x, y = np.reshape(np.asarray(chromaticities, np.float64), (4, 2)).T
    if not np.isfinite([x, y]).all() or y[3] <= 0:
        raise ValueError(f"chromaticities {' '.join(f'{v:.4g}' for v in chromaticities)} are not of a colour space")
    # scaled by y only in the end: AP0's blue has a negative one
    primaries = np.stack([x[:3], y[:3], 1 - x[:3] - y[:3]])
    if abs(np.linalg.det(primaries)) < 1e-6:
        raise ValueError(f"chromaticities {' '.join(f'{v:.4g}' for v in chromaticities)} are not of a colour space")
    return primaries * np.linalg.solve(primaries, white_of(chromaticities))


def white_of(chromaticities: Sequence[float]) -> np.ndarray:
    """XYZ ``[3]`` of the white, Y = 1."""
    x, y = chromaticities[6:]
    return np.array([x / y, 1.0, (1 - x - y) / y])


def name_of(chromaticities: Sequence[float]) -> str:
    """The colour space's name, or the numbers if it has none here."""
    for name, known in NAMED.items():
        if np.abs(np.subtract(chromaticities, known)).max() < _SAME:
            return name
    return "the primaries " + " ".join(f"{value:.4g}" for value in chromaticities)
