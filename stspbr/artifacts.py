"""Versioned, atomic, content-hashed outputs of the stages: ``RUN/<stage>/v0001/``.

A version holds the stage's payload files, ``manifest.json`` (settings, parents, the hash of every file) and
``run.json`` (wall time, host, date: facts of one run that are not part of the result). It is written to a hidden
directory beside its final name and renamed when complete: a reader sees a whole version or none.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import itertools
import json
import os
import re
import shutil
import socket
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath
from typing import Any

from stspbr.errors import StspbrError
from stspbr.version import __version__

SCHEMA = 1
MANIFEST = "manifest.json"
RUN_FACTS = "run.json"
FINISHED = ("bake", "refine")
"""The stages whose artifacts hold an asset."""

_VERSION = re.compile(r"v(\d{4,})")
_PARTIAL = re.compile(r"\.v\d+\.partial-(\d+)-\d+-(.+)")
_STAGE = re.compile(r"[a-z0-9][a-z0-9-]*")
_PLACE_ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR)
_DRAFT_NUMBER = itertools.count()  # two threads of one process may write the same stage


@dataclass(frozen=True)
class Artifact:
    """A complete, checked version of one stage's output."""

    path: Path
    stage: str
    version: str
    manifest: dict[str, Any]

    @property
    def settings(self) -> dict[str, Any]:
        """The stage's full settings as plain JSON values."""
        return self.manifest["settings"]

    @property
    def content_hash(self) -> str:
        """SHA-256 (hex) of payload, settings, seed and parents; see :func:`content_hash`."""
        return self.manifest["content_hash"]

    @property
    def parents(self) -> dict[str, dict[str, str]]:
        """``{stage: {"version", "content_hash"}}`` of the artifacts it was made from."""
        return self.manifest["parents"]

    @property
    def files(self) -> list[str]:
        """Payload file names, relative to ``path``, with forward slashes."""
        return list(self.manifest["files"])

    def file(self, name: str) -> Path:
        """Path of one payload file; StspbrError if the manifest does not list it."""
        if name not in self.manifest["files"]:
            held = ", ".join(self.files[:8]) or "none"
            raise StspbrError(f"{self.path} has no file {name!r} (it holds: {held}): run `stspbr {self.stage}` again")
        return self.path / name


@dataclass
class Draft:
    """A version being written: payload files go under ``path``, facts of the run into ``run``."""

    path: Path
    run: dict[str, Any] = field(default_factory=dict)
    artifact: Artifact = field(init=False)  # set when the version has its final name


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


def plain(value: Any, where: str = "settings") -> Any:
    """``value`` as plain JSON data (tuples to lists, paths to strings, NumPy scalars to numbers).

    Raises:
        StspbrError: a number that is not finite; ``where`` names it.
        TypeError: a value of another type.
    """
    if isinstance(value, dict):
        return {str(key): plain(item, f"{where}.{key}") for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item, where) for item in value]
    if isinstance(value, os.PathLike):
        return Path(value).as_posix()
    if hasattr(value, "tolist") and not isinstance(value, (str, bytes)):
        return plain(value.tolist(), where)
    if isinstance(value, float) and not (float("-inf") < value < float("inf")):
        raise StspbrError(f"{where} is {value}: artifacts hold finite numbers only")
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    raise TypeError(f"{where}: {type(value).__name__} is not plain JSON data")


def content_hash(manifest: dict[str, Any]) -> str:
    """The hash that identifies an artifact: SHA-256 (hex) of canonical JSON (sorted keys, no blanks, UTF-8).

    It covers stage, settings, seed, the parents' content hashes, and every file's name and SHA-256. It leaves out
    device, backends, thread count, package version, wall time and host: if one of them changes the result, it changes
    the files' hashes.
    """
    identity = {
        "stage": manifest["stage"],
        "settings": manifest["settings"],
        "seed": manifest["seed"],
        "parents": {stage: parent["content_hash"] for stage, parent in manifest["parents"].items()},
        "files": {name: entry["sha256"] for name, entry in manifest["files"].items()},
    }
    text = json.dumps(identity, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return hashlib.sha256(text.encode("utf-8")).hexdigest()


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
        _check_stage(stage)
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
        with _one_line(folder):
            folder.mkdir(parents=True, exist_ok=True)
            _remove_abandoned(folder)
            draft = Draft(folder / f".{_next_version(folder)}.partial-{os.getpid()}-{next(_DRAFT_NUMBER)}-{_host()}")
            draft.path.mkdir()
        try:
            with _one_line(folder):
                yield draft
                manifest["files"] = _hash_payload(draft.path)
                manifest["content_hash"] = content_hash(manifest)
                facts = {
                    "started": started.isoformat(timespec="seconds"),
                    "finished": datetime.now(UTC).isoformat(timespec="seconds"),
                    "wall_seconds": round(time.monotonic() - clock, 3),
                    "host": socket.gethostname(),
                    **plain(draft.run, "run"),
                }
                _write_json(draft.path / RUN_FACTS, facts)
                _write_json(draft.path / MANIFEST, manifest)
                for place in [*draft.path.rglob("*"), draft.path]:
                    _flush(place)
                final = _claim(folder, draft.path)
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
        _check_stage(stage)
        folder = self.run_dir / stage
        versions = _versions(folder)
        if version is None:
            if not versions:
                raise StspbrError(f"{self.run_dir} holds no finished {stage!r} artifact: run `stspbr {stage}` first")
            return _load(folder / versions[-1])
        name = _version_name(version)
        if name not in versions:
            held = ", ".join(versions) or "none"
            raise StspbrError(f"{folder} has no version {name} (it has: {held}): choose one of these")
        return _load(folder / name)

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
        for name in reversed(_versions(self.run_dir / "refine")):
            made_from = _read_manifest(self.run_dir / "refine" / name)["parents"].get("bake", {})
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
        _check_stage(stage)
        wanted = (plain(settings), plain(seed), {p.stage: p.content_hash for p in parents})
        folder = self.run_dir / stage
        for name in reversed(_versions(folder)):
            try:
                manifest = _read_manifest(folder / name)
                hashes = {key: parent["content_hash"] for key, parent in manifest["parents"].items()}
                if (manifest["settings"], manifest["seed"], hashes) == wanted:
                    return _load(folder / name, payload)
            except StspbrError:
                continue
        return None

    def list(self) -> list[ArtifactRow]:
        """Every version of every stage, broken and unfinished ones too, which raise no error here."""
        rows = []
        stages = sorted(p for p in self.run_dir.iterdir() if p.is_dir()) if self.run_dir.is_dir() else []
        for folder in stages:
            if not _STAGE.fullmatch(folder.name):
                continue
            rows += [_row(folder / name, folder.name) for name in _versions(folder)]
            rows += [_row(p, folder.name) for p in sorted(folder.iterdir()) if _PARTIAL.fullmatch(p.name)]
        return rows


def _claim(folder: Path, draft: Path) -> Path:
    """Rename ``draft`` to the next free version. The rename itself decides between two writers."""
    while True:
        final = folder / _next_version(folder)
        try:
            os.rename(draft, final)
        except OSError as error:
            taken = error.errno in (errno.EEXIST, errno.ENOTEMPTY, errno.ENOTDIR)
            if not (taken or (os.name == "nt" and final.exists())):
                raise
            continue
        _flush(folder)
        return final


def _check_stage(stage: str) -> None:
    if not _STAGE.fullmatch(stage):
        raise ValueError(f"stage name {stage!r}: only a-z, 0-9 and '-' are allowed")


def _version_name(version: str | int) -> str:
    digits = re.fullmatch(r"v?(\d+)", str(version))
    if not digits:
        raise StspbrError(f"{version!r} is not a version: write it as v0003")
    return f"v{int(digits[1]):04d}"


def _versions(folder: Path) -> list[str]:
    """Names of the versions in ``folder``, oldest first. A stray file with such a name counts as one."""
    names = [p.name for p in folder.iterdir() if _VERSION.fullmatch(p.name)] if folder.is_dir() else []
    return sorted(names, key=lambda name: int(name[1:]))


def _next_version(folder: Path) -> str:
    return f"v{int((_versions(folder) or ['v0'])[-1][1:]) + 1:04d}"


def _load(path: Path, payload: bool = True) -> Artifact:
    """Read and check one version, its files too unless ``payload`` is False."""
    manifest = _read_manifest(path)
    remedy = f"remove {path} and run the stage again, or choose another version with --from"
    for name, entry in manifest["files"].items() if payload else ():
        place = path / name
        try:
            size = place.stat().st_size
            if size != entry["size"]:
                what = "truncated" if size < entry["size"] else "edited"
                raise StspbrError(f"{place} was {what} ({size} bytes, {entry['size']} expected): {remedy}")
            if _sha256(place) != entry["sha256"]:
                raise StspbrError(f"{place} was edited (its SHA-256 differs from the manifest's): {remedy}")
        except FileNotFoundError:
            raise StspbrError(f"{place} is missing: {remedy}") from None
        except OSError as error:
            raise StspbrError(f"{place} cannot be read ({error.strerror}): {remedy}") from error
    if content_hash(manifest) != manifest["content_hash"]:
        raise StspbrError(f"{path / MANIFEST} was edited (its content hash does not match): {remedy}")
    return Artifact(path, manifest["stage"], path.name, manifest)


def _read_manifest(path: Path) -> dict[str, Any]:
    """The manifest of a version; its structure is checked, the files are not."""
    place = path / MANIFEST
    remedy = f"remove {path} and run the stage again, or choose another version with --from"
    try:
        manifest = json.loads(place.read_bytes())
    except FileNotFoundError:
        raise StspbrError(f"{place} is missing: {remedy}") from None
    except OSError as error:
        raise StspbrError(f"{place} cannot be read ({error.strerror}): {remedy}") from error
    except ValueError:
        raise StspbrError(f"{place} is truncated or not JSON: {remedy}") from None
    schema = manifest.get("schema") if isinstance(manifest, dict) else None
    if not isinstance(schema, int) or isinstance(schema, bool):
        raise StspbrError(f"{place} has no schema number: {remedy}")
    if schema > SCHEMA:
        raise StspbrError(f"{place} has schema {schema}, this stspbr reads up to {SCHEMA}: install a newer stspbr")
    if not _well_formed(manifest) or manifest["stage"] != path.parent.name:
        raise StspbrError(f"{place} was edited (fields are missing or of the wrong type): {remedy}")
    return manifest


def _well_formed(manifest: dict[str, Any]) -> bool:
    shape = {"stage": str, "settings": dict, "parents": dict, "files": dict, "content_hash": str}
    if "seed" not in manifest or not all(isinstance(manifest.get(key), kind) for key, kind in shape.items()):
        return False
    for name, entry in manifest["files"].items():
        outside = PurePosixPath(name).is_absolute() or ".." in PurePosixPath(name).parts
        if outside or not isinstance(entry, dict) or not {"sha256", "size"} <= entry.keys():
            return False
    return all(isinstance(p, dict) and {"version", "content_hash"} <= p.keys() for p in manifest["parents"].values())


def _row(path: Path, stage: str) -> ArtifactRow:
    settings, parents, version = {}, {}, path.name
    if _PARTIAL.fullmatch(path.name):
        state, version = "unfinished", path.name[1:].split(".")[0]
    else:
        try:
            manifest = _read_manifest(path)
            settings = manifest["settings"]
            parents = {key: str(parent["version"]) for key, parent in manifest["parents"].items()}
            _load(path)
            state = "complete"
        except StspbrError as error:
            state = str(error)
    size, written = 0, 0.0
    with contextlib.suppress(OSError):
        written = path.stat().st_mtime
        size = sum(p.stat().st_size for p in path.rglob("*") if p.is_file())
    return ArtifactRow(stage, version, path, size, max(0.0, time.time() - written), settings, parents, state)


def _hash_payload(path: Path) -> dict[str, dict[str, Any]]:
    files = {}
    for place in sorted(path.rglob("*")):
        name = place.relative_to(path).as_posix()
        if place.is_symlink():
            raise ValueError(f"{name} is a link: an artifact holds files only")
        if name in (MANIFEST, RUN_FACTS):
            raise ValueError(f"{name} is a name that the store uses itself")
        if place.is_file():
            files[name] = {"sha256": _sha256(place), "size": place.stat().st_size}
    return files


def _sha256(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _write_json(path: Path, value: Any) -> None:
    path.write_text(json.dumps(value, indent=2, sort_keys=True, ensure_ascii=False, allow_nan=False) + "\n", "utf-8")


def _flush(path: Path) -> None:
    """fsync a file or, if the system can, a directory."""
    if os.name == "nt":
        return
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):  # some network disks cannot
            raise
    finally:
        os.close(descriptor)


def _host() -> str:
    return re.sub(r"[^A-Za-z0-9]+", "_", socket.gethostname()) or "host"


def _remove_abandoned(folder: Path) -> None:
    """Remove the drafts that killed processes of this host left."""
    for place in folder.iterdir():
        match = _PARTIAL.fullmatch(place.name)
        if match and match[2] == _host() and os.name != "nt" and not _alive(int(match[1])):
            shutil.rmtree(place, ignore_errors=True)


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True


@contextlib.contextmanager
def _one_line(folder: Path) -> Iterator[None]:
    """Turn "disk full" and "not allowed" into one line that names the path."""
    try:
        yield
    except OSError as error:
        if error.errno in _PLACE_ERRORS:
            place = error.filename or folder
            raise StspbrError(f"cannot write {place} ({error.strerror}): make room or choose another run") from error
        raise
