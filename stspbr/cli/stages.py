"""The stages after the capture, and whole recipes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from stspbr import torchrun
from stspbr.cli.command_for import settings_command
from stspbr.cli.inspect import print_errors
from stspbr.cli.options import (
    COMMON,
    BackendOption,
    DeviceOption,
    FromOption,
    JsonOption,
    QuietOption,
    ResumeOption,
    RunArgument,
    SetOption,
    ThreadsOption,
    report_artifact,
    resumable,
    run_stage,
)
from stspbr.errors import StspbrError
from stspbr.threads import prepare_process

if TYPE_CHECKING:
    from stspbr.settings import (
        BakeSettings,
        CoarseSettings,
        EvaluateSettings,
        RefineSettings,
        RelightSettings,
        SpecializeSettings,
        UnpackSettings,
    )

app = typer.Typer(rich_markup_mode=None)

_ROUTING = ["optimize.routing"]


@settings_command(app, "coarse", nested=_ROUTING, common=[*COMMON])
def coarse(run: RunArgument, settings: CoarseSettings, **options: Any) -> None:
    """Learn geometry and colour; network B is held back."""
    from stspbr.stages.coarse import run_coarse

    run_stage(run_coarse, run, settings, "capture", **options)


@settings_command(app, "specialize", nested=_ROUTING, common=[*COMMON])
def specialize(run: RunArgument, settings: SpecializeSettings, **options: Any) -> None:
    """Learn roughness and metallic with network B."""
    from stspbr.stages.specialize import run_specialize

    run_stage(run_specialize, run, settings, "coarse", **options)


@settings_command(app, "bake", nested=_ROUTING, common=[*COMMON])
def bake(run: RunArgument, settings: BakeSettings, **options: Any) -> None:
    """Unwrap, bake and refine maps; write GLB, OBJ and light."""
    from stspbr.stages.bake import run_bake

    run_stage(run_bake, run, settings, "specialize", **options)


@settings_command(app, "refine", nested=_ROUTING, common=[*COMMON])
def refine(run: RunArgument, settings: RefineSettings, **options: Any) -> None:
    """Refine the baked maps by path tracing (extra reference)."""
    from stspbr.stages.refine import run_refine

    run_stage(run_refine, run, settings, "bake", **options)


@settings_command(app, "unpack-orm")
def unpack_orm(
    source: Annotated[Path, typer.Argument(metavar="RUN|FILE", help="a run, or any GLB, glTF or ORM image")],
    settings: UnpackSettings,
    out: Annotated[Path | None, typer.Option(metavar="path", help="folder for a FILE's maps; default: its own")] = None,
    from_version: FromOption = None,
    quiet: QuietOption = False,
    json_lines: JsonOption = False,
) -> None:
    """Write occlusion.png, roughness.png and metallic.png."""
    if source.is_dir():
        from stspbr.stages.unpack_orm import run_unpack_orm

        run_stage(run_unpack_orm, source, settings, "bake", from_version, quiet=quiet, json_lines=json_lines)
    elif torchrun.is_first():
        from stspbr.formats.orm import unpack

        for path in unpack(source, out or source.parent, settings.bits):
            if json_lines or not quiet:
                typer.echo(json.dumps({"file": str(path)}) if json_lines else str(path))


_NO_RESUME = [name for name in COMMON if name != "resume"]


@settings_command(
    app, "evaluate", without=["reference_capture"], common=_NO_RESUME, context_settings={"allow_extra_args": True}
)
def evaluate(context: typer.Context, run: RunArgument, settings: EvaluateSettings, **options: Any) -> None:
    """Compare the bake with the original asset. Measures maps and shape in 3D, held-out views, other lights."""
    from stspbr.stages.evaluate import run_evaluate

    captured = settings.reference_capture or settings.reference is None
    found = {"lights": _unquoted(context, settings.lights), "reference_capture": captured}
    run_stage(run_evaluate, run, settings.model_copy(update=found), "bake", **options)
    if not options["quiet"] and not options["json_lines"] and torchrun.is_first():
        print_errors(run)


@settings_command(app, "relight", common=_NO_RESUME, context_settings={"allow_extra_args": True})
def relight(context: typer.Context, run: RunArgument, settings: RelightSettings, **options: Any) -> None:
    """Render the bake under other lights."""
    from stspbr.stages.relight import run_relight

    found = {"lights": _unquoted(context, settings.lights)}
    run_stage(run_relight, run, settings.model_copy(update=found), "bake", **options)


def _unquoted(context: typer.Context, lights: list[str]) -> list[str]:
    """``lights``, and those of a pattern that the shell has already replaced by files."""
    extra = [word for word in context.args if not word.lower().endswith((".hdr", ".exr"))]
    if extra or (context.args and not lights):
        word = (extra or context.args)[0]
        raise StspbrError(f"{word}: unexpected argument; give lights (HDR or EXR) after --lights")
    return [*lights, *context.args]


@app.command("run")
def run_all(
    recipe_path: Annotated[Path, typer.Argument(metavar="RECIPE", help="a name from `stspbr recipes`, or a TOML file")],
    out: Annotated[Path | None, typer.Option(help="the run's folder; default runs/<name>")] = None,
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
        from stspbr.stages.scenes_run import run_scene_recipe

        with resumable(), session.ranks.together():
            found = run_scene_recipe(session, recipe, announce)
        for artifact in found:
            report_artifact(session, artifact)
        return
    with resumable(), session.ranks.together():
        done = run_recipe(session, recipe, announce)
    for artifact in done.values():
        report_artifact(session, artifact)
    if verbose and "evaluate" in done:
        print_errors(out)
