"""Typed settings of every stage, their command-line overrides, and recipes in TOML.

Every rate, weight and size that a run depends on is declared here with its default; a manifest stores all of them.
"""

from stspbr.settings.capture import (
    CaptureDuplicatesSettings,
    CaptureFolderSettings,
    CaptureMeshSettings,
    CapturePhotosSettings,
    CaptureSettings,
    CaptureUsdSettings,
    PreparationSettings,
)
from stspbr.settings.export import ExportDatasetSettings, ExportSettings
from stspbr.settings.optimization import (
    FieldSettings,
    GeometrySettings,
    HashGridSettings,
    LightSettings,
    LossSettings,
    OptimizeSettings,
    Rate,
    RateSettings,
    TransportSettings,
    rates,
)
from stspbr.settings.parsing import (
    Settings,
    SettingsType,
    apply_overrides,
    every_setting,
    merged,
    parse_settings,
    settings_for,
)
from stspbr.settings.recipe import Recipe, find_recipe, load_recipe, shipped_recipes
from stspbr.settings.stages import (
    BakeSettings,
    CoarseSettings,
    ConfidenceSettings,
    EvaluateSettings,
    LightSolveSettings,
    RefineSettings,
    RelightSettings,
    SpecializeSettings,
    SurveySettings,
    UnpackSettings,
)

__all__ = [
    "BakeSettings",
    "CaptureFolderSettings",
    "CaptureMeshSettings",
    "CaptureDuplicatesSettings",
    "CapturePhotosSettings",
    "CaptureSettings",
    "CaptureUsdSettings",
    "CoarseSettings",
    "ConfidenceSettings",
    "EvaluateSettings",
    "ExportDatasetSettings",
    "ExportSettings",
    "FieldSettings",
    "GeometrySettings",
    "HashGridSettings",
    "LightSettings",
    "LossSettings",
    "OptimizeSettings",
    "PreparationSettings",
    "Rate",
    "RateSettings",
    "Recipe",
    "RefineSettings",
    "RelightSettings",
    "Settings",
    "SettingsType",
    "SpecializeSettings",
    "LightSolveSettings",
    "SurveySettings",
    "TransportSettings",
    "UnpackSettings",
    "apply_overrides",
    "every_setting",
    "find_recipe",
    "load_recipe",
    "merged",
    "parse_settings",
    "rates",
    "settings_for",
    "shipped_recipes",
]
