"""The binary chunk of a glTF file as it grows: buffer views and accessors, as floats or quantised."""

from __future__ import annotations

from typing import Any

import numpy as np

Json = dict[str, Any]
_ARRAY, _ELEMENTS = 34962, 34963  # what a buffer view is for
_COMPONENT = {"i1": 5120, "i2": 5122, "u2": 5123, "u4": 5125, "f4": 5126}
_KIND = {1: "SCALAR", 2: "VEC2", 3: "VEC3", 4: "VEC4"}


class Buffers:
    """One growing buffer, ``binary``, and glTF's JSON lists of its ``views`` and ``accessors``."""

    def __init__(self) -> None:
        self.binary = bytearray()
        self.views: list[Json] = []
        self.accessors: list[Json] = []

    def view(self, data: bytes, target: int | None = None, stride: int | None = None) -> int:
        """Append bytes at the next multiple of four; the view's index."""
        self.binary += b"\0" * (-len(self.binary) % 4)
        entry: Json = {"buffer": 0, "byteOffset": len(self.binary), "byteLength": len(data)}
        if stride is not None:
            entry["byteStride"] = stride
        if target is not None:
            entry["target"] = target
        self.binary += data
        self.views.append(entry)
        return len(self.views) - 1

    def attribute(self, values: np.ndarray, *, bounds: bool = False) -> int:
        """Append a vertex attribute ``[N, C]``, float32 or (normalised) integers; the accessor's index."""
        values = np.ascontiguousarray(values)
        kind = values.dtype.str[1:]
        row = values.dtype.itemsize * values.shape[1]
        padded = -(-row // 4) * 4  # rows start at multiples of four bytes
        data = np.zeros((len(values), padded), np.uint8)
        data[:, :row] = values.astype(values.dtype.newbyteorder("<")).view(np.uint8).reshape(len(values), row)
        entry: Json = {
            "bufferView": self.view(data.tobytes(), _ARRAY, padded if padded != row else None),
            "componentType": _COMPONENT[kind],
            "count": len(values),
            "type": _KIND[values.shape[1]],
        }
        if kind != "f4":
            entry["normalized"] = True
        if bounds:
            entry["min"], entry["max"] = values.min(axis=0).tolist(), values.max(axis=0).tolist()
        self.accessors.append(entry)
        return len(self.accessors) - 1

    def indices(self, index: np.ndarray, vertex_count: int) -> int:
        """Append triangle corners ``[3F]``, as short as they may be; the accessor's index."""
        kind = "u2" if vertex_count <= 65535 else "u4"  # 65535 itself is the restart value and never an index
        view = self.view(index.astype(f"<{kind}").tobytes(), _ELEMENTS)
        entry = {"bufferView": view, "componentType": _COMPONENT[kind], "count": len(index), "type": "SCALAR"}
        self.accessors.append(entry)
        return len(self.accessors) - 1


def normalized_integers(values: np.ndarray, kind: str) -> np.ndarray:
    """Values in [−1, 1] (``i1``, ``i2``) or [0, 1] (``u2``) as the nearest normalised integers."""
    low = 0.0 if kind.startswith("u") else -1.0
    return np.rint(np.clip(values.astype(np.float64), low, 1.0) * np.iinfo(kind).max).astype(kind)
