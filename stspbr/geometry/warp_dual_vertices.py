"""Vertices of dual marching cubes with weights in NVIDIA Warp, and their gradients.

The formulas are those of ``dual_cubes_kernels``; they are computed in double precision there and here. A crossed cell,
or a quad, is one thread's; gradients are float32 sums by atomic addition.
"""

from __future__ import annotations

import torch
import warp as wp
from torch import Tensor
from torch.autograd.function import once_differentiable

from stspbr.geometry.warp_cubes import WarpCubes
from stspbr.warp_runtime import launch, warp_function, warp_kernel

_REACH = wp.constant(wp.float64(0.99))
_ONE, _HALF, _ZERO = wp.constant(wp.float64(1.0)), wp.constant(wp.float64(0.5)), wp.constant(wp.float64(0.0))
_ADDENDS = 36  # of a cell to one array of gradients, at most: three of each of twelve edges
wp.set_module_options({"deterministic_max_records": _ADDENDS})


class WarpPositions(torch.autograd.Function):
    """Positions ``[M, 3]`` and deviations ``[M]`` of dual vertices, see ``DualCubes.forward``.

    The topology is ``cells``, ``rows`` and ``first``; ``weight_row [N]`` int32 is that of each crossed cell.
    """

    @staticmethod
    def forward(
        ctx, vertices: Tensor, values: Tensor, weights: Tensor, cubes: WarpCubes, cells: Tensor, rows: Tensor,
        first: Tensor, weight_row: Tensor, count: int,
    ) -> tuple[Tensor, Tensor]:  # fmt: skip
        leaves = [part.contiguous() for part in (vertices, values, weights)]
        ctx.rest = cubes.corners, cubes.edges, cubes.loops, cells, rows, first, weight_row
        positions, deviation = vertices.new_empty(count, 3), vertices.new_empty(count)
        launch(_positions, len(cells), *leaves, *ctx.rest, positions, deviation)
        ctx.save_for_backward(*leaves)
        return positions, deviation

    @staticmethod
    @once_differentiable
    def backward(ctx, to_positions: Tensor, to_deviation: Tensor) -> tuple[Tensor | None, ...]:
        leaves = ctx.saved_tensors
        gradients = [torch.zeros_like(leaf) for leaf in leaves]
        pulls = to_positions.contiguous(), to_deviation.contiguous()
        launch(_positions_gradient, len(ctx.rest[3]), *leaves, *ctx.rest, *pulls, *gradients)
        return *gradients, None, None, None, None, None, None


class WarpQuadCentres(torch.autograd.Function):
    """``[Q, 3]``: a point between the middles of each quad's diagonals, by the products of their ends' γ."""

    @staticmethod
    def forward(ctx, positions: Tensor, gamma: Tensor, quads: Tensor) -> Tensor:
        inputs = positions.contiguous(), gamma.contiguous(), quads
        ctx.save_for_backward(*inputs)
        out = positions.new_empty(len(quads), 3)
        launch(_centres, len(quads), *inputs, out)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx, gradient: Tensor) -> tuple[Tensor | None, ...]:
        positions, gamma, quads = ctx.saved_tensors
        of_positions, of_gamma = torch.zeros_like(positions), torch.zeros_like(gamma)
        launch(
            _centres_gradient, len(quads), positions, gamma, quads, gradient.contiguous(), of_positions, of_gamma
        )  # fmt: skip
        return of_positions, of_gamma, None


@wp.struct
class _Crossing:
    """Where the surface crosses an edge, with α and β (``own``) and without (``plain``).

    Attributes:
        i, j: the grid's vertices; a, b: their distances; scale_a, scale_b: their α.
        step: from one to the other; own_t, plain_t: the share of it; own, plain: the points.
    """

    i: int
    j: int
    a: wp.float64
    b: wp.float64
    scale_a: wp.float64
    scale_b: wp.float64
    beta: wp.float64
    step: wp.vec3d
    own_t: wp.float64
    plain_t: wp.float64
    own: wp.vec3d
    plain: wp.vec3d


@wp.struct
class _Loop:
    """What a dual vertex follows from: its place, Σβ, its crossings' number and the mean distance to the plain ones."""

    centre: wp.vec3d
    total: wp.float64
    size: wp.float64
    mean: wp.float64


@warp_function
def _scale(weights: wp.array2d[wp.float32], row: int, k: int):
    """α or β; 1 for cells without weights."""
    if row < 0:
        return _ONE
    return _ONE + _REACH * wp.tanh(wp.float64(weights[row, k]))


@warp_function
def _slope(scale: wp.float64):
    """Derivative of ``_scale`` by the weight, where it is ``scale``."""
    tanh = (scale - _ONE) / _REACH
    return _REACH * (_ONE - tanh * tanh)


@warp_function
def _crossing(
    vertices: wp.array[wp.vec3],
    values: wp.array[wp.float32],
    weights: wp.array2d[wp.float32],
    corners: wp.array2d[wp.int32],
    edges: wp.array2d[wp.int32],
    cell: int,
    row: int,
    e: int,
):
    x = _Crossing()
    p, q = edges[e, 0], edges[e, 1]
    x.i = corners[cell, p]
    x.j = corners[cell, q]
    x.a = wp.float64(values[x.i])
    x.b = wp.float64(values[x.j])
    x.beta = _scale(weights, row, e)
    x.scale_a = _scale(weights, row, 12 + p)
    x.scale_b = _scale(weights, row, 12 + q)
    start = wp.vec3d(vertices[x.i])
    x.step = wp.vec3d(vertices[x.j]) - start
    x.plain_t = x.a / (x.a - x.b)
    x.own_t = x.scale_a * x.a / (x.scale_a * x.a - x.scale_b * x.b)
    x.plain = start + x.plain_t * x.step
    x.own = start + x.own_t * x.step
    return x


@warp_function
def _far(centre: wp.vec3d, x: _Crossing):
    return wp.length(centre - x.plain)


@warp_function
def _joined(
    vertices: wp.array[wp.vec3],
    values: wp.array[wp.float32],
    weights: wp.array2d[wp.float32],
    corners: wp.array2d[wp.int32],
    edges: wp.array2d[wp.int32],
    loops: wp.array2d[wp.int32],
    cell: int,
    case_row: int,
    row: int,
    loop: int,
):
    out = _Loop()
    for e in range(loops.shape[1]):
        if loops[case_row, e] == loop:
            x = _crossing(vertices, values, weights, corners, edges, cell, row, e)
            out.centre += x.beta * x.own
            out.total += x.beta
            out.size += _ONE
    out.centre = out.centre / out.total
    for e in range(loops.shape[1]):
        if loops[case_row, e] == loop:
            x = _crossing(vertices, values, weights, corners, edges, cell, -1, e)
            out.mean += _far(out.centre, x) / out.size
    return out


@warp_kernel
def _positions(
    vertices: wp.array[wp.vec3],
    values: wp.array[wp.float32],
    weights: wp.array2d[wp.float32],
    corners: wp.array2d[wp.int32],
    edges: wp.array2d[wp.int32],
    loops: wp.array2d[wp.int32],
    cells: wp.array[wp.int32],
    rows: wp.array[wp.int32],
    first: wp.array[wp.int32],
    weight_row: wp.array[wp.int32],
    positions: wp.array[wp.vec3],
    deviation: wp.array[wp.float32],
):
    n = wp.tid()
    cell, case_row = cells[n], rows[n]
    for loop in range(first[n + 1] - first[n]):
        own = _joined(vertices, values, weights, corners, edges, loops, cell, case_row, weight_row[n], loop)
        spread = wp.float64(0.0)
        for e in range(loops.shape[1]):
            if loops[case_row, e] == loop:
                x = _crossing(vertices, values, weights, corners, edges, cell, -1, e)
                spread += wp.abs(_far(own.centre, x) - own.mean) / own.size
        positions[first[n] + loop] = wp.vec3(own.centre)
        deviation[first[n] + loop] = wp.float32(spread)


@warp_kernel
def _positions_gradient(
    vertices: wp.array[wp.vec3],
    values: wp.array[wp.float32],
    weights: wp.array2d[wp.float32],
    corners: wp.array2d[wp.int32],
    edges: wp.array2d[wp.int32],
    loops: wp.array2d[wp.int32],
    cells: wp.array[wp.int32],
    rows: wp.array[wp.int32],
    first: wp.array[wp.int32],
    weight_row: wp.array[wp.int32],
    to_positions: wp.array[wp.vec3],
    to_deviation: wp.array[wp.float32],
    of_vertices: wp.array[wp.vec3],
    of_values: wp.array[wp.float32],
    of_weights: wp.array2d[wp.float32],
):
    n = wp.tid()
    cell, case_row, row = cells[n], rows[n], weight_row[n]
    for loop in range(first[n + 1] - first[n]):
        own = _joined(vertices, values, weights, corners, edges, loops, cell, case_row, row, loop)
        spread = wp.float64(to_deviation[first[n] + loop])
        signs = wp.float64(0.0)
        for e in range(loops.shape[1]):
            if loops[case_row, e] == loop:
                x = _crossing(vertices, values, weights, corners, edges, cell, -1, e)
                signs += wp.sign(_far(own.centre, x) - own.mean) / own.size
        gradient = wp.vec3d(to_positions[first[n] + loop])
        for e in range(loops.shape[1]):
            if loops[case_row, e] == loop:
                x = _crossing(vertices, values, weights, corners, edges, cell, -1, e)
                gradient += _push(own, x, spread, signs)
        for e in range(loops.shape[1]):
            if loops[case_row, e] == loop:
                x = _crossing(vertices, values, weights, corners, edges, cell, row, e)
                moved, pulled = x.beta / own.total * gradient, -_push(own, x, spread, signs)
                wp.atomic_add(of_vertices, x.i, wp.vec3((_ONE - x.own_t) * moved + (_ONE - x.plain_t) * pulled))
                wp.atomic_add(of_vertices, x.j, wp.vec3(x.own_t * moved + x.plain_t * pulled))
                scaled, plain = x.scale_a * x.a - x.scale_b * x.b, x.a - x.b
                of_own = wp.dot(moved, x.step) / (scaled * scaled)
                of_plain = wp.dot(pulled, x.step) / (plain * plain)
                own_a, own_b = -of_own * x.b * x.scale_b, of_own * x.a * x.scale_a
                wp.atomic_add(of_values, x.i, wp.float32(own_a * x.scale_a - of_plain * x.b))
                wp.atomic_add(of_values, x.j, wp.float32(own_b * x.scale_b + of_plain * x.a))
                if row >= 0:
                    of_beta = wp.dot(gradient, x.own - own.centre) / own.total
                    wp.atomic_add(of_weights, row, e, wp.float32(of_beta * _slope(x.beta)))
                    wp.atomic_add(of_weights, row, 12 + edges[e, 0], wp.float32(own_a * x.a * _slope(x.scale_a)))
                    wp.atomic_add(of_weights, row, 12 + edges[e, 1], wp.float32(own_b * x.b * _slope(x.scale_b)))


@warp_function
def _push(own: _Loop, x: _Crossing, to_deviation: wp.float64, signs: wp.float64):
    """What the deviation gains by the dual vertex, through its distance from one plain crossing."""
    far = _far(own.centre, x)
    if far > _ZERO:
        gain = to_deviation * (wp.sign(far - own.mean) - signs) / own.size / far
        return gain * (own.centre - x.plain)
    return wp.vec3d()


@warp_function
def _diagonals(gamma: wp.array[wp.float32], quad: wp.vec4i):
    """The products of γ of the ends of both."""
    return wp.vec2d(
        wp.float64(gamma[quad[0]]) * wp.float64(gamma[quad[2]]),
        wp.float64(gamma[quad[1]]) * wp.float64(gamma[quad[3]]),
    )


@warp_kernel
def _centres(
    positions: wp.array[wp.vec3], gamma: wp.array[wp.float32], quads: wp.array[wp.vec4i], out: wp.array[wp.vec3]
):
    q = wp.tid()
    quad = quads[q]
    weight = _diagonals(gamma, quad)
    share = weight[0] / (weight[0] + weight[1])
    middle = wp.vec3d(positions[quad[0]]) + wp.vec3d(positions[quad[2]])
    other = wp.vec3d(positions[quad[1]]) + wp.vec3d(positions[quad[3]])
    out[q] = wp.vec3(_HALF * (share * middle + (_ONE - share) * other))


@warp_kernel
def _centres_gradient(
    positions: wp.array[wp.vec3],
    gamma: wp.array[wp.float32],
    quads: wp.array[wp.vec4i],
    to_centre: wp.array[wp.vec3],
    of_positions: wp.array[wp.vec3],
    of_gamma: wp.array[wp.float32],
):
    q = wp.tid()
    quad, pull = quads[q], wp.vec3d(to_centre[q])
    weight = _diagonals(gamma, quad)
    total = weight[0] + weight[1]
    share = weight[0] / total
    middle = wp.vec3d(positions[quad[0]]) + wp.vec3d(positions[quad[2]])
    other = wp.vec3d(positions[quad[1]]) + wp.vec3d(positions[quad[3]])
    first, second = wp.vec3(_HALF * share * pull), wp.vec3(_HALF * (_ONE - share) * pull)
    wp.atomic_add(of_positions, quad[0], first)
    wp.atomic_add(of_positions, quad[2], first)
    wp.atomic_add(of_positions, quad[1], second)
    wp.atomic_add(of_positions, quad[3], second)
    of_share = _HALF * wp.dot(pull, middle - other) / (total * total)
    of_first, of_second = of_share * weight[1], -of_share * weight[0]
    wp.atomic_add(of_gamma, quad[0], wp.float32(of_first * wp.float64(gamma[quad[2]])))
    wp.atomic_add(of_gamma, quad[2], wp.float32(of_first * wp.float64(gamma[quad[0]])))
    wp.atomic_add(of_gamma, quad[1], wp.float32(of_second * wp.float64(gamma[quad[3]])))
    wp.atomic_add(of_gamma, quad[3], wp.float32(of_second * wp.float64(gamma[quad[1]])))
