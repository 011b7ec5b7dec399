"""One way in for captures of any kind."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from stspbr.errors import StspbrError
from stspbr.scene.capture import Capture


def read_capture(
    path: str | Path, on_warning: Callable[[str], None] | None = None, *, kind: str | None = None
) -> Capture:
    """Read and check a capture: a ``transforms.json`` (or its folder), or a NeRF-synthetic folder.

    Args:
        on_warning: called with each warning, one line each.
        kind: ``nerfstudio`` or ``nerf``; None: what lies there.

    Raises:
        StspbrError: the folder is neither, or the reader's own errors.
    """
    path = Path(path)
    if kind == "nerfstudio" or (kind is None and (path.is_file() or (path / "transforms.json").is_file())):
        from stspbr.formats.transforms import read_transforms

        return read_transforms(path, on_warning)
    if kind == "nerf" or (kind is None and (path / "transforms_train.json").is_file()):
        from stspbr.formats.nerf_synthetic import read_nerf_synthetic

        return read_nerf_synthetic(path, on_warning)
    raise StspbrError(f"{path} holds neither transforms.json nor transforms_train.json: check the path")
