"""Numba kernels of the rasteriser: triangle set-up, binning into bands of rows, drawing.

Coverage is decided in integers on vertices snapped to 1/256 pixel, so that two triangles agree on their
shared edge; depth comes from the unsnapped clip coordinates in double precision. With p = (x, y, w) of the
three vertices, n0 = p1 × p2 (cyclic) and e_i(X, Y) = n_i · (X, Y, 1), it is z/w = Σ z_i e_i / det even where a
vertex lies behind the camera (Olano and Greer 1997, "Triangle Scan Conversion using 2D Homogeneous Coordinates").
"""

from __future__ import annotations

import numpy as np
from numba import prange

from stspbr.kernel_cache import kernel

BAND = 8  # rows of one band: a unit of work, owned by one thread
SLABS = 8  # parts of the face list when binning; constant, so that nothing depends on the thread count
SUBPIXEL = 256
CHUNK = 256  # faces of one set-up task
REACH = float(1 << 20)  # guard band in pixels: far beyond any image, yet int64 edge functions cannot overflow


# No fastmath in this file: a vertex must snap alike in all the triangles that share it, and a fused or
# reciprocal operation here but not there would break that.
@kernel(error_model="numpy", inline="always")
def _snap(position, inverse_w, size):
    ndc = position * inverse_w
    return np.int64(np.floor((ndc * 0.5 + 0.5) * size * 256.0 + 0.5))


@kernel(error_model="numpy", inline="always")
def _distance(vertex, plane, guard_x, guard_y):
    """Signed distance of a homogeneous vertex to a clip plane; inside is not negative."""
    x, y, z, w = vertex[0], vertex[1], vertex[2], vertex[3]
    if plane == 0:
        return z + w
    if plane == 1:
        return w - z
    if plane == 2:
        return guard_x * w + x
    if plane == 3:
        return guard_x * w - x
    if plane == 4:
        return guard_y * w + y
    return guard_y * w - y


@kernel(error_model="numpy")
def _clip_polygon(clip, b, faces, f, height, width, polygon, spare, points):
    """Clip one triangle to the near and far planes and the guard band; snapped corners go to ``points``.

    Returns their number (0: nothing is left). Sutherland and Hodgman; an intersection is always computed
    from the inner to the outer end, so that both triangles at an edge get the same point.
    """
    guard_x, guard_y = REACH / width, REACH / height
    count = 3
    for corner in range(3):
        for k in range(4):
            polygon[corner, k] = clip[b, faces[f, corner], k]
    for plane in range(6):
        kept = 0
        for i in range(count):
            here, after = polygon[i], polygon[(i + 1) % count]
            d0 = _distance(here, plane, guard_x, guard_y)
            d1 = _distance(after, plane, guard_x, guard_y)
            if d0 >= 0.0:
                spare[kept] = here
                kept += 1
            if (d0 >= 0.0) != (d1 >= 0.0):
                t = d0 / (d0 - d1) if d0 >= 0.0 else d1 / (d1 - d0)
                for k in range(4):
                    inner, outer = (here[k], after[k]) if d0 >= 0.0 else (after[k], here[k])
                    spare[kept, k] = inner + t * (outer - inner)
                kept += 1
        count = kept
        polygon, spare = spare, polygon
        if count < 3:
            return 0
    for i in range(count):
        w = max(polygon[i, 3], 1e-300)
        # Rounding may leave a point a hair outside its plane; at w = 0 that hair would be infinite.
        x = min(max(polygon[i, 0], -guard_x * w), guard_x * w)
        y = min(max(polygon[i, 1], -guard_y * w), guard_y * w)
        points[i, 0] = _snap(x, 1.0 / w, width)
        points[i, 1] = _snap(y, 1.0 / w, height)
    return count


@kernel(error_model="numpy")
def _depth_plane(clip, b, i0, i1, i2, height, width, depth, f, whole):
    """z/w = d[0] + column·d[1] + row·d[2] within [d[3], d[4]], d = depth[b, f]; False if the triangle is edge-on.

    Vertices are taken in index order: copies of a face, turned or flipped, get the very same plane and
    therefore tie, whatever their rounding.
    """
    if i0 > i1:
        i0, i1 = i1, i0
    if i1 > i2:
        i1, i2 = i2, i1
    if i0 > i1:
        i0, i1 = i1, i0
    x0, y0 = np.float64(clip[b, i0, 0]), np.float64(clip[b, i0, 1])
    z0, w0 = np.float64(clip[b, i0, 2]), np.float64(clip[b, i0, 3])
    x1, y1 = np.float64(clip[b, i1, 0]), np.float64(clip[b, i1, 1])
    z1, w1 = np.float64(clip[b, i1, 2]), np.float64(clip[b, i1, 3])
    x2, y2 = np.float64(clip[b, i2, 0]), np.float64(clip[b, i2, 1])
    z2, w2 = np.float64(clip[b, i2, 2]), np.float64(clip[b, i2, 3])
    ax, ay, aw = y1 * w2 - w1 * y2, w1 * x2 - x1 * w2, x1 * y2 - y1 * x2
    bx, by, bw = y2 * w0 - w2 * y0, w2 * x0 - x2 * w0, x2 * y0 - y2 * x0
    cx, cy, cw = y0 * w1 - w0 * y1, w0 * x1 - x0 * w1, x0 * y1 - y0 * x1
    det = ax * x0 + ay * y0 + aw * w0
    if det == 0.0 or not np.isfinite(det):
        return False
    inverse = 1.0 / det
    slope_x = (z0 * ax + z1 * bx + z2 * cx) * inverse
    slope_y = (z0 * ay + z1 * by + z2 * cy) * inverse
    offset = (z0 * aw + z1 * bw + z2 * cw) * inverse
    depth[b, f, 0] = offset + slope_x * (1.0 / width - 1.0) + slope_y * (1.0 / height - 1.0)
    depth[b, f, 1], depth[b, f, 2] = slope_x * (2.0 / width), slope_y * (2.0 / height)
    depth[b, f, 3], depth[b, f, 4] = -1.0, 1.0
    if whole:  # a centre just outside a steep triangle must not extrapolate its depth
        z0, z1, z2 = z0 / w0, z1 / w1, z2 / w2
        depth[b, f, 3], depth[b, f, 4] = min(z0, z1, z2), max(z0, z1, z2)
    return True


@kernel(parallel=True, error_model="numpy")
def project(clip, height, width, screen, code):
    """Snapped positions ``[B,V,2]`` and a code ``[B,V]`` of the vertices.

    Bits 0 to 5 of the code: beyond the left, right, upper, lower, near, far plane of the view; bit 6: must be
    clipped (``screen`` is not set); bit 7: not finite.
    """
    batch, count = clip.shape[0], clip.shape[1]
    guard_x, guard_y = REACH / width, REACH / height
    chunks = (count + CHUNK - 1) // CHUNK
    for task in prange(batch * chunks):
        b, begin = task // chunks, (task % chunks) * CHUNK
        for i in range(begin, min(begin + CHUNK, count)):
            x, y = np.float64(clip[b, i, 0]), np.float64(clip[b, i, 1])
            z, w = np.float64(clip[b, i, 2]), np.float64(clip[b, i, 3])
            bits = (x < -w) | ((x > w) << 1) | ((y < -w) << 2) | ((y > w) << 3) | ((z < -w) << 4) | ((z > w) << 5)
            if w > 0.0 and abs(z) <= w and abs(x) <= guard_x * w and abs(y) <= guard_y * w:
                screen[b, i, 0], screen[b, i, 1] = _snap(x, 1.0 / w, width), _snap(y, 1.0 / w, height)
            else:
                bits |= 64
            if not (np.isfinite(x) and np.isfinite(y) and np.isfinite(z) and np.isfinite(w)):
                bits |= 128
            code[b, i] = bits


@kernel(parallel=True, error_model="numpy")
def set_up(clip, faces, height, width, screen, code, rows, clipped, depth):
    """First and last row ``[B,F,2]`` of the triangles (first > last: nothing), whether they need clipping
    ``[B,F]``, and their depth plane with its lower and upper bound ``[B,F,5]``."""
    batch, count = clip.shape[0], faces.shape[0]
    chunks = (count + CHUNK - 1) // CHUNK
    for task in prange(batch * chunks):
        b, begin = task // chunks, (task % chunks) * CHUNK
        polygon, spare = np.empty((12, 4)), np.empty((12, 4))
        points = np.empty((12, 2), np.int64)
        for f in range(begin, min(begin + CHUNK, count)):
            rows[b, f, 0], rows[b, f, 1], clipped[b, f] = 1, 0, 0
            i0, i1, i2 = faces[f, 0], faces[f, 1], faces[f, 2]
            shared, some = code[b, i0] & code[b, i1] & code[b, i2], code[b, i0] | code[b, i1] | code[b, i2]
            if shared & 63 or some & 128:
                continue
            n = 3
            if some & 64:
                n = _clip_polygon(clip, b, faces, f, height, width, polygon, spare, points)
                if n == 0:
                    continue
                clipped[b, f] = 1
            else:
                points[0, 0], points[0, 1] = screen[b, i0, 0], screen[b, i0, 1]
                points[1, 0], points[1, 1] = screen[b, i1, 0], screen[b, i1, 1]
                points[2, 0], points[2, 1] = screen[b, i2, 0], screen[b, i2, 1]
            top = bottom = points[0, 1]
            leftmost = rightmost = points[0, 0]
            for i in range(1, n):
                top, bottom = min(top, points[i, 1]), max(bottom, points[i, 1])
                leftmost, rightmost = min(leftmost, points[i, 0]), max(rightmost, points[i, 0])
            first, last = max((top + 127) >> 8, 0), min((bottom - 128) >> 8, height - 1)
            if first > last or max((leftmost + 127) >> 8, 0) > min((rightmost - 128) >> 8, width - 1):
                continue
            if _depth_plane(clip, b, i0, i1, i2, height, width, depth, f, n == 3 and not clipped[b, f]):
                rows[b, f, 0], rows[b, f, 1] = first, last


@kernel(parallel=True, error_model="numpy")
def bin_faces(rows, bands):
    """The faces of every band in ascending order: ``(starts [B·bands + 1], faces)``."""
    batch, count = rows.shape[0], rows.shape[1]
    size = (count + SLABS - 1) // SLABS
    cursor = np.zeros((batch, SLABS, bands), np.int64)
    for task in prange(batch * SLABS):
        b, slab = task // SLABS, task % SLABS
        for f in range(slab * size, min((slab + 1) * size, count)):
            if rows[b, f, 0] <= rows[b, f, 1]:
                for band in range(rows[b, f, 0] // BAND, rows[b, f, 1] // BAND + 1):
                    cursor[b, slab, band] += 1
    starts = np.empty(batch * bands + 1, np.int64)
    total = 0
    for b in range(batch):
        for band in range(bands):
            starts[b * bands + band] = total
            for slab in range(SLABS):
                here = cursor[b, slab, band]
                cursor[b, slab, band] = total
                total += here
    starts[batch * bands] = total
    members = np.empty(total, np.int32)
    for task in prange(batch * SLABS):
        b, slab = task // SLABS, task % SLABS
        for f in range(slab * size, min((slab + 1) * size, count)):
            if rows[b, f, 0] <= rows[b, f, 1]:
                for band in range(rows[b, f, 0] // BAND, rows[b, f, 1] // BAND + 1):
                    members[cursor[b, slab, band]] = f
                    cursor[b, slab, band] += 1
    return starts, members


@kernel(error_model="numpy")
def _draw(x0, y0, x1, y1, x2, y2, depth, b, f, row_begin, row_end, nearest, winner, front, fronting):
    """One snapped triangle into the depth buffer of rows ``[row_begin, row_end)``; either orientation.

    Only what comes after (``front``, ``fronting``) in the order of depth and then id is drawn.
    """
    width = nearest.shape[1]
    area = (x1 - x0) * (y2 - y0) - (y1 - y0) * (x2 - x0)
    if area == 0:
        return
    if area < 0:
        x1, y1, x2, y2 = x2, y2, x1, y1
    left, right = max((min(x0, x1, x2) + 127) >> 8, 0), min((max(x0, x1, x2) - 128) >> 8, width - 1)
    first = max((min(y0, y1, y2) + 127) >> 8, row_begin)
    last = min((max(y0, y1, y2) - 128) >> 8, row_end - 1)
    if left > right:
        return
    dx0, dy0, dx1, dy1, dx2, dy2 = x1 - x0, y1 - y0, x2 - x1, y2 - y1, x0 - x2, y0 - y2
    # A pixel centre on an edge belongs to the triangle only if that edge is its top or left one.
    bias0 = 0 if dy0 < 0 or (dy0 == 0 and dx0 > 0) else -1
    bias1 = 0 if dy1 < 0 or (dy1 == 0 and dx1 > 0) else -1
    bias2 = 0 if dy2 < 0 or (dy2 == 0 and dx2 > 0) else -1
    step0, step1, step2 = -dy0 * SUBPIXEL, -dy1 * SUBPIXEL, -dy2 * SUBPIXEL
    px = left * SUBPIXEL + 128
    base, dz_column, dz_row = depth[b, f, 0], depth[b, f, 1], depth[b, f, 2]
    low, high = depth[b, f, 3], depth[b, f, 4]
    for row in range(first, last + 1):
        py = row * SUBPIXEL + 128
        e0 = dx0 * (py - y0) - dy0 * (px - x0) + bias0
        e1 = dx1 * (py - y1) - dy1 * (px - x1) + bias1
        e2 = dx2 * (py - y2) - dy2 * (px - x2) + bias2
        begin, end = left, right
        if right - left > 8:  # a long row: solve for the span instead of asking every pixel
            for e, step in ((e0, step0), (e1, step1), (e2, step2)):
                if step > 0:
                    if e < 0:
                        begin = max(begin, left + (-e + step - 1) // step)
                elif e < 0:
                    end = -1
                elif step < 0:
                    end = min(end, left + e // -step)
            skip = begin - left
            e0, e1, e2 = e0 + skip * step0, e1 + skip * step1, e2 + skip * step2
        z_row, r = base + row * dz_row, row - row_begin
        for column in range(begin, end + 1):
            if (e0 | e1 | e2) >= 0:
                z = min(max(z_row + column * dz_column, low), high)
                # faces come in ascending order, so the lower id keeps a tie
                if z < nearest[r, column] and (
                    z > front[r, column] or (z == front[r, column] and f > fronting[r, column])
                ):
                    nearest[r, column] = z
                    winner[r, column] = f
            e0, e1, e2 = e0 + step0, e1 + step1, e2 + step2


@kernel(parallel=True, error_model="numpy")
def draw_bands(clip, faces, screen, clipped, depth, starts, members, behind, rast):
    """Draw every band and write z/w and triangle id + 1 of its rows into ``rast`` ``[B,H,W,4]``.

    ``behind`` ``[B,H,W,4]`` or ``[0,…]``: an earlier ``rast`` of the same triangles. Only what lies behind it is drawn.
    """
    batch, height, width = rast.shape[0], rast.shape[1], rast.shape[2]
    bands = (height + BAND - 1) // BAND
    for task in prange(batch * bands):
        b, row_begin = task // bands, (task % bands) * BAND
        row_end = min(row_begin + BAND, height)
        nearest = np.full((row_end - row_begin, width), 2.0)
        winner = np.full((row_end - row_begin, width), -1, np.int32)
        front = np.full((row_end - row_begin, width), -2.0)
        fronting = np.full((row_end - row_begin, width), -1, np.int32)
        if len(behind) > 0:
            for row in range(row_begin, row_end):
                for column in range(width):
                    f = np.int32(behind[b, row, column, 3]) - 1
                    r = row - row_begin
                    fronting[r, column] = f
                    if f < 0:
                        front[r, column] = 3.0  # behind nothing there is nothing
                    else:  # z/w of the layer in front again, to the last bit, which float32 does not keep
                        z = depth[b, f, 0] + row * depth[b, f, 2] + column * depth[b, f, 1]
                        front[r, column] = min(max(z, depth[b, f, 3]), depth[b, f, 4])
        polygon, spare = np.empty((12, 4)), np.empty((12, 4))
        points = np.empty((12, 2), np.int64)
        for k in range(starts[task], starts[task + 1]):
            f = members[k]
            n = 3
            if clipped[b, f]:
                n = _clip_polygon(clip, b, faces, f, height, width, polygon, spare, points)
            else:
                for corner in range(3):
                    points[corner, 0] = screen[b, faces[f, corner], 0]
                    points[corner, 1] = screen[b, faces[f, corner], 1]
            for i in range(2, n):
                x0, y0, x1, y1 = points[0, 0], points[0, 1], points[i - 1, 0], points[i - 1, 1]
                _draw(
                    x0,
                    y0,
                    x1,
                    y1,
                    points[i, 0],
                    points[i, 1],
                    depth,
                    b,
                    f,
                    row_begin,
                    row_end,
                    nearest,
                    winner,
                    front,
                    fronting,
                )
        for row in range(row_begin, row_end):
            for column in range(width):
                f = winner[row - row_begin, column]
                rast[b, row, column, 2] = nearest[row - row_begin, column] if f >= 0 else 0.0
                rast[b, row, column, 3] = f + 1
