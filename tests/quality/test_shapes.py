"""The command that compares kinds of cells: its jobs, their paces, its tables; and one job carried out."""

from __future__ import annotations

import json

import numpy as np
import pytest

from stspbr.errors import StspbrError
from stspbr.procedural.by_name import procedural_asset
from stspbr.quality import runner, shapes
from stspbr.quality.shape_figures import cube_of, shape_figures
from stspbr.quality.shape_table import averaged, markdown
from stspbr.quality.suite import ASSETS_VARIABLE, procedural_scenes

WIRES = procedural_scenes(("wires",), ("studio",))
FIGURES = {"chamfer": 0.001, "f_score_0.5%": 0.9, "normal_angle": 5.0, "crease_angle": None, "slivers": 0.0,
           "self_intersections": 0, "boundary_edges": 0, "faces": 4000, "components": 4, "genus": 3,
           "true_components": 4, "true_genus": 3, "seen_share": 1.0}  # fmt: skip


@pytest.fixture
def instant(monkeypatch):
    """Jobs that are done at once; a step of a band takes half the time of the base's."""
    ran = []

    def measured(job, options, steps, home, machine, warm):
        ran.append((job.name, steps))
        if job.name.startswith(tuple(broken)):
            raise StspbrError("the surface vanished")
        pace = 0.05 if job.lattice == "dmtet-band" else 0.1
        rows = [{"how": how, **FIGURES} for how in ("learned", "remeshed")]
        return {"rows": rows, "step_seconds": pace, "cpu_seconds": steps * pace, "remesh_seconds": 1.0}

    broken: list[str] = ["none"]
    monkeypatch.setattr(shapes, "_measured", measured)
    monkeypatch.delenv(ASSETS_VARIABLE, raising=False)
    return ran, broken


def test_jobs_of_equal_time_follow_from_those_of_equal_steps(instant, tmp_path, capsys):
    ran, _ = instant
    arguments = ["wires", "--steps", "100", "--out", str(tmp_path)]
    assert shapes.main(arguments) == 0
    assert ran[0] == ("wires-dmtet-steps-s0", 100) and len(ran) == 7
    assert dict(ran)["wires-dmtet-band-time-s0"] == 200 and dict(ran)["wires-flexicubes-time-s0"] == 100
    table = (tmp_path / "table.md").read_text()
    assert "Equal steps" in table and "Equal CPU time" in table and "spot: skipped" in table
    equal_time = table[table.index("Equal CPU time") :]
    assert "DMTet, box" in equal_time and "| 200 | 10.0 s |" in equal_time and "4, 3 (4, 3)" in equal_time
    assert len((tmp_path / "table.csv").read_text().splitlines()) == 1 + 2 * 7
    assert shapes.main(arguments) == 0 and len(ran) == 7  # nothing is done twice
    assert shapes.main([*arguments, "--faces", "3000", "--only", "*band-steps*"]) == 0 and len(ran) == 8
    assert "7 of 7 jobs" in capsys.readouterr().out


def test_a_failure_is_listed_and_what_needs_it_waits(instant, tmp_path, capsys):
    ran, broken = instant
    broken.append("wires-flexicubes")
    assert shapes.main(["wires", "--out", str(tmp_path)]) == 1
    assert "failed: wires-flexicubes-steps-s0, the surface vanished" in (tmp_path / "table.md").read_text()
    assert "wires-flexicubes-time-s0 needs the times" in capsys.readouterr().out
    assert json.loads((tmp_path / "runs/wires-flexicubes-steps-s0/result.json").read_text())["status"] == "failed"
    broken.remove("wires-flexicubes")
    assert shapes.main(["wires", "--out", str(tmp_path)]) == 0 and len(ran) == 6 + 2


def test_bad_input_is_one_line(instant, tmp_path, capsys):
    assert shapes.main(["teapot", "--out", str(tmp_path)]) == 2
    assert capsys.readouterr().err.startswith("stspbr: no object teapot: choose some of candlestick")
    assert shapes.main(["spot", "--out", str(tmp_path)]) == 2
    assert "STSPBR_ASSETS" in capsys.readouterr().err
    assert shapes.main(["--faces", "3", "--out", str(tmp_path)]) == 2


def test_means_over_seeds_and_columns_of_the_seen_surface():
    def record(seed: int, chamfer: float, genus: int | None, share: float) -> dict:
        row = {"how": "learned", **FIGURES, "chamfer": chamfer, "genus": genus, "seen_share": share}
        row |= {"seen_chamfer": 0.0005, "seen_f_score_0.5%": 0.97}
        times = {"steps": 10, "cpu_seconds": 1.0, "step_seconds": 0.1, "remesh_seconds": 1.0}
        job = {"job": f"wires-dmtet-steps-s{seed}", "object": "wires", "lattice": "dmtet", "pace": "steps"}
        return {**job, **times, "seed": seed, "status": "done", "error": None, "rows": [row]}

    records = [record(0, 0.001, 3, 1.0), record(1, 0.003, None, 1.0)]
    row = averaged(records)[0]
    assert row["chamfer"] == pytest.approx(0.002) and row["genus"] == "3/–" and row["seeds"] == 2
    assert "| 20.0 |" in markdown(records, {}) and "seen" not in markdown(records, {})
    hidden = markdown([record(0, 0.001, 3, 0.6)], {})
    assert "seen Chamfer" in hidden and "| 10.0 | 0.900 | 5.0 | 0.970 |" in hidden


def test_the_cube_around_a_tall_object():
    points = np.array([[-1.0, 0.0, -1.0], [1.0, 6.0, 1.0]])
    assert cube_of(points) == pytest.approx([-3.3, -0.3, -3.3, 3.3, 6.3, 3.3])


def test_the_figures_of_a_reference_against_itself():
    mesh = procedural_asset("procedural:casket").mesh
    found = shape_figures(mesh, mesh, 2000)
    assert found["chamfer"] < 1e-6 and found["f_score_0.5%"] == 1.0 and found["normal_angle"] < 0.1
    assert found["crease_sides"] == 1.0 and found["genus"] == found["true_genus"] == 0


@pytest.mark.slow
def test_a_job_is_carried_out(tmp_path):
    options = shapes.Options(steps=12, faces=600, views=6, side=32, samples=500)
    job = shapes.ShapeJob(WIRES[0], "flexicubes", "steps", 0)
    record = shapes.carry_out(job, options, 12, tmp_path, runner.Machine("cpu", "cpu", 1), set())
    assert record["error"] is None and [row["how"] for row in record["rows"]] == ["learned", "remeshed"]
    assert record["rows"][1]["faces"] <= 600 and record["step_seconds"] > 0
    again = shapes.finished(job, options, tmp_path, None)
    assert again is not None and again["rows"] == json.loads(json.dumps(record["rows"]))
