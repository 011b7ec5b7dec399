"""What the optimising stages have in common: networks, light, geometry, losses and rates."""

from __future__ import annotations

from collections.abc import Container
from typing import Any, Literal

from pydantic import Field, field_validator

from stspbr.errors import StspbrError
from stspbr.settings.parsing import Settings
from stspbr.settings.schedules import PRESETS, Schedule, parse_schedule


class HashGridSettings(Settings):
    """One multiresolution hash grid (Müller et al. 2022)."""

    levels: int = Field(12, ge=1, le=24)
    features: int = Field(2, ge=1, le=8)
    log2_table_size: int = Field(15, ge=8, le=22)
    base_resolution: int = Field(16, ge=2)
    finest_resolution: int = Field(512, ge=2)


class FieldSettings(Settings):
    """The material networks.

    ``split``: network A (albedo, normal) and network B (roughness, metallic, optional occlusion).
    ``joint``: one network for all, the baseline; its table holds as many parameters as A's and B's together.
    """

    mode: Literal["split", "joint"] = "split"
    appearance: HashGridSettings = HashGridSettings(levels=12, finest_resolution=512)
    reflectance: HashGridSettings = HashGridSettings(levels=8, finest_resolution=128)
    joint: HashGridSettings = HashGridSettings(levels=20, finest_resolution=512)
    width: int = Field(32, ge=4)
    hidden_layers: int = Field(2, ge=1)
    precision: Literal["float32", "float16"] = Field(
        "float32", description="float16: encodings and layers in half precision where tinycudann evaluates them"
    )
    occlusion: bool = False
    roughness_range: tuple[float, float] = (0.03, 1.0)
    initial_albedo: float = 0.5
    initial_roughness: float = 0.2
    initial_metallic: float = 0.15


class LightSettings(Settings):
    """``known`` takes the capture's light; ``learned`` starts from grey; ``auto`` is known where there is one."""

    mode: Literal["auto", "known", "learned"] = "auto"
    known_resolution: Literal[128, 256, 512] = 256
    learned_resolution: Literal[16, 32, 64, 128, 256] = 64
    initial_radiance: float = Field(0.5, gt=0)
    white_balance: float = Field(0.005, ge=0)
    smoothness: float = Field(0.002, ge=0, description="weight of the differences between neighbours in log radiance")
    common_scale: bool = Field(
        True, description="learn the scale that albedo and light share as a parameter of its own, per channel"
    )


class GeometrySettings(Settings):
    """Implicit geometry of the coarse stage."""

    resolution: int = Field(64, ge=8, le=256)
    initial: Literal["hull", "sphere"] = "hull"
    box: tuple[float, float, float, float, float, float] | None = None
    margin: float = Field(0.1, ge=0)
    sdf_regularizer: tuple[float, float] = (0.2, 0.01)
    sdf_regularizer_ramp: float = Field(0.25, gt=0, le=1)
    smoothness: float = Field(0.1, ge=0, description="weight of the level set's bending")


class LossSettings(Settings):
    """Composite losses by the group that they drive; see ``stspbr.optimize.losses.LOSSES`` for the names."""

    appearance: dict[str, float] = {"logl1": 0.5}
    reflectance: dict[str, float] = {"logl1": 0.5}
    joint: dict[str, float] = {"logl1": 1.0}
    appearance_region: Literal["interior", "union"] = Field(
        "union", description="pixels of A's colour terms: where either has coverage, or where both are fully covered"
    )
    reflectance_region: Literal["interior", "union"] = Field("union", description="the same for B's")
    metal_prior: Literal["dielectric-first", "none"] = Field(
        "dielectric-first", description="what a surface too dark to tell is taken for; see optimize.losses.metal_prior"
    )
    metal_prior_weight: float = Field(0.002, ge=0)
    metallic_binary: float = Field(0.0, ge=0, description="weight of m·(1 − m), which pushes metallic to 0 or 1")
    mask: float = Field(1.0, ge=0)
    albedo_smoothness: float = Field(0.03, ge=0)
    reflectance_smoothness: float = Field(0.03, ge=0)
    normal_smoothness: float = Field(0.03, ge=0)
    smoothness_ramp: float = Field(0.5, gt=0, le=1)
    smoothness_distance: float = Field(0.005, gt=0)

    @property
    def alike(self) -> bool:
        """Whether A and B are compared by the same losses over the same pixels."""
        return (self.appearance, self.appearance_region) == (self.reflectance, self.reflectance_region)


class Rate(Settings):
    """Learning rate of one parameter group: ``rate`` times a schedule over the stage's fraction t in [0, 1]."""

    rate: float = Field(ge=0)
    schedule: Schedule = PRESETS["constant"]

    @field_validator("schedule", mode="before")
    @classmethod
    def _named_or_knots(cls, value: Any) -> Schedule:
        try:
            return parse_schedule(value)
        except StspbrError as error:
            raise ValueError(str(error)) from None


class RateSettings(Settings):
    """The parameter groups. ``joint`` is the joint network's rate; it replaces appearance and reflectance."""

    geometry: Rate
    appearance: Rate
    reflectance: Rate
    joint: Rate
    light: Rate


class OptimizeSettings(Settings):
    """What every optimising stage has."""

    iterations: int = Field(ge=1)
    batch: int = Field(4, ge=1)
    image_scale: int = Field(1, ge=1, description="frames are reduced by this factor before they are compared")
    views: Literal["auto", "resident", "streamed"] = Field(
        "auto", description="where the frames lie: on the device, or in the host's memory and copied batch by batch"
    )
    routing: Literal["strict", "shared"] = "strict"
    losses: LossSettings = LossSettings()
    rates: RateSettings
    checkpoint_every: int = Field(100, ge=1)
    preview_every: int = Field(100, ge=1)
    log_every: int = Field(10, ge=1)

    def routing_of(self, groups: Container[str]) -> Literal["strict", "shared"]:
        """How losses reach the parameter groups: one network (``joint``) cannot be driven apart."""
        return "shared" if "joint" in groups else self.routing

    def one_loss(self, groups: Container[str]) -> bool:
        """Whether one image loss drives all groups.

        There is one network; or A and B compare alike under strict routing, where A's gradient is L_A's and B's is
        L_B's all the same.
        """
        return "joint" in groups or (self.losses.alike and self.routing == "strict")


def rates(
    a: Schedule, b: Schedule, shape: Schedule, *, appearance: float, reflectance: float, geometry: float, light: float
) -> RateSettings:
    return RateSettings(
        geometry=Rate(rate=geometry, schedule=shape),
        appearance=Rate(rate=appearance, schedule=a),
        reflectance=Rate(rate=reflectance, schedule=b),
        joint=Rate(rate=appearance, schedule=a),
        light=Rate(rate=light, schedule=a),
    )
