"""The settings of each way to make a capture."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from stspbr.settings.parsing import Settings


class PreparationSettings(Settings):
    """What is done to frames that were read (:mod:`stspbr.datasets.preparation.prepare`)."""

    image_scale: float = Field(1.0, ge=1, description="divides the images' sides, averaged over areas; any number")
    max_side: int | None = Field(None, ge=8, description="longest side of the frames; larger ones are reduced")
    crop: bool = Field(False, description="cut every frame to the object, all to one size")
    crop_margin: float = Field(0.1, ge=0, description="around the mask, as a fraction of its longer side")
    exposure: Literal["given", "estimate", "ignore"] = Field(
        "given",
        description="divide out each frame's exposure and white balance where the data give them, or exposures "
        "estimated from how bright the frames show the same surface",
    )
    light_frame: Literal["world", "camera", "object"] = Field("world", description="where the light is fixed")


class CaptureMeshSettings(Settings):
    """Render a textured mesh from cameras on a sphere."""

    kind: Literal["mesh"] = "mesh"
    asset: str
    textures: str | None = None
    light: str
    renderer: Literal["raster", "mitsuba"] = "raster"
    views: int = Field(100, ge=1)
    test_views: int = Field(20, ge=0)
    resolution: int = Field(256, ge=8)
    fov: float = Field(40.0, gt=1, lt=160)
    elevation: tuple[float, float] = (-60.0, 80.0)
    supersample: int = Field(1, ge=1, le=8, description="raster only; 1 renders as the training does")
    samples: int = Field(256, ge=1, description="paths a pixel (mitsuba)")
    max_depth: int = Field(5, ge=2, description="longest path (mitsuba)")
    roughness: float | None = Field(None, ge=0, le=1, description="replaces the asset's roughness")
    metallic: float | None = Field(None, ge=0, le=1, description="replaces the asset's metallic")
    occlusion: bool = Field(False, description="raster only: the asset's occlusion map darkens, as in a glTF viewer")
    store_light: bool = True


class CaptureFolderSettings(PreparationSettings):
    """Read a data set's folder."""

    kind: Literal["nerf", "nerfstudio", "llff", "colmap", "orb"]
    folder: str
    masks: str | None = Field(None, description="folder of masks, in the data set's or anywhere")
    up: Literal["auto", "+y", "-y", "+z", "-z"] = Field("auto", description="the data set's up axis")
    hold_out_every: int = Field(8, ge=0, description="where the data set has no splits; 0 holds none out")
    known_light: bool = Field(False, description="orb: take the benchmark's own light")


class CaptureUsdSettings(PreparationSettings):
    """Read a USD scene with the images that were rendered from it."""

    kind: Literal["usd"] = "usd"
    file: str
    camera: str = Field(description="path of the camera prim")
    object: str | None = Field(None, description="path of the object's prim; none: the object stands still")
    frames: str = Field(description="A:B or A:B:STEP, both ends included")
    images: str = Field(description="with $F4, #### or %04d for the frame; relative to the USD file")
    masks: str | None = None
    hold_out_every: int = Field(8, ge=0, description="every so many frames one is held out; 0: none")
    fit: Literal["auto", "horizontal", "vertical", "both"] = Field(
        "auto", description="the aperture that counts where its aspect is not the image's"
    )
    light: Literal["auto", "dome", "none"] = "auto"


class CapturePhotosSettings(PreparationSettings):
    """Poses and masks from a folder of photographs."""

    kind: Literal["photos"] = "photos"
    folder: str
    masks: str | None = Field(None, description="folder of masks: files of the photos' stems, white is the object")
    mask: Literal["grabcut"] | None = Field(None, description="masks from a box, carried through the sparse points")
    box: tuple[float, float, float, float] | None = Field(None, description="x, y, width, height in upright pixels")
    box_image: str | None = Field(None, description="the photo that the box is in; default the first by name")
    camera_model: str = Field("SIMPLE_RADIAL", description="one of COLMAP's")
    shared_camera: bool = Field(True, description="one lens for all photos of one size, maker and zoom")
    feature_size: int = Field(1600, ge=100, description="longer side at which features are sought")
    features: Literal["photo", "object"] = Field(
        "photo", description="object: inside the masks only, for a turntable before a background that stands still"
    )
    pairs: Literal["auto", "exhaustive", "nearest"] = Field("auto", description="auto: exhaustive up to 150 photos")
    hold_out_every: int = Field(8, ge=0, description="every so manieth frame is held out; 0: none")


CaptureSettings = CaptureMeshSettings | CaptureFolderSettings | CaptureUsdSettings | CapturePhotosSettings
