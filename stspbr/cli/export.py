"""`stspbr export …`: every way out."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated

import typer

from stspbr.cli.options import JsonOption, QuietOption
from stspbr.threads import prepare_process

app = typer.Typer(help="What others can read.", no_args_is_help=True)


@app.command("dataset")
def export_dataset(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="the run whose capture it is")],
    to: Annotated[str, typer.Option("--to", help="llff, nerf, nerfstudio or colmap")],
    out: Annotated[Path, typer.Option(help="a new folder")],
    image_format: Annotated[str, typer.Option(help="png, png16 (sRGB), exr or exr32 (linear HDR)")] = "png",
    text: Annotated[bool, typer.Option("--text", help="colmap: text files in place of binary ones")] = False,
    from_version: Annotated[
        str | None, typer.Option("--from", metavar="V0001", help="the capture's version; default newest")
    ] = None,
    quiet: QuietOption = False,
    json_lines: JsonOption = False,
) -> None:
    """Write a run's capture as a data set for other tools."""
    prepare_process()
    from stspbr.stages.export_dataset import export_dataset as export

    warnings: list[str] = []
    path = export(run, to, out, image_format=image_format, version=from_version, text=text, on_warning=warnings.append)
    if json_lines:
        typer.echo(json.dumps({"dataset": str(path), "kind": to, "warnings": warnings}))
    elif not quiet:
        for warning in warnings:
            sys.stderr.write(f"stspbr: warning: {warning}\n")
        typer.echo(str(path))
