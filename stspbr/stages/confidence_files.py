"""What bake and refine write about how sure their maps are: pictures, standard deviations, and figures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from stspbr.artifacts import Artifact
from stspbr.capture_check.coverage import direction_words
from stspbr.fields.material_values import METALLIC
from stspbr.files import safe_name
from stspbr.formats.images import write_exr, write_png8
from stspbr.optimize.appearance import TextureAppearance
from stspbr.optimize.confidence import (
    Evidence,
    error_std_maps,
    gather,
    information_maps,
    light_gain_std,
    map_sides,
    std_maps,
)
from stspbr.optimize.guided_fill import guided_fill
from stspbr.optimize.lights import LearnedLight
from stspbr.optimize.next_photos import Photo, next_photos, sites, texel_areas
from stspbr.optimize.posterior import CHANNELS, PRIOR_STD, prior_shares
from stspbr.optimize.reconstruction import Reconstruction
from stspbr.scene import Corners
from stspbr.settings import ConfidenceSettings
from stspbr.stages.capture_check import CONFIDENCE
from stspbr.stages.state import save_json
from stspbr.texture.atlas import TexelMap, rasterize_layout

SCHEMA = 1
LOW = 0.3
"""Confidence below which a texel counts as weak."""
MOSTLY_PRIOR = 0.5
"""Share of the prior in a texel's variance above which its metallic is flagged."""
PHOTOS = 5
EXR_NAMES = ("albedo.R", "albedo.G", "albedo.B", "roughness", "metallic")
"""Channels of what is written of all five parameters."""
_SEEN = 0.05  # of the usual number of pixels, below which a texel counts as unseen
_ROWS = 1 << 17  # texels whose covariances are held at a time


@dataclass
class Confidence:
    """What the views say about the maps of a problem.

    Attributes:
        evidence: of all pixels; information: ``[H, W, 12]`` per material; see ``optimize.posterior``.
        std: ``[H, W, 5]`` per material, of the posterior; texels: of the same sizes, None for a material without faces.
    """

    evidence: Evidence
    information: list[Tensor]
    std: list[Tensor]
    texels: list[TexelMap | None]

    @classmethod
    def of(cls, problem: Reconstruction, observations: int) -> Confidence:
        """Of the maps as they are now; see ``confidence.gather``."""
        if problem.transport is not None and problem.transport.transport.cache is None:
            problem.transport.transport.refresh(problem.geometry.surface(), problem.material)
        evidence = gather(problem, observations)
        information = information_maps(problem, evidence)
        return cls(evidence, information, [std_maps(own) for own in information], texels_of(problem))

    @torch.no_grad()
    def error_std(self, problem: Reconstruction) -> list[Tensor]:
        """``[H, W, 5]`` per material: what is written, the expected error of the maps as they are now."""
        assert isinstance(problem.appearance, TextureAppearance)
        maps = zip(self.information, problem.appearance.materials, strict=True)
        return [error_std_maps(packed, own.reflectance[0, ..., METALLIC]) for packed, own in maps]

    @classmethod
    def of_finished(cls, problem: Reconstruction, artifact: Artifact) -> Confidence:
        """Of a finished asset's problem, by as many pixels as its stage asked."""
        limit = artifact.settings.get("confidence", {}).get("observations", ConfidenceSettings().observations)
        return cls.of(problem, limit)


def settled(problem: Reconstruction, settings: ConfidenceSettings) -> tuple[Confidence | None, dict[str, float]]:
    """How sure the final maps are, after what the views hardly say has been filled as ``settings`` have it.

    Returns:
        None if nobody asks; and for ``metrics.json`` the ``filled_share`` if something was filled.
    """
    if not settings.maps and settings.fill == "off":
        return None, {}
    known = Confidence.of(problem, settings.observations)
    if settings.fill == "off":
        return known, {}
    return known, {"filled_share": guided_fill(problem, known.std, known.texels, settings.fill)}


def texels_of(problem: Reconstruction) -> list[TexelMap | None]:
    """The texels that each material's faces cover, in maps of the size of its information; None: it has no faces."""
    appearance, surface = problem.appearance, problem.geometry.surface()
    assert isinstance(appearance, TextureAppearance) and surface.uvs is not None
    owner = appearance.owner_of(torch.arange(len(surface.faces), device=surface.faces.device)).cpu().numpy()
    uvs = Corners(surface.uvs.values.cpu().numpy(), surface.uvs.index.cpu().numpy())
    out: list[TexelMap | None] = []
    for number, side in enumerate(map_sides(appearance)):
        faces = np.flatnonzero(owner == number)
        out.append(rasterize_layout(uvs, side, faces, 1, surface.faces.device) if len(faces) else None)
    return out


def confidence_of(std: Tensor, channel: str) -> Tensor:
    """``[..., 1]``: 1 − std / prior std, in [0, 1], of ``[..., 5]``; the mean over the colours of albedo."""
    own = list(CHANNELS[channel])
    return (1.0 - std[..., own] / std.new_tensor(PRIOR_STD)[own]).mean(-1, keepdim=True).clamp(0.0, 1.0)


def file_names(names: Sequence[str]) -> list[dict[str, str]]:
    """Per material the files of each channel, and of ``std``; several materials have their names in them."""
    taken: set[str] = set()
    marks = [""] if len(names) == 1 else [f"{safe_name(name, taken)}_" for name in names]
    kinds = [[(channel, f"confidence/{mark}{channel}.png") for channel in CHANNELS] for mark in marks]
    ends = ["std.exr"] if len(names) == 1 else [f"std_{mark[:-1]}.exr" for mark in marks]
    return [dict(own) | {"std": end} for own, end in zip(kinds, ends, strict=True)]


def write_confidence(
    folder: Path, problem: Reconstruction, found: Confidence, names: Sequence[str], rays: str = "auto"
) -> dict[str, Any]:
    """Write ``confidence/``, ``std.exr`` and ``confidence.json`` into ``folder``; return the last one's figures."""
    files = file_names(names)
    (folder / "confidence").mkdir(parents=True, exist_ok=True)
    deviations = found.error_std(problem)
    for own, std, texels in zip(files, deviations, found.texels, strict=True):
        inside = np.zeros(std.shape[:2], bool) if texels is None else texels.mask.cpu().numpy()
        for channel in CHANNELS:
            shown = confidence_of(std, channel).cpu().numpy() * inside[..., None]
            write_png8(folder / own[channel], shown, srgb=False)
        write_exr(folder / own["std"], std.cpu().numpy(), half=True, channels=EXR_NAMES)
    points = sites(problem, found.evidence, found.information, found.texels)
    photos = next_photos(problem, found.evidence, points, count=PHOTOS, rays=rays)
    record = {
        "schema": SCHEMA,
        "prior_std": dict(zip(EXR_NAMES, PRIOR_STD, strict=True)),
        "materials": [
            {"name": name, "resolution": list(std.shape[:2]), "files": own}
            for name, std, own in zip(names, found.std, files, strict=True)
        ],
        "pixels": len(found.evidence.seen),
        "noise": dict(zip(problem.views.names, (round(v, 6) for v in found.evidence.noise.tolist()), strict=True)),
        "light_gain_std": _light_gains(problem, found),
        **figures(problem, found),
        "next_photos": [photo_record(photo) for photo in photos],
    }
    save_json(record, folder / CONFIDENCE)
    return record


def _light_gains(problem: Reconstruction, found: Confidence) -> list[float] | None:
    """Relative std of a learned light's brightness per colour; None: the light was given."""
    if not isinstance(problem.light, LearnedLight):
        return None
    return [round(value, 7) for value in light_gain_std(found.evidence, found.information).tolist()]


def figures(problem: Reconstruction, found: Confidence) -> dict[str, Any]:
    """Medians and shares over the surface, by its area."""
    assert isinstance(problem.appearance, TextureAppearance)
    std, area, looks, metallic, prior = [], [], [], [], []
    ones, sides = torch.ones_like(found.evidence.weight), [(own.shape[0], own.shape[1]) for own in found.std]
    counts = found.evidence.reads.collected(ones, sides)
    maps = zip(
        found.texels, found.error_std(problem), found.information, counts, problem.appearance.materials, strict=True
    )
    for texels, std_map, packed, count, material in maps:
        if texels is None:
            continue
        std.append(std_map.reshape(-1, 5)[texels.texel])
        area.append(texel_areas(problem, texels))
        rows = packed.reshape(-1, 12)[texels.texel]
        looks.append(count.reshape(-1)[texels.texel])
        prior += [prior_shares(part)[:, 4] for part in rows.split(_ROWS)]
        metallic.append(_at(material.reflectance[0, ..., 1:2].detach(), texels))
    # sums in NumPy: torch's depend on the number of threads in their last digits
    deviation, share, told, called, by_prior = (
        torch.cat(own).double().cpu().numpy() for own in (std, area, looks, metallic, prior)
    )
    share = share / max(share.sum(), 1e-20)
    channels = {}
    for channel, own in CHANNELS.items():
        sure = confidence_of(torch.as_tensor(deviation), channel)[:, 0].numpy()
        channels[channel] = {
            "median_confidence": _median(sure, share),
            "median_std": _median(deviation[:, list(own)].mean(axis=1), share),
            "share_below_0.3": float(share[sure < LOW].sum()),
        }
    usual = np.median(told[told > 0]) if (told > 0).any() else 1.0
    seen, flagged = told > _SEEN * usual, by_prior > MOSTLY_PRIOR
    return {
        "seen_share": float(share[seen].sum()),
        "channels": channels,
        "metallic_mostly_prior": {
            "share": float(share[flagged].sum()),
            "seen": float(share[flagged & seen].sum()),
            "called_metal": float(share[flagged & (called > 0.5)].sum()),
        },
    }


def photo_record(photo: Photo) -> dict[str, Any]:
    """A photograph to take as plain values; angles in degrees, azimuth 0 is +Z and 90 is +X, elevation 90 is +Y."""
    x, y, z = photo.direction
    return {
        "direction": [round(float(value), 4) for value in photo.direction],
        "where": direction_words(photo.direction),
        "azimuth": round(float(np.degrees(np.arctan2(x, z))), 1),
        "elevation": round(float(np.degrees(np.arcsin(np.clip(y, -1.0, 1.0)))), 1),
        "drop": photo.drop,
        "left": photo.left,
    }


def _at(values: Tensor, texels: TexelMap) -> Tensor:
    """``[N]`` of a map ``[H, W, 1]``, perhaps of another size, at texels."""
    (height, width), size = texels.resolution, values.shape[:2]
    row = torch.div(texels.texel, width, rounding_mode="floor") * size[0] // height
    column = texels.texel % width * size[1] // width
    return values[row, column, 0]


def _median(values: np.ndarray, share: np.ndarray) -> float:
    """The median of ``values [N]`` with weights ``share [N]`` that sum to 1."""
    order = np.argsort(values, kind="stable")
    return float(values[order[min(int(np.searchsorted(share[order].cumsum(), 0.5)), len(values) - 1)]])
