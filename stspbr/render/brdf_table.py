"""Directional albedo of the glTF BRDF: the sums that every approximation of the lobe has to keep."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike


def specular_albedo(roughness: ArrayLike, n_dot_v: ArrayLike, samples: int = 128) -> tuple[np.ndarray, np.ndarray]:
    """Hemispherical integrals ``(A, B)`` of ``D·V·(n·l)`` weighted by ``1 − Fc`` and by ``Fc``.

    Under a white sky the specular radiance is ``F0·(A + B) + (1 − F0)·B = F0·A + B`` (Karis 2013, with
    height-correlated Smith and ``α = roughness²``). Evaluated on a stratified ``samples × samples`` grid of
    GGX half vectors, double precision.

    Args:
        roughness, n_dot_v: arrays of one shape; roughness in [0, 1], cosine in (0, 1].
    """
    roughness, n_dot_v = np.broadcast_arrays(np.asarray(roughness, float), np.asarray(n_dot_v, float))
    u = (np.arange(samples) + 0.5) / samples
    phi = 2.0 * np.pi * u[:, None]
    a, b = np.empty(roughness.shape), np.empty(roughness.shape)
    for index in np.ndindex(roughness.shape):
        alpha, cos_v = roughness[index] ** 2, n_dot_v[index]
        if alpha < 1e-7:
            b[index] = (1.0 - cos_v) ** 5
            a[index] = 1.0 - b[index]
            continue
        cos_h = np.sqrt((1.0 - u) / (1.0 + (alpha * alpha - 1.0) * u))[None, :]
        v_dot_h = np.sqrt(1.0 - cos_h**2) * np.cos(phi) * np.sqrt(1.0 - cos_v**2) + cos_h * cos_v
        cos_l = 2.0 * v_dot_h * cos_h - cos_v
        lit = (cos_l > 0) & (v_dot_h > 0)
        cos_l = np.where(lit, cos_l, 1.0)
        root = cos_l * np.sqrt((1 - alpha**2) * cos_v**2 + alpha**2)
        root = root + cos_v * np.sqrt((1 - alpha**2) * cos_l**2 + alpha**2)
        weight = np.where(lit, 2.0 * cos_l * v_dot_h / (root * cos_h), 0.0)
        fc = (1.0 - np.clip(v_dot_h, 0.0, 1.0)) ** 5
        a[index], b[index] = (weight * (1.0 - fc)).mean(), (weight * fc).mean()
    return a, b


def diffuse_fresnel(n_dot_v: np.ndarray, samples: int = 256) -> np.ndarray:
    """Cosine-weighted mean over the hemisphere of ``(1 − v·h)^5``: what Fresnel takes from the diffuse lobe.

    The diffuse radiance under a white sky is ``albedo·(1 − metallic)·(1 − F0)·(1 − this)``.
    """
    n_dot_v = np.asarray(n_dot_v, float)
    u = (np.arange(samples) + 0.5) / samples
    cos_l, phi = np.sqrt(u)[None, :], np.pi * u[:, None]
    cos_v = n_dot_v[..., None, None]
    v_dot_l = cos_v * cos_l + np.sqrt(1 - cos_v**2) * np.sqrt(1 - cos_l**2) * np.cos(phi)
    v_dot_h = np.sqrt(np.clip(0.5 + 0.5 * v_dot_l, 0.0, 1.0))
    return ((1.0 - v_dot_h) ** 5).mean(axis=(-1, -2))
