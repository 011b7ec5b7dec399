"""Tasks: their commands, their needs, and which are finished already, found by hash."""

from __future__ import annotations

import json
import tomllib

import pytest

from stspbr.artifacts import ArtifactStore
from stspbr.errors import StspbrError
from stspbr.fleet.plan import find_finished, plan_jobs, stage_seconds, toml_value
from stspbr.settings import FleetObject, FleetSettings, TaskNeeds, load_recipe, planned_stages


def plan(*objects, home="/runs", only=(), **fleet):
    found = FleetSettings(objects=[FleetObject(**one) for one in objects], **fleet)
    return list(plan_jobs(found, "few.toml", home, only))


def test_a_command_is_what_one_would_type():
    needs = {"coarse": TaskNeeds(cores=4, gpus=0.5), "report": TaskNeeds(memory=1)}
    (job,) = plan({"name": "jar", "recipe": "demo", "set": ["seed=7"]}, cores=2, memory=3, needs=needs, set=["seed=1"])
    assert [task.stage for task in job.tasks] == [stage.name for stage in planned_stages(job.recipe)] + ["report"]
    assert job.tasks[1].command == (
        "run", "demo", "--out", "{run}", "--until", "coarse", "--resume", "--json", "--seed", "7", "--threads", "4",
        "--device", "cuda", "--set", "seed=1", "--set", "seed=7",
    )  # fmt: skip
    assert job.tasks[0].command[10:14] == ("--threads", "2", "--device", "cpu")
    assert (job.tasks[1].needs.gpus, job.tasks[-1].needs.memory, job.tasks[0].needs.memory) == (0.5, 10**9, 3 * 10**9)
    assert [task.last for task in job.tasks] == [False] * 6 + [True] and job.seed == 7


def test_a_source_takes_the_place_of_the_recipe_s_capture():
    vase, mesh, lego = plan(
        {"name": "vase", "photos": 'a "b"'},
        {"name": "mesh", "mesh": "a.glb", "set": ["capture.light=procedural:studio"]},
        {"name": "lego", "recipe": "demo", "capture": {"kind": "nerf", "folder": "lego"}, "until": "bake"},
    )
    assert vase.recipe.capture.folder == 'a "b"' and vase.recipe.capture.max_side == 1600, (
        "the recipe's other values stay"
    )
    assert (mesh.recipe.capture.asset, mesh.recipe.capture.light) == ("a.glb", "procedural:studio")
    assert lego.recipe.capture.kind == "nerf" and lego.tasks[-2].stage == "bake"
    for job in (vase, mesh, lego):  # the command says the same as the plan
        words = job.tasks[0].command
        changes = [word for flag, word in zip(words, words[1:], strict=False) if flag == "--set"]
        assert load_recipe(words[1], changes) == job.recipe


@pytest.mark.parametrize(
    ("item", "fleet", "where", "said"),
    [
        ({"recipe": "demmo"}, {}, "object a: demmo: ", "no such file or recipe"),
        ({"mesh": "a.glb"}, {}, "object a: ", "photos-standard.toml: capture.light is missing"),
        ({"set": ["bake.pading=3"]}, {"recipe": "demo"}, "object a: ", "demo.toml: bake.pading is not a setting"),
        ({"until": "cosre"}, {"recipe": "demo"}, "object a: ", "--until cosre: demo has no such stage"),
        ({"recipe": "demo"}, {"needs": {"coarze": TaskNeeds()}}, "needs.coarze: ", "no object has such a stage"),
        (
            {"capture": {"kind": "nerf", "folder": "x", "side": 3}},
            {},
            "object a: ",
            "photos-standard.toml: capture.side",
        ),
    ],
)
def test_a_mistake_names_file_and_object(item, fleet, where, said):
    with pytest.raises(StspbrError) as error:
        plan({"name": "a", **item}, **fleet)
    text = str(error.value)
    assert text.startswith(f"few.toml: {where}") and said in text and "\n" not in text


def test_only_some():
    items = [{"name": name, "recipe": "demo"} for name in ("cup-1", "cup-2", "jar")]
    assert [job.name for job in plan(*items, only=["cup-*", "j?r"])] == ["cup-1", "cup-2", "jar"]
    assert [job.name for job in plan(*items, only=["cup-2"])] == ["cup-2"]
    with pytest.raises(StspbrError, match="--only x: no object matches"):
        plan(*items, only=["x"])


def write(run, job, count, seconds=1.5):
    """The first stages of a job as finished versions."""
    store, made = ArtifactStore(run), {}
    for stage in job.stages[:count]:
        parents = [made[stage.parent]] if stage.parent else []
        values = stage.settings.model_dump(mode="json")
        with store.create(stage.name, settings=values, parents=parents, seed=job.seed) as draft:
            (draft.path / "payload").write_text(stage.name)
            draft.run["seconds"] = seconds
        made[stage.name] = draft.artifact
    return made


def test_finished_versions_are_found_by_their_hash(tmp_path):
    (job,) = plan({"name": "jar", "recipe": "demo"})
    find_finished(job, tmp_path)
    assert job.done == 0 and not job.artifacts
    made = write(tmp_path, job, 3)
    find_finished(job, tmp_path)
    assert job.done == 3 and list(job.artifacts) == ["capture", "coarse", "specialize"]
    assert stage_seconds(job.artifacts["coarse"]) >= 1.5

    (other,) = plan({"name": "jar", "recipe": "demo", "set": ["coarse.optimize.iterations=3"]})
    find_finished(other, tmp_path)
    assert other.done == 1, "another setting: only what comes before is the same"
    (seed,) = plan({"name": "jar", "recipe": "demo", "seed": 9})
    find_finished(seed, tmp_path)
    assert seed.done == 0

    (made["coarse"].path / "payload").write_text("edited")
    find_finished(job, tmp_path)
    assert job.done == 3, "the payload is not read"
    find_finished(job, tmp_path, payload=True)
    assert job.done == 1


def test_the_report_is_done_if_it_is_of_the_last_stage(tmp_path):
    (job,) = plan({"name": "jar", "recipe": "demo", "until": "coarse"})
    made = write(tmp_path, job, 2)
    for text, done in (("{}", 2), ("[", 2), (json.dumps({"of": made["capture"].content_hash}), 2)):
        (tmp_path / "report.json").write_text(text)
        find_finished(job, tmp_path)
        assert job.done == done
    (tmp_path / "report.json").write_text(json.dumps({"of": made["coarse"].content_hash}))
    find_finished(job, tmp_path)
    assert job.done == 3 == len(job.tasks)
    job.forget()
    assert (job.recipe_name, job.last_stage, job.recipe) == ("demo", "coarse", None) and len(job.tasks) == 3


def test_values_survive_toml():
    value = {"kind": "photos", "a b": 'x"y\\zé\n', "list": [1, 2.5, True, "ü"], "none": None, "table": {"e": -1e-9}}
    found = tomllib.loads(f"value = {toml_value(value)}")["value"]
    assert found == {key: item for key, item in value.items() if item is not None}
