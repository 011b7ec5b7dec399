"""Training one net of the small prior, as a problem of the one loop.

The net predicts the picture; its error is that of v (Salimans and Ho 2022), under noise of any level, with the weight
min(1 + SNR, 5) / (1 + SNR): that of min-SNR (Hang et al. 2023), but high noise, where distillation works, counts.
"""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from stspbr.files import atomic_path
from stspbr.optimize.loop import Stopwatch
from stspbr.optimize.routing import Term
from stspbr.optimize.views import step_generator
from stspbr.priors.nets import Mixer
from stspbr.priors.pictures import CHUNK, Pictures, Studio
from stspbr.priors.protocol import squared_cosine
from stspbr.priors.small import LEVELS, MAX_LOW_LEVEL, Plan, enlarged, noised, planar
from stspbr.render.display import area_filtered

BATCH, CROP = 16, 32
EMA = 0.995
DROPPED = 0.1
"""Share of pictures whose text is left out, so that guidance has something to lead away from."""
_MOST_WEIGHT = 5.0
_BACKGROUND = 0.1  # weight of pixels off the object


class PriorTraining:
    """One net and the pictures that it is trained on.

    Args:
        pool: chunks of pictures in memory; every ``refresh`` steps one is replaced by a new one.
        cache: folder of the pool's chunks, so that a resumed training need not render them again; None: none.
    """

    share, visited = 1.0, ()

    def __init__(
        self, plan: Plan, net: Mixer, studio: Studio, seed: int, pool: int, refresh: int, cache: Path | None = None
    ) -> None:
        self.plan, self.net, self.studio, self.seed = plan, net, studio, seed
        self.average = copy.deepcopy(net).eval().requires_grad_(False)
        self.alphas_bar = squared_cosine(LEVELS).to(studio.device)
        self._size, self._refresh, self._cache = pool, refresh, cache
        self._pool: dict[int, tuple[int, Pictures]] = {}

    def groups(self) -> dict[str, list[Tensor]]:
        return {"joint": list(self.net.parameters())}

    def maps(self) -> list[Tensor]:
        return []

    def terms(self, step: int, progress: float, watch: Stopwatch) -> list[Term]:
        with watch.part("pictures"):
            self._fill(step)
        generator = step_generator(step, self.seed, self.studio.device)
        with watch.part("net"):
            own = self._drawn(generator)
            kept = torch.rand(len(own.words), generator=generator, device=own.words.device) >= DROPPED
            own.words = own.words * kept[:, None, None]
            error, signal = self.error(self.net, own, generator)
            snr = signal / (1.0 - signal)
            weight = (1.0 + snr).clamp(max=_MOST_WEIGHT) / (1.0 + snr)
            value = (error * weight).mean()
        return [Term("v", value, frozenset({"joint"}))]

    def error(
        self, net: Mixer, own: Pictures, generator: torch.Generator, t: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Mean squared error of v of each picture ``[B]``, and ā ``[B]`` of its noise.

        Args:
            t: ``[B]`` int64 noise levels; None: drawn from all.
        """
        clean = planar(own.picture * 2.0 - 1.0)
        device = clean.device
        if t is None:
            t = torch.randint(LEVELS, (len(clean),), generator=generator, device=device)
        signal = self.alphas_bar.index_select(0, t)
        noise = torch.randn(clean.shape, generator=generator, device=device)
        keep, rest = (value[:, None, None, None] for value in (signal.sqrt(), (1.0 - signal).sqrt()))
        x_t = keep * clean + rest * noise
        low = level = None
        if self.plan.low:
            level = torch.randint(MAX_LOW_LEVEL, (len(clean),), generator=generator, device=device)
            small = enlarged(area_filtered(own.picture * 2.0 - 1.0, own.picture.shape[1] // 2), own.picture.shape[1])
            more = torch.randn(small.shape, generator=generator, device=device)
            low = planar(noised(small, self.alphas_bar.index_select(0, level)[:, None, None, None], more))
            level = level / LEVELS
        out = net(x_t, t / LEVELS, own.words, planar(own.geometry), planar(own.light), low, level)
        weight = _BACKGROUND + (1.0 - _BACKGROUND) * own.geometry[..., 3][:, None]
        v = (out - clean) / rest  # the error of v that belongs to one of the picture
        error = (v.square() * weight).sum(dim=(1, 2, 3)) / (3.0 * weight.sum(dim=(1, 2, 3)))
        return error, signal

    def constrain(self) -> None:
        with torch.no_grad():
            for mean, value in zip(self.average.parameters(), self.net.parameters(), strict=True):
                mean.lerp_(value, 1.0 - EMA)

    def preview(self) -> dict[str, Any]:
        """Pictures of the pool above what the net makes of them at three noise levels."""
        found = next(iter(self._pool.values()))[1]
        rows = [found.picture[::4]]
        generator = torch.Generator(device=rows[0].device).manual_seed(self.seed)
        for level in (400, 700, 950):
            rows.append(self.restored(self.average, found, level, generator)[::4])
        return {"restored": torch.cat([torch.cat(list(row), dim=1) for row in rows]).clamp(0.0, 1.0)}

    @torch.no_grad()
    def restored(self, net: Mixer, own: Pictures, level: int, generator: torch.Generator) -> Tensor:
        """``[N, H, W, 3]``: the pictures that ``net`` expects behind noise of ``level``."""
        clean = own.picture * 2.0 - 1.0
        x_t = noised(clean, self.alphas_bar[level], torch.randn(clean.shape, generator=generator, device=clean.device))
        t = torch.full((len(clean),), level / LEVELS, device=clean.device)
        low = None
        if self.plan.low:
            low = planar(enlarged(area_filtered(clean, clean.shape[1] // 2), clean.shape[1]))
        out = net(
            planar(x_t), t, own.words, planar(own.geometry), planar(own.light), low, None if low is None else 0 * t
        )
        return 0.5 * (out.permute(0, 2, 3, 1) + 1.0)

    def state(self) -> dict[str, dict[str, Tensor]]:
        return {"net": self.net.state_dict(), "average": self.average.state_dict()}

    def load_state(self, state: dict[str, dict[str, Tensor]]) -> None:
        self.net.load_state_dict(state["net"])
        self.average.load_state_dict(state["average"])

    def _fill(self, step: int) -> None:
        """Bring the pool to what it is at ``step``: of the chunks so far, the newest in each slot."""
        newest = self._size - 1 + step // self._refresh
        for number in range(newest - self._size + 1, newest + 1):
            slot = number % self._size
            if slot not in self._pool or self._pool[slot][0] != number:
                self._pool[slot] = number, self._chunk(number)

    def _chunk(self, number: int) -> Pictures:
        if self._cache is None:
            return self.studio.chunk(number, self.seed)
        path, key = self._cache / f"{number % self._size}.pt", [number, self.seed, self.plan.side]
        if path.is_file():
            stored = torch.load(path, map_location=self.studio.device, weights_only=True)
            if stored["key"] == key:
                return Pictures(*stored["values"])
        found = self.studio.chunk(number, self.seed)
        self._cache.mkdir(parents=True, exist_ok=True)
        with atomic_path(path) as temporary:
            torch.save({"key": key, "values": [found.picture, found.geometry, found.light, found.words]}, temporary)
        return found

    def _drawn(self, generator: torch.Generator) -> Pictures:
        """A batch of crops around the pictures' middle."""
        device = self.studio.device
        numbers = torch.randint(self._size * CHUNK, (BATCH,), generator=generator, device=device).tolist()
        room = self.studio.side - CROP
        places = torch.randint(room // 8, room - room // 8 + 1, (BATCH, 2), generator=generator, device=device).tolist()
        parts: list[list[Tensor]] = [[], [], [], []]
        for number, (top, left) in zip(numbers, places, strict=True):
            own, row = self._pool[number // CHUNK][1], number % CHUNK
            for part, values in zip(parts, (own.picture, own.geometry, own.light), strict=False):
                part.append(values[row, top : top + CROP, left : left + CROP])
            parts[3].append(own.words[row])
        return Pictures(*(torch.stack(part) for part in parts))
