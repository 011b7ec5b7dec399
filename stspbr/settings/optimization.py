"""Settings that the optimising stages share: networks, light, geometry, losses and rates."""

from __future__ import annotations

from collections.abc import Container, Iterable
from typing import Annotated, Any, Literal

from pydantic import Field, FiniteFloat, field_validator, model_validator

from stspbr.errors import StspbrError
from stspbr.settings.parsing import Settings, or_else
from stspbr.settings.schedules import PRESETS, Schedule, parse_schedule

_Ground = Annotated[
    Literal["auto", "none"] | FiniteFloat, or_else("choose auto, none or a height in the capture's units, e.g. -0.5")
]

_Odds = Annotated[
    float,
    Field(ge=1, allow_inf_nan=False),
    or_else(
        "give the odds against metals darker than 0.1: 10 for ten to one (was dielectric-first); 1: no prior (was none)"
    ),
]

METAL_PRIOR = 10.0
"""The odds of ``metal_prior`` that are used if nothing else is said."""

_Crop = Annotated[
    Literal["auto"] | Annotated[int, Field(ge=0)], or_else("choose auto, 0 or a side in pixels, e.g. 256")
]


class HashGridSettings(Settings):
    """One multiresolution hash grid (Müller et al. 2022)."""

    levels: int = Field(12, ge=1, le=24, description="resolutions of the hash grid")
    features: int = Field(2, ge=1, le=8, description="features per level")
    log2_table_size: int = Field(15, ge=8, le=22, description="entries per level's hash table, as a power of 2")
    base_resolution: int = Field(16, ge=2, description="cells along the box's side at the coarsest level")
    finest_resolution: int = Field(512, ge=2, description="cells along the box's side at the finest level")


class FieldSettings(Settings):
    """The material networks.

    ``split``: network A (albedo, normal) and network B (roughness, metallic, optional occlusion).
    ``joint``: one network for all, the baseline; its table has as many parameters as those of A and B together.
    """

    mode: Literal["split", "joint"] = Field(
        "split", description="split: network A for albedo and normal, B for roughness and metallic; joint: one for all"
    )
    appearance: HashGridSettings = Field(
        HashGridSettings(levels=12, finest_resolution=512), description="hash grid of network A"
    )
    reflectance: HashGridSettings = Field(
        HashGridSettings(levels=8, finest_resolution=128), description="hash grid of network B"
    )
    joint: HashGridSettings = Field(
        HashGridSettings(levels=20, finest_resolution=512), description="hash grid of the joint network"
    )
    width: int = Field(32, ge=4, description="neurons per hidden layer")
    hidden_layers: int = Field(2, ge=1, description="hidden layers per network")
    precision: Literal["float32", "float16"] = Field(
        "float32", description="float16: half precision for encodings and layers that tinycudann evaluates"
    )
    occlusion: bool = Field(False, description="network B learns occlusion, too")
    alpha: Literal["off", "mask", "blend"] = Field(
        "off",
        description="network A learns opacity, too: mask: cut-outs (leaves, nets, lace) with a hard edge; blend: soft; "
        "then transport is off",
    )
    roughness_range: tuple[float, float] = Field((0.03, 1.0), description="lowest and highest roughness, within 0 to 1")
    initial_albedo: float = Field(0.5, description="linear albedo that learning starts from, between 0 and 1")
    initial_roughness: float = Field(0.2, description="roughness that learning starts from, inside roughness_range")
    initial_metallic: float | None = Field(
        None,
        gt=0,
        lt=1,
        description="metallic that learning starts from; none: the prior's probability of a metal, 1 / (1 + "
        "optimize.losses.metal_prior)",
    )

    def first_metallic(self, odds: float) -> float:
        """The metallic that learning starts from, if ``odds`` is the ``metal_prior``; in (0, 1).

        Nothing is known of the albedo then, so the odds are those against a dark metal.
        """
        # 0 is out of reach of a sigmoid's gradient: no odds count for more than 100, as in the survey
        return 1.0 / (1.0 + min(odds, 100.0)) if self.initial_metallic is None else self.initial_metallic

    @property
    def cut_outs(self) -> bool:
        """Whether opacity is learned."""
        return self.alpha != "off"


class LightSettings(Settings):
    """``known`` takes the capture's light; ``learned`` starts from grey; ``auto`` is known if the capture has one."""

    mode: Literal["auto", "known", "learned"] = Field(
        "auto", description="known: the capture's light; learned: starts from grey; auto: known if the capture has one"
    )
    known_resolution: Literal[128, 256, 512] = Field(256, description="side of a known light's cube map in texels")
    learned_resolution: Literal[16, 32, 64, 128, 256] = Field(64, description="side of a learned cube map in texels")
    initial_radiance: float = Field(0.5, gt=0, description="linear radiance of the grey that learning starts from")
    white_balance: float = Field(0.005, ge=0, description="weight of the learned light's deviation from grey")
    smoothness: float = Field(
        0.002,
        ge=0,
        description="weight of the differences between neighbouring texels of a learned light, in log radiance",
    )
    flash: Literal["auto", "on", "off"] = Field(
        "auto", description="a lamp on the camera beside a learned light; auto: if the capture says light=flash"
    )
    common_scale: bool = Field(True, description="learn the scale that albedo and light share per colour channel")


class TransportSettings(Settings):
    """Shadows that the object casts on itself, and light that it sends on to itself."""

    mode: Literal["auto", "on", "off"] = Field(
        "auto", description="on: model them; off: do not; auto: off if the capture was rendered without them"
    )
    rays: Literal["auto", "numba", "embreex", "warp"] = Field(
        "auto", description="what casts rays; auto: embreex if installed, else the embedded numba; on a GPU: warp"
    )
    ramp: tuple[float, float] = Field(
        (0.6, 0.8), description="fractions of the coarse stage at which transport starts and is whole"
    )
    ground: _Ground = Field(
        "none",
        description="diffuse floor under the object, of learned grey; a height along the capture's up axis; auto: at "
        "the lowest point if photographs look down at an object at rest; none: no floor",
    )
    neighbours: Literal["auto", "off"] = Field(
        "auto", description="auto: in captures of duplicates the copies hide light from each other and send some on"
    )


class GeometrySettings(Settings):
    """Implicit geometry of the coarse stage."""

    kind: Literal["dmtet", "flexicubes"] = Field(
        "dmtet",
        description="dmtet: tetrahedra that the surface cuts; flexicubes: cubes with a movable vertex in each",
    )
    resolution: int = Field(64, ge=8, le=256, description="size N of the grid: about N³ cells fill the object's box")
    levels: int = Field(
        0, ge=0, le=3, description="how often the cells around the surface are halved, and the others dropped"
    )
    subdivide_at: list[Annotated[float, Field(ge=0, lt=1)]] = Field(
        [0.5, 0.7, 0.85], description="fractions of the stage at which the cells are halved, ascending; one per level"
    )
    band: int = Field(
        2, ge=1, le=8, description="cells that are kept on both sides of the surface, once they are halved"
    )
    band_refresh: int = Field(
        25, ge=1, description="steps between two looks whether the surface nears the band's border"
    )
    initial: Literal["hull", "stereo", "sphere"] = Field(
        "hull",
        description="starting shape: the masks' visual hull; stereo: the hull less what the views agree to be empty of "
        "it, for photographs of a surface that has a texture; sphere: an ellipsoid in the object's box",
    )
    box: tuple[float, float, float, float, float, float] | None = Field(
        None, description="the object's box in world units: xmin, ymin, zmin, xmax, ymax, zmax; none: from the masks"
    )
    margin: float = Field(
        0.1,
        ge=0,
        description="free space added to that box, as a fraction of each side; shorter sides get 2 cells more",
    )
    sdf_regularizer: tuple[float, float] = Field(
        (0.2, 0.01), description="weight of the penalty on sign changes of the distances: at the start, after the ramp"
    )
    sdf_regularizer_ramp: float = Field(
        0.25, gt=0, le=1, description="fraction of the stage in which that weight goes from its first to its second"
    )
    smoothness: float = Field(0.1, ge=0, description="weight of the bending of the surface")
    deviation: float = Field(
        0.01, ge=0, description="flexicubes: weight of how unevenly far a vertex is from the crossings that it joins"
    )

    @model_validator(mode="after")
    def _a_time_for_each_level(self) -> GeometrySettings:
        if len(self.subdivide_at) < self.levels:
            raise ValueError(f"levels={self.levels} needs as many fractions in subdivide_at, not {self.subdivide_at}")
        if sorted(self.subdivide_at) != self.subdivide_at:
            raise ValueError(f"subdivide_at={self.subdivide_at}: give the fractions in ascending order")
        return self


class LossSettings(Settings):
    """Weights of the losses; ``stspbr.optimize.losses.LOSSES`` has the names of the image losses."""

    appearance: dict[str, float] = Field(
        {"logl1": 0.5},
        description="weights of A's image losses: mse, l1, smape, relmse, logl1, logl2, msssim; 0 switches one off",
    )
    reflectance: dict[str, float] = Field({"logl1": 0.5}, description="weights of B's image losses, likewise")
    joint: dict[str, float] = Field({"logl1": 1.0}, description="weights of the joint network's image losses, likewise")
    appearance_region: Literal["interior", "union"] = Field(
        "union",
        description="pixels of A's image losses; union: covered in either image; interior: fully covered in both",
    )
    reflectance_region: Literal["interior", "union"] = Field("union", description="pixels of B's image losses")
    metal_prior: _Odds = Field(
        METAL_PRIOR,
        description="odds against metals darker than albedo 0.1, where images cannot tell: 10 is ten to one; 1: none",
    )
    metal_prior_weight: float = Field(
        0.001, ge=0, description="image error that a factor e of these odds is worth, in a pixel"
    )
    opacity_binary: float = Field(
        0.02, ge=0, description="weight that pulls a learned opacity to 0 or 1 over the stage; see fields.alpha"
    )
    metallic_binary: float = Field(0.0, ge=0, description="weight of m·(1 − m), which pushes metallic to 0 or 1")
    mask: float = Field(1.0, ge=0, description="weight of the squared difference of coverage")
    albedo_smoothness: float = Field(0.03, ge=0, description="weight of albedo differences between neighbours")
    reflectance_smoothness: float = Field(0.03, ge=0, description="likewise for roughness and metallic")
    normal_smoothness: float = Field(0.03, ge=0, description="likewise for normals")
    smoothness_ramp: float = Field(
        0.5, gt=0, le=1, description="fraction of the stage in which smoothness weights rise"
    )
    smoothness_distance: float = Field(0.005, gt=0, description="distance of those neighbours, in sides of the box")

    @property
    def alike(self) -> bool:
        """Whether A and B are compared by the same losses over the same pixels."""
        return (self.appearance, self.appearance_region) == (self.reflectance, self.reflectance_region)


class Rate(Settings):
    """Learning rate of one parameter group: ``rate`` times a schedule over the stage's fraction t in [0, 1]."""

    rate: float = Field(ge=0, description="learning rate, which the schedule multiplies")
    schedule: Schedule = Field(
        PRESETS["constant"],
        description="factor over the stage: a preset's name, or knots [t, factor, 'linear' or 'exponential'], t 0 to 1",
    )

    @field_validator("schedule", mode="before")
    @classmethod
    def _named_or_knots(cls, value: Any) -> Schedule:
        try:
            return parse_schedule(value)
        except StspbrError as error:
            raise ValueError(str(error)) from None


class RateSettings(Settings):
    """The parameter groups. ``joint`` is the joint network's rate; it replaces appearance and reflectance."""

    geometry: Rate = Field(description="of the shape")
    appearance: Rate = Field(description="of network A")
    reflectance: Rate = Field(description="of network B")
    joint: Rate = Field(description="of the joint network")
    light: Rate = Field(description="of a learned light")
    response: Rate = Field(Rate(rate=0.01), description="of the cameras' response, in natural logarithms")
    cameras: Rate = Field(Rate(rate=0.0003), description="of the cameras' poses and lenses, in radians")


class ConvergenceSettings(Settings):
    """A stage that goes on while its loss on the training views falls, and moves on when it is flat."""

    most: float = Field(
        1.0,
        ge=1,
        le=10,
        description="most steps of the stage in multiples of iterations, while the loss on training views falls; 1: "
        "as planned",
    )
    early: bool = Field(
        False, description="leap to the stage's next change once that loss is shown to be flat, so that it ends earlier"
    )
    wait_at: list[Annotated[float, Field(ge=0, lt=1)]] = Field(
        [0.5], description="fractions of the stage at which it waits while that loss falls; no leap passes the last one"
    )
    tolerance: float = Field(
        0.01, gt=0, lt=1, description="a loss is flat if it falls by less than this share in a tenth of iterations"
    )

    @property
    def on(self) -> bool:
        """Whether the number of steps may be another than the planned one."""
        return self.most > 1.0 or self.early


class OptimizeSettings(Settings):
    """Steps, losses and learning rates of an optimising stage."""

    iterations: int = Field(ge=1, description="steps of the stage")
    batch: int = Field(4, ge=1, description="views per step")
    image_scale: int = Field(1, ge=1, description="divide the frames' sides by this number before comparing")
    crop: _Crop = Field(
        "auto",
        description="side in pixels of the crops that every second step draws of large views; 0: whole views only; "
        "auto: of views above 1024 pixels, with as many covered pixels as whole small views have",
    )
    views: Literal["auto", "resident", "streamed"] = Field(
        "auto", description="resident: frames on the device; streamed: in the host's memory, copied per batch"
    )
    routing: Literal["strict", "shared"] = Field(
        "strict",
        description="strict: each loss drives its own group of parameters; shared: every loss drives all groups",
    )
    deterministic: bool = Field(
        False,
        description="on a GPU with --backend warp: sums in a fixed order (slower), so equal inputs give equal bits",
    )
    losses: LossSettings = Field(LossSettings(), description="weights of the losses")
    rates: RateSettings = Field(description="learning rates of the parameter groups")
    convergence: ConvergenceSettings = Field(ConvergenceSettings(), description="a number of steps that suits the loss")
    checkpoint_every: int = Field(100, ge=1, description="steps between checkpoints")
    preview_every: int = Field(100, ge=1, description="steps between preview pictures")
    log_every: int = Field(10, ge=1, description="steps between logged losses")

    def steps_at(self, fractions: Iterable[float]) -> list[int]:
        """The steps at ``fractions`` of the stage."""
        return [int(fraction * self.iterations) for fraction in fractions]

    def routing_of(self, groups: Container[str]) -> Literal["strict", "shared"]:
        """How losses reach the parameter groups; with one network (``joint``) always ``shared``."""
        return "shared" if "joint" in groups else self.routing

    def one_loss(self, groups: Container[str]) -> bool:
        """Whether one image loss drives all groups.

        True with one network; also if A and B have the same loss under strict routing, which leaves the gradients
        unchanged.
        """
        return "joint" in groups or (self.losses.alike and self.routing == "strict")


def rates(
    a: Schedule,
    b: Schedule,
    shape: Schedule,
    *,
    appearance: float,
    reflectance: float,
    geometry: float,
    light: float,
    response: float = 0.01,
    cameras: float = 0.0003,
) -> RateSettings:
    return RateSettings(
        geometry=Rate(rate=geometry, schedule=shape),
        appearance=Rate(rate=appearance, schedule=a),
        reflectance=Rate(rate=reflectance, schedule=b),
        joint=Rate(rate=appearance, schedule=a),
        light=Rate(rate=light, schedule=a),
        response=Rate(rate=response, schedule=a),
        cameras=Rate(rate=cameras, schedule=PRESETS["cameras"]),
    )
