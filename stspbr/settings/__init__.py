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
from stspbr.settings.fleet import FleetObject, FleetSettings, TaskNeeds
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
from stspbr.settings.photo_run import PhotoRunSettings
from stspbr.settings.recipe import (
    PlannedStage,
    Recipe,
    find_recipe,
    load_any_recipe,
    load_recipe,
    planned_stages,
    shipped_recipes,
    stages_until,
)
from stspbr.settings.scene_files import load_scene_config
from stspbr.settings.scenes import SceneConfig, SceneGenerateSettings, SceneRecipe, SceneTrainSettings, train_settings
from stspbr.settings.stages import (
    BakeSettings,
    CoarseSettings,
    ConfidenceSettings,
    EvaluateSettings,
    LightScaleSettings,
    LightSolveSettings,
    RefineSettings,
    RelightSettings,
    SpecializeSettings,
    SurveySettings,
    UnpackSettings,
)
from stspbr.settings.texture import PriorTrainSettings, TextureSettings

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
    "FleetObject",
    "FleetSettings",
    "GeometrySettings",
    "HashGridSettings",
    "LightSettings",
    "LossSettings",
    "OptimizeSettings",
    "PreparationSettings",
    "PhotoRunSettings",
    "PlannedStage",
    "PriorTrainSettings",
    "Rate",
    "RateSettings",
    "Recipe",
    "RefineSettings",
    "RelightSettings",
    "SceneConfig",
    "SceneGenerateSettings",
    "SceneRecipe",
    "SceneTrainSettings",
    "Settings",
    "SettingsType",
    "SpecializeSettings",
    "LightScaleSettings",
    "LightSolveSettings",
    "SurveySettings",
    "TaskNeeds",
    "TextureSettings",
    "TransportSettings",
    "UnpackSettings",
    "apply_overrides",
    "every_setting",
    "find_recipe",
    "load_any_recipe",
    "load_recipe",
    "load_scene_config",
    "merged",
    "parse_settings",
    "planned_stages",
    "rates",
    "settings_for",
    "shipped_recipes",
    "stages_until",
    "train_settings",
]
