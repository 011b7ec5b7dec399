"""Export dataset: a run's capture as a data set for other tools."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

from stspbr.artifacts import ArtifactStore
from stspbr.datasets.captures import write_dataset
from stspbr.datasets.transforms import read_transforms
from stspbr.errors import StspbrError
from stspbr.settings import ExportDatasetSettings


def export_dataset(
    run: Path,
    out: Path,
    settings: ExportDatasetSettings,
    version: str | None = None,
    on_warning: Callable[[str], None] | None = None,
) -> Path:
    """Write the capture of ``run`` to the folder ``out``, which must be new or empty.

    The data set is written beside ``out`` and renamed when complete: ``out`` is never half written.

    Args:
        settings, on_warning: see :func:`stspbr.datasets.captures.write_dataset`.
        version: of the capture; None is the newest.

    Returns:
        ``out``.

    Raises:
        StspbrError: there is no capture, ``out`` is taken or cannot be written, or the format cannot hold the capture.
    """
    if out.is_file() or (out.is_dir() and any(out.iterdir())):
        raise StspbrError(f"{out} exists and is not empty: choose another folder, or remove it")
    artifact = ArtifactStore(run).resolve("capture", version)
    capture = read_transforms(artifact.file("transforms.json"))
    draft = out.with_name(f".{out.name}.partial-{os.getpid()}")
    try:
        draft.mkdir(parents=True, exist_ok=True)
        write_dataset(draft, capture, settings.to, settings.image_format, on_warning, text=settings.text)
        if out.is_dir():
            out.rmdir()
        draft.rename(out)
    except OSError as error:
        reason = error.strerror or error
        raise StspbrError(f"cannot write {out} ({reason}): make room, or choose another place") from error
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    return out
