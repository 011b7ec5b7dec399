"""The settings of each way to make a capture."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from stspbr.settings.parsing import Settings, or_else

_KIND = "how the capture is made"
_Side = Annotated[float, Field(gt=0)]
_Box = Annotated[tuple[float, float, _Side, _Side], or_else("give x,y,width,height in pixels, e.g. 400,120,600,520")]


class PreparationSettings(Settings):
    """What is done to frames that were read (:mod:`stspbr.datasets.preparation.prepare`)."""

    image_scale: float = Field(1.0, ge=1, description="divide the images' sides by this number, whole or not")
    max_side: int | None = Field(None, ge=8, description="longest side in pixels; larger frames are reduced to it")
    crop: bool = Field(False, description="cut every frame to the object, all to one size")
    crop_margin: float = Field(0.1, ge=0, description="space around the mask, as a fraction of its longer side")
    exposure: Literal["given", "estimate", "ignore"] = Field(
        "given",
        description="given: divide out each frame's exposure and white balance if the data have them; estimate: divide "
        "out exposures estimated from how bright the frames show the same surface",
    )
    light_frame: Literal["world", "camera", "object"] = Field(
        "world",
        description="what the light moves with: nothing, the camera (a lamp on it, or a turntable), or the object",
    )


class CaptureMeshSettings(Settings):
    """Render a textured mesh from cameras on a sphere."""

    kind: Literal["mesh"] = Field("mesh", description=_KIND)
    asset: str = Field(description="GLB, glTF, OBJ or USD; or procedural:demo, procedural:letters, …")
    textures: str | None = Field(None, description="folder of maps for an OBJ, recognised by their names")
    light: str = Field(description="lat-long HDR or EXR; or procedural:demo, procedural:studio, …")
    renderer: Literal["raster", "mitsuba"] = Field("raster", description="raster: as in training; mitsuba: path tracer")
    views: int = Field(100, ge=1, description="training views")
    test_views: int = Field(20, ge=0, description="held-out views")
    resolution: int = Field(256, ge=8, description="side of the images in pixels")
    fov: float = Field(40.0, gt=1, lt=160, description="field of view in degrees")
    elevation: tuple[float, float] = Field(
        (-60.0, 80.0), description="lowest and highest elevation of the cameras in degrees, within -90 to 90"
    )
    supersample: int = Field(1, ge=1, le=8, description="raster: samples along each side of a pixel; training: 1")
    samples: int = Field(256, ge=1, description="mitsuba: paths per pixel")
    max_depth: int = Field(5, ge=2, description="mitsuba: longest path, in segments")
    roughness: float | None = Field(None, ge=0, le=1, description="replaces the asset's roughness")
    metallic: float | None = Field(None, ge=0, le=1, description="replaces the asset's metallic")
    occlusion: bool = Field(False, description="raster: the asset's occlusion map darkens, as in a glTF viewer")
    store_light: bool = Field(True, description="keep the light in the capture; without it the light is learned")


class CaptureFolderSettings(PreparationSettings):
    """Read a data set's folder."""

    kind: Literal["nerf", "nerfstudio", "llff", "colmap", "orb"] = Field(description=_KIND)
    folder: str = Field(description="the data set's folder")
    masks: str | None = Field(None, description="folder of masks, NAME.png or STEM.png, black outside the object")
    up: Literal["auto", "+y", "-y", "+z", "-z"] = Field(
        "auto", description="the data set's up axis; auto: the format's, or the mean of the cameras' up directions"
    )
    hold_out_every: int = Field(8, ge=0, description="hold out every Nth image if there are no splits; 0: none")
    known_light: bool = Field(False, description="orb: take the light from ground_truth/ instead of learning it")


class CaptureUsdSettings(PreparationSettings):
    """Read a USD scene with the images that were rendered from it."""

    kind: Literal["usd"] = Field("usd", description=_KIND)
    file: str = Field(description="the scene: .usd, .usda, .usdc or .usdz")
    camera: str = Field(description="path of the camera's prim, e.g. /World/Camera")
    object: str | None = Field(None, description="path of the object's prim if it moves; none: it does not move")
    frames: str = Field(description="frame numbers as FIRST:LAST or FIRST:LAST:STEP, both ends included")
    images: str = Field(
        description="image files with $F4, #### or %04d for the frame number, relative to the USD file, "
        "e.g. 'render.$F4.exr'"
    )
    masks: str | None = Field(None, description="mask files, likewise, for images without alpha")
    hold_out_every: int = Field(8, ge=0, description="hold out every Nth frame; 0: hold out none")
    fit: Literal["auto", "horizontal", "vertical", "both"] = Field(
        "auto", description="which aperture counts if the aspect ratios of apertures and images differ"
    )
    light: Literal["auto", "dome", "none"] = Field(
        "auto", description="dome: use dome lights only and leave other lights out; none: learn the light"
    )


class CapturePhotosSettings(PreparationSettings):
    """Poses and masks from a folder of photographs."""

    kind: Literal["photos"] = Field("photos", description=_KIND)
    folder: str = Field(description="folder of photos: JPEG, PNG or TIFF")
    masks: str | None = Field(None, description="folder of masks with the photos' names, white inside the object")
    mask: Literal["grabcut"] | None = Field(None, description="grabcut: masks from the box, carried to all photos")
    box: _Box | None = Field(None, description="x, y, width, height of a box around the object, in upright pixels")
    box_image: str | None = Field(None, description="the photo that the box is in; none: the first by name")
    camera_model: str = Field("SIMPLE_RADIAL", description="one of COLMAP's camera models: SIMPLE_RADIAL, OPENCV, …")
    shared_camera: bool = Field(True, description="one lens for all photos of the same size, maker and zoom")
    feature_size: int = Field(1600, ge=100, description="longer side in pixels of photos for feature detection")
    features: Literal["photo", "object"] = Field(
        "photo", description="where features are detected; object: inside the masks only, for a turntable"
    )
    pairs: Literal["auto", "exhaustive", "nearest"] = Field(
        "auto", description="which photos are matched with each other; auto: exhaustive up to 150 photos"
    )
    hold_out_every: int = Field(8, ge=0, description="hold out every Nth photo; 0: hold out none")


CaptureSettings = CaptureMeshSettings | CaptureFolderSettings | CaptureUsdSettings | CapturePhotosSettings
