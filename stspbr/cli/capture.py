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
MasksOption = Annotated[str | None, typer.Option(help="folder of masks: NAME.png or STEM.png, black: not the object")]
UpOption = Annotated[str, typer.Option(help="the data set's up axis: auto, +y, -y, +z or -z")]
HoldOutOption = Annotated[int, typer.Option(help="hold out every Nth image where no splits are given; 0: none", min=0)]


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


def _capture_folder(kind: str, run: Path, folder: Path, quiet: bool, json_lines: bool, **settings: Any) -> None:
    base = {"kind": kind, "folder": str(folder), **settings}
    run_stage("capture", "CaptureFolderSettings", run, None, base, quiet=quiet, json_lines=json_lines)


@app.command("nerf")
def capture_nerf(
    run: RunArgument,
    folder: FolderArgument,
    masks: MasksOption = None,
    up: UpOption = "auto",
    image_scale: ScaleOption = 1,
    quiet: QuietOption = False,
    json_lines: JsonOption = False,
) -> None:
    """Read a NeRF-synthetic folder (transforms_train.json, transforms_test.json, RGBA images)."""
    _capture_folder("nerf", run, folder, quiet, json_lines, masks=masks, up=up, image_scale=image_scale)


@app.command("nerfstudio")
def capture_nerfstudio(
    run: RunArgument,
    folder: FolderArgument,
    masks: MasksOption = None,
    up: UpOption = "auto",
    hold_out_every: HoldOutOption = 8,
    image_scale: ScaleOption = 1,
    quiet: QuietOption = False,
    json_lines: JsonOption = False,
) -> None:
    """Read a nerfstudio-style transforms.json with images and masks; lenses are undistorted."""
    _capture_folder("nerfstudio", run, folder, quiet, json_lines, masks=masks, up=up, hold_out_every=hold_out_every,
                    image_scale=image_scale)  # fmt: skip


@app.command("llff")
def capture_llff(
    run: RunArgument,
    folder: FolderArgument,
    masks: MasksOption = None,
    up: UpOption = "auto",
    hold_out_every: HoldOutOption = 8,
    image_scale: ScaleOption = 1,
    quiet: QuietOption = False,
    json_lines: JsonOption = False,
) -> None:
    """Read an LLFF folder (poses_bounds.npy, images/, and masks/ or alpha)."""
    _capture_folder("llff", run, folder, quiet, json_lines, masks=masks, up=up, hold_out_every=hold_out_every,
                    image_scale=image_scale)  # fmt: skip


@app.command("colmap")
def capture_colmap(
    run: RunArgument,
    folder: FolderArgument,
    masks: MasksOption = None,
    up: UpOption = "auto",
    hold_out_every: HoldOutOption = 8,
    image_scale: ScaleOption = 1,
    quiet: QuietOption = False,
    json_lines: JsonOption = False,
) -> None:
    """Read a COLMAP model (sparse/0, text or binary) with images/, and masks/ or alpha; lenses are undistorted."""
    _capture_folder("colmap", run, folder, quiet, json_lines, masks=masks, up=up, hold_out_every=hold_out_every,
                    image_scale=image_scale)  # fmt: skip


@app.command("orb")
def capture_orb(
    run: RunArgument,
    folder: FolderArgument,
    known_light: Annotated[bool, typer.Option(help="take the light from ground_truth/; else it is learned")] = False,
    up: UpOption = "auto",
    image_scale: ScaleOption = 1,
    quiet: QuietOption = False,
    json_lines: JsonOption = False,
) -> None:
    """Read a scene of Stanford-ORB, e.g. blender_HDR/teapot_scene001."""
    _capture_folder("orb", run, folder, quiet, json_lines, known_light=known_light, up=up,
                    image_scale=image_scale)  # fmt: skip


@app.command("usd")
def capture_usd(
    run: RunArgument,
    file: Annotated[Path, typer.Argument(help="the scene: .usd, .usda, .usdc or .usdz")],
    camera: Annotated[str, typer.Option(metavar="PATH", help="the camera's prim, e.g. /World/Camera")],
    frames: Annotated[str, typer.Option(metavar="A:B[:STEP]", help="frame numbers, both ends included")],
    images: Annotated[str, typer.Option(help="'render.$F4.exr' (also #### and %04d), relative to the USD file")],
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
    image_scale: ScaleOption = 1,
    quiet: QuietOption = False,
    json_lines: JsonOption = False,
) -> None:
    """Read a USD scene (animated cameras, turntables, dome lights) with the images rendered from it."""
    base = {"file": str(file), "camera": camera, "object": object_path, "frames": frames, "images": images,
            "masks": masks, "hold_out_every": hold_out_every, "fit": fit, "light": light,
            "image_scale": image_scale}  # fmt: skip
    run_stage("capture", "CaptureUsdSettings", run, None, base, quiet=quiet, json_lines=json_lines)
