"""Arrangements of the copies, and which of them outlines and print confirm.

Each is put to the tests and weighed. Where two remain that differ and explain the photograph alike, the copies
in which they differ have no pose.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from stspbr.metrics.poses import rotation_angle
from stspbr.photos.instance_features import Features, Matches
from stspbr.photos.instance_pairs import Pair, TwoView, photo_camera, two_view
from stspbr.photos.instance_proxy import Picture, build_proxy, pictures
from stspbr.photos.instance_rescue import Answer, proven
from stspbr.photos.instance_symmetry import Symmetry, symmetry_of
from stspbr.photos.instance_tracks import Refined
from stspbr.photos.instances import Instance
from stspbr.photos.silhouette_check import ENOUGH, Coherence, Silhouettes, verified

FEWEST = 3
_PROOF_SIDE = 96  # pixels of the pictures that poses are proven on
_DIFFERENT = 5.0  # degrees between the same copy of two arrangements
_ALIKE = 0.95  # of the better one's score: as good
_CLEARER, _LIKENESS = 1.4, 0.2  # of the print in its own pose: against the best other one, and at least
_OUTSIDE = 0.15  # of the points that the features fix: so many may stick out of the hull; of right poses a twelfth did
_OVERLAP = 0.7  # of outlines drawn from what other copies show, at the median


@dataclass
class Scene:
    """What all tries share: the photo, its copies, their features and matches."""

    pycolmap: Any
    display: np.ndarray
    labels: np.ndarray
    copies: list[Instance]
    silhouettes: Silhouettes
    size: tuple[int, int]
    seed: int
    features: Mapping[int, Features] = field(default_factory=dict)
    matches: Mapping[Pair, Matches] = field(default_factory=dict)

    def pairs(self, focal: float) -> dict[Pair, TwoView]:
        """The pairs that one rigid motion explains."""
        return two_views(self.pycolmap, self.features, self.matches, self.copies, focal, self.size, self.seed)


@dataclass
class Arrangement:
    """Poses of some copies at one focal length.

    Attributes:
        focal: in pixels; pairs: all that were verified; cut: those that contradict others.
        seen: the copies' pictures at this focal length.
        refined: the joint adjustment; poses: what the tests left of its poses; coherence: of these.
        scores: by number overlap and likeness of the drawn object, and the likeness in the best other pose.
        why: by number, why a copy of the adjustment has no pose.
    """

    focal: float
    pairs: dict[Pair, TwoView]
    cut: list[Pair]
    seen: dict[int, Picture]
    refined: Refined | None = None
    poses: dict[int, np.ndarray] = field(default_factory=dict)
    coherence: Coherence | None = None
    scores: dict[int, tuple[float, float, float]] = field(default_factory=dict)
    why: dict[int, str] = field(default_factory=dict)

    @property
    def explained(self) -> float:
        """The share of the pairs' matches, between copies with poses, that points of the adjustment explain."""
        if self.refined is None:
            return 0.0
        own = {pair: len(view.inliers) for pair, view in self.pairs.items() if set(pair) <= set(self.poses)}
        shared = sum(min(self.refined.shared.get(pair, 0), count) for pair, count in own.items())
        return shared / max(sum(own.values()), 1)

    @property
    def score(self) -> float:
        """Copies, weighed by how well masks, print and matches fit."""
        if self.coherence is None:
            return 0.0
        likeness = sum(max(likeness, 0.0) for _, likeness, _ in self.scores.values())
        return self.coherence.score + likeness + self.explained * len(self.poses)


def two_views(
    pycolmap: Any,
    features: Mapping[int, Features],
    matches: Mapping[Pair, Matches],
    copies: Iterable[Instance],
    focal: float,
    size: tuple[int, int],
    seed: int,
) -> dict[Pair, TwoView]:
    """The pairs of copies that one rigid motion explains, by their numbers."""
    camera = photo_camera(pycolmap, focal, size)
    areas = {copy.number: copy.pixels for copy in copies}
    out = {}
    for (a, b), found in matches.items():
        view = two_view(pycolmap, camera, features[a], features[b], found, (areas[a], areas[b]), seed)
        if view is not None:
            out[a, b] = view
    return out


def confirmed(silhouettes: Silhouettes, trial: Arrangement) -> bool:
    """Put an adjusted arrangement to all tests; whether enough copies are left."""
    assert trial.refined is not None
    trial.poses, trial.coherence = verified(silhouettes, trial.refined.poses, trial.focal)
    trial.why = {
        number: f"incoherent: its mask does not fit the pose that its features suggest (needed: {ENOUGH:.0%} of it "
        "under the hull of the others): is it the same object?"
        for number in trial.refined.poses
        if number not in trial.poses
    }
    if trial.coherence is None or not prove(silhouettes, trial) or not printed(trial):
        return False
    return silhouettes.outside(trial.refined.points, trial.coherence) <= _OUTSIDE


def printed(trial: Arrangement) -> bool:
    """Whether the copies' print is clearly more like itself in these poses than in others, taken together.

    What a copy shows of the object must be what the others show. From chance, own poses come out ahead a little: they
    were adjusted. Hence the margin.
    """
    own, other, outline = (
        np.array([value[part] for value in trial.scores.values()]).clip(min=0.0) for part in (1, 2, 0)
    )
    if len(own) == 0:
        return False
    return bool(own.sum() >= _CLEARER * other.sum() and np.median(outline) >= _OVERLAP and np.mean(own) >= _LIKENESS)


def prove(silhouettes: Silhouettes, found: Any) -> bool:
    """Drop the copies against whose poses their print speaks, the worst first; whether enough are left.

    Args:
        found: has ``poses``, ``focal``, ``seen``, ``scores``, ``coherence`` and ``why``, which are brought up to date.
    """
    while len(found.poses) >= FEWEST:
        answers = {k: _leave_one_out(silhouettes, found.seen, found.poses, found.focal, k) for k in found.poses}
        known = {k: answer for k, answer in answers.items() if answer is not None}
        found.scores = {k: (a.score.overlap, a.score.likeness, a.rival.likeness) for k, a in known.items()}
        lost = {k: a.rival.evidence - a.score.evidence for k, a in known.items() if a.refuted(len(found.poses))}
        if not lost:
            found.coherence = silhouettes.check(found.poses, found.focal)
            return True
        worst = max(lost, key=lambda k: lost[k])
        found.poses = {k: pose for k, pose in found.poses.items() if k != worst}
        found.why[worst] = "its print fits another pose better than the one that was found: is it the same object?"
    return False


def settled(silhouettes: Silhouettes, found: list[Arrangement]) -> Arrangement:
    """The best arrangement, without the copies that another one, as good, has in other poses.

    If fewer than three are left, it has none: two arrangements explain the photograph, and nothing says which is true.
    """
    best = found[0]
    for other in found[1:]:
        if best.coherence is None or other.score < _ALIKE * best.score:
            continue
        doubtful = differing(best.poses, other.poses)
        if not doubtful:
            continue
        kept = {k: pose for k, pose in best.poses.items() if k not in doubtful}
        why = dict(best.why)
        for number in doubtful:
            why[number] = (
                "ambiguous: two poses that differ explain it and the other copies alike; a copy that shows the side "
                "between them would tell them apart"
            )
        best = replace(best, poses=kept, why=why, coherence=None)
        if len(kept) >= FEWEST and prove(silhouettes, best):
            continue
        return replace(best, poses={}, coherence=None)
    return best


def differing(first: Mapping[int, np.ndarray], second: Mapping[int, np.ndarray]) -> list[int]:
    """The copies that two arrangements have in different poses: all but the largest set that agrees among itself.

    The object's own axes are free: what counts is how the copies are turned against each other.
    """
    common = sorted(set(first) & set(second))
    agreeing: set[int] = set()
    for reference in common:
        base = first[reference][:3, :3].T @ second[reference][:3, :3]
        own = {k for k in common if rotation_angle(base.T @ first[k][:3, :3].T @ second[k][:3, :3]) <= _DIFFERENT}
        agreeing = max(agreeing, own, key=len)
    return [k for k in common if k not in agreeing]


def pictures_at(scene: Scene, focal: float) -> dict[int, Picture]:
    """What poses are proven on, at one focal length."""
    return pictures(scene.display, scene.labels, scene.copies, focal, _PROOF_SIDE)


def symmetry(silhouettes: Silhouettes, found: Any, axial: bool) -> Symmetry | None:
    """Of the object, as poses that were found have it; see ``symmetry_of``."""
    built = {k: build_proxy(silhouettes, found.seen, found.poses, found.focal, without=k) for k in found.poses}
    proxies = {k: proxy for k, proxy in built.items() if proxy is not None}
    return symmetry_of(proxies, found.seen, found.poses, axial)


def _leave_one_out(
    silhouettes: Silhouettes, seen: dict[int, Picture], poses: Mapping[int, np.ndarray], focal: float, number: int
) -> Answer | None:
    proxy = build_proxy(silhouettes, seen, poses, focal, without=number)
    return None if proxy is None else proven(proxy, seen[number], poses[number])
