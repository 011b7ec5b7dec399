"""Fused Numba kernels of the shading: the algebra of a point in one pass, forward and backward.

``plan`` turns normal, view and roughness into look-up directions, levels and weights; ``combine`` turns what was
looked up and the material into radiance. Each point is one thread's, so no sum depends on the number of threads.
"""

from __future__ import annotations

import math

import numpy as np
from numba import prange

from stspbr.kernel_cache import kernel

_FLAGS = {"contract", "arcp", "nsz"}
_EPS2 = np.float32(1e-4)
_ONE, _HALF, _TWO = np.float32(1), np.float32(0.5), np.float32(2)
_F0 = np.float32(0.04)


@kernel(fastmath=_FLAGS)
def _cell(roughness, cosine, grid):
    """Soft-clamped N·V and the table's cell and fractions."""
    root = np.float32(math.sqrt(cosine * cosine + _EPS2))
    soft = _HALF * (cosine + root)
    y = np.float32(math.sqrt(soft))
    steps = np.float32(grid - 1)
    fx, fy = roughness * steps, y * steps
    i = min(max(int(math.floor(fx)), 0), grid - 2)
    j = min(max(int(math.floor(fy)), 0), grid - 2)
    return soft, y, root, i, j, fx - np.float32(i), fy - np.float32(j)


@kernel(fastmath=_FLAGS)
def _light_level(level, skipped):
    """Level in a light that lacks the ``skipped`` finest ones, and its derivative: smooth, and never flat."""
    if skipped == 0:
        return level, _ONE
    d = np.float32(skipped)
    if level < _TWO * d:
        return level * level / (np.float32(4) * d), level / (_TWO * d)
    return level - d, _ONE


@kernel(parallel=True, fastmath=_FLAGS)
def plan_forward(normals, view, roughness, table, rotations, owner, skipped, directions, levels, weights):
    """directions ``[K + 1, N, 3]`` (the last is the normal), levels ``[K, N]``, weights ``[N, 3·(K + 1)]``."""
    count, grid = normals.shape[0], table.shape[0]
    lookups = levels.shape[0]
    for p in prange(count):
        nx, ny, nz = normals[p, 0], normals[p, 1], normals[p, 2]
        vx, vy, vz = view[p, 0], view[p, 1], view[p, 2]
        soft, _, _, i, j, fx, fy = _cell(roughness[p, 0], nx * vx + ny * vy + nz * vz, grid)
        a, b = table[i, j], table[i, j + 1]
        c, d = table[i + 1, j], table[i + 1, j + 1]
        w00, w01, w10, w11 = (_ONE - fx) * (_ONE - fy), (_ONE - fx) * fy, fx * (_ONE - fy), fx * fy
        twice = _TWO * soft
        rx, ry, rz = twice * nx - vx, twice * ny - vy, twice * nz - vz
        if owner.size > 0:
            m = rotations[owner[p]]
            nx, ny, nz = (
                m[0, 0] * nx + m[0, 1] * ny + m[0, 2] * nz,
                m[1, 0] * nx + m[1, 1] * ny + m[1, 2] * nz,
                m[2, 0] * nx + m[2, 1] * ny + m[2, 2] * nz,
            )
            rx, ry, rz = (
                m[0, 0] * rx + m[0, 1] * ry + m[0, 2] * rz,
                m[1, 0] * rx + m[1, 1] * ry + m[1, 2] * rz,
                m[2, 0] * rx + m[2, 1] * ry + m[2, 2] * rz,
            )
        for k in range(lookups):
            q = w00 * a[k] + w01 * b[k] + w10 * c[k] + w11 * d[k]
            e = lookups + k
            level, _ = _light_level(w00 * a[e] + w01 * b[e] + w10 * c[e] + w11 * d[e], skipped)
            levels[k, p] = level
            directions[k, p, 0] = nx + q * (rx - nx)
            directions[k, p, 1] = ny + q * (ry - ny)
            directions[k, p, 2] = nz + q * (rz - nz)
        directions[lookups, p, 0], directions[lookups, p, 1], directions[lookups, p, 2] = nx, ny, nz
        for k in range(weights.shape[1]):
            e = 2 * lookups + k
            weights[p, k] = w00 * a[e] + w01 * b[e] + w10 * c[e] + w11 * d[e]


@kernel(parallel=True, fastmath=_FLAGS)
def plan_backward(
    normals, view, roughness, table, rotations, owner, skipped,
    grad_directions, grad_levels, grad_weights, grad_normals, grad_view, grad_roughness,
):  # fmt: skip
    """Gradients of ``plan_forward`` by normals, view and roughness."""
    count, grid = normals.shape[0], table.shape[0]
    lookups = grad_levels.shape[0]
    for p in prange(count):
        nx, ny, nz = normals[p, 0], normals[p, 1], normals[p, 2]
        vx, vy, vz = view[p, 0], view[p, 1], view[p, 2]
        cosine = nx * vx + ny * vy + nz * vz
        soft, y, root, i, j, fx, fy = _cell(roughness[p, 0], cosine, grid)
        a, b = table[i, j], table[i, j + 1]
        c, d = table[i + 1, j], table[i + 1, j + 1]
        twice = _TWO * soft
        ux, uy, uz = twice * nx - vx - nx, twice * ny - vy - ny, twice * nz - vz - nz
        gx, gy, gz = (
            grad_directions[lookups, p, 0], grad_directions[lookups, p, 1], grad_directions[lookups, p, 2]
        )  # fmt: skip
        rgx, rgy, rgz = np.float32(0), np.float32(0), np.float32(0)
        to_x, to_y = np.float32(0), np.float32(0)
        turned = owner.size > 0
        m = rotations[owner[p]] if turned else rotations[0]
        for k in range(table.shape[2]):
            by_x = (_ONE - fy) * (c[k] - a[k]) + fy * (d[k] - b[k])
            by_y = (_ONE - fx) * (b[k] - a[k]) + fx * (d[k] - c[k])
            if k < lookups:
                q = a[k] + fx * (c[k] - a[k]) + fy * (b[k] - a[k]) + fx * fy * (a[k] - b[k] - c[k] + d[k])
                dx, dy, dz = grad_directions[k, p, 0], grad_directions[k, p, 1], grad_directions[k, p, 2]
                gx, gy, gz = gx + (_ONE - q) * dx, gy + (_ONE - q) * dy, gz + (_ONE - q) * dz
                rgx, rgy, rgz = rgx + q * dx, rgy + q * dy, rgz + q * dz
                if turned:
                    dx, dy, dz = (
                        m[0, 0] * dx + m[1, 0] * dy + m[2, 0] * dz,
                        m[0, 1] * dx + m[1, 1] * dy + m[2, 1] * dz,
                        m[0, 2] * dx + m[1, 2] * dy + m[2, 2] * dz,
                    )
                grad = ux * dx + uy * dy + uz * dz
            elif k < 2 * lookups:
                value = a[k] + fx * (c[k] - a[k]) + fy * (b[k] - a[k]) + fx * fy * (a[k] - b[k] - c[k] + d[k])
                _, slope = _light_level(value, skipped)
                grad = slope * grad_levels[k - lookups, p]
            else:
                grad = grad_weights[p, k - 2 * lookups]
            to_x += grad * by_x
            to_y += grad * by_y
        if turned:
            gx, gy, gz = (
                m[0, 0] * gx + m[1, 0] * gy + m[2, 0] * gz,
                m[0, 1] * gx + m[1, 1] * gy + m[2, 1] * gz,
                m[0, 2] * gx + m[1, 2] * gy + m[2, 2] * gz,
            )
            rgx, rgy, rgz = (
                m[0, 0] * rgx + m[1, 0] * rgy + m[2, 0] * rgz,
                m[0, 1] * rgx + m[1, 1] * rgy + m[2, 1] * rgz,
                m[0, 2] * rgx + m[1, 2] * rgy + m[2, 2] * rgz,
            )
        steps = np.float32(grid - 1)
        grad_roughness[p, 0] = to_x * steps
        to_soft = to_y * steps * _HALF / y + _TWO * (nx * rgx + ny * rgy + nz * rgz)
        to_cosine = to_soft * _HALF * (_ONE + cosine / root)
        grad_normals[p, 0] = gx + twice * rgx + to_cosine * vx
        grad_normals[p, 1] = gy + twice * rgy + to_cosine * vy
        grad_normals[p, 2] = gz + twice * rgz + to_cosine * vz
        grad_view[p, 0] = to_cosine * nx - rgx
        grad_view[p, 1] = to_cosine * ny - rgy
        grad_view[p, 2] = to_cosine * nz - rgz


@kernel(parallel=True, fastmath=_FLAGS)
def combine_forward(found, around, weights, albedo, metallic, occlusion, diffuse, specular):
    """Diffuse and specular radiance ``[N, 3]`` of look-ups ``[K, N, 3]`` and of the diffuse cube ``[N, 3]``."""
    lookups = found.shape[0]
    for p in prange(weights.shape[0]):
        metal = metallic[p, 0]
        open_ = occlusion[p, 0] if occlusion.size > 0 else _ONE
        for ch in range(3):
            a, b, c = np.float32(0), np.float32(0), np.float32(0)
            for k in range(lookups + 1):
                light = found[k, p, ch] if k < lookups else around[p, ch]
                a += light * weights[p, k]
                b += light * weights[p, lookups + 1 + k]
                c += light * weights[p, 2 * (lookups + 1) + k]
            colour = albedo[p, ch]
            f0 = _F0 * (_ONE - metal) + colour * metal
            specular[p, ch] = open_ * (f0 * a + b)
            diffuse[p, ch] = open_ * colour * (_ONE - metal) * (_ONE - f0) * c


@kernel(parallel=True, fastmath=_FLAGS)
def combine_backward(
    found, around, weights, albedo, metallic, occlusion, grad_diffuse, grad_specular,
    grad_found, grad_around, grad_weights, grad_albedo, grad_metallic, grad_occlusion,
):  # fmt: skip
    """Gradients of ``combine_forward`` by everything."""
    lookups = found.shape[0]
    for p in prange(weights.shape[0]):
        metal = metallic[p, 0]
        occluded = occlusion.size > 0
        open_ = occlusion[p, 0] if occluded else _ONE
        to_metal, to_open = np.float32(0), np.float32(0)
        for k in range(weights.shape[1]):
            grad_weights[p, k] = np.float32(0)
        for ch in range(3):
            a, b, c = np.float32(0), np.float32(0), np.float32(0)
            colour = albedo[p, ch]
            f0 = _F0 * (_ONE - metal) + colour * metal
            base = colour * (_ONE - metal)
            gd, gs = grad_diffuse[p, ch], grad_specular[p, ch]
            for k in range(lookups + 1):
                light = found[k, p, ch] if k < lookups else around[p, ch]
                a += light * weights[p, k]
                b += light * weights[p, lookups + 1 + k]
                c += light * weights[p, 2 * (lookups + 1) + k]
            by_a, by_b, by_c = open_ * gs * f0, open_ * gs, open_ * gd * base * (_ONE - f0)
            for k in range(lookups + 1):
                wa, wb, wc = weights[p, k], weights[p, lookups + 1 + k], weights[p, 2 * (lookups + 1) + k]
                light = found[k, p, ch] if k < lookups else around[p, ch]
                grad_weights[p, k] += by_a * light
                grad_weights[p, lookups + 1 + k] += by_b * light
                grad_weights[p, 2 * (lookups + 1) + k] += by_c * light
                grad = by_a * wa + by_b * wb + by_c * wc
                if k < lookups:
                    grad_found[k, p, ch] = grad
                else:
                    grad_around[p, ch] = grad
            to_f0 = open_ * (gs * a - gd * base * c)
            to_base = open_ * gd * (_ONE - f0) * c
            grad_albedo[p, ch] = to_f0 * metal + to_base * (_ONE - metal)
            to_metal += to_f0 * (colour - _F0) - to_base * colour
            to_open += gs * (f0 * a + b) + gd * base * (_ONE - f0) * c
        grad_metallic[p, 0] = to_metal
        if occluded:
            grad_occlusion[p, 0] = to_open
