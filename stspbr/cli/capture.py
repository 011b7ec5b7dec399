"""`stspbr capture …`: every way in."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from stspbr.cli.options import (
    BackendOption,
    DeviceOption,
    JsonOption,
    QuietOption,
    RunArgument,
    SeedOption,
    SetOption,
    ThreadsOption,
    run_stage,
)

app = typer.Typer(help="Frames, poses, masks and perhaps the light.", no_args_is_help=True)

ScaleOption = Annotated[int, typer.Option(help="divide the image sides by this", min=1)]
FolderArgument = Annotated[Path, typer.Argument(help="the data set's folder")]


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


def _capture_folder(kind: str, run: Path, folder: Path, image_scale: int, **options: Any) -> None:
    base = {"kind": kind, "folder": str(folder), "image_scale": image_scale}
    run_stage("capture", "CaptureFolderSettings", run, None, base, **options)


@app.command("nerf")
def capture_nerf(
    run: RunArgument,
    folder: FolderArgument,
    image_scale: ScaleOption = 1,
    quiet: QuietOption = False,
    json_lines: JsonOption = False,
) -> None:
    """Read a NeRF-synthetic folder (transforms_train.json, transforms_test.json, RGBA images)."""
    _capture_folder("nerf", run, folder, image_scale, quiet=quiet, json_lines=json_lines)


@app.command("nerfstudio")
def capture_nerfstudio(
    run: RunArgument,
    folder: FolderArgument,
    image_scale: ScaleOption = 1,
    quiet: QuietOption = False,
    json_lines: JsonOption = False,
) -> None:
    """Read a nerfstudio-style transforms.json with images and masks."""
    _capture_folder("nerfstudio", run, folder, image_scale, quiet=quiet, json_lines=json_lines)


@app.command("photos")
def capture_photos(
    run: RunArgument,
    folder: Annotated[Path, typer.Argument(help="the folder of photos: JPEG, PNG, TIFF")],
    masks: Annotated[Path | None, typer.Option(help="folder of masks: the photos' stems, white is the object")] = None,
    mask: Annotated[str | None, typer.Option(help="grabcut: masks from --box, carried to all photos")] = None,
    box: Annotated[str | None, typer.Option(metavar="X,Y,W,H", help="about the object, in pixels")] = None,
    box_image: Annotated[str | None, typer.Option(help="the photo of --box; default the first by name")] = None,
    image_scale: ScaleOption = 1,
    camera_model: Annotated[str, typer.Option(help="one of COLMAP's: SIMPLE_RADIAL, OPENCV, …")] = "SIMPLE_RADIAL",
    settings: SetOption = None,
    seed: SeedOption = 0,
    threads: ThreadsOption = None,
    quiet: QuietOption = False,
    json_lines: JsonOption = False,
) -> None:
    """Find poses and masks of photographs of one object (pip install 'stspbr[photos]')."""
    base = {"folder": str(folder), "masks": None if masks is None else str(masks), "mask": mask, "box": _box(box),
            "box_image": box_image, "image_scale": image_scale, "camera_model": camera_model}  # fmt: skip
    run_stage("capture", "CapturePhotosSettings", run, settings, base, seed=seed, threads=threads, quiet=quiet,
              json_lines=json_lines)  # fmt: skip


def _box(text: str | None) -> list[float] | None:
    from stspbr.errors import StspbrError

    if text is None:
        return None
    try:
        numbers = [float(part) for part in text.split(",")]
    except ValueError:
        numbers = []
    if len(numbers) != 4 or min(numbers[2:]) <= 0:
        raise StspbrError(f"--box {text}: give x,y,width,height in pixels, e.g. --box 400,120,600,520")
    return numbers
