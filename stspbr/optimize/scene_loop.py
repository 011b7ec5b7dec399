"""Training of a scene model: stored batches in random order, each view once the query, rooms turned and mirrored."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from stspbr.colour import linear_to_srgb
from stspbr.neural.model import SceneModel, Views
from stspbr.neural.partitions import FACTORS
from stspbr.optimize.distributed import Ranks
from stspbr.optimize.loop import Stopwatch
from stspbr.optimize.routing import Term, scaled
from stspbr.scenes.data import Batches
from stspbr.scenes.rooms import OBJECTS
from stspbr.scenes.symmetry import COUNT, moved
from stspbr.settings import SceneTrainSettings

_GROUPS = frozenset({"network", "widths"})
_SHOWN = 4  # scenes of a preview
_WALLS = 6  # numbers of the buffer ``id`` before those of the objects


class SceneTraining:
    """The problem of ``optimize.loop`` whose parameters are a scene model's.

    Everything random, the batch, its views, its symmetry and latents, follows from the seed and the step.

    Args:
        train, test: batches; the test batches only for previews.
    """

    share, visited = 1.0, ()

    def __init__(
        self,
        model: SceneModel,
        train: Batches,
        test: Batches | None,
        settings: SceneTrainSettings,
        seed: int,
        device: torch.device,
        ranks: Ranks | None = None,
    ) -> None:
        self.model, self.train, self.test = model.to(device), train, test
        self.settings, self.seed, self.device = settings, seed, device
        self.ranks = ranks or Ranks()
        config = settings.config
        self._symmetries = COUNT if config.augment and config.dataset != "archviz" else 1
        self._materials = _WALLS + min(config.objects, len(OBJECTS))

    def groups(self) -> dict[str, list[Tensor]]:
        """The networks' weights, and the partitions' widths."""
        networks: list[Tensor] = [*self.model.encoders.parameters(), *self.model.generators.parameters()]
        widths: list[Tensor] = [*self.model.partitions.parameters()]
        return {"network": networks, "widths": widths}

    def maps(self) -> list[Tensor]:
        """None: no parameter is a texel."""
        return []

    def terms(self, step: int, progress: float, watch: Stopwatch) -> list[Term]:
        """The losses of this process's batches of a step."""
        count, terms = self.settings.batches, []
        own = self.ranks.part(range(count))
        for number in own:
            with watch.part("data"):
                views, factor = self.batch(step, number)
            with watch.part("network"):
                samples = torch.Generator().manual_seed(_number(self.seed, step, number, 1))
                losses = self.model.losses(views, factor, step, samples)
            terms += [Term(name, value, _GROUPS) for name, value in losses.parts.items()]
        out = scaled(_summed(terms), 1.0 / count)
        with torch.no_grad():
            shares = {
                name: share * (len(own) / count)
                for name, share in zip((*FACTORS, "empty"), self.model.every_partition[0].shares(), strict=False)
            }
        out.append(Term("widths", torch.zeros((), device=self.device), _GROUPS, shares))
        self.model.trained.fill_(step + 1)
        return out

    def batch(self, step: int, number: int) -> tuple[Views, int]:
        """The views of a step's batch, the last of which is the query, and what the batch varies."""
        random = np.random.default_rng([self.seed, step, number])
        stored = self.train[int(random.integers(len(self.train)))]
        views = stored.views(self.device)
        order = random.permutation(views.poses.shape[1])
        if self.settings.config.random_num_views:
            order = order[-int(random.integers(2, len(order) + 1)) :]
        symmetry = int(random.integers(self._symmetries))
        return moved(views.chosen(order.tolist()), symmetry, self._materials), stored.factor

    def constrain(self) -> None:
        """Nothing has a range."""

    def preview(self) -> dict[str, Any]:
        """Test scenes: the observations, the prediction, and the truth."""
        batches = self.test or self.train
        views = batches[0].views(self.device).scenes(slice(0, _SHOWN))
        return {"scenes": prediction_rows(self.model, views)}

    def state(self) -> dict[str, dict[str, Tensor]]:
        """Weights, widths, and the number of steps."""
        return {"model": self.model.state_dict()}

    def load_state(self, state: dict[str, dict[str, Tensor]]) -> None:
        """The inverse of ``state``."""
        self.model.load_state_dict(state["model"])


@torch.no_grad()
def prediction_rows(model: SceneModel, views: Views) -> np.ndarray:
    """``[rows, columns, 3]`` for display: per scene its observations, the prediction of the last view, its truth."""
    picture = model.picture(model.represent(views.chosen(slice(0, -1))), views.chosen(slice(-1, None)))
    side = picture.shape[-1]
    made = torch.expm1(picture)[:, None]
    shown = torch.cat([_at(views.buffers["beauty"][:, :-1], side), made, _at(views.buffers["beauty"][:, -1:], side)], 1)
    values = shown.permute(0, 3, 1, 4, 2).reshape(len(shown) * side, -1, 3)
    return linear_to_srgb(values.clamp(0.0, 1.0).cpu().numpy())


def _at(pictures: Tensor, side: int) -> Tensor:
    """Pictures of another size, for the eye."""
    if pictures.shape[-1] == side:
        return pictures
    flat = torch.nn.functional.interpolate(pictures.flatten(0, 1), size=(side, side), mode="area")
    return flat.unflatten(0, pictures.shape[:2])


def _summed(terms: list[Term]) -> list[Term]:
    """One term per name."""
    names = dict.fromkeys(term.name for term in terms)
    return [
        Term(name, torch.stack([term.value for term in terms if term.name == name]).sum(), _GROUPS) for name in names
    ]


def _number(*parts: int) -> int:
    return int(np.random.SeedSequence(parts).generate_state(1, np.uint64)[0] >> 1)
