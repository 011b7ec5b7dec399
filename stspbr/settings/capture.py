"""The settings of each way to make a capture."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from stspbr.settings.parsing import Settings, or_else

_KIND = "how the capture is made"
_LIGHT = "what lights the object; flash: a lamp on the camera, beside what stays; distant: what stays alone"
_Side = Annotated[float, Field(gt=0)]
_Box = Annotated[tuple[float, float, _Side, _Side], or_else("give x,y,width,height in pixels, e.g. 400,120,600,520")]


class PreparationSettings(Settings):
    """Preparation of frames after reading (:mod:`stspbr.datasets.preparation.prepare`)."""

    image_scale: float = Field(1.0, ge=1, description="divide the images' sides by this number")
    max_side: int | None = Field(None, ge=8, description="longest side in pixels; larger frames are reduced to it")
    crop: bool = Field(False, description="crop every frame to the object, all to one size")
    crop_margin: float = Field(0.1, ge=0, description="space around the mask, as a fraction of its longer side")
    exposure: Literal["given", "estimate", "ignore"] = Field(
        "given",
        description="given: divide out the exposure and white balance of the data; estimate: divide out exposures "
        "estimated from how bright the same surface is in each frame",
    )
    light_frame: Literal["world", "camera", "object"] = Field(
        "world",
        description="what the light moves with: nothing, the camera (lamp on it, or turntable), or the object",
    )


class FileSettings(PreparationSettings):
    """How the files of images and masks are read if there are several ways."""

    layer: str | None = Field(None, description="part, layer or view of EXR images; none: the beauty")
    mask_label: str | None = Field(
        None, coerce_numbers_to_str=True, description="the object in masks of labels: 1; or 1,2; or #00ff00; or all"
    )
    invert_masks: bool = Field(False, description="masks are white where the object is not")


class CaptureMeshSettings(Settings):
    """Render a textured mesh from cameras on a sphere."""

    kind: Literal["mesh"] = Field("mesh", description=_KIND)
    asset: str = Field(description="GLB, glTF, OBJ or USD; or procedural:demo, procedural:letters, …")
    textures: str | None = Field(None, description="folder of maps for an OBJ, recognised by their names")
    light: str = Field(description="HDR or EXR; or procedural:demo, procedural:studio, …")
    light_layout: Literal["latlong", "cross", "strip", "angular", "mirror-ball"] = Field(
        "latlong", description="how the light's file shows the sphere: cube faces as a cross or strip, light probes"
    )
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
    store_light: bool = Field(True, description="keep the light in the capture; if not, the light is learned")


class CaptureFolderSettings(FileSettings):
    """Read the folder of a data set."""

    kind: Literal["nerf", "nerfstudio", "llff", "colmap", "orb"] = Field(description=_KIND)
    folder: str = Field(description="the data set's folder")
    masks: str | None = Field(None, description="folder of masks, NAME.png or STEM.png, black outside the object")
    up: Literal["auto", "+y", "-y", "+z", "-z"] = Field(
        "auto", description="the data set's up axis; auto: that of the format, or the mean of the cameras'"
    )
    hold_out_every: int = Field(8, ge=0, description="hold out every Nth image if there are no splits; 0: none")
    known_light: bool = Field(False, description="orb: take the light from ground_truth/ instead of learning it")
    light: Literal["distant", "flash"] = Field("distant", description=_LIGHT)


class CaptureUsdSettings(FileSettings):
    """Read a USD scene and the images rendered from it."""

    kind: Literal["usd"] = Field("usd", description=_KIND)
    file: str = Field(description="the scene: .usd, .usda, .usdc or .usdz")
    camera: str = Field(description="path of the camera's prim, e.g. /World/Camera")
    object: str | None = Field(None, description="path of the object's prim if it moves; none: it does not move")
    frames: str = Field(description="frame numbers as FIRST:LAST or FIRST:LAST:STEP, both ends included")
    images: str = Field(description="images with $F4, #### or %04d as frame number, relative to the USD file")
    masks: str | None = Field(None, description="masks for images without alpha, named like the images")
    hold_out_every: int = Field(8, ge=0, description="hold out every Nth frame; 0: hold out none")
    fit: Literal["auto", "horizontal", "vertical", "both"] = Field(
        "auto", description="which aperture counts if the aspect ratios of apertures and images differ"
    )
    light: Literal["auto", "dome", "none"] = Field("auto", description="dome: dome lights only; none: learn the light")


class CapturePhotosSettings(FileSettings):
    """Find poses and masks of a folder of photographs."""

    kind: Literal["photos"] = Field("photos", description=_KIND)
    folder: str = Field(description="folder of photos: JPEG, PNG, TIFF, HEIC, AVIF or raw")
    masks: str | None = Field(None, description="folder of masks with the photos' names, white inside the object")
    mask: Literal["auto", "grabcut", "rembg"] = Field(
        "auto",
        description="auto: from files or alpha, else of what the cameras look at, agreed upon by all photos; grabcut: "
        "from one box; rembg: by a segmentation network of yours",
    )
    mask_model: str | None = Field(None, description="the network of mask=rembg: an ONNX file, e.g. u2net.onnx")
    box: _Box | None = Field(None, description="x, y, width, height of a box around the object, in upright pixels")
    box_image: str | None = Field(None, description="the photo of the box; none: the first by name")
    camera_model: str = Field("SIMPLE_RADIAL", description="one of COLMAP's camera models: SIMPLE_RADIAL, OPENCV, …")
    shared_camera: bool = Field(True, description="one lens for all photos of the same size, maker and zoom")
    feature_size: int = Field(1600, ge=100, description="longer side in pixels of photos for feature detection")
    features: Literal["auto", "photo", "object"] = Field(
        "auto",
        description="where features are detected; photo: everywhere; object: inside the masks only, for a turntable; "
        "auto: everywhere, but off a background that stands still while the object turns",
    )
    pairs: Literal["auto", "exhaustive", "nearest"] = Field(
        "auto", description="pairs of photos that are matched; auto: exhaustive up to 150 photos"
    )
    hold_out_every: int = Field(8, ge=0, description="hold out every Nth photo; 0: hold out none")
    light: Literal["distant", "flash"] = Field("distant", description=_LIGHT)


class CaptureDuplicatesSettings(PreparationSettings):
    """Find the poses of equal objects in one photograph."""

    kind: Literal["duplicates"] = Field("duplicates", description=_KIND)
    photo: str = Field(description="the photograph; or procedural:label-can, … : a pile of these, path-traced")
    instances: str | None = Field(
        None,
        description="labels of the copies: image, folder of masks or COCO's JSON; none: of a procedural pile",
    )
    focal: float | None = Field(None, gt=0, description="focal length in pixels; none: of Exif, or estimated")
    fov: float | None = Field(None, gt=1, lt=170, description="field of view of the longer side in degrees, instead")
    keep: list[int] = Field([], description="labels of the copies that take part; none: all")
    matcher: Literal["sift", "affine"] = Field(
        "affine", description="affine: pairs that SIFT joins weakly are tried again with tilted views"
    )
    resting: Literal["any", "plane"] = Field("any", description="plane: all copies stand on it with the same side down")
    symmetry: Literal["auto", "none", "axial"] = Field(
        "auto", description="of the object: tested; none, axial (every turn about one axis shows the same): known"
    )
    rescue: bool = Field(True, description="seek copies that features give no pose by drawing the object")
    copies: int = Field(8, ge=3, le=60, description="procedural pile: their number")
    poses: Literal["upright", "turned", "tumbled"] = Field(
        "turned",
        description="procedural pile: how they lie; turned: upright, by 20 to 40 degrees from one to the next; "
        "upright: turned anyhow",
    )
    side: int = Field(1536, ge=64, description="procedural pile: side of the photo in pixels")
    samples: int = Field(32, ge=1, description="procedural pile: paths per pixel")
    light: str | None = Field(
        None,
        description="HDR or EXR that lit the photo, or procedural:NAME: its middle lies where the camera looks; "
        "none: learned. Of a procedural pile: what lights it; none: procedural:studio",
    )
    light_turn: float = Field(0.0, description="degrees by which the known light is turned about up, to the left")


CaptureSettings = (
    CaptureMeshSettings | CaptureFolderSettings | CaptureUsdSettings | CapturePhotosSettings | CaptureDuplicatesSettings
)
