"""Reading Radiance pictures (.hdr, .pic): RGBE and XYZE, in all eight orders of the format, flat or run-length coded.

Format: G. Ward, Radiance's file format notes. Lines EXPOSURE and COLORCORR have what the pixels were multiplied by,
all of them together: the radiance is the pixel divided by their product. PRIMARIES other than sRGB's are converted, but
not the default of Radiance itself, which programs write that mean sRGB.
"""

from __future__ import annotations

import re
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from stspbr.formats.exif import upright
from stspbr.formats.primaries import name_of, srgb_from, srgb_from_xyz, white_of

_DEFAULT = (0.640, 0.330, 0.290, 0.600, 0.150, 0.060, 0.3333, 0.3333)  # Radiance's own primaries
_SIZE = re.compile(rb"^([-+])([XY])[ \t]+(\d+)[ \t]+([-+])([XY])[ \t]+(\d+)[ \t]*\r?\n", re.MULTILINE)
_ORIENTATIONS = {  # signs of the axis of scanlines, and of that along them: Exif's numbers
    (b"Y", b"-", b"+"): 1, (b"Y", b"-", b"-"): 2, (b"Y", b"+", b"-"): 3, (b"Y", b"+", b"+"): 4,
    (b"X", b"+", b"-"): 5, (b"X", b"-", b"-"): 6, (b"X", b"-", b"+"): 7, (b"X", b"+", b"+"): 8,
}  # fmt: skip


@dataclass(frozen=True)
class RadianceHeader:
    """What the text before the pixels says.

    Attributes:
        width, height: of the upright picture; orientation: Exif's number for how it is stored.
        multiplier: ``[3]``: by what the radiance was multiplied.
        matrix: ``[3, 3]`` from the pixels' colours to linear sRGB; None: they are.
        start: of the pixels in the file.
        notes: what is converted or left out.
    """

    width: int
    height: int
    orientation: int
    multiplier: np.ndarray
    matrix: np.ndarray | None
    start: int
    notes: list[str] = field(default_factory=list)


def is_radiance(data: bytes) -> bool:
    """Whether a file begins as Radiance pictures do; some lack the first line."""
    return data.startswith((b"#?", b"FORMAT=32-bit_rle_")) or b"\nFORMAT=32-bit_rle_" in data[: 1 << 12]


def read_header(data: bytes) -> RadianceHeader:
    """Parse the header.

    Raises:
        ValueError: it is not complete.
    """
    size = _SIZE.search(data[: 1 << 16])
    if size is None:
        raise ValueError("its header has no line of the size, such as -Y 512 +X 1024")
    first_sign, first, rows, second_sign, second, columns = size.groups()
    if first == second:
        raise ValueError(f"its size {size[0].decode().strip()} has one axis twice")
    lines = [line.strip(b"\0") for line in re.split(rb"\r?\n|\r", data[: size.start()])]
    values: dict[bytes, list[bytes]] = {}
    for line in lines:
        name, equals, value = line.partition(b"=")
        if equals and not line[:1].isspace():  # indented lines are of the pictures that this one was made from
            values.setdefault(name.strip().upper(), []).append(value.strip())
    multiplier = np.ones(3)
    for name, count in ((b"EXPOSURE", 1), (b"COLORCORR", 3)):
        for value in values.get(name, []):
            multiplier = multiplier * _numbers(name, value, count)
    if (multiplier <= 0).any() or not np.isfinite(multiplier).all():
        raise ValueError("its EXPOSURE or COLORCORR is not positive")
    notes = [] if np.allclose(multiplier, 1.0) else ["its pixels are divided by its EXPOSURE and COLORCORR"]
    kind = values.get(b"FORMAT", [b"32-bit_rle_rgbe"])[-1]
    if kind not in (b"32-bit_rle_rgbe", b"32-bit_rle_xyze"):
        raise ValueError(f"its FORMAT is {kind.decode('latin-1')}, not 32-bit_rle_rgbe or 32-bit_rle_xyze")
    primaries = _numbers(b"PRIMARIES", values[b"PRIMARIES"][-1], 8) if b"PRIMARIES" in values else np.array(_DEFAULT)
    plain = np.abs(primaries - _DEFAULT).max() < 2e-3
    if kind.endswith(b"xyze"):
        white = white_of(_DEFAULT)
        matrix: np.ndarray | None = srgb_from_xyz(white)
        notes.append("its XYZ is converted to sRGB's primaries")
    else:
        matrix = None if plain else srgb_from(tuple(primaries))
        notes += [] if matrix is None else [f"{name_of(tuple(primaries))}: converted to sRGB's primaries"]
    if any(_numbers(b"GAMMA", value, 1)[0] not in (0.0, 1.0) for value in values.get(b"GAMMA", [])):
        notes.append("its line GAMMA is left out: Radiance pixels are linear")
    turned = first == b"X"
    width, height = (int(rows), int(columns)) if turned else (int(columns), int(rows))
    orientation = _ORIENTATIONS[first, first_sign, second_sign]
    return RadianceHeader(width, height, orientation, multiplier, matrix, size.end(), notes)


def read_radiance(data: bytes) -> tuple[np.ndarray, RadianceHeader]:
    """Linear pixels ``[H, W, 3]`` float32, upright, in the file's own primaries, and the header.

    Raises:
        ValueError: the file is cut off or not of this format.
    """
    header = read_header(data)
    turned = header.orientation >= 5
    count, length = (header.width, header.height) if turned else (header.height, header.width)
    body = data[header.start :]
    if count * length == 0 or count * length > 64 * len(body):  # no coding makes 64 pixels of a byte
        raise ValueError(f"{len(body)} bytes cannot hold {header.width}x{header.height} pixels")
    if 8 <= length <= 32767 and body[:4] == bytes((2, 2, length >> 8, length & 255)):
        pixels = _by_oiio(body, length, count)
    else:
        rgbe = _flat(body, count * length).reshape(count, length, 4)
        scale = np.ldexp(np.float32(1), rgbe[..., 3:].astype(np.int32) - 136)
        pixels = np.where(rgbe[..., 3:] > 0, rgbe[..., :3] * scale, np.float32(0)).astype(np.float32)
    return upright(pixels, header.orientation) / header.multiplier.astype(np.float32), header


def _by_oiio(body: bytes, width: int, height: int) -> np.ndarray:
    """Scanlines in today's run-length coding, each channel by itself."""
    import OpenImageIO as oiio

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "picture.hdr")
        path.write_bytes(b"#?RADIANCE\nFORMAT=32-bit_rle_rgbe\n\n-Y %d +X %d\n" % (height, width) + body)
        file = oiio.ImageInput.open(str(path))
        pixels = None if file is None else file.read_image(0, 0, 0, 3, oiio.FLOAT)
        if file is None or pixels is None or file.has_error:
            raise ValueError(oiio.geterror() if file is None else file.geterror())
        return np.asarray(pixels, np.float32).reshape(height, width, 3)


def _flat(body: bytes, count: int) -> np.ndarray:
    """RGBE ``[count, 4]`` of pixels that are stored one by one, or in the oldest run-length coding.

    There a pixel (1, 1, 1, n) repeats the pixel before n times; each further one of these counts 256 times as much.
    """
    pixels = np.frombuffer(body, np.uint8, len(body) // 4 * 4).reshape(-1, 4)
    is_run = (pixels[:, :3] == 1).all(axis=1)
    if is_run[:1].any():
        raise ValueError("it begins with a repetition")
    at = np.arange(len(pixels))
    last = np.maximum.accumulate(np.where(is_run, 0, at))
    digits = np.minimum(at - last - 1, 3)  # 256^4 pixels are more than there can be
    times = np.where(is_run, pixels[:, 3].astype(np.int64) << (8 * np.maximum(digits, 0)), 1)
    ends = np.cumsum(np.minimum(times, count))
    used = int(np.searchsorted(ends, count)) + 1
    if used > len(pixels):
        raise ValueError("it is cut off")
    return np.repeat(pixels[last[:used]], np.minimum(times[:used], count), axis=0)[:count]


def _numbers(name: bytes, value: bytes, count: int) -> np.ndarray:
    try:
        numbers = np.array([float(part) for part in value.split()])
    except ValueError:
        numbers = np.zeros(0)
    if len(numbers) != count:
        raise ValueError(f"its line {name.decode()}={value.decode('latin-1')} does not hold {count} numbers")
    return numbers
