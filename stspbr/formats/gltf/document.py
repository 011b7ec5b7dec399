"""A glTF file as parsed JSON with its buffers: bytes by view, arrays by accessor."""

from __future__ import annotations

import base64
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import unquote, unquote_to_bytes

import numpy as np

from stspbr.errors import StspbrError
from stspbr.notes import Notes

_COMPONENT = {5120: np.int8, 5121: np.uint8, 5122: np.int16, 5123: np.uint16, 5125: np.uint32, 5126: np.float32}
_MOST_VALUES = 1 << 28  # of one accessor, which without a buffer view claims memory that the file does not have
_WIDTH = {"SCALAR": 1, "VEC2": 2, "VEC3": 3, "VEC4": 4, "MAT4": 16}


@dataclass
class Document:
    """The parsed JSON with its buffers."""

    path: Path
    json: dict[str, Any]
    glb_buffer: bytes | None
    notes: Notes = field(default_factory=lambda: Notes("parts"))
    _buffers: dict[int, bytes] = field(default_factory=dict)

    def buffer(self, index: int) -> bytes:
        """The bytes of one buffer, from the GLB chunk, a data URI or a file beside the ``.gltf``."""
        if index not in self._buffers:
            entry = self.json["buffers"][index]
            if entry.get("extensions", {}).get("EXT_meshopt_compression", {}).get("fallback"):
                raise StspbrError(f"{self.path} is compressed by meshopt: export it without")
            data = self.uri(entry["uri"]) if "uri" in entry else self.glb_buffer
            if data is None or len(data) < entry["byteLength"]:
                raise StspbrError(f"{self.path} is truncated (buffer {index} is too short): export or copy it again")
            self._buffers[index] = data
        return self._buffers[index]

    def view(self, index: int) -> bytes:
        """The bytes of one buffer view."""
        entry = self.json["bufferViews"][index]
        start = entry.get("byteOffset", 0)
        if start < 0 or entry["byteLength"] < 0:
            raise ValueError("a buffer view lies before its buffer")
        return self.buffer(entry["buffer"])[start : start + entry["byteLength"]]

    def uri(self, uri: str) -> bytes:
        """The bytes that a URI stands for."""
        if uri.startswith("data:"):
            head, _, data = uri.partition(",")
            return base64.b64decode(data) if head.endswith(";base64") else unquote_to_bytes(data)
        # escaped as the standard has it, else as file names are
        names = [name.replace("\\", "/") for name in (unquote(uri), uri)]
        for name in names:
            try:
                return (self.path.parent / name).read_bytes()
            except OSError:
                continue
        place = self.path.parent / names[0]
        raise StspbrError(f"{self.path} needs {place}, which does not exist: copy it beside the file")

    def accessor(self, index: int) -> np.ndarray:
        """One accessor as ``[count, width]``; normalised integers as float32 in [0, 1] or [−1, 1]."""
        entry = self.json["accessors"][index]
        dtype, width, count = np.dtype(_COMPONENT[entry["componentType"]]), _WIDTH[entry["type"]], entry["count"]
        if not 0 <= count * width <= _MOST_VALUES:
            raise StspbrError(f"{self.path} is corrupt (an accessor of {count} elements): export or copy it again")
        values: np.ndarray = np.zeros((count if "bufferView" not in entry else 0, width), dtype)
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
        if stride < row or offset < 0 or count < 0:
            raise ValueError("an accessor's stride or offset is too small")
        if offset + stride * (count - 1) + row > len(data):
            raise StspbrError(f"{self.path} is corrupt (an accessor leaves its buffer): export or copy it again")
        return np.ndarray((count, width), dtype, data, offset, (stride, dtype.itemsize))
