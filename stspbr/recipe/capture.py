"""The settings of each way to make a capture."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from stspbr.recipe.parsing import Settings


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


class CaptureFolderSettings(Settings):
    """Read a folder of frames: NeRF-synthetic or nerfstudio."""

    kind: Literal["nerf", "nerfstudio"]
    folder: str
    image_scale: int = Field(1, ge=1)


class CapturePhotosSettings(Settings):
    """Poses and masks from a folder of photographs."""

    kind: Literal["photos"] = "photos"
    folder: str
    masks: str | None = Field(None, description="folder of masks: files of the photos' stems, white is the object")
    mask: Literal["grabcut"] | None = Field(None, description="masks from a box, carried through the sparse points")
    box: tuple[float, float, float, float] | None = Field(None, description="x, y, width, height in upright pixels")
    box_image: str | None = Field(None, description="the photo that the box is in; default the first by name")
    image_scale: int = Field(1, ge=1, description="divides the sides of the frames, not of what poses come from")
    camera_model: str = Field("SIMPLE_RADIAL", description="one of COLMAP's")
    shared_camera: bool = Field(True, description="one lens for all photos of one size, maker and zoom")
    feature_size: int = Field(1600, ge=100, description="longer side at which features are sought")
    features: Literal["photo", "object"] = Field(
        "photo", description="object: inside the masks only, for a turntable before a background that stands still"
    )
    pairs: Literal["auto", "exhaustive", "nearest"] = Field("auto", description="auto: exhaustive up to 150 photos")
    hold_out_every: int = Field(8, ge=0, description="every so manieth frame is held out; 0: none")


CaptureSettings = CaptureMeshSettings | CaptureFolderSettings | CapturePhotosSettings
