"""One way in for captures of any kind, and one way out."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from stspbr.datasets.posed_images import HOLD_OUT_EVERY
from stspbr.errors import StspbrError
from stspbr.scene.capture import Capture

KINDS = ("nerfstudio", "nerf", "llff", "colmap", "orb")
EXPORT_KINDS = ("llff", "nerf", "nerfstudio", "colmap")


def read_capture(
    path: str | Path,
    on_warning: Callable[[str], None] | None = None,
    *,
    kind: str | None = None,
    up: str = "auto",
    masks: str | None = None,
    hold_out_every: int = HOLD_OUT_EVERY,
    known_light: bool = False,
    stream: Callable[[str], None] | None = None,
) -> Capture:
    """Read and check a capture: a folder of a data set, or a ``transforms.json``.

    Args:
        on_warning: called with each warning, one line each.
        kind: ``nerfstudio``, ``nerf``, ``llff``, ``colmap`` or ``orb``; None: what lies there (never ``orb``).
        up: the world's up axis: ``+y``, ``-y``, ``+z``, ``-z``; ``auto``: what the format says, and where it says
            nothing (LLFF, COLMAP) the mean of the cameras' own.
        masks: a folder of masks for images without alpha, relative to the data set's; None: ``masks`` where LLFF and
            COLMAP have it.
        hold_out_every: where the data set has no splits every 8th image is held out; 0: none.
        known_light: ``orb``: take the benchmark's light.
        stream: leave the pixels on disk, see :func:`stspbr.datasets.posed_images.read_posed_images`.

    Raises:
        StspbrError: the folder is none of these, or the reader's own errors.
    """
    path = Path(path)
    kind = kind or _kind(path)
    if known_light and kind != "orb":
        raise StspbrError("known_light is for orb only: other data sets have their light in environment.exr")
    if masks is not None and kind == "orb":
        raise StspbrError("masks is not for orb, whose scenes have masks of their own: leave it out")
    if kind == "nerfstudio":
        from stspbr.datasets.transforms import read_transforms

        return read_transforms(path, on_warning, up=up, masks=masks, hold_out_every=hold_out_every, stream=stream)
    if kind == "nerf":
        from stspbr.datasets.nerf_synthetic import read_nerf_synthetic

        return read_nerf_synthetic(path, on_warning, up=up, masks=masks, stream=stream)
    if kind == "llff":
        from stspbr.datasets.llff import read_llff

        return read_llff(path, on_warning, up=up, masks=masks, hold_out_every=hold_out_every, stream=stream)
    if kind == "colmap":
        from stspbr.datasets.colmap import read_colmap

        return read_colmap(path, on_warning, up=up, masks=masks, hold_out_every=hold_out_every, stream=stream)
    if kind == "orb":
        from stspbr.datasets.orb import read_orb

        return read_orb(path, on_warning, up=up, known_light=known_light, stream=stream)
    raise StspbrError(f"captures of kind {kind!r} are not known: choose one of {', '.join(KINDS)}")


def write_dataset(
    folder: str | Path,
    capture: Capture,
    kind: str,
    image_format: str = "png",
    on_warning: Callable[[str], None] | None = None,
    *,
    text: bool = False,
) -> Path:
    """Write a capture for other tools.

    Args:
        kind: one of :data:`EXPORT_KINDS`.
        image_format: ``png`` and ``png16`` (sRGB, straight alpha, clipped at 1), ``exr`` and ``exr32`` (linear).
        on_warning: called with what the format cannot hold as it is and was made to fit, one line each.
        text: ``colmap``: text files in place of binary ones.

    Returns:
        The file or folder that a reader starts from.

    Raises:
        StspbrError: what cannot be made to fit, by name.
    """
    if kind == "nerfstudio":
        from stspbr.datasets.transforms import write_nerfstudio

        return write_nerfstudio(folder, capture, image_format, on_warning)
    if kind == "nerf":
        from stspbr.datasets.nerf_synthetic import write_nerf_synthetic

        return write_nerf_synthetic(folder, capture, image_format, on_warning)
    if kind == "llff":
        from stspbr.datasets.llff import write_llff

        return write_llff(folder, capture, image_format, on_warning)
    if kind == "colmap":
        from stspbr.datasets.colmap import write_colmap

        return write_colmap(folder, capture, image_format, on_warning, text=text)
    raise StspbrError(f"data sets of kind {kind!r} are not written: choose one of {', '.join(EXPORT_KINDS)}")


def _kind(path: Path) -> str:
    """What lies at ``path``."""
    if path.is_file() or (path / "transforms.json").is_file():
        return "nerfstudio"
    if (path / "transforms_train.json").is_file():
        return "nerf"
    if (path / "poses_bounds.npy").is_file():
        return "llff"
    if any((path / place).is_file() for place in ("cameras.bin", "cameras.txt")) or (path / "sparse").is_dir():
        return "colmap"
    raise StspbrError(
        f"{path} holds neither transforms.json nor transforms_train.json, poses_bounds.npy or a COLMAP model: "
        "check the path"
    )
