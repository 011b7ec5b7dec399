"""COLMAP's binary files walked through before pycolmap, which does not end on counts that a file cannot hold."""

from __future__ import annotations

import struct
from pathlib import Path

from stspbr.errors import StspbrError
from stspbr.files import read_file

# Bytes of a record before its list, and of an item of that list: https://colmap.github.io/format.html
_RECORDS = {"images": (64, 24), "points3D": (43, 8)}
_LEAST = {"cameras": 24, "rigs": 8, "frames": 8}  # bytes of a record


def check_binary_model(place: Path) -> None:
    """StspbrError if a binary file of the model in ``place`` ends before what it counts."""
    for name in (*_RECORDS, *_LEAST):
        path = place / f"{name}.bin"
        if path.is_file():
            data = read_file(path)
            sound = len(data) >= 8 and (_ends(data, name) if name in _RECORDS else _fits(data, _LEAST[name]))
            if not sound:
                raise StspbrError(f"{path} is truncated or corrupt: copy or export the model again")


def _fits(data: bytes, least: int) -> bool:
    return struct.unpack_from("<Q", data)[0] * least <= len(data)


def _ends(data: bytes, name: str) -> bool:
    """Whether all records of a file of images or points lie within it."""
    head, item = _RECORDS[name]
    at = 8
    if not _fits(data, head):
        return False
    for _ in range(struct.unpack_from("<Q", data)[0]):
        at += head
        if name == "images":
            at = data.find(b"\0", at) + 1  # the image's name
            if at == 0:
                return False
        if at + 8 > len(data):
            return False
        at += 8 + item * struct.unpack_from("<Q", data, at)[0]
    return at <= len(data)
