"""Files as phones and cameras write them: HEIC and HEIF by pillow-heif, raw photographs by rawpy (the extra photos)."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np

from stspbr.errors import StspbrError

HEIF_SUFFIXES = (".heic", ".heif", ".hif")
_HEIF_BRANDS = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx")
RAW_SUFFIXES = (
    ".dng", ".cr2", ".cr3", ".crw", ".nef", ".nrw", ".arw", ".sr2", ".srf", ".raf", ".rw2", ".orf", ".pef", ".srw",
    ".3fr", ".iiq", ".rwl", ".x3f",
)  # fmt: skip


def is_heif(path: Path, head: bytes) -> bool:
    """Whether a file is HEIC or HEIF, by its suffix or its first bytes: phones' files often end in ``.jpg``."""
    brand, others = head[8:12], head[16:64]
    coded = head[4:8] == b"ftyp" and (brand in _HEIF_BRANDS or (brand in (b"mif1", b"msf1") and b"avi" not in others))
    return coded or path.suffix.lower() in HEIF_SUFFIXES


def read_heif(data: bytes) -> tuple[np.ndarray, bytes | None, int]:
    """Pixels ``[H, W, 3|4]`` uint8 or uint16, turned as the file has it, the ICC profile, and H.273's primaries.

    Raises:
        StspbrError: pillow-heif is not installed.
        ValueError: the file is broken.
    """
    image = _heif().open_heif(io.BytesIO(data), convert_hdr_to_8bit=False)
    profile, nclx = image.info.get("icc_profile"), image.info.get("nclx_profile") or {}
    transfer = nclx.get("transfer_characteristics")
    if not profile and transfer in (16, 18):
        raise StspbrError(f"is coded for video ({'PQ' if transfer == 16 else 'HLG'}): export it as JPEG or TIFF")
    return np.asarray(image), profile, 1 if profile else int(nclx.get("color_primaries", 1))


def heif_size(path: Path) -> tuple[int, int]:
    """Width and height, turned as the file has it."""
    return _heif().open_heif(str(path)).size


def read_raw(path: Path, upright: bool) -> np.ndarray:
    """Linear sRGB ``[H, W, 3]`` float32, clipped at 1, with the camera's white balance; nothing else is brightened.

    Args:
        upright: as the camera was held; else as the sensor has it.

    Raises:
        StspbrError: rawpy is not installed.
        ValueError: the file is broken.
    """
    rawpy = _rawpy()
    try:
        with rawpy.imread(str(path)) as raw:
            pixels = raw.postprocess(
                gamma=(1, 1), no_auto_bright=True, output_bps=16, use_camera_wb=True,
                output_color=rawpy.ColorSpace.sRGB, user_flip=None if upright else 0,
            )  # fmt: skip
    except rawpy.LibRawError as error:
        raise ValueError(str(error)) from error
    return pixels.astype(np.float32) / np.float32(65535)


def raw_size(path: Path) -> tuple[int, int, int]:
    """Width and height as the sensor has them, and LibRaw's number of how the picture is turned.

    Raises:
        StspbrError: rawpy is not installed, or the file is not a raw photograph that it knows.
    """
    rawpy = _rawpy(str(path))
    try:
        with rawpy.imread(str(path)) as raw:
            return raw.sizes.iwidth, raw.sizes.iheight, raw.sizes.flip
    except (rawpy.LibRawError, OSError) as error:
        raise StspbrError(f"{path} is not a readable raw photograph ({error}): export or copy it again") from error


def register_heif(path: Path) -> None:
    """Let Pillow open HEIC such as ``path``; StspbrError if pillow-heif is not installed."""
    _heif(str(path)).register_heif_opener()


def _heif(path: str = "") -> Any:
    try:
        import pillow_heif
    except ImportError:
        raise _missing("pillow-heif", "HEIC image", path) from None
    return pillow_heif


def _rawpy(path: str = "") -> Any:
    try:
        import rawpy
    except ImportError:
        raise _missing("rawpy", "raw photograph", path) from None
    return rawpy


def _missing(package: str, kind: str, path: str = "") -> StspbrError:
    return StspbrError(f"{path} is a {kind}, which needs the package {package}: pip install 'stspbr[photos]'".lstrip())
