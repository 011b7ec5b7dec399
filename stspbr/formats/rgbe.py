"""Radiance HDR (RGBE) in memory: shared-exponent pixels, run-length coded scanlines.

Own code, because imageio's HDR plugins need a downloaded FreeImage or OpenCV.
Format: G. Ward, "Real Pixels", Graphics Gems II (1991), and Radiance's file format notes.
"""

from __future__ import annotations

import re

import numpy as np


def decode_rgbe(data: bytes) -> np.ndarray:
    """Linear radiance ``[H, W, 3]`` float32, row 0 at the top, of a Radiance file's bytes.

    ``EXPOSURE=`` lines are divided out. ValueError where the bytes are no such file, are truncated, or hold XYZ.
    """
    if not data.startswith((b"#?RADIANCE", b"#?RGBE")):
        raise ValueError("no Radiance file")
    end = data.find(b"\n\n")
    resolution_end = data.find(b"\n", end + 2)
    if end < 0 or resolution_end < 0:
        raise ValueError("the header is truncated")
    header = data[:end]
    if b"32-bit_rle_xyze" in header:
        raise ValueError("XYZE pixels are not supported, only RGBE")
    match = re.fullmatch(rb"([-+])Y (\d+) ([-+])X (\d+)\r?", data[end + 2 : resolution_end])
    if not match:
        raise ValueError("unknown resolution line")
    height, width = int(match[2]), int(match[4])
    pixels = _decode_scanlines(data, resolution_end + 1, height, width)
    if match[1] == b"+":
        pixels = pixels[::-1]
    if match[3] == b"-":
        pixels = pixels[:, ::-1]
    exponent = pixels[..., 3:].astype(np.int32)
    scale = np.where(exponent == 0, np.float32(0), np.ldexp(np.float32(1), exponent - 136))
    exposure = np.prod([float(v) for v in re.findall(rb"^EXPOSURE=\s*([0-9.eE+-]+)", header, re.MULTILINE)])
    # As most readers take it (Mitsuba among them): without the half step that Radiance itself adds to a mantissa.
    radiance = pixels[..., :3].astype(np.float32) * scale.astype(np.float32)
    return np.ascontiguousarray(radiance / np.float32(exposure))


def encode_rgbe(radiance: np.ndarray) -> bytes:
    """A Radiance file's bytes of linear ``[H, W, 3]`` values, finite and not negative; 8-bit mantissas."""
    rgb = np.asarray(radiance, dtype=np.float32)
    height, width, _ = rgb.shape
    top = rgb.max(axis=-1, keepdims=True)
    _, exponent = np.frexp(top)
    exponent = exponent.astype(np.int32)
    exponent += np.rint(np.ldexp(top, 8 - exponent)) > 255  # 255.5 and more rounds up into the next exponent
    lit = (top > 0) & (exponent > -128)
    mantissa = np.rint(np.ldexp(rgb, 8 - exponent))
    pixels = np.zeros((height, width, 4), np.uint8)
    pixels[..., :3] = np.where(lit, mantissa, 0)
    pixels[..., 3:] = np.where(lit, exponent + 128, 0)
    header = f"#?RADIANCE\nFORMAT=32-bit_rle_rgbe\n\n-Y {height} +X {width}\n".encode()
    if not 8 <= width <= 32767:
        return header + pixels.tobytes()
    lead = bytes((2, 2, width >> 8, width & 255))
    return header + b"".join(lead + b"".join(_encode_run(row[:, c]) for c in range(4)) for row in pixels)


def _decode_scanlines(data: bytes, at: int, height: int, width: int) -> np.ndarray:
    out = np.empty((height, width, 4), np.uint8)
    lead = bytes((2, 2, width >> 8 & 255, width & 255))
    for row in range(height):
        if 8 <= width <= 32767 and data[at : at + 4] == lead:
            at = _decode_row(data, at + 4, out[row])
        else:
            at = _decode_flat_row(data, at, out[row])
    return out


def _decode_row(data: bytes, at: int, row: np.ndarray) -> int:
    """One scanline whose channels are coded one after the other."""
    planes, wanted = bytearray(), 4 * len(row)
    try:
        while len(planes) < wanted:
            count = data[at]
            if count > 128:
                planes += data[at + 1 : at + 2] * (count - 128)
                at += 2
            else:
                planes += data[at + 1 : at + 1 + count]
                at += 1 + count
            if count == 0:
                raise ValueError("a run of length 0")
    except IndexError:
        raise ValueError("the pixels are truncated") from None
    if len(planes) != wanted or at > len(data):
        raise ValueError("the pixels are truncated or corrupt")
    row[:] = np.frombuffer(bytes(planes), np.uint8).reshape(4, -1).T
    return at


def _decode_flat_row(data: bytes, at: int, row: np.ndarray) -> int:
    """One scanline of plain pixels, in which (1, 1, 1, n) repeats the last pixel as the oldest files have it."""
    width = len(row)
    plain = np.frombuffer(data, np.uint8, min(4 * width, len(data) - at) // 4 * 4, at).reshape(-1, 4)
    if len(plain) == width and not (plain[:, :3] == 1).all(axis=1).any():
        row[:] = plain
        return at + 4 * width
    column, shift = 0, 0
    while column < width:
        pixel = data[at : at + 4]
        if len(pixel) < 4:
            raise ValueError("the pixels are truncated")
        at += 4
        if pixel[:3] == b"\1\1\1":
            count = pixel[3] << shift
            if column == 0 or column + count > width:
                raise ValueError("a run leaves its scanline")
            row[column : column + count] = row[column - 1]
            column, shift = column + count, shift + 8
        else:
            row[column] = np.frombuffer(pixel, np.uint8)
            column, shift = column + 1, 0
    return at


def _encode_run(values: np.ndarray) -> bytes:
    """One channel of one scanline: runs of four and more as runs, the rest as they are."""
    raw, width = values.tobytes(), len(values)
    edges = np.flatnonzero(np.diff(values)) + 1
    starts = np.concatenate(([0], edges))
    lengths = np.diff(np.concatenate((starts, [width])))
    long = lengths >= 4
    out, done = bytearray(), 0
    for start, length in zip(starts[long].tolist(), lengths[long].tolist(), strict=True):
        _encode_literal(out, raw, done, start)
        done = start + length
        while length > 0:
            count = min(length, 127)
            out += bytes((128 + count, raw[start]))
            length -= count
    _encode_literal(out, raw, done, width)
    return bytes(out)


def _encode_literal(out: bytearray, raw: bytes, start: int, end: int) -> None:
    for at in range(start, end, 128):
        out.append(min(128, end - at))
        out += raw[at : min(at + 128, end)]
