"""A trained scene model, its test scenes, and their descriptions: what render, attribute, evaluate and view read."""

from __future__ import annotations

import functools
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from stspbr.artifacts import Artifact
from stspbr.errors import StspbrError
from stspbr.neural.model import SceneModel, Views
from stspbr.neural.partitions import FACTORS, swapped
from stspbr.scenes.data import Batches, batch_name
from stspbr.scenes.description import Scene, SceneCamera, read_scene
from stspbr.scenes.tracing import pose_numbers, render_views
from stspbr.settings import SceneConfig
from stspbr.stages.scenes_train import load_model, model_artifact
from stspbr.stages.session import Session


@dataclass
class Source:
    """What the commands after training start from.

    Attributes:
        folder: of the data set; None: that of the configuration.
    """

    model: SceneModel
    artifact: Artifact
    folder: Path | None
    device: torch.device
    _batches: Batches | None = field(default=None, repr=False)

    @classmethod
    def open(cls, session: Session) -> Source:
        """The newest model of a run, or the one that ``--from`` names."""
        artifact = model_artifact(session)
        folder = session.parent_of(artifact, "scenes").path if "scenes" in artifact.parents else None
        return cls(load_model(artifact, session.device), artifact, folder, session.device)

    @property
    def config(self) -> SceneConfig:
        """The model's configuration."""
        return self.model.config

    @property
    def batches(self) -> Batches:
        """The test batches, with the buffer ``shadows`` if they hold it."""
        if self._batches is None:
            place = Path(self.config.test_data_dir) if self.folder is None else self.folder / "test"
            wanted = [*self.config.passes, *(["beauty"] if "beauty" not in self.config.passes else [])]
            found = Batches(place, wanted)
            with np.load(found.paths[0]) as stored:
                if "shadows" in stored.files and "shadows" not in wanted:
                    found = Batches(place, [*wanted, "shadows"])
            self._batches = found
        return self._batches

    @functools.cached_property
    def _starts(self) -> list[int]:
        return np.cumsum([0, *(len(self.batches[k].poses) for k in range(len(self.batches)))]).tolist()

    @property
    def count(self) -> int:
        """Number of test scenes."""
        return self._starts[-1]

    def views(self, number: int) -> Views:
        """All views of one test scene, as a batch of one.

        Raises:
            StspbrError: there is no such scene.
        """
        batch, own = self._place(number)
        return self.batches[batch].views(self.device).scenes([own])

    def scene(self, number: int) -> tuple[Scene, list[SceneCamera]]:
        """The description of a test scene.

        Raises:
            StspbrError: there is no such scene, or the data set holds no descriptions.
        """
        batch, own = self._place(number)
        place = self.batches.paths[batch].parent.parent / "scenes" / "test" / batch_name(batch) / f"scene{own:04d}"
        if not place.is_dir():
            raise StspbrError(f"{place}: the scene's JSON is not there: generate with --scene-files test")
        return read_scene(place)

    def _place(self, number: int) -> tuple[int, int]:
        if not 0 <= number < self.count:
            raise StspbrError(f"scene {number}: there are {self.count} test scenes, counted from 0")
        batch = int(np.searchsorted(self._starts, number, side="right")) - 1
        return batch, number - self._starts[batch]

    def rendered(
        self, tracer: object, scene: Scene, cameras: Sequence[SceneCamera], spp: int, seed: int,
        passes: Collection[str] | None = None,
    ) -> Views:  # fmt: skip
        """Views of a scene that is path-traced now, as a batch of one."""
        wanted = self.config.stored if passes is None else passes
        found = render_views(tracer, scene, cameras, self.side, spp, seed, wanted)  # type: ignore[arg-type]
        buffers = {name: torch.from_numpy(values)[None].to(self.device) for name, values in found.items()}
        return Views(buffers, torch.from_numpy(pose_numbers(cameras))[None].to(self.device))

    @property
    def side(self) -> int:
        """Side of the stored pictures."""
        return int(next(iter(self.batches[0].buffers.values())).shape[-1])

    @torch.no_grad()
    def vectors(self, views: Views) -> list[Tensor]:
        """The vectors of a scene's observations: all its views but the last."""
        return self.model.represent(views.chosen(slice(0, -1)))

    def swap(self, vectors: Sequence[Sequence[Tensor]]) -> list[Tensor]:
        """The vectors with light, geometry and material of three scenes, by encoder."""
        out = []
        for number, part in enumerate(self.model.every_partition):
            out.append(swapped([one[number] for one in vectors], part.ranges()))
        return out


def check_factor(name: str) -> int:
    """The number of a partition by its name."""
    if name not in FACTORS:
        raise StspbrError(f"--partition {name}: choose {', '.join(FACTORS)}")
    return FACTORS.index(name)
