"""The jobs of a ladder, their order, and the recipe of each."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from stspbr.quality.configurations import CONFIGURATIONS, FLOOR, LENT, LIGHT_VARIANTS, configured
from stspbr.quality.suite import DARK_METALS, EVALUATION_ONLY, FORMS, Scene, asset_scenes, procedural_scenes
from stspbr.settings import (
    BakeSettings,
    CaptureMeshSettings,
    CoarseSettings,
    EvaluateSettings,
    Recipe,
    Settings,
    SpecializeSettings,
    parse_settings,
    settings_for,
)

_STAGES: dict[str, type[Settings]] = {
    "coarse": CoarseSettings,
    "specialize": SpecializeSettings,
    "bake": BakeSettings,
    "evaluate": EvaluateSettings,
}


@dataclass(frozen=True)
class Track:
    """How captures are made and read.

    Attributes:
        label: in the tables.
        capture: the track whose captures it takes.
        renderer: of the captures; noisy: with a path tracer's noise (``quality.noise``).
        transport: ``transport.mode`` of every configuration, the joint baseline included.
    """

    label: str
    capture: str
    renderer: str
    noisy: bool = False
    transport: str = "auto"

    @property
    def path_traced(self) -> bool:
        """Whether its captures need the path tracer."""
        return self.noisy or self.renderer == "mitsuba"


TRACKS: dict[str, Track] = {
    "same": Track("same shading", "same", "raster"),
    "path": Track("path-traced", "path", "mitsuba", transport="on"),
    "noise": Track("same shading, equal noise", "noise", "raster", noisy=True),
    "path-off": Track("path-traced, transport off", "path", "mitsuba", transport="off"),
}
"""By name, in the order in which they run."""
DEFAULT_TRACKS = ("same", "path")
LIGHT_MODES = ("known", "learned")


@dataclass(frozen=True)
class Size:
    """The size of a ladder's captures and the length of its runs.

    Attributes:
        overrides: ``--set`` values by stage.
        capture_seed: of all captures.
    """

    capture: dict[str, Any]
    overrides: dict[str, list[str]] = field(default_factory=dict)
    capture_seed: int = 0


@dataclass(frozen=True)
class Ladder:
    """Everything that a ladder compares.

    Attributes:
        name: as on the command line.
        scenes: objects under lights.
        configurations: those of ``CONFIGURATIONS`` that run, besides the floor.
        seeds: of network starts and batches; the captures are shared.
        first: the configurations that run before the others, so that an early stop leaves a comparison.
        tracks: that run unless others are asked for, in their order.
    """

    name: str
    scenes: list[Scene]
    configurations: tuple[str, ...]
    seeds: tuple[int, ...]
    size: Size
    first: tuple[str, ...] = (CONFIGURATIONS[0], CONFIGURATIONS[-1], FLOOR)
    tracks: tuple[str, ...] = DEFAULT_TRACKS


@dataclass(frozen=True)
class Job:
    """One run of the pipeline. The floor's light is always known."""

    scene: Scene
    track: str
    light_mode: str
    configuration: str
    seed: int

    @property
    def name(self) -> str:
        """Unique within a ladder, and the name of its folder."""
        return (
            f"{self.scene.object}-{self.scene.light}-{self.track}-{self.light_mode}-{self.configuration}-s{self.seed}"
        )

    @property
    def capture_name(self) -> str:
        """The capture that it shares with others."""
        return f"{self.scene.object}-{self.scene.light}-{TRACKS[self.track].capture}"


_QUIET = [f"optimize.{key}=1000000" for key in ("preview_every", "checkpoint_every")]  # not part of the method's time
_SMALL = Size(
    {"views": 60, "test_views": 10, "resolution": 128, "samples": 64},
    {
        "coarse": ["geometry.resolution=48", "optimize.iterations=160", *_QUIET],
        "specialize": ["optimize.iterations=160", *_QUIET],
        "bake": ["texture_resolution=256", "optimize.iterations=80", *_QUIET],
        "evaluate": ["views=1", "samples=100000", "map_resolution=128"],
    },
)
_FULL = Size({"views": 100, "test_views": 20, "resolution": 256})
_ASSETS = Size({"views": 60, "test_views": 10, "resolution": 256, "max_depth": 8}, capture_seed=1)


def small_ladder() -> Ladder:
    """Two objects, one light, the method and the joint baseline, two seeds, 128²: under 45 minutes on two cores."""
    scenes = procedural_scenes(("ceramic-trim", "letters"), ("studio",))
    return Ladder("small", scenes, ("joint", "ours"), (0, 1), _SMALL)


def forms_ladder() -> Ladder:
    """The objects of difficult form under one light, two configurations, one seed, at the size of the small ladder."""
    return Ladder("forms", procedural_scenes(FORMS, ("studio",)), ("joint", "ours"), (0,), _SMALL)


def dark_ladder() -> Ladder:
    """Dark metals under three lights, two configurations, one seed, at the size of the small ladder."""
    return Ladder("dark", procedural_scenes(DARK_METALS), ("joint", "ours"), (0,), _SMALL)


def assets_ladder(home: Path) -> tuple[Ladder, list[str]]:
    """Every asset whose pictures may be shown, 256², the recipe's own budgets, one seed; and a line per skipped scene.

    The path-traced views come first. ``home`` is the ladder's folder.
    """
    found, skipped = asset_scenes(home / "assets")
    scenes = [scene for scene in found if scene.object not in EVALUATION_ONLY]
    skipped = [line for line in skipped if not line.startswith(EVALUATION_ONLY)]
    compared = ("ours", LENT, CONFIGURATIONS[0])
    return Ladder("assets", scenes, compared, (0,), _ASSETS, compared, ("path", "same")), skipped


def full_ladder(home: Path) -> tuple[Ladder, list[str]]:
    """Every scene and configuration, three seeds, 256², the recipe's own budgets; and a line per skipped scene."""
    assets, skipped = asset_scenes(home / "assets")
    scenes = procedural_scenes() + procedural_scenes(DARK_METALS) + assets
    return Ladder("full", scenes, CONFIGURATIONS, (0, 1, 2), _FULL), skipped


def jobs_of(ladder: Ladder, tracks: tuple[str, ...] | None = None) -> list[Job]:
    """All jobs, the most informative first, so that an early stop still leaves a comparison.

    Seed 0 of all jobs comes before seed 1. Within a seed, ``ladder.first`` comes before the other configurations; then
    the tracks follow in the order of ``tracks`` (None: the ladder's), the known light comes before the learned one, and
    all that is compared on one scene stands together.
    """
    every = (*ladder.configurations, FLOOR)
    outer = [name for name in ladder.first if name in every]
    between = [name for name in every if name not in outer]
    jobs = []
    for seed in ladder.seeds:
        for names in (outer, between):
            for track in ladder.tracks if tracks is None else tracks:
                for mode in LIGHT_MODES:
                    for scene in ladder.scenes:
                        jobs += [Job(scene, track, mode, n, seed) for n in names if _differs(n, mode)]
    return jobs


def _differs(configuration: str, light_mode: str) -> bool:
    """Whether a configuration is one of its own in a light mode: the floor's light is known, a known one not solved."""
    return (
        light_mode == "known"
        if configuration == FLOOR
        else light_mode == "learned" or configuration not in LIGHT_VARIANTS
    )


def capture_settings(job: Job, size: Size) -> CaptureMeshSettings:
    """The settings of the capture that ``job`` uses."""
    values = {"renderer": TRACKS[job.track].renderer, **size.capture, **job.scene.capture}
    return parse_settings(CaptureMeshSettings, values, f"{job.capture_name}: capture")


def recipe_of(job: Job, size: Size) -> Recipe:
    """The recipe of ``job``: the defaults, the ladder's size, and what the configuration changes."""
    chosen = {name: settings_for(model, size.overrides.get(name, [])) for name, model in _STAGES.items()}
    stages = {name: settings.model_dump(mode="json") for name, settings in chosen.items()}
    stages["coarse"]["light"]["mode"] = job.light_mode
    stages["coarse"]["transport"]["mode"] = TRACKS[job.track].transport
    if job.configuration == FLOOR:
        mesh, textures = job.scene.capture["asset"], job.scene.capture.get("textures")
        stages["coarse"].update(mesh=mesh, mesh_textures=textures, normals_from=2.0)
    stages["evaluate"]["reference_capture"] = True
    stages["evaluate"]["lights"] = [job.scene.relit_by] if job.scene.relit_by else []
    capture = capture_settings(job, size).model_dump(mode="json")
    values = {"name": job.name, "seed": job.seed, "capture": capture, **stages}
    recipe = parse_settings(Recipe, values, job.name)
    return configured(recipe, job.configuration)


def settings_hash(recipe: Recipe, capture_seed: int = 0) -> str:
    """SHA-256 (hex) of a job's inputs: every stage's settings, its seed and the captures' seed."""
    settings = {**recipe.model_dump(mode="json"), "capture_seed": capture_seed}
    return hashlib.sha256(json.dumps(settings, sort_keys=True, separators=(",", ":")).encode()).hexdigest()
