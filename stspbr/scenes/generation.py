"""Making the scenes of a data set: what is drawn depends on seed, split and number alone."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol

import numpy as np

from stspbr.neural.partitions import FACTORS
from stspbr.render.scene_tracer import SceneTracer
from stspbr.scenes.archviz import Archviz
from stspbr.scenes.data import Batch, batch_name, write_batch, write_batch_scenes
from stspbr.scenes.description import Scene, SceneCamera, SceneLight, SceneMaterial, SceneShape
from stspbr.scenes.rooms import ROOMS
from stspbr.scenes.tracing import pose_numbers, render_views
from stspbr.settings.scenes import SceneConfig

_SPLITS = ("train", "test")
_COMMON, _CAMERAS = 1 << 20, 3  # of seeds: what the scenes of a batch share; the views of one scene

Drawn = tuple[Scene, list[SceneCamera]]


class Kind(Protocol):
    """What is random in a kind of scenes; each part is drawn by a generator of its own."""

    def light(self, random: np.random.Generator) -> tuple[SceneLight, ...]: ...

    def geometry(self, random: np.random.Generator) -> tuple[SceneShape, ...]: ...

    def material(self, random: np.random.Generator) -> dict[str, SceneMaterial]: ...

    def camera(self, random: np.random.Generator) -> SceneCamera: ...

    def scene(
        self, lights: tuple[SceneLight, ...], geometry: tuple[SceneShape, ...], materials: dict[str, SceneMaterial]
    ) -> Scene: ...


def kind_of(config: SceneConfig) -> Kind:
    """The kind of scenes of a configuration."""
    if config.dataset == "archviz":
        return Archviz()
    from dataclasses import replace

    return replace(ROOMS[config.dataset], objects=config.objects)


def drawn_scene(kind: Kind, seed: int, split: str, batch: int, number: int, factor: int) -> Scene:
    """One scene of a batch; what is not ``factor`` is the same in all of them (−1: nothing is)."""
    light, geometry, material = (
        _random(seed, split, batch, number if factor in (-1, k) else _COMMON, k) for k in range(len(FACTORS))
    )
    return kind.scene(kind.light(light), kind.geometry(geometry), kind.material(material))


def drawn_batch(config: SceneConfig, kind: Kind, seed: int, split: str, number: int) -> tuple[int, list[Drawn]]:
    """The factor of a batch, and its scenes with their cameras."""
    factor = -1 if split == "test" else int(_random(seed, split, number, _COMMON, 9).integers(len(FACTORS)))
    size = config.test_batch_size if split == "test" else config.batch_size
    out = []
    for scene in range(size):
        cameras = _random(seed, split, number, scene, _CAMERAS)
        drawn = [kind.camera(cameras) for _ in range(config.views_per_scene)]
        out.append((drawn_scene(kind, seed, split, number, scene, factor), drawn))
    return factor, out


def rendered_batch(
    tracer: SceneTracer, factor: int, scenes: Sequence[Drawn], size: int, spp: int, seed: int, passes: Sequence[str]
) -> Batch:
    """The views of a batch's scenes; the noise of each scene is its own."""
    views = [
        render_views(tracer, scene, cameras, size, spp, (seed * 8191 + k) % 2**31, passes)
        for k, (scene, cameras) in enumerate(scenes)
    ]
    buffers = {name: np.stack([one[name] for one in views]) for name in passes}
    return Batch(buffers, np.stack([pose_numbers(cameras) for _, cameras in scenes]), factor)


def generate(
    config: SceneConfig,
    folder: Path,
    counts: dict[str, int],
    size: int,
    seed: int,
    scene_files: str,
    done: Callable[[], None] = lambda: None,
) -> int:
    """Write the batches that ``folder`` lacks: ``train/``, ``test/`` and their scenes in ``scenes/``.

    Args:
        counts: batches per split; size: of the pictures; scene_files: ``test``, ``all`` or ``none``.
        done: called after every batch, whether it was there or not.

    Returns:
        How many were rendered.
    """
    kind, tracer, rendered = kind_of(config), None, 0
    for split, count in counts.items():
        for number in range(count):
            path = folder / split / f"{batch_name(number)}.npz"
            if not path.exists():
                tracer = tracer or SceneTracer()
                factor, scenes = drawn_batch(config, kind, seed, split, number)
                if scene_files == "all" or scene_files == split:
                    write_batch_scenes(folder / "scenes" / split / batch_name(number), factor, scenes)
                noise = int(_random(seed, split, number, _COMMON, 10).integers(2**31))
                spp = config.samples_per_pixel
                write_batch(path, rendered_batch(tracer, factor, scenes, size, spp, noise, config.stored))
                rendered += 1
            done()
    return rendered


def _random(seed: int, split: str, batch: int, scene: int, part: int) -> np.random.Generator:
    return np.random.default_rng([seed, _SPLITS.index(split), batch, scene, part])
