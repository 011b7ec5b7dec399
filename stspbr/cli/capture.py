"""`stspbr capture …`: every way to make a capture, and its check."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from stspbr.cli.command_for import settings_command
from stspbr.cli.options import FromOption, InspectCommand, JsonOption, QuietOption, RunArgument, run_stage
from stspbr.threads import prepare_process

if TYPE_CHECKING:
    from stspbr.settings import CaptureSettings

app = typer.Typer(help="Make a capture: frames, poses, masks, perhaps the light.", no_args_is_help=True,
                  rich_markup_mode=None)  # fmt: skip

LONG_TABLE = 60  # frames; if there are more, only those with warnings are printed

_PRINTING = ("overrides", "quiet", "json_lines")
_USUAL: dict[str, Any] = {"positional": ["folder"], "without": ["known_light"], "common": _PRINTING}
_PHOTOS = "Find poses and masks of photographs of one object.\n\nNeeds pip install 'stspbr[photos]'."
_DUPLICATES = (
    "Find the poses of several equal objects in one photograph.\n\nNeeds pip install 'stspbr[photos]' and labels of "
    "the copies."
)
_WAYS: tuple[tuple[str, str, dict[str, Any]], ...] = (
    ("photos", _PHOTOS, {"common": ["seed", "threads", *_PRINTING]}),
    ("duplicates", _DUPLICATES, {"positional": ["photo"], "common": ["seed", "threads", *_PRINTING]}),
    ("mesh", "Render a textured mesh under a light from cameras on a sphere.",
     {"positional": ["asset"], "common": ["seed", "device", "backend", "threads", *_PRINTING]}),
    ("usd", "Read a USD scene (cameras, turntables, domes) and its images.",
     {"positional": ["file"], "aliases": {"hold_out_every": "--held-out"}}),
    ("nerf", "Read a NeRF-synthetic folder (transforms_*.json, RGBA images).",
     {"without": ["known_light", "hold_out_every"]}),
    ("nerfstudio", "Read a nerfstudio-style transforms.json with images and masks.", {}),
    ("llff", "Read LLFF data: poses_bounds.npy, images/, masks/ or alpha.", {}),
    ("colmap", "Read a COLMAP model (sparse/0) with images/, masks/ or alpha.", {}),
    ("orb", "Read a Stanford-ORB scene (blender_HDR/teapot_scene001, …).", {"without": ["masks", "hold_out_every"]}),
)  # fmt: skip


def _capture(run: RunArgument, settings: CaptureSettings, **options: Any) -> None:
    from stspbr.stages.capture import run_capture

    run_stage(run_capture, run, settings, **options)


for _kind, _help, _choices in _WAYS:
    settings_command(app, f"capture {_kind}", help=_help, kind=_kind, **{**_USUAL, **_choices})(_capture)


@app.command("check", cls=InspectCommand)
def capture_check(
    path: Annotated[Path, typer.Argument(metavar="PATH", help="a run, a capture artifact, or a folder of frames")],
    out: Annotated[
        Path | None, typer.Option(help="folder to write to; default RUN/capture-check, else ./capture-check")
    ] = None,
    after: Annotated[
        Path | None, typer.Option(metavar="RUN", help="also say from where to take five more photographs for this run")
    ] = None,
    drop: Annotated[
        str | None,
        typer.Option(
            metavar="blurred|NAME,NAME", help="of a run: write a new version of its capture without these frames"
        ),
    ] = None,
    from_version: FromOption = None,
    quiet: QuietOption = False,
    json_lines: JsonOption = False,
) -> None:
    """Check a capture and suggest fixes. Writes a contact sheet, cameras in 3D, coverage, blur, exposure, masks."""
    prepare_process()
    from stspbr.stages.capture_check import as_json, run_capture_check

    check, folder = run_capture_check(path, out, from_version, after)
    dropped = None if drop is None else _dropped(path, from_version, check, drop)
    if json_lines:
        extra = {} if dropped is None else {"dropped": str(dropped)}
        typer.echo(json.dumps({**as_json(check), "out": str(folder), **extra}))
    elif not quiet:
        _print_check(check, folder)
        if dropped is not None:
            typer.echo(f"capture {dropped}")


def _dropped(path: Path, version: str | None, check: Any, wanted: str) -> Path:
    from stspbr.errors import StspbrError
    from stspbr.stages.capture_drop import drop_frames, dropped_frames

    if not (path / "capture").is_dir():
        raise StspbrError(f"--drop writes a new version of a run's capture, but {path} is not a run: give its folder")
    return drop_frames(path, version, dropped_frames(check, wanted)).path


def _print_check(check: Any, folder: Path) -> None:
    from stspbr.stages.capture_check import COLUMNS, facts, frame_rows, photo_lines

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
    for line in check.notes:
        typer.echo(f"note: {line}")
    for finding in check.findings:
        typer.echo(f"warning: {finding.text} [{finding.code}]")
    if check.photos:
        typer.echo("photographs to take next, in the object's space (azimuth 0 is +Z, 90 is +X):")
        for line in photo_lines(check.photos):
            typer.echo(f"  {line}")
    typer.echo(f"{len(check.findings) or 'no'} warnings; {folder / 'check.html'}")
