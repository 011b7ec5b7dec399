"""Export of a run's capture as a data set that other tools read."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

from stspbr.artifacts import ArtifactStore
from stspbr.datasets.captures import write_dataset
from stspbr.datasets.frame_files import image_suffix
from stspbr.datasets.transforms import read_transforms
from stspbr.errors import StspbrError


def export_dataset(
    run: Path,
    kind: str,
    out: Path,
    *,
    image_format: str = "png",
    version: str | None = None,
    text: bool = False,
    on_warning: Callable[[str], None] | None = None,
) -> Path:
    """Write the capture of ``run`` to the folder ``out``, which must be new or empty.

    It is written beside ``out`` and renamed when it is complete: ``out`` is all there or as it was.

    Args:
        kind, image_format, text, on_warning: see :func:`stspbr.datasets.captures.write_dataset`.
        version: of the capture; None is the newest.

    Returns:
        ``out``.

    Raises:
        StspbrError: no capture, a place that is taken or cannot be written, or what the format cannot hold.
    """
    image_suffix(image_format)
    if out.is_file() or (out.is_dir() and any(out.iterdir())):
        raise StspbrError(f"{out} is there already and not empty: choose another folder, or remove it")
    artifact = ArtifactStore(run).resolve("capture", version)
    capture = read_transforms(artifact.file("transforms.json"))
    draft = out.with_name(f".{out.name}.partial-{os.getpid()}")
    try:
        draft.mkdir(parents=True, exist_ok=True)
        write_dataset(draft, capture, kind, image_format, on_warning, text=text)
        if out.is_dir():
            out.rmdir()
        draft.rename(out)
    except OSError as error:
        raise StspbrError(
            f"cannot write {out} ({error.strerror or error}): make room, or choose another place"
        ) from error
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    return out
