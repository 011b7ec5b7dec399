"""The commands that look at what is there: evaluate, report, compare, artifacts, doctor, bench."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from stspbr import torchrun
from stspbr.cli.options import (
    BackendOption,
    DeviceOption,
    FromOption,
    JsonOption,
    QuietOption,
    RunArgument,
    SeedOption,
    SetOption,
    ThreadsOption,
    run_stage,
    version_of,
)
from stspbr.errors import StspbrError
from stspbr.threads import prepare_process

app = typer.Typer()


@app.command(context_settings={"allow_extra_args": True})
def evaluate(
    context: typer.Context,
    run: RunArgument,
    reference: Annotated[str | None, typer.Option(help="GLB, glTF or OBJ; default: the captured asset")] = None,
    reference_textures: Annotated[str | None, typer.Option(help="folder of maps for an OBJ")] = None,
    lights: Annotated[
        list[str] | None, typer.Option(help="HDR or EXR to relight by; repeat it, or give a folder or *.hdr")
    ] = None,
    align: Annotated[str, typer.Option(help="none, icp or sim3: put the result onto the reference first")] = "none",
    settings: SetOption = None,
    from_version: FromOption = None,
    seed: SeedOption = 0,
    device: DeviceOption = "auto",
    backend: BackendOption = "auto",
    threads: ThreadsOption = None,
    quiet: QuietOption = False,
    json_lines: JsonOption = False,
) -> None:
    """Compare the bake with its original: material and geometry in 3D, held-out views, other lights."""
    extra = [word for word in context.args if not word.lower().endswith((".hdr", ".exr"))]
    if extra or (context.args and not lights):
        word = (extra or context.args)[0]
        raise StspbrError(f"{word}: not understood here; lights go after --lights (an HDR or EXR each)")
    base = {"reference": reference, "reference_textures": reference_textures, "reference_capture": reference is None,
            "lights": [*(lights or []), *context.args], "align": align}  # fmt: skip
    run_stage("evaluate", "EvaluateSettings", run, settings, base, seed=seed, device=device, backend=backend,
               threads=threads, quiet=quiet, json_lines=json_lines,
               versions=version_of("bake", from_version))  # fmt: skip
    if not quiet and not json_lines and torchrun.is_first():
        print_errors(run)


@app.command()
def report(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="the run's folder")],
    out: Annotated[Path | None, typer.Option(help="the page; default RUN/report.html")] = None,
    from_version: Annotated[
        str | None, typer.Option("--from", metavar="V0001", help="the bake's version; default newest")
    ] = None,
    quiet: QuietOption = False,
    json_lines: JsonOption = False,
) -> None:
    """Write one HTML page of a run: metrics, curves, pictures, a 3D view; it needs no network."""
    import json

    from stspbr.stages.report import write_report

    path = write_report(run, out, from_version)
    if json_lines:
        typer.echo(json.dumps({"page": str(path), "bytes": path.stat().st_size}))
    elif not quiet:
        typer.echo(f"{path} ({_size(path.stat().st_size)})")


@app.command()
def compare(
    runs: Annotated[list[Path], typer.Argument(metavar="RUN...", help="folders of two runs or more")],
    out: Annotated[
        Path | None, typer.Option(help="the page; default compare.html, and none with --json or --quiet")
    ] = None,
    quiet: QuietOption = False,
    json_lines: Annotated[bool, typer.Option("--json", help="print the table as one JSON object")] = False,
) -> None:
    """Set runs side by side: what is better, which settings differ; in the terminal and as one HTML page."""
    import json

    from stspbr.report.comparison import as_json
    from stspbr.stages.compare import compare_runs

    verbose = not quiet and not json_lines
    page = Path("compare.html") if out is None and verbose else out
    comparison = compare_runs(runs, page)
    if json_lines:
        typer.echo(json.dumps({**as_json(comparison), "page": None if page is None else str(page)}))
    elif verbose:
        print_comparison(comparison)
        typer.echo(f"{page} ({_size(page.stat().st_size)})")


@app.command()
def artifacts(run: RunArgument, json_lines: JsonOption = False) -> None:
    """List what a run holds: size, age, settings, parents, and whether it is whole."""
    import json
    from dataclasses import asdict

    from stspbr.artifacts import ArtifactStore

    rows = ArtifactStore(run).list()
    if not rows:
        raise StspbrError(f"{run}: no artifacts here; start with `stspbr capture`")
    if json_lines:
        for row in rows:
            typer.echo(json.dumps({**asdict(row), "path": str(row.path)}))
        return
    from rich.console import Console
    from rich.table import Table

    table = Table("stage", "version", "size", "age", "parents", "settings", "state")
    for row in rows:
        parents = ", ".join(f"{stage} {version}" for stage, version in row.parents.items())
        table.add_row(row.stage, row.version, _size(row.size), _age(row.age), parents, _brief(row.settings), row.state)
    Console().print(table)


@app.command()
def doctor(
    warm: Annotated[
        bool, typer.Option("--warm", help="only compile all kernels, so that no stage has to wait")
    ] = False,
) -> None:
    """Versions, devices, backends; what is missing and how to get it."""
    prepare_process()
    if warm:
        from stspbr.doctor.warm import warm as compile_kernels

        clock = compile_kernels(typer.echo)
        typer.echo(f"{clock.count} kernels compiled in {clock.seconds:.0f} s; the others were in the cache")
        return
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    from stspbr.doctor.diagnose import diagnose, healthy

    table = Table("what", "state", "detail")
    checks = diagnose()
    for check in checks:
        table.add_row(*(escape(text or "") for text in (check.name, check.state, check.detail)))
    console = Console()
    console.print(table)
    for check in checks:  # each on a line of its own, unbroken: to be copied
        if check.remedy:
            console.print(f"{check.name}: {check.remedy}", markup=False, highlight=False, soft_wrap=True)
    if not healthy(checks):
        raise typer.Exit(1)


@app.command()
def bench(
    settings: Annotated[
        str | None, typer.Option(help="cpu, gpu or tiny: a fixed amount of work; default: by the device")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="write the result there as JSON")] = None,
    steps: Annotated[int, typer.Option(help="steps that are timed, of each kind", min=1)] = 20,
    compare: Annotated[bool, typer.Option("--compare", help="also time what one could use instead")] = False,
    repeats: Annotated[int, typer.Option(help="of each comparison", min=1)] = 5,
    device: DeviceOption = "auto",
    threads: ThreadsOption = None,
    quiet: QuietOption = False,
    json_lines: JsonOption = False,
) -> None:
    """Seconds per step by part, throughput and memory, at fixed settings on an object made in memory."""
    prepare_process()
    import json

    from stspbr.stages.bench import run_bench
    from stspbr.stages.session import Session

    if settings is not None and device == "auto":
        device = _device_of(settings)
    session = Session.open(Path(), device=device, threads=threads)
    name = settings or ("gpu" if session.device.type == "cuda" else "cpu")
    verbose = not quiet and not json_lines
    result = run_bench(
        name,
        device=session.device,
        threads=session.threads,
        steps=steps,
        out=out,
        compare=compare,
        repeats=repeats,
        log=(lambda text: typer.echo(text, err=True)) if verbose else (lambda _: None),
    )
    if json_lines:
        typer.echo(json.dumps(result))
    elif verbose:
        print_bench(result)
        if out is not None:
            typer.echo(str(out))


def _device_of(settings: str) -> str:
    from stspbr.bench.settings import bench_settings

    return bench_settings(settings).device


def print_bench(result: dict[str, Any]) -> None:
    """The machine, a column a kind of step, and the ratios."""
    from rich.console import Console
    from rich.table import Table

    from stspbr.stages.bench import comparison_table, step_table

    console = Console()
    machine, fixed = result["machine"], result["settings"]
    console.print(
        f"{machine['cpu']}, {machine['cores']} cores, {machine['threads']} threads, on {machine['device']}; "
        f"{fixed['resolution']}² × {fixed['batch']} views",
        highlight=False,
    )
    for heading, rows in (step_table(result), comparison_table(result)):
        if rows:
            table = Table(*heading)
            table.columns[0].no_wrap = True
            for row in rows:
                table.add_row(*row)
            console.print(table)


def print_errors(run: Path) -> None:
    import json

    from rich.console import Console
    from rich.table import Table

    from stspbr.artifacts import ArtifactStore
    from stspbr.stages.evaluate import error_table

    artifact = ArtifactStore(run).resolve("evaluate")
    table = Table("error against the known asset", "value")
    for what, metric in error_table(json.loads(artifact.file("errors.json").read_text(encoding="utf-8"))):
        table.add_row(what, metric)
    console = Console()
    console.print(table)
    console.print(f"contact sheet: {artifact.file('contact_sheet.png')}")


def print_comparison(comparison: Any) -> None:
    """The metrics that can be better or worse; the page and --json hold all of them."""
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
    console = Console()
    console.print(table if rows else "none of these runs has metrics yet")
    for record in comparison.records:
        for line in record.notices:
            console.print(f"{record.name}: {line}", markup=False, highlight=False, soft_wrap=True)


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
    """The settings that tell two versions apart at a glance."""
    optimize = settings.get("optimize", {})
    keys = ("asset", "folder", "renderer", "views", "resolution", "mesh", "texture_resolution", "bits", "reference")
    parts = [f"{key}={settings[key]}" for key in keys if settings.get(key) is not None]
    parts += [f"iterations={optimize['iterations']}"] if "iterations" in optimize else []
    parts += [f"fields={settings['fields']['mode']}"] if "fields" in settings else []
    return ", ".join(parts)
