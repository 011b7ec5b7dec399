"""Image files: PNG, JPEG and TIFF of 8 and 16 bits, OpenEXR, Radiance HDR.

Two kinds of reading: :func:`read_image` gives linear radiance for frames and lights, :func:`read_pixels` the stored
numbers for textures and data maps. PNG alpha is straight, EXR alpha is premultiplied; frames are premultiplied.
"""

from __future__ import annotations

import functools
import io
import os
import re
import struct
import sys
import zlib
from pathlib import Path
from typing import Any

import numpy as np

from stspbr.colour import linear_to_srgb, srgb_to_linear
from stspbr.errors import StspbrError
from stspbr.files import atomic_path

LDR_SUFFIXES = (".png", ".jpg", ".jpeg", ".tif", ".tiff")
HDR_SUFFIXES = (".exr", ".hdr")
IMAGE_SUFFIXES = LDR_SUFFIXES + HDR_SUFFIXES
_HALF_MAX = 65504.0
_JPEG_MAGIC = (b"\xff\xd8\xff\xe0", b"\xff\xd8\xff\xe1", b"\xff\xd8\xff\xdb")


def read_image(path: str | os.PathLike[str], *, upright: bool = False) -> tuple[np.ndarray, np.ndarray | None, float]:
    """Read a photograph, a render or a light.

    PNG, JPEG and TIFF are decoded from sRGB; EXR and HDR are taken as linear.

    Args:
        upright: turn a photograph as its Exif orientation says. Data sets that come with poses mean the pixels as
            they are stored.

    Returns:
        rgb ``[H, W, 3]`` float32 linear, premultiplied where there is alpha; alpha ``[H, W, 1]`` float32 or None;
        the linear value at which the file clips: 1 for PNG, JPEG and TIFF, inf for EXR and HDR.

    Raises:
        StspbrError: the file is missing, corrupt or truncated, or of another kind.
    """
    path = Path(path)
    if path.suffix.lower() in HDR_SUFFIXES:
        channels = _read_hdr(path)
        rgb, alpha = _split_alpha(channels)
        return np.ascontiguousarray(rgb), alpha, float("inf")
    stored = _read_integers(path, upright=upright)
    table = _srgb_table(stored.dtype.itemsize)
    colour, coverage = _split_alpha(stored)
    rgb = table[colour]
    if coverage is None:
        return rgb, None, 1.0
    alpha = _to_unit(coverage)
    return rgb * alpha, alpha, 1.0


def read_pixels(source: str | os.PathLike[str] | bytes, name: str | None = None) -> np.ndarray:
    """The stored numbers of an image file or of its bytes: no transfer function, no premultiplication.

    Returns:
        ``[H, W, C]`` float32 with C in 1..4; PNG, JPEG and TIFF in [0, 1] with their 8 or 16 bits, EXR and HDR as they
        are.

    Raises:
        StspbrError: as :func:`read_image`; ``name`` says where ``bytes`` came from.
    """
    if not isinstance(source, bytes) and Path(source).suffix.lower() in HDR_SUFFIXES:
        return _read_hdr(Path(source))
    return _to_unit(_read_integers(source, name))


def image_size(path: str | os.PathLike[str]) -> tuple[int, int]:
    """Width and height from the file's head alone; (0, 0) for a file that cannot be read, whose reading says why."""
    from PIL import Image

    path = Path(path)
    try:
        if path.suffix.lower() == ".exr":
            import OpenEXR

            left, top, right, bottom = np.ravel(OpenEXR.File(str(path), header_only=True).header()["displayWindow"])
            return int(right - left + 1), int(bottom - top + 1)
        if path.suffix.lower() == ".hdr":
            with path.open("rb") as stream:
                sides = dict(re.findall(rb"[-+]([XY]) (\d+)", stream.read(4096)))
            return int(sides[b"X"]), int(sides[b"Y"])
        with Image.open(path, formats=("PNG", "JPEG", "TIFF")) as image:
            return image.size
    except Exception:  # decoders raise nearly anything on corrupt bytes
        return 0, 0


def write_png8(path: str | os.PathLike[str], image: np.ndarray, *, srgb: bool, alpha: np.ndarray | None = None) -> None:
    """Write ``[H, W, 1|3]`` values as an 8-bit PNG, clipped to [0, 1] and rounded.

    Args:
        srgb: True for linear colours that are to be sRGB-encoded; False for data maps, stored as they are.
        alpha: ``[H, W, 1]`` straight coverage (``image`` is then not premultiplied), or None.
    """
    with atomic_path(path) as temporary:
        temporary.write_bytes(encode_png(image, bits=8, srgb=srgb, alpha=alpha))


def write_png16(
    path: str | os.PathLike[str], image: np.ndarray, *, srgb: bool, alpha: np.ndarray | None = None
) -> None:
    """As :func:`write_png8` with 16 bits a channel."""
    with atomic_path(path) as temporary:
        temporary.write_bytes(encode_png(image, bits=16, srgb=srgb, alpha=alpha))


def write_map(path: str | os.PathLike[str], image: np.ndarray, *, srgb: bool, bits: int = 8) -> None:
    """Write a texture ``[H, W, 1|3]`` as its suffix says: a PNG of ``bits``, or an EXR of floats, always linear."""
    if Path(path).suffix.lower() == ".exr":
        write_exr(path, np.broadcast_to(image, (*image.shape[:2], 3)))
    else:
        {8: write_png8, 16: write_png16}[bits](path, image, srgb=srgb)


def write_exr(
    path: str | os.PathLike[str], image: np.ndarray, *, alpha: np.ndarray | None = None, half: bool = False
) -> None:
    """Write linear ``[H, W, 3]`` (premultiplied by ``alpha`` where that is given) as a ZIP-compressed EXR.

    Half floats end at 65504: larger values are an error (StspbrError), not infinities.
    """
    import OpenEXR

    pixels = np.asarray(image, np.float32)
    if half and pixels.size and float(np.abs(pixels).max()) > _HALF_MAX:
        raise StspbrError(f"{path}: radiance above {_HALF_MAX:g} does not fit half floats: write it as float")
    pixels = pixels if alpha is None else np.concatenate([pixels, np.asarray(alpha, np.float32)], axis=-1)
    pixels = np.ascontiguousarray(pixels.astype(np.float16 if half else np.float32))
    header = {"compression": OpenEXR.ZIP_COMPRESSION, "type": OpenEXR.scanlineimage}
    with atomic_path(path) as temporary:
        OpenEXR.File(header, {"RGB" if alpha is None else "RGBA": pixels}).write(str(temporary))


def write_hdr(path: str | os.PathLike[str], image: np.ndarray) -> None:
    """Write linear ``[H, W, 3]``, finite and not negative, as Radiance HDR (8-bit mantissas, shared exponent)."""
    from stspbr.formats.rgbe import encode_rgbe

    image = np.asarray(image, np.float32)
    if not np.isfinite(image).all() or (image < 0).any():
        raise StspbrError(f"{path}: Radiance HDR holds finite values of at least 0 only: clean the image, or write EXR")
    with atomic_path(path) as temporary:
        temporary.write_bytes(encode_rgbe(image))


def encode_png(image: np.ndarray, *, bits: int, srgb: bool, alpha: np.ndarray | None = None) -> bytes:
    """A PNG's bytes; the arguments are those of :func:`write_png8`. The same pixels give the same bytes."""
    if bits not in (8, 16):
        raise ValueError("a PNG has 8 or 16 bits")
    values = np.asarray(image, np.float32)
    if values.ndim != 3 or values.shape[-1] not in (1, 3) or values.size == 0:
        raise ValueError(f"expected [H, W, 1 or 3] pixels, got {values.shape}")
    values = linear_to_srgb(np.clip(values, 0, 1)) if srgb else np.clip(values, 0, 1)
    if alpha is not None:
        values = np.concatenate([values, np.clip(np.asarray(alpha, np.float32), 0, 1)], axis=-1)
    top = 2**bits - 1
    stored = np.rint(values.astype(np.float64) * top).astype(">u2" if bits == 16 else np.uint8)
    height, width, channels = stored.shape
    rows = stored.view(np.uint8).reshape(height, -1)
    filtered = rows.copy()
    filtered[1:] -= rows[:-1]  # the "up" filter: smooth maps compress well, and it is one NumPy operation
    scanlines = np.concatenate([np.full((height, 1), 2, np.uint8), filtered], axis=1)
    colour_type = {1: 0, 2: 4, 3: 2, 4: 6}[channels]
    head = struct.pack(">IIBBBBB", width, height, bits, colour_type, 0, 0, 0)
    body = zlib.compress(scanlines.tobytes(), 6)
    chunks = ((b"IHDR", head), (b"IDAT", body), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)) for kind, data in chunks
    )


def _read_integers(
    source: str | os.PathLike[str] | bytes, name: str | None = None, *, upright: bool = False
) -> np.ndarray:
    """PNG, JPEG or TIFF pixels ``[H, W, C]`` as uint8 or uint16."""
    where = name or ("image" if isinstance(source, bytes) else str(source))
    data = source if isinstance(source, bytes) else _read_bytes(Path(source))
    from PIL import Image

    from stspbr.formats import exif

    try:
        with Image.open(io.BytesIO(data), formats=("PNG", "JPEG", "TIFF")) as image:
            # Pillow itself turns a TIFF upright, whose orientation is no afterthought but part of the format
            turn = image.getexif().get(exif.ORIENTATION, 1) if upright and image.format != "TIFF" else 1
            pixels = _decode_integers(image, data)
    except StspbrError as error:
        raise StspbrError(f"{where} {error}") from error
    except Exception as error:  # decoders raise nearly anything on corrupt bytes
        known = data[:4] in (b"\x89PNG", *_JPEG_MAGIC, b"II*\0", b"MM\0*")
        what = "is truncated or corrupt" if known else "is no PNG, JPEG or TIFF image"
        raise StspbrError(f"{where} {what} ({_reason(error)}): export or copy it again") from error
    return exif.upright(pixels.reshape(*pixels.shape[:2], -1), turn)


def _decode_integers(image: Any, data: bytes) -> np.ndarray:
    """Pixels of an opened Pillow image, with all the bits of the file."""
    if image.format == "PNG" and data[24] == 16:
        return _decode_png16(data, channels={0: 1, 2: 3, 4: 2, 6: 4}[data[25]])
    if image.format == "TIFF":
        bits, kind = set(image.tag_v2.get(258, (1,))), set(image.tag_v2.get(339, (1,)))
        if kind != {1} or max(bits) > 16:
            raise StspbrError("is a TIFF of floating-point or 32-bit numbers: save it as EXR, or with 8 or 16 bits")
        if bits == {16}:
            return _decode_tiff16(data)
    transparent = image.mode in ("P", "L", "RGB") and "transparency" in image.info
    if transparent or image.mode == "P":
        image = image.convert("RGBA" if transparent else "RGB")
    elif image.mode not in ("L", "LA", "RGB", "RGBA"):
        image = image.convert("L" if image.mode in ("1", "I", "I;16", "F") else "RGB")
    return np.asarray(image)


def _decode_tiff16(data: bytes) -> np.ndarray:
    """All 16 bits of a TIFF: as for PNG, the two bytes of each number are asked for one after the other."""
    from PIL import Image

    def decode(swapped: bool) -> np.ndarray:
        with Image.open(io.BytesIO(data), formats=("TIFF",)) as image:
            if image.mode.startswith("I;16"):
                return np.asarray(image).astype(np.uint16)
            modes = {tile.args[0] for tile in image.tile}
            if not all(re.fullmatch(r"(RGB|RGBA|RGBX);16[BLN]", mode) for mode in modes):
                raise StspbrError("is a TIFF of 16 bits in planes or with premultiplied alpha: save it interleaved")
            if swapped:
                other = {"B": "L", "L": "B", "N": "B" if sys.byteorder == "little" else "L"}
                image.tile = [
                    tile._replace(args=(tile.args[0][:-1] + other[tile.args[0][-1]], *tile.args[1:]))
                    for tile in image.tile
                ]
            return np.asarray(image).astype(np.uint16)

    high = decode(swapped=False)
    return high if high.ndim == 2 else high << 8 | decode(swapped=True)


def _decode_png16(data: bytes, channels: int) -> np.ndarray:
    """All 16 bits of a PNG: Pillow keeps the high bytes only, so it is asked once for these and once for the others."""
    from PIL import Image

    def decode(rawmode: str) -> np.ndarray:
        with Image.open(io.BytesIO(data), formats=("PNG",)) as image:
            image.tile = [tile._replace(args=rawmode) for tile in image.tile]
            pixels = np.asarray(image)
        return pixels.reshape(*pixels.shape[:2], -1).astype(np.uint16)

    if channels == 1:
        return decode("I;16B")
    if channels == 2:  # grey with alpha has the four bytes of an RGBA pixel
        halves = decode("RGBA")
        return halves[..., 0::2] << 8 | halves[..., 1::2]
    mode = "RGB" if channels == 3 else "RGBA"
    return decode(f"{mode};16B") << 8 | decode(f"{mode};16L")


def _read_hdr(path: Path) -> np.ndarray:
    """EXR or Radiance pixels ``[H, W, C]`` float32."""
    data = _read_bytes(path)
    try:
        if path.suffix.lower() == ".hdr":
            from stspbr.formats.rgbe import decode_rgbe

            return decode_rgbe(data)
        return _decode_exr(path)
    except StspbrError:
        raise
    except Exception as error:
        raise StspbrError(f"{path} is truncated or corrupt ({_reason(error)}): export or copy it again") from error


def _decode_exr(path: Path) -> np.ndarray:
    import OpenEXR

    with OpenEXR.File(str(path), separate_channels=True) as file:
        channels = {name.rpartition(".")[2]: channel.pixels.copy() for name, channel in file.channels().items()}
        windows = {key: np.array(file.header()[key], int) for key in ("displayWindow", "dataWindow")}
    names = next((n for n in ("RGBA", "RGB", "YA", "Y") if all(c in channels for c in n)), None)
    if names is None:
        held = ", ".join(channels)
        raise StspbrError(f"{path} has no channels R, G, B or Y (it has: {held}): export the beauty image")
    pixels = np.stack([np.asarray(channels[name], np.float32) for name in names], axis=-1)
    (left, top), (right, bottom) = windows["displayWindow"]
    x, y = windows["dataWindow"][0] - (left, top)
    if (x, y) == (0, 0) and pixels.shape[:2] == (bottom - top + 1, right - left + 1):
        return np.ascontiguousarray(pixels)
    # A cropped render: what lies outside the data window is black and empty.
    out = np.zeros((bottom - top + 1, right - left + 1, pixels.shape[-1]), np.float32)
    x0, y0 = max(x, 0), max(y, 0)
    part = pixels[y0 - y : out.shape[0] - y, x0 - x : out.shape[1] - x]
    out[y0 : y0 + part.shape[0], x0 : x0 + part.shape[1]] = part
    return out


def _read_bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        raise StspbrError(f"{path} does not exist: check the path") from None
    except OSError as error:
        raise StspbrError(f"{path} cannot be read ({error.strerror}): check the path") from error


def _split_alpha(pixels: np.ndarray) -> tuple[np.ndarray, np.ndarray | None]:
    """Colour with three channels, and alpha or None."""
    count = pixels.shape[-1]
    colour = pixels[..., :3] if count >= 3 else np.repeat(pixels[..., :1], 3, axis=-1)
    return colour, np.ascontiguousarray(pixels[..., -1:]) if count in (2, 4) else None


def _to_unit(stored: np.ndarray) -> np.ndarray:
    return stored.astype(np.float32) / np.float32(np.iinfo(stored.dtype).max)


@functools.cache
def _srgb_table(item_size: int) -> np.ndarray:
    top = 2 ** (8 * item_size) - 1
    return srgb_to_linear(np.arange(top + 1) / top)


def _reason(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
