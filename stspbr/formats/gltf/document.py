"""A glTF file as parsed JSON with its buffers: bytes by view, arrays by accessor."""

from __future__ import annotations

import base64
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import numpy as np

from stspbr.errors import StspbrError

_COMPONENT = {5120: np.int8, 5121: np.uint8, 5122: np.int16, 5123: np.uint16, 5125: np.uint32, 5126: np.float32}
_WIDTH = {"SCALAR": 1, "VEC2": 2, "VEC3": 3, "VEC4": 4, "MAT4": 16}


@dataclass
class Document:
    """The parsed JSON with its buffers."""

    path: Path
    json: dict[str, Any]
    glb_buffer: bytes | None
    notes: list[str] = field(default_factory=list)
    _buffers: dict[int, bytes] = field(default_factory=dict)

    def buffer(self, index: int) -> bytes:
        """The bytes of one buffer, from the GLB chunk, a data URI or a file beside the ``.gltf``."""
        if index not in self._buffers:
            entry = self.json["buffers"][index]
            data = self.uri(entry["uri"]) if "uri" in entry else self.glb_buffer
            if data is None or len(data) < entry["byteLength"]:
                raise StspbrError(f"{self.path} is truncated (buffer {index} is too short): export or copy it again")
            self._buffers[index] = data
        return self._buffers[index]

    def view(self, index: int) -> bytes:
        """The bytes of one buffer view."""
        entry = self.json["bufferViews"][index]
        start = entry.get("byteOffset", 0)
        return self.buffer(entry["buffer"])[start : start + entry["byteLength"]]

    def uri(self, uri: str) -> bytes:
        """The bytes that a URI stands for."""
        if uri.startswith("data:"):
            return base64.b64decode(uri.partition(",")[2])
        place = self.path.parent / unquote(uri)
        try:
            return place.read_bytes()
        except OSError:
            raise StspbrError(f"{self.path} needs {place}, which does not exist: copy it beside the file") from None

    def accessor(self, index: int) -> np.ndarray:
        """One accessor as ``[count, width]``; normalised integers as float32 in [0, 1] or [−1, 1]."""
        entry = self.json["accessors"][index]
        dtype, width, count = np.dtype(_COMPONENT[entry["componentType"]]), _WIDTH[entry["type"]], entry["count"]
        values: np.ndarray = np.zeros((count, width), dtype)
        if "bufferView" in entry:
            values = self._strided(entry["bufferView"], entry.get("byteOffset", 0), dtype, width, count)
        if "sparse" in entry:
            sparse, values = entry["sparse"], values.copy()
            where, what = sparse["indices"], sparse["values"]
            kind = np.dtype(_COMPONENT[where["componentType"]])
            rows = self._strided(where["bufferView"], where.get("byteOffset", 0), kind, 1, sparse["count"])[:, 0]
            values[rows] = self._strided(what["bufferView"], what.get("byteOffset", 0), dtype, width, sparse["count"])
        if entry.get("normalized") and dtype.kind in "iu":
            return np.maximum(values.astype(np.float32) / np.float32(np.iinfo(dtype.str).max), -1.0)
        return values

    def _strided(self, view: int, offset: int, dtype: np.dtype, width: int, count: int) -> np.ndarray:
        data, row = self.view(view), dtype.itemsize * width
        stride = self.json["bufferViews"][view].get("byteStride", row)
        if not count:
            return np.zeros((0, width), dtype)
        if offset + stride * (count - 1) + row > len(data):
            raise StspbrError(f"{self.path} is corrupt (an accessor leaves its buffer): export or copy it again")
        return np.ndarray((count, width), dtype, data, offset, (stride, dtype.itemsize))
