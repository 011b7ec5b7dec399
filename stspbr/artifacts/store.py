"""The artifacts of one run directory: write a version, find one, follow its parents."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from stspbr.artifacts.drafts import Draft, complete, hash_payload, one_line, remove_abandoned
from stspbr.artifacts.manifest import SCHEMA, Artifact, content_hash, load_artifact, plain, read_manifest
from stspbr.artifacts.names import PARTIAL, STAGE, check_stage, draft_name, version_name, versions_in
from stspbr.errors import StspbrError
from stspbr.version import __version__

FINISHED = ("bake", "refine")
"""The stages whose artifacts hold an asset."""


@dataclass(frozen=True)
class ArtifactRow:
    """One line of ``stspbr artifacts``: ``state`` is ``"complete"``, ``"unfinished"`` or the error."""

    stage: str
    version: str
    path: Path
    size: int
    age: float  # seconds since it was written
    settings: dict[str, Any]
    parents: dict[str, str]  # stage to version
    state: str


class ArtifactStore:
    """The artifacts of one run directory."""

    def __init__(self, run_dir: str | os.PathLike[str]):
        self.run_dir = Path(run_dir)

    @contextlib.contextmanager
    def create(
        self,
        stage: str,
        *,
        settings: dict[str, Any],
        parents: Sequence[Artifact] = (),
        device: str = "cpu",
        threads: int = 1,
        seed: int | None = None,
        backends: dict[str, str] | None = None,
    ) -> Iterator[Draft]:
        """Write a new version: yields a :class:`Draft`, whose directory becomes the next free version.

        On a normal exit the files are hashed, the manifest is written, everything is flushed to disk and the
        directory is renamed; ``draft.artifact`` is then set. If the body raises, nothing is left.

        Raises:
            StspbrError: the disk is full or the directory cannot be written.
            ValueError: a bad stage name, or two parents of one stage.
        """
        check_stage(stage)
        if len({parent.stage for parent in parents}) != len(parents):
            raise ValueError("two parents of the same stage")
        manifest = {
            "schema": SCHEMA,
            "stage": stage,
            "package": {"name": "stspbr", "version": __version__},
            "settings": plain(settings),
            "seed": plain(seed, "seed"),
            "parents": {p.stage: {"version": p.version, "content_hash": p.content_hash} for p in parents},
            "device": str(device),
            "threads": int(threads),
            **({"backends": dict(backends)} if backends else {}),
        }
        folder = self.run_dir / stage
        started, clock = datetime.now(UTC), time.monotonic()
        with one_line(folder):
            folder.mkdir(parents=True, exist_ok=True)
            remove_abandoned(folder)
            draft = Draft(folder / draft_name(folder))
            draft.path.mkdir()
        try:
            with one_line(folder):
                yield draft
                manifest["files"] = hash_payload(draft.path)
                manifest["content_hash"] = content_hash(manifest)
                facts = {
                    "started": started.isoformat(timespec="seconds"),
                    "finished": datetime.now(UTC).isoformat(timespec="seconds"),
                    "wall_seconds": round(time.monotonic() - clock, 3),
                    "host": socket.gethostname(),
                    **plain(draft.run, "run"),
                }
                final = complete(folder, draft.path, manifest, facts)
            draft.artifact = Artifact(final, stage, final.name, manifest)
            draft.path = final
        except BaseException:
            shutil.rmtree(draft.path, ignore_errors=True)
            raise

    def resolve(self, stage: str, version: str | int | None = None) -> Artifact:
        """The newest version of a stage, or the one asked for (``"v0003"``, ``"3"`` or 3), checked.

        Every payload file must exist with its size and SHA-256. A broken newest version is an error: it is never
        skipped.

        Raises:
            StspbrError: no such version; or a file is missing, truncated or edited; or the schema is newer.
        """
        check_stage(stage)
        folder = self.run_dir / stage
        versions = versions_in(folder)
        if version is None:
            if not versions:
                raise StspbrError(f"{self.run_dir} holds no finished {stage!r} artifact: run `stspbr {stage}` first")
            return load_artifact(folder / versions[-1])
        name = version_name(version)
        if name not in versions:
            held = ", ".join(versions) or "none"
            raise StspbrError(f"{folder} has no version {name} (it has: {held}): choose one of these")
        return load_artifact(folder / name)

    def finished(self, version: str | int | None = None) -> Artifact:
        """The artifact that holds the asset: the newest bake, or its newest refinement if there is one.

        Args:
            version: of a bake that is taken as it is (``"v0003"``), or of a refinement (``"refine/v0001"``).

        Raises:
            StspbrError: as ``resolve``.
        """
        if version is not None:
            stage, _, number = str(version).rpartition("/")
            if stage not in ("", *FINISHED):
                raise StspbrError(
                    f"--from {version}: write v0003 or bake/v0003 for a bake, refine/v0001 for its refinement"
                )
            return self.resolve(stage or "bake", number)
        bake = self.resolve("bake")
        for name in reversed(versions_in(self.run_dir / "refine")):
            made_from = read_manifest(self.run_dir / "refine" / name)["parents"].get("bake", {})
            if made_from.get("content_hash") == bake.content_hash:
                return self.resolve("refine", name)
        return bake

    def parent_of(self, artifact: Artifact, stage: str) -> Artifact:
        """The ``stage`` artifact that ``artifact`` was made from.

        Raises:
            StspbrError: it is gone, or its content has changed.
        """
        entry = artifact.parents.get(stage)
        if entry is None:
            raise StspbrError(f"{artifact.path} was not made from a {stage} artifact")
        found = self.resolve(stage, entry["version"])
        if found.content_hash != entry["content_hash"]:
            raise StspbrError(f"{found.path} is not what {artifact.path} was made from: run `stspbr {artifact.stage}`")
        return found

    def lineage(self, artifact: Artifact) -> dict[str, Artifact]:
        """``artifact`` and all that it was made from, by stage; StspbrError as ``parent_of``."""
        found = {artifact.stage: artifact}
        waiting = [artifact]
        while waiting:
            child = waiting.pop()
            for stage in child.parents:
                if stage not in found:
                    found[stage] = self.parent_of(child, stage)
                    waiting.append(found[stage])
        return found

    def find(
        self,
        stage: str,
        settings: dict[str, Any],
        parents: Sequence[Artifact] = (),
        seed: int | None = None,
        *,
        payload: bool = True,
    ) -> Artifact | None:
        """The newest sound version made with these settings, seed and parents (by content hash), or None.

        A stage whose inputs have not changed is thus not run again. Broken versions are skipped.

        Args:
            payload: compare every file with its hash; False: only the manifest is looked at.
        """
        check_stage(stage)
        wanted = (plain(settings), plain(seed), {p.stage: p.content_hash for p in parents})
        folder = self.run_dir / stage
        for name in reversed(versions_in(folder)):
            try:
                manifest = read_manifest(folder / name)
                hashes = {key: parent["content_hash"] for key, parent in manifest["parents"].items()}
                if (manifest["settings"], manifest["seed"], hashes) == wanted:
                    return load_artifact(folder / name, payload)
            except StspbrError:
                continue
        return None

    def list(self) -> list[ArtifactRow]:
        """Every version of every stage, broken and unfinished ones too, which raise no error here."""
        rows = []
        stages = sorted(p for p in self.run_dir.iterdir() if p.is_dir()) if self.run_dir.is_dir() else []
        for folder in stages:
            if not STAGE.fullmatch(folder.name):
                continue
            rows += [_row(folder / name, folder.name) for name in versions_in(folder)]
            rows += [_row(p, folder.name) for p in sorted(folder.iterdir()) if PARTIAL.fullmatch(p.name)]
        return rows


def _row(path: Path, stage: str) -> ArtifactRow:
    settings, parents, version = {}, {}, path.name
    if PARTIAL.fullmatch(path.name):
        state, version = "unfinished", path.name[1:].split(".")[0]
    else:
        try:
            manifest = read_manifest(path)
            settings = manifest["settings"]
            parents = {key: str(parent["version"]) for key, parent in manifest["parents"].items()}
            load_artifact(path)
            state = "complete"
        except StspbrError as error:
            state = str(error)
    size, written = 0, 0.0
    with contextlib.suppress(OSError):
        written = path.stat().st_mtime
        size = sum(p.stat().st_size for p in path.rglob("*") if p.is_file())
    return ArtifactRow(stage, version, path, size, max(0.0, time.time() - written), settings, parents, state)
