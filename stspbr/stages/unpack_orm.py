"""Unpack: occlusion, roughness and metallic as one grey map each."""

from __future__ import annotations

from stspbr.artifacts import Artifact
from stspbr.formats.orm import unpack
from stspbr.settings import UnpackSettings
from stspbr.stages.session import Session, on_first_rank


@on_first_rank
def run_unpack_orm(session: Session, settings: UnpackSettings) -> Artifact:
    """Unpack the GLB of the newest bake, or of its refinement.

    Writes ``occlusion.png``, ``roughness.png`` and ``metallic.png``.

    If there are several materials, the names are ``<material>_roughness.png`` and so on.
    """
    parent = session.asset()
    with session.create("unpack-orm", settings, [parent]) as draft:
        unpack(parent.file("asset.glb"), draft.path, settings.bits)
    return draft.artifact
