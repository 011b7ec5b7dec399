"""The artifacts of a run for a page: the newest bake, its ancestors, and its evaluation and unpacked maps."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from stspbr.artifacts import FINISHED, Artifact, ArtifactStore
from stspbr.errors import StspbrError

MAIN_STAGES = ("capture", "coarse", "specialize", *FINISHED)
STAGES = (*MAIN_STAGES, "unpack-orm", "evaluate")


@dataclass
class RunRecord:
    """The artifacts of one chain of stages in a run's folder.

    Attributes:
        path: the run's folder; name: its name in a page.
        artifacts: stage to artifact, in the order of the stages; missing stages are absent.
        facts: stage to its ``run.json`` (wall time, host, date).
        errors: ``errors.json`` of the evaluation, or None.
        notices: one line per missing or unfitting artifact.
    """

    path: Path
    name: str
    artifacts: dict[str, Artifact] = field(default_factory=dict)
    facts: dict[str, dict[str, Any]] = field(default_factory=dict)
    errors: dict[str, Any] | None = None
    notices: list[str] = field(default_factory=list)

    @property
    def asset_stage(self) -> str:
        """The stage whose asset is shown: ``refine`` if the run has one, else ``bake``."""
        return "refine" if "refine" in self.artifacts else "bake"

    def json(self, stage: str, name: str) -> dict[str, Any]:
        """A JSON object from the stage's payload; empty if there is none."""
        path = self.file(stage, name)
        content = {} if path is None else json.loads(path.read_text(encoding="utf-8"))
        return content if isinstance(content, dict) else {}

    def file(self, stage: str, name: str) -> Path | None:
        """Path of a payload file, or None."""
        artifact = self.artifacts.get(stage)
        return artifact.file(name) if artifact is not None and name in artifact.files else None


def read_record(run: str | Path, version: str | None = None) -> RunRecord:
    """Collect an asset with its ancestors, and its newest evaluation and unpacked maps.

    A broken or missing artifact becomes a notice, as does a missing bake.

    Raises:
        StspbrError: the folder or the version does not exist, or the folder has no artifact of any stage.
    """
    run = Path(run)
    if not run.is_dir():
        raise StspbrError(f"{run}: no such folder; give the folder of a run")
    record = RunRecord(run, run.resolve().name)
    if not any(_versions(run / stage) for stage in MAIN_STAGES):
        raise StspbrError(f"{run} is not a run: it has no artifacts; start with `stspbr capture`")
    store = ArtifactStore(run)
    found = _newest(store, record) if version is None else _one(store.finished(version))
    _add_ancestors(store, record, found)
    finished = next((found[stage] for stage in reversed(FINISHED) if stage in found), None)
    if finished is not None:
        for stage in ("unpack-orm", "evaluate"):
            _add_descendant(store, record, found, finished, stage)
    record.artifacts = {stage: found[stage] for stage in STAGES if stage in found}
    for stage, artifact in record.artifacts.items():
        record.facts[stage] = _facts(artifact)
    _read_errors(record)
    return record


def _newest(store: ArtifactStore, record: RunRecord) -> dict[str, Artifact]:
    """The newest valid artifact of the latest stage that has one."""
    for stage in reversed(MAIN_STAGES):
        if not _versions(store.run_dir / stage):
            continue
        try:
            return _one(store.finished() if stage == "refine" else store.resolve(stage))
        except StspbrError as error:
            record.notices.append(str(error))
    return {}


def _one(artifact: Artifact) -> dict[str, Artifact]:
    return {artifact.stage: artifact}


def _add_ancestors(store: ArtifactStore, record: RunRecord, found: dict[str, Artifact]) -> None:
    """Follow the parents by version and content hash, as far as they exist."""
    waiting = list(found.values())
    while waiting:
        child = waiting.pop()
        for stage, entry in child.parents.items():
            if stage in found:
                continue
            try:
                parent = store.resolve(stage, entry["version"])
            except StspbrError as error:
                record.notices.append(str(error))
                continue
            if parent.content_hash != entry["content_hash"]:
                record.notices.append(f"{_name(parent)} is not what {_name(child)} was made from; it is left out")
                continue
            found[stage] = parent
            waiting.append(parent)


def _add_descendant(
    store: ArtifactStore, record: RunRecord, found: dict[str, Artifact], finished: Artifact, stage: str
) -> None:
    """The newest valid artifact of ``stage`` that was made from ``finished``."""
    others = []
    for version in reversed(_versions(store.run_dir / stage)):
        try:
            artifact = store.resolve(stage, version)
        except StspbrError as error:
            record.notices.append(str(error))
            continue
        entry = artifact.parents.get(finished.stage)
        if entry is not None and entry["content_hash"] == finished.content_hash:
            found[stage] = artifact
            return
        others.append(version)
    if stage == "evaluate" and others:
        record.notices.append(
            f"evaluate/{others[0]} is not of {_name(finished)} and is left out: run `stspbr evaluate` again"
        )


def _read_errors(record: RunRecord) -> None:
    if "evaluate" not in record.artifacts:
        if "bake" in record.artifacts:
            remedy = "`stspbr evaluate RUN --reference asset.glb` makes one"
            missing = f"there is no evaluation of this {record.asset_stage}, so no errors against a known asset"
            record.notices.append(f"{missing}; {remedy}")
        else:
            reached = next(iter(reversed(record.artifacts)), "none")
            record.notices.append(f"this run has no bake yet; its last stage is {reached}")
        return
    if record.file("evaluate", "prompt.json") is not None:  # maps from a text: there is no known asset
        parts = record.json("evaluate", "prompt.json")["parts"]
        record.notices += [_prompt_line(name, found) for name, found in parts.items()]
        return
    record.errors = record.json("evaluate", "errors.json") or None
    if record.errors is None:
        record.notices.append(f"{_name(record.artifacts['evaluate'])} has no errors.json: run `stspbr evaluate`")


def _prompt_line(name: str, found: dict[str, Any]) -> str:
    """How far a part is from what its prompt says, in one line."""
    text = f"{name}, {found['prompt']!r}: "
    if "shares" in found:
        return text + f"{100 * found['shares']['either']:.0f} % of the surface within the words' ranges"
    off = ", ".join(f"{key} {found[key]:.2f}" for key in ("albedo", "roughness", "metallic"))
    return f"{text}outside the words' ranges by {off}"


def _facts(artifact: Artifact) -> dict[str, Any]:
    try:
        content = json.loads((artifact.path / "run.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}  # it is not a part of the result and may be lost in a copy
    return content if isinstance(content, dict) else {}


def _versions(folder: Path) -> list[str]:
    """Names of the versions in ``folder``, oldest first."""
    names = [p.name for p in folder.iterdir() if re.fullmatch(r"v\d{4,}", p.name)] if folder.is_dir() else []
    return sorted(names, key=lambda name: int(name[1:]))


def _name(artifact: Artifact) -> str:
    return f"{artifact.stage}/{artifact.version}"
