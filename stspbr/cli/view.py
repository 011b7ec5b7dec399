"""The command that shows a run: a live page, or a film."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from stspbr.cli.options import DeviceOption, InspectCommand, JsonOption, QuietOption, ThreadsOption
from stspbr.threads import prepare_process

app = typer.Typer(rich_markup_mode=None)


@app.command(cls=InspectCommand)
def view(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="the run's folder")],
    host: Annotated[
        str, typer.Option(help="address to listen on; beyond this machine (0.0.0.0) the page asks for a token")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="port of the page; if it is taken, the next", min=1, max=65535)] = 8080,
    lights: Annotated[
        list[str] | None, typer.Option(help="HDR or EXR files, folders or patterns to choose a light from")
    ] = None,
    size: Annotated[
        int | None, typer.Option(help="pixels along a picture's longer side; default 1280, films 512", min=64, max=4096)
    ] = None,
    turntable: Annotated[
        Path | None, typer.Option(metavar="FILE", help="write a film (.mp4, .webp, .gif) and open no page")
    ] = None,
    frames: Annotated[int, typer.Option(help="of a film: pictures per turn", min=1, max=10_000)] = 120,
    fps: Annotated[float, typer.Option(help="of a film: pictures per second", min=0.1, max=120)] = 30.0,
    show: Annotated[str, typer.Option(help="of a film: version, such as bake/v0001")] = "newest",
    channel: Annotated[
        str, typer.Option(help="of a film: shaded, albedo, roughness, metallic, normal, occlusion")
    ] = "shaded",
    light: Annotated[str, typer.Option(help="of a film: one of --lights by its file's name")] = "its own",
    device: DeviceOption = "auto",
    threads: ThreadsOption = None,
    quiet: QuietOption = False,
    json_lines: JsonOption = False,
) -> None:
    """Show a run on a live page, while it goes on or afterwards, or write a film of it. The run is never written to."""
    prepare_process()
    from stspbr.stages.session import Session
    from stspbr.stages.view import Turntable, run_turntable, run_view

    session = Session.open(run, device=device, threads=threads, quiet=quiet, json_lines=json_lines)
    if turntable is not None:
        how = Turntable(frames, size or Turntable.size, fps, show, channel, light)
        count = run_turntable(session, turntable, how, lights or [])
        if json_lines:
            typer.echo(json.dumps({"film": str(turntable), "frames": count}))
        elif not quiet:
            typer.echo(f"{turntable} ({count} frames)")
        return

    def announce(url: str) -> None:
        typer.echo(json.dumps({"url": url}) if json_lines else url)

    run_view(session, host, port, lights or [], size, announce)
