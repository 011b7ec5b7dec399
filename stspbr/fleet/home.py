"""Where the runs of a fleet lie: a folder that all nodes share, or an object store from which nodes copy.

In both, ``NAME/`` is the run of an object, as `stspbr run` writes it, and ``.fleet/NAME.json`` says how far its present
task is. A version in an object store is complete if its ``manifest.json`` is there, which is copied last.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import shutil
import tempfile
from abc import ABC, abstractmethod
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from stspbr.artifacts import MANIFEST, RUN_FACTS
from stspbr.errors import StspbrError, missing_extra
from stspbr.files import write_file

_NOTES = ".fleet"
_BESIDE = ("report.html", "report.json", "result.png")  # of a run, beside its versions


class Home(ABC):
    """The runs of a fleet.

    Attributes:
        address: as the user gave it; shared: whether all nodes see the runs' folders themselves.
        note_every: seconds between two notes of a task's progress.
    """

    shared = True
    note_every = 2.0

    def __init__(self, address: str) -> None:
        self.address = address

    @abstractmethod
    def run(self, name: str) -> Path:
        """The run's folder on this machine."""

    @abstractmethod
    def manifests(self, name: str) -> Path:
        """A folder like the run's in which at least the manifests and ``report.json`` are."""

    @abstractmethod
    def note(self, name: str, facts: dict[str, Any]) -> None:
        """Say how far the object's task is; best effort."""

    @abstractmethod
    def read_note(self, name: str) -> dict[str, Any]:
        """What was said last; empty: nothing."""

    @abstractmethod
    def write(self, name: str, text: str) -> str:
        """Write a file beside the runs; returns its address."""

    @abstractmethod
    def read(self, name: str) -> str:
        """What ``write`` wrote; empty: nothing."""

    @abstractmethod
    def fetch(self, name: str) -> None:
        """Bring what is finished of an object, and its checkpoints, to this machine."""

    @abstractmethod
    def deliver(self, name: str, *, last: bool) -> None:
        """Bring what is new of an object home; ``last``: this machine keeps nothing of it."""

    @abstractmethod
    def keep_checkpoints(self, name: str) -> None:
        """Bring new checkpoints home."""

    @abstractmethod
    def pictures(self, name: str) -> Path:
        """The run's folder, or a copy of its small files, for a page."""


class SharedHome(Home):
    """A folder that every node sees under the same path."""

    def __init__(self, address: str) -> None:
        super().__init__(address)
        self.folder = Path(address)

    def run(self, name: str) -> Path:
        return self.folder / name

    manifests = run

    def note(self, name: str, facts: dict[str, Any]) -> None:
        with contextlib.suppress(OSError, StspbrError):
            write_file(self.folder / _NOTES / f"{name}.json", json.dumps(facts) + "\n")

    def read_note(self, name: str) -> dict[str, Any]:
        try:
            found = json.loads((self.folder / _NOTES / f"{name}.json").read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return {}
        return found if isinstance(found, dict) else {}

    def write(self, name: str, text: str) -> str:
        write_file(self.folder / name, text)
        return str(self.folder / name)

    def read(self, name: str) -> str:
        try:
            return (self.folder / name).read_text(encoding="utf-8")
        except OSError:
            return ""

    def fetch(self, name: str) -> None:
        """Nothing: every node works in the folder itself."""

    def deliver(self, name: str, *, last: bool) -> None:
        """Nothing, see ``fetch``."""

    def keep_checkpoints(self, name: str) -> None:
        """Nothing, see ``fetch``."""

    def pictures(self, name: str) -> Path:
        return self.run(name)


class StoreHome(Home):
    """An object store behind fsspec: ``s3://bucket/folder``, ``gs://…``, ``file:///…``.

    Args:
        scratch: this machine's folder for copies.
    """

    shared = False
    note_every = 15.0

    def __init__(self, address: str, scratch: str | None) -> None:
        super().__init__(address)
        try:
            from fsspec.core import url_to_fs
        except ImportError:
            raise missing_extra("fsspec", "fleet", "fleets in an object store") from None
        try:
            self._store, self._root = url_to_fs(address)
        except (ImportError, ValueError) as error:  # its own package is missing, e.g. s3fs
            raise StspbrError(f"--out {address}: {error}") from None
        key = hashlib.sha256(address.encode()).hexdigest()[:12]
        self._scratch = Path(scratch or tempfile.gettempdir()) / f"stspbr-fleet-{key}"

    def run(self, name: str) -> Path:
        return self._scratch / "runs" / name

    def manifests(self, name: str) -> Path:
        place = self._scratch / "manifests" / name
        shutil.rmtree(place, ignore_errors=True)
        for path in self._files(name):
            if re.fullmatch(rf"[^/]+/v\d+/({MANIFEST}|{RUN_FACTS})|report\.json", path):
                self._get(f"{name}/{path}", place / path)
        return place

    def note(self, name: str, facts: dict[str, Any]) -> None:
        with contextlib.suppress(Exception):  # stores fail in their own ways, and the next note may get through
            self._store.makedirs(f"{self._root}/{_NOTES}", exist_ok=True)
            self._store.pipe_file(f"{self._root}/{_NOTES}/{name}.json", json.dumps(facts).encode())

    def read_note(self, name: str) -> dict[str, Any]:
        try:
            found = json.loads(self._store.cat_file(f"{self._root}/{_NOTES}/{name}.json"))
        except Exception:  # as above
            return {}
        return found if isinstance(found, dict) else {}

    def write(self, name: str, text: str) -> str:
        self._store.makedirs(self._root, exist_ok=True)
        self._store.pipe_file(f"{self._root}/{name}", text.encode())
        return f"{self.address.rstrip('/')}/{name}"

    def read(self, name: str) -> str:
        try:
            return self._store.cat_file(f"{self._root}/{name}").decode("utf-8")
        except Exception:  # stores say in their own ways that there is no such file
            return ""

    def fetch(self, name: str) -> None:
        run, files = self.run(name), self._files(name)
        for version in sorted({"/".join(path.split("/")[:2]) for path in files if path.endswith(f"/{MANIFEST}")}):
            if (run / version / MANIFEST).is_file():
                continue
            partial = run / version.split("/")[0] / f".fetched-{os.getpid()}"
            shutil.rmtree(partial, ignore_errors=True)
            for path in files:
                if path.startswith(f"{version}/"):
                    self._get(f"{name}/{path}", partial / path.removeprefix(f"{version}/"))
            shutil.rmtree(run / version, ignore_errors=True)
            os.rename(partial, run / version)
        for path in files:
            kept = path.startswith(".checkpoints/") and not (run / path).exists()
            if kept or (path in _BESIDE and not (run / path).exists()):
                self._get(f"{name}/{path}", run / path)

    def deliver(self, name: str, *, last: bool) -> None:
        run, there = self.run(name), set(self._files(name))
        for manifest in sorted(run.glob(f"*/v*/{MANIFEST}")):
            folder = manifest.parent
            version = folder.relative_to(run).as_posix()
            if f"{version}/{MANIFEST}" in there:
                continue
            payload = [path for path in sorted(folder.rglob("*")) if path.is_file() and path != manifest]
            for path in [*payload, manifest]:
                self._put(path, f"{name}/{path.relative_to(run).as_posix()}")
        for path in [*(run / "logs").rglob("*"), *(run / beside for beside in _BESIDE)]:
            if path.is_file():
                self._put(path, f"{name}/{path.relative_to(run).as_posix()}")
        for old in there:
            if old.startswith(".checkpoints/") and not (run / old).exists():
                self._store.rm_file(f"{self._root}/{name}/{old}")
        if last:
            shutil.rmtree(run, ignore_errors=True)

    def keep_checkpoints(self, name: str) -> None:
        run = self.run(name)
        for path in sorted(run.glob(".checkpoints/*/*.pt")):
            kept = path.with_suffix(".kept")
            written = str(path.stat().st_mtime_ns)
            if kept.exists() and kept.read_text() == written:
                continue
            self._put(path, f"{name}/{path.relative_to(run).as_posix()}")
            kept.write_text(written)

    def pictures(self, name: str) -> Path:
        place = self._scratch / "pages" / name
        for path in self._files(name):
            shown = path in _BESIDE or path.endswith(("contact_sheet.png", "metrics.json"))
            if (shown or "/previews/" in path and path.endswith(".png")) and not (place / path).exists():
                self._get(f"{name}/{path}", place / path)
        return place

    def _files(self, name: str) -> list[str]:
        """All files of a run in the store, relative to it."""
        root = f"{self._root}/{name}".rstrip("/")
        self._store.invalidate_cache()
        try:
            found = self._store.find(root)
        except FileNotFoundError:
            return []
        return sorted(str(path).removeprefix(root).lstrip("/") for path in found)

    def _get(self, path: str, place: Path) -> None:
        place.parent.mkdir(parents=True, exist_ok=True)
        self._store.get_file(f"{self._root}/{path}", str(place))

    def _put(self, place: Path, path: str) -> None:
        """Copy a file; a file system, unlike a store, shows it half written, so that it is renamed there."""
        target = f"{self._root}/{path}"
        self._store.makedirs(target.rpartition("/")[0], exist_ok=True)
        with _partial(self._store, target) as temporary:
            self._store.put_file(str(place), temporary)


def open_home(address: str, scratch: str | None = None) -> Home:
    """The home at ``address``: a folder, or an address with ``://``.

    Raises:
        StspbrError: no fsspec, or no such kind of store.
    """
    return StoreHome(address, scratch) if "://" in address else SharedHome(address)


@contextlib.contextmanager
def _partial(store: Any, target: str) -> Iterator[str]:
    protocols = store.protocol if isinstance(store.protocol, (list, tuple)) else (store.protocol,)
    if not {"file", "local"} & set(protocols):
        yield target
        return
    temporary = f"{target}.part-{os.getpid()}"
    yield temporary
    os.replace(temporary, target)
