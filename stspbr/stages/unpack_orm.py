"""Unpack: occlusion, roughness and metallic as one grey map each."""

from __future__ import annotations

from pathlib import Path

from stspbr.artifacts import Artifact
from stspbr.formats.orm import unpack
from stspbr.settings import UnpackSettings
from stspbr.stages.session import Session, on_first_rank


@on_first_rank
def run_unpack_orm(session: Session, settings: UnpackSettings) -> Artifact:
    """Unpack the newest bake's GLB into ``occlusion.png``, ``roughness.png`` and ``metallic.png``.

    Several materials give ``<material>_roughness.png`` and so on.
    """
    parent = session.parent("bake")
    with session.store.create(
        "unpack-orm",
        settings=settings.model_dump(mode="json"),
        parents=[parent],
        device=str(session.device),
        threads=session.threads,
        seed=session.seed,
    ) as draft:
        unpack(parent.file("asset.glb"), draft.path, settings.bits)
    return draft.artifact


def unpack_file(source: Path, folder: Path, bits: int) -> list[Path]:
    """Unpack any GLB, glTF or packed ORM image into ``folder``."""
    return unpack(source, folder, bits)
