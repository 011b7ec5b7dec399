"""`stspbr fleet OBJECTS.toml|DIR…`: many objects on this machine, a Ray cluster or SLURM."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated

import typer

from stspbr.cli.command_for import settings_command
from stspbr.cli.options import InspectCommand, JsonOption, QuietOption, SetOption, print_table, resumable

if TYPE_CHECKING:
    from stspbr.settings import FleetSettings

app = typer.Typer(rich_markup_mode=None)


@settings_command(app, "fleet", base=InspectCommand, without=["set", "needs", "slurm", "objects"])
def fleet(
    sources: Annotated[
        list[str], typer.Argument(metavar="OBJECTS.toml|DIR...", help="a file of objects, or folders of them")
    ],
    settings: FleetSettings,
    changes: SetOption = None,
    only: Annotated[
        list[str] | None, typer.Option(metavar="GLOB", help="objects whose name matches; repeatable")
    ] = None,
    list_them: Annotated[
        bool, typer.Option("--list", help="print the objects and how far they are; run nothing")
    ] = False,
    verify: Annotated[bool, typer.Option(help="compare every file of finished versions with its hash")] = False,
    quiet: QuietOption = False,
    json_lines: JsonOption = False,
) -> None:
    """Run a recipe on many objects, with their stages as tasks. Finished ones are not run again.

    OBJECTS.toml has a table [[objects]] for each. Of a folder, each subfolder of photographs or of a data set is one,
    or each mesh. After an interruption, the same command continues. Exit code 1: an object failed.
    """
    from stspbr.fleet.run import prepare, run

    given = settings.model_copy(update={"set": list(changes or [])})
    prepared = prepare(sources, given, only or [], verify=verify)
    objects = prepared.fleet.objects
    if list_them:
        if json_lines:
            for one in objects:
                found = {"object": one.job.name, "recipe": one.job.recipe_name, "done": one.at}
                typer.echo(json.dumps({**found, "tasks": len(one.job.tasks), "next": one.stage}))
            return
        rows = [
            [
                one.job.name,
                one.job.recipe_name,
                f"{one.at}/{len(one.job.tasks)}",
                "" if one.state == "done" else one.stage,
            ]
            for one in objects
        ]
        print_table(["object", "recipe", "done", "next"], rows)
        return
    verbose = not quiet and not json_lines
    with resumable(again=True):
        files = run(prepared, quiet=quiet, json_lines=json_lines, say=typer.echo if verbose else lambda line: None)
    failed = [one for one in objects if one.state == "failed"]
    if json_lines:
        typer.echo(json.dumps({"files": files, "counts": prepared.fleet.counts()}))
    elif verbose:
        for one in failed:
            typer.echo(f"failed: {one.job.name}: {one.line}")
        typer.echo(", ".join(f"{count} {state}" for state, count in prepared.fleet.counts().items() if count))
        for file in files:
            typer.echo(f"wrote {file}")
    if failed:
        raise typer.Exit(1)
