"""`stspbr capture …`: every way in."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from stspbr.cli.command_for import settings_command
from stspbr.cli.options import FromOption, InspectCommand, JsonOption, QuietOption, RunArgument, run_stage
from stspbr.threads import prepare_process

if TYPE_CHECKING:
    from stspbr.settings import (
        CaptureFolderSettings,
        CaptureMeshSettings,
        CapturePhotosSettings,
        CaptureSettings,
        CaptureUsdSettings,
    )

app = typer.Typer(help="Frames, poses, masks and perhaps the light.", no_args_is_help=True, rich_markup_mode=None)

LONG_TABLE = 60  # frames; of more, only those with warnings are printed

_PRINTING = ("overrides", "quiet", "json_lines")


def _capture(run: Path, settings: CaptureSettings, **options: Any) -> None:
    from stspbr.stages.capture import run_capture

    run_stage(run_capture, run, settings, **options)


@settings_command(app, "capture photos", positional=["folder"], common=["seed", "threads", *_PRINTING])
def capture_photos(run: RunArgument, settings: CapturePhotosSettings, **options: Any) -> None:
    """Find poses and masks of photographs of one object (pip install 'stspbr[photos]')."""
    _capture(run, settings, **options)


@settings_command(
    app, "capture mesh", positional=["asset"], common=["seed", "device", "backend", "threads", *_PRINTING]
)
def capture_mesh(run: RunArgument, settings: CaptureMeshSettings, **options: Any) -> None:
    """Render a textured mesh under an environment from cameras on a sphere."""
    _capture(run, settings, **options)


@settings_command(app, "capture usd", positional=["file"], aliases={"hold_out_every": "--held-out"}, common=_PRINTING)
def capture_usd(run: RunArgument, settings: CaptureUsdSettings, **options: Any) -> None:
    """Read a USD scene (animated cameras, turntables, dome lights) with the images rendered from it."""
    _capture(run, settings, **options)


def _folder(run: RunArgument, settings: CaptureFolderSettings, **options: Any) -> None:
    _capture(run, settings, **options)


for kind, without, text in (
    ("nerf", ["known_light", "hold_out_every"], "Read a NeRF-synthetic folder (transforms_*.json, RGBA images)."),
    ("nerfstudio", ["known_light"], "Read a nerfstudio-style transforms.json with images and masks."),
    ("llff", ["known_light"], "Read an LLFF folder (poses_bounds.npy, images/, and masks/ or alpha)."),
    ("colmap", ["known_light"], "Read a COLMAP model (sparse/0, text or binary) with images/, and masks/ or alpha."),
    ("orb", ["masks", "hold_out_every"], "Read a scene of Stanford-ORB, e.g. blender_HDR/teapot_scene001."),
):
    settings_command(
        app, f"capture {kind}", help=text, positional=["folder"], without=without, kind=kind, common=_PRINTING
    )(_folder)


@app.command("check", cls=InspectCommand)
def capture_check(
    path: Annotated[Path, typer.Argument(metavar="PATH", help="a run, a capture artifact, or a folder of frames")],
    out: Annotated[
        Path | None, typer.Option(help="folder to write to; default RUN/capture-check, else ./capture-check")
    ] = None,
    from_version: FromOption = None,
    quiet: QuietOption = False,
    json_lines: JsonOption = False,
) -> None:
    """Look at a capture: contact sheet, cameras in 3D, coverage, blur, exposure, masks, and what to mend."""
    prepare_process()
    from stspbr.stages.capture_check import as_json, run_capture_check

    check, folder = run_capture_check(path, out, from_version)
    if json_lines:
        typer.echo(json.dumps({**as_json(check), "out": str(folder)}))
    elif not quiet:
        _print_check(check, folder)


def _print_check(check: Any, folder: Path) -> None:
    from stspbr.stages.capture_check import COLUMNS, facts, frame_rows

    for label, value in facts(check):
        typer.echo(f"{label:26} {value}")
    rows = frame_rows(check)
    shown = rows if len(rows) <= LONG_TABLE else [row for row in rows if row[1][-1]]
    table = [["frame", *COLUMNS], *([name, *cells] for name, cells in shown)]
    widths = [max(len(row[k]) for row in table) for k in range(len(table[0]))]
    typer.echo("")
    for row in table:
        cells = [row[0].ljust(widths[0]), row[1].ljust(widths[1])]
        cells += [cell.rjust(width) for cell, width in zip(row[2:-1], widths[2:-1], strict=True)]
        typer.echo("  ".join([*cells, row[-1]]).rstrip())
    if len(shown) < len(rows):
        typer.echo(f"… and {len(rows) - len(shown)} frames without warnings: see {folder / 'check.html'}")
    typer.echo("")
    for finding in check.findings:
        typer.echo(f"warning: {finding.text} [{finding.code}]")
    typer.echo(f"{len(check.findings) or 'no'} warnings; {folder / 'check.html'}")
