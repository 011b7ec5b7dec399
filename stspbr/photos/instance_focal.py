"""A focal length that nobody knows: searches from several, each adjusting its own, until one stands by itself."""

from __future__ import annotations

import math
from collections.abc import Callable

from stspbr.photos.instance_models import Arrangement, Scene, settled
from stspbr.photos.instance_search import arrangements

FOCALS = (0.7, 1.0, 1.4, 2.0, 2.8)
"""Focal lengths that are tried if none is known, in the photo's longer side."""
_UNSURE = 0.03  # relative standard deviation of a focal length that is worth a warning
_Say = Callable[[str], None]


def without_focal(scene: Scene, resting: bool, say: _Say) -> Arrangement:
    """The arrangement that stands best, with the focal length that it adjusted.

    The search is the same from each start, and costs as much as all else. So the middle one is first; where its
    adjusted focal length is certain and nearer to it than to the other starts, they are left out; where it is nearer to
    another, that one is next.

    Args:
        resting: all copies are known to stand on one plane.
    """
    longer = float(max(scene.size))
    left, best = list(FOCALS), None
    factor = FOCALS[len(FOCALS) // 2]
    while left:
        left.remove(factor)
        found = arrangements(scene, factor * longer, free=True, resting=resting)
        if best is None or found[0].score > best[0].score:
            best = found
        own = _nearest(found[0].focal / longer, FOCALS)
        if found[0].refined is not None and own == factor and certain(found[0]):
            break
        if left:
            factor = own if found[0].refined is not None and own in left else left[len(left) // 2]
    assert best is not None
    if best[0].refined is None:
        return best[0]
    out = settled(scene.silhouettes, best)
    deviation = out.refined.focal_deviation if out.refined is not None else float("inf")
    say(f"focal length {out.focal:.0f} ± {deviation:.0f} pixels, estimated")
    if not certain(out):
        say("warning: the focal length is uncertain: give --focal or --fov, if you know it")
    return out


def certain(one: Arrangement) -> bool:
    """Whether an arrangement's focal length is known within 3 %."""
    return one.refined is not None and 0.0 < one.refined.focal_deviation <= _UNSURE * one.focal


def _nearest(factor: float, among: tuple[float, ...]) -> float:
    return min(among, key=lambda other: abs(math.log(other / factor)))
