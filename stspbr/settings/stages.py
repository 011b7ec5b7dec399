"""The settings of each stage after the capture, with their defaults."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from stspbr.settings.camera import CameraSettings
from stspbr.settings.optimization import (
    ConvergenceSettings,
    FieldSettings,
    GeometrySettings,
    LightSettings,
    LossSettings,
    OptimizeSettings,
    TransportSettings,
    rates,
)
from stspbr.settings.parsing import Settings
from stspbr.settings.schedules import PRESETS, Schedule

# once the outline is settled, colours at silhouettes depend more on coverage than on the material
_INTERIOR = {"appearance_region": "interior", "reflectance_region": "interior"}
_SETTLED = LossSettings(appearance={"logl1": 1.0}, reflectance={"logl1": 1.0}, **_INTERIOR)
# a metal mirrors a lamp in few views: a median of errors overlooks them, their square does not
_SPECIALIZING = LossSettings(
    appearance={"logl1": 0.5, "logl2": 1.0}, reflectance={"logl1": 0.5, "logl2": 1.0}, **_INTERIOR
)
_SPECIALIZE_A: Schedule = [(0.0, 0.3, "exponential"), (1.0, 0.05, "exponential")]
_SPECIALIZE_B: Schedule = [
    (0.0, 0.3, "linear"),
    (0.1, 1.0, "linear"),
    (0.4, 1.0, "exponential"),
    (1.0, 0.1, "exponential"),
]
_REFINE: Schedule = [(0.0, 1.0, "exponential"), (1.0, 0.1, "exponential")]
_LAPLACIAN = "weight of the smoothness of the vertices' displacements; it falls to 0 over the stage"
_REFRESH = "steps between two looks at what the object hides from itself"
_FOLDING = "weight of the barrier that keeps faces from turning over"


class CoarseSettings(Settings):
    """Learn geometry and colour; network B is held back."""

    mesh: str | None = Field(None, description="fit materials on this mesh, with its UVs, instead of learning geometry")
    mesh_textures: str | None = Field(None, description="folder of maps for an OBJ mesh, recognised by their names")
    mesh_normal_map: Literal["keep", "ignore"] = Field(
        "keep", description="keep: the mesh's normal maps belong to its shape; ignore: they are learned anew"
    )
    fields: FieldSettings = Field(FieldSettings(), description="the material networks")
    light: LightSettings = Field(LightSettings(), description="the light")
    geometry: GeometrySettings = Field(GeometrySettings(), description="the implicit geometry")
    transport: TransportSettings = Field(TransportSettings(), description="shadows and bounces, in all stages")
    transport_refresh: int = Field(25, ge=1, description=_REFRESH)
    camera: CameraSettings = Field(CameraSettings(), description="what the cameras did, in all stages")
    normals_from: float = Field(
        0.75, ge=0, description="fraction of the stage after which normals are learned; above 1: never"
    )
    # the prior has no term yet: while metal still looks dark, it would turn it into non-metal
    optimize: OptimizeSettings = Field(
        OptimizeSettings(
            iterations=500,
            losses=LossSettings(metal_prior_weight=0.0),
            convergence=ConvergenceSettings(wait_at=[0.8]),  # all that is learned is: normals, too, under transport
            rates=rates(
                PRESETS["coarse.A"],
                PRESETS["coarse.B"],
                PRESETS["coarse.geometry"],
                appearance=0.01,
                reflectance=0.01,
                geometry=0.005,
                light=0.2,
            ),
        ),
        description="steps, losses and learning rates",
    )


class SurveySettings(Settings):
    """The search for metals that gradients do not find."""

    at: list[Annotated[float, Field(ge=0, lt=1)]] = Field(
        [0.0, 0.4], description="fractions of the stage at which the search runs; []: never"
    )
    observations: int = Field(1_000_000, ge=1, description="pixels of the views; a random subset if there are more")
    steps: int = Field(100, ge=1, description="steps that train the networks on the result, without rendering")
    visits: Literal["doubt", "std"] = Field(
        "doubt",
        description="what is asked a second time; doubt: what the first answer leaves open or contradicts; std: also "
        "where the posterior of metallic reaches to the other kind, the least known most often",
    )


class LightSolveSettings(Settings):
    """A learned light solved for by least squares on all views at once."""

    at: list[Annotated[float, Field(ge=0, le=1)]] = Field(
        [0.0, 0.4, 1.0],
        description="fractions of the stage at which a learned light is solved for; 1: after its last step; []: never",
    )
    observations: int = Field(60_000, ge=1, description="pixels of the views; a random subset if there are more")
    palette: float = Field(
        0.6,
        ge=0,
        description="how far apart in log albedo points are taken for one colour, whose albedo is solved for, too; 0: "
        "albedo is taken as it is",
    )
    smoothness: float = Field(
        0.03, ge=0, description="weight of the light's smoothness, in units of the images' mean squared error"
    )
    sweeps: int = Field(3, ge=1, description="quadratic problems per solve, each about the last one's result")
    steps: int = Field(60, ge=1, description="conjugate-gradient steps per sweep")
    teaching: int = Field(100, ge=1, description="steps that train the networks on the albedo, without rendering")


class LightScaleSettings(Settings):
    """The scale that a learned light shares with albedo, from the strength of highlights."""

    at: list[Annotated[float, Field(ge=0, lt=1)]] = Field(
        [0.0, 0.2, 0.4, 0.6], description="fractions of the stage at which a learned light's scale is asked; []: never"
    )
    observations: int = Field(50_000, ge=1, description="pixels of the views; a random subset if there are more")
    answers: int = Field(1, ge=1, le=10, description="most answers in a row, each of at most a factor 1.5")


class SpecializeSettings(Settings):
    """Learn roughness and metallic with network B; A, the light and the shape are only polished."""

    survey: SurveySettings = Field(SurveySettings(), description="the search for metals that gradients do not find")
    light_solve: LightSolveSettings = Field(LightSolveSettings(), description="the learned light, solved for")
    light_scale: LightScaleSettings = Field(
        LightScaleSettings(at=[], answers=4),
        description="a learned light's scale, asked before a survey; needs light.common_scale",
    )

    remesh: Literal["adaptive", "off"] = Field(
        "off",
        description="adaptive: the stage starts from triangles of even shape, small where the surface bends; off: from "
        "the learned ones",
    )
    target_faces: int = Field(20_000, ge=64, description="most triangles of a surface that is remeshed")
    transport_refresh: int = Field(50, ge=1, description=_REFRESH)
    laplacian: float = Field(0.05, ge=0, description=_LAPLACIAN)
    folding: float = Field(0.1, ge=0, description=_FOLDING)
    optimize: OptimizeSettings = Field(
        OptimizeSettings(
            iterations=500,
            losses=_SPECIALIZING,
            convergence=ConvergenceSettings(wait_at=[0.4]),  # before B's rate falls
            rates=rates(
                _SPECIALIZE_A,
                _SPECIALIZE_B,
                _SPECIALIZE_A,
                appearance=0.03,
                reflectance=0.01,
                geometry=0.004,
                light=0.5,
                response=0.01,
                cameras=0.0001,
            ),
        ),
        description="steps, losses and learning rates",
    )


class ConfidenceSettings(Settings):
    """How sure the maps are, and what is done where they are not; see ``stspbr explain``."""

    maps: bool = Field(True, description="write how sure each texel's albedo, roughness and metallic are")
    observations: int = Field(
        1_000_000, ge=1, description="pixels of the views that are asked; a random subset if there are more"
    )
    fill: Literal["off", "roughness", "reflectance", "all"] = Field(
        "roughness",
        description="where the views say little, draw texels towards confident neighbours, the more the less is known; "
        "roughness: that alone; reflectance: metallic, too; all: albedo, too; off: all stay as they were fitted",
    )


class BakeSettings(Settings):
    """Make a UV atlas, bake the maps, then refine texels and vertices on the fixed mesh."""

    texture_resolution: Annotated[int, Field(ge=16, le=8192)] | Literal["auto"] = Field(
        1024, description="side of the maps in texels; auto: about a texel per pixel of the closest view"
    )
    target_faces: int = Field(20_000, ge=64, description="most triangles of a learned mesh")
    remesh: Literal["adaptive", "off"] = Field(
        "adaptive",
        description="adaptive: triangles of even shape, small where the surface bends; off: the learned triangles, "
        "simplified if there are too many",
    )
    padding: int = Field(4, ge=1, description="texels between the charts of the UV atlas")
    transport_refresh: int = Field(100, ge=1, description=_REFRESH)
    laplacian: float = Field(0.1, ge=0, description=_LAPLACIAN)
    folding: float = Field(0.1, ge=0, description=_FOLDING)
    occlusion: Literal["learned", "visibility", "none"] = Field(
        "learned",
        description="the occlusion map; learned: network B's, if fields.occlusion is on; visibility: the open share of "
        "the hemisphere, for viewers without shadows; none: no map",
    )
    texture_bits: Literal[8, 16] = Field(8, description="bits per channel of the GLB's PNG maps")
    light_scale: LightScaleSettings = Field(LightScaleSettings(), description="a learned light's scale, asked anew")
    confidence: ConfidenceSettings = Field(ConfidenceSettings(), description="how sure the maps are")
    optimize: OptimizeSettings = Field(
        OptimizeSettings(
            iterations=250,
            losses=_SETTLED,
            convergence=ConvergenceSettings(wait_at=[0.4]),
            rates=rates(
                PRESETS["bake.A"],
                PRESETS["bake.B"],
                PRESETS["bake.geometry"],
                appearance=0.003,
                reflectance=0.003,
                geometry=0.0005,
                light=0.002,
                response=0.002,
                cameras=0.00005,
            ),
        ),
        description="steps, losses and learning rates of the refinement",
    )


class RefineSettings(Settings):
    """Refine the baked maps by path tracing; mesh and UVs stay."""

    rounds: int = Field(5, ge=1, description="corrections of the shading by path-traced views, at equal intervals")
    paths: int = Field(64, ge=2, description="paths per pixel of a correction")
    polish: int = Field(0, ge=0, description="last steps, which differentiate the path tracer itself; 0: none")
    polish_pixels: int = Field(16_384, ge=1, description="pixels per step of the polish")
    polish_paths: int = Field(48, ge=1, description="paths per pixel of the polish, for the value")
    gradient_paths: int = Field(12, ge=1, description="paths per pixel of the polish, for the gradient")
    polish_block: int = Field(8, ge=1, description="side of the blocks of texels that share a gradient in the polish")
    max_depth: int = Field(6, ge=2, description="longest path in segments; 2 is direct light only")
    normals: bool = Field(False, description="refine the normal maps, too, in the rounds of correction")
    texture_bits: Literal[8, 16] = Field(8, description="bits per channel of the GLB's PNG maps")
    confidence: ConfidenceSettings = Field(ConfidenceSettings(), description="how sure the maps are")
    optimize: OptimizeSettings = Field(
        OptimizeSettings(
            iterations=375,
            crop=0,
            losses=_SETTLED,
            rates=rates(
                _REFINE, _REFINE, PRESETS["constant"], appearance=0.003, reflectance=0.003, geometry=0.0, light=0.02
            ),
        ),
        description="steps, losses and learning rates; the steps before the polish are shared by the rounds",
    )

    @model_validator(mode="after")
    def _fits(self) -> RefineSettings:
        if self.optimize.crop != 0:
            raise ValueError(
                "optimize.crop: refine path-traces whole views; raise optimize.image_scale if they are too large"
            )
        if self.optimize.convergence.on:
            raise ValueError("optimize.convergence: refine's rounds have a fixed number of steps")
        if self.optimize.iterations < self.polish + self.rounds:
            raise ValueError(
                f"optimize.iterations={self.optimize.iterations} leaves no step for {self.rounds} rounds before "
                f"{self.polish} steps of polish: raise it, or lower polish or rounds"
            )
        return self


class UnpackSettings(Settings):
    """Write one grey map per channel."""

    bits: Literal[8, 16] = Field(8, description="bits per pixel of the maps")


class EvaluateSettings(Settings):
    """Compare a bake with the original asset."""

    reference: str | None = Field(
        None, description="GLB, glTF, OBJ or USD to compare with; none: the asset that the capture was rendered from"
    )
    reference_textures: str | None = Field(None, description="folder of maps for an OBJ, recognised by their names")
    reference_capture: bool = Field(False, description="the reference is the asset that the capture was rendered from")
    align: Literal["none", "icp", "sim3"] = Field(
        "none", description="align the result with the reference; icp: turn, shift; sim3: scale, too"
    )
    other: str | None = Field(
        None, description="GLB, glTF, OBJ or USD that another tool made of the same object, put beside the result"
    )
    other_align: Literal["none", "icp", "sim3"] = Field("none", description="align the other one with the reference")
    orb: str | None = Field(
        None,
        description="folder of Stanford-ORB (with blender_HDR, ground_truth): measure by the benchmark's own protocol, "
        "too; it needs no reference",
    )
    samples: int | None = Field(None, ge=1000, description="surface points; none: until standard errors are below 1 %")
    max_samples: int = Field(1_600_000, ge=1000, description="most surface points")
    max_distance_fraction: float = Field(
        0.02, gt=0, description="largest distance of two compared points, in diagonals of the reference"
    )
    footprint: float | None = Field(
        None,
        ge=0,
        description="radius of the averaged comparison in the reference's units; none: a view's pixel; 0: off",
    )
    footprint_samples: int = Field(10_000, ge=100, description="points for the comparison of averaged materials")
    map_resolution: int = Field(512, ge=16, le=512, description="side in texels of error maps on the reference's UVs")
    views: int = Field(3, ge=1, description="held-out views that are shown and relit; all are measured")
    prompt: bool = Field(
        False, description="compare the maps of a texture from a text with what its words mean, not with an asset"
    )
    lights: list[str] = Field([], description="lights for relighting: HDR or EXR files, folders or patterns")
    relight_samples: int = Field(256, ge=1, description="paths per pixel when relighting; fewer are noisier")
    relight_max_depth: int = Field(5, ge=2, description="longest path when relighting, in segments")


class RelightSettings(Settings):
    """Render a bake under other lights."""

    lights: list[str] = Field(description="HDR or EXR files, folders of them or patterns")
    renderer: Literal["raster", "mitsuba"] = Field(
        "raster", description="raster: fast, with the object's own shadows and bounces; mitsuba: path-traced"
    )
    views: int = Field(3, ge=1, description="held-out views of the capture")
    turntable: int | None = Field(None, ge=1, description="views around the object, in place of the capture's")
    resolution: int = Field(512, ge=8, description="side of a turntable's images in pixels")
    exposure: float = Field(1.0, gt=0, description="factor on radiance")
    format: Literal["png", "exr"] = Field("png", description="png: sRGB with alpha; exr: linear radiance with alpha")
    samples: int = Field(256, ge=1, description="paths per pixel, for mitsuba")
    max_depth: int = Field(6, ge=2, description="longest path, for mitsuba; 2 is direct light only")
    rays: Literal["auto", "numba", "embreex", "warp"] = Field("auto", description="what casts rays, for raster")
