"""Materials as maps."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np


@dataclass
class Material:
    """glTF 2.0 metallic-roughness textures with their factors multiplied in. Row 0 is the top (v = 0).

    Attributes:
        albedo: ``[H, W, 3]`` float32 linear in [0, 1].
        roughness: ``[H, W, 1]`` float32 perceptual roughness in [0, 1] (α = roughness²).
        metallic: ``[H, W, 1]`` float32 in [0, 1].
        occlusion: ``[H, W, 1]`` float32, 1 = open; or None.
        normal: ``[H, W, 3]`` float32 tangent space, components in [−1, 1], +Y up (OpenGL); or None.
        opacity: ``[H, W, 1]`` float32 in [0, 1], 1 = opaque; or None: opaque everywhere. The surface is then seen from
            both sides.
        cutoff: there is a surface where ``opacity`` is at least this, and none elsewhere (glTF's ``MASK``); None: it is
            laid over what is behind it (``BLEND``).

    Each map may have its own size; a constant is a 1×1 map.
    """

    albedo: np.ndarray
    roughness: np.ndarray
    metallic: np.ndarray
    occlusion: np.ndarray | None = None
    normal: np.ndarray | None = None
    name: str = "material"
    opacity: np.ndarray | None = None
    cutoff: float | None = None

    @classmethod
    def of(
        cls,
        albedo: np.ndarray,
        roughness: np.ndarray,
        metallic: np.ndarray,
        occlusion: np.ndarray | None = None,
        normal: np.ndarray | None = None,
        name: str = "material",
        opacity: np.ndarray | None = None,
        cutoff: float | None = None,
    ) -> Material:
        """From arrays of any type and layout, as contiguous float32."""
        a, r, m = (np.ascontiguousarray(image, np.float32) for image in (albedo, roughness, metallic))
        optional = (occlusion, normal, opacity)
        o, n, t = (None if image is None else np.ascontiguousarray(image, np.float32) for image in optional)
        return cls(a, r, m, o, n, name, t, cutoff)

    @property
    def alpha_mode(self) -> Literal["opaque", "mask", "blend"]:
        """How ``opacity`` is meant."""
        if self.opacity is None:
            return "opaque"
        return "blend" if self.cutoff is None else "mask"

    def coverage(self) -> np.ndarray:
        """``[H, W, 1]``: the share of each texel that is surface: ``opacity``, of a mask 0 or 1."""
        if self.opacity is None:
            return np.ones((1, 1, 1), np.float32)
        return self.opacity if self.cutoff is None else (self.opacity >= self.cutoff).astype(np.float32)

    def maps(self) -> list[np.ndarray]:
        """The maps that the material has."""
        every = (self.albedo, self.roughness, self.metallic, self.occlusion, self.normal, self.opacity)
        return [image for image in every if image is not None]


def is_constant(image: np.ndarray) -> bool:
    """Whether a map has a single texel."""
    return image.shape[:2] == (1, 1)


def enlarged(image: np.ndarray, times: int) -> np.ndarray:
    """``[times·H, times·W, C]``: a map that repeats, interpolated bilinearly as renderers do."""
    for axis in (0, 1):
        size = image.shape[axis]
        at = (np.arange(size * times) + 0.5) / times - 0.5
        low = np.floor(at).astype(int)
        weight = (at - low).astype(np.float32).reshape((-1, 1, 1) if axis == 0 else (1, -1, 1))
        first, second = (np.take(image, (low + k) % size, axis=axis) for k in (0, 1))
        image = first * (1 - weight) + second * weight
    return image


def scaled_normals(normal: np.ndarray, scale: float) -> np.ndarray:
    """Tangent-space normals ``[H, W, 3]`` float32, x and y times ``scale`` as glTF's ``normalTexture`` has it."""
    scaled = normal * np.array([scale, scale, 1.0], np.float32)
    return scaled / np.maximum(np.linalg.norm(scaled, axis=-1, keepdims=True), np.float32(1e-8))
