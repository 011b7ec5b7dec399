"""A capture without some of its frames, as a new version: `capture check --drop`."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

from stspbr.artifacts import RUN_FACTS, Artifact, ArtifactStore
from stspbr.datasets.json_frames import read_json
from stspbr.errors import StspbrError, did_you_mean
from stspbr.files import write_file
from stspbr.stages.capture_check import CaptureCheck

BLURRED = "blurred"
_FEWEST = 3


def dropped_frames(check: CaptureCheck, wanted: str) -> list[str]:
    """The names of the frames that ``wanted`` means: ``blurred``, or names with commas between them.

    Raises:
        StspbrError: there is no such frame, or nothing is blurred.
    """
    if wanted == BLURRED:
        found = [name for finding in check.findings if finding.code == BLURRED for name in finding.frames]
        if not found:
            raise StspbrError("--drop blurred: no frame is blurred compared with the others; there is nothing to drop")
        return found
    names = {key: frame.name for frame in check.frames for key in (Path(frame.name).stem, frame.name)}
    out = []
    for word in filter(None, (part.strip() for part in wanted.split(","))):
        if word not in names:
            raise StspbrError(f"--drop {word}: there is no such frame{did_you_mean(word, names)}")
        out.append(names[word])
    return list(dict.fromkeys(out))


def drop_frames(run: Path, version: str | None, names: list[str]) -> Artifact:
    """Write the next version of the run's capture without the frames ``names``; nothing else changes.

    Args:
        version: of the capture; None: the newest.

    Raises:
        StspbrError: no such run or version, or fewer than three frames would be left.
    """
    store = ArtifactStore(run)
    source = store.resolve("capture", version)
    content = read_json(source.file("transforms.json"))
    gone = {Path(name).with_suffix("").as_posix() for name in names} | set(names)
    kept = [entry for entry in content["frames"] if not _is(entry, gone)]
    lost = [entry for entry in content["frames"] if _is(entry, gone)]
    if len(kept) < _FEWEST:
        raise StspbrError(f"--drop would leave {len(kept)} of {len(content['frames'])} frames: at least 3 are needed")
    if len(lost) != len(set(names)):
        raise StspbrError(f"{source.path}: --drop finds {len(lost)} of {len(names)} frames: capture again")
    files = {str(entry[key]) for entry in lost for key in ("file_path", "mask_path") if entry.get(key)}
    earlier = source.settings.get("dropped", [])
    settings: dict[str, Any] = {**source.settings, "dropped": [*earlier, *sorted(names)]}
    facts = read_json(source.path / RUN_FACTS) if (source.path / RUN_FACTS).is_file() else {}
    seed = source.manifest.get("seed")
    with store.create("capture", settings=settings, seed=seed) as draft:
        for name in source.files:
            if name in files or name == "transforms.json":
                continue
            target = draft.path / name
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source.file(name), target)
        write_file(draft.path / "transforms.json", json.dumps({**content, "frames": kept}, indent=1) + "\n")
        draft.run.update({key: facts[key] for key in ("photos", "warnings") if key in facts})
        draft.run["dropped_from"] = f"{source.stage}/{source.version}"
    return draft.artifact


def _is(entry: dict[str, Any], names: set[str]) -> bool:
    path = Path(str(entry["file_path"]))
    return bool({path.as_posix(), path.with_suffix("").as_posix(), path.name, path.stem} & names)
