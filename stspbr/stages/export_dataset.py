"""Export dataset: a run's capture as a data set for other tools."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

from stspbr.artifacts import Artifact, ArtifactStore
from stspbr.datasets.captures import write_dataset
from stspbr.datasets.transforms import read_transforms
from stspbr.errors import StspbrError
from stspbr.scene import Capture
from stspbr.settings import ExportDatasetSettings


def export_dataset(
    run: Path,
    out: Path,
    settings: ExportDatasetSettings,
    version: str | None = None,
    on_warning: Callable[[str], None] | None = None,
) -> Path:
    """Write the capture of ``run`` to the folder ``out``, which must be new or empty.

    If a later stage has corrected the cameras of this capture, the newest corrections are taken.

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
    store = ArtifactStore(run)
    artifact = store.resolve("capture", version)
    capture = _corrected(store, artifact, read_transforms(artifact.file("transforms.json")))
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


def _corrected(store: ArtifactStore, artifact: Artifact, capture: Capture) -> Capture:
    """``capture`` with the cameras of the last stage that was made from ``artifact`` and corrected them."""
    from stspbr.stages.cameras import refined_capture  # loads torch, which a run without stages does not need

    for stage in ("refine", "bake", "specialize", "coarse"):
        if not any((store.run_dir / stage).glob("v[0-9]*")):
            continue
        found = store.resolve(stage)
        if store.lineage(found)["capture"].content_hash == artifact.content_hash:
            return refined_capture(capture, found)
    return capture
