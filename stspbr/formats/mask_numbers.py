"""The numbers in a mask's file, of whatever kind it is, and what is remembered of them."""

from __future__ import annotations

import io
import math
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from stspbr.errors import StspbrError
from stspbr.files import read_file
from stspbr.formats.images import read_stored, three_channels

NOISE = 16  # of 255: what JPEG adds to black and takes from white
_SAMPLED = 1 << 20  # pixels that are looked at for areas of one value


@dataclass(frozen=True)
class MaskNumbers:
    """A mask's own numbers ``codes`` ``[H, W]``: values, indices, or colours as 0xRRGGBB; ``full``: of the scale."""

    kind: str
    codes: np.ndarray
    full: float
    lossy: bool = False


@dataclass(frozen=True)
class MaskSurvey:
    """What is remembered of a mask's numbers: how often each occurs, how often in the interior of its own area."""

    name: str
    kind: str
    full: float
    lossy: bool
    counts: Counter[float]
    inside: Counter[float]
    borders: tuple[np.ndarray, ...]

    @property
    def uniform(self) -> bool:
        return len(self.counts) < 2


@dataclass(frozen=True)
class MaskLook:
    """Surveys of a mask by its values or colours, and by its alpha if it has one."""

    own: MaskSurvey
    alpha: MaskSurvey | None


def look_at(path: Path) -> MaskLook | None:
    """Survey a file; None if it cannot be read."""
    try:
        decoded = decode_mask(path)
    except StspbrError:
        return None
    name, own, alpha = f"{path.parent.name}/{path.name}", numbers_of(decoded, False), numbers_of(decoded, True)
    return MaskLook(_survey(name, own), _survey(name, alpha) if alpha.kind == "alpha" else None)


def _survey(name: str, stored: MaskNumbers) -> MaskSurvey:
    codes = stored.codes if stored.kind == "colour" else without_noise(stored.codes, stored)
    step = max(1, math.isqrt(codes.size // _SAMPLED))
    middle = codes[1:-1:step, 1:-1:step]
    edge = np.zeros(middle.shape, bool)
    for row, column in ((0, 1), (2, 1), (1, 0), (1, 2)):
        beside = codes[row : codes.shape[0] - 2 + row : step, column : codes.shape[1] - 2 + column : step]
        edge |= beside != middle
    counts = _counted(middle if stored.kind == "colour" else codes)
    borders = tuple(line.copy() for line in (codes[0], codes[-1], codes[:, 0], codes[:, -1]))
    return MaskSurvey(name, stored.kind, stored.full, stored.lossy, counts, _counted(middle[~edge]), borders)


def _counted(codes: np.ndarray) -> Counter[float]:
    if codes.dtype in (np.uint8, np.uint16):
        counts = np.bincount(codes.ravel())
        found = np.flatnonzero(counts)
        counts = counts[found]
    else:
        found, counts = np.unique(codes, return_counts=True)
    return Counter(dict(zip(found.astype(float).tolist(), counts.tolist(), strict=True)))


@dataclass(frozen=True)
class DecodedMask:
    """A mask's pixels ``[H, W, C]``, or the indices ``[H, W]`` of its palette of labels; ``bits``: of a grey PNG."""

    pixels: np.ndarray
    indices: np.ndarray | None
    lossy: bool
    bits: int


def decode_mask(path: Path) -> DecodedMask:
    """Decode a mask; StspbrError if it is missing, broken or not an image."""
    data = read_file(path)
    indices = _palette(data)
    pixels = read_stored(path) if indices is None else indices[..., None]
    grey_png = data.startswith(b"\x89PNG") and data[25:26] == b"\0"
    return DecodedMask(pixels, indices, _is_lossy(data), data[24] if grey_png else 16)


def _is_lossy(data: bytes) -> bool:
    """Whether a file is a JPEG, an HEIC or AVIF, or a WebP with a lossy picture."""
    webp = data[:4] == b"RIFF" and data[8:12] == b"WEBP" and b"VP8 " in data[12:4096]
    return data.startswith(b"\xff\xd8") or data[4:8] == b"ftyp" or webp


def numbers_of(decoded: DecodedMask, by_alpha: bool) -> MaskNumbers:
    """The numbers that count: those of the alpha, if there is one and it is wanted."""
    pixels, lossy = decoded.pixels, decoded.lossy
    if decoded.indices is not None:
        return MaskNumbers("palette", decoded.indices, 255.0)
    full = {np.dtype(np.uint8): 255.0, np.dtype(np.uint16): 65535.0}.get(pixels.dtype, 1.0)
    if by_alpha and pixels.shape[-1] in (2, 4):
        return MaskNumbers("alpha", pixels[..., -1], full)
    colour = three_channels(pixels)
    if pixels.shape[-1] >= 3:
        spread = colour.max(axis=-1) - colour.min(axis=-1)
        if (spread > (2 * NOISE if lossy else 0)).any():
            eight = np.rint(colour * (255.0 / full)).clip(0, 255).astype(np.uint32)
            return MaskNumbers("colour", eight[..., 0] << 16 | eight[..., 1] << 8 | eight[..., 2], 255.0, lossy)
    grey = colour[..., 0]
    if full == 1.0:
        top = float(grey.max(initial=0.0))
        whole = top > 1 and bool((grey == np.rint(grey)).all())
        return MaskNumbers("grey", grey, 255.0 if whole and top <= 255 else 65535.0 if whole else 1.0)
    if decoded.bits < 8:  # the decoder stretches 1, 2 and 4 bits
        steps = 2**decoded.bits - 1
        return MaskNumbers("grey", grey // (255 // steps), float(steps))
    return MaskNumbers("grey", grey, full, lossy)


def _palette(data: bytes) -> np.ndarray | None:
    """The indices ``[H, W]`` of an image with a palette of labels; None for other images.

    A palette of greys is a grey image, one with transparency an image with alpha, and where black is in use but not
    at 0 it was made to reduce the colours of an image.
    """
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(io.BytesIO(data)) as image:
            if image.mode != "P" or "transparency" in image.info:
                return None
            indices = np.asarray(image)
            colours = np.reshape(image.getpalette() or [], (-1, 3))
    except (OSError, ValueError, UnidentifiedImageError, Image.DecompressionBombError):
        return None  # the decoder names the reason
    used = np.unique(indices)
    black = [index for index in used if index < len(colours) and not colours[index].any()]
    if (np.ptp(colours, axis=-1) == 0).all() or (black and 0 not in black):
        return None
    return indices


def without_noise(codes: np.ndarray, stored: MaskNumbers) -> np.ndarray:
    """JPEG's ringing about black and white set to these."""
    if not stored.lossy or codes.max(initial=0) < 128:
        return codes
    return np.where(codes <= NOISE, 0, np.where(codes >= 255 - NOISE, 255, codes)).astype(codes.dtype)


def channels_of(codes: np.ndarray | float) -> np.ndarray:
    """Red, green and blue ``[..., 3]`` of colours 0xRRGGBB."""
    whole = np.asarray(codes, np.int64)
    return np.stack([whole >> 16, (whole >> 8) & 255, whole & 255], axis=-1)


def distance_to(codes: np.ndarray, colours: tuple[float, ...]) -> np.ndarray:
    """From each colour to the nearest of ``colours``: the largest difference of a channel."""
    channels, least = channels_of(codes), np.full(codes.shape, 256)
    for colour in colours:
        least = np.minimum(least, np.abs(channels - channels_of(colour)).max(axis=-1))
    return least
