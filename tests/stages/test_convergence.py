"""Coarse with a number of steps that suits the loss: it waits, says so, and resumes to the same bits."""

from __future__ import annotations

import json
import shutil

from stspbr.settings import CoarseSettings, settings_for
from stspbr.stages.coarse import run_coarse
from stspbr.stages.session import Session

GRIDS = [
    f"fields.{name}.{key}"
    for name in ("appearance", "reflectance", "joint")
    for key in ("levels=4", "log2_table_size=12", "finest_resolution=64")
]
COARSE = settings_for(CoarseSettings, [
    *GRIDS, "optimize.iterations=12", "optimize.batch=2", "optimize.checkpoint_every=4", "geometry.resolution=16",
    "optimize.convergence.most=1.8",
])  # fmt: skip


def test_a_stage_that_waited_resumes_to_the_same_artifact(tiny_run, tmp_path, interrupted):
    def coarse(name, **options):
        if not (tmp_path / name).exists():
            shutil.copytree(tiny_run, tmp_path / name)
        return run_coarse(Session.open(tmp_path / name, device="cpu", quiet=True, threads=1, **options), COARSE)

    whole = coarse("whole")
    made = json.loads(whole.file("metrics.json").read_text())["convergence"]
    assert 12 < made["steps"] <= 21 and made["waited"] == made["steps"] - 12
    with interrupted(13):  # while it waits
        coarse("broken")
    assert coarse("broken", resume=True).content_hash == whole.content_hash
