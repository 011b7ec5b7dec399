"""The commands that inspect runs, settings and the machine; they write no artifact."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer

from stspbr.cli.options import (
    DeviceOption,
    FromOption,
    InspectCommand,
    JsonOption,
    QuietOption,
    RunArgument,
    ThreadsOption,
    print_table,
)
from stspbr.errors import StspbrError
from stspbr.threads import prepare_process

app = typer.Typer(rich_markup_mode=None)


@app.command(cls=InspectCommand)
def report(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="the run's folder")],
    out: Annotated[Path | None, typer.Option(help="the page; default RUN/report.html")] = None,
    from_version: FromOption = None,
    result: Annotated[
        bool, typer.Option("--result", help="write RUN/result.png, too: photographs beside what the asset shows there")
    ] = False,
    quiet: QuietOption = False,
    json_lines: JsonOption = False,
) -> None:
    """Write one HTML page of a run. It holds metrics, curves, pictures and a 3D view, and needs no network."""
    from stspbr.stages.report import write_report

    path = write_report(run, out, from_version)
    if result:
        _write_result(run, from_version)
    if json_lines:
        typer.echo(json.dumps({"page": str(path), "bytes": path.stat().st_size}))
    elif not quiet:
        typer.echo(f"{path} ({_size(path.stat().st_size)})")


def _write_result(run: Path, version: str | None) -> None:
    """``RUN/result.png`` of a run that has photographs and an asset."""
    prepare_process()
    from stspbr.artifacts import ArtifactStore
    from stspbr.stages.result_pictures import RESULT, write_result
    from stspbr.stages.session import Session

    store = ArtifactStore(run)
    if not (run / "bake").is_dir():
        return
    asset = store.finished(version)
    if "capture" in store.lineage(asset):
        write_result(Session.open(run, quiet=True), asset, run / RESULT)


@app.command(cls=InspectCommand)
def compare(
    runs: Annotated[list[Path], typer.Argument(metavar="RUN...", help="two or more folders of runs")],
    out: Annotated[Path | None, typer.Option(help="the page; default compare.html; none with --json, --quiet")] = None,
    quiet: QuietOption = False,
    json_lines: Annotated[bool, typer.Option("--json", help="print the table as one JSON object")] = False,
) -> None:
    """Compare runs in the terminal and as one HTML page. The page also lists the settings that differ."""
    from stspbr.report.comparison import as_json
    from stspbr.stages.compare import compare_runs

    verbose = not quiet and not json_lines
    page = Path("compare.html") if out is None and verbose else out
    comparison = compare_runs(runs, page)
    if json_lines:
        typer.echo(json.dumps({**as_json(comparison), "page": None if page is None else str(page)}))
    elif verbose and page is not None:
        print_comparison(comparison)
        typer.echo(f"{page} ({_size(page.stat().st_size)})")


@app.command(cls=InspectCommand)
def explain(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="a run with a bake")],
    texel: Annotated[str | None, typer.Option(metavar="U,V", help="a texel; 0,0 is the maps' top left corner")] = None,
    point: Annotated[str | None, typer.Option(metavar="X,Y,Z", help="a point of the surface, in its units")] = None,
    region: Annotated[
        str | None, typer.Option(metavar="MASK.png", help="texels: white in an image over the maps")
    ] = None,
    pixel: Annotated[str | None, typer.Option(metavar="VIEW,X,Y", help="what a pixel of a view shows")] = None,
    without: Annotated[
        list[str] | None,
        typer.Option(metavar="VIEW", help="what would change without this view; repeat it, or put commas, for several"),
    ] = None,
    channel: Annotated[str, typer.Option(help="albedo, roughness or metallic")] = "roughness",
    material: Annotated[str | None, typer.Option(help="whose maps, if there are several materials")] = None,
    out: Annotated[Path | None, typer.Option(help="folder of the pictures; default in RUN/explain")] = None,
    from_version: FromOption = None,
    device: DeviceOption = "auto",
    threads: ThreadsOption = None,
    quiet: QuietOption = False,
    json_lines: JsonOption = False,
) -> None:
    """Say which photographs decided what a texel is, how much the prior did, and from where a photo would help.

    With --without: what would change if these photographs had not been taken.
    """
    prepare_process()
    from stspbr.stages.explain import Explanation
    from stspbr.stages.explain import explain as answer
    from stspbr.stages.explain_removal import Removal, explain_removal
    from stspbr.stages.explain_targets import Question
    from stspbr.stages.session import Session

    versions = {} if from_version is None else {"bake": from_version}
    session = Session.open(run, device=device, threads=threads, quiet=True, versions=versions)
    question = Question(texel, point, region, pixel, material)
    found: Explanation | Removal
    if without:
        names = [name.strip() for part in without for name in part.split(",") if name.strip()]
        found = explain_removal(session, names, question, channel, out)
    else:
        found = answer(session, question, channel, out)
    if json_lines:
        typer.echo(json.dumps(found.as_json()))
    elif not quiet:
        for line in found.lines():
            typer.echo(line)
        typer.echo(str(found.folder))


@app.command(cls=InspectCommand)
def artifacts(run: RunArgument, json_lines: JsonOption = False) -> None:
    """List a run's artifacts: size, age, settings, parents, state. The state is complete, unfinished, or the error."""
    from stspbr.artifacts import ArtifactStore

    rows = ArtifactStore(run).list()
    if not rows:
        raise StspbrError(f"{run}: no artifacts here; start with `stspbr capture`")
    if json_lines:
        for row in rows:
            typer.echo(json.dumps({**asdict(row), "path": str(row.path)}))
        return
    cells = []
    for row in rows:
        parents = ", ".join(f"{stage} {version}" for stage, version in row.parents.items())
        cells.append([row.stage, row.version, _size(row.size), _age(row.age), parents, _brief(row.settings), row.state])
    print_table(("stage", "version", "size", "age", "parents", "settings", "state"), cells)


@app.command(cls=InspectCommand)
def recipes(json_lines: JsonOption = False) -> None:
    """List the recipes that `stspbr run NAME` can run."""
    from stspbr.settings import shipped_recipes

    for name, file in shipped_recipes().items():
        about = file.read_text(encoding="utf-8").partition("\n")[0].lstrip("# ")
        typer.echo(json.dumps({"recipe": name, "about": about}) if json_lines else f"{name:<16} {about}")


@app.command(cls=InspectCommand)
def settings(
    stage: Annotated[
        str | None, typer.Argument(metavar="[STAGE]", help="e.g. coarse, capture.photos, capture; default: all")
    ] = None,
    json_lines: JsonOption = False,
) -> None:
    """List every setting: key, type, default, range and meaning. Change settings with --set, or in a recipe."""
    from stspbr.settings.table import chosen_stages, rows

    for name, model in chosen_stages(stage).items():
        if json_lines:
            for row in rows(model):
                typer.echo(json.dumps({"stage": name, **asdict(row)}))
            continue
        cells = ([*asdict(replace(row, type=row.type.replace("|", " | "))).values()] for row in rows(model))
        print_table(("key", "type", "default", "range", "description"), cells, name)


@app.command(cls=InspectCommand)
def doctor(
    warm: Annotated[
        bool, typer.Option("--warm", help="only compile all kernels, so that no stage has to wait")
    ] = False,
) -> None:
    """Report what this machine lacks for stspbr and how to get it. Lists versions, devices and backends."""
    prepare_process()
    if warm:
        from stspbr.doctor.warm import warm as compile_kernels

        clock = compile_kernels(typer.echo)
        typer.echo(f"{clock.count} kernels compiled in {clock.seconds:.0f} s; the others were in the cache")
        return
    from stspbr.doctor.diagnose import diagnose, healthy

    checks = diagnose()
    print_table(("what", "state", "detail"), ([check.name, check.state, check.detail or ""] for check in checks))
    for check in checks:  # one unbroken line per command, to be copied
        if check.remedy:
            typer.echo(f"{check.name}: {check.remedy}")
    if not healthy(checks):
        raise typer.Exit(1)


@app.command()
def bench(
    settings: Annotated[str | None, typer.Option(help="amount of work: cpu, gpu or tiny; default: by device")] = None,
    out: Annotated[Path | None, typer.Option(help="JSON file for the result")] = None,
    steps: Annotated[int, typer.Option(help="timed steps per kind", min=1)] = 20,
    compare: Annotated[bool, typer.Option("--compare", help="also time the alternatives")] = False,
    repeats: Annotated[int, typer.Option(help="repeats per comparison", min=1)] = 5,
    device: DeviceOption = "auto",
    threads: ThreadsOption = None,
    quiet: QuietOption = False,
    json_lines: JsonOption = False,
) -> None:
    """Time the parts of a step at fixed settings. Prints seconds, throughput and memory for a built-in object."""
    prepare_process()
    from stspbr.stages.bench import run_bench
    from stspbr.stages.session import Session

    if settings is not None and device == "auto":
        from stspbr.bench.settings import bench_settings

        device = bench_settings(settings).device
    session = Session.open(Path(), device=device, threads=threads)
    name = settings or ("gpu" if session.device.type == "cuda" else "cpu")
    verbose = not quiet and not json_lines
    log = partial(typer.echo, err=True) if verbose else lambda _: None
    result = run_bench(session, name, steps=steps, out=out, compare=compare, repeats=repeats, log=log)
    if json_lines:
        typer.echo(json.dumps(result))
    elif verbose:
        print_bench(result)
        if out is not None:
            typer.echo(str(out))


def print_bench(result: dict[str, Any]) -> None:
    """Print the machine, a column per kind of step, rays per second, and the ratios."""
    from stspbr.stages.bench import comparison_table, ray_table, step_table

    machine, fixed = result["machine"], result["settings"]
    typer.echo(
        f"{machine['cpu']}, {machine['cores']} cores, {machine['threads']} threads, on {machine['device']}; "
        f"{fixed['resolution']}² × {fixed['batch']} views"
    )
    for heading, rows in (step_table(result), ray_table(result), comparison_table(result)):
        if rows:
            print_table(heading, rows)


def print_errors(run: Path) -> None:
    """Print the table of the newest evaluation and the path of its contact sheet."""
    from stspbr.artifacts import ArtifactStore
    from stspbr.stages.error_record import compared_table

    artifact = ArtifactStore(run).resolve("evaluate")
    if "prompt.json" in artifact.files:
        _print_prompt(json.loads(artifact.file("prompt.json").read_text(encoding="utf-8"))["parts"])
        return
    errors = json.loads(artifact.file("errors.json").read_text(encoding="utf-8"))
    columns = ("this run", errors["other"]["name"]) if errors.get("other") else ("value",)
    print_table(("error against the known asset", *columns), compared_table(errors))
    typer.echo(f"contact sheet: {artifact.file('contact_sheet.png')}")


def print_scores(path: Path) -> None:
    """Print the figures of Stanford-ORB in ``scores.json``."""
    from stspbr.stages.orb import orb_table

    print_table(("Stanford-ORB's protocol", "value"), orb_table(json.loads(path.read_text(encoding="utf-8"))))


def _print_prompt(parts: dict[str, Any]) -> None:
    """Print how far the parts of a texture from a text are from what the words mean."""
    rows = []
    for name, found in parts.items():
        if "shares" in found:
            cells = [f"{100 * found['shares'][key]:.0f} %" for key in ("first", "second", "either")]
            rows.append([name, found["prompt"], "share within ranges: " + ", ".join(cells)])
        else:
            cells = [f"{key} {found[key]:.3f}" for key in ("albedo", "roughness", "metallic")]
            rows.append([name, found["prompt"], "outside of ranges by " + ", ".join(cells)])
    print_table(("part", "prompt", "error"), rows)


def print_comparison(comparison: Any) -> None:
    """Print the metrics that can be better or worse; the page and --json hold all of them."""
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    from stspbr.stages.compare import comparison_table

    rows = comparison_table(comparison)
    table = Table("", *map(escape, comparison.names))
    table.columns[0].no_wrap = True
    group = None
    for heading, label, cells in rows:
        if heading != group:
            table.add_section()
            table.add_row(f"[bold]{escape(heading)}[/bold]")
            group = heading
        shown = []
        for text, change, is_best in cells:
            shown.append(f"[bold green]{escape(text)} *[/bold green]" if is_best else escape(text))
            shown[-1] += f" [dim]{escape(change)}[/dim]" if change else ""
        table.add_row(escape(label), *shown)
    Console().print(table if rows else "none of these runs has metrics yet")
    for record in comparison.records:
        for line in record.notices:
            typer.echo(f"{record.name}: {line}")


def _size(size: float) -> str:
    for unit in ("B", "KB", "MB"):
        if size < 1000:
            return f"{size:.0f} {unit}"
        size /= 1000
    return f"{size:.1f} GB"


def _age(seconds: float) -> str:
    for unit, length in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= length:
            return f"{seconds / length:.0f} {unit}"
    return f"{seconds:.0f} s"


def _brief(settings: dict[str, Any]) -> str:
    """The settings in which two versions most often differ."""
    optimize = settings.get("optimize", {})
    keys = ("asset", "folder", "renderer", "views", "resolution", "mesh", "texture_resolution", "bits", "reference")
    parts = [f"{key}={settings[key]}" for key in keys if settings.get(key) is not None]
    parts += [f"iterations={optimize['iterations']}"] if "iterations" in optimize else []
    parts += [f"fields={settings['fields']['mode']}"] if "fields" in settings else []
    return ", ".join(parts)
