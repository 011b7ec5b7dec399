"""Image files: what is read of them, and how they are written; :mod:`stspbr.formats.decoding` decodes.

Two kinds of reading: :func:`read_image` gives linear radiance for frames and lights, :func:`read_pixels` the stored
numbers for textures and data maps. PNG alpha is straight, EXR alpha is premultiplied; frames are premultiplied.
"""

from __future__ import annotations

import functools
import os
import struct
import zlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from stspbr.colour import linear_to_srgb, srgb_to_linear
from stspbr.errors import StspbrError
from stspbr.files import atomic_path, write_file
from stspbr.formats.decoding import PNG_MAGIC, Decoded, decode
from stspbr.notes import Notes

FilePath = str | os.PathLike[str]
LDR_SUFFIXES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".webp", ".avif", ".bmp", ".tga")
HDR_SUFFIXES = (".exr", ".hdr", ".pic")
IMAGE_SUFFIXES = LDR_SUFFIXES + HDR_SUFFIXES
_HALF_MAX = 65504.0
_BAND = 256  # rows that are converted at once
_LOSSY = 1e-4  # of the largest value: negative ones that lossy compression leaves
_IN_GAMUT = 1e-4  # linear: what rounding takes out of the gamut


def read_image(
    path: FilePath, *, upright: bool = False, layer: str | None = None, notes: Notes | None = None
) -> tuple[np.ndarray, np.ndarray | None, float]:
    """Read a photograph, a render or a light.

    Integers (PNG, JPEG, most TIFF, WebP …) are decoded by their colour profile, or from sRGB; floats (EXR, HDR, float
    TIFF) are taken as linear. Other primaries than sRGB's are converted.

    Args:
        upright: turn a photograph by its Exif orientation. Data sets that come with poses mean the pixels as
            they are stored. TIFF, HDR and HEIC, whose orientation is part of the format, always come upright.
        layer: of EXR files, see :mod:`stspbr.formats.exr`.
        notes: receives what was chosen, converted or left out.

    Returns:
        rgb ``[H, W, 3]`` float32 linear, premultiplied if there is alpha; alpha ``[H, W, 1]`` float32 or None;
        the linear value at which the file clips: 1 for integers and raw photographs, inf for other floats.

    Raises:
        StspbrError: the file is missing, corrupt or truncated, or of another kind.
    """
    decoded, name = decode(path, upright=upright, layer=layer, notes=notes), Path(path).name
    rgb, alpha = np.ascontiguousarray(_linear(decoded, notes, name)), _split_alpha(decoded.pixels)
    lowest = float(rgb.min(initial=0.0))
    if -_LOSSY * float(rgb.max(initial=0.0)) < lowest < 0:
        if notes is not None:
            notes(f"negative values of less than {_LOSSY:g} of the largest one, of lossy compression, become 0", name)
        rgb = rgb.clip(min=0.0)
    alpha = None if alpha is None else _to_unit(alpha)
    return rgb * alpha if alpha is not None and decoded.straight else rgb, alpha, decoded.saturation


def read_pixels(source: FilePath | bytes, name: str | None = None) -> np.ndarray:
    """The stored numbers of an image file or of its bytes: no transfer function, no premultiplication.

    Returns:
        ``[H, W, C]`` float32 with C in 1..4; integers of 8 or 16 bits in [0, 1], floats as they are.

    Raises:
        StspbrError: as :func:`read_image`; ``name`` names the origin of ``bytes``.
    """
    return _to_unit(decode(source, name).pixels)


def read_stored(path: FilePath) -> np.ndarray:
    """The numbers as the file has them: ``[H, W, C]`` uint8, uint16 or float32; errors as :func:`read_image`."""
    return decode(path).pixels


def three_channels(pixels: np.ndarray) -> np.ndarray:
    """``[H, W, 3]`` of ``[H, W, C]`` pixels: grey is repeated, alpha is left out."""
    return pixels[..., :3] if pixels.shape[-1] >= 3 else np.repeat(pixels[..., :1], 3, axis=-1)


def image_size(path: FilePath) -> tuple[int, int]:
    """Width and height from the file's head alone; (0, 0) for a file that cannot be read, whose reading fails then."""
    from stspbr.formats.decoding import size_of

    try:
        return size_of(Path(path))
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


def write_exr(
    path: FilePath,
    image: np.ndarray,
    *,
    alpha: np.ndarray | None = None,
    half: bool = False,
    channels: Sequence[str] | None = None,
) -> None:
    """Write linear ``[H, W, 3]`` (premultiplied by ``alpha`` if that is given) as a ZIP-compressed EXR.

    Half floats end at 65504: larger values are an error (StspbrError), not infinities.

    Args:
        channels: names of C channels; ``image`` is then ``[H, W, C]`` of any values.
    """
    import OpenImageIO as oiio

    pixels = np.asarray(image, np.float32)
    if half and pixels.size and float(np.abs(pixels).max()) > _HALF_MAX:
        raise StspbrError(f"{path}: radiance above {_HALF_MAX:g} does not fit half floats: write it as float")
    pixels = pixels if alpha is None else np.concatenate([pixels, np.asarray(alpha, np.float32)], axis=-1)
    pixels = np.ascontiguousarray(pixels.astype(np.float16 if half else np.float32))
    height, width, count = pixels.shape
    spec = oiio.ImageSpec(width, height, count, oiio.HALF if half else oiio.FLOAT)
    if channels is not None:
        spec.channelnames = tuple(channels)
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
    out = PNG_MAGIC
    for kind, data in ((b"IHDR", head), (b"IDAT", body), (b"IEND", b"")):
        out += struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
    return out


def _linear(decoded: Decoded, notes: Notes | None, where: str) -> np.ndarray:
    """``[H, W, 3]`` float32 in linear sRGB, straight or premultiplied as the file has it."""
    colour = three_channels(decoded.pixels)
    if colour.dtype == np.float32:
        rgb = np.array(colour)
    elif decoded.curves is None:
        rgb = _srgb_table(colour.dtype.itemsize)[colour]
    else:
        steps = np.linspace(0.0, 1.0, np.iinfo(colour.dtype).max + 1)
        tables = [np.asarray(curve(steps), np.float32) for curve in decoded.curves]
        rgb = np.stack([tables[min(k, len(tables) - 1)][colour[..., k]] for k in range(3)], axis=-1)
    if decoded.matrix is not None:
        outside = False
        for first in range(0, len(rgb), _BAND):
            band = rgb[first : first + _BAND]
            turned = band @ decoded.matrix.T.astype(np.float32)
            beyond = (turned < 0) & (band >= 0).all(axis=-1, keepdims=True)
            outside |= bool((turned[beyond] < -_IN_GAMUT).any())
            turned[beyond] = 0.0
            rgb[first : first + _BAND] = turned
        if outside and notes is not None:
            notes("colours outside of sRGB's gamut are clipped: channels that would be negative become 0", where)
    return rgb


def _split_alpha(pixels: np.ndarray) -> np.ndarray | None:
    return np.ascontiguousarray(pixels[..., -1:]) if pixels.shape[-1] in (2, 4) else None


def _to_unit(stored: np.ndarray) -> np.ndarray:
    if stored.dtype == np.float32:
        return stored
    return stored.astype(np.float32) / np.float32(np.iinfo(stored.dtype).max)


@functools.cache
def _srgb_table(item_size: int) -> np.ndarray:
    top = 2 ** (8 * item_size) - 1
    return srgb_to_linear(np.arange(top + 1) / top)
