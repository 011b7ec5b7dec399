"""Numba kernels of :mod:`stspbr.texture.packing`: charts as masks of cells, put into a square one after the other."""

from __future__ import annotations

import numpy as np

from stspbr.kernel_cache import kernel


@kernel
def draw_chart(triangles, reach, mask):
    """Mark the cells of ``mask`` ``[H, W]`` that are nearer than ``reach`` to one of the ``triangles [T, 3, 2]``.

    Units are cells; the square around a cell within ``reach`` of its sides counts, so that the mask is conservative.
    """
    height, width = mask.shape
    for t in range(len(triangles)):
        ax, ay = triangles[t, 0]
        bx, by = triangles[t, 1]
        cx, cy = triangles[t, 2]
        x0, x1 = max(int(np.floor(min(ax, bx, cx) - reach)), 0), min(int(np.floor(max(ax, bx, cx) + reach)), width - 1)
        y0, y1 = max(int(np.floor(min(ay, by, cy) - reach)), 0), min(int(np.floor(max(ay, by, cy) + reach)), height - 1)
        for y in range(y0, y1 + 1):
            for x in range(x0, x1 + 1):
                if mask[y, x]:
                    continue
                px, py = x + 0.5, y + 0.5
                half = 0.5 + reach
                apart = False
                for k in range(3):
                    ux, uy, vx, vy, wx, wy = ax, ay, bx, by, cx, cy
                    if k == 1:
                        ux, uy, vx, vy, wx, wy = bx, by, cx, cy, ax, ay
                    elif k == 2:
                        ux, uy, vx, vy, wx, wy = cx, cy, ax, ay, bx, by
                    nx, ny = vy - uy, ux - vx  # across the edge
                    inner = nx * (wx - ux) + ny * (wy - uy)
                    own = nx * (px - ux) + ny * (py - uy)
                    if inner < 0.0:
                        nx, ny, inner, own = -nx, -ny, -inner, -own
                    room = half * (abs(nx) + abs(ny))
                    if own < -room or own > inner + room:
                        apart = True
                        break
                if not apart:
                    mask[y, x] = True


@kernel
def place_charts(masks, starts, heights, widths, turned_rows, side):
    """Bottom-left places in a square of ``side`` cells for charts, in their order; returns ``[N, 3]`` and success.

    Args:
        masks: all charts' cells, rows of one chart after the other; starts: ``[N]`` of each.
        heights, widths: ``[N]`` in cells; turned_rows: how many of four quarter turns are tried per chart.
        side: of the square.

    Returns:
        ``[N, 3]`` row, column and quarter turns of each chart, and whether all are in.
    """
    count = len(starts)
    last = np.full((side, side), -1, np.int32)  # the taken cell at or before each cell of its row
    first_free = np.zeros(side, np.int64)  # columns before this one are taken
    out = np.zeros((count, 3), np.int64)
    low = 0  # rows below are full
    for n in range(count):
        best_row, best_column, best_turn, best_score = -1, 0, 0, 4 * side * side
        for turn in range(turned_rows[n]):
            height, width = (heights[n], widths[n]) if turn % 2 == 0 else (widths[n], heights[n])
            if height > side or width > side:
                continue
            runs = _runs(_turned(masks, starts[n], heights[n], widths[n], turn))
            found = False
            for row in range(low, side - height + 1):
                if (row + height) * side >= best_score:
                    break
                column = max(first_free[row] - runs[0, 1], 0) if runs[0, 0] == 0 else 0
                hint = 0  # the run that was blocked last is likely to be blocked again
                while column <= side - width:
                    jump, hint = _blocked(last, runs, row, column, hint)
                    if jump == 0:
                        score = (row + height) * side + column
                        if score < best_score:
                            best_row, best_column, best_turn, best_score = row, column, turn, score
                        found = True
                        break
                    column += jump
                if found:
                    break
        if best_row < 0:
            return out, False
        out[n, 0], out[n, 1], out[n, 2] = best_row, best_column, best_turn
        runs = _runs(_turned(masks, starts[n], heights[n], widths[n], best_turn))
        for k in range(len(runs)):
            r = best_row + runs[k, 0]
            for c in range(best_column + runs[k, 1], best_column + runs[k, 2] + 1):
                last[r, c] = c
            c = best_column + runs[k, 2] + 1
            while c < side and last[r, c] < best_column + runs[k, 2]:
                last[r, c] = best_column + runs[k, 2]
                c += 1
        for r in range(side):
            while first_free[r] < side and last[r, first_free[r]] == first_free[r]:
                first_free[r] += 1
        while low < side and first_free[low] >= side:
            low += 1
    return out, True


@kernel
def _turned(masks, start, height, width, turn):
    """A chart's cells after quarter turns counter-clockwise (rows count upwards)."""
    out = np.empty((height, width) if turn % 2 == 0 else (width, height), np.bool_)
    for r in range(height):
        for c in range(width):
            cell = masks[start + r * width + c]
            if turn == 0:
                out[r, c] = cell
            elif turn == 1:
                out[c, height - 1 - r] = cell
            elif turn == 2:
                out[height - 1 - r, width - 1 - c] = cell
            else:
                out[width - 1 - c, r] = cell
    return out


@kernel
def _runs(shape):
    """``[K, 3]`` int64 row, first and last cell of each unbroken run of a chart's cells, rows in order."""
    height, width = shape.shape
    number = 0
    for r in range(height):
        for c in range(width):
            if shape[r, c] and (c == 0 or not shape[r, c - 1]):
                number += 1
    out = np.empty((max(number, 1), 3), np.int64)
    out[0] = 0, 0, -1  # an empty chart fits anywhere
    k = -1
    for r in range(height):
        for c in range(width):
            if shape[r, c]:
                if c == 0 or not shape[r, c - 1]:
                    k += 1
                    out[k, 0], out[k, 1] = r, c
                out[k, 2] = c
    return out


@kernel
def _blocked(last, runs, row, column, hint):
    """By how many columns a chart must at least move to the right, 0 if it fits; and the run that is blocked."""
    for i in range(len(runs)):
        k = (hint + i) % len(runs)
        begin = column + runs[k, 1]
        if runs[k, 2] < runs[k, 1]:
            continue
        taken = last[row + runs[k, 0], column + runs[k, 2]]
        if taken >= begin:
            return taken - begin + 1, k
    return 0, hint
