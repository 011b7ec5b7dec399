"""The stages after the capture, and all of them from a recipe."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from stspbr import torchrun
from stspbr.cli.inspect import print_errors
from stspbr.cli.options import (
    BackendOption,
    DeviceOption,
    FromOption,
    JsonOption,
    QuietOption,
    ResumeOption,
    RoutingOption,
    RunArgument,
    SeedOption,
    SetOption,
    ThreadsOption,
    report_artifact,
    resumable,
    routing_settings,
    run_stage,
    version_of,
)
from stspbr.errors import StspbrError
from stspbr.threads import prepare_process

app = typer.Typer()


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
    base = {"mesh": mesh, **routing_settings(routing)}
    run_stage("coarse", "CoarseSettings", run, settings, base, seed=seed, device=device, backend=backend,
               threads=threads, resume=resume, quiet=quiet, json_lines=json_lines,
               versions=version_of("capture", from_version))  # fmt: skip


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
    base = routing_settings(routing)
    run_stage("specialize", "SpecializeSettings", run, settings, base, seed=seed, device=device, backend=backend,
               threads=threads, resume=resume, quiet=quiet, json_lines=json_lines,
               versions=version_of("coarse", from_version))  # fmt: skip


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
    base = routing_settings(routing)
    run_stage("bake", "BakeSettings", run, settings, base, seed=seed, device=device, backend=backend,
               threads=threads, resume=resume, quiet=quiet, json_lines=json_lines,
               versions=version_of("specialize", from_version))  # fmt: skip


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
        run_stage("unpack-orm", "UnpackSettings", source, None, {"bits": bits}, quiet=quiet, json_lines=json_lines,
                   versions=version_of("bake", from_version))  # fmt: skip
        return
    if not torchrun.is_first():
        return
    import json

    from stspbr.stages.unpack_orm import unpack_file

    if bits not in (8, 16):
        raise StspbrError(f"--bits {bits}: choose 8 or 16")
    for path in unpack_file(source, out or source.parent, bits):
        if json_lines or not quiet:
            typer.echo(json.dumps({"file": str(path)}) if json_lines else str(path))


@app.command("run")
def run_all(
    recipe_path: Annotated[Path, typer.Argument(metavar="RECIPE", help="a name from `stspbr recipes`, or a TOML file")],
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
    from stspbr.settings import load_recipe

    recipe = load_recipe(recipe_path, settings or [])
    from stspbr.stages.run import run_recipe
    from stspbr.stages.session import Session

    out = out or Path("runs") / recipe.name
    session = Session.open(out, seed=recipe.seed if seed is None else seed, device=device, backend=backend,
                           threads=threads, resume=resume, quiet=quiet, json_lines=json_lines)  # fmt: skip
    verbose = not session.quiet and not session.json_lines
    with resumable(), session.ranks.together():
        done = run_recipe(session, recipe, typer.echo if verbose else lambda line: None)
    for artifact in done.values():
        report_artifact(session, artifact)
    if verbose and "evaluate" in done:
        print_errors(out)
