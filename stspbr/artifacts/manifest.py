"""What a version says of itself, and whether it still is what it was: manifest, hashes, the check of every file."""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from stspbr.errors import StspbrError

SCHEMA = 1
MANIFEST = "manifest.json"
RUN_FACTS = "run.json"


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


def load_artifact(path: Path, payload: bool = True) -> Artifact:
    """Read and check one version, its files too unless ``payload`` is False."""
    manifest = read_manifest(path)
    remedy = f"remove {path} and run the stage again, or choose another version with --from"
    for name, entry in manifest["files"].items() if payload else ():
        place = path / name
        try:
            size = place.stat().st_size
            if size != entry["size"]:
                what = "truncated" if size < entry["size"] else "edited"
                raise StspbrError(f"{place} was {what} ({size} bytes, {entry['size']} expected): {remedy}")
            if sha256(place) != entry["sha256"]:
                raise StspbrError(f"{place} was edited (its SHA-256 differs from the manifest's): {remedy}")
        except FileNotFoundError:
            raise StspbrError(f"{place} is missing: {remedy}") from None
        except OSError as error:
            raise StspbrError(f"{place} cannot be read ({error.strerror}): {remedy}") from error
    if content_hash(manifest) != manifest["content_hash"]:
        raise StspbrError(f"{path / MANIFEST} was edited (its content hash does not match): {remedy}")
    return Artifact(path, manifest["stage"], path.name, manifest)


def read_manifest(path: Path) -> dict[str, Any]:
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


def sha256(path: Path) -> str:
    """The hash of a file's bytes, in hex."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
