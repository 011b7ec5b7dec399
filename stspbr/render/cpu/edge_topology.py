"""Which faces meet at which edge: it distinguishes silhouettes from edges within the surface."""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

import numpy as np
import torch


class EdgeTopology(NamedTuple):
    """Edges of a triangle list; an edge has any number of faces.

    Attributes:
        edge: ``[F, 3]`` int32, the edge opposite to each corner.
        start: ``[E+1]`` int32 into ``opposite``.
        opposite: ``[3F]`` int32: the vertices opposite to edge ``e``, one per face, are
            ``opposite[start[e]:start[e+1]]``.
    """

    edge: np.ndarray
    start: np.ndarray
    opposite: np.ndarray


def edge_topology(faces: torch.Tensor) -> EdgeTopology:
    """The edges of ``faces`` ``[F, 3]`` int32 (CPU); the last few results are cached by content."""
    return _from_bytes(np.ascontiguousarray(faces.detach().numpy(), dtype=np.int32).tobytes())


@lru_cache(maxsize=8)
def _from_bytes(data: bytes) -> EdgeTopology:
    faces = np.frombuffer(data, dtype=np.int32).reshape(-1, 3).astype(np.int64)
    if not len(faces):
        return EdgeTopology(np.zeros((0, 3), np.int32), np.zeros(1, np.int32), np.zeros(0, np.int32))
    a, b = faces[:, [1, 2, 0]].reshape(-1), faces[:, [2, 0, 1]].reshape(-1)
    key = np.minimum(a, b) * (int(faces.max()) + 1) + np.maximum(a, b)
    order = np.argsort(key)
    ordered = key[order]
    first = np.concatenate([[True], ordered[1:] != ordered[:-1]])
    edge = np.empty(len(key), np.int32)
    edge[order] = np.cumsum(first) - 1
    start = np.concatenate([np.flatnonzero(first), [len(key)]]).astype(np.int32)
    return EdgeTopology(edge.reshape(-1, 3), start, faces.reshape(-1)[order].astype(np.int32))
