"""Writing Radiance HDR (RGBE): shared-exponent pixels, run-length coded scanlines.

Own code, because OpenImageIO cuts mantissas off instead of rounding them.
Format: G. Ward, "Real Pixels", Graphics Gems II (1991), and Radiance's file format notes.
"""

from __future__ import annotations

import numpy as np


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
