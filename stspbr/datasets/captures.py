"""One way in for captures of any kind, and one way out."""

from __future__ import annotations

from pathlib import Path

from stspbr.datasets.colmap import read_colmap, write_colmap
from stspbr.datasets.llff import read_llff, write_llff
from stspbr.datasets.nerf_synthetic import read_nerf_synthetic, write_nerf_synthetic
from stspbr.datasets.orb import read_orb
from stspbr.datasets.posed_images import HOLD_OUT_EVERY
from stspbr.datasets.transforms import read_transforms
from stspbr.datasets.transforms_writer import write_nerfstudio
from stspbr.datasets.validation import Log
from stspbr.errors import StspbrError
from stspbr.formats.choices import USUAL, FileChoices
from stspbr.scene.capture import Capture

KINDS = ("nerfstudio", "nerf", "llff", "colmap", "orb")
EXPORT_KINDS = ("llff", "nerf", "nerfstudio", "colmap")


def read_capture(
    path: str | Path,
    on_warning: Log = None,
    *,
    kind: str | None = None,
    up: str = "auto",
    masks: str | None = None,
    hold_out_every: int = HOLD_OUT_EVERY,
    known_light: bool = False,
    stream: Log = None,
    choices: FileChoices = USUAL,
) -> Capture:
    """Read and check a capture: a folder of a data set, or a ``transforms.json``.

    Args:
        on_warning: called with each warning, one line each.
        kind: ``nerfstudio``, ``nerf``, ``llff``, ``colmap`` or ``orb``; None: what lies there (never ``orb``).
        up: the world's up axis: ``+y``, ``-y``, ``+z``, ``-z``; ``auto``: that of the format, or of the file, or
            (LLFF, COLMAP) the mean of the cameras' own.
        masks: a folder of masks for images without alpha, relative to the data set's, which must exist; None: the
            folder ``masks`` of LLFF and COLMAP, if there is one.
        hold_out_every: if the data set has no splits, every 8th image is held out; 0: none.
        known_light: ``orb``: take the benchmark's light.
        stream: leave the pixels on disk, see :func:`stspbr.datasets.posed_images.read_posed_images`.
        choices: how images and masks are read if there are several ways.

    Raises:
        StspbrError: the folder is none of these, or the reader's own errors.
    """
    path = Path(path)
    kind = kind or _kind(path)
    if known_light and kind != "orb":
        raise StspbrError("known_light is for orb only: other data sets have their light in environment.exr")
    if masks is not None and kind == "orb":
        raise StspbrError("masks is not for orb, whose scenes have masks of their own: leave it out")
    if kind == "orb":
        return read_orb(path, on_warning, up=up, known_light=known_light, stream=stream, choices=choices)
    if kind == "nerf":
        return read_nerf_synthetic(path, on_warning, up=up, masks=masks, stream=stream, choices=choices)
    readers = {"nerfstudio": read_transforms, "llff": read_llff, "colmap": read_colmap}
    if kind not in readers:
        raise StspbrError(f"captures of kind {kind!r} are not supported: choose one of {', '.join(KINDS)}")
    return readers[kind](
        path, on_warning, up=up, masks=masks, hold_out_every=hold_out_every, stream=stream, choices=choices
    )


def write_dataset(
    folder: str | Path,
    capture: Capture,
    kind: str,
    image_format: str = "png",
    on_warning: Log = None,
    *,
    text: bool = False,
) -> Path:
    """Write a capture for other tools.

    Args:
        kind: one of :data:`EXPORT_KINDS`.
        image_format: ``png`` and ``png16`` (sRGB, straight alpha, clipped at 1), ``exr`` and ``exr32`` (linear).
        on_warning: called with each thing that was changed to fit the format, one line each.
        text: ``colmap``: text files in place of binary ones.

    Returns:
        The file or folder that a reader starts from.

    Raises:
        StspbrError: what cannot be made to fit, by name.
    """
    if kind == "colmap":
        return write_colmap(folder, capture, image_format, on_warning, text=text)
    writers = {"nerfstudio": write_nerfstudio, "nerf": write_nerf_synthetic, "llff": write_llff}
    if kind not in writers:
        raise StspbrError(f"data sets of kind {kind!r} are not written: choose one of {', '.join(EXPORT_KINDS)}")
    return writers[kind](folder, capture, image_format, on_warning)


def kind_of(path: Path) -> str | None:
    """Which of ``KINDS`` lies at ``path`` (never ``orb``); None if none does."""
    if path.is_file() or (path / "transforms.json").is_file():
        return "nerfstudio"
    if (path / "transforms_train.json").is_file():
        return "nerf"
    if (path / "poses_bounds.npy").is_file():
        return "llff"
    if any((path / place).is_file() for place in ("cameras.bin", "cameras.txt")) or (path / "sparse").is_dir():
        return "colmap"
    return None


def _kind(path: Path) -> str:
    kind = kind_of(path)
    if kind is None:
        known = "transforms.json, transforms_train.json, poses_bounds.npy or a COLMAP model"
        raise StspbrError(f"{path} contains no {known}: check the path")
    return kind
