"""Versioned, atomic, content-hashed outputs of the stages: ``RUN/<stage>/v0001/``.

A version holds the stage's payload files, ``manifest.json`` (settings, parents, the hash of every file) and
``run.json`` (wall time, host, date: facts of one run that are not part of the result). It is written to a hidden
directory beside its final name and renamed when complete: a reader sees a whole version or none.
"""

from stspbr.artifacts.drafts import Draft
from stspbr.artifacts.manifest import MANIFEST, RUN_FACTS, SCHEMA, Artifact, content_hash
from stspbr.artifacts.store import FINISHED, ArtifactRow, ArtifactStore

__all__ = [
    "FINISHED",
    "MANIFEST",
    "RUN_FACTS",
    "SCHEMA",
    "Artifact",
    "ArtifactRow",
    "ArtifactStore",
    "Draft",
    "content_hash",
]
