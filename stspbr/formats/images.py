"""Image files, decoded by OpenImageIO, or by imageio if OpenImageIO cannot read the kind (AVIF, PCX).

Two kinds of reading: :func:`read_image` gives linear radiance for frames and lights, :func:`read_pixels` the stored
numbers for textures and data maps. PNG alpha is straight, EXR alpha is premultiplied; frames are premultiplied.
"""

from __future__ import annotations

import functools
import os
import re
import struct
import tempfile
import warnings
import zlib
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from stspbr.colour import linear_to_srgb, srgb_to_linear
from stspbr.errors import StspbrError, first_line
from stspbr.files import atomic_path, read_file, write_file

if TYPE_CHECKING:
    import OpenImageIO

FilePath = str | os.PathLike[str]
LDR_SUFFIXES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".webp", ".avif", ".bmp", ".tga")
HDR_SUFFIXES = (".exr", ".hdr")
IMAGE_SUFFIXES = LDR_SUFFIXES + HDR_SUFFIXES
_HALF_MAX = 65504.0
_PNG_MAGIC = b"\x89PNG\r\n\x1a\n"


def read_image(path: FilePath, *, upright: bool = False) -> tuple[np.ndarray, np.ndarray | None, float]:
    """Read a photograph, a render or a light.

    Integers (PNG, JPEG, most TIFF, WebP …) are decoded from sRGB; floats (EXR, HDR, float TIFF) are taken as linear.

    Args:
        upright: turn a photograph by its Exif orientation. Data sets that come with poses mean the pixels as
            they are stored. TIFF and HDR, whose orientation is part of the format, always come upright.

    Returns:
        rgb ``[H, W, 3]`` float32 linear, premultiplied if there is alpha; alpha ``[H, W, 1]`` float32 or None;
        the linear value at which the file clips: 1 for integers, inf for floats.

    Raises:
        StspbrError: the file is missing, corrupt or truncated, or of another kind.
    """
    stored, straight = _read(path, upright=upright)
    colour, coverage = _split_alpha(stored)
    linear = stored.dtype == np.float32
    rgb = np.ascontiguousarray(colour) if linear else _srgb_table(stored.dtype.itemsize)[colour]
    alpha = None if coverage is None else _to_unit(coverage)
    return rgb * alpha if alpha is not None and straight else rgb, alpha, float("inf") if linear else 1.0


def read_pixels(source: FilePath | bytes, name: str | None = None) -> np.ndarray:
    """The stored numbers of an image file or of its bytes: no transfer function, no premultiplication.

    Returns:
        ``[H, W, C]`` float32 with C in 1..4; integers of 8 or 16 bits in [0, 1], floats as they are.

    Raises:
        StspbrError: as :func:`read_image`; ``name`` names the origin of ``bytes``.
    """
    return _to_unit(_read(source, name)[0])


def three_channels(pixels: np.ndarray) -> np.ndarray:
    """``[H, W, 3]`` of ``[H, W, C]`` pixels: grey is repeated, alpha is left out."""
    return pixels[..., :3] if pixels.shape[-1] >= 3 else np.repeat(pixels[..., :1], 3, axis=-1)


def image_size(path: FilePath) -> tuple[int, int]:
    """Width and height from the file's head alone; (0, 0) for a file that cannot be read, whose reading fails then."""
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


def write_png8(path: FilePath, image: np.ndarray, *, srgb: bool, alpha: np.ndarray | None = None) -> None:
    """Write ``[H, W, 1|3]`` values as an 8-bit PNG, clipped to [0, 1] and rounded.

    Args:
        srgb: True for linear colours that are to be sRGB-encoded; False for data maps, stored as they are.
        alpha: ``[H, W, 1]`` straight coverage (``image`` is then not premultiplied), or None.
    """
    write_file(path, encode_png(image, bits=8, srgb=srgb, alpha=alpha))


def write_png16(path: FilePath, image: np.ndarray, *, srgb: bool, alpha: np.ndarray | None = None) -> None:
    """As :func:`write_png8` with 16 bits per channel."""
    write_file(path, encode_png(image, bits=16, srgb=srgb, alpha=alpha))


def write_map(path: FilePath, image: np.ndarray, *, srgb: bool, bits: int = 8) -> None:
    """Write a texture ``[H, W, 1|3]`` by its suffix: a PNG of ``bits``, or an EXR of floats, always linear."""
    if Path(path).suffix.lower() == ".exr":
        write_exr(path, np.broadcast_to(image, (*image.shape[:2], 3)))
    else:
        {8: write_png8, 16: write_png16}[bits](path, image, srgb=srgb)


def write_exr(path: FilePath, image: np.ndarray, *, alpha: np.ndarray | None = None, half: bool = False) -> None:
    """Write linear ``[H, W, 3]`` (premultiplied by ``alpha`` if that is given) as a ZIP-compressed EXR.

    Half floats end at 65504: larger values are an error (StspbrError), not infinities.
    """
    import OpenImageIO as oiio

    pixels = np.asarray(image, np.float32)
    if half and pixels.size and float(np.abs(pixels).max()) > _HALF_MAX:
        raise StspbrError(f"{path}: radiance above {_HALF_MAX:g} does not fit half floats: write it as float")
    pixels = pixels if alpha is None else np.concatenate([pixels, np.asarray(alpha, np.float32)], axis=-1)
    pixels = np.ascontiguousarray(pixels.astype(np.float16 if half else np.float32))
    height, width, count = pixels.shape
    spec = oiio.ImageSpec(width, height, count, oiio.HALF if half else oiio.FLOAT)
    spec.attribute("compression", "zip")
    spec.attribute("DateTime", "")  # else the time of writing gets in: the same pixels give the same bytes
    with atomic_path(path) as temporary:
        file = oiio.ImageOutput.create(str(temporary))
        if file is None or not (file.open(str(temporary), spec) and file.write_image(pixels) and file.close()):
            reason = oiio.geterror() if file is None else file.geterror()
            raise StspbrError(f"{path} cannot be written ({reason}): choose another place")


def write_hdr(path: FilePath, image: np.ndarray) -> None:
    """Write linear ``[H, W, 3]``, finite and not negative, as Radiance HDR (8-bit mantissas, shared exponent)."""
    from stspbr.formats.rgbe import encode_rgbe

    image = np.asarray(image, np.float32)
    if not np.isfinite(image).all() or (image < 0).any():
        raise StspbrError(f"{path}: Radiance HDR holds finite values of at least 0 only: clean the image, or write EXR")
    write_file(path, encode_rgbe(image))


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
    out = _PNG_MAGIC
    for kind, data in ((b"IHDR", head), (b"IDAT", body), (b"IEND", b"")):
        out += struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
    return out


def _read(source: FilePath | bytes, name: str | None = None, *, upright: bool = False) -> tuple[np.ndarray, bool]:
    """Stored pixels ``[H, W, C]``, uint8, uint16 or float32, and whether their alpha is straight."""
    if isinstance(source, bytes):  # OpenImageIO's Python module reads files only
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder, "image")
            path.write_bytes(source)
            return _read(path, name or "image", upright=upright)
    path, where = Path(source), name or str(source)
    data = read_file(path, where)
    try:
        return _decode(path, data, upright)
    except StspbrError as error:
        raise StspbrError(f"{where} {error}") from error
    except Exception as error:  # decoders raise nearly anything on corrupt bytes
        what = f"is truncated or corrupt, or not an image ({first_line(error).replace(str(path), path.name)})"
        raise StspbrError(f"{where} {what}: export or copy it again") from error


def _decode(path: Path, data: bytes, upright: bool) -> tuple[np.ndarray, bool]:
    import OpenImageIO as oiio

    from stspbr.formats import exif

    if data.startswith(_PNG_MAGIC):
        _check_png(data)
    hints = oiio.ImageSpec()
    hints.attribute("oiio:UnassociatedAlpha", 1)  # straight alpha comes as it is stored
    file = oiio.ImageInput.open(str(path), hints)
    if file is None:
        reason = oiio.geterror()
        try:
            return _decode_other(data, upright), True
        except Exception as error:
            raise ValueError(reason) from error
    spec, kind = file.spec(), file.format_name()
    index = _channels(list(spec.channelnames))
    pixels = file.read_image(0, 0, min(index), max(index) + 1, oiio.UNKNOWN)
    if file.has_error or pixels is None:
        raise ValueError(file.geterror())
    pixels = pixels.reshape(spec.height, spec.width, -1)[..., np.subtract(index, min(index))]
    straight = spec.get_int_attribute("oiio:UnassociatedAlpha") == 1
    if kind == "openexr" or pixels.dtype.kind == "f":
        pixels = pixels.astype(np.float32)
    elif pixels.dtype not in (np.uint8, np.uint16):
        raise StspbrError(f"holds numbers of type {spec.format}: save it as EXR, or with 8 or 16 bits")
    else:  # of all integers, only a TIFF's are premultiplied
        pixels, straight = pixels if straight or kind != "tiff" else _unpremultiplied(pixels), True
    if kind == "openexr":
        pixels = _display_window(pixels, spec)
    if kind == "hdr":  # every program that scales a Radiance file may add a line
        exposures = re.findall(rb"^EXPOSURE=\s*([0-9.eE+-]+)", data.partition(b"\n\n")[0], re.MULTILINE)
        pixels /= np.float32(np.prod([float(value) for value in exposures]))
    turn = spec.get_int_attribute("Orientation", 1) if upright or kind in ("tiff", "hdr") else 1
    return exif.upright(pixels, turn), straight


def _decode_other(data: bytes, upright: bool) -> np.ndarray:
    """Pixels ``[H, W, 3|4]`` uint8 of the kinds that imageio's Pillow plugin knows."""
    from imageio.v3 import imread

    with warnings.catch_warnings(action="ignore"):
        pixels = imread(data, plugin="pillow", index=0, mode="RGBA", rotate=upright)
    return pixels if (pixels[..., 3] < 255).any() else pixels[..., :3]


def _check_png(data: bytes) -> None:
    """ValueError where a chunk of a PNG is cut off or damaged, of which libpng would write to stderr."""
    at, kind = len(_PNG_MAGIC), b""
    while kind != b"IEND":
        (length,), kind = struct.unpack_from(">I", data, at), data[at + 4 : at + 8]
        if data[at + 8 + length : at + 12 + length] != struct.pack(">I", zlib.crc32(data[at + 4 : at + 8 + length])):
            raise ValueError("a chunk is cut off or damaged")
        at += 12 + length


def _channels(held: list[str]) -> list[int]:
    """Where the channels of the image are among those of a file, whose layers have a prefix."""
    found = {name.rpartition(".")[2]: k for k, name in sorted(enumerate(held), key=lambda item: "." not in item[1])}
    for names in ("RGBA", "RGB", "YA", "Y"):
        if all(name in found for name in names):
            return [found[name] for name in names]
    raise StspbrError(f"has no channels R, G, B or Y (it has: {', '.join(held)}): export the beauty image")


def _unpremultiplied(pixels: np.ndarray) -> np.ndarray:
    """Integers ``[H, W, C]`` with straight alpha, if they have any."""
    if pixels.shape[-1] not in (2, 4):
        return pixels
    top, colour, alpha = np.iinfo(pixels.dtype).max, pixels[..., :-1].astype(np.uint32), pixels[..., -1:]
    opaque = np.maximum(alpha, 1).astype(np.uint32)
    colour = np.minimum((colour * np.uint32(top) + opaque // 2) // opaque, top)
    return np.concatenate([colour.astype(pixels.dtype), alpha], axis=-1)


def _display_window(pixels: np.ndarray, spec: OpenImageIO.ImageSpec) -> np.ndarray:
    """What a cropped render shows: outside its data window it is black and empty."""
    x, y = spec.x - spec.full_x, spec.y - spec.full_y
    (height, width), (rows, columns) = (spec.full_height, spec.full_width), pixels.shape[:2]
    if (x, y, columns, rows) == (0, 0, width, height):
        return pixels
    out = np.zeros((height, width, pixels.shape[-1]), np.float32)
    part = pixels[max(-y, 0) : max(height - y, 0), max(-x, 0) : max(width - x, 0)]
    out[max(y, 0) : max(y, 0) + part.shape[0], max(x, 0) : max(x, 0) + part.shape[1]] = part
    return out


def _split_alpha(pixels: np.ndarray) -> tuple[np.ndarray, np.ndarray | None]:
    """Colour with three channels, and alpha or None."""
    count = pixels.shape[-1]
    return three_channels(pixels), np.ascontiguousarray(pixels[..., -1:]) if count in (2, 4) else None


def _to_unit(stored: np.ndarray) -> np.ndarray:
    if stored.dtype == np.float32:
        return stored
    return stored.astype(np.float32) / np.float32(np.iinfo(stored.dtype).max)


@functools.cache
def _srgb_table(item_size: int) -> np.ndarray:
    top = 2 ** (8 * item_size) - 1
    return srgb_to_linear(np.arange(top + 1) / top)
