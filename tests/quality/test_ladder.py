"""Jobs: which, in which order, what they are known by, when they are done, and what a failure leaves."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from stspbr.errors import StspbrError
from stspbr.formats.assets import read_asset
from stspbr.formats.gltf.writer import write_glb
from stspbr.procedural.objects import letters
from stspbr.quality import runner
from stspbr.quality.ladder import (
    Job,
    Ladder,
    Size,
    assets_ladder,
    capture_settings,
    dark_ladder,
    forms_ladder,
    full_ladder,
    jobs_of,
    recipe_of,
    settings_hash,
    small_ladder,
)
from stspbr.quality.opaque import opaque_parts, write_opaque_parts
from stspbr.quality.suite import DARK_METALS, asset_scenes, procedural_scenes
from stspbr.stages.session import Session

GRID = "{ levels = 3, log2_table_size = 10, finest_resolution = 32 }"
ASSETS = ["spot", "bob", "boombox", "waterbottle", "teapot", "suzanne", "avocado", "helmet"]
STEPS = ["optimize.iterations=3", "optimize.batch=2"]
TINY = Size(
    {"views": 6, "test_views": 2, "resolution": 32},
    {
        "coarse": ["geometry.resolution=14", f"fields.appearance={GRID}", f"fields.reflectance={GRID}",
                   "fields.width=8", *STEPS],
        "specialize": [*STEPS, "survey.steps=5"],
        "bake": ["texture_resolution=64", "target_faces=300", "padding=2", *STEPS],
        "evaluate": ["samples=1000", "views=1", "map_resolution=16", "footprint=0"],
    },
)  # fmt: skip
SCENE = procedural_scenes(("ramp",), ("studio",))[0]
JOB = Job(SCENE, "same", "known", "ours", 0)
CPU = runner.Machine("cpu", "cpu", None)


def test_small_ladder_is_what_it_says():
    jobs = jobs_of(small_ladder())
    assert len(jobs) == 2 * 2 * (2 * 2 + 1) * 2  # objects, tracks, light modes × configurations + floor, seeds
    assert len({job.name for job in jobs}) == len(jobs)
    assert {job.configuration for job in jobs} == {"joint", "ours", "floor"}
    assert all(job.light_mode == "known" for job in jobs if job.configuration == "floor")


def test_a_prefix_of_the_ladder_is_informative(monkeypatch):
    monkeypatch.delenv("STSPBR_ASSETS", raising=False)
    ladder, skipped = full_ladder(Path("home"))
    assert [line.split(":")[0] for line in skipped] == [*ASSETS, "duck"]
    jobs = jobs_of(ladder)
    seeds = [job.seed for job in jobs]
    assert seeds == sorted(seeds)
    first = jobs[: len(ladder.scenes) * 3]
    assert {job.configuration for job in first} == {"joint", "ours", "floor"}
    assert {job.scene.object for job in first} == {"ceramic-trim", "letters", "dark-gloss", "ramp", *DARK_METALS}
    assert all(job.track == "same" and job.light_mode == "known" for job in first)
    assert all(job.track == "same" for job in jobs_of(ladder, ("same",)))


def test_the_ladder_of_forms_has_its_own_objects():
    jobs = jobs_of(forms_ladder(), ("same",))
    assert {job.scene.object for job in jobs} == {"candlestick", "casket", "wires"}
    assert {capture_settings(job, forms_ladder().size).asset for job in jobs} == {
        "procedural:candlestick", "procedural:casket", "procedural:wires"}  # fmt: skip


def test_the_ladder_of_dark_metals_has_three_objects_under_three_lights():
    jobs = jobs_of(dark_ladder(), ("same",))
    scenes = {(job.scene.object, job.scene.light) for job in jobs}
    assert scenes == {
        (o, k) for o in ("iron-hoop", "gunmetal", "painted-steel") for k in ("studio", "sunset", "window")
    }
    assert {job.configuration for job in jobs} == {"joint", "ours", "floor"}
    assert capture_settings(jobs[0], dark_ladder().size).asset == "procedural:iron-hoop"


@pytest.fixture
def assets(monkeypatch, tmp_path):
    """A folder with the names of some assets and of both lights."""
    monkeypatch.setenv("STSPBR_ASSETS", str(tmp_path))
    for name in ("envs/aerodynamics_workshop_1k.hdr", "envs/potsdamer_platz_1k.hdr", "meshes/BoomBox.glb",
                 "meshes/FlightHelmet.glb"):  # fmt: skip
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    return tmp_path


def test_assets_are_found_or_named(assets, tmp_path):
    scenes, skipped = asset_scenes(tmp_path / "made")
    assert [scene.object for scene in scenes] == ["boombox", "helmet"]
    assert len(skipped) == 7 and "spot.obj is missing" in skipped[0]
    boombox, helmet = scenes
    assert boombox.capture["asset"] == str(assets / "meshes/BoomBox.glb") and boombox.opaque_parts_of is None
    assert helmet.capture["asset"] == str(tmp_path / "made" / "helmet.glb")
    assert helmet.opaque_parts_of == str(assets / "meshes/FlightHelmet.glb")
    (assets / "envs/potsdamer_platz_1k.hdr").unlink()
    scenes, skipped = asset_scenes(tmp_path / "made")
    assert scenes[0].relit_by is None and "potsdamer_platz_1k.hdr is missing" in skipped[0]


def test_the_ladder_of_assets_compares_path_traced_views_first(assets, tmp_path):
    ladder, skipped = assets_ladder(tmp_path)
    assert len(skipped) == 6 and not any("duck" in line for line in skipped)
    jobs = jobs_of(ladder)
    assert len(jobs) == 2 * 2 * (2 * 3 + 1)  # objects, tracks, light modes × configurations + floor
    assert [(j.scene.object, j.track, j.light_mode, j.configuration) for j in jobs[:4]] == [
        ("boombox", "path", "known", "ours"), ("boombox", "path", "known", "joint-lent"),
        ("boombox", "path", "known", "joint"), ("helmet", "path", "known", "ours"),
    ]  # fmt: skip
    assert all(job.configuration == "floor" for job in jobs[-4:])
    recipe = recipe_of(jobs[0], ladder.size)
    assert recipe.evaluate.lights == [str(assets / "envs/potsdamer_platz_1k.hdr")]
    assert recipe.capture.views == 60 and recipe.capture.light != recipe.evaluate.lights[0]


def test_the_opaque_parts_of_an_asset(tmp_path):
    whole = letters(16)
    glass = replace(whole.materials[0], opacity=np.full((1, 1, 1), 0.5, np.float32), name="glass")
    material = np.arange(len(whole.mesh.faces), dtype=np.int32) % 2
    both = replace(whole, mesh=replace(whole.mesh, face_material=material), materials=[whole.materials[0], glass])
    write_glb(tmp_path / "both.glb", both)
    write_opaque_parts(tmp_path / "both.glb", tmp_path / "made" / "opaque.glb")
    left = read_asset(tmp_path / "made" / "opaque.glb")
    assert len(left.mesh.faces) == (material == 0).sum()
    assert [material.alpha_mode for material in left.materials] == ["opaque"]
    solid = both.mesh.positions[both.mesh.faces[::2]].mean(axis=1)
    np.testing.assert_allclose(
        np.sort(left.mesh.positions[left.mesh.faces].mean(axis=1), axis=0), np.sort(solid, axis=0), atol=1e-6
    )
    with pytest.raises(StspbrError, match="no opaque part"):
        opaque_parts(replace(both, materials=[glass, glass]))


def test_recipes_say_what_the_job_is():
    recipe = recipe_of(replace(JOB, track="path", light_mode="learned", seed=5), TINY)
    assert recipe.capture.renderer == "mitsuba" and recipe.capture.asset == "procedural:ramp"
    assert recipe.coarse.light.mode == "learned" and recipe.coarse.mesh is None and recipe.seed == 5
    assert recipe.evaluate.reference_capture
    assert recipe.coarse.optimize.iterations == 3 and recipe.coarse.geometry.resolution == 14
    floor = recipe_of(replace(JOB, configuration="floor"), TINY)
    assert floor.coarse.mesh == "procedural:ramp" and floor.coarse.normals_from > 1


def test_a_job_is_known_by_its_settings():
    base = settings_hash(recipe_of(JOB, TINY))
    assert settings_hash(recipe_of(JOB, TINY)) == base
    others = [replace(JOB, seed=1), replace(JOB, light_mode="learned"), replace(JOB, configuration="joint"),
              replace(JOB, track="path")]  # fmt: skip
    hashes = {settings_hash(recipe_of(job, TINY)) for job in others}
    longer = Size(TINY.capture, {**TINY.overrides, "bake": [*TINY.overrides["bake"], "optimize.iterations=4"]})
    hashes.add(settings_hash(recipe_of(JOB, longer)))
    hashes.add(settings_hash(recipe_of(JOB, Size({**TINY.capture, "views": 7}, TINY.overrides))))
    assert len(hashes) == 6 and base not in hashes


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """A ladder's folder with one job of each kind: the method, the baseline, the floor."""
    folder = tmp_path_factory.mktemp("ladder")
    records = [
        runner.carry_out(replace(JOB, configuration=name, seed=1), TINY, folder, CPU, "sources")
        for name in ("ours", "joint", "floor")
    ]
    return folder, records


def test_jobs_end_to_end(home):
    folder, records = home
    for record in records:
        assert record["status"] == "done", record["error"]
        assert record["values"]["roughness_mae"] > 0 and record["values"]["step_seconds"] > 0
        assert json.loads((folder / "runs" / record["job"] / runner.RESULT).read_text()) == record
    ours, joint, floor = records
    assert abs(joint["encoding_parameters"] / ours["encoding_parameters"] - 1) <= 0.02
    assert ours["values"]["chamfer"] > 0.01
    assert floor["values"]["chamfer"] < 1e-3 and floor["values"]["f_score"] == 1.0
    # one capture for all, made with the ladder's seed and not the jobs'
    assert [p.name for p in (folder / "captures").iterdir()] == ["ramp-studio-same"]
    manifest = json.loads((folder / "runs" / ours["job"] / "capture" / "v0001" / "manifest.json").read_text())
    assert manifest["seed"] == 0
    coarse = json.loads((folder / "runs" / ours["job"] / "coarse" / "v0001" / "manifest.json").read_text())
    assert coarse["seed"] == 1


def test_what_is_done_is_not_repeated_and_what_is_other_is(home):
    folder, records = home
    job = replace(JOB, seed=1)
    assert runner.finished(job, TINY, folder) == records[0]
    assert runner.finished(replace(job, seed=0), TINY, folder) is None
    longer = Size(TINY.capture, {**TINY.overrides, "bake": [*TINY.overrides["bake"], "optimize.iterations=4"]})
    assert runner.finished(job, longer, folder) is None
    result = folder / "runs" / job.name / runner.RESULT
    text = result.read_text()
    try:
        for broken in ("{", json.dumps({**records[0], "status": "failed"}), "[]"):
            result.write_text(broken)
            assert runner.finished(job, TINY, folder) is None
    finally:
        result.write_text(text)


def test_captures_of_other_runs_are_taken_if_equal(tmp_path):
    runs, home = tmp_path / "runs", tmp_path / "home"
    size = Size(TINY.capture, TINY.overrides, capture_seed=4)
    for name, seed in (("other", 0), ("wanted", 4)):
        session = Session.open(runs / name, seed=seed, device="cpu", backend="cpu", quiet=True)
        with session.create("capture", capture_settings(JOB, size)) as draft:
            (draft.path / "transforms.json").write_text(name)
    lines = runner.take_captures([JOB, replace(JOB, seed=1), replace(JOB, track="path")], size, home, runs)
    assert len(lines) == 1 and "ramp-studio-same: taken from" in lines[0] and "wanted" in lines[0]
    taken = home / "captures" / "ramp-studio-same" / "capture" / "v0001"
    assert (taken / "transforms.json").read_text() == "wanted"

    def open_session(run):
        return Session.open(run, seed=4, device="cpu", backend="cpu", quiet=True)

    assert runner.shared_capture(JOB, size, home, open_session).path == taken
    assert runner.take_captures([JOB], size, home, runs) == []  # it is there already
    with pytest.raises(StspbrError, match="no such folder of runs"):
        runner.take_captures([JOB], size, home, tmp_path / "absent")


def test_a_failure_is_recorded_in_one_line(tmp_path):
    bad = Size({**TINY.capture, "elevation": (10.0, 5.0), "fov": 400.0}, TINY.overrides)
    record = runner.carry_out(JOB, bad, tmp_path, CPU, "sources")
    assert record["status"] == "failed" and "\n" not in record["error"] and "fov" in record["error"]
    scene = replace(SCENE, capture={**SCENE.capture, "asset": "procedural:kettle"})
    record = runner.carry_out(replace(JOB, scene=scene), TINY, tmp_path, CPU, "sources")
    assert record["status"] == "failed" and record["error"].startswith("procedural:kettle: no such object")
    assert runner.finished(JOB, TINY, tmp_path) is None


def test_other_sources_start_afresh(tmp_path):
    folder = tmp_path / "job"
    runner.prepare(folder, {"settings_hash": "a", "source": "1"})
    (folder / "coarse").mkdir()
    runner.prepare(folder, {"settings_hash": "a", "source": "1"})
    assert (folder / "coarse").is_dir()  # the very same work goes on
    shared = tmp_path / "shared"
    shared.mkdir()
    (shared / "kept").touch()
    runner.share(shared, folder / "capture")
    runner.prepare(folder, {"settings_hash": "a", "source": "2"})
    assert not (folder / "coarse").exists() and not (folder / "capture").exists()
    assert (shared / "kept").exists()


def test_the_source_hash_is_of_all_that_results_depend_on(tmp_path, monkeypatch):
    assert runner.source_hash() == runner.source_hash() and len(runner.source_hash()) == 16
    method = ["formats/images.py", "geometry/normals.py", "render/cpu/mip_chain.py", "texture/atlas.py", "threads.py"]
    lookers = ["quality/runner.py", "report/page.py", "cli/__init__.py", "bench/measure.py", "doctor/checks.py"]
    monkeypatch.setattr(runner, "__file__", str(tmp_path / "quality" / "runner.py"))
    hashes = []
    for name in ["__init__.py", *lookers, *method]:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(name)
        hashes.append(runner.source_hash())
    assert len(set(hashes[: len(lookers) + 1])) == 1 and len(set(hashes)) == len(method) + 1
    (tmp_path / "formats" / "images.py").write_text("another decoder")
    assert runner.source_hash() not in hashes


def test_a_ladder_of_one_configuration_still_has_its_floor():
    ladder = Ladder("x", [SCENE], ("ours",), (0,), TINY)
    assert [job.configuration for job in jobs_of(ladder, ("same",))] == ["ours", "floor", "ours"]
