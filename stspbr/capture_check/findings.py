"""What is worth a warning about a capture, as data: a code, a line that helps, and the frames it is about."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from stspbr.capture_check.coverage import Coverage, direction_words
from stspbr.capture_check.frames import MISPLACED, FrameMetrics, ObjectPlace
from stspbr.capture_check.surface import ExposureFit

NEAR = 40.0  # degrees: frames nearer than this see much the same of the object
NEIGHBOURS = 4
FEW_VIEWS = 10
WIDE_GAP = 45.0  # degrees to the nearest camera
ONE_SIDED = -10.0  # degrees of elevation that the lowest camera of "above only" may have
BLURRED = 0.4  # of the sharpness that is usual
STOPS = 1.0  # from the frame that shows the surface darkest to the brightest
ROUGH_STOPS = 2.0  # the same without masks
SURE = 3.0  # times the scatter
CLIPPED = 0.1  # of the object's pixels
AREA_JUMP = 1.6  # silhouette's area against its neighbours'
SPECKS = 3  # small holes or pieces of one mask
COLOUR_OUTSIDE = 1e-3
_TEXTS = {
    "no-mask": "no mask; give alpha in the image, a mask_path, or make masks with `stspbr capture photos --mask`",
    "empty-mask": "the mask is empty; fix it or take the frame out",
    "misplaced-mask": "the mask is not where the pose puts the object; check both",
    "mask-at-border": "the object runs out of the image; give the part beyond in other views",
    "mask-holes": "small holes in the mask; fill them unless the object has them",
    "mask-specks": "specks in the mask beside the object; remove them, or surface will grow there",
    "colour-outside-mask": "there is colour where the mask is 0; the image is not premultiplied by its alpha",
    "mask-jump": "the silhouette is much larger or smaller than in neighbouring views; look at the mask",
    "bad-pixels": "NaN, infinite or negative pixels; export again, or clip at 0",
    "blurred": "blurred, compared with the others; leave out or take again",
    "clipped": f"more than {CLIPPED:.0%} of the object is clipped; expose darker, or capture HDR",
}


@dataclass(frozen=True)
class Finding:
    """One warning. ``frames``: the names that it is about, empty where it is about the whole capture."""

    code: str
    text: str
    frames: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Comparisons:
    """Each frame against others; None where nothing can be compared.

    Neighbours are the frames whose cameras stand within ``NEAR`` degrees, the nearest ``NEIGHBOURS`` of them.

    Attributes:
        exposure: how much brighter each frame shows the same surface than the others, after division by exposures
            that the data give.
        sharpness: ratio to the neighbours' median; ``usual_sharpness``: to the median of all.
        area: ratio of the silhouette's area to the neighbours' median.
        rough: ``exposure`` was found without masks, where the surroundings get in.
    """

    exposure: ExposureFit
    sharpness: list[float | None]
    usual_sharpness: list[float | None]
    area: list[float | None]
    rough: bool = False


def compare_frames(frames: Sequence[FrameMetrics], exposure: ExposureFit, *, rough: bool = False) -> Comparisons:
    """Compare every frame with its neighbours; ``exposure`` and ``rough`` go into the result as they are."""
    neighbours = _neighbours(frames)
    sharp = [f.sharpness for f in frames]
    known = [value for value in sharp if value is not None]
    usual = float(np.median(known)) if known else 0.0
    return Comparisons(
        exposure,
        _against(sharp, neighbours),
        [None if value is None else _ratio(value, usual) for value in sharp],
        _against([f.area for f in frames], neighbours),
        rough,
    )


def find(
    frames: Sequence[FrameMetrics], comparisons: Comparisons, coverage: Coverage | None, place: ObjectPlace | None
) -> list[Finding]:
    """All findings, the gravest first."""
    train = [f for f in frames if f.split == "train"]
    out = _masks(frames) + _pixels(frames, comparisons)
    if len(train) < FEW_VIEWS:
        out.append(Finding("few-views", f"only {len(train)} training views: better 50 and more, from all around"))
    if len(train) == len(frames):
        out.append(Finding("no-held-out", "no held-out views: the result cannot be judged on what it has not seen"))
    if place is None:
        text = "the cameras look in one direction or past each other: where the object is cannot be told from them"
        out.append(Finding("no-object", text))
    if coverage is not None:
        out += _views(train, coverage)
    sizes = sorted({(f.width, f.height) for f in frames})
    if len(sizes) > 1:
        named = ", ".join(f"{w}x{h}" for w, h in sizes[:4]) + (", …" if len(sizes) > 4 else "")
        text = f"images of {len(sizes)} sizes ({named}): they will be put on one canvas; --crop cuts them to the object"
        out.append(Finding("mixed-sizes", text))
    return out


def _masks(frames: Sequence[FrameMetrics]) -> list[Finding]:
    masked = [f for f in frames if f.mask == "mask"]
    checks = {
        "no-mask": [f for f in frames if f.mask == "none"],
        "empty-mask": [f for f in frames if f.mask == "empty"],
        "misplaced-mask": [f for f in masked if f.offset is not None and f.offset > MISPLACED],
        "mask-at-border": [f for f in masked if f.border_sides],
        "mask-holes": [f for f in masked if f.small_holes >= SPECKS],
        "mask-specks": [f for f in masked if f.small_pieces >= SPECKS],
        "colour-outside-mask": [f for f in masked if f.colour_outside > COLOUR_OUTSIDE],
    }
    return _found(checks, len(frames))


def _found(checks: dict[str, list[FrameMetrics]], total: int) -> list[Finding]:
    named = {code: [f.name for f in chosen] for code, chosen in checks.items() if chosen}
    return [Finding(code, f"{_who(names, total)}: {_TEXTS[code]}", names) for code, names in named.items()]


def _pixels(frames: Sequence[FrameMetrics], comparisons: Comparisons) -> list[Finding]:
    jumped = [
        f
        for f, ratio in zip(frames, comparisons.area, strict=True)
        if ratio is not None and not 1 / AREA_JUMP < ratio < AREA_JUMP
    ]
    blurred = []
    for f, near, usual in zip(frames, comparisons.sharpness, comparisons.usual_sharpness, strict=True):
        if usual is not None and usual < BLURRED and (near is None or near < BLURRED):
            blurred.append(f)
    checks = {"mask-jump": jumped, "bad-pixels": [f for f in frames if f.bad_pixels], "blurred": blurred}
    out = _found(checks, len(frames))
    exposure = comparisons.exposure
    # a shiny surface looks different from each side: what it cannot tell is no warning
    least = max(ROUGH_STOPS if comparisons.rough else STOPS, SURE * exposure.scatter)
    if exposure.spread is not None and exposure.spread > least:
        known = [(value, f.name) for value, f in zip(exposure.stops, frames, strict=True) if value is not None]
        (_, dark), (_, bright) = min(known), max(known)
        names = [name for value, name in known if abs(value) > 0.5 * STOPS]
        text = (
            f"exposure differs by {exposure.spread:.1f} stops (darkest {dark}, brightest {bright}): "
            "give each frame's exposure, let `--exposure estimate` find it, or fix it on the camera"
        )
        out.append(Finding("exposure-spread", text, names))
    clipped = [f for f in frames if f.clipped is not None and f.clipped > CLIPPED]
    return out + _found({"clipped": clipped}, len(frames))


def _views(train: Sequence[FrameMetrics], coverage: Coverage) -> list[Finding]:
    elevations = [f.elevation for f in train if f.elevation is not None]
    out: list[Finding] = []
    explained = 0
    if elevations and min(elevations) > ONE_SIDED and coverage.gaps[0].angle > WIDE_GAP:
        explained = -1
        text = f"{len(elevations)} views from above only: the underside will be guessed"
        out.append(Finding("above-only", text))
    elif elevations and max(elevations) < -ONE_SIDED and coverage.gaps[0].angle > WIDE_GAP:
        explained = 1
        out.append(Finding("below-only", f"{len(elevations)} views from below only: the top will be guessed"))
    # what lies over the side that no camera went to has been said
    gaps = [g for g in coverage.gaps if g.angle > WIDE_GAP and not (explained and g.direction[1] * explained > 0.5)]
    if gaps:
        places = ", ".join(f"{10 * int(g.angle // 10)}° of the {direction_words(g.direction)}" for g in gaps)
        out.append(Finding("coverage-gap", f"no view within {places}: what is there will be guessed"))
    return out


def _neighbours(frames: Sequence[FrameMetrics]) -> list[list[int]]:
    placed = [k for k, f in enumerate(frames) if f.direction is not None]
    out: list[list[int]] = [[] for _ in frames]
    if not placed:
        return out
    directions = np.array([frames[k].direction for k in placed])
    cosines = directions @ directions.T
    for row, k in enumerate(placed):
        nearest = [j for j in np.argsort(-cosines[row], kind="stable") if j != row][:NEIGHBOURS]
        out[k] = [placed[j] for j in nearest if cosines[row, j] > np.cos(np.radians(NEAR))]
    return out


def _against(values: Sequence[float | None], neighbours: Sequence[list[int]]) -> list[float | None]:
    """Ratios to the neighbours' medians."""
    out: list[float | None] = []
    for value, around in zip(values, neighbours, strict=True):
        known = [other for other in (values[k] for k in around) if other is not None]
        out.append(None if value is None or not known else _ratio(value, float(np.median(known))))
    return out


def _ratio(value: float, middle: float) -> float:
    return value / middle if middle > 0 else 1.0


def _who(names: list[str], total: int) -> str:
    if len(names) == total and total > 1:
        return f"all {total} frames"
    if len(names) == 1:
        return f"frame {names[0]}"
    shown = ", ".join(names[:3]) + (", …" if len(names) > 3 else "")
    return f"{len(names)} frames ({shown})"
