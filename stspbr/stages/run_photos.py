"""Run photos: from a folder of photographs to an asset, with one command that can be interrupted and continued."""

from __future__ import annotations

import hashlib
import re
import resource
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from stspbr.artifacts import Artifact
from stspbr.errors import StspbrError
from stspbr.files import safe_name
from stspbr.optimize.whole_progress import WholeProgress, duration
from stspbr.photos.photographs import find_photos
from stspbr.report.next_steps import next_steps
from stspbr.report.records import read_record
from stspbr.settings import CapturePhotosSettings, ExportSettings, PhotoRunSettings, Recipe, load_recipe
from stspbr.settings.parsing import merged, parse_settings
from stspbr.stages.capture_check import run_capture_check
from stspbr.stages.export_asset import SUFFIXES, export_asset
from stspbr.stages.report import write_report
from stspbr.stages.result_pictures import RESULT, write_result
from stspbr.stages.run import run_recipe
from stspbr.stages.session import Session
from stspbr.stages.time_estimate import Photographs, expected_seconds, machine_pace


@dataclass
class PhotoRun:
    """What came of it.

    Attributes:
        asset: the file that was written, with what lies beside it; pictures: to look at, the most telling first.
        warnings: of the capture, its check and the export; next_steps: what to do about the result.
        seconds, expected: wall time, and what was said at the start; peak_bytes: most memory of the process.
        artifacts: of each stage by name.
    """

    asset: list[Path]
    pictures: list[Path]
    warnings: list[str]
    next_steps: list[str]
    seconds: float
    expected: float
    peak_bytes: int
    artifacts: dict[str, Artifact] = field(default_factory=dict)

    def lines(self) -> list[str]:
        """For people."""
        out = [f"wrote {path}" for path in self.asset]
        out += ["look at:", *(f"  {path}" for path in self.pictures)]
        if self.warnings:
            out += ["warnings:", *(f"  {line}" for line in self.warnings)]
        out += ["next:", *(f"  {line}" for line in self.next_steps)]
        said = f"{duration(self.seconds)} (expected {duration(self.expected)})"
        return [*out, f"took {said}, at most {self.peak_bytes / 1e9:.1f} GB of memory"]

    def as_json(self) -> dict[str, Any]:
        """Plain data."""
        values = {name: value for name, value in vars(self).items() if name != "artifacts"}
        for name in ("asset", "pictures"):
            values[name] = [str(path) for path in values[name]]
        return values


def photo_recipe(settings: PhotoRunSettings, overrides: list[str] | None = None) -> Recipe:
    """The recipe of the chosen quality for these photographs; ``overrides`` as in ``load_recipe``."""
    recipe = load_recipe(f"photos-{settings.quality}", overrides or [])
    if not isinstance(recipe.capture, CapturePhotosSettings):
        raise StspbrError("--set capture.kind: `stspbr run photos` makes a capture of photographs")
    own = {"folder": settings.folder, "light": settings.light}
    given: dict[str, Any] = {"name": run_folder(settings).name, "capture": own}
    if settings.masks is not None:
        own["masks"] = settings.masks
    return parse_settings(Recipe, merged(recipe.model_dump(), given), "run photos")


def run_folder(settings: PhotoRunSettings) -> Path:
    """The run's folder."""
    return Path(settings.run) if settings.run else Path("runs") / _stem(settings.folder)


def asset_file(settings: PhotoRunSettings) -> tuple[Path, ExportSettings]:
    """The file to write, and its format; StspbrError if no format has its suffix."""
    out = Path(settings.out) if settings.out else Path(f"{_stem(settings.folder)}.glb")
    known = {suffix: kind for kind, suffixes in SUFFIXES.items() for suffix in suffixes}
    if out.suffix.lower() not in known:
        raise StspbrError(f"--out {out}: the name must end with one of {', '.join(known)}")
    if out.is_dir():
        raise StspbrError(f"--out {out}: a folder has that name: choose another")
    return out, parse_settings(ExportSettings, {"to": known[out.suffix.lower()]}, "run photos")


def run_photos(
    session: Session, settings: PhotoRunSettings, recipe: Recipe, say: Callable[[str], None] = lambda line: None
) -> PhotoRun:
    """Poses, masks, check, all stages, export. A second call goes on where the first was interrupted.

    Args:
        session: on ``run_folder(settings)``; its checkpoints are used.
        recipe: from ``photo_recipe``.
        say: called with lines for people.

    Raises:
        StspbrError: as the stages do; what is finished by then stays, and the next call begins after it.
    """
    began = time.monotonic()
    out, export = asset_file(settings)
    folder, masks = Path(settings.folder), recipe.capture.masks  # type: ignore[union-attr]
    photos, _ = find_photos(folder)
    of_them = Photographs.of([photo.exif for photo in photos], masks is not None)
    expected = expected_seconds(recipe, of_them, machine_pace(session.device))
    _say_expected(say, settings, photos[0].exif.width, photos[0].exif.height, len(photos), expected, session)
    session.resume = True
    session.whole = WholeProgress(expected)
    warnings: list[str] = []
    sheets: list[Path] = []

    def check(capture: Artifact) -> None:
        if session.ranks.is_first:
            found, place = run_capture_check(session.run, version=capture.version)
            warnings.extend([*found.notes, *(finding.text for finding in found.findings)])
            sheets.extend(sorted(place.glob("contact-sheet-*.png")))
            say(f"check: {len(found.findings) or 'no'} warnings; masks and cameras: {place / 'check.html'}")

    stamp = _stamp(folder, None if masks is None else Path(masks))
    anew = () if _is_of(session, recipe, stamp) else ("capture",)
    done = run_recipe(session, recipe, say, after={"capture": check}, anew=anew)
    if session.ranks.is_first:
        _keep_stamp(session.run, done["capture"], stamp)
    session.whole = None
    return session.ranks.first(lambda: _finished(session, done, out, export, warnings, sheets, began, expected))


def _finished(
    session: Session,
    done: dict[str, Artifact],
    out: Path,
    export: ExportSettings,
    warnings: list[str],
    sheets: list[Path],
    began: float,
    expected: dict[str, float],
) -> PhotoRun:
    asset = export_asset(str(session.run), out, export, done["bake"].version if "refine" not in done else None)
    record = read_record(session.run)
    steps = next_steps(record) or ["Nothing in the figures asks for more: look at the pictures."]
    pictures = [write_result(session, done.get("refine", done["bake"]), session.run / RESULT)]
    pictures += [write_report(session.run), *sheets]
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    seconds = time.monotonic() - began
    warnings = list(dict.fromkeys([*warnings, *asset.notes]))
    return PhotoRun(asset.files, pictures, warnings, steps, seconds, sum(expected.values()), peak, done)


def _say_expected(
    say: Callable[[str], None],
    settings: PhotoRunSettings,
    width: int,
    height: int,
    count: int,
    expected: dict[str, float],
    session: Session,
) -> None:
    parts = ", ".join(f"{name} {duration(seconds)}" for name, seconds in expected.items() if seconds >= 5)
    say(
        f"{count} photographs of {width}x{height}, quality {settings.quality}: expect about "
        f"{duration(sum(expected.values()))} on this machine with {session.threads} thread(s) ({parts})"
    )
    say(f"run: {session.run}; the same command continues it after an interruption")


def _stem(folder: str) -> str:
    name = re.sub(r"\s+", "-", Path(folder).resolve().name.strip()) or "photos"
    return safe_name(name, set())


def _stamp(*folders: Path | None) -> str:
    """A digest of the names, sizes and times of the files in folders."""
    digest = hashlib.sha256()
    for folder in folders:
        if folder is None or not folder.is_dir():
            continue
        for path in sorted(folder.rglob("*")):
            if path.is_file() and not path.name.startswith("."):
                state = path.stat()
                digest.update(f"{path.relative_to(folder)}\0{state.st_size}\0{state.st_mtime_ns}\n".encode())
    return digest.hexdigest()


def _stamp_file(run: Path, capture: Artifact) -> Path:
    return run / ".cache" / "photos" / f"{capture.content_hash[:16]}.stamp"


def _is_of(session: Session, recipe: Recipe, stamp: str) -> bool:
    """Whether the capture that these settings found before is of the same files; True if there is none."""
    assert recipe.capture is not None
    values = recipe.capture.model_dump(mode="json")
    found = session.ranks.first(lambda: session.store.find("capture", values, [], session.seed))
    if found is None:
        return True
    kept = _stamp_file(session.run, found)
    return not kept.is_file() or kept.read_text("utf-8") == stamp


def _keep_stamp(run: Path, capture: Artifact, stamp: str) -> None:
    from stspbr.files import write_file

    path = _stamp_file(run, capture)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_file(path, stamp)
