"""The command line: parse, call a stage, print what it wrote. No work is done here."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from stspbr import torchrun
from stspbr.cli import capture, export, fleet, inspect, prior, run, scenes, stages, view
from stspbr.errors import StspbrError, one_line
from stspbr.version import __version__

app = typer.Typer(
    help="From photographs of one object to a mesh with physically based textures and the environment light.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"max_content_width": 120},
)
app.add_typer(capture.app, name="capture")
app.add_typer(export.app, name="export")
app.add_typer(prior.app, name="prior")
app.add_typer(scenes.app, name="scenes")
app.add_typer(stages.app)
app.add_typer(run.app, name="run")
app.add_typer(fleet.app)
app.add_typer(inspect.app)
app.add_typer(view.app)


def main() -> None:
    """Entry point: an error is one line on stderr and exit code 2; Ctrl-C is exit code 130.

    If there are several processes, the first prints the error.
    """
    try:
        app()
    except (StspbrError, MemoryError, OSError) as error:
        if torchrun.is_first() or isinstance(error, torchrun.JoinError):
            sys.stderr.write(f"stspbr: {one_line(error)}\n")
        torchrun.leave(2)
    except SystemExit as end:
        torchrun.leave(end.code)


@app.callback(invoke_without_command=True)
def _root(version: Annotated[bool, typer.Option("--version", help="print the version and stop")] = False) -> None:
    if version:
        typer.echo(__version__)
        raise typer.Exit
