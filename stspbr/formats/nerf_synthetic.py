"""NeRF-synthetic folders: ``transforms_train.json``, ``transforms_test.json``, ``transforms_val.json``.

Blender's world is Z-up and is turned to +Y up (see :mod:`stspbr.formats.transforms`); PNG alpha is straight.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from stspbr.errors import StspbrError
from stspbr.formats.capture_checks import checked
from stspbr.formats.transforms import frame_file, read_frames, read_json
from stspbr.scene.capture import Capture, Frame


def read_nerf_synthetic(
    folder: str | Path, on_warning: Callable[[str], None] | None = None, *, include_val: bool = False
) -> Capture:
    """Read and check a NeRF-synthetic capture.

    Args:
        folder: holds the JSON files and the images that they name.
        on_warning: called with each warning of :func:`stspbr.formats.capture_checks.check_capture`.
        include_val: take the validation frames, too, as held-out ones.

    Raises:
        StspbrError: no training file, or anything missing, broken or contradictory.
    """
    folder = Path(folder)
    files = {"train": "train", "test": "test"} | ({"val": "test"} if include_val else {})
    frames: list[Frame] = []
    for name, split in files.items():
        path = folder / f"transforms_{name}.json"
        if not path.exists() and name != "train":
            continue
        content = read_json(path)
        entries = content.get("frames")
        if not isinstance(entries, list) or not entries:
            raise StspbrError(f"{path} has no frames: check the file")
        chosen = [(entry, frame_file(path, entry), split) for entry in entries]
        frames += read_frames(path, content, chosen, z_up=True)
    return checked(Capture(frames), on_warning)
