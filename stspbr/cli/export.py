"""`stspbr export …`: every way out."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from stspbr.cli.command_for import settings_command
from stspbr.cli.options import FromOption, InspectCommand, JsonOption, QuietOption

if TYPE_CHECKING:
    from stspbr.settings import ExportDatasetSettings, ExportSettings

app = typer.Typer(help="What others can read.", no_args_is_help=True, rich_markup_mode=None)


@settings_command(app, "export dataset", base=InspectCommand)
def export_dataset(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="the run whose capture it is")],
    settings: ExportDatasetSettings,
    out: Annotated[Path, typer.Option(metavar="path", help="a new folder")],
    from_version: FromOption = None,
    quiet: QuietOption = False,
    json_lines: JsonOption = False,
) -> None:
    """Write a run's capture as a data set for other tools."""
    from stspbr.stages.export_dataset import export_dataset as export

    warnings: list[str] = []
    path = export(
        run,
        settings.to,
        out,
        image_format=settings.image_format,
        version=from_version,
        text=settings.text,
        on_warning=warnings.append,
    )
    if json_lines:
        typer.echo(json.dumps({"dataset": str(path), "kind": settings.to, "warnings": warnings}))
    elif not quiet:
        for warning in warnings:
            sys.stderr.write(f"stspbr: warning: {warning}\n")
        typer.echo(str(path))


@settings_command(app, "export asset", base=InspectCommand)
def export_asset(
    source: Annotated[str, typer.Argument(metavar="RUN|FILE", help="a run with a bake, or any GLB, glTF, OBJ or USD")],
    settings: ExportSettings,
    out: Annotated[Path, typer.Option(metavar="path", help="the file; for blender a folder")],
    from_version: FromOption = None,
    quiet: QuietOption = False,
    json_lines: JsonOption = False,
) -> None:
    """Write an asset, and the light of a run beside it, for other tools."""
    from stspbr.stages.export_asset import export_asset as export

    report = export(source, out, settings, version=from_version)
    if json_lines:
        typer.echo(json.dumps(report.as_json()))
    elif not quiet:
        for note in report.notes:
            sys.stderr.write(f"stspbr: note: {note}\n")
        for line in report.lines():
            typer.echo(line)
