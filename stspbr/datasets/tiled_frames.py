"""Frames decoded once: a capture's pixels in one file of tiles, from which any window is read without the rest.

Nothing is lost: a tile is kept in half floats only if these are its values, and one without any object takes no room.
Reads are reads, not mapped pages: they count as nobody's memory, and the system keeps what is read often.
The file is written beside its name and renamed when it is complete; of several captures of a run the newest has one.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import threading
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from stspbr.errors import StspbrError
from stspbr.files import atomic_path
from stspbr.scene.camera import Camera
from stspbr.scene.capture import Capture, Frame
from stspbr.scene.light import EnvironmentLight
from stspbr.scene.object_sphere import MaskSummary, mask_summary
from stspbr.scene.stored_frame import Pixels, StoredFrame, for_each_frame

TILE = 64  # pixels along a side
_MAGIC = b"stspbr frames 1\n"
_FOOTER = 16 + 32  # place and length of the index, its SHA-256
_ABANDONED = 3600.0  # seconds without a write after which a file that is being written has no writer
_EMPTY, _HALF, _OPAQUE, _FLOAT, _KNOWN = range(5)
"""Nothing; four channels; three, alpha being 1; four of 32 bits; five of these, the last one known."""


def tiled(path: Path, make: Any, scale: int) -> tuple[Capture, bool]:
    """The capture whose tiles are in the file ``path``, which is written if it is missing or damaged.

    Other files of tiles in its folder are removed: there is one per run.

    Args:
        make: gives the capture if the file must be written; its frames may be stored ones.
        scale: a reduction of the frames that is kept, too, for ``Frame.reduced``; 1: none.

    Returns:
        The capture, its frames on disk, and whether the file was written.

    Raises:
        StspbrError: the file cannot be written; and what ``make`` raises.
    """
    found = _opened(path, scale)
    if found is not None:
        return found, False
    _clear(path)
    _write(path, make(), scale)
    found = _opened(path, scale)
    if found is None:
        raise StspbrError(f"{path} cannot be read back: check the disk")
    return found, True


@dataclass
class _Level:
    """The tiles of one frame at one size: where each lies, and how it is stored, both ``[rows, columns]``."""

    height: int
    width: int
    offset: np.ndarray
    kind: np.ndarray


class _Tiles:
    """An open file of tiles."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream, self._lock = stream, threading.Lock()

    def window(self, level: _Level, left: int, top: int, width: int, height: int) -> Pixels:
        """Image and alpha of a window that lies inside, and known if the frame has an unknown part."""
        out = np.zeros((height, width, 5), np.float32)
        out[..., 4] = 1.0
        for row in range(top // TILE, (top + height - 1) // TILE + 1):
            for column in range(left // TILE, (left + width - 1) // TILE + 1):
                kind = int(level.kind[row, column])
                if kind == _EMPTY:
                    continue
                y, x = row * TILE, column * TILE
                shape = (min(TILE, level.height - y), min(TILE, level.width - x))
                values = self._tile(int(level.offset[row, column]), kind, shape)
                first, start = max(y, top), max(x, left)
                last, end = min(y + shape[0], top + height), min(x + shape[1], left + width)
                inside = values[first - y : last - y, start - x : end - x]
                out[first - top : last - top, start - left : end - left, : inside.shape[2]] = inside
        pixels = np.ascontiguousarray(out[..., :3]), np.ascontiguousarray(out[..., 3:4])
        return (*pixels, np.ascontiguousarray(out[..., 4:])) if (level.kind == _KNOWN).any() else pixels

    def _tile(self, offset: int, kind: int, shape: tuple[int, int]) -> np.ndarray:
        channels = {_OPAQUE: 3, _KNOWN: 5}.get(kind, 4)
        dtype = np.dtype("<f4" if kind in (_FLOAT, _KNOWN) else "<f2")
        data = self._read(offset, shape[0] * shape[1] * channels * dtype.itemsize)
        values = np.frombuffer(data, dtype).reshape(*shape, channels).astype(np.float32)
        return np.concatenate([values, np.ones_like(values[..., :1])], axis=2) if kind == _OPAQUE else values

    def _read(self, offset: int, count: int) -> bytes:
        with self._lock:
            self._stream.seek(offset)
            data = self._stream.read(count)
        if len(data) != count:
            raise StspbrError(f"{self._stream.name} is truncated: remove it, it is made anew")
        return data


def _opened(path: Path, scale: int) -> Capture | None:
    """The capture of a complete file with this reduction; None if there is none."""
    try:
        stream = open(path, "rb")  # noqa: SIM115 - open as long as a frame reads from it
    except OSError:
        return None
    try:
        content, arrays = _index(stream)
    except (ValueError, KeyError, OSError):
        stream.close()
        return None
    if content["scale"] != scale:
        stream.close()
        return None
    tiles = _Tiles(stream)
    frames = [_frame(entry, number, arrays, tiles, scale) for number, entry in enumerate(content["frames"])]
    light = EnvironmentLight(arrays["light"]) if "light" in arrays else None
    original = None if content["original"] is None else np.array(content["original"])
    return Capture([*frames], light, original)


def _index(stream: BinaryIO) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """What the file says of itself; ValueError if it is not whole."""
    size = os.fstat(stream.fileno()).st_size
    if stream.read(len(_MAGIC)) != _MAGIC or size < len(_MAGIC) + _FOOTER:
        raise ValueError("no file of tiles")
    stream.seek(size - _FOOTER)
    footer = stream.read(_FOOTER)
    place, length = (int.from_bytes(footer[k : k + 8], "little") for k in (0, 8))
    if place + length != size - _FOOTER:
        raise ValueError("truncated")
    stream.seek(place)
    data = stream.read(length)
    if hashlib.sha256(data).digest() != footer[16:]:
        raise ValueError("damaged")
    with np.load(io.BytesIO(data), allow_pickle=False) as found:
        arrays = dict(found)
    return json.loads(arrays.pop("content").tobytes()), arrays


def _frame(entry: dict[str, Any], number: int, arrays: dict[str, np.ndarray], tiles: _Tiles, scale: int) -> StoredFrame:
    fields = dict(entry)
    camera = Camera(np.array(fields["camera"].pop("camera_to_world")), **fields.pop("camera"))
    summary = fields.pop("mask")
    summary["box"] = None if summary["box"] is None else tuple(summary["box"])
    summary["centre"] = tuple(summary["centre"])
    fields["object_to_world"] = np.array(fields["object_to_world"])
    for name in ("white_balance", "divided_by"):
        fields[name] = None if fields.get(name) is None else tuple(fields[name])
    whole = _level(arrays, number, camera.height, camera.width, 1)
    small = None if scale == 1 else _level(arrays, number, camera.height, camera.width, scale)

    def reduced(wanted: int) -> Pixels | None:
        return None if small is None or wanted != scale else tiles.window(small, 0, 0, small.width, small.height)

    frame = StoredFrame(
        fields.pop("name"), camera, lambda: tiles.window(whole, 0, 0, camera.width, camera.height),
        camera.width * camera.height, window=lambda *sides: tiles.window(whole, *sides), small=reduced, **fields,
    )  # fmt: skip
    return frame.with_summaries({mask_summary: MaskSummary(**summary)})


def _level(arrays: dict[str, np.ndarray], number: int, height: int, width: int, scale: int) -> _Level:
    return _Level(height // scale, width // scale, arrays[f"offset{scale}"][number], arrays[f"kind{scale}"][number])


def _write(path: Path, capture: Capture, scale: int) -> None:
    lock, count = threading.Lock(), len(capture.frames)
    entries: list[dict[str, Any]] = [{}] * count
    places: dict[int, list[Any]] = {level: [None] * count for level in {1, scale}}
    try:
        with atomic_path(path) as temporary, open(temporary, "wb") as stream:
            stream.write(_MAGIC)

            def work(frame: Frame, number: int) -> None:
                loaded = frame.loaded()
                for level in places:
                    known = loaded.known_reduced(level)
                    pieces = [_encoded(values) for values in _tiles_of(*loaded.reduced(level), known)]
                    with lock:
                        offsets = [stream.tell()]
                        for _, data in pieces:
                            stream.write(data)
                            offsets.append(offsets[-1] + len(data))
                    places[level][number] = offsets[:-1], [kind for kind, _ in pieces]
                entries[number] = _entry(loaded)

            for_each_frame(capture.frames, work, range(count))
            arrays: dict[str, Any] = {}
            for level in places:
                shapes = [
                    (-(-(f.camera.height // level) // TILE), -(-(f.camera.width // level) // TILE))
                    for f in capture.frames
                ]
                if len(set(shapes)) > 1:
                    raise StspbrError("frames of several sizes: all frames of a capture need one size")
                offset, kind = (np.array(part).reshape(count, *shapes[0]) for part in zip(*places[level], strict=True))
                arrays |= {f"offset{level}": offset.astype(np.int64), f"kind{level}": kind.astype(np.uint8)}
            if capture.light is not None:
                arrays["light"] = np.asarray(capture.light.radiance)
            original = None if capture.original_from_world is None else np.asarray(capture.original_from_world).tolist()
            content = json.dumps({"frames": entries, "original": original, "scale": scale}).encode()
            data = io.BytesIO()
            arrays["content"] = np.frombuffer(content, np.uint8)
            np.savez(data, **arrays)
            index, place = data.getvalue(), stream.tell()
            stream.write(index + place.to_bytes(8, "little") + len(index).to_bytes(8, "little"))
            stream.write(hashlib.sha256(index).digest())
            stream.flush()
            os.fsync(stream.fileno())
    except OSError as error:
        raise StspbrError(f"cannot write {path} ({error.strerror}): make room, or choose another run") from error


def _entry(frame: Frame) -> dict[str, Any]:
    camera = {**vars(frame.camera), "camera_to_world": np.asarray(frame.camera.camera_to_world, np.float64).tolist()}
    return {
        "name": frame.name,
        "camera": {name: value if name == "camera_to_world" else float(value) for name, value in camera.items()}
        | {"width": int(frame.camera.width), "height": int(frame.camera.height)},
        "object_to_world": np.asarray(frame.object_to_world, np.float64).tolist(),
        "split": frame.split,
        "saturation": float(frame.saturation),
        "exposure": frame.exposure,
        "white_balance": frame.white_balance,
        "divided_by": frame.divided_by,
        "mask": asdict(frame.summary(mask_summary)),
    }


def _tiles_of(image: np.ndarray, alpha: np.ndarray, known: np.ndarray | None) -> Iterator[np.ndarray]:
    layers = [image, alpha] if known is None else [image, alpha, known]
    for top in range(0, image.shape[0], TILE):
        for left in range(0, image.shape[1], TILE):
            part = slice(top, top + TILE), slice(left, left + TILE)
            yield np.concatenate([layer[part] for layer in layers], axis=2)


def _encoded(values: np.ndarray) -> tuple[int, bytes]:
    """How a tile ``[h, w, 4]`` (or 5, with known) is stored, and its bytes."""
    if values.shape[2] == 5:
        if not (values[..., 4] == 1).all():
            return _KNOWN, values.astype("<f4").tobytes()
        values = values[..., :4]
    if not values.any():
        return _EMPTY, b""
    with np.errstate(over="ignore"):
        half = values.astype("<f2")
    if not np.array_equal(half.astype(np.float32), values):
        return _FLOAT, values.astype("<f4").tobytes()
    if (values[..., 3] == 1).all():
        return _OPAQUE, half[..., :3].tobytes()
    return _HALF, half.tobytes()


def _clear(path: Path) -> None:
    """Remove the other files of tiles, and those that nobody writes any more."""
    for other in path.parent.glob(f"*{path.suffix}") if path.parent.is_dir() else ():
        try:
            if not other.name.startswith(".") or time.time() - other.stat().st_mtime > _ABANDONED:
                other.unlink()
        except OSError:  # another process was quicker, or still reads it and its system forbids
            continue
