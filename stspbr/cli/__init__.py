"""The command line: parse, call a stage, show what it wrote. No work is done here."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from stspbr import __version__
from stspbr.cli import capture, export, look, stages
from stspbr.errors import StspbrError

app = typer.Typer(
    help="From photographs of one object to a mesh with physically based textures and the environment light.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.add_typer(capture.app, name="capture")
app.add_typer(stages.app)
app.add_typer(export.app, name="export")
app.add_typer(look.app)


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


@app.callback(invoke_without_command=True)
def _root(
    version: Annotated[bool, typer.Option("--version", help="print the version and stop")] = False,
) -> None:
    if version:
        typer.echo(__version__)
        raise typer.Exit
