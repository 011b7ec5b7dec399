"""Scenes evaluate: the figures of a model on held-out scenes; nothing is chosen on them."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch

from stspbr.neural.model import SceneModel, Views, averaged
from stspbr.neural.partitions import FACTORS
from stspbr.optimize.attribution import completeness, of_picture, pixels
from stspbr.optimize.scene_figures import held_out, probe_score, swap_efficiency
from stspbr.render.scene_tracer import SceneTracer
from stspbr.scenes.description import Scene, composed
from stspbr.stages.scenes_source import Source
from stspbr.stages.scenes_train import data_of
from stspbr.stages.session import Session
from stspbr.stages.state import save_json

_BLANKED = 0.1  # of the observations' pixels
_STEPS = 32  # of integrated gradients
_OUT_OF_SIGHT = -1.0  # height below which an object waits that is not in the room
_EDGE = (0.2, 0.8)  # share of the light that a pixel at a shadow's edge sees
_LIT_PIXELS = 48  # whose partition shares are compared with those at edges


@dataclass
class Figures:
    """What was measured; None where the data cannot tell.

    Attributes:
        held_out: see ``scene_figures.held_out``.
        swap: efficiency by factor, and the three errors it is made of.
        probe: R² of a linear probe of a factor's parameters, from its own partition and from the others'.
        blanking: change of the chosen pixel, the top tenth blanked ÷ a random tenth.
        random_weights: correlation of maps with those of an untrained model.
        shadow_edge: light's share at shadow edges ÷ that of the median pixel.
        completeness: median relative error of integrated gradients.
    """

    held_out: dict[str, float]
    widths: dict[str, float]
    swap: dict[str, dict[str, float | None]]
    probe: dict[str, dict[str, float]]
    blanking: float
    random_weights: float
    shadow_edge: float | None
    completeness: float

    def as_json(self) -> dict[str, Any]:
        """All figures as plain values."""
        return asdict(self)

    def lines(self) -> list[str]:
        """For people."""
        found = self.held_out
        out = [
            f"held-out PSNR {found['psnr']:.2f} dB (the mean picture {found['psnr_of_mean']:.2f} dB)",
            "widths " + ", ".join(f"{name} {share:.2f}" for name, share in self.widths.items()),
        ]
        for name, one in self.swap.items():
            efficiency = one["efficiency"]
            worth = "undefined, observing it brings nothing" if efficiency is None else f"{efficiency:.2f}"
            out.append(
                f"swap of {name}: efficiency {worth} (errors {one['before']:.4f} before, "
                f"{one['swapped']:.4f} swapped, {one['true']:.4f} when observed)"
            )
        for name, known in self.probe.items():
            out.append(
                f"probe of {name}: R² {known['own']:.2f} from its own partition, {known['other']:.2f} from others'"
            )
        edge = "no shadows in the data" if self.shadow_edge is None else f"{self.shadow_edge:.2f}×"
        return [
            *out,
            f"blanking the top tenth of the pixels changes {self.blanking:.1f} times as much as a random tenth",
            f"maps of an untrained model correlate by {self.random_weights:.2f}",
            f"light's share at shadow edges ÷ at the median pixel: {edge}",
            f"completeness of integrated gradients: off by {100 * self.completeness:.2f} %",
        ]


def evaluate_scenes(session: Session, scenes: int = 24, spp: int = 64) -> Figures:
    """Measure the newest model; also written as ``RUN/scenes-figures.json``.

    Args:
        scenes: test scenes for swaps and attributions; spp: paths per pixel of composed scenes.

    Raises:
        StspbrError: there is no model, no test scene, or no description of them.
    """
    source = Source.open(session)
    count = min(scenes, source.count)
    train = data_of(source.config, "train", source.folder)
    shares = source.model.every_partition[0].shares().tolist()
    figures = Figures(
        held_out(source.model, source.batches, train),
        dict(zip((*FACTORS, "empty"), shares, strict=False)),
        swaps(source, count, spp),
        probes(source),
        *attributions(source, count, session.seed),
    )
    save_json(figures.as_json() | {"model": source.artifact.version}, session.run / "scenes-figures.json")
    return figures


@torch.no_grad()
def swaps(source: Source, count: int, spp: int) -> dict[str, dict[str, float | None]]:
    """Swap efficiency per factor over pairs of test scenes k and k + 1."""
    tracer = SceneTracer()
    out: dict[str, dict[str, float | None]] = {}
    for factor, name in enumerate(FACTORS):
        errors = np.zeros(3)
        for k in range(count):
            base, other = source.scene(k), source.scene((k + 1) % source.count)
            parts = [other[0] if factor == one else base[0] for one in range(len(FACTORS))]
            whole = composed(*parts)
            views = source.rendered(tracer, whole, base[1], spp, 7_000 + k)
            query = views.chosen(slice(-1, None))
            own, foreign = (source.vectors(source.views(n)) for n in (k, (k + 1) % source.count))
            mixed = source.swap([foreign if factor == one else own for one in range(len(FACTORS))])
            truth = torch.log1p(averaged(query.buffers["beauty"][:, 0], source.model.output_side))
            for place, vectors in enumerate((own, mixed, source.vectors(views))):
                errors[place] += float((source.model.picture(vectors, query) - truth).square().mean()) / count
        out[name] = {
            "efficiency": swap_efficiency(*errors.tolist()),
            "before": float(errors[0]),
            "swapped": float(errors[1]),
            "true": float(errors[2]),
        }
    return out


@torch.no_grad()
def probes(source: Source) -> dict[str, dict[str, float]]:
    """What a linear probe reads of each factor's parameters; three quarters of the test scenes fit it."""
    features = torch.cat([source.vectors(source.views(k))[0].flatten(1) for k in range(source.count)]).cpu().numpy()
    described = [source.scene(k)[0] for k in range(source.count)]
    ranges = source.model.every_partition[0].ranges()[: len(FACTORS)]
    cut = int(0.75 * source.count)
    out = {}
    for factor, name in enumerate(FACTORS):
        targets, known = (np.stack(rows) for rows in zip(*(parameters(one, factor) for one in described), strict=True))
        train, test = range(cut), range(cut, source.count)
        scores = [
            probe_score(features[:, first:end], targets, train, test, known) if end > first else 0.0
            for first, end in ranges
        ]
        out[name] = {"own": scores[factor], "other": max(s for k, s in enumerate(scores) if k != factor)}
    return out


def parameters(scene: Scene, factor: int) -> tuple[np.ndarray, np.ndarray]:
    """The numbers that say what a factor is: lights' places and emission, shapes' places, materials.

    Returns:
        The numbers, and which of them a picture can tell: an object that is not in the room has no place and no colour.
    """
    if factor == 0:
        values = np.concatenate([[*light.position, *light.emission] for light in scene.lights])
        return values, np.ones(len(values), dtype=bool)
    places = [np.array(shape.transform)[3, :3] for shape in scene.geometry]
    here = [bool(place[1] > _OUT_OF_SIGHT) for place in places]
    if factor == 1:
        values = np.concatenate([[x, z, float(seen)] for (x, _, z), seen in zip(places, here, strict=True)])
        return values, np.concatenate([[seen, seen, True] for seen in here])
    seen_of = {name: False for name in scene.materials}
    for shape, seen in zip(scene.geometry, here, strict=True):
        seen_of[shape.material] |= seen
    values = np.concatenate([[*material.color, material.roughness] for material in scene.materials.values()])
    return values, np.repeat(list(seen_of.values()), 4)


def attributions(source: Source, count: int, seed: int) -> tuple[float, float, float | None, float]:
    """Blanking, random weights, shadow edges and completeness, over the first test scenes."""
    model, random = source.model, np.random.default_rng([seed, 22])
    untrained = SceneModel(source.config, torch.Generator().manual_seed(seed + 1)).to(source.device).eval()
    top, chance, correlations, errors, ratios = 0.0, 0.0, [], [], []
    for k in range(count):
        views = source.views(k)
        observations, query = views.chosen(slice(0, -1)), views.chosen(slice(-1, None))
        x, y = (int(v) for v in random.integers(0, model.output_side, 2))
        outputs = pixels(model.output_side, x, y)
        found = of_picture(model, observations, query, outputs).maps
        other = of_picture(untrained, observations, query, outputs).maps
        correlations.append(_correlation(found, other))
        ranked = found.flatten().argsort(descending=True)
        blanked = int(_BLANKED * ranked.numel())
        drawn = torch.from_numpy(random.permutation(ranked.numel())[:blanked]).to(ranked.device)
        before = _value(model, observations, query, outputs)
        top += abs(_value(model, _blank(observations, ranked[:blanked]), query, outputs) - before)
        chance += abs(_value(model, _blank(observations, drawn), query, outputs) - before)
        errors.append(completeness(of_picture(model, observations, query, outputs, steps=_STEPS)))
        ratio = _edge_ratio(source, observations, query, random)
        ratios += [] if ratio is None else [ratio]
    return (
        top / max(chance, 1e-12),
        float(np.mean(correlations)),
        float(np.mean(ratios)) if ratios else None,
        float(np.median(errors)),
    )


def _edge_ratio(source: Source, observations: Views, query: Views, random: np.random.Generator) -> float | None:
    """Light's share of the vector's attribution at shadow edges ÷ that at the median pixel."""
    if "shadows" not in query.buffers:
        return None
    model = source.model
    seen = averaged(query.buffers["shadows"][0, 0, 0], model.output_side).flatten().cpu().numpy()
    edges = np.flatnonzero((seen > _EDGE[0]) & (seen < _EDGE[1]))
    if len(edges) < 4:
        return None
    edges = random.permutation(edges)[:_LIT_PIXELS]
    others = random.permutation(len(seen))[:_LIT_PIXELS]
    with torch.no_grad():
        vectors = model.represent(observations)
    leaf = vectors[0].detach().requires_grad_()
    picture = model.picture([leaf, *vectors[1:]], query)[0].mean(dim=0).flatten()
    chosen = picture[torch.from_numpy(np.concatenate([edges, others])).to(picture.device)]
    directions = torch.eye(len(chosen), device=chosen.device)
    (slopes,) = torch.autograd.grad(chosen, [leaf], directions, is_grads_batched=True)
    size = (slopes * leaf.detach()).abs().flatten(3).sum(dim=3)[:, 0]
    first, end = model.every_partition[0].ranges()[0]
    share = (size[:, first:end].sum(dim=1) / size.sum(dim=1).clamp(min=1e-30)).cpu().numpy()
    return float(share[: len(edges)].mean() / max(np.median(share[len(edges) :]), 1e-12))


@torch.no_grad()
def _value(model: SceneModel, observations: Views, query: Views, outputs: Any) -> float:
    return float(outputs(model.picture(model.represent(observations), query)[0]).mean())


def _blank(observations: Views, chosen: torch.Tensor) -> Views:
    """The observations with some of their pixels, counted through all of them, at 0 in every buffer."""
    buffers = {}
    for name, values in observations.buffers.items():
        _, views, _, side, _ = values.shape
        keep = torch.ones(views * side * side, device=values.device)
        keep[chosen] = 0.0
        buffers[name] = values * keep.reshape(1, views, 1, side, side)
    return Views(buffers, observations.poses)


def _correlation(a: torch.Tensor, b: torch.Tensor) -> float:
    x, y = (one.flatten().double() - one.double().mean() for one in (a, b))
    return float((x * y).sum() / (x.norm() * y.norm()).clamp(min=1e-30))
