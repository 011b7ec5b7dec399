"""Image files to the numbers in them and what these numbers mean; OpenImageIO decodes, others what it cannot read."""

from __future__ import annotations

import os
import struct
import tempfile
import warnings
import zlib
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from stspbr.errors import StspbrError, first_line
from stspbr.files import read_file
from stspbr.formats import exif, exr
from stspbr.formats.camera_files import RAW_SUFFIXES, heif_size, is_heif, raw_size, read_heif, read_raw
from stspbr.formats.icc import Curve, Profile, read_profile, through_littlecms
from stspbr.formats.primaries import ADOBE_RGB, NAMED, name_of, srgb_from
from stspbr.formats.radiance import is_radiance, read_header, read_radiance
from stspbr.notes import Notes

PNG_MAGIC = b"\x89PNG\r\n\x1a\n"
_CLAIM = 4096  # bytes that no coding makes of one, in files of a gigabyte and more
_FIRST = "of several pages or pictures the first is read"
_PROFILE = 1 << 24  # bytes of the largest profile
_CICP = {1: "", 9: "Rec. 2020", 11: "DCI-P3", 12: "Display P3"}  # ITU-T H.273: primaries


@dataclass(frozen=True)
class Decoded:
    """What a file holds.

    Attributes:
        pixels: ``[H, W, 1..4]`` uint8, uint16 or float32: the stored numbers.
        straight: whether the colours are not multiplied by alpha.
        curves: from stored integers in [0, 1] to linear, one or three; None: sRGB's.
        matrix: ``[3, 3]`` from linear colours to linear sRGB; None: they are sRGB's.
        saturation: the linear value at which the file clips.
    """

    pixels: np.ndarray
    straight: bool
    curves: tuple[Curve, ...] | None = None
    matrix: np.ndarray | None = None
    saturation: float = 1.0


def decode(
    source: str | os.PathLike[str] | bytes,
    name: str | None = None,
    *,
    upright: bool = False,
    layer: str | None = None,
    notes: Notes | None = None,
) -> Decoded:
    """Decode a file or its bytes; for the arguments see :func:`stspbr.formats.images.read_image`.

    Raises:
        StspbrError: the file is missing, corrupt or truncated, or of another kind.
    """
    if isinstance(source, bytes):  # OpenImageIO's Python module reads files only
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder, "image")
            path.write_bytes(source)
            return decode(path, name or "image", upright=upright, layer=layer, notes=notes)
    path, where = Path(source), name or str(source)
    data = read_file(path, where)
    try:
        return _decode(path, data, upright, layer, notes)
    except StspbrError as error:
        raise StspbrError(f"{where} {error}") from error
    except Exception as error:  # decoders raise nearly anything on corrupt bytes
        what = f"is truncated or corrupt, or not an image ({first_line(error).replace(str(path), path.name)})"
        raise StspbrError(f"{where} {what}: export or copy it again") from error


def size_of(path: Path) -> tuple[int, int]:
    """Width and height from the file's head alone; raises nearly anything for a file that is damaged."""
    suffix = path.suffix.lower()
    with path.open("rb") as stream:
        head = stream.read(1 << 16)
    if is_radiance(head):
        header = read_header(head)
        return header.width, header.height
    if suffix in RAW_SUFFIXES:
        return raw_size(path)[:2]
    if is_heif(path, head):
        return heif_size(path)
    if suffix == ".exr":
        import OpenImageIO as oiio

        file = oiio.ImageInput.open(str(path))
        if file is None:
            oiio.geterror()
            return exr.subsampled_size(path)
        return file.spec().full_width, file.spec().full_height
    from PIL import Image

    with Image.open(path) as image:
        return image.size


def _decode(path: Path, data: bytes, upright: bool, layer: str | None, notes: Notes | None) -> Decoded:
    import OpenImageIO as oiio

    where, suffix = path.name, path.suffix.lower()
    chunks = _png_chunks(data) if data.startswith(PNG_MAGIC) else {}
    if is_radiance(data):
        pixels, header = read_radiance(data)
        for note in header.notes if notes is not None else ():
            notes(note, where)  # type: ignore[misc]
        return Decoded(pixels, False, matrix=header.matrix, saturation=float("inf"))
    if suffix in RAW_SUFFIXES:
        return Decoded(read_raw(path, upright), True)
    hints = oiio.ImageSpec()
    hints.attribute("oiio:UnassociatedAlpha", 1)  # straight alpha comes as it is stored
    file = oiio.ImageInput.open(str(path), hints)
    if file is None:
        reason = oiio.geterror()
        if "Subsampled channels" in reason:
            pixels, matrix = exr.subsampled(path, layer, notes, where)
            return Decoded(pixels, False, matrix=matrix, saturation=float("inf"))
        primaries = 1
        try:
            if is_heif(path, data):
                pixels, profile, primaries = read_heif(data)
            else:
                pixels, profile = _by_pillow(data, upright, notes, where)
        except StspbrError:
            raise
        except Exception as error:
            raise ValueError(reason) from error
        if _CICP.get(primaries):
            return _with_primaries(Decoded(pixels, True), _CICP[primaries], notes, where)
        return _with_profile(Decoded(pixels, True), data, profile, notes, where)
    spec, kind = file.spec(), file.format_name()
    if spec.image_bytes() > max(1 << 30, _CLAIM * len(data)):
        raise ValueError(f"{len(data)} bytes cannot hold {spec.width}x{spec.height} pixels")
    if kind == "openexr":
        pixels, matrix = exr.read_exr(file, layer, notes, where)
        return Decoded(pixels, False, matrix=matrix, saturation=float("inf"))
    if kind == "webp" and spec.get_int_attribute("oiio:Movie"):  # OpenImageIO mixes the pictures of an animation
        pixels, profile = _by_pillow(data, upright, notes, where)
        return _with_profile(Decoded(pixels, True), data, profile, notes, where)
    decoded = _by_oiio(file, kind, upright)
    if notes is not None and (b"acTL" in chunks or (kind in ("tiff", "gif") and file.seek_subimage(1, 0))):
        notes(_FIRST, where)
    held = spec.getattribute("ICCProfile")
    if b"iCCP" in chunks and b"cICP" not in chunks:  # libpng drops profiles that it finds fault with
        packed = chunks[b"iCCP"].partition(b"\0")[2][1:]
        held = np.frombuffer(zlib.decompressobj().decompress(packed, _PROFILE), np.uint8)
    if held is not None and b"cICP" not in chunks:
        return _with_profile(decoded, data, bytes(np.asarray(held, np.uint8)), notes, where)
    if decoded.pixels.dtype == np.float32:
        return decoded
    if notes is not None and "CMYK" in (spec.getattribute("jpeg:ColorSpace"), spec.getattribute("tiff:ColorSpace")):
        notes("its CMYK has no profile: each ink takes its share of red, green or blue, read as sRGB", where)
    if chunks.keys() & {b"cICP", b"sRGB", b"gAMA", b"cHRM"}:
        return _with_chunks(decoded, chunks, notes, where)
    return _with_exif(decoded, path, spec.get_int_attribute("Exif:ColorSpace", 1), notes)


def _by_oiio(file: Any, kind: str, upright: bool) -> Decoded:
    import OpenImageIO as oiio

    spec = file.spec()
    index = _channels(list(spec.channelnames))
    pixels = file.read_image(0, 0, min(index), max(index) + 1, oiio.UNKNOWN)
    if file.has_error or pixels is None:
        raise ValueError(file.geterror())
    pixels = pixels.reshape(spec.height, spec.width, -1)[..., np.subtract(index, min(index))]
    straight, saturation = spec.get_int_attribute("oiio:UnassociatedAlpha") == 1, 1.0
    if pixels.dtype.kind == "f":
        pixels, saturation = pixels.astype(np.float32), float("inf")
    elif pixels.dtype not in (np.uint8, np.uint16):
        raise StspbrError(f"holds numbers of type {spec.format}: save it as EXR, or with 8 or 16 bits")
    else:  # of all integers, only a TIFF's are premultiplied
        pixels, straight = pixels if straight or kind != "tiff" else _unpremultiplied(pixels), True
    turn = spec.get_int_attribute("Orientation", 1) if upright or kind == "tiff" else 1
    return Decoded(exif.upright(pixels, turn), straight, saturation=saturation)


def _by_pillow(data: bytes, upright: bool, notes: Notes | None, where: str) -> tuple[np.ndarray, bytes | None]:
    """Pixels ``[H, W, 3|4]`` uint8 of the kinds that Pillow knows (AVIF, PCX, GIF), and their profile."""
    import io

    from PIL import Image, ImageOps

    with warnings.catch_warnings(action="ignore"), Image.open(io.BytesIO(data)) as image:
        if notes is not None and getattr(image, "n_frames", 1) > 1:
            notes(_FIRST, where)
        turned = ImageOps.exif_transpose(image) if upright else image
        pixels = np.asarray(turned.convert("RGBA"))
        return pixels if (pixels[..., 3] < 255).any() else pixels[..., :3], image.info.get("icc_profile")


def _with_profile(decoded: Decoded, data: bytes, held: bytes | None, notes: Notes | None, where: str) -> Decoded:
    """``decoded`` as its ICC profile means it."""
    if not held:
        return decoded
    try:
        profile = read_profile(held)
        if profile.curves is not None and len(profile.curves) == 1 and decoded.pixels.shape[-1] > 2:
            raise ValueError("it is for grey images")
        by_tables = profile.curves is None and decoded.pixels.dtype != np.float32
        turned = through_littlecms(data, held) if by_tables else None
    except ValueError as error:
        if notes is not None:
            notes(f"its colour profile cannot be used ({error}): it is read as sRGB", where)
        return decoded
    if profile.is_srgb:
        return decoded
    said = f"its colour profile ({profile.name})"
    if decoded.pixels.dtype == np.float32:
        return _float_with_profile(decoded, profile, said, notes, where)
    if turned is not None:
        if turned.shape[:2] != decoded.pixels.shape[:2]:
            raise StspbrError(f"has {said[4:]} and an orientation: save it upright, in sRGB")
        alpha = decoded.pixels[..., 3:] if decoded.pixels.shape[-1] == 4 else decoded.pixels[..., :0]
        if notes is not None:
            notes(f"{said} is converted to sRGB by LittleCMS with 8 bits", where)
        shift = 8 * (alpha.dtype.itemsize - 1)
        return replace(decoded, pixels=np.concatenate([turned, (alpha >> shift).astype(np.uint8)], axis=-1))
    if notes is not None:
        notes(f"{said} is converted to linear sRGB", where)
    return replace(decoded, curves=profile.curves, matrix=profile.matrix)


def _float_with_profile(decoded: Decoded, profile: Profile, said: str, notes: Notes | None, where: str) -> Decoded:
    steps = np.linspace(0, 1, 17)
    bent = profile.curves is None or any(np.abs(curve(steps) - steps).max() > 1e-3 for curve in profile.curves)
    if notes is not None and (bent or profile.matrix is not None):
        curve = "; its curve is left out, floats are read as linear" if bent else ""
        notes(f"the primaries of {said} are converted to sRGB's{curve}", where)
    return replace(decoded, matrix=profile.matrix)


def _with_primaries(decoded: Decoded, name: str, notes: Notes | None, where: str) -> Decoded:
    if notes is not None:
        notes(f"colours in {name} are converted to sRGB's primaries", where)
    return replace(decoded, matrix=srgb_from(NAMED[name]))


def _with_chunks(decoded: Decoded, chunks: dict[bytes, bytes], notes: Notes | None, where: str) -> Decoded:
    """``decoded`` as a PNG's chunks cICP, or gAMA and cHRM mean it."""
    if len(chunks.get(b"cICP", b"")) >= 4:
        primaries, transfer = chunks[b"cICP"][:2]
        if primaries not in _CICP or transfer not in (1, 6, 8, 13, 14, 15):
            what = {16: "PQ", 18: "HLG"}.get(transfer, f"transfer {transfer}, primaries {primaries}")
            raise StspbrError(f"is coded for video ({what} in its chunk cICP): save it as EXR, or in sRGB")
        decoded = replace(decoded, curves=(lambda x: x,)) if transfer == 8 else decoded
        return _with_primaries(decoded, _CICP[primaries], notes, where) if _CICP[primaries] else decoded
    if b"sRGB" in chunks:
        return decoded
    if len(chunks.get(b"gAMA", b"")) == 4:
        gamma = struct.unpack(">I", chunks[b"gAMA"])[0] / 100000.0
        if gamma > 0 and abs(gamma - 1 / 2.2) > 0.02:  # a gamma of 1/2.2 is written for sRGB's curve
            decoded = replace(decoded, curves=(lambda x: x ** (1.0 / gamma),))
            if notes is not None:
                notes(f"its chunk gAMA ({gamma:.4g}) takes the place of sRGB's curve", where)
    if len(chunks.get(b"cHRM", b"")) == 32:
        numbers = [value / 100000.0 for value in struct.unpack(">8I", chunks[b"cHRM"])]
        chromaticities = (*numbers[2:], *numbers[:2])
        matrix = srgb_from(chromaticities)
        if matrix is not None and notes is not None:
            notes(f"colours in {name_of(chromaticities)} are converted to sRGB's primaries", where)
        decoded = replace(decoded, matrix=matrix)
    return decoded


def _with_exif(decoded: Decoded, path: Path, space: int, notes: Notes | None) -> Decoded:
    """``decoded`` as the colour space of its Exif means it: DCF marks Adobe RGB by the interoperability index R03."""
    if space == 1:
        return decoded
    if space == 2 or exif.interoperability(path) == "R03":
        if notes is not None:
            notes("Adobe RGB (by its Exif) is converted to linear sRGB", path.name)
        return replace(decoded, curves=(lambda x: x ** (563 / 256),), matrix=srgb_from(ADOBE_RGB))
    if space == 65535 and notes is not None:
        notes(
            "its Exif has a colour space other than sRGB that no profile describes: it is read as sRGB",
            path.name,
        )
    return decoded


def _png_chunks(data: bytes) -> dict[bytes, bytes]:
    """The chunks of a PNG but for its pixels.

    Raises:
        ValueError: a chunk is cut off or damaged, of which libpng would write to stderr.
    """
    at, kind, chunks = len(PNG_MAGIC), b"", {}
    while kind != b"IEND":
        (length,), kind = struct.unpack_from(">I", data, at), data[at + 4 : at + 8]
        if data[at + 8 + length : at + 12 + length] != struct.pack(">I", zlib.crc32(data[at + 4 : at + 8 + length])):
            raise ValueError("a chunk is cut off or damaged")
        if kind != b"IDAT":
            chunks[kind] = data[at + 8 : at + 8 + length]
        at += 12 + length
    return chunks


def _channels(held: list[str]) -> list[int]:
    """Where the channels of the image are among those of a file."""
    found = {name: k for k, name in reversed(list(enumerate(held)))}
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
