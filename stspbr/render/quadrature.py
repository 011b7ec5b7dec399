"""The slow reference of the shading: the full glTF BRDF, integrated over a lat-long light in double precision."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from stspbr.errors import StspbrError
from stspbr.render.brdf import DIELECTRIC_F0
from stspbr.scene.light import EnvironmentLight


@dataclass(frozen=True)
class LightIntegrals:
    """Integrals of the light at N surface points per RGB channel, without the material's colours: ``[N, 3]`` float64.

    Attributes:
        specular: light times ``D·V·(n·l)·(1 − Fc)``; specular_grazing: the same with ``Fc``.
        diffuse: light times ``(n·l)/π·(1 − Fc)``; cosine: light times ``(n·l)/π``.
    """

    specular: np.ndarray
    specular_grazing: np.ndarray
    diffuse: np.ndarray
    cosine: np.ndarray

    def radiance(self, albedo: np.ndarray, metallic: np.ndarray) -> np.ndarray:
        """Radiance ``[N, 3]`` for linear albedo ``[N or 1, 3]`` and metallic ``[N or 1, 1]``."""
        f0 = DIELECTRIC_F0 * (1.0 - metallic) + albedo * metallic
        return f0 * self.specular + self.specular_grazing + albedo * (1.0 - metallic) * (1.0 - f0) * self.diffuse


def integrate_light(
    normals: np.ndarray,
    view: np.ndarray,
    roughness: np.ndarray,
    light: EnvironmentLight,
    samples: int = 384,
    diffuse_samples: int = 256,
) -> LightIntegrals:
    """Integrate the BRDF's parts against a light, without shadows; deterministic.

    Args:
        normals, view: ``[N, 3]`` unit, world space, with ``n·v > 0``.
        roughness: ``[N]`` or ``[N, 1]``, from 0.01.
        light: lat-long radiance, read bilinearly, wrapped around.
        samples: side of the grid of half vectors; diffuse_samples: of the grid of cosine directions.

    Raises:
        StspbrError: a normal that faces away from the viewer.
    """
    from stspbr.render.quadrature_kernels import integrate

    normals, view = (np.ascontiguousarray(value, np.float64) for value in (normals, view))
    if ((normals * view).sum(-1) <= 0).any():
        raise StspbrError("quadrature: a normal faces away from the viewer")
    roughness = np.ascontiguousarray(np.broadcast_to(np.ravel(roughness), normals.shape[:1]), np.float64)
    out = np.empty((normals.shape[0], 4, 3))
    integrate(np.ascontiguousarray(light.radiance, np.float64), normals, view, roughness, samples, diffuse_samples, out)
    return LightIntegrals(*(np.ascontiguousarray(out[:, k]) for k in range(4)))


def quadrature_radiance(
    normals: np.ndarray,
    view: np.ndarray,
    albedo: np.ndarray,
    roughness: np.ndarray,
    metallic: np.ndarray,
    light: EnvironmentLight,
    samples: int = 384,
) -> np.ndarray:
    """Radiance ``[N, 3]`` float64 of the full BRDF; arguments as of ``shading.shade``, as numpy arrays."""
    return integrate_light(normals, view, roughness, light, samples).radiance(albedo, metallic)


def sphere_points(count: int, low: float, high: float, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Normals and views ``[count, 3]`` float64 in all directions, with N·V spread evenly over ``[low, high]``."""
    k = np.arange(count)
    y = 1.0 - 2.0 * (k + 0.5) / count
    phi = k * np.pi * (3.0 - np.sqrt(5.0))
    s = np.sqrt(1.0 - y * y)
    normals = np.stack([s * np.cos(phi), y, s * np.sin(phi)], -1)
    rng = np.random.default_rng(seed)
    cosine = low + (high - low) * (rng.permutation(count) + 0.5) / count
    side = np.cross(normals, rng.normal(size=(count, 3)))
    side /= np.linalg.norm(side, axis=-1, keepdims=True)
    return normals, cosine[:, None] * normals + np.sqrt(1.0 - cosine**2)[:, None] * side
