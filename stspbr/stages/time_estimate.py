"""How long a recipe for photographs will take on this machine: its work, over the pace of a short trial.

The seconds per unit of work were measured on one core; the trial, a small mix of what a step does, says how much
faster or slower this machine and its threads are.
"""

from __future__ import annotations

import time
from dataclasses import dataclass

import torch

from stspbr.formats.exif import Exif
from stspbr.optimize.views import OVERVIEW_SIDE, WHOLE_SIDE
from stspbr.settings import CapturePhotosSettings, OptimizeSettings, Recipe

_TRIAL = 0.116  # seconds that the trial takes where the constants below were measured
_COVERED = 0.22  # of a photograph that its object fills
_FEATURES = 0.55  # seconds per photograph of 1600 pixels
_PAIR = 0.035  # seconds per matched pair of such photographs
_POSE = 0.35  # seconds per photograph that is registered
_PIXELS = 0.45  # seconds per megapixel of a file: decoding, undistortion, masks
_STEP = {"coarse": 0.09, "specialize": 0.05, "bake": 0.045}  # seconds of a step beside its pixels
_MEGAPIXEL = {"coarse": 9.0, "specialize": 9.0, "bake": 8.0}  # seconds per covered megapixel of a step
_STEREO, _SWEPT, _SWEPT_PIXELS = 110.0, 48, 60_000  # seconds per covered megapixel; the most views and pixels of a view
_SURVEY, _ATLAS = 25.0, 40.0  # seconds beside the steps: of a survey; of remeshing, charts and confidence


@dataclass(frozen=True)
class Photographs:
    """What there is to work on: sizes in pixels of the upright photographs, and whether they come with masks."""

    sizes: list[tuple[int, int]]
    masked: bool

    @classmethod
    def of(cls, exifs: list[Exif], masked: bool) -> Photographs:
        """Those that were found in a folder."""
        return cls([(own.width, own.height) for own in exifs], masked)


def expected_seconds(recipe: Recipe, photos: Photographs, pace: float) -> dict[str, float]:
    """Seconds by stage.

    Args:
        recipe: its capture is of photographs.
        pace: of this machine, from ``machine_pace``; 2 is twice as slow as where the constants were measured.
    """
    assert isinstance(recipe.capture, CapturePhotosSettings)
    pixels = _pixels_per_view(recipe.capture, photos)
    out = {"capture": _capture(recipe.capture, photos)}
    for name, settings in (("coarse", recipe.coarse), ("specialize", recipe.specialize), ("bake", recipe.bake)):
        out[name] = _steps(settings.optimize, name, pixels)
    if recipe.coarse.geometry.initial == "stereo":
        out["coarse"] += _STEREO * min(len(photos.sizes), _SWEPT) * min(pixels, _SWEPT_PIXELS) / 1e6
    out["specialize"] += _SURVEY * len(recipe.specialize.survey.at)
    out["bake"] += _ATLAS
    if recipe.refine is not None:
        out["refine"] = _steps(recipe.refine.optimize, "bake", pixels) + 60.0 * recipe.refine.rounds
    return {name: pace * seconds for name, seconds in out.items()} | {"unpack-orm": 1.0}


def machine_pace(device: torch.device, tries: int = 3) -> float:
    """The time of a short trial with the present threads, over that of the machine of the constants; the best of some.

    A trial is a hash-grid-like gather, a small network and a scatter, forwards and backwards.
    """
    generator = torch.Generator().manual_seed(0)
    table = torch.rand(1 << 15, 2, generator=generator).to(device).requires_grad_()
    weights = torch.rand(32, 24, generator=generator).to(device).requires_grad_()
    index = torch.randint(1 << 15, (60_000, 12), generator=generator).to(device)
    best = float("inf")
    for _ in range(tries + 1):  # the first one warms up
        began = time.perf_counter()
        features = table[index].reshape(len(index), -1)
        (features @ weights.T).relu().square().mean().backward()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        best = min(best, time.perf_counter() - began)
    return best / _TRIAL


def _capture(settings: CapturePhotosSettings, photos: Photographs) -> float:
    count = len(photos.sizes)
    side = sum(min(1.0, settings.feature_size / max(size)) * max(size) for size in photos.sizes) / max(count, 1)
    fine = (side / 1600.0) ** 2
    pairs = count * (count - 1) / 2 if count <= 150 else 30 * count
    megapixels = sum(width * height for width, height in photos.sizes) / 1e6
    masks = 1.0 if photos.masked else 2.5
    return fine * (_FEATURES * count + _PAIR * pairs) + _POSE * count + _PIXELS * masks * megapixels


def _pixels_per_view(settings: CapturePhotosSettings, photos: Photographs) -> float:
    """Covered pixels of a view as the stages draw it, on the average."""
    total = 0.0
    for width, height in photos.sizes:
        scale = 1.0 / settings.image_scale
        if settings.max_side is not None:
            scale = min(scale, settings.max_side / max(width, height))
        longest = scale * max(width, height)
        if longest > WHOLE_SIDE:
            scale *= OVERVIEW_SIDE / longest
        total += _COVERED * scale * scale * width * height
    return total / max(len(photos.sizes), 1)


def _steps(settings: OptimizeSettings, stage: str, pixels: float) -> float:
    shown = pixels / settings.image_scale**2
    return settings.iterations * (_STEP[stage] + _MEGAPIXEL[stage] * settings.batch * shown / 1e6)
