"""Pictures and lights as a page carries them: data URIs, made smaller where a file would be too large."""

from __future__ import annotations

import base64
import io
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from stspbr.colour import linear_to_srgb
from stspbr.formats.images import read_image
from stspbr.formats.rgbe import encode_rgbe

PICTURE_SIDE, PICTURE_BYTES = 1024, 250_000
LIGHT_HEIGHT = 256
_JPEG_QUALITY = 90


@dataclass(frozen=True)
class Picture:
    """An image for ``<img>``; ``reduced`` where the page's copy is smaller or coarser than the file."""

    uri: str
    width: int
    height: int
    reduced: bool = False


def picture(path: Path, side: int = PICTURE_SIDE, limit: int = PICTURE_BYTES) -> Picture | None:
    """A PNG or JPEG file: as it is where it has at most ``limit`` bytes and ``side`` pixels a side, else as a JPEG.

    None where the file cannot be read as an image: a page is still a page without it.
    """
    from PIL import Image

    try:
        data = path.read_bytes()
        with Image.open(io.BytesIO(data), formats=("PNG", "JPEG")) as image:
            width, height = image.size
            if len(data) <= limit and max(width, height) <= side:
                kind = "png" if image.format == "PNG" else "jpeg"
                return Picture(data_uri(data, f"image/{kind}"), width, height)
            return _reduced(_without_alpha(image), side)
    except (OSError, ValueError, SyntaxError):
        return None


def light_picture(radiance: np.ndarray, exposure: float, width: int = 512) -> Picture:
    """A lat-long light for the eye: scaled by ``exposure``, v/(1 + v), sRGB.

    Args:
        radiance: ``[H, W, 3]`` linear; exposure: of :func:`light_exposure`, the same for lights side by side.
    """
    from PIL import Image

    small = resized_light(radiance, width // 2)
    scaled = np.maximum(small, 0.0) * exposure
    pixels = np.round(255.0 * linear_to_srgb(scaled / (1.0 + scaled))).astype(np.uint8)
    return _encoded(Image.fromarray(pixels), reduced=small.shape != radiance.shape)


def light_exposure(radiance: np.ndarray) -> float:
    """The scale that brings the light's mean over the sphere to 0.5."""
    rows = np.sin((np.arange(len(radiance)) + 0.5) * np.pi / len(radiance))
    mean = float((radiance.mean(axis=(1, 2)) * rows).sum() / rows.sum())
    return 0.5 / mean if mean > 0.0 else 1.0


def resized_light(radiance: np.ndarray, height: int = LIGHT_HEIGHT) -> np.ndarray:
    """``[height, 2·height, 3]`` by area means (radiance is kept, not peaks); smaller lights stay as they are."""
    if radiance.shape[0] <= height and radiance.shape[1] <= 2 * height:
        return radiance
    from PIL import Image

    size = (min(2 * height, radiance.shape[1]), min(height, radiance.shape[0]))
    channels = [Image.fromarray(np.ascontiguousarray(radiance[..., c], dtype=np.float32)) for c in range(3)]
    return np.stack([np.asarray(c.resize(size, Image.Resampling.BOX)) for c in channels], axis=-1)


def light_base64(radiance: np.ndarray, height: int = LIGHT_HEIGHT) -> str:
    """A lat-long light as base64 of a Radiance file of at most ``height`` rows."""
    finite = np.nan_to_num(np.maximum(resized_light(radiance, height), 0.0), posinf=65504.0)
    return base64.b64encode(encode_rgbe(finite)).decode("ascii")


def read_light(path: Path) -> np.ndarray:
    """``[H, W, 3]`` linear radiance of an HDR or EXR file."""
    return read_image(path)[0]


def data_uri(data: bytes, kind: str) -> str:
    """``data:`` URI of bytes of the given media type."""
    return f"data:{kind};base64,{base64.b64encode(data).decode('ascii')}"


def _reduced(image, side: int) -> Picture:
    from PIL import Image

    if max(image.size) > side:
        image.thumbnail((side, side), Image.Resampling.BOX)
    return _encoded(image, reduced=True)


def _encoded(image, reduced: bool) -> Picture:
    stream = io.BytesIO()
    image.save(stream, "JPEG", quality=_JPEG_QUALITY, subsampling=0, optimize=True)
    width, height = image.size
    return Picture(data_uri(stream.getvalue(), "image/jpeg"), width, height, reduced)


def _without_alpha(image):
    """RGB pixels; what is transparent shows black, as premultiplied pictures do."""
    from PIL import Image

    if image.mode.startswith("I;16") or image.mode == "I":  # PIL would clip 16 bits instead of scaling them
        return Image.fromarray((np.asarray(image).astype(np.float64) / 257.0).round().astype(np.uint8)).convert("RGB")
    rgba = image.convert("RGBA")
    paper = Image.new("RGBA", rgba.size, (0, 0, 0, 255))
    paper.alpha_composite(rgba)
    return paper.convert("RGB")
