"""KHR_materials_pbrSpecularGlossiness as metallic-roughness, by equal diffuse and specular reflectance."""

from __future__ import annotations

import numpy as np

from stspbr.scene.bilinear import bilinear

_DIELECTRIC = 0.04


def metallic_roughness(
    diffuse: np.ndarray, specular: np.ndarray, glossiness: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Albedo ``[H, W, 3]``, roughness and metallic ``[H, W, 1]`` of linear ``diffuse`` and ``specular`` colours.

    A metallic m with albedo c has F0 = 0.04 · (1 − m) + c · m and the diffuse colour c · (1 − m) · (1 − 0.04), of which
    the other model leaves d · (1 − max(F0)). Equating the two in brightness gives a quadratic equation of m.

    Args:
        diffuse, specular: ``[H, W, 3]``, of any sizes. glossiness: ``[H, W, 1]``, as large as ``specular``.
    """
    height, width = np.maximum(diffuse.shape[:2], specular.shape[:2])
    diffuse, specular, gloss = (_resized(image, height, width) for image in (diffuse, specular, glossiness))
    left = 1.0 - specular.max(axis=-1, keepdims=True)
    d, s = _brightness(diffuse), _brightness(specular)
    b = d * left / (1.0 - _DIELECTRIC) + s - 2.0 * _DIELECTRIC
    root = np.sqrt(np.maximum(b * b - 4.0 * _DIELECTRIC * (_DIELECTRIC - s), 0.0))
    metallic = np.where(s <= _DIELECTRIC, 0.0, np.clip((root - b) / (2.0 * _DIELECTRIC), 0.0, 1.0))
    from_diffuse = diffuse * left / ((1.0 - _DIELECTRIC) * np.maximum(1.0 - metallic, 1e-4))
    from_specular = (specular - _DIELECTRIC * (1.0 - metallic)) / np.maximum(metallic, 1e-4)
    albedo = np.clip(from_diffuse + (from_specular - from_diffuse) * metallic**2, 0.0, 1.0)
    return albedo, 1.0 - gloss, metallic


def _brightness(rgb: np.ndarray) -> np.ndarray:
    return np.sqrt((rgb**2 * np.array([0.299, 0.587, 0.114])).sum(axis=-1, keepdims=True))


def _resized(image: np.ndarray, height: int, width: int) -> np.ndarray:
    if image.shape[:2] in ((height, width), (1, 1)):
        return image.astype(np.float64)
    u, v = np.meshgrid((np.arange(width) + 0.5) / width, (np.arange(height) + 0.5) / height)
    return bilinear(image.astype(np.float64), np.stack([u, v], axis=-1))
