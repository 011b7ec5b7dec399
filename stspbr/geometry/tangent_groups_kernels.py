"""The flood that makes MikkTSpace's groups: one after the other, since faces without a side take the first's."""

from __future__ import annotations

import numpy as np

from stspbr.kernel_cache import kernel


@kernel
def flood(across: np.ndarray, side: np.ndarray) -> np.ndarray:
    """Group the corners of a mesh.

    Args:
        across: ``[3F]`` the corner that starts the same edge on its other side (edge: corner to next); −1 for none.
        side: ``[F]`` ±1, or 0 for a face without area in UV space: such a face starts no group and gets the side
            of the first that reaches it, **in place**.

    Returns:
        ``[3F]`` the corner that started the group of each; −1 where none came.
    """
    count = len(across)
    group = np.full(count, -1, np.int64)
    sided = side != 0
    stack = np.empty(count, np.int64)
    for start in range(count):
        if group[start] >= 0 or not sided[start // 3]:
            continue
        turn = side[start // 3]
        group[start] = start
        stack[0], held = start, 1
        while held > 0:
            held -= 1
            corner = stack[held]
            face = corner // 3
            ahead = across[corner]
            behind = across[3 * face + (corner % 3 + 2) % 3]
            for step in range(2):
                # Both land on the same vertex: past the end of the edge ahead, or at the start of the one behind.
                if step == 0:
                    other = -1 if ahead < 0 else 3 * (ahead // 3) + (ahead % 3 + 1) % 3
                else:
                    other = behind
                if other < 0 or group[other] >= 0:
                    continue
                if side[other // 3] == 0:
                    side[other // 3] = turn
                if side[other // 3] == turn:
                    group[other] = start
                    stack[held] = other
                    held += 1
    return group
