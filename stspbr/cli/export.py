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


@app.command("asset")
def export_asset(
    source: Annotated[str, typer.Argument(metavar="RUN|FILE", help="a run with a bake, or any GLB, glTF or OBJ")],
    to: Annotated[str, typer.Option("--to", help="glb, gltf, obj, usd, usdz, ply or blender")],
    out: Annotated[Path, typer.Option(help="the file; for blender a folder")],
    texture_bits: Annotated[int, typer.Option(help="of PNG textures: 8 or 16")] = 8,
    texture_format: Annotated[str, typer.Option(help="png; exr for obj and blender")] = "png",
    quantized: Annotated[bool, typer.Option("--quantized", help="glb, gltf: half the size, small errors")] = False,
    lod: Annotated[
        str | None, typer.Option(metavar="N,N,…", help="also write levels of detail with at most N triangles each")
    ] = None,
    from_version: Annotated[
        str | None, typer.Option("--from", metavar="V0001", help="the bake's version; default newest")
    ] = None,
    quiet: QuietOption = False,
    json_lines: JsonOption = False,
) -> None:
    """Write an asset, and the light of a run beside it, for other tools."""
    prepare_process()
    from stspbr.stages.export_asset import ExportSettings, export_asset, parse_budgets

    settings = ExportSettings(to, texture_bits, texture_format, quantized, parse_budgets(lod))
    report = export_asset(source, out, settings, version=from_version)
    if json_lines:
        typer.echo(json.dumps(report.as_json()))
    elif not quiet:
        for note in report.notes:
            sys.stderr.write(f"stspbr: note: {note}\n")
        for line in report.lines():
            typer.echo(line)
