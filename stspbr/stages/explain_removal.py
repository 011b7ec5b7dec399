"""Explain what photographs are worth: how the maps would change without them, and how unsure they would become."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from stspbr.errors import StspbrError
from stspbr.files import safe_name
from stspbr.formats.images import write_exr, write_png8
from stspbr.metrics.relighting import frame_labels
from stspbr.optimize.confidence import std_maps
from stspbr.optimize.next_photos import texel_areas
from stspbr.optimize.posterior import CHANNELS, PRIOR_STD
from stspbr.optimize.reconstruction import Reconstruction
from stspbr.optimize.removal import information_without, without_views
from stspbr.scene import Normalization
from stspbr.stages.baked_problem import Baked, first_maps, reopened
from stspbr.stages.confidence_files import EXR_NAMES, Confidence
from stspbr.stages.explain_pictures import around, enlarged, heat_map, pull_map, sheet, view_image
from stspbr.stages.explain_targets import Question, Target, find_target, view_numbers
from stspbr.stages.session import Session
from stspbr.stages.state import save_json

MUCH = 0.02
"""Change of a value above which a texel counts as changed: what an eye sees in a render, about."""
RESTS = 1.5
"""Factor of its std from which a texel counts as resting on the views that are left out."""
_SHOWN = 10  # photographs that get a picture
_TILE = 160  # pixels of a tile of the sheet


@dataclass
class Removal:
    """What some photographs are worth to some texels.

    Attributes:
        views: their names; what: the texels in words; left: number of views that remain.
        channels: by channel ``mean`` and ``most`` of the predicted change's size, ``changed``, the share of the area
            that changes by more than ``MUCH``, ``shift``, the signed mean, ``std`` and ``std_without``, medians, and
            ``rests``, the share of the area whose std would rise to ``RESTS`` times or more.
        channel: the one that the pictures show; place: where it changes most: ``texel`` (u, v), ``point``, ``change``,
            ``value`` and ``material``; None: nowhere.
        photos: views that see most of the change: ``name``, ``view`` (its number), ``seen`` (sum over its pixels).
        folder: of the pictures; change: ``[H, W, 5]`` per material, what is predicted for each texel.
    """

    views: list[str]
    what: str
    left: int
    channels: dict[str, dict[str, float]]
    channel: str
    place: dict[str, Any] | None = None
    photos: list[dict[str, Any]] = field(default_factory=list)
    folder: Path | None = None
    change: list[Tensor] = field(default_factory=list, repr=False)

    def as_json(self) -> dict[str, Any]:
        """All figures as plain values."""
        plain = {key: value for key, value in vars(self).items() if key not in ("folder", "change")}
        return plain | {"folder": None if self.folder is None else str(self.folder)}

    def lines(self) -> list[str]:
        """The answer in words."""
        out = [f"{self.what} without {_listed(self.views)}, from the other {self.left} views (predicted):"]
        for name, own in self.channels.items():
            out.append(
                f"  {name} would change by {own['mean']:.4f} on the mean and {own['most']:.3f} at most, "
                f"by more than {MUCH} on {_percent(own['changed'])} of the area"
            )
        if self.place is not None:
            u, v = self.place["texel"]
            x, y, z = self.place["point"]
            out.append(
                f"its {self.channel} changes most at u,v {u:.4f},{v:.4f} (x,y,z {x:.3g},{y:.3g},{z:.3g}): "
                f"{self.place['value']:.3f} would become {self.place['value'] + self.place['change']:.3f}"
            )
        resting = {name: own["rests"] for name, own in self.channels.items() if own["rests"] >= 0.005}
        if resting:
            parts = ", ".join(f"the {name} of {_percent(share)}" for name, share in resting.items())
            whose = "them" if len(self.views) > 1 else "it"
            out.append(f"on {whose} rest {parts} of the area: the std there would be {RESTS} times as large or more")
        else:
            out.append("nothing rests on them alone" if len(self.views) > 1 else "nothing rests on it alone")
        return out


def explain_removal(
    session: Session, names: Sequence[str], question: Question, channel: str, out: Path | None = None
) -> Removal:
    """Predict what the newest bake, or its refinement, would be without some views; write pictures and figures.

    Changes are those of ``optimize.removal``; the stds without the views are exact within the formula of the
    confidence. Shape, normals and light are held.

    Args:
        names: of training views; question: the texels that are asked about; nothing in it: all.
        channel: that the pictures show.
        out: the folder; default ``RUN/explain/without-<views>-<channel>``.

    Raises:
        StspbrError: no such channel or view, no view left, a run without bake, or a question about nothing.
    """
    if channel not in CHANNELS:
        raise StspbrError(f"--channel {channel}: choose from {', '.join(CHANNELS)}")
    artifact = session.asset()
    session.capture_of(artifact)  # which a texture from a text lacks
    baked, problem = reopened(session, artifact)
    frames = baked.normalization.capture(baked.capture).split("train")
    numbers = view_numbers(names, frames, "without")
    labels = frame_labels(frames)
    if len(numbers) == len(labels):
        raise StspbrError(f"--without names all {len(labels)} training views: leave at least one")
    known = Confidence.of_finished(problem, artifact)
    target = _target(question, baked, problem, known)
    change = without_views(problem, known.evidence, first_maps(session, artifact, baked), numbers)
    std = [std_maps(own) for own in information_without(known.evidence, known.information, numbers)]
    found = _Surface.of(problem, known, target, change, std)
    answer = Removal(
        views=[labels[k] for k in numbers],
        what=target.words,
        left=len(labels) - len(numbers),
        channels={name: found.figures(own) for name, own in CHANNELS.items()},
        channel=channel,
        place=found.most(CHANNELS[channel], baked.normalization, [own.name for own in baked.asset.materials]),
        change=change,
    )
    label = safe_name(f"without-{'-'.join(answer.views[:3])}-{target.label}-{channel}", set())
    answer.folder = out or session.run / "explain" / label
    _write(answer, problem, known, target, change, std, labels)
    return answer


def _target(question: Question, baked: Baked, problem: Reconstruction, known: Confidence) -> Target:
    if any(getattr(question, name) is not None for name in ("texel", "point", "region", "pixel", "material")):
        return find_target(question, baked, problem, known.texels)
    masks = [
        torch.zeros(std.shape[:2], dtype=torch.bool, device=std.device) if own is None else own.mask
        for own, std in zip(known.texels, known.std, strict=True)
    ]
    return Target(masks, "the whole surface", "all")


@dataclass
class _Surface:
    """T texels that are asked about, of all materials.

    Attributes:
        change, std, std_without, value: ``[T, 5]`` float64; area: ``[T]``, of which the sum is 1.
        uv: ``[T, 2]``; point: ``[T, 3]``, normalised; material: ``[T]``, their numbers.
    """

    change: np.ndarray
    std: np.ndarray
    std_without: np.ndarray
    value: np.ndarray
    area: np.ndarray
    uv: np.ndarray
    point: np.ndarray
    material: np.ndarray

    @classmethod
    def of(
        cls, problem: Reconstruction, known: Confidence, target: Target, change: list[Tensor], std: list[Tensor]
    ) -> _Surface:
        surface, parts = problem.geometry.surface(), []
        maps = problem.appearance.materials  # type: ignore[attr-defined]
        for number, texels in enumerate(known.texels):
            if texels is None:
                continue
            keep = target.chosen[number].reshape(-1)[texels.texel]
            rows = [own[number].reshape(-1, 5)[texels.texel] for own in (change, known.std, std)]
            height, width = texels.resolution
            row, column = torch.div(texels.texel, width, rounding_mode="floor"), texels.texel % width
            uv = torch.stack([(column + 0.5) / width, (row + 0.5) / height], dim=1)
            own = torch.cat([maps[number].albedo[0], maps[number].reflectance[0, ..., :2]], dim=-1).detach()
            value = own[row * own.shape[0] // height, column * own.shape[1] // width]
            area = texel_areas(problem, texels)
            point = texels.interpolate(surface.positions.detach(), surface.faces)
            which = torch.full_like(texels.texel, number)
            parts.append([own[keep] for own in (*rows, value, area, uv, point, which)])
        columns = (torch.cat(list(own)).double().cpu().numpy() for own in zip(*parts, strict=True))
        found = cls(*columns)
        found.area /= max(found.area.sum(), 1e-20)
        return found

    def figures(self, parameters: Sequence[int]) -> dict[str, float]:
        own = list(parameters)
        size = np.abs(self.change[:, own]).mean(axis=1)
        before, after = self.std[:, own].mean(axis=1), self.std_without[:, own].mean(axis=1)
        return {
            "mean": float(self.area @ size),
            "most": float(size.max()),
            "changed": float(self.area[size > MUCH].sum()),
            "shift": float(self.area @ self.change[:, own].mean(axis=1)),
            "std": float(np.median(before)),
            "std_without": float(np.median(after)),
            "rests": float(self.area[after >= RESTS * before].sum()),
        }

    def most(self, parameters: Sequence[int], normalization: Normalization, names: list[str]) -> dict[str, Any] | None:
        own = list(parameters)
        size = np.abs(self.change[:, own]).mean(axis=1)
        place = int(size.argmax())
        if size[place] == 0:
            return None
        return {
            "texel": [round(float(value), 5) for value in self.uv[place]],
            "point": (self.point[place] * normalization.scale + normalization.centre).tolist(),
            "change": float(self.change[place, own].mean()),
            "value": float(self.value[place, own].mean()),
            "material": names[int(self.material[place])],
        }


def _write(
    answer: Removal,
    problem: Reconstruction,
    known: Confidence,
    target: Target,
    change: list[Tensor],
    std: list[Tensor],
    labels: list[str],
) -> None:
    """The change as numbers, over each material's maps, over the photographs that see most of it, and the figures."""
    folder, own, evidence = answer.folder, list(CHANNELS[answer.channel]), known.evidence
    assert folder is not None
    folder.mkdir(parents=True, exist_ok=True)
    signed = [
        torch.where(mask[..., None], values[..., own].mean(-1, keepdim=True), 0.0)
        for mask, values in zip(target.chosen, change, strict=True)
    ]
    seen = evidence.reads.lookup(signed)[:, 0]
    top = max(float(seen.abs().max()), 1e-9)
    for number, (values, mask) in enumerate(zip(signed, target.chosen, strict=True)):
        if known.texels[number] is None:
            continue
        mark = f"{number}_" if len(signed) > 1 else ""
        write_exr(folder / f"{mark}change.exr", change[number].cpu().numpy(), channels=EXR_NAMES)
        ground = _ground(problem, number, mask)
        write_png8(folder / f"{mark}change.png", pull_map(ground, values[..., 0].cpu().numpy(), top), srgb=False)
        grown = (std[number] - known.std[number])[..., own].mean(-1) / PRIOR_STD[own[0]]
        lost = torch.where(mask, grown, 0.0).clamp(min=0.0)
        write_png8(folder / f"{mark}lost.png", heat_map(ground, lost.cpu().numpy(), 1.0), srgb=False)
    weights = (seen.abs() * evidence.stands[:, 0]).double()
    amount = torch.bincount(evidence.seen.view, weights, len(labels))
    tiles: list[np.ndarray] = []
    for number in amount.argsort(descending=True, stable=True)[:_SHOWN].tolist():
        if float(amount[number]) == 0.0:
            break
        answer.photos.append({"name": labels[number], "view": number, "seen": float(amount[number])})
        photo = problem.views.samples(number)[1].image[0].cpu().numpy()
        shown = view_image(seen, evidence, number, photo.shape[:2])
        picture = pull_map(photo, shown, top)
        write_png8(folder / f"{labels[number]}_change.png", enlarged(picture), srgb=False)
        row, column = np.unravel_index(int(np.abs(shown).argmax()), shown.shape)
        tiles.append(enlarged(around(picture, float(row), float(column)), _TILE))
    if tiles:
        write_png8(folder / "changed.png", sheet(tiles), srgb=False)
    save_json(answer.as_json(), folder / "explanation.json")


def _ground(problem: Reconstruction, number: int, mask: Tensor) -> np.ndarray:
    """``[H, W, 3]``: a material's albedo at the size of ``mask [H, W]``, linear."""
    albedo = problem.appearance.materials[number].albedo.detach().permute(0, 3, 1, 2)  # type: ignore[attr-defined]
    return (
        torch.nn.functional.adaptive_avg_pool2d(albedo, (mask.shape[0], mask.shape[1]))[0]
        .permute(1, 2, 0)
        .cpu()
        .numpy()
    )


def _listed(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def _percent(share: float) -> str:
    return f"{100 * share:.0f} %" if share >= 0.1 else f"{100 * share:.1f} %"
