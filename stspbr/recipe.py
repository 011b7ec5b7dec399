"""Typed settings of every stage, their command-line overrides, and recipes in TOML.

Every rate, weight and size that a run depends on stands here with its default, so that a manifest that
stores these settings says all there is to say.
"""

from __future__ import annotations

import os
import re
import tomllib
from pathlib import Path
from typing import Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from stspbr.errors import StspbrError
from stspbr.optimize.schedules import PRESETS, Schedule, parse_schedule

SettingsType = TypeVar("SettingsType", bound=BaseModel)


class Settings(BaseModel):
    """Base of all settings: unknown keys are errors, values do not change after parsing."""

    model_config = ConfigDict(extra="forbid", frozen=True)


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
    occlusion: bool = False
    roughness_range: tuple[float, float] = (0.03, 1.0)
    initial_albedo: float = 0.5
    initial_roughness: float = 0.2
    initial_metallic: float = 0.05


class LightSettings(Settings):
    """``known`` takes the capture's light; ``learned`` starts from grey; ``auto`` is known where there is one."""

    mode: Literal["auto", "known", "learned"] = "auto"
    known_resolution: Literal[128, 256, 512] = 256
    learned_resolution: Literal[16, 32, 64, 128, 256] = 64
    initial_radiance: float = Field(0.5, gt=0)
    white_balance: float = Field(0.005, ge=0)


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

    appearance: dict[str, float] = {"logl1": 0.35, "smape": 0.15}
    reflectance: dict[str, float] = {"logl1": 0.35, "smape": 0.15}
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
    routing: Literal["strict", "shared"] = "strict"
    losses: LossSettings = LossSettings()
    rates: RateSettings
    checkpoint_every: int = Field(100, ge=1)
    preview_every: int = Field(100, ge=1)
    log_every: int = Field(10, ge=1)


# once the outline stands, colours at silhouettes tell more about coverage than about the material
_SETTLED = LossSettings(appearance_region="interior", reflectance_region="interior")
_SPECIALIZE_A = [(0.0, 0.3, "exponential"), (1.0, 0.05, "exponential")]
_SPECIALIZE_B = [(0.0, 0.3, "linear"), (0.1, 1.0, "linear"), (0.4, 1.0, "exponential"), (1.0, 0.1, "exponential")]


def _rates(
    a: Schedule, b: Schedule, shape: Schedule, *, appearance: float, reflectance: float, geometry: float, light: float
) -> RateSettings:
    return RateSettings(
        geometry=Rate(rate=geometry, schedule=shape),
        appearance=Rate(rate=appearance, schedule=a),
        reflectance=Rate(rate=reflectance, schedule=b),
        joint=Rate(rate=appearance, schedule=a),
        light=Rate(rate=light, schedule=a),
    )


class CoarseSettings(Settings):
    """Geometry and colour settle; network B is held back."""

    mesh: str | None = Field(None, description="fit materials on this mesh instead of learning the geometry")
    mesh_textures: str | None = None
    mesh_normal_map: Literal["keep", "ignore"] = Field(
        "keep", description="whether the given mesh's normal map belongs to its shape"
    )
    fields: FieldSettings = FieldSettings()
    light: LightSettings = LightSettings()
    geometry: GeometrySettings = GeometrySettings()
    normals_from: float = Field(
        0.75, ge=0, description="fraction of the stage at which normal offsets start; >1: never"
    )
    # no prior yet: while metal still looks dark, it would be talked out of being metal
    optimize: OptimizeSettings = OptimizeSettings(
        iterations=500,
        losses=LossSettings(metal_prior="none"),
        rates=_rates(
            PRESETS["coarse.A"],
            PRESETS["coarse.B"],
            PRESETS["coarse.geometry"],
            appearance=0.01,
            reflectance=0.01,
            geometry=0.005,
            light=0.2,
        ),
    )


class SpecializeSettings(Settings):
    """Network B specialises; A, the light and the now fixed topology are only polished."""

    laplacian: float = Field(0.05, ge=0)
    folding: float = Field(0.1, ge=0, description="weight of the barrier that keeps faces from turning over")
    optimize: OptimizeSettings = OptimizeSettings(
        iterations=500,
        losses=_SETTLED,
        rates=_rates(
            _SPECIALIZE_A,
            _SPECIALIZE_B,
            _SPECIALIZE_A,
            appearance=0.03,
            reflectance=0.01,
            geometry=0.004,
            light=0.2,
        ),
    )


class BakeSettings(Settings):
    """UV atlas, baked maps, then refinement of texels and vertices on the fixed mesh."""

    texture_resolution: int = Field(1024, ge=16, le=8192)
    target_faces: int = Field(20_000, ge=64)
    padding: int = Field(4, ge=1)
    laplacian: float = Field(0.1, ge=0)
    folding: float = Field(0.1, ge=0, description="weight of the barrier that keeps faces from turning over")
    texture_bits: Literal[8, 16] = 8
    optimize: OptimizeSettings = OptimizeSettings(
        iterations=250,
        losses=_SETTLED,
        rates=_rates(
            PRESETS["bake.A"],
            PRESETS["bake.B"],
            PRESETS["bake.geometry"],
            appearance=0.003,
            reflectance=0.003,
            geometry=0.0005,
            light=0.005,
        ),
    )


class UnpackSettings(Settings):
    """One grey map a channel."""

    bits: Literal[8, 16] = 8


class EvaluateSettings(Settings):
    """Compare a bake with the asset that it should be."""

    reference: str | None = Field(None, description="GLB, glTF or OBJ")
    reference_textures: str | None = None
    reference_capture: bool = Field(False, description="the reference is the asset that the capture was rendered from")
    align: Literal["none", "icp", "sim3"] = Field("none", description="put the result onto the reference first")
    samples: int | None = Field(
        None, ge=1000, description="points on the surface; none: until the standard errors are below 1 %"
    )
    max_samples: int = Field(1_600_000, ge=1000)
    max_distance_fraction: float = Field(0.02, gt=0, description="of a pair of points, in the reference's diagonals")
    footprint: float | None = Field(
        None, ge=0, description="radius that both materials are also averaged over; none: a pixel of the views; 0: off"
    )
    footprint_samples: int = Field(10_000, ge=100)
    map_resolution: int = Field(512, ge=16, le=512, description="side of the error maps on the reference's UVs")
    views: int = Field(3, ge=1, description="held-out views that are shown, and relit; all of them are measured")
    lights: list[str] = Field([], description="HDR or EXR files, folders of them or patterns, to relight by")
    relight_samples: int = Field(256, ge=1, description="paths a pixel; noise limits what relighting can tell")
    relight_max_depth: int = Field(5, ge=2, description="longest path")


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


CaptureSettings = CaptureMeshSettings | CaptureFolderSettings


class Recipe(Settings):
    """A whole pipeline: which stages to run, in order, with which settings."""

    name: str
    seed: int = 0
    capture: CaptureSettings = Field(discriminator="kind")
    coarse: CoarseSettings = CoarseSettings()
    specialize: SpecializeSettings = SpecializeSettings()
    bake: BakeSettings = BakeSettings()
    unpack_orm: UnpackSettings = UnpackSettings()
    evaluate: EvaluateSettings = EvaluateSettings()


def parse_settings(model: type[SettingsType], values: dict[str, Any], where: str) -> SettingsType:
    """Validate ``values``; every fault becomes one line that names the key and ``where`` it stands."""
    try:
        return model.model_validate(values)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"]) or "(top level)"
        more = f" (and {error.error_count() - 1} more)" if error.error_count() > 1 else ""
        raise StspbrError(f"{where}: {key}: {first['msg'].lower()}{more}") from None


def apply_overrides(values: dict[str, Any], overrides: list[str]) -> dict[str, Any]:
    """``values`` with ``key.sub=value`` overrides applied; values are TOML, bare words are strings."""
    out = _copy(values)
    for override in overrides:
        key, separator, text = override.partition("=")
        if not separator or not key.strip():
            raise StspbrError(f"--set {override}: expected key=value, e.g. optimize.iterations=500")
        try:
            value = tomllib.loads(f"value = {text}")["value"]
        except tomllib.TOMLDecodeError:
            value = text
        node, *rest = out, *key.strip().split(".")
        for part in rest[:-1]:
            node = node.setdefault(part, {})
            if not isinstance(node, dict):
                raise StspbrError(f"--set {override}: {part} is a value, not a table")
        node[rest[-1]] = value
    return out


def settings_for(model: type[SettingsType], overrides: list[str], base: dict[str, Any] | None = None) -> SettingsType:
    """Settings of one stage: the defaults, then ``base``, then the overrides; nested keys merge."""
    defaults = {
        name: field.get_default(call_default_factory=True)
        for name, field in model.model_fields.items()
        if not field.is_required()
    }
    values = {k: v.model_dump(mode="json") if isinstance(v, BaseModel) else v for k, v in defaults.items()}
    values = apply_overrides(_merge(values, base or {}), overrides)
    return parse_settings(model, values, model.__name__.removesuffix("Settings").lower())


def load_recipe(path: Path, overrides: list[str]) -> Recipe:
    """Read a TOML recipe; overrides are addressed by stage, e.g. ``coarse.optimize.iterations=200``.

    Paths are relative to the working directory; ``${NAME}`` in a string is that environment variable.
    """
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise StspbrError(f"{path}: cannot read the recipe: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise StspbrError(f"{path}: not a TOML file: {error}") from None
    values = _expand(apply_overrides(values, overrides), path)
    for name, model in (("coarse", CoarseSettings), ("specialize", SpecializeSettings), ("bake", BakeSettings)):
        if isinstance(values.get(name), dict):
            values[name] = settings_for(model, [], values[name]).model_dump(mode="json")
    return parse_settings(Recipe, values, str(path))


def _expand(value: Any, path: Path) -> Any:
    """``${NAME}`` in strings replaced by environment variables."""
    if isinstance(value, dict):
        return {k: _expand(v, path) for k, v in value.items()}
    if not isinstance(value, str):
        return value
    for name in re.findall(r"\$\{(\w+)\}", value):
        if name not in os.environ:
            raise StspbrError(f"{path}: {value}: set the environment variable {name} to the folder that is meant")
        value = value.replace("${" + name + "}", os.environ[name])
    return value


def _copy(values: Any) -> Any:
    return {k: _copy(v) for k, v in values.items()} if isinstance(values, dict) else values


def _merge(base: dict[str, Any], extra: dict[str, Any]) -> dict[str, Any]:
    """``base`` with ``extra`` laid over it; tables merge key by key (a loss of weight 0 is switched off)."""
    out = dict(base)
    for key, value in extra.items():
        both = isinstance(value, dict) and isinstance(out.get(key), dict)
        out[key] = _merge(out[key], value) if both else value
    return out
