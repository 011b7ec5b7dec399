"""`stspbr run RECIPE` and `stspbr run photos DIR`: whole pipelines."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperGroup

from stspbr import torchrun
from stspbr.cli.command_for import settings_command
from stspbr.cli.inspect import print_errors
from stspbr.cli.options import (
    BackendOption,
    DeviceOption,
    JsonOption,
    QuietOption,
    ResumeOption,
    SeedOption,
    SetOption,
    ThreadsOption,
    report_artifact,
    resumable,
)
from stspbr.errors import StspbrError
from stspbr.threads import prepare_process

if TYPE_CHECKING:
    from stspbr.settings import PhotoRunSettings

_DEFAULT = "recipe"


class _RecipeUnlessNamed(TyperGroup):
    """A group whose first word is a recipe, unless it is one of its commands."""

    def parse_args(self, context: Any, arguments: list[str]) -> list[str]:
        own = [*self.list_commands(context), *context.help_option_names]
        if arguments and arguments[0] not in own:
            arguments = [_DEFAULT, *arguments]
        return super().parse_args(context, arguments)


app = typer.Typer(help="Run all stages: of a RECIPE, or from a folder of photographs.",
                  cls=_RecipeUnlessNamed, no_args_is_help=True, rich_markup_mode=None,
                  subcommand_metavar="RECIPE | photos DIR")  # fmt: skip


@app.command(_DEFAULT)
def run_all(
    recipe_path: Annotated[Path, typer.Argument(metavar="RECIPE", help="a name from `stspbr recipes`, or a TOML file")],
    out: Annotated[Path | None, typer.Option(help="the run's folder; default runs/<name>")] = None,
    until: Annotated[str | None, typer.Option(metavar="STAGE", help="the last stage to run; default: all")] = None,
    settings: SetOption = None,
    seed: Annotated[int | None, typer.Option(help="replaces the recipe's seed")] = None,
    device: DeviceOption = "auto",
    backend: BackendOption = "auto",
    threads: ThreadsOption = None,
    resume: ResumeOption = False,
    quiet: QuietOption = False,
    json_lines: JsonOption = False,
) -> None:
    """Run all stages of a recipe, except those up to date. These have a version of equal inputs and settings."""
    prepare_process()
    from stspbr.settings import SceneRecipe, load_any_recipe

    recipe = load_any_recipe(recipe_path, settings or [])
    from stspbr.stages.run import run_recipe
    from stspbr.stages.session import Session

    out = out or Path("runs") / recipe.name
    session = Session.open(out, seed=recipe.seed if seed is None else seed, device=device, backend=backend,
                           threads=threads, resume=resume, quiet=quiet, json_lines=json_lines)  # fmt: skip
    verbose = not session.quiet and not session.json_lines
    announce = typer.echo if verbose else lambda line: None
    if isinstance(recipe, SceneRecipe):
        if until is not None:
            raise StspbrError(f"--until {until}: a recipe of scenes is run as a whole")
        from stspbr.stages.scenes_run import run_scene_recipe

        with resumable(), session.ranks.together():
            found = run_scene_recipe(session, recipe, announce)
        for artifact in found:
            report_artifact(session, artifact)
        return
    with resumable(), session.ranks.together():
        done = run_recipe(session, recipe, announce, until=until)
    for artifact in done.values():
        report_artifact(session, artifact)
    if verbose and "evaluate" in done:
        print_errors(out)


@settings_command(app, "run photos", positional=["folder"])
def run_photographs(
    settings: PhotoRunSettings,
    changes: SetOption = None,
    seed: SeedOption = 0,
    device: DeviceOption = "auto",
    backend: BackendOption = "auto",
    threads: ThreadsOption = None,
    quiet: QuietOption = False,
    json_lines: JsonOption = False,
) -> None:
    """From a folder of photographs to an asset. Finds poses and masks, checks, runs all stages, and exports.

    After an interruption, the same command continues. Needs pip install 'stspbr[photos]'.
    """
    from stspbr.stages.run_photos import asset_file, photo_recipe, run_folder, run_photos
    from stspbr.stages.session import Session

    recipe = photo_recipe(settings, changes or [])
    asset_file(settings)  # before the long work, not after it
    session = Session.open(run_folder(settings), seed=seed, device=device, backend=backend, threads=threads,
                           quiet=quiet, json_lines=json_lines)  # fmt: skip
    verbose = not session.quiet and not session.json_lines
    with resumable(again=True), session.ranks.together():
        result = run_photos(session, settings, recipe, typer.echo if verbose else lambda line: None)
    if not torchrun.is_first():
        return
    if session.json_lines:
        typer.echo(json.dumps(result.as_json()))
    elif verbose:
        for line in result.lines():
            typer.echo(line)
