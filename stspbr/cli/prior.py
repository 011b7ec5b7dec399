"""`stspbr prior …`: the priors of `stspbr texture`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from stspbr.cli.command_for import settings_command
from stspbr.cli.options import COMMON, DeviceOption, InspectCommand, QuietOption, SeedOption, ThreadsOption, run_stage
from stspbr.threads import prepare_process

if TYPE_CHECKING:
    from stspbr.settings import PriorTrainSettings

app = typer.Typer(help="Make and look at the priors of `stspbr texture`.", no_args_is_help=True, rich_markup_mode=None)


@settings_command(app, "prior train", common=[name for name in COMMON if name != "from_version"])
def prior_train(
    run: Annotated[Path, typer.Argument(metavar="OUT", help="a run's folder; the result is OUT/prior/v0001")],
    settings: PriorTrainSettings,
    **options: Any,
) -> None:
    """Train a small prior on pictures that stspbr renders itself."""
    from stspbr.stages.prior import run_prior_train

    run_stage(run_prior_train, run, settings, **options)


@app.command("sample", cls=InspectCommand)
def prior_sample(
    prior: Annotated[str, typer.Argument(metavar="PRIOR", help="a prior's file; small: the one that is shipped")],
    prompt: Annotated[str, typer.Option(help="the material in words")],
    light: Annotated[str, typer.Option(help="HDR or EXR file, or procedural:NAME")] = "procedural:demo",
    mesh: Annotated[str, typer.Option(help="a mesh, or procedural:NAME")] = "procedural:demo",
    out: Annotated[Path, typer.Option(metavar="path", help="the picture")] = Path("samples.png"),
    count: Annotated[int, typer.Option(help="pictures, of different views", min=1, max=64)] = 8,
    seed: SeedOption = 0,
    device: DeviceOption = "auto",
    threads: ThreadsOption = None,
    quiet: QuietOption = False,
) -> None:
    """Make pictures of a prompt out of noise, above white paint and white metal under the same light."""
    prepare_process()
    from stspbr.priors.small import SmallPrior
    from stspbr.stages.capture_mesh import load_light
    from stspbr.stages.prior import load_mesh_asset, run_prior_sample
    from stspbr.stages.session import Session

    session = Session.open(out.parent, seed=seed, device=device, threads=threads, quiet=quiet)
    loaded = SmallPrior.load(None if prior == "small" else prior).to(session.device)
    path = run_prior_sample(session, loaded, prompt, load_light(light), load_mesh_asset(mesh), out, count)
    if not quiet:
        typer.echo(str(path))


@app.command("check", cls=InspectCommand)
def prior_check(
    prior: Annotated[str, typer.Argument(metavar="PRIOR", help="a prior's file; small: the one that is shipped")],
    light: Annotated[str, typer.Option(help="HDR or EXR file, or procedural:NAME")] = "procedural:demo",
    mesh: Annotated[str, typer.Option(help="a mesh, or procedural:NAME")] = "procedural:demo",
    views: Annotated[int, typer.Option(help="pictures of each material", min=1, max=16)] = 2,
    seed: SeedOption = 0,
    device: DeviceOption = "auto",
    threads: ThreadsOption = None,
) -> None:
    """Make pictures of every material in every finish out of noise, and tell which of them look as they should."""
    prepare_process()
    import tempfile

    from stspbr.priors.small import SmallPrior
    from stspbr.stages.capture_mesh import load_light
    from stspbr.stages.prior import check_prior, load_mesh_asset
    from stspbr.stages.session import Session

    with tempfile.TemporaryDirectory() as folder:
        session = Session.open(Path(folder), seed=seed, device=device, threads=threads, quiet=True)
        loaded = SmallPrior.load(None if prior == "small" else prior).to(session.device)
        readings = check_prior(session, loaded, load_light(light), load_mesh_asset(mesh), views)
    for caption in dict.fromkeys(reading.caption for reading in readings):
        own = [reading for reading in readings if reading.caption == caption]
        wrong = [
            f"albedo {' '.join(f'{value:.2f}' for value in one.albedo)} roughness {one.roughness:.2f} "
            f"metallic {one.metallic:g}"
            for one in own
            if not one.as_meant
        ]
        typer.echo(f"{caption.text():28} {len(own) - len(wrong)} of {len(own)}" + "".join(f"; {w}" for w in wrong))
    shares = [
        f"{100.0 * sum(getattr(one, name) for one in readings) / len(readings):.0f} % {name.replace('_', ' ')}"
        for name in ("as_meant", "kind", "finish", "colour")
    ]
    typer.echo(f"{len(readings)} pictures: {', '.join(shares)}")


@app.command("words", cls=InspectCommand)
def prior_words(
    vocabulary: Annotated[Path | None, typer.Argument(metavar="[FILE]", help="TOML; default: the shipped one")] = None,
) -> None:
    """List the words of a vocabulary and what they mean."""
    from stspbr.priors.vocabulary import Vocabulary

    words = Vocabulary.read(vocabulary)
    for finish, (low, high) in words.finishes.items():
        typer.echo(f"{finish:16} roughness {low:.2f} to {high:.2f}")
    for pattern, kind in words.patterns.items():
        meanings = {"none": "one material", "second": "shows a second material", "roughness": "uneven roughness"}
        typer.echo(f"{pattern:16} {meanings[kind]}")
    for base in words.bases:
        low_albedo, high_albedo = (" ".join(f"{value:.2f}" for value in row) for row in base.albedo)
        typer.echo(f"{base.name:16} albedo {low_albedo} to {high_albedo}, metallic {base.metallic:g}")
    for word, meaning in words.synonyms.items():
        typer.echo(f"{word:16} {meaning}")
