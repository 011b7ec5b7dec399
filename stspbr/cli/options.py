"""Options that several commands share, and how a stage is run and reported."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperCommand

from stspbr import torchrun

if TYPE_CHECKING:
    from stspbr.artifacts import Artifact
    from stspbr.settings import SettingsType
    from stspbr.stages.session import Session

RunArgument = Annotated[Path, typer.Argument(metavar="RUN", help="the run's folder; created if missing")]
SetOption = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="change any setting; `stspbr settings` lists them"),
]
FromOption = Annotated[
    str | None, typer.Option("--from", metavar="V0001", help="version of the input; default: the newest")
]
SeedOption = Annotated[int, typer.Option(metavar="integer", help="seed of everything random")]
DeviceOption = Annotated[str, typer.Option(metavar="auto|cpu|cuda|cuda:N", help="where tensors are computed")]
BackendOption = Annotated[
    str,
    typer.Option(
        metavar="text",
        help="raster operations: auto, cpu, warp, nvdiffrast; after a +, encodings: auto, cpu, warp, torch, tinycudann",
    ),
]
ThreadsOption = Annotated[int | None, typer.Option(metavar="integer", help="threads; default: every core", min=1)]
ResumeOption = Annotated[bool, typer.Option("--resume", help="continue from the last checkpoint")]
QuietOption = Annotated[bool, typer.Option("--quiet", help="print errors only")]
JsonOption = Annotated[bool, typer.Option("--json", help="print JSON lines only")]

COMMON: Mapping[str, tuple[Any, Any]] = {
    "overrides": (SetOption, None),
    "from_version": (FromOption, None),
    "seed": (SeedOption, 0),
    "device": (DeviceOption, "auto"),
    "backend": (BackendOption, "auto"),
    "threads": (ThreadsOption, None),
    "resume": (ResumeOption, False),
    "quiet": (QuietOption, False),
    "json_lines": (JsonOption, False),
}
"""The options of a stage, with their defaults."""


def print_table(heading: Sequence[str], rows: Iterable[Sequence[str]], title: str | None = None) -> None:
    """Print plain cells as a table; the first column is never wrapped, and files and pipes get wide lines."""
    from rich import box
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    table = Table(*heading, title=title, title_justify="left", box=box.SIMPLE_HEAD)
    table.columns[0].no_wrap = True
    for row in rows:
        table.add_row(*map(escape, row))
    Console(width=None if sys.stdout.isatty() or "COLUMNS" in os.environ else 160).print(table)


class InspectCommand(TyperCommand):
    """A command that opens no session: if there are several processes, only the first runs it, and waits for none."""

    def make_context(self, *arguments: Any, **extra: Any) -> Any:
        if not torchrun.is_first():
            raise typer.Exit
        return super().make_context(*arguments, **extra)


@contextmanager
def resumable(again: bool = False) -> Iterator[None]:
    """On Ctrl-C, print how to resume; Typer alone prints only "Aborted".

    Args:
        again: the command continues without ``--resume``.
    """
    try:
        yield
    except KeyboardInterrupt:
        if torchrun.is_first():
            with_option = "" if again else " with --resume"
            sys.stderr.write(f"stspbr: interrupted; run the same command{with_option} to continue\n")
        raise typer.Exit(130) from None


def run_stage(
    stage: Callable[[Session, SettingsType], Artifact],
    run: Path,
    settings: SettingsType,
    parent: str = "",
    from_version: str | None = None,
    **options: Any,
) -> None:
    """Open a session on ``run``, run the stage, and print its artifact.

    Args:
        parent: the stage that this one builds on; from_version: its version, None for the newest.
        options: of ``Session.open``.
    """
    from stspbr.stages.session import Session

    session = Session.open(run, versions={} if from_version is None else {parent: from_version}, **options)
    with resumable(), session.ranks.together():
        artifact = stage(session, settings)
    report_artifact(session, artifact)


def report_artifact(session: Session, artifact: Artifact) -> None:
    """Print the stage and the path of its artifact; with ``--json`` as one JSON line."""
    if session.json_lines:
        facts = {"stage": artifact.stage, "artifact": str(artifact.path), "content_hash": artifact.content_hash}
        typer.echo(json.dumps(facts))
    elif not session.quiet:
        typer.echo(f"{artifact.stage} {artifact.path}")
