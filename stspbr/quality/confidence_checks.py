"""What must hold of one object's confidence whatever its errors: shares, derivatives, and where lamps are mirrored."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from stspbr.metrics.light import main_lights
from stspbr.optimize.confidence import NUDGE, Evidence, jacobian_of
from stspbr.optimize.influence import influence
from stspbr.optimize.losses import tonemap
from stspbr.optimize.posterior import CHANNELS
from stspbr.optimize.reconstruction import Reconstruction
from stspbr.stages.baked_problem import Baked
from stspbr.stages.confidence_files import Confidence, confidence_of
from stspbr.texture.atlas import TexelMap

_MIRROR = np.cos(np.radians(10.0))
_SEEN = 0.05  # pixels of a texel, in sum, from which it counts as seen in a lamp's mirror direction
_SHARES = 20  # texels whose shares are summed
_STEP = 0.01  # of the finite differences


def rows_at(maps: Sequence[torch.Tensor], texels: Sequence[TexelMap | None]) -> np.ndarray:
    """``[T, 5]`` float64 of maps ``[H, W, 5]`` at the texels."""
    pairs = zip(maps, texels, strict=True)
    rows = [own.reshape(-1, own.shape[-1])[found.texel] for own, found in pairs if found is not None]
    return torch.cat(rows).double().cpu().numpy()


def lamps_figures(problem: Reconstruction, baked: Baked, known: Confidence) -> dict[str, Any]:
    """Median roughness confidence of texels that a view sees within 10° of a lamp's mirror direction, and of others."""
    seen, reads = known.evidence.seen, known.evidence.reads
    light = baked.capture.light
    assert light is not None
    lamps = torch.as_tensor(np.stack([direction for direction, _ in main_lights(light)]), dtype=seen.normal.dtype)
    mirrored = 2.0 * (seen.normal * seen.to_eye).sum(1, keepdim=True) * seen.normal - seen.to_eye
    world = torch.einsum("nij,nj->ni", seen.rotations[seen.view], mirrored)
    near = ((world @ lamps.T.to(world)).amax(dim=1, keepdim=True) >= _MIRROR).to(known.evidence.stands)
    sides = [(own.shape[0], own.shape[1]) for own in known.information]
    amount = rows_at(reads.collected(near * known.evidence.stands, sides), known.texels)[:, 0]
    sure = confidence_of(torch.as_tensor(rows_at(known.std, known.texels)), "roughness")[:, 0].numpy()
    lit = amount > _SEEN
    medians = [float(np.median(sure[part])) if part.any() else None for part in (~lit, lit)]
    return {"lamps": len(lamps), "share_mirrored": float(lit.mean()), "never": medians[0], "mirrored": medians[1]}


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
