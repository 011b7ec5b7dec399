"""The objects on which confidence is judged, and their runs: capture, coarse, specialize, bake."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from stspbr.artifacts import Artifact
from stspbr.errors import StspbrError
from stspbr.quality.ladder import TRACKS
from stspbr.quality.suite import ASSETS_VARIABLE
from stspbr.settings import (
    BakeSettings,
    CaptureMeshSettings,
    CoarseSettings,
    Recipe,
    Settings,
    SpecializeSettings,
    parse_settings,
    settings_for,
)
from stspbr.settings.parsing import apply_overrides
from stspbr.stages.capture_mesh import load_asset
from stspbr.stages.run import run_recipe
from stspbr.stages.session import Session

CALIBRATION = "jar"
"""The object whose errors the factors of the stds are fitted on, for all others and both tracks."""


@dataclass(frozen=True)
class Object:
    """One object under one light.

    Attributes:
        capture: the keys of ``CaptureMeshSettings`` that select them; paths lie in the folder of assets.
        tuned: whether a choice of the method was made while looking at its figures.
    """

    capture: dict[str, Any]
    tuned: bool


OBJECTS: dict[str, Object] = {
    "jar": Object({"asset": "procedural:demo", "light": "procedural:demo"}, tuned=True),
    "casket": Object({"asset": "procedural:casket", "light": "procedural:window"}, tuned=True),
    "ramp": Object({"asset": "procedural:ramp", "light": "procedural:studio"}, tuned=True),
    "letters": Object({"asset": "procedural:letters", "light": "procedural:studio"}, tuned=False),
    "gunmetal": Object({"asset": "procedural:gunmetal", "light": "procedural:sunset"}, tuned=False),
    "boombox": Object({"asset": "meshes/BoomBox.glb", "light": "envs/aerodynamics_workshop_1k.hdr"}, tuned=False),
}


@dataclass(frozen=True)
class Size:
    """How large captures and maps are, and how long the stages; ``--set`` values by stage."""

    capture: dict[str, Any]
    overrides: dict[str, list[str]] = field(default_factory=dict)


_QUIET = [f"optimize.{key}=1000000" for key in ("preview_every", "checkpoint_every")]
SIZES: dict[str, Size] = {
    "small": Size(
        {"views": 24, "test_views": 2, "resolution": 96, "samples": 64, "elevation": (0.0, 75.0)},
        {
            "coarse": ["geometry.resolution=40", "optimize.iterations=160", *_QUIET],
            "specialize": ["optimize.iterations=160", *_QUIET],
            "bake": ["texture_resolution=192", "texture_bits=16", "optimize.iterations=120", *_QUIET],
        },
    ),
    "full": Size(
        {"views": 60, "test_views": 5, "resolution": 256, "samples": 256, "elevation": (0.0, 75.0)},
        {"coarse": _QUIET, "specialize": _QUIET, "bake": ["texture_bits=16", *_QUIET]},
    ),
}
"""Views stand above the horizon, so that each object has surface that none of them sees."""


@dataclass(frozen=True)
class Case:
    """One object on one track (``same`` or ``path``) at one size."""

    name: str
    track: str
    size: str

    @property
    def label(self) -> str:
        return f"{self.name}-{self.track}-{self.size}"

    @property
    def known(self) -> Object:
        """The object.

        Raises:
            StspbrError: there is none of this name.
        """
        if self.name not in OBJECTS:
            raise StspbrError(f"{self.name}: no such object; choose from {', '.join(OBJECTS)}")
        return OBJECTS[self.name]

    def version(self) -> str | None:
        """What its records depend on besides settings: nothing."""
        return None

    def capture_settings(self) -> CaptureMeshSettings:
        """Of the case's frames.

        Raises:
            StspbrError: it needs the folder of assets, which is not set.
        """
        values = dict(self.known.capture)
        for key in ("asset", "light"):
            if not values[key].startswith("procedural:"):
                root = os.environ.get(ASSETS_VARIABLE)
                if not root:
                    raise StspbrError(f"{self.name}: set {ASSETS_VARIABLE} to the folder of assets")
                values[key] = str(Path(root) / values[key])
        values |= {"renderer": TRACKS[self.track].renderer, **SIZES[self.size].capture}
        return parse_settings(CaptureMeshSettings, values, f"{self.label}: capture")

    def stage_settings(self, stage: str, *more: str) -> Any:
        """The settings of ``coarse``, ``specialize`` or ``bake``; ``more``: further ``--set`` values."""
        models: dict[str, type[Settings]] = {
            "coarse": CoarseSettings,
            "specialize": SpecializeSettings,
            "bake": BakeSettings,
        }
        given = [*SIZES[self.size].overrides.get(stage, []), *more]
        if stage == "coarse":
            given += ["light.mode=known", f"transport.mode={TRACKS[self.track].transport}"]
        if stage == "bake":  # the maps as they were fitted; what the fill does to them is a figure of its own
            given += ["confidence.fill=off"]
        return settings_for(models[stage], given)

    def run(self, home: Path, threads: int) -> tuple[Session, Artifact]:
        """The case's bake, made or found, and a session on its run; ``home``: the folder of all cases."""
        session = Session.open(home / self.label, seed=0, device="cpu", threads=threads, quiet=True)
        stages = {name: self.stage_settings(name).model_dump(mode="json") for name in ("coarse", "specialize", "bake")}
        capture = self.capture_settings().model_dump(mode="json")
        recipe = parse_settings(Recipe, {"name": self.label, "seed": 0, "capture": capture, **stages}, self.label)
        done = run_recipe(session, recipe, lambda line: None, until="bake")
        return session, done["bake"]

    def truth(self) -> Any:
        """The asset that the frames show."""
        return load_asset(self.capture_settings())


@dataclass(frozen=True)
class RunCase:
    """A finished run of frames that ``capture mesh`` made, measured as it is; nothing of it is changed.

    Attributes:
        path: its folder, after whose last part it is named; size: under which its records stand.
    """

    path: Path
    size: str

    @property
    def name(self) -> str:
        return self.path.name

    @property
    def label(self) -> str:
        return f"run-{self.name}-{self.size}"

    @property
    def known(self) -> Object:
        """The object; whether a choice was made on it is not known."""
        return Object({}, tuned=True)

    @property
    def track(self) -> str:
        """``path`` if a path tracer made its frames."""
        return "path" if TRACKS["path"].renderer == self.capture_settings().renderer else "same"

    def capture_settings(self) -> CaptureMeshSettings:
        """Of the run's frames.

        Raises:
            StspbrError: they are not frames of a mesh.
        """
        session, artifact = self.run(self.path, 1)
        source = session.capture_of(artifact)
        return parse_settings(CaptureMeshSettings, source.settings, f"{source.path}: settings")

    def version(self) -> str | None:
        """The content hash of the run's bake."""
        return self.run(self.path, 1)[1].content_hash

    def stage_settings(self, stage: str, *more: str) -> Any:
        """The settings that the run's ``bake`` had."""
        if stage != "bake":
            return Settings()
        artifact = self.run(self.path, 1)[1]
        return parse_settings(BakeSettings, apply_overrides(dict(artifact.settings), list(more)), str(artifact.path))

    def run(self, home: Path, threads: int) -> tuple[Session, Artifact]:
        """A session on the run, and its bake."""
        session = Session.open(self.path, seed=0, device="cpu", threads=threads, quiet=True)
        return session, session.store.resolve("bake", None)

    def truth(self) -> Any:
        """The asset that the frames show."""
        return load_asset(self.capture_settings())
