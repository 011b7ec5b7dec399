"""Numba kernels of dual marching cubes with weights: topology, and positions with their hand-written gradients.

``cube`` is ``cube_cases()``: an argument, because compiled kernels do not notice that a global table has changed.
"""

from __future__ import annotations

import numpy as np
from numba import prange

from stspbr.kernel_cache import kernel

# Slabs are a property of the work, not of the thread count: the result's order never depends on threads.
_SLABS = 16


@kernel(parallel=True)
def crossed_cells(inside, corners):
    """``cases [C]`` uint8, and ``cells [N]`` int32: those that the surface crosses, in order."""
    count = corners.shape[0]
    slab = (count + _SLABS - 1) // _SLABS
    cases = np.empty(count, dtype=np.uint8)
    starts = np.zeros(_SLABS + 1, dtype=np.int64)
    for s in prange(_SLABS):
        total = 0
        for c in range(s * slab, min(count, (s + 1) * slab)):
            case = 0
            for k in range(8):
                case |= inside[corners[c, k]] << k
            cases[c] = case
            total += case != 0 and case != 255
        starts[s + 1] = total
    for s in range(_SLABS):
        starts[s + 1] += starts[s]
    cells = np.empty(starts[_SLABS], dtype=np.int32)
    for s in prange(_SLABS):
        row = starts[s]
        for c in range(s * slab, min(count, (s + 1) * slab)):
            if cases[c] != 0 and cases[c] != 255:
                cells[row] = c
                row += 1
    return cases, cells


@kernel
def dual_quads(cube, inside, corners, neighbours, cases, cells):
    """Dual vertices and the quads between them.

    Returns:
        ``rows [N]`` int32: each crossed cell's row of the tables, 256·variant + case; ``first [N + 1]`` int32: where
        its dual vertices begin; ``quads [Q, 4]`` int32, counter-clockwise from outside, in the order of the cells.
    """
    count = len(cells)
    place = np.full(len(cases), -1, dtype=np.int32)
    rows = np.empty(count, dtype=np.int32)
    first = np.zeros(count + 1, dtype=np.int32)
    quads = np.empty((3 * count, 4), dtype=np.int32)
    for n in range(count):
        c = cells[n]
        place[c] = n
        rows[n] = cases[c]
        face = cube.pinched[cases[c]]
        if face >= 0:
            beyond = neighbours[c, face]
            if beyond >= 0 and cube.pinched[cases[beyond]] == face ^ 1:
                rows[n] += 256
        first[n + 1] = first[n] + cube.counts[rows[n]]
    made = 0
    around = np.empty(4, dtype=np.int64)
    for n in range(count):
        c = cells[n]
        for axis in range(3):
            edge = cube.ring[axis, 0]
            starts_inside = inside[corners[c, cube.edges[edge, 0]]]
            if starts_inside == inside[corners[c, cube.edges[edge, 1]]]:
                continue
            along_b = neighbours[c, 2 * ((axis + 1) % 3) + 1]
            along_c = neighbours[c, 2 * ((axis + 2) % 3) + 1]
            if along_b < 0 or along_c < 0:
                continue
            opposite = neighbours[along_b, 2 * ((axis + 2) % 3) + 1]
            if opposite < 0:
                continue
            around[0], around[1], around[2], around[3] = c, along_b, opposite, along_c
            for k in range(4):
                m = place[around[k]]
                vertex = first[m] + cube.loops[rows[m], cube.ring[axis, k]]
                quads[made, k if starts_inside else 3 - k] = vertex
            made += 1
    return rows, first, quads[:made].copy()


@kernel
def _scale(weight):
    return 1.0 + 0.99 * np.tanh(weight)


@kernel(parallel=True)
def dual_positions(cube, vertices, values, corners, cells, rows, first, weights, weight_row):
    """``positions [M, 3]`` float32 of the dual vertices, and ``deviation [M]`` float32, see ``DualCubes``."""
    positions = np.empty((first[-1], 3), dtype=np.float32)
    deviation = np.empty(first[-1], dtype=np.float32)
    for n in prange(len(cells)):
        c, w = cells[n], weight_row[n]
        plain = np.empty((12, 3))
        far = np.empty(12)
        for loop in range(first[n + 1] - first[n]):
            x = y = z = total = 0.0
            size = 0
            for e in range(12):
                if cube.loops[rows[n], e] != loop:
                    continue
                i, j = cube.edges[e, 0], cube.edges[e, 1]
                a, b = float(values[corners[c, i]]), float(values[corners[c, j]])
                t = a / (a - b)
                for k in range(3):
                    start = float(vertices[corners[c, i], k])
                    plain[e, k] = start + t * (vertices[corners[c, j], k] - start)
                beta = 1.0
                if w >= 0:
                    beta = _scale(weights[w, e])
                    a *= _scale(weights[w, 12 + i])
                    b *= _scale(weights[w, 12 + j])
                    t = a / (a - b)
                start = vertices[corners[c, i]]
                end = vertices[corners[c, j]]
                x += beta * (start[0] + t * (float(end[0]) - start[0]))
                y += beta * (start[1] + t * (float(end[1]) - start[1]))
                z += beta * (start[2] + t * (float(end[2]) - start[2]))
                total += beta
                size += 1
            x, y, z = x / total, y / total, z / total
            mean = 0.0
            for e in range(12):
                if cube.loops[rows[n], e] == loop:
                    far[e] = np.sqrt((x - plain[e, 0]) ** 2 + (y - plain[e, 1]) ** 2 + (z - plain[e, 2]) ** 2)
                    mean += far[e] / size
            spread = 0.0
            for e in range(12):
                if cube.loops[rows[n], e] == loop:
                    spread += abs(far[e] - mean) / size
            m = first[n] + loop
            positions[m, 0], positions[m, 1], positions[m, 2] = x, y, z
            deviation[m] = spread
    return positions, deviation


@kernel
def dual_positions_gradient(
    cube, vertices, values, corners, cells, rows, first, weights, weight_row, to_position, to_deviation
):
    """The gradients of ``dual_positions``: of ``vertices [V, 3]``, ``values [V]`` and ``weights [R, 21]``, float32.

    One thread, in the order of the cells: neighbours share vertices, and the sums must not depend on threads.
    """
    of_vertices = np.zeros_like(vertices)
    of_values = np.zeros_like(values)
    of_weights = np.zeros_like(weights)
    plain, own = np.empty((12, 3)), np.empty((12, 3))
    plain_t, own_t = np.empty(12), np.empty(12)
    far, beta, push = np.empty(12), np.empty(12), np.empty(12)
    centre, gradient = np.empty(3), np.empty(3)
    for n in range(len(cells)):
        c, w = cells[n], weight_row[n]
        for loop in range(first[n + 1] - first[n]):
            m = first[n] + loop
            centre[:] = 0.0
            total = 0.0
            size = 0
            for e in range(12):
                if cube.loops[rows[n], e] != loop:
                    continue
                i, j = corners[c, cube.edges[e, 0]], corners[c, cube.edges[e, 1]]
                a, b = float(values[i]), float(values[j])
                plain_t[e] = a / (a - b)
                own_t[e] = plain_t[e]
                beta[e] = 1.0
                if w >= 0:
                    beta[e] = _scale(weights[w, e])
                    a *= _scale(weights[w, 12 + cube.edges[e, 0]])
                    b *= _scale(weights[w, 12 + cube.edges[e, 1]])
                    own_t[e] = a / (a - b)
                for k in range(3):
                    start, step = float(vertices[i, k]), float(vertices[j, k]) - vertices[i, k]
                    plain[e, k] = start + plain_t[e] * step
                    own[e, k] = start + own_t[e] * step
                    centre[k] += beta[e] * own[e, k]
                total += beta[e]
                size += 1
            mean = 0.0
            for k in range(3):
                centre[k] /= total
                gradient[k] = to_position[m, k]
            signs = 0.0
            for e in range(12):
                if cube.loops[rows[n], e] == loop:
                    square = 0.0
                    for k in range(3):
                        square += (centre[k] - plain[e, k]) ** 2
                    far[e] = np.sqrt(square)
                    mean += far[e] / size
            for e in range(12):
                if cube.loops[rows[n], e] == loop:
                    signs += np.sign(far[e] - mean) / size
            for e in range(12):
                if cube.loops[rows[n], e] == loop:  # what the deviation gains from the distance of this crossing
                    push[e] = 0.0
                    if far[e] > 0:
                        push[e] = to_deviation[m] * (np.sign(far[e] - mean) - signs) / size / far[e]
                    for k in range(3):
                        gradient[k] += push[e] * (centre[k] - plain[e, k])
            for e in range(12):
                if cube.loops[rows[n], e] != loop:
                    continue
                i, j = corners[c, cube.edges[e, 0]], corners[c, cube.edges[e, 1]]
                share = beta[e] / total
                of_own, of_plain, of_beta = 0.0, 0.0, 0.0
                for k in range(3):
                    step = float(vertices[j, k]) - vertices[i, k]
                    pulled = -push[e] * (centre[k] - plain[e, k])
                    moved = share * gradient[k]
                    of_own += moved * step
                    of_plain += pulled * step
                    of_beta += gradient[k] * (own[e, k] - centre[k])
                    of_vertices[i, k] += moved * (1.0 - own_t[e]) + pulled * (1.0 - plain_t[e])
                    of_vertices[j, k] += moved * own_t[e] + pulled * plain_t[e]
                a, b = float(values[i]), float(values[j])
                divisor = 1.0 / (a - b) ** 2
                of_a, of_b = -of_plain * b * divisor, of_plain * a * divisor
                if w >= 0:
                    p, q = 12 + cube.edges[e, 0], 12 + cube.edges[e, 1]
                    scale_a, scale_b = _scale(weights[w, p]), _scale(weights[w, q])
                    divisor = 1.0 / (a * scale_a - b * scale_b) ** 2
                    own_a, own_b = -of_own * b * scale_b * divisor, of_own * a * scale_a * divisor
                    of_a += own_a * scale_a
                    of_b += own_b * scale_b
                    of_weights[w, p] += own_a * a * 0.99 * (1.0 - np.tanh(weights[w, p]) ** 2)
                    of_weights[w, q] += own_b * b * 0.99 * (1.0 - np.tanh(weights[w, q]) ** 2)
                    of_weights[w, e] += of_beta / total * 0.99 * (1.0 - np.tanh(weights[w, e]) ** 2)
                else:
                    of_a -= of_own * b * divisor
                    of_b += of_own * a * divisor
                of_values[i] += of_a
                of_values[j] += of_b
    return of_vertices, of_values, of_weights


@kernel(parallel=True)
def quad_centres(positions, gamma, quads):
    """``[Q, 3]`` float32: a point between the middles of the two diagonals, by the products of their ends' γ."""
    out = np.empty((len(quads), 3), dtype=np.float32)
    for q in prange(len(quads)):
        a, b, c, d = quads[q]
        first, second = float(gamma[a]) * gamma[c], float(gamma[b]) * gamma[d]
        share = first / (first + second)
        for k in range(3):
            middle, other = float(positions[a, k]) + positions[c, k], float(positions[b, k]) + positions[d, k]
            out[q, k] = 0.5 * (share * middle + (1.0 - share) * other)
    return out


@kernel
def quad_centres_gradient(positions, gamma, quads, to_centre):
    """The gradients of ``quad_centres``: of ``positions [M, 3]`` and ``gamma [M]``; one thread, see above."""
    of_positions, of_gamma = np.zeros_like(positions), np.zeros_like(gamma)
    for q in range(len(quads)):
        a, b, c, d = quads[q]
        first, second = float(gamma[a]) * gamma[c], float(gamma[b]) * gamma[d]
        total = first + second
        share = first / total
        of_share = 0.0
        for k in range(3):
            middle, other = float(positions[a, k]) + positions[c, k], float(positions[b, k]) + positions[d, k]
            of_share += 0.5 * to_centre[q, k] * (middle - other)
            of_positions[a, k] += 0.5 * share * to_centre[q, k]
            of_positions[c, k] += 0.5 * share * to_centre[q, k]
            of_positions[b, k] += 0.5 * (1.0 - share) * to_centre[q, k]
            of_positions[d, k] += 0.5 * (1.0 - share) * to_centre[q, k]
        of_first, of_second = of_share * second / total**2, -of_share * first / total**2
        of_gamma[a] += of_first * gamma[c]
        of_gamma[c] += of_first * gamma[a]
        of_gamma[b] += of_second * gamma[d]
        of_gamma[d] += of_second * gamma[b]
    return of_positions, of_gamma
