"""Numba kernels of the quadrature: one point's integrals over half vectors and over the cosine, in double precision."""

from __future__ import annotations

import math

import numpy as np
from numba import prange

from stspbr.kernel_cache import kernel
from stspbr.render.prefilter_kernels import latlong_lookup

_FLAGS = {"contract", "arcp", "nsz"}


@kernel(fastmath=_FLAGS)
def _frame(nx, ny, nz):
    """Two unit vectors that complete a unit normal to a frame (Duff et al. 2017)."""
    sign = math.copysign(1.0, nz)
    a = -1.0 / (sign + nz)
    b = nx * ny * a
    return 1.0 + sign * nx * nx * a, sign * b, -sign * nx, b, sign + ny * ny * a, -ny


@kernel(parallel=True, fastmath=_FLAGS)
def integrate(radiance, normals, view, roughness, samples, diffuse_samples, out):
    """Integrals ``out [N, 4, 3]`` of the light: specular (1 − Fc), specular Fc, diffuse (1 − Fc), cosine over π.

    Specular: a ``samples × samples`` grid of midpoints, stratified in the GGX distribution of half vectors; the light
    direction is the mirrored view and the density cancels ``D``. Diffuse: a grid stratified in the cosine.
    """
    for p in prange(normals.shape[0]):
        nx, ny, nz = normals[p, 0], normals[p, 1], normals[p, 2]
        vx, vy, vz = view[p, 0], view[p, 1], view[p, 2]
        tx, ty, tz, bx, by, bz = _frame(nx, ny, nz)
        cos_v = nx * vx + ny * vy + nz * vz
        alpha = roughness[p] * roughness[p]
        a2 = alpha * alpha
        sums = np.zeros((4, 3))
        for i in range(samples):
            u = (i + 0.5) / samples
            below = 1.0 + (a2 - 1.0) * u
            cos_h, sin_h = math.sqrt((1.0 - u) / below), math.sqrt(a2 * u / below)
            for j in range(samples):
                phi = 2.0 * math.pi * (j + 0.5) / samples
                x, y = sin_h * math.cos(phi), sin_h * math.sin(phi)
                hx, hy, hz = (
                    x * tx + y * bx + cos_h * nx, x * ty + y * by + cos_h * ny, x * tz + y * bz + cos_h * nz
                )  # fmt: skip
                v_dot_h = vx * hx + vy * hy + vz * hz
                cos_l = 2.0 * v_dot_h * cos_h - cos_v
                if v_dot_h <= 0.0 or cos_l <= 0.0:
                    continue
                root = cos_l * math.sqrt((1.0 - a2) * cos_v * cos_v + a2)
                root += cos_v * math.sqrt((1.0 - a2) * cos_l * cos_l + a2)
                weight = 2.0 * cos_l * v_dot_h / (root * cos_h)
                fc = (1.0 - min(v_dot_h, 1.0)) ** 5
                light = latlong_lookup(
                    radiance, 2.0 * v_dot_h * hx - vx, 2.0 * v_dot_h * hy - vy, 2.0 * v_dot_h * hz - vz
                )
                for ch in range(3):
                    sums[0, ch] += weight * (1.0 - fc) * light[ch]
                    sums[1, ch] += weight * fc * light[ch]
        for i in range(diffuse_samples):
            u = (i + 0.5) / diffuse_samples
            cos_l, sin_l = math.sqrt(1.0 - u), math.sqrt(u)
            for j in range(diffuse_samples):
                phi = 2.0 * math.pi * (j + 0.5) / diffuse_samples
                x, y = sin_l * math.cos(phi), sin_l * math.sin(phi)
                lx, ly, lz = (
                    x * tx + y * bx + cos_l * nx, x * ty + y * by + cos_l * ny, x * tz + y * bz + cos_l * nz
                )  # fmt: skip
                v_dot_l = vx * lx + vy * ly + vz * lz
                fc = (1.0 - math.sqrt(max(0.5 + 0.5 * v_dot_l, 0.0))) ** 5
                light = latlong_lookup(radiance, lx, ly, lz)
                for ch in range(3):
                    sums[2, ch] += (1.0 - fc) * light[ch]
                    sums[3, ch] += light[ch]
        for ch in range(3):
            out[p, 0, ch] = sums[0, ch] / (samples * samples)
            out[p, 1, ch] = sums[1, ch] / (samples * samples)
            out[p, 2, ch] = sums[2, ch] / (diffuse_samples * diffuse_samples)
            out[p, 3, ch] = sums[3, ch] / (diffuse_samples * diffuse_samples)
