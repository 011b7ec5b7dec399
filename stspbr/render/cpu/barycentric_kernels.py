"""Numba kernels of the rasteriser's barycentrics, their screen-space derivatives and their backward pass.

With p = (x, y, w) of a triangle's vertices and n0 = p1 × p2 (cyclic), the homogeneous edge functions
e_i(X, Y) = n_i · (X, Y, 1) give perspective-correct barycentrics e_i / Σe, even where a vertex lies behind the
camera. Backward, a pixel's gradient is linear in the nine numbers n0, n1, n2: they are summed over the
triangle's pixels, then carried through the three cross products once, then added to the vertices image by
image. Every sum has one owner and one order.
"""

from __future__ import annotations

import numpy as np
from numba import prange

from stspbr.kernel_cache import kernel

FAST = {"contract", "arcp", "nsz"}


@kernel(parallel=True, fastmath=FAST, error_model="numpy")
def barycentrics(clip, faces, rast, rast_db):
    """Fill u and v of ``rast`` ``[B,H,W,4]``, whose ids are set, and all of ``rast_db`` ``[B,H,W,4]``."""
    batch, height = rast.shape[0], rast.shape[1]
    for task in prange(batch * height):
        _row(clip, task // height, faces, task % height, rast, rast_db)


@kernel(fastmath=FAST, error_model="numpy")
def _row(clip, b, faces, row, rast, rast_db):
    height, width = rast.shape[1], rast.shape[2]
    scale_x, scale_y = 2.0 / width, 2.0 / height
    y = (2 * row + 1) / height - 1.0
    last = -1
    ax = ay = aw = bx = by = bw = sx = sy = sw = 0.0
    for column in range(width):
        f = np.int64(rast[b, row, column, 3]) - 1
        if f < 0:
            rast[b, row, column, 0] = rast[b, row, column, 1] = 0.0
            for k in range(4):
                rast_db[b, row, column, k] = 0.0
            continue
        if f != last:  # neighbours in a row often show the same triangle
            last = f
            i0, i1, i2 = faces[f, 0], faces[f, 1], faces[f, 2]
            x0, y0, w0 = np.float64(clip[b, i0, 0]), np.float64(clip[b, i0, 1]), np.float64(clip[b, i0, 3])
            x1, y1, w1 = np.float64(clip[b, i1, 0]), np.float64(clip[b, i1, 1]), np.float64(clip[b, i1, 3])
            x2, y2, w2 = np.float64(clip[b, i2, 0]), np.float64(clip[b, i2, 1]), np.float64(clip[b, i2, 3])
            ax, ay, aw = y1 * w2 - w1 * y2, w1 * x2 - x1 * w2, x1 * y2 - y1 * x2
            bx, by, bw = y2 * w0 - w2 * y0, w2 * x0 - x2 * w0, x2 * y0 - y2 * x0
            sx = ax + bx + (y0 * w1 - w0 * y1)
            sy = ay + by + (w0 * x1 - x0 * w1)
            sw = aw + bw + (x0 * y1 - y0 * x1)
        x = (2 * column + 1) / width - 1.0
        total = sx * x + sy * y + sw
        inverse = 1.0 / total if total != 0.0 else 0.0
        u, v = (ax * x + ay * y + aw) * inverse, (bx * x + by * y + bw) * inverse
        rast_db[b, row, column, 0] = scale_x * inverse * (ax - u * sx)
        rast_db[b, row, column, 1] = scale_y * inverse * (ay - u * sy)
        rast_db[b, row, column, 2] = scale_x * inverse * (bx - v * sx)
        rast_db[b, row, column, 3] = scale_y * inverse * (by - v * sy)
        u = min(max(u, 0.0), 1.0)  # snapping may have let in a centre that is a hair outside
        v = min(max(v, 0.0), 1.0 - u)
        rast[b, row, column, 0], rast[b, row, column, 1] = u, v


@kernel(parallel=True, fastmath=FAST, error_model="numpy")
def reduce_triangles(clip, faces, grad_rast, grad_db, has_rast, has_db, group_starts, triangles, starts, pixels):
    """Gradient ``[K, 9]`` float64 of the visible triangles' corners (x, y, w of vertex 0, 1, 2)."""
    batch, height, width = grad_rast.shape[0], grad_rast.shape[1], grad_rast.shape[2]
    out = np.empty((triangles.shape[0], 9), np.float64)
    image = np.empty(triangles.shape[0], np.int32)
    for b in range(batch):
        image[group_starts[b] : group_starts[b + 1]] = b
    scale_x, scale_y = 2.0 / width, 2.0 / height
    for k in prange(triangles.shape[0]):
        b, f = image[k], triangles[k]
        i0, i1, i2 = faces[f, 0], faces[f, 1], faces[f, 2]
        x0, y0, w0 = np.float64(clip[b, i0, 0]), np.float64(clip[b, i0, 1]), np.float64(clip[b, i0, 3])
        x1, y1, w1 = np.float64(clip[b, i1, 0]), np.float64(clip[b, i1, 1]), np.float64(clip[b, i1, 3])
        x2, y2, w2 = np.float64(clip[b, i2, 0]), np.float64(clip[b, i2, 1]), np.float64(clip[b, i2, 3])
        ax, ay, aw = y1 * w2 - w1 * y2, w1 * x2 - x1 * w2, x1 * y2 - y1 * x2
        bx, by, bw = y2 * w0 - w2 * y0, w2 * x0 - x2 * w0, x2 * y0 - y2 * x0
        sx = ax + bx + (y0 * w1 - w0 * y1)
        sy = ay + by + (w0 * x1 - x0 * w1)
        sw = aw + bw + (x0 * y1 - y0 * x1)
        # Adjoints of n0, n1 and of n0 + n1 + n2.
        gax = gay = gaw = gbx = gby = gbw = gsx = gsy = gsw = 0.0
        for m in range(starts[k], starts[k + 1]):
            p = pixels[m]
            row, column = p // width, p % width
            x, y = (2 * column + 1) / width - 1.0, (2 * row + 1) / height - 1.0
            total = sx * x + sy * y + sw
            if total == 0.0:
                continue
            inverse = 1.0 / total
            u, v = (ax * x + ay * y + aw) * inverse, (bx * x + by * y + bw) * inverse
            gu = gv = gi = 0.0  # gi: of the inverse, beyond what u and v pass on
            if has_rast:
                gu, gv = np.float64(grad_rast[b, row, column, 0]), np.float64(grad_rast[b, row, column, 1])
            if has_db:
                gux, guy = scale_x * grad_db[b, row, column, 0], scale_y * grad_db[b, row, column, 1]
                gvx, gvy = scale_x * grad_db[b, row, column, 2], scale_y * grad_db[b, row, column, 3]
                gax, gay = gax + gux * inverse, gay + guy * inverse
                gbx, gby = gbx + gvx * inverse, gby + gvy * inverse
                gsx -= (gux * u + gvx * v) * inverse
                gsy -= (guy * u + gvy * v) * inverse
                gu -= (gux * sx + guy * sy) * inverse
                gv -= (gvx * sx + gvy * sy) * inverse
                gi += gux * (ax - u * sx) + guy * (ay - u * sy) + gvx * (bx - v * sx) + gvy * (by - v * sy)
            ge0, ge1 = gu * inverse, gv * inverse
            gt = -(gu * u + gv * v) * inverse - gi * inverse * inverse
            gax, gay, gaw = gax + ge0 * x, gay + ge0 * y, gaw + ge0
            gbx, gby, gbw = gbx + ge1 * x, gby + ge1 * y, gbw + ge1
            gsx, gsy, gsw = gsx + gt * x, gsy + gt * y, gsw + gt
        # n2 enters through the sum alone; n0 = p1 × p2, n1 = p2 × p0, n2 = p0 × p1.
        gax, gay, gaw = gax + gsx, gay + gsy, gaw + gsw
        gbx, gby, gbw = gbx + gsx, gby + gsy, gbw + gsw
        out[k, 0] = (gby * w2 - gbw * y2) + (y1 * gsw - w1 * gsy)
        out[k, 1] = (gbw * x2 - gbx * w2) + (w1 * gsx - x1 * gsw)
        out[k, 2] = (gbx * y2 - gby * x2) + (x1 * gsy - y1 * gsx)
        out[k, 3] = (y2 * gaw - w2 * gay) + (gsy * w0 - gsw * y0)
        out[k, 4] = (w2 * gax - x2 * gaw) + (gsw * x0 - gsx * w0)
        out[k, 5] = (x2 * gay - y2 * gax) + (gsx * y0 - gsy * x0)
        out[k, 6] = (gay * w1 - gaw * y1) + (y0 * gbw - w0 * gby)
        out[k, 7] = (gaw * x1 - gax * w1) + (w0 * gbx - x0 * gbw)
        out[k, 8] = (gax * y1 - gay * x1) + (x0 * gby - y0 * gbx)
    return out


@kernel(parallel=True, fastmath=FAST, error_model="numpy")
def scatter_corners(corner_grad, faces, group_starts, triangles, grad_clip):
    """Add the corners' gradients into ``grad_clip`` ``[B,V,4]`` (z stays 0); one owner an image."""
    batch, vertices = grad_clip.shape[0], grad_clip.shape[1]
    for b in prange(batch):
        total = np.zeros((vertices, 3), np.float64)
        for k in range(group_starts[b], group_starts[b + 1]):
            for corner in range(3):
                vertex = faces[triangles[k], corner]
                for axis in range(3):
                    total[vertex, axis] += corner_grad[k, 3 * corner + axis]
        for vertex in range(vertices):
            grad_clip[b, vertex, 0], grad_clip[b, vertex, 1] = total[vertex, 0], total[vertex, 1]
            grad_clip[b, vertex, 2], grad_clip[b, vertex, 3] = 0.0, total[vertex, 2]
