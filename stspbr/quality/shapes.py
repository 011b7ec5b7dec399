"""Kinds of cells against each other: ``python -m stspbr.quality.shapes``, or ``make quality-shapes``.

For each object the coarse stage learns its shape on every lattice: once in equal steps, once in as many steps as take
the CPU time of ``BASE``. The surface is measured as it was learned and remeshed, all with the same budget of triangles.
Jobs that are done with the same settings are not repeated.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, Literal

import numpy as np

from stspbr.errors import StspbrError, first_line
from stspbr.files import write_file
from stspbr.quality import runner
from stspbr.quality.ladder import Job, Size, capture_settings
from stspbr.quality.shape_figures import cube_of, shape_figures
from stspbr.quality.shape_table import BASE, as_csv, markdown
from stspbr.quality.suite import ASSETS_VARIABLE, FORMS, Scene, asset_scenes, procedural_scenes
from stspbr.settings import CoarseSettings, settings_for
from stspbr.threads import prepare_process

Pace = Literal["steps", "time"]
_WARM_STEPS = 3
_QUIET = ["optimize.preview_every=1000000", "optimize.checkpoint_every=1000000"]

LATTICES: dict[str, list[str]] = {
    "dmtet-cube": ["geometry.resolution=40"],
    BASE: ["geometry.resolution=40"],
    "dmtet-band": ["geometry.resolution=30", "geometry.levels=1"],
    "flexicubes": ["geometry.kind=flexicubes", "geometry.resolution=36"],
}
"""Settings of ``coarse`` by the name of a lattice: tetrahedra that fill the cube around the object, or its box; those
of a band, halved once; cubes. Their sizes are those that cost about the same."""


@dataclass(frozen=True)
class Options:
    """What all jobs share.

    Attributes:
        steps: of coarse, of jobs of equal steps; faces: largest number of triangles of the remeshed surfaces.
        views, side: of the captures; side in pixels. samples: points on each surface that is measured.
    """

    steps: int = 150
    faces: int = 4000
    views: int = 24
    side: int = 128
    samples: int = 20_000


@dataclass(frozen=True)
class ShapeJob:
    """One run of the coarse stage."""

    scene: Scene
    lattice: str
    pace: Pace
    seed: int

    @property
    def name(self) -> str:
        """Unique, and the name of its folder."""
        return f"{self.scene.object}-{self.lattice}-{self.pace}-s{self.seed}"

    @property
    def base(self) -> ShapeJob:
        """The job whose CPU time one of equal time takes."""
        return ShapeJob(self.scene, BASE, "steps", self.seed)


def scenes(home: Path) -> tuple[list[Scene], list[str]]:
    """The objects under the studio light, and one line per object that is absent; ``home`` is the table's folder."""
    found, skipped = asset_scenes(home / "assets")
    spot = [scene for scene in found if scene.object == "spot"]
    own = [Scene("spot", "studio", {**scene.capture, "light": "procedural:studio"}) for scene in spot]
    return procedural_scenes(FORMS, ("studio",)) + own, [line for line in skipped if line.startswith("spot:")]


def jobs_of(chosen: Sequence[Scene], seeds: int) -> list[ShapeJob]:
    """All jobs, each after the ones whose CPU time it needs."""
    others = [name for name in LATTICES if name != BASE]
    jobs = []
    for seed in range(seeds):
        for scene in chosen:
            jobs += [ShapeJob(scene, name, "steps", seed) for name in (BASE, *others)]
            jobs += [ShapeJob(scene, name, "time", seed) for name in others]
    return jobs


def steps_of(job: ShapeJob, options: Options, records: dict[str, dict[str, Any]]) -> int:
    """The steps of a job: those of ``options``, or as many as take the time of the base.

    Raises:
        StspbrError: the jobs of equal steps that say how long a step takes are not done.
    """
    if job.pace == "steps":
        return options.steps
    own, base = (records.get(k.name) for k in (ShapeJob(job.scene, job.lattice, "steps", job.seed), job.base))
    if own is None or base is None or "failed" in (own["status"], base["status"]):
        raise StspbrError(f"{job.name} needs the times of {job.base.name} and of the same lattice in equal steps")
    return max(1, round(options.steps * base["step_seconds"] / own["step_seconds"]))


def settings_of(job: ShapeJob, steps: int, box: Sequence[float] | None) -> CoarseSettings:
    """The settings of coarse; ``box``: of the cube around the object, for the lattice that fills it."""
    values = [*LATTICES[job.lattice], f"optimize.iterations={steps}", *_QUIET]
    if box is not None:
        values.append(f"geometry.box={[float(value) for value in box]}")
    return settings_for(CoarseSettings, values)


def carry_out(
    job: ShapeJob, options: Options, steps: int, home: Path, machine: runner.Machine, warm: set[str]
) -> dict[str, Any]:
    """Run coarse and measure its surface; the record has a row per surface. A failure becomes its ``error``.

    Args:
        warm: lattices whose kernels this process has loaded; those of ``job`` are added.
    """
    record: dict[str, Any] = {
        "job": job.name, "object": job.scene.object, "lattice": job.lattice, "pace": job.pace, "seed": job.seed,
        "steps": steps, "identity": _identity(job, options, steps), "status": "failed", "error": None, "rows": [],
    }  # fmt: skip
    try:
        record |= _measured(job, options, steps, home, machine, warm) | {"status": "done"}
    except Exception as error:  # the other jobs go on, and the table lists the failure
        text = first_line(error)
        record["error"] = text if isinstance(error, StspbrError) else f"{type(error).__name__}: {text}"
    runner.write_json(home / "runs" / job.name / runner.RESULT, record)
    return record


def _measured(
    job: ShapeJob, options: Options, steps: int, home: Path, machine: runner.Machine, warm: set[str]
) -> dict[str, Any]:
    from stspbr.artifacts import RUN_FACTS
    from stspbr.geometry.creases import split_normals
    from stspbr.scene import Mesh
    from stspbr.stages.capture_mesh import load_asset
    from stspbr.stages.coarse import run_coarse
    from stspbr.stages.given_mesh import in_world_of
    from stspbr.stages.resurfacing import remeshed
    from stspbr.stages.session import Session
    from stspbr.stages.state import load_capture, load_mesh, load_normalization

    size = Size({"views": options.views, "test_views": 2, "resolution": options.side})
    ladder_job = Job(job.scene, "same", "known", "ours", job.seed)
    places: dict[str, Any] = {"device": machine.device, "backend": machine.backend, "threads": machine.threads}
    (home / ".cache").mkdir(parents=True, exist_ok=True)
    capture = runner.shared_capture(
        ladder_job, size, home, lambda run: Session.open(run, seed=size.capture_seed, quiet=True, **places)
    )
    folder = home / "runs" / job.name
    runner.prepare(folder, _identity(job, options, steps))
    runner.share(capture.path.parent, folder / "capture")
    runner.share(home / ".cache", folder / ".cache")
    session = Session.open(folder, seed=job.seed, quiet=True, resume=True, **places)
    views = load_capture(capture, session)
    reference = in_world_of(load_asset(capture_settings(ladder_job, size)), views.original_from_world, job.scene.object)
    box = cube_of(reference.mesh.positions[np.unique(reference.mesh.faces)]) if job.lattice == "dmtet-cube" else None
    if job.lattice not in warm:  # a first step loads kernels, or compiles them
        run_coarse(session, settings_of(job, _WARM_STEPS, box))
        warm.add(job.lattice)
    coarse = run_coarse(session, settings_of(job, steps, box))

    facts = runner.read_json(coarse.path / RUN_FACTS) or {}
    pace = facts["seconds_per_step"].get("cpu" if coarse.manifest["device"] == "cpu" else "step")
    training = views.split("train")
    seen_from = {"cameras": [f.camera for f in training], "poses": [f.object_to_world for f in training]}
    normalization = load_normalization(coarse)
    began = time.process_time()
    made, learned, _ = remeshed(load_mesh(coarse.file("mesh.safetensors")), options.faces)
    remeshing = time.process_time() - began
    split = split_normals(made.positions, made.faces, made.sharp) if made.sharp.any() else None
    rows = []
    for how, mesh in (("learned", learned), ("remeshed", Mesh(made.positions, made.faces, normals=split))):
        world = normalization.original_mesh(mesh)
        rows.append({"how": how, **shape_figures(reference.mesh, world, options.samples, **seen_from)})
    return {"rows": rows, "step_seconds": pace, "cpu_seconds": steps * pace, "remesh_seconds": remeshing}


def _identity(job: ShapeJob, options: Options, steps: int) -> dict[str, str]:
    """What a record depends on; steps that follow from measured times do not make a job another one."""
    counted = steps if job.pace == "steps" else "as many as fit"
    captured = f"{options.views} views of {options.side}"
    shared = f"{counted} steps, {options.faces} faces, {captured}, {options.samples} points"
    return {"lattice": " ".join(LATTICES[job.lattice]), "options": shared}


def finished(job: ShapeJob, options: Options, home: Path, source: str | None) -> dict[str, Any] | None:
    """The record of a job that is done; None if it has to run.

    Args:
        source: ``runner.source_hash()``; None: a record of any sources will do.
    """
    record = runner.read_json(home / "runs" / job.name / runner.RESULT)
    if record is None or record.get("status") != "done" or record["identity"] != _identity(job, options, 0 if
            job.pace == "time" else options.steps):  # fmt: skip
        return None
    return record if source is None or record.get("source") == source else None


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point; returns 0 if all selected jobs are done, 1 if one failed, 2 for bad input."""
    parser = argparse.ArgumentParser(prog="python -m stspbr.quality.shapes", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)  # fmt: skip
    parser.add_argument("objects", nargs="*", help=f"some of {', '.join(FORMS)}, spot (needs {ASSETS_VARIABLE})")
    parser.add_argument("--out", type=Path, default=Path("runs/quality-shapes"), help="folder of runs and tables")
    parser.add_argument("--only", action="append", default=[], metavar="GLOB", help="jobs whose name matches")
    for name, text in (("steps", "of coarse"), ("faces", "triangles of remeshed surfaces at most"),
                       ("views", "of the captures"), ("side", "of the views in pixels")):  # fmt: skip
        parser.add_argument(f"--{name}", type=int, default=getattr(Options, name), help=text)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--seconds", type=float, help="start no further job after so many seconds")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--backend", default="auto")
    parser.add_argument("--threads", type=int)
    parser.add_argument("--redo-stale", action="store_true", help="repeat jobs done by other sources of stspbr")
    parser.add_argument("--list", action="store_true", help="print the jobs and whether they are done; run nothing")
    parser.add_argument("--table", action="store_true", help="write the tables of finished jobs; run nothing")
    given = parser.parse_args(arguments)
    prepare_process()
    try:
        return _run(given, _say)
    except StspbrError as error:
        sys.stderr.write(f"stspbr: {error}\n")
        return 2


def _run(given: argparse.Namespace, log: Callable[[str], None]) -> int:
    for name, least in (("steps", 1), ("faces", 64), ("views", 2), ("side", 16), ("seeds", 1)):
        if getattr(given, name) < least:
            raise StspbrError(f"--{name} {getattr(given, name)}: give at least {least}")
    options = Options(given.steps, given.faces, given.views, given.side)
    known, skipped = scenes(given.out)
    absent = [line.split(":")[0] for line in skipped]
    if unknown := [name for name in given.objects if name not in (*(s.object for s in known), *absent)]:
        raise StspbrError(f"no object {unknown[0]}: choose some of {', '.join(s.object for s in known)}")
    chosen = [scene for scene in known if not given.objects or scene.object in given.objects]
    jobs = jobs_of(chosen, given.seeds)
    if given.only:
        jobs = [job for job in jobs if any(fnmatchcase(job.name, pattern) for pattern in given.only)]
    if not jobs:
        raise StspbrError("no job matches: --list prints the jobs" if not skipped else skipped[0])
    source = runner.source_hash()
    records: dict[str, dict[str, Any]] = {}
    for job in jobs_of(chosen, given.seeds):  # times of jobs that are not selected are needed, too
        found = finished(job, options, given.out, source if given.redo_stale else None)
        records |= {} if found is None else {job.name: found}
    if given.list:
        for job in jobs:
            log(f"{job.name}: {'done' if job.name in records else 'to do'}")
        return 0
    for line in skipped:
        log(line)
    began, warm = time.monotonic(), set[str]()
    left = [] if given.table else [job for job in jobs if job.name not in records]
    for number, job in enumerate(left, start=1):
        if given.seconds is not None and time.monotonic() - began > given.seconds:
            log(f"{len(left) - number + 1} jobs are left: run the same command again")
            break
        try:
            steps = steps_of(job, options, records)
        except StspbrError as error:
            log(f"[{number}/{len(left)}] {error}")
            continue
        machine = runner.Machine(given.device, given.backend, given.threads)
        record = records[job.name] = carry_out(job, options, steps, given.out, machine, warm) | {"source": source}
        runner.write_json(given.out / "runs" / job.name / runner.RESULT, record)
        log(f"[{number}/{len(left)}] {job.name}: {record['error'] or _brief(record)}")
    done = [records[job.name] for job in jobs if job.name in records]
    facts = {"steps": options.steps, "views": f"{options.views} of {options.side}²", "seeds": given.seeds,
             "remeshed to": f"at most {options.faces} triangles", "skipped": skipped}  # fmt: skip
    facts["made by other sources"] = [record["job"] for record in done if record.get("source") != source]
    write_file(given.out / "table.md", markdown(done, facts))
    write_file(given.out / "table.csv", as_csv(done))
    log(f"{len(done)} of {len(jobs)} jobs; wrote {given.out / 'table.md'}, {given.out / 'table.csv'}")
    return 1 if any(record["status"] != "done" for record in done) else 0


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def _brief(record: dict[str, Any]) -> str:
    row = record["rows"][-1]
    figures = f"Chamfer {1e4 * row['chamfer']:.1f}e-4, F {row['f_score_0.5%']:.3f}"
    return f"{record['steps']} steps, {record['cpu_seconds']:.1f} CPU s; remeshed {figures}"


if __name__ == "__main__":
    sys.exit(main())
