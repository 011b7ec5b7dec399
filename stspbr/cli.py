"""The command line: parse, call a stage, show what it wrote. No work is done here."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer

from stspbr import __version__
from stspbr.errors import StspbrError
from stspbr.threads import prepare_process

app = typer.Typer(
    help="From photographs of one object to a mesh with physically based textures and the environment light.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
capture_app = typer.Typer(help="Frames, poses, masks and perhaps the light.", no_args_is_help=True)
app.add_typer(capture_app, name="capture")

RunArgument = Annotated[Path, typer.Argument(metavar="RUN", help="the run's folder; made where it is absent")]
SetOption = Annotated[
    list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="change a setting, e.g. optimize.iterations=800")
]
FromOption = Annotated[str | None, typer.Option("--from", metavar="V0001", help="the parent's version; default newest")]
SeedOption = Annotated[int, typer.Option(help="seed of everything random")]
DeviceOption = Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N")]
BackendOption = Annotated[str, typer.Option(help="raster operations: auto, cpu or nvdiffrast")]
ThreadsOption = Annotated[int | None, typer.Option(help="threads; default: every core there is", min=1)]
ResumeOption = Annotated[bool, typer.Option("--resume", help="go on from the last checkpoint")]
RoutingOption = Annotated[
    str | None, typer.Option(help="strict: each loss drives its own group; shared: the prototype's mixed gradients")
]
QuietOption = Annotated[bool, typer.Option("--quiet", help="print errors only")]
JsonOption = Annotated[bool, typer.Option("--json", help="print JSON lines only")]


def main() -> None:
    """Entry point: what went wrong is one line on stderr and exit code 2; Ctrl-C is exit code 130."""
    try:
        app()
    except StspbrError as error:
        sys.stderr.write(f"stspbr: {error}\n")
        sys.exit(2)
    except MemoryError:
        sys.stderr.write("stspbr: out of memory: use smaller images (image_scale), batch or texture_resolution\n")
        sys.exit(2)
    except OSError as error:
        place = f"{error.filename}: " if error.filename else ""
        sys.stderr.write(f"stspbr: {place}{error.strerror or error}\n")
        sys.exit(2)


@contextmanager
def _resumable() -> Iterator[None]:
    """Ctrl-C says how to go on; typer alone would only print "Aborted"."""
    try:
        yield
    except KeyboardInterrupt:
        sys.stderr.write("stspbr: interrupted; run the same command with --resume to go on from the last checkpoint\n")
        raise typer.Exit(130) from None


@app.callback(invoke_without_command=True)
def _root(
    version: Annotated[bool, typer.Option("--version", help="print the version and stop")] = False,
) -> None:
    if version:
        typer.echo(__version__)
        raise typer.Exit


def _run_stage(
    stage: str,
    settings_name: str,
    run: Path,
    overrides: list[str] | None,
    base: dict[str, Any],
    **options: Any,
) -> None:
    """Parse the settings, open a session, run the stage and say what stands where."""
    prepare_process()
    from stspbr import recipe

    settings = recipe.settings_for(getattr(recipe, settings_name), overrides or [], base)
    from importlib import import_module

    from stspbr.stages.session import Session

    session = Session.open(run, **options)
    module = import_module(f"stspbr.stages.{stage.replace('-', '_')}")
    with _resumable():
        artifact = getattr(module, f"run_{stage.replace('-', '_')}")(session, settings)
    _say(session, {"stage": stage, "artifact": str(artifact.path), "content_hash": artifact.content_hash})


def _say(session: Any, facts: dict[str, Any]) -> None:
    import json

    if session.json_lines:
        typer.echo(json.dumps(facts))
    elif not session.quiet:
        typer.echo(" ".join(f"{value}" for key, value in facts.items() if key in ("stage", "artifact")))


@capture_app.command("mesh")
def capture_mesh(
    run: RunArgument,
    asset: Annotated[str, typer.Argument(help="GLB, glTF or OBJ; or procedural:demo, :letters, …")],
    light: Annotated[str, typer.Option(help="lat-long HDR or EXR; or procedural:demo, :studio, …")],
    textures: Annotated[str | None, typer.Option(help="folder of maps for an OBJ, picked by name")] = None,
    renderer: Annotated[str, typer.Option(help="raster (same shading) or mitsuba (path-traced)")] = "raster",
    views: Annotated[int, typer.Option(help="training views", min=1)] = 100,
    test_views: Annotated[int, typer.Option(help="held-out views", min=0)] = 20,
    resolution: Annotated[int, typer.Option(help="image side in pixels", min=8)] = 256,
    settings: SetOption = None,
    seed: SeedOption = 0,
    device: DeviceOption = "auto",
    backend: BackendOption = "auto",
    threads: ThreadsOption = None,
    quiet: QuietOption = False,
    json_lines: JsonOption = False,
) -> None:
    """Render a textured mesh under an environment from cameras on a sphere."""
    base = {"asset": asset, "light": light, "renderer": renderer, "views": views, "test_views": test_views,
            "resolution": resolution, "textures": textures}  # fmt: skip
    _run_stage("capture", "CaptureMeshSettings", run, settings, base, seed=seed, device=device, backend=backend,
               threads=threads, quiet=quiet, json_lines=json_lines)  # fmt: skip


def _capture_folder(kind: str, run: Path, folder: Path, image_scale: int, **options: Any) -> None:
    base = {"kind": kind, "folder": str(folder), "image_scale": image_scale}
    _run_stage("capture", "CaptureFolderSettings", run, None, base, **options)


ScaleOption = Annotated[int, typer.Option(help="divide the image sides by this", min=1)]
FolderArgument = Annotated[Path, typer.Argument(help="the data set's folder")]


@capture_app.command("nerf")
def capture_nerf(
    run: RunArgument,
    folder: FolderArgument,
    image_scale: ScaleOption = 1,
    quiet: QuietOption = False,
    json_lines: JsonOption = False,
) -> None:
    """Read a NeRF-synthetic folder (transforms_train.json, transforms_test.json, RGBA images)."""
    _capture_folder("nerf", run, folder, image_scale, quiet=quiet, json_lines=json_lines)


@capture_app.command("nerfstudio")
def capture_nerfstudio(
    run: RunArgument,
    folder: FolderArgument,
    image_scale: ScaleOption = 1,
    quiet: QuietOption = False,
    json_lines: JsonOption = False,
) -> None:
    """Read a nerfstudio-style transforms.json with images and masks."""
    _capture_folder("nerfstudio", run, folder, image_scale, quiet=quiet, json_lines=json_lines)


@app.command()
def coarse(
    run: RunArgument,
    mesh: Annotated[str | None, typer.Option(help="fit materials on this mesh; its UVs are kept")] = None,
    settings: SetOption = None,
    from_version: FromOption = None,
    seed: SeedOption = 0,
    device: DeviceOption = "auto",
    backend: BackendOption = "auto",
    threads: ThreadsOption = None,
    routing: RoutingOption = None,
    resume: ResumeOption = False,
    quiet: QuietOption = False,
    json_lines: JsonOption = False,
) -> None:
    """Let geometry and colour settle; network B is held back."""
    base = {"mesh": mesh, **_routing(routing)}
    _run_stage("coarse", "CoarseSettings", run, settings, base, seed=seed, device=device, backend=backend,
               threads=threads, resume=resume, quiet=quiet, json_lines=json_lines,
               versions=_version("capture", from_version))  # fmt: skip


@app.command()
def specialize(
    run: RunArgument,
    settings: SetOption = None,
    from_version: FromOption = None,
    seed: SeedOption = 0,
    device: DeviceOption = "auto",
    backend: BackendOption = "auto",
    threads: ThreadsOption = None,
    routing: RoutingOption = None,
    resume: ResumeOption = False,
    quiet: QuietOption = False,
    json_lines: JsonOption = False,
) -> None:
    """Let network B work out roughness and metallic."""
    base = _routing(routing)
    _run_stage("specialize", "SpecializeSettings", run, settings, base, seed=seed, device=device, backend=backend,
               threads=threads, resume=resume, quiet=quiet, json_lines=json_lines,
               versions=_version("coarse", from_version))  # fmt: skip


@app.command()
def bake(
    run: RunArgument,
    settings: SetOption = None,
    from_version: FromOption = None,
    seed: SeedOption = 0,
    device: DeviceOption = "auto",
    backend: BackendOption = "auto",
    threads: ThreadsOption = None,
    routing: RoutingOption = None,
    resume: ResumeOption = False,
    quiet: QuietOption = False,
    json_lines: JsonOption = False,
) -> None:
    """Unwrap, bake and refine the maps; write GLB, OBJ and the light."""
    _run_stage("bake", "BakeSettings", run, settings, _routing(routing), seed=seed, device=device, backend=backend,
               threads=threads, resume=resume, quiet=quiet, json_lines=json_lines,
               versions=_version("specialize", from_version))  # fmt: skip


@app.command("unpack-orm")
def unpack_orm(
    source: Annotated[Path, typer.Argument(metavar="RUN|FILE", help="a run, or any GLB, glTF or ORM image")],
    out: Annotated[Path | None, typer.Option(help="folder for the maps of a FILE; default: beside it")] = None,
    bits: Annotated[int, typer.Option(help="8 or 16")] = 8,
    from_version: FromOption = None,
    quiet: QuietOption = False,
    json_lines: JsonOption = False,
) -> None:
    """Write occlusion.png, roughness.png and metallic.png."""
    if source.is_dir():
        _run_stage("unpack-orm", "UnpackSettings", source, None, {"bits": bits}, quiet=quiet, json_lines=json_lines,
                   versions=_version("bake", from_version))  # fmt: skip
        return
    import json

    from stspbr.stages.unpack_orm import unpack_file

    if bits not in (8, 16):
        raise StspbrError(f"--bits {bits}: choose 8 or 16")
    for path in unpack_file(source, out or source.parent, bits):
        if json_lines or not quiet:
            typer.echo(json.dumps({"file": str(path)}) if json_lines else str(path))


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
    _run_stage("evaluate", "EvaluateSettings", run, settings, base, seed=seed, device=device, backend=backend,
               threads=threads, quiet=quiet, json_lines=json_lines,
               versions=_version("bake", from_version))  # fmt: skip
    if not quiet and not json_lines:
        _print_errors(run)


@app.command("run")
def run_all(
    recipe_path: Annotated[Path, typer.Argument(metavar="RECIPE", help="a TOML file from pipelines/")],
    out: Annotated[Path | None, typer.Option(help="the run's folder; default runs/<name>")] = None,
    settings: SetOption = None,
    seed: Annotated[int | None, typer.Option(help="in place of the recipe's seed")] = None,
    device: DeviceOption = "auto",
    backend: BackendOption = "auto",
    threads: ThreadsOption = None,
    resume: ResumeOption = False,
    quiet: QuietOption = False,
    json_lines: JsonOption = False,
) -> None:
    """Run all stages of a recipe; a stage that stands with the same inputs and settings is not run again."""
    prepare_process()
    from stspbr.recipe import load_recipe

    recipe = load_recipe(recipe_path, settings or [])
    from stspbr.stages.run import run_recipe
    from stspbr.stages.session import Session

    out = out or Path("runs") / recipe.name
    session = Session.open(out, seed=recipe.seed if seed is None else seed, device=device, backend=backend,
                           threads=threads, resume=resume, quiet=quiet, json_lines=json_lines)  # fmt: skip
    talk = not quiet and not json_lines
    with _resumable():
        done = run_recipe(session, recipe, typer.echo if talk else lambda line: None)
    for artifact in done.values():
        _say(session, {"stage": artifact.stage, "artifact": str(artifact.path), "content_hash": artifact.content_hash})
    if talk and "evaluate" in done:
        _print_errors(out)


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
def doctor() -> None:
    """Versions, devices, backends; what is missing and how to get it."""
    prepare_process()
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    from stspbr.stages.doctor import diagnose, healthy

    table = Table("what", "state", "detail", "remedy")
    checks = diagnose()
    for check in checks:
        table.add_row(*(escape(text or "") for text in (check.name, check.state, check.detail, check.remedy)))
    Console().print(table)
    if not healthy(checks):
        raise typer.Exit(1)


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
    """Write one HTML page of a run: figures, curves, pictures, a 3D view; it needs no network."""
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

    talk = not quiet and not json_lines
    page = Path("compare.html") if out is None and talk else out
    comparison = compare_runs(runs, page)
    if json_lines:
        typer.echo(json.dumps({**as_json(comparison), "page": None if page is None else str(page)}))
    elif talk:
        _print_comparison(comparison)
        typer.echo(f"{page} ({_size(page.stat().st_size)})")


def _routing(routing: str | None) -> dict[str, Any]:
    return {} if routing is None else {"optimize": {"routing": routing}}


def _version(stage: str, version: str | None) -> dict[str, str]:
    return {} if version is None else {stage: version}


def _print_errors(run: Path) -> None:
    import json

    from rich.console import Console
    from rich.table import Table

    from stspbr.artifacts import ArtifactStore
    from stspbr.stages.evaluate import error_table

    artifact = ArtifactStore(run).resolve("evaluate")
    table = Table("error against the known asset", "value")
    for what, figure in error_table(json.loads(artifact.file("errors.json").read_text(encoding="utf-8"))):
        table.add_row(what, figure)
    console = Console()
    console.print(table)
    console.print(f"contact sheet: {artifact.file('contact_sheet.png')}")


def _print_comparison(comparison: Any) -> None:
    """The figures that can be better or worse; the page and --json hold all of them."""
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
    console.print(table if rows else "none of these runs has figures yet")
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


if __name__ == "__main__":
    main()
