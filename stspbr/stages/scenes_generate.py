"""Scenes generate: draw scenes, render all their views, and keep what is finished when it is interrupted."""

from __future__ import annotations

import hashlib
import json
import shutil
from dataclasses import dataclass
from pathlib import Path

from stspbr.artifacts import Artifact
from stspbr.scenes.generation import generate
from stspbr.settings import SceneGenerateSettings
from stspbr.stages.session import Session, on_first_rank
from stspbr.stages.state import save_json
from stspbr.version import __version__

STAGE = "scenes"


@dataclass(frozen=True)
class _Pace:
    iterations: int
    log_every: int = 1


@on_first_rank
def run_scenes_generate(session: Session, settings: SceneGenerateSettings) -> Artifact:
    """Write a data set in the published layout: ``train/*.npz``, ``test/*.npz`` and ``scenes/`` with their JSON.

    Batches are rendered into ``RUN/.checkpoints/scenes``, and what an interrupted run with the same settings left there
    is taken over. Nothing depends on which batches those were.
    """
    config = settings.config
    seed = session.seed if config.seed < 0 else config.seed
    size = settings.size or max(config.sizes)
    # a longer data set begins with the batches of a shorter one
    own = settings.model_dump(mode="json", exclude={"batches", "test"})
    work = {"package": __version__, "seed": seed, "settings": own}
    key = hashlib.sha256(json.dumps(work, sort_keys=True).encode()).hexdigest()[:16]
    folder = session.run / ".checkpoints" / STAGE / key
    counts = {"test": settings.test, "train": settings.batches}
    pace = _Pace(sum(counts.values()))
    finished = 0
    with session.reporter(STAGE, pace) as reporter:

        def done() -> None:
            nonlocal finished
            finished += 1
            reporter.step(finished, {}, {}, {})

        generate(config, folder, counts, size, seed, settings.scene_files, done)
        with session.create(STAGE, settings) as draft:
            for split, count in counts.items():
                _take(folder / split, draft.path / split, count)
                if (folder / "scenes" / split).is_dir():
                    _take(folder / "scenes" / split, draft.path / "scenes" / split, count)
            facts = {"size": size, "passes": config.stored, "seed": seed, "batches": counts}
            save_json(facts, draft.path / "data.json")
        reporter.summary([f"wrote {draft.artifact.path}: {counts['train']} training and {counts['test']} test batches"])
    shutil.rmtree(folder, ignore_errors=True)
    return draft.artifact


def _take(source: Path, target: Path, count: int) -> None:
    """The first files or folders of a folder, in the order of their names; links where the disk allows them."""
    target.mkdir(parents=True, exist_ok=True)
    places = sorted(path for path in source.iterdir() if not path.name.startswith(".")) if source.is_dir() else []
    for path in places[:count]:
        if path.is_dir():
            shutil.copytree(path, target / path.name)
        else:
            shutil.copyfile(path, target / path.name)
