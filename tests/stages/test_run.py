"""A whole recipe: every stage once, then none, then only those that a change concerns."""

from __future__ import annotations

import json
import shutil

import pytest

from stspbr.settings import load_recipe
from stspbr.stages.run import run_recipe
from stspbr.stages.session import Session

pytestmark = pytest.mark.usefixtures("coarse_lights")

STAGES = ["capture", "coarse", "specialize", "bake", "unpack-orm", "evaluate"]
STEPS = "optimize = { iterations = 4, batch = 2 }"
GRID = "{ levels = 3, log2_table_size = 10, finest_resolution = 32 }"
RECIPE = f"""
name = "tiny"
seed = 3

[capture]
kind = "mesh"
asset = "procedural:demo"
light = "procedural:demo"
views = 6
test_views = 2
resolution = 32

[coarse]
geometry = {{ resolution = 14 }}
light = {{ mode = "learned", learned_resolution = 16 }}
fields = {{ appearance = {GRID}, reflectance = {GRID}, width = 8 }}
{STEPS}

[specialize]
survey = {{ steps = 5 }}
light_solve = {{ steps = 5 }}
{STEPS}

[bake]
texture_resolution = 64
target_faces = 300
padding = 2
{STEPS}

[evaluate]
samples = 1000
views = 1
map_resolution = 32
footprint_samples = 1000
"""


@pytest.fixture(scope="module")
def work(tiny_run, tmp_path_factory):
    """A run folder that holds nothing but the prefiltered light of the tiny capture, and the recipe."""
    folder = tmp_path_factory.mktemp("work")
    shutil.copytree(tiny_run / ".cache", folder / "run" / ".cache")
    (folder / "tiny.toml").write_text(RECIPE)
    return folder


def carry_out(work, *overrides: str):
    recipe = load_recipe(work / "tiny.toml", list(overrides))
    session = Session.open(work / "run", seed=recipe.seed, device="cpu", quiet=True)
    said: list[str] = []
    done = run_recipe(session, recipe, said.append)
    assert list(done) == STAGES and [line.partition(":")[0] for line in said] == STAGES
    return done, [line.partition(":")[0] for line in said if line.endswith("running")], said


def versions(work) -> dict[str, list[str]]:
    return {stage: sorted(p.name for p in (work / "run" / stage).iterdir()) for stage in STAGES}


@pytest.fixture(scope="module")
def first(work):
    done, ran, _ = carry_out(work)
    assert ran == STAGES
    return done


def test_every_stage_is_run_on_the_one_before(first):
    parents = [{}, {"capture"}, {"coarse"}, {"specialize"}, {"bake"}, {"bake"}]
    for artifact, wanted in zip(first.values(), parents, strict=True):
        assert set(artifact.parents) == set(wanted)
        assert artifact.version == "v0001" and artifact.manifest["seed"] == 3
        for stage, entry in artifact.parents.items():
            assert entry["content_hash"] == first[stage].content_hash
    assert first["coarse"].settings["optimize"]["iterations"] == 4
    errors = json.loads(first["evaluate"].file("errors.json").read_text())
    assert errors["material"]  # the reference is the captured asset, though the recipe does not say so


def test_the_second_time_everything_is_up_to_date(work, first):
    before = versions(work)
    done, ran, said = carry_out(work)
    assert ran == [] and all("is up to date" in line and str(done[line.split(":")[0]].path) in line for line in said)
    assert versions(work) == before
    assert {k: v.content_hash for k, v in done.items()} == {k: v.content_hash for k, v in first.items()}


def test_a_change_runs_its_stage_and_what_follows(work, first):
    done, ran, said = carry_out(work, "bake.texture_resolution=32")
    assert ran == ["bake", "unpack-orm", "evaluate"]
    for stage in STAGES:
        assert done[stage].version == ("v0002" if stage in ran else "v0001")
        assert (done[stage].content_hash == first[stage].content_hash) == (stage not in ran)
    assert done["unpack-orm"].parents["bake"]["version"] == "v0002"
    # both stand now, and each recipe finds its own
    assert carry_out(work)[1] == []
    again, ran, _ = carry_out(work, "bake.texture_resolution=32")
    assert ran == [] and again["bake"].version == "v0002"


def test_a_changed_last_stage_runs_alone(work, first):
    carry_out(work, "bake.texture_resolution=32")  # a newer bake, that this recipe has nothing to do with
    done, ran, _ = carry_out(work, "unpack_orm.bits=16")
    assert ran == ["unpack-orm"]
    assert done["unpack-orm"].parents["bake"]["version"] == done["bake"].version == "v0001"
    _, ran, _ = carry_out(work, "evaluate.samples=1001")
    assert ran == ["evaluate"]


def test_a_broken_artifact_is_made_again(work, first, tmp_path):
    mine = tmp_path / "work"
    shutil.copytree(work, mine)
    broken = sorted((mine / "run" / "bake").glob("v*"))  # every version, so that none is found
    for folder in broken:
        path = folder / "asset.glb"
        path.write_bytes(path.read_bytes()[:-1])
    done, ran, _ = carry_out(mine)
    # the same work on the same inputs has the same content, so that what was made from it still stands
    assert ran == ["bake"]
    assert done["bake"].content_hash == first["bake"].content_hash
    assert done["bake"].path not in broken


def test_another_seed_is_other_work(work, first):
    session = Session.open(work / "run", seed=4, device="cpu", quiet=True)
    for stage, artifact in first.items():
        parents = [first[name] for name in artifact.parents]
        assert session.store.find(stage, artifact.settings, parents, 3) is not None
        assert session.store.find(stage, artifact.settings, parents, session.seed) is None
