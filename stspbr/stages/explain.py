"""Explain: which photographs decided what a texel is, how much the prior did, and from where one more would help."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from stspbr.errors import StspbrError
from stspbr.fields.material_values import METALLIC, ROUGHNESS
from stspbr.formats.images import write_png8
from stspbr.metrics.relighting import frame_labels
from stspbr.optimize.confidence import Evidence
from stspbr.optimize.influence import Influence, influence
from stspbr.optimize.next_photos import next_photos, sites
from stspbr.optimize.posterior import CHANNELS, PRIOR_STD
from stspbr.optimize.reconstruction import Reconstruction
from stspbr.stages.baked_problem import reopened
from stspbr.stages.confidence_files import Confidence, photo_record
from stspbr.stages.explain_pictures import around, enlarged, heat_map, pull_map, sheet, view_image
from stspbr.stages.explain_targets import Question, Target, find_target, folder_name
from stspbr.stages.session import Session
from stspbr.stages.state import save_json

SHOWN = 10
"""Views that are named."""
_TILE = 160  # pixels of a tile of the sheet
_FEW_PHOTOS = 3


@dataclass
class Explanation:
    """Where one channel of some texels comes from.

    Attributes:
        what: the texels in words; channel: ``albedo``, ``roughness`` or ``metallic``.
        value: its mean over the texels; std: of the posterior; prior_std: without any photograph.
        prior: the prior's share of the variance; the views' shares and it sum to 1.
        views: those with a share, the largest first: ``name``, ``view`` (its number), ``share``, ``pull``, ``pixels``.
        photos: photographs that would help most, as in ``confidence.json``, with the ``std`` after each.
        folder: of the pictures.
    """

    what: str
    channel: str
    value: list[float]
    std: float
    prior_std: float
    prior: float
    views: list[dict[str, Any]]
    photos: list[dict[str, Any]] = field(default_factory=list)
    folder: Path | None = None

    def as_json(self) -> dict[str, Any]:
        """All figures as plain values."""
        plain = {key: value for key, value in vars(self).items() if key != "folder"}
        return plain | {"folder": None if self.folder is None else str(self.folder)}

    def lines(self) -> list[str]:
        """The answer in words."""
        value = ", ".join(f"{part:.3f}" for part in self.value)
        out = [f"{self.channel} of {self.what}: {value} ± {self.std:.3f}", self._prior_words()]
        if self.views:
            total = sum(view["share"] for view in self.views)
            carried = np.cumsum([view["share"] for view in self.views])
            count = int(np.searchsorted(carried, 0.5 * total)) + 1
            word = "photograph carries" if count == 1 else "photographs carry"
            out.append(f"{count} {word} half of what the {len(self.views)} that see it say:")
            for view in self.views[:SHOWN]:
                out.append(f"  {view['name']}: {100 * view['share']:.1f} %, pulls {view['pull']:+.4f}")
        if self.photos:
            after = self.photos[0]["std"]
            out.append(
                f"a photograph from the {place_words(self.photos[0])} would help most: ± {self.std:.3f} "
                f"would become ± {after:.3f}"
            )
            if len(self.photos) > 1:
                out.append("then " + "; ".join(place_words(photo) for photo in self.photos[1:]))
        return out

    def _prior_words(self) -> str:
        percent = f"{100 * self.prior:.0f} %"
        if not self.views:
            return f"no photograph shows it: this {self.channel} is all prior"
        if self.prior < 0.1:
            return f"the photographs decide: the prior's share is {percent}"
        if self.prior < 0.5:
            return f"the photographs say most of it: the prior's share is {percent}"
        return f"this {self.channel} is {percent} prior: it is {'hardly' if self.prior >= 0.8 else 'little'} supported"


def place_words(photo: dict[str, Any]) -> str:
    """``front-left from above (azimuth -40°, elevation 35°)``."""
    return f"{photo['where']} (azimuth {photo['azimuth']:.0f}°, elevation {photo['elevation']:.0f}°)"


def explain(session: Session, question: Question, channel: str, out: Path | None = None) -> Explanation:
    """Answer a question about the newest bake, or its refinement; write heat maps and ``explanation.json``.

    Args:
        out: the folder; default ``RUN/explain/<what>-<channel>``.

    Raises:
        StspbrError: no such channel, a run without bake, or a question about nothing.
    """
    if channel not in CHANNELS:
        raise StspbrError(f"--channel {channel}: choose from {', '.join(CHANNELS)}")
    artifact = session.asset()
    session.capture_of(artifact)  # which a texture from a text lacks
    baked, problem = reopened(session, artifact)
    known = Confidence.of_finished(problem, artifact)
    target = find_target(question, baked, problem, known.texels)
    found = influence(known.evidence, known.information, target.chosen, channel)
    answer = Explanation(
        what=target.words,
        channel=channel,
        value=_value(problem, target, channel),
        std=found.std,
        prior_std=PRIOR_STD[CHANNELS[channel][0]],
        prior=found.prior,
        views=_views(frame_labels(baked.capture.split("train")), known.evidence, found),
    )
    rays = session.lineage(artifact)["coarse"].settings.get("transport", {}).get("rays", "auto")
    places = sites(problem, known.evidence, known.information, known.texels, target.chosen, count=256)
    photos = next_photos(problem, known.evidence, places, (channel,), _FEW_PHOTOS, rays)
    answer.photos = [
        photo_record(photo) | {"std": answer.prior_std * max(photo.left, 0.0) ** 0.5}
        for photo in photos
        if photo.drop > 0
    ]
    answer.folder = out or session.run / "explain" / folder_name(target, channel)
    _write(answer, problem, known.evidence, found)
    return answer


def _value(problem: Reconstruction, target: Target, channel: str) -> list[float]:
    """The mean of the channel over the texels: three numbers for albedo, else one."""
    rows = []
    for own, mask in zip(problem.appearance.materials, target.chosen, strict=True):  # type: ignore[attr-defined]
        reflectance = own.reflectance[0].detach()
        parts = {
            "albedo": own.albedo[0].detach(),
            "roughness": reflectance[..., ROUGHNESS],
            "metallic": reflectance[..., METALLIC],
        }
        values = parts[channel]
        place = torch.nonzero(mask)
        row, column = (place[:, k] * values.shape[k] // mask.shape[k] for k in (0, 1))
        rows.append(values[row, column])
    return torch.cat(rows).double().mean(0).tolist()


def _views(names: list[str], evidence: Evidence, found: Influence) -> list[dict[str, Any]]:
    share, pull = found.by_view(evidence.seen.view, len(names))
    touched = found.share > 0
    pixels = torch.bincount(evidence.seen.view[touched], minlength=len(names))
    order = share.argsort(descending=True, stable=True).tolist()
    return [
        {
            "name": names[k],
            "view": k,
            "share": float(share[k]),
            "pull": float(pull[k]),
            "pixels": int(pixels[k]),
        }
        for k in order
        if float(share[k]) > 0
    ]


def _write(answer: Explanation, problem: Reconstruction, evidence: Evidence, found: Influence) -> None:
    """Heat maps of every view with a share, a sheet of those that decided, and the figures."""
    folder = answer.folder
    assert folder is not None
    folder.mkdir(parents=True, exist_ok=True)
    top_share, top_pull = float(found.share.max()), float(found.pull.abs().max())
    tiles: list[np.ndarray] = []
    for view in answer.views:
        number = view["view"]
        photo = problem.views.samples(number)[1].image[0].cpu().numpy()
        share, pull = (view_image(values, evidence, number, photo.shape[:2]) for values in (found.share, found.pull))
        pictures = heat_map(photo, share, top_share), pull_map(photo, pull, top_pull)
        for kind, picture in zip(("share", "pull"), pictures, strict=True):
            write_png8(folder / f"{view['name']}_{kind}.png", enlarged(picture), srgb=False)
        if len(tiles) < SHOWN:
            row, column = np.unravel_index(int(share.argmax()), share.shape)
            tiles.append(enlarged(around(pictures[0], float(row), float(column)), _TILE))
    if tiles:
        write_png8(folder / "deciding.png", sheet(tiles), srgb=False)
    save_json(answer.as_json(), folder / "explanation.json")
