"""What must hold of one object's confidence whatever its errors: shares, derivatives, and where lamps are mirrored."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from scipy.ndimage import label
from scipy.spatial import cKDTree

from stspbr.colour import luminance_of
from stspbr.metrics.light import main_lights, resample
from stspbr.optimize.confidence import NUDGE, Evidence, jacobian_of
from stspbr.optimize.influence import influence
from stspbr.optimize.losses import tonemap
from stspbr.optimize.posterior import CHANNELS
from stspbr.optimize.reconstruction import Reconstruction
from stspbr.scene.light import EnvironmentLight, latlong_to_direction
from stspbr.stages.baked_problem import Baked
from stspbr.stages.confidence_files import Confidence, confidence_of
from stspbr.texture.atlas import TexelMap

_MIRROR = np.cos(np.radians(10.0))
_CHORD = 2.0 * np.sin(np.radians(5.0))  # of 10°
_CELLS = (90, 180)  # of the map in which lamps are looked for, 2° each
_SEEN = 0.05  # pixels of a texel, in sum, from which it counts as seen in a lamp's mirror direction
_SHARES = 20  # texels whose shares are summed
_STEP = 0.01  # of the finite differences


def rows_at(maps: Sequence[torch.Tensor], texels: Sequence[TexelMap | None]) -> np.ndarray:
    """``[T, 5]`` float64 of maps ``[H, W, 5]`` at the texels."""
    pairs = zip(maps, texels, strict=True)
    rows = [own.reshape(-1, own.shape[-1])[found.texel] for own, found in pairs if found is not None]
    return torch.cat(rows).double().cpu().numpy()


def lamps_figures(problem: Reconstruction, baked: Baked, known: Confidence, error: np.ndarray) -> dict[str, Any]:
    """Median roughness confidence of texels that no view sees within 10° of a lamp's mirror direction, and of others.

    Twice: of the lamps' middles, and (``parts``) of any part of them, since a softbox is wide.

    Args:
        error: ``[T]`` of roughness, whose means are told beside the confidence.
    """
    seen, reads = known.evidence.seen, known.evidence.reads
    light = baked.capture.light
    assert light is not None
    lamps = np.stack([direction for direction, _ in main_lights(light)])
    mirrored = 2.0 * (seen.normal * seen.to_eye).sum(1, keepdim=True) * seen.normal - seen.to_eye
    world = torch.einsum("nij,nj->ni", seen.rotations[seen.view], mirrored).double().cpu().numpy()
    sides = [(own.shape[0], own.shape[1]) for own in known.information]
    sure = confidence_of(torch.as_tensor(rows_at(known.std, known.texels)), "roughness")[:, 0].numpy()

    def split(near: np.ndarray) -> dict[str, Any]:
        stands = torch.as_tensor(near[:, None]).to(known.evidence.stands) * known.evidence.stands
        lit = rows_at(reads.collected(stands, sides), known.texels)[:, 0] > _SEEN
        never, rest = (
            (float(np.median(sure[part])), float(error[part].mean())) if part.any() else (None, None)
            for part in (~lit, lit)
        )
        told = {"share_mirrored": float(lit.mean()), "never": never[0], "mirrored": rest[0]}
        return told | {"error_never": never[1], "error_mirrored": rest[1]}

    middles = split((world @ lamps.T).max(axis=1) >= _MIRROR)
    return {"lamps": len(lamps), **middles, "parts": split(near_a_lamp(light, lamps, world))}


def near_a_lamp(light: EnvironmentLight, lamps: np.ndarray, directions: np.ndarray) -> np.ndarray:
    """``[N]`` bool: which directions lie within 10° of any part of a lamp.

    A lamp's parts are the texels at least half as bright as its middle that hang together with it.

    Args:
        lamps: ``[L, 3]`` unit, the middles; directions: ``[N, 3]`` unit; both in the world.
    """
    luminance = luminance_of(resample(light.radiance, *_CELLS))
    v, u = ((np.arange(n) + 0.5) / n for n in _CELLS)
    cells = latlong_to_direction(np.stack(np.broadcast_arrays(u, v[:, None]), axis=-1))
    found = np.zeros(_CELLS, bool)
    for lamp in lamps:
        around = cells @ lamp >= _MIRROR
        # twice side by side, so that a lamp on the seam is one
        parts, _ = label(np.tile(luminance >= 0.5 * luminance[around].max(), (1, 2)))
        own = np.isin(parts, np.setdiff1d(parts[np.tile(around, (1, 2))], 0))
        found |= own[:, : _CELLS[1]] | own[:, _CELLS[1] :]
    near, _ = cKDTree(cells[found]).query(directions, distance_upper_bound=_CHORD)
    return np.isfinite(near)


def shares_off_by(known: Confidence) -> float:
    """By how much the shares of all pixels and of the prior differ from 1 in sum, at most, of some texels."""
    worst = 0.0
    number = next(k for k, own in enumerate(known.texels) if own is not None)
    texels = known.texels[number]
    assert texels is not None
    for texel in np.linspace(0, len(texels.texel) - 1, _SHARES).round().astype(int):
        chosen = [torch.zeros(own.shape[:2], dtype=torch.bool) for own in known.information]
        chosen[number].view(-1)[texels.texel[texel]] = True
        for channel in CHANNELS:
            found = influence(known.evidence, known.information, chosen, channel)
            worst = max(worst, abs(float(found.share.double().sum()) + found.prior - 1.0))
    return worst


def jacobian_figures(problem: Reconstruction, evidence: Evidence) -> dict[str, float]:
    """Relative difference (of 2-norms over the pixels) of the derivatives and of central differences of the shading."""
    transport = None if problem.transport is None else problem.transport.transport
    light, texture = problem.light.prefiltered(), problem.backend.texture
    # away from the bounds, on which a difference would be one-sided
    rows = (evidence.material > 0.05).all(dim=1) & (evidence.material < 0.95).all(dim=1)
    rows = torch.nonzero(rows).squeeze(1)[:: max(1, int(rows.sum()) // 20_000)]
    seen, material = evidence.seen.at(rows), evidence.material[rows]

    def shown(moved: torch.Tensor) -> torch.Tensor:
        return tonemap(jacobian_of(seen, moved, light, texture, transport)[1].double())

    out = {}
    # roughness is itself a difference of ±NUDGE: the finer one says how much it bends within that
    for key, name, step in (
        ("albedo", "albedo", _STEP), ("roughness", "roughness", NUDGE), ("metallic", "metallic", _STEP),
        ("roughness_finer", "roughness", _STEP),
    ):  # fmt: skip
        moved = torch.zeros_like(material)
        moved[:, list(CHANNELS[name])] = step
        difference = (shown(material + moved) - shown(material - moved)) / (2.0 * step)
        formula = getattr(evidence.jacobian, name)[rows]
        out[key] = float((formula - difference).norm() / difference.norm().clamp(min=1e-12))
    return out
