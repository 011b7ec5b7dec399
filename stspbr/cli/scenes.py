"""The commands of compositional neural scenes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from stspbr.cli.options import (
    DeviceOption,
    FromOption,
    InspectCommand,
    JsonOption,
    QuietOption,
    ResumeOption,
    RunArgument,
    SeedOption,
    ThreadsOption,
    run_stage,
)
from stspbr.errors import StspbrError
from stspbr.threads import prepare_process

if TYPE_CHECKING:
    from stspbr.settings import SceneConfig

app = typer.Typer(
    rich_markup_mode=None,
    no_args_is_help=True,
    help="Learn to shade scenes from few views, with light, geometry and material apart.",
)

ConfigOption = Annotated[
    str, typer.Option("--config", metavar="NAME|FILE.json", help="a shipped configuration, or a file of one")
]


def _config(name: str, quiet: bool) -> SceneConfig:
    from stspbr import torchrun
    from stspbr.settings import load_scene_config

    config, notes = load_scene_config(name)
    if not quiet and torchrun.is_first():
        for note in notes:
            typer.echo(f"stspbr: {note}", err=True)
    return config


@app.command()
def generate(
    run: RunArgument,
    config: ConfigOption = "room_mini",
    batches: Annotated[int, typer.Option(help="training batches, each of which varies one factor", min=1)] = 240,
    test: Annotated[int, typer.Option(help="test batches, in which everything varies", min=0)] = 40,
    size: Annotated[int | None, typer.Option(help="pixels a side; default: the model's largest", min=8)] = None,
    scene_files: Annotated[str, typer.Option(help="batches whose scenes are kept as JSON: test, all or none")] = "test",
    seed: SeedOption = 0,
    threads: ThreadsOption = None,
    quiet: QuietOption = False,
    json_lines: JsonOption = False,
) -> None:
    """Make scenes and path-trace them (extra reference). An interrupted run goes on where it was."""
    prepare_process()
    from stspbr.settings import SceneGenerateSettings, parse_settings
    from stspbr.stages.scenes_generate import run_scenes_generate

    values = {"config": _config(config, quiet or json_lines), "batches": batches, "test": test, "size": size}
    settings = parse_settings(SceneGenerateSettings, values | {"scene_files": scene_files}, "scenes generate")
    run_stage(run_scenes_generate, run, settings, seed=seed, threads=threads, quiet=quiet, json_lines=json_lines)


@app.command()
def train(
    run: RunArgument,
    config: ConfigOption = "room_mini",
    iterations: Annotated[int | None, typer.Option(help="steps; default: the configuration's", min=1)] = None,
    data: Annotated[
        str, typer.Option(help="run: the run's scenes; config: the folders that the configuration names")
    ] = "run",
    batches: Annotated[int, typer.Option(help="stored batches per step, shared by torchrun's processes", min=1)] = 1,
    from_version: FromOption = None,
    seed: SeedOption = 0,
    device: DeviceOption = "auto",
    threads: ThreadsOption = None,
    resume: ResumeOption = False,
    quiet: QuietOption = False,
    json_lines: JsonOption = False,
) -> None:
    """Train encoders and generators on the scenes."""
    prepare_process()
    from stspbr.settings import train_settings
    from stspbr.stages.scenes_train import run_scenes_train

    if data not in ("run", "config"):
        raise StspbrError(f"--data {data}: choose run or config")
    settings = train_settings(_config(config, quiet or json_lines), iterations, data, batches)  # type: ignore[arg-type]
    run_stage(
        run_scenes_train, run, settings, "scenes", from_version, seed=seed, device=device, threads=threads,
        resume=resume, quiet=quiet, json_lines=json_lines,
    )  # fmt: skip


def _session(
    run: Path, from_version: str | None, device: str, threads: int | None, quiet: bool, json_lines: bool
) -> Any:
    from stspbr.stages.session import Session

    versions = {} if from_version is None else {"scenes-model": from_version}
    return Session.open(run, device=device, threads=threads, quiet=quiet, json_lines=json_lines, versions=versions)


def _report(found: dict[str, Any], lines: list[str], quiet: bool, json_lines: bool) -> None:
    if json_lines:
        typer.echo(json.dumps(found))
    elif not quiet:
        for line in lines:
            typer.echo(line)


@app.command(cls=InspectCommand)
def render(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="the run's folder")],
    light: Annotated[int, typer.Option(help="number of the test scene whose light is taken", min=0)] = 0,
    geometry: Annotated[int, typer.Option(help="number of the test scene whose shapes are taken", min=0)] = 1,
    material: Annotated[int, typer.Option(help="number of the test scene whose materials are taken", min=0)] = 2,
    rows: Annotated[int, typer.Option(help="compositions, each of the next three scenes", min=1)] = 1,
    animate: Annotated[int, typer.Option(help="frames of a film on the camera's way from view to view", min=0)] = 0,
    spp: Annotated[int, typer.Option(help="paths per pixel of the truth", min=1)] = 256,
    out: Annotated[Path | None, typer.Option(help="folder of the pictures; default RUN/composition")] = None,
    from_version: FromOption = None,
    device: DeviceOption = "auto",
    threads: ThreadsOption = None,
    quiet: QuietOption = False,
    json_lines: JsonOption = False,
) -> None:
    """Compose scenes: light of one, shapes of another, materials of a third, beside the path-traced truth."""
    prepare_process()
    from stspbr.stages.scenes_render import compose

    session = _session(run, from_version, device, threads, quiet, json_lines)
    found = compose(session, (light, geometry, material), rows, spp, animate, out)
    _report(found.as_json(), found.lines(), quiet, json_lines)


@app.command(cls=InspectCommand)
def attribute(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="the run's folder")],
    scene: Annotated[
        str, typer.Option(help="number of a test scene, a scene's JSON folder or file, or settings.json")
    ] = "0",
    pixel: Annotated[str | None, typer.Option(metavar="X,Y", help="a pixel of the picture")] = None,
    patch: Annotated[int, typer.Option(help="pixels a side around it", min=1)] = 1,
    mean: Annotated[bool, typer.Option("--mean", help="of all pixels")] = False,
    latent: Annotated[int | None, typer.Option(metavar="K", help="of a channel of the vector", min=0)] = None,
    partition: Annotated[str | None, typer.Option(help="of a partition: light, geometry or material")] = None,
    signed: Annotated[bool, typer.Option("--signed", help="with signs, not magnitudes")] = False,
    integrated: Annotated[int, typer.Option(metavar="STEPS", help="integrated gradients in so many steps", min=0)] = 0,
    out: Annotated[Path | None, typer.Option(help="folder of the result; default in RUN/attribution")] = None,
    from_version: FromOption = None,
    device: DeviceOption = "auto",
    threads: ThreadsOption = None,
    quiet: QuietOption = False,
    json_lines: JsonOption = False,
) -> None:
    """Say which pixels of the observations, and which partitions, a picture comes from."""
    prepare_process()
    from stspbr.stages.scenes_attribute import Question, attribute_scene

    session = _session(run, from_version, device, threads, quiet, json_lines)
    question = Question(scene, pixel, patch, mean, latent, partition, signed, integrated)
    found = attribute_scene(session, question, out)
    _report(found.as_json(), found.lines(), quiet, json_lines)


@app.command(cls=InspectCommand)
def evaluate(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="the run's folder")],
    scenes: Annotated[int, typer.Option(help="test scenes for swaps and attribution", min=2)] = 24,
    spp: Annotated[int, typer.Option(help="paths per pixel of composed scenes", min=1)] = 64,
    from_version: FromOption = None,
    device: DeviceOption = "auto",
    threads: ThreadsOption = None,
    quiet: QuietOption = False,
    json_lines: JsonOption = False,
) -> None:
    """Measure a model: held-out pictures, swaps, what each partition knows, and whether attributions make sense."""
    prepare_process()
    from stspbr.stages.scenes_evaluate import evaluate_scenes

    session = _session(run, from_version, device, threads, quiet, json_lines)
    found = evaluate_scenes(session, scenes, spp)
    _report(found.as_json(), found.lines(), quiet, json_lines)


@app.command(cls=InspectCommand)
def view(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="the run's folder")],
    host: Annotated[
        str, typer.Option(help="address to listen on; beyond this machine (0.0.0.0) the page asks for a token")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="port of the page; if it is taken, the next", min=1, max=65535)] = 8080,
    from_version: FromOption = None,
    device: DeviceOption = "auto",
    threads: ThreadsOption = None,
    quiet: QuietOption = False,
    json_lines: JsonOption = False,
) -> None:
    """Show a model on a live page: prediction beside the path-traced truth, compositions, attributions."""
    prepare_process()
    from stspbr.stages.scenes_view import run_scenes_view

    session = _session(run, from_version, device, threads, quiet, json_lines)

    def announce(url: str) -> None:
        typer.echo(json.dumps({"url": url}) if json_lines else url)

    run_scenes_view(session, host, port, announce)
