"""`stspbr capture …`: every way in."""

from __future__ import annotations

import functools
import inspect
import json
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, get_type_hints

import typer

from stspbr.cli.options import (
    BackendOption,
    DeviceOption,
    FromOption,
    JsonOption,
    QuietOption,
    RunArgument,
    SeedOption,
    SetOption,
    ThreadsOption,
    run_stage,
)
from stspbr.errors import StspbrError
from stspbr.threads import prepare_process

app = typer.Typer(help="Frames, poses, masks and perhaps the light.", no_args_is_help=True)

LONG_TABLE = 60  # frames; of more, only those with warnings are printed

ImageScaleOption = Annotated[float, typer.Option(help="divide the image sides by this; any number", min=1)]
MaxSideOption = Annotated[int | None, typer.Option(help="reduce images until no side is longer", min=8)]
CropOption = Annotated[bool, typer.Option("--crop", help="cut every frame to the object, all to one size")]
CropMarginOption = Annotated[float, typer.Option(help="around the mask, as a fraction of its longer side", min=0)]
ExposureOption = Annotated[
    str, typer.Option(help="given: divide out each frame's exposure and white balance where known; estimate; ignore")
]
LightFrameOption = Annotated[
    str, typer.Option(help="where the light is fixed: world, camera (lamp on it, or turntable) or object")
]
FolderArgument = Annotated[Path, typer.Argument(help="the data set's folder")]
MasksOption = Annotated[str | None, typer.Option(help="folder of masks: NAME.png or STEM.png, black: not the object")]
UpOption = Annotated[str, typer.Option(help="the data set's up axis: auto, +y, -y, +z or -z")]
HoldOutOption = Annotated[int, typer.Option(help="hold out every Nth image where no splits are given; 0: none", min=0)]


def _preparation(
    image_scale: ImageScaleOption = 1.0,
    max_side: MaxSideOption = None,
    crop: CropOption = False,
    crop_margin: CropMarginOption = 0.1,
    exposure: ExposureOption = "given",
    light_frame: LightFrameOption = "world",
) -> dict[str, Any]:
    """The options of every command that reads frames; the settings of the same names say what they do."""
    return dict(locals())


def with_preparation(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command those options: it declares ``preparation: dict[str, Any]`` and gets the settings in it."""
    own, shared = inspect.signature(command), inspect.signature(_preparation)
    hints = {**get_type_hints(command, include_extras=True), **get_type_hints(_preparation, include_extras=True)}

    @functools.wraps(command)
    def wrapped(**values: Any) -> None:
        chosen = {name: values.pop(name) for name in shared.parameters}
        command(**values, preparation=_preparation(**chosen))

    parameters: list[inspect.Parameter] = []
    for name, parameter in own.parameters.items():
        parameters += shared.parameters.values() if name == "preparation" else [parameter]
    parameters = [parameter.replace(annotation=hints[parameter.name]) for parameter in parameters]
    wrapped.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]  # what typer reads
    wrapped.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return wrapped


@app.command("photos")
@with_preparation
def capture_photos(
    run: RunArgument,
    folder: Annotated[Path, typer.Argument(help="the folder of photos: JPEG, PNG, TIFF, WebP, AVIF")],
    preparation: dict[str, Any],
    masks: Annotated[Path | None, typer.Option(help="folder of masks: the photos' stems, white is the object")] = None,
    mask: Annotated[str | None, typer.Option(help="grabcut: masks from --box, carried to all photos")] = None,
    box: Annotated[str | None, typer.Option(metavar="X,Y,W,H", help="about the object, in pixels")] = None,
    box_image: Annotated[str | None, typer.Option(help="the photo of --box; default the first by name")] = None,
    camera_model: Annotated[str, typer.Option(help="one of COLMAP's: SIMPLE_RADIAL, OPENCV, …")] = "SIMPLE_RADIAL",
    settings: SetOption = None,
    seed: SeedOption = 0,
    threads: ThreadsOption = None,
    quiet: QuietOption = False,
    json_lines: JsonOption = False,
) -> None:
    """Find poses and masks of photographs of one object (pip install 'stspbr[photos]')."""
    base = {"folder": str(folder), "masks": None if masks is None else str(masks), "mask": mask, "box": _box(box),
            "box_image": box_image, "camera_model": camera_model, **preparation}  # fmt: skip
    run_stage("capture", "CapturePhotosSettings", run, settings, base, seed=seed, threads=threads, quiet=quiet,
              json_lines=json_lines)  # fmt: skip


def _box(text: str | None) -> list[float] | None:
    if text is None:
        return None
    try:
        numbers = [float(part) for part in text.split(",")]
    except ValueError:
        numbers = []
    if len(numbers) != 4 or min(numbers[2:]) <= 0:
        raise StspbrError(f"--box {text}: give x,y,width,height in pixels, e.g. --box 400,120,600,520")
    return numbers


@app.command("mesh")
def capture_mesh(
    run: RunArgument,
    asset: Annotated[str, typer.Argument(help="GLB, glTF or OBJ; or procedural:demo, :letters, …")],
    light: Annotated[str, typer.Option(help="lat-long HDR or EXR; or procedural:demo, :studio, …")],
    textures: Annotated[str | None, typer.Option(help="folder of maps for an OBJ, picked by name")] = None,
    renderer: Annotated[str, typer.Option(help="raster (same shading) or mitsuba (path-traced)")] = "raster",
    views: Annotated[int, typer.Option(help="training views", min=1)] = 100,
    test_views: Annotated[int, typer.Option(help="held-out views", min=0)] = 20,
    resolution: Annotated[int, typer.Option(help="image side in pixels", min=8)] = 256,
    settings: SetOption = None,
    seed: SeedOption = 0,
    device: DeviceOption = "auto",
    backend: BackendOption = "auto",
    threads: ThreadsOption = None,
    quiet: QuietOption = False,
    json_lines: JsonOption = False,
) -> None:
    """Render a textured mesh under an environment from cameras on a sphere."""
    base = {"asset": asset, "light": light, "renderer": renderer, "views": views, "test_views": test_views,
            "resolution": resolution, "textures": textures}  # fmt: skip
    run_stage("capture", "CaptureMeshSettings", run, settings, base, seed=seed, device=device, backend=backend,
               threads=threads, quiet=quiet, json_lines=json_lines)  # fmt: skip


def _capture_folder(
    kind: str, run: Path, folder: Path, preparation: dict[str, Any], quiet: bool, json_lines: bool, **settings: Any
) -> None:
    base = {"kind": kind, "folder": str(folder), **preparation, **settings}
    run_stage("capture", "CaptureFolderSettings", run, None, base, quiet=quiet, json_lines=json_lines)


@app.command("nerf")
@with_preparation
def capture_nerf(
    run: RunArgument,
    folder: FolderArgument,
    preparation: dict[str, Any],
    masks: MasksOption = None,
    up: UpOption = "auto",
    quiet: QuietOption = False,
    json_lines: JsonOption = False,
) -> None:
    """Read a NeRF-synthetic folder (transforms_train.json, transforms_test.json, RGBA images)."""
    _capture_folder("nerf", run, folder, preparation, quiet, json_lines, masks=masks, up=up)


@app.command("nerfstudio")
@with_preparation
def capture_nerfstudio(
    run: RunArgument,
    folder: FolderArgument,
    preparation: dict[str, Any],
    masks: MasksOption = None,
    up: UpOption = "auto",
    hold_out_every: HoldOutOption = 8,
    quiet: QuietOption = False,
    json_lines: JsonOption = False,
) -> None:
    """Read a nerfstudio-style transforms.json with images and masks; lenses are undistorted."""
    _capture_folder("nerfstudio", run, folder, preparation, quiet, json_lines, masks=masks, up=up,
                    hold_out_every=hold_out_every)  # fmt: skip


@app.command("llff")
@with_preparation
def capture_llff(
    run: RunArgument,
    folder: FolderArgument,
    preparation: dict[str, Any],
    masks: MasksOption = None,
    up: UpOption = "auto",
    hold_out_every: HoldOutOption = 8,
    quiet: QuietOption = False,
    json_lines: JsonOption = False,
) -> None:
    """Read an LLFF folder (poses_bounds.npy, images/, and masks/ or alpha)."""
    _capture_folder("llff", run, folder, preparation, quiet, json_lines, masks=masks, up=up,
                    hold_out_every=hold_out_every)  # fmt: skip


@app.command("colmap")
@with_preparation
def capture_colmap(
    run: RunArgument,
    folder: FolderArgument,
    preparation: dict[str, Any],
    masks: MasksOption = None,
    up: UpOption = "auto",
    hold_out_every: HoldOutOption = 8,
    quiet: QuietOption = False,
    json_lines: JsonOption = False,
) -> None:
    """Read a COLMAP model (sparse/0, text or binary) with images/, and masks/ or alpha; lenses are undistorted."""
    _capture_folder("colmap", run, folder, preparation, quiet, json_lines, masks=masks, up=up,
                    hold_out_every=hold_out_every)  # fmt: skip


@app.command("orb")
@with_preparation
def capture_orb(
    run: RunArgument,
    folder: FolderArgument,
    preparation: dict[str, Any],
    known_light: Annotated[bool, typer.Option(help="take the light from ground_truth/; else it is learned")] = False,
    up: UpOption = "auto",
    quiet: QuietOption = False,
    json_lines: JsonOption = False,
) -> None:
    """Read a scene of Stanford-ORB, e.g. blender_HDR/teapot_scene001."""
    _capture_folder("orb", run, folder, preparation, quiet, json_lines, known_light=known_light, up=up)  # fmt: skip


@app.command("usd")
@with_preparation
def capture_usd(
    run: RunArgument,
    file: Annotated[Path, typer.Argument(help="the scene: .usd, .usda, .usdc or .usdz")],
    camera: Annotated[str, typer.Option(metavar="PATH", help="the camera's prim, e.g. /World/Camera")],
    frames: Annotated[str, typer.Option(metavar="A:B[:STEP]", help="frame numbers, both ends included")],
    images: Annotated[str, typer.Option(help="'render.$F4.exr' (also #### and %04d), relative to the USD file")],
    preparation: dict[str, Any],
    object_path: Annotated[
        str | None, typer.Option("--object", metavar="PATH", help="the object's prim, which may move; else it is still")
    ] = None,
    masks: Annotated[str | None, typer.Option(help="'mask.$F4.png', where the images have no alpha")] = None,
    hold_out_every: Annotated[
        int, typer.Option("--hold-out-every", "--held-out", help="hold out every so many frames; 0: none", min=0)
    ] = 8,
    fit: Annotated[
        str, typer.Option(help="where apertures and images disagree: auto, horizontal, vertical or both")
    ] = "auto",
    light: Annotated[str, typer.Option(help="auto, dome (other lights are left out) or none (learned)")] = "auto",
    quiet: QuietOption = False,
    json_lines: JsonOption = False,
) -> None:
    """Read a USD scene (animated cameras, turntables, dome lights) with the images rendered from it."""
    base = {"file": str(file), "camera": camera, "object": object_path, "frames": frames, "images": images,
            "masks": masks, "hold_out_every": hold_out_every, "fit": fit, "light": light, **preparation}  # fmt: skip
    run_stage("capture", "CaptureUsdSettings", run, None, base, quiet=quiet, json_lines=json_lines)


@app.command("check")
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
