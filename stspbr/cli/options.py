"""What several commands share: their options, and how a stage is run and reported."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer

from stspbr import torchrun
from stspbr.threads import prepare_process

RunArgument = Annotated[Path, typer.Argument(metavar="RUN", help="the run's folder; made where it is absent")]
SetOption = Annotated[
    list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="change a setting, e.g. optimize.iterations=800")
]
FromOption = Annotated[str | None, typer.Option("--from", metavar="V0001", help="the parent's version; default newest")]
SeedOption = Annotated[int, typer.Option(help="seed of everything random")]
DeviceOption = Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N")]
BackendOption = Annotated[
    str,
    typer.Option(
        help="raster operations: auto, cpu or nvdiffrast; then, after a +, encodings: cpu, torch or tinycudann"
    ),
]
ThreadsOption = Annotated[int | None, typer.Option(help="threads; default: every core there is", min=1)]
ResumeOption = Annotated[bool, typer.Option("--resume", help="go on from the last checkpoint")]
RoutingOption = Annotated[
    str | None, typer.Option(help="strict: each loss drives its own group; shared: the prototype's mixed gradients")
]
QuietOption = Annotated[bool, typer.Option("--quiet", help="print errors only")]
JsonOption = Annotated[bool, typer.Option("--json", help="print JSON lines only")]


@contextmanager
def resumable() -> Iterator[None]:
    """Ctrl-C says how to go on; typer alone would only print "Aborted"."""
    try:
        yield
    except KeyboardInterrupt:
        if torchrun.is_first():
            sys.stderr.write(
                "stspbr: interrupted; run the same command with --resume to go on from the last checkpoint\n"
            )
        raise typer.Exit(130) from None


def run_stage(
    stage: str,
    settings_name: str,
    run: Path,
    overrides: list[str] | None,
    base: dict[str, Any],
    **options: Any,
) -> None:
    """Parse the settings, open a session, run the stage and say what stands where."""
    prepare_process()
    from stspbr import settings as declared

    settings = declared.settings_for(getattr(declared, settings_name), overrides or [], base)
    from importlib import import_module

    from stspbr.stages.session import Session

    session = Session.open(run, **options)
    module = import_module(f"stspbr.stages.{stage.replace('-', '_')}")
    with resumable(), session.ranks.together():
        artifact = getattr(module, f"run_{stage.replace('-', '_')}")(session, settings)
    report_artifact(session, artifact)


def report_artifact(session: Any, artifact: Any) -> None:
    """Print the stage and where its artifact is; with ``--json`` as one JSON line."""
    import json

    if session.json_lines:
        facts = {"stage": artifact.stage, "artifact": str(artifact.path), "content_hash": artifact.content_hash}
        typer.echo(json.dumps(facts))
    elif not session.quiet:
        typer.echo(f"{artifact.stage} {artifact.path}")


def routing_settings(routing: str | None) -> dict[str, Any]:
    return {} if routing is None else {"optimize": {"routing": routing}}


def version_of(stage: str, version: str | None) -> dict[str, str]:
    return {} if version is None else {stage: version}
