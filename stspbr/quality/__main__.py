"""``python -m stspbr.quality small|forms|dark|assets|full``: run a ladder's remaining jobs and print its tables."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from stspbr.errors import StspbrError
from stspbr.threads import prepare_process


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point; returns 0 if all selected jobs are done, 1 if one failed, 2 for bad input, 130 for Ctrl-C."""
    options = _parser().parse_args(arguments)
    prepare_process()
    try:
        return _run(options)
    except StspbrError as error:
        sys.stderr.write(f"stspbr: {error}\n")
        return 2


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m stspbr.quality",
        description="Compare the method with its baselines on shiny objects. Jobs done with the same settings are not "
        "repeated.",
    )
    parser.add_argument("ladder", choices=["small", "forms", "dark", "assets", "full"])
    parser.add_argument("--out", type=Path, help="folder of captures, runs and tables; default runs/quality-<ladder>")
    parser.add_argument("--only", action="append", default=[], metavar="GLOB",
                        help="jobs whose name matches, e.g. 'letters-*-ours-*'; repeatable")  # fmt: skip
    parser.add_argument("--tracks", metavar="A,B",
                        help="same: captured with our own shading; noise: the same with a path tracer's noise; "
                        "path: path-traced; path-off: those captures without transport; all. "
                        "Default: same,path; of assets: path,same")  # fmt: skip
    parser.add_argument("--configurations", metavar="A,B", help="replace the ladder's configurations; all: every rung")
    parser.add_argument("--seeds", type=int, help="number of seeds, from 0; default: the ladder's")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--backend", default="auto")
    parser.add_argument("--threads", type=int)
    parser.add_argument("--workers", type=int, default=1, help="parallel jobs, each with its own --threads")
    parser.add_argument("--redo-stale", action="store_true", help="repeat jobs done by other sources of stspbr")
    parser.add_argument("--captures", type=Path, metavar="FOLDER",
                        help="take captures of equal settings and seed from the runs in this folder")  # fmt: skip
    parser.add_argument("--list", action="store_true", help="print the jobs and whether they are done; run nothing")
    parser.add_argument("--table", action="store_true", help="write the tables of finished jobs; run nothing")
    return parser


def _run(options: argparse.Namespace) -> int:
    from rich.console import Console

    from stspbr.quality import ladder as ladders
    from stspbr.quality import runner
    from stspbr.quality.configurations import check_equal_parameters
    from stspbr.quality.table import print_tables, write_tables

    console = Console(width=None if sys.stdout.isatty() else 240)
    log: Callable[[str], None] = lambda line: console.print(line, markup=False, highlight=False, soft_wrap=True)  # noqa: E731
    home = options.out or Path("runs") / f"quality-{options.ladder}"
    if options.ladder in ("assets", "full"):
        ladder, skipped = (ladders.full_ladder if options.ladder == "full" else ladders.assets_ladder)(home)
    else:
        made = {"small": ladders.small_ladder, "forms": ladders.forms_ladder, "dark": ladders.dark_ladder}
        ladder, skipped = made[options.ladder](), []
    if options.seeds is not None:
        if options.seeds < 1:
            raise StspbrError(f"--seeds {options.seeds}: give at least 1")
        ladder = replace(ladder, seeds=tuple(range(options.seeds)))
    if options.configurations is not None:
        ladder = replace(ladder, configurations=_configurations(options.configurations))
    tracks, without = _tracks(options.tracks or ",".join(ladder.tracks))
    skipped += without
    if any(scene.relit_by for scene in ladder.scenes) and (reason := _path_tracer_missing()):
        skipped.append(f"relighting: skipped, {reason}")
        ladder = replace(ladder, scenes=[replace(scene, relit_by=None) for scene in ladder.scenes])
    jobs = ladders.jobs_of(ladder, tracks)
    if options.only:
        jobs = [job for job in jobs if any(fnmatchcase(job.name, pattern) for pattern in options.only)]
        if not jobs:
            raise StspbrError(f"--only {' '.join(options.only)}: no job matches; --list prints the jobs")
    if not jobs:
        raise StspbrError(f"{options.ladder}: no job is left: {'; '.join(skipped)}")

    source = runner.source_hash()
    done = {job.name: runner.finished(job, ladder.size, home) for job in jobs}
    stale = [name for name, record in done.items() if record is not None and record["source"] != source]
    if options.redo_stale:
        done, stale = done | dict.fromkeys(stale), []
    if options.list:
        for job in jobs:
            log(f"{job.name}: {'to do' if done[job.name] is None else 'done'}")
        return 0

    for line in skipped:
        log(line)
    example = next((job for job in jobs if job.configuration == "ours"), None)
    counts = check_equal_parameters(ladders.recipe_of(example, ladder.size)) if example else {}
    parameters = ", ".join(f"{name} {count}" for name, count in counts.items()) or None
    facts: dict[str, Any] = {"ladder": ladder.name, "source": source, "encoding_parameters": parameters}
    facts["skipped"] = skipped
    left = [] if options.table else [job for job in jobs if done[job.name] is None]
    if options.captures is not None:
        for line in runner.take_captures(left, ladder.size, home, options.captures):
            log(line)
    log(f"{len(jobs)} jobs, {len(jobs) - sum(r is None for r in done.values())} done, {len(left)} to run, in {home}")

    def tables() -> list:
        records = [record for job in jobs if (record := done[job.name]) is not None]
        facts["jobs"] = f"{len(records)} of {len(jobs)}"
        facts["failed"] = [r["job"] for r in records if r["status"] != "done"]
        facts["made_by_other_sources"] = stale
        return write_tables(home, records, facts)

    began, interrupted = time.monotonic(), False
    machine = runner.Machine(options.device, options.backend, options.threads)
    try:
        for number, record in enumerate(_results(left, options.workers, (ladder.size, home, machine, source)), start=1):
            done[record["job"]] = record
            passed = time.monotonic() - began
            remaining = passed / number * (len(left) - number)
            log(f"[{number}/{len(left)}] {record['job']}: {_brief(record)}; {_duration(remaining)} left")
            tables()
    except KeyboardInterrupt:
        interrupted = True
    comparisons = tables()
    print_tables(console, comparisons)
    if stale:
        log(f"{len(stale)} results were made by other sources of stspbr; --redo-stale repeats them")
    log(f"wrote {home / 'table.md'}, {home / 'table.csv'}, {home / 'table.json'}")
    if interrupted:
        log("interrupted; run the same command again to continue")
        return 130
    return 1 if facts["failed"] else 0


def _results(jobs: list, workers: int, rest: tuple) -> Iterator[dict[str, Any]]:
    """The records of ``jobs`` as they finish, in this process or in ``workers`` others."""
    from stspbr.quality import runner

    if workers < 1:
        raise StspbrError(f"--workers {workers}: give at least 1")
    if workers == 1:
        for job in jobs:
            yield runner.carry_out(job, *rest)
        return
    from concurrent.futures import ProcessPoolExecutor, as_completed
    from multiprocessing import get_context

    pool = ProcessPoolExecutor(workers, mp_context=get_context("spawn"), initializer=prepare_process)
    try:
        for future in as_completed([pool.submit(runner.carry_out, job, *rest) for job in jobs]):
            yield future.result()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _configurations(text: str) -> tuple[str, ...]:
    from stspbr.quality.configurations import CONFIGURATIONS

    wanted = list(CONFIGURATIONS) if text == "all" else [part.strip() for part in text.split(",")]
    unknown = [part for part in wanted if part not in CONFIGURATIONS]
    if unknown:
        raise StspbrError(f"--configurations {', '.join(unknown)}: choose from {', '.join(CONFIGURATIONS)}, or all")
    return tuple(name for name in CONFIGURATIONS if name in wanted)


def _tracks(text: str) -> tuple[tuple[str, ...], list[str]]:
    """The tracks that can run, and one line per track that cannot."""
    from stspbr.quality.ladder import TRACKS

    wanted = list(TRACKS) if text == "all" else [part.strip() for part in text.split(",")]
    unknown = [part for part in wanted if part not in TRACKS]
    if unknown:
        raise StspbrError(f"--tracks {text}: choose from {', '.join(TRACKS)}, or all")
    tracks = tuple(dict.fromkeys(wanted))
    traced = [track for track in tracks if TRACKS[track].path_traced]
    if traced and (reason := _path_tracer_missing()):
        own = tuple(track for track in tracks if track not in traced)
        return own, [f"track {track}: skipped, {reason}" for track in traced]
    return tracks, []


def _path_tracer_missing() -> str | None:
    """Why there is no path tracer; None if there is one."""
    from stspbr.render.mitsuba_bsdf import require_mitsuba

    try:
        require_mitsuba("path tracing")
    except StspbrError as error:
        return str(error)
    return None


def _brief(record: dict[str, Any]) -> str:
    if record["status"] != "done":
        return f"FAILED, {record['error']}"
    shown = (("albedo_mae", "albedo"), ("roughness_mae", "roughness"), ("metallic_mae", "metallic"))
    values = record["values"]
    return " ".join(f"{label} {values[key]:.4f}" for key, label in shown if values.get(key) is not None)


def _duration(seconds: float) -> str:
    minutes = round(seconds / 60.0)
    return f"{minutes // 60} h {minutes % 60:02d} min" if minutes >= 60 else f"{minutes} min"


if __name__ == "__main__":
    sys.exit(main())
