"""The arrangements of the copies that their features allow, each carried to the end before it is judged.

Pairs are nearly affine, and prints repeat: what looks best among pairs is often wrong. So several starts, of COLMAP's
mapper and of the search for copies that stand, go through the joint adjustment; what it then explains is compared.
Groups that were found apart are joined by starts of their own.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np

from stspbr.photos.instance_bundle import FocalPrior
from stspbr.photos.instance_groups import joined_groups, linked
from stspbr.photos.instance_mapping import map_copies
from stspbr.photos.instance_models import FEWEST, Arrangement, Scene, confirmed, differing, pictures_at
from stspbr.photos.instance_pairs import Pair, TwoView, consistent
from stspbr.photos.instance_plane import on_plane, resting_plane
from stspbr.photos.instance_standing import standing
from stspbr.photos.instance_tracks import Refined, refined_poses

_MOST_MODELS = 4
_MOST_JOINTS = 3  # pairs of groups that are joined
_ON_PLANE = 0.97  # of the observations explained, from which on a plane is believed
_GROWS = 1.03  # of the likelihood: worth another round
_SETTLES = 1.005  # on the plane, from where it was adjusted already
_ROUNDS = 3

Poses = Mapping[int, np.ndarray]


def arrangements(
    scene: Scene,
    focal: float,
    free: bool = False,
    prior: FocalPrior | None = None,
    resting: bool = False,
    most: int = _MOST_MODELS,
) -> list[Arrangement]:
    """All that hold together at one focal length, the best first; one without poses if none does.

    Args:
        free: the focal length is adjusted, held by ``prior`` if there is one.
        resting: all copies are known to stand on one plane; else that is tried if they seem to.
        most: how many of the mapper's models are looked at.
    """
    pairs = scene.pairs(focal)
    kept = consistent(pairs)
    empty = Arrangement(focal, pairs, sorted(set(pairs) - set(kept)), pictures_at(scene, focal))
    models = map_copies(scene.pycolmap, scene.features, kept, focal, scene.size, scene.seed)
    search = _Search(scene, empty, free, prior, resting)
    for poses, up in standing(scene.features, scene.matches, scene.copies, focal, scene.size)[:most]:
        search.carry(poses, up)
    for model in models[:most]:
        if len(model.poses) >= FEWEST:
            search.carry(model.poses)
    search.join()
    return sorted(search.found, key=lambda one: -one.score) or [empty]


@dataclass
class _Search:
    """What all starts share, and what came of them.

    Attributes:
        adjusted: every group of copies; found: those that outlines and print confirm.
    """

    scene: Scene
    empty: Arrangement
    free: bool
    prior: FocalPrior | None
    resting: bool
    adjusted: list[Refined] = field(default_factory=list)
    found: list[Arrangement] = field(default_factory=list)

    @property
    def middle(self) -> np.ndarray:
        """``[2]`` the principal point."""
        return 0.5 * np.asarray(self.scene.size, np.float64)

    def carry(self, poses: Poses, up: np.ndarray | None = None) -> None:
        """Adjust a start and put it to the tests, unless it is a part of what is confirmed already.

        What no matches hold together falls apart, and each part is carried by itself.

        Args:
            up: see ``adjusted_poses``.
        """
        if any(len(poses) < len(one.poses) and _within(poses, one.poses) for one in self.found):
            return
        refined = adjusted_poses(
            self.scene, self.empty.pairs, poses, self.empty.focal, self.free, self.prior, self.resting, up
        )
        if refined is None:
            return
        scene = self.scene
        parts = linked(scene.features, scene.matches, refined.poses, refined.focal, self.middle)
        if len(parts) > 1:
            for part in parts:
                if len(part) >= FEWEST:
                    self.carry({number: refined.poses[number] for number in part})
            return
        rivals = [other for other in self.adjusted if _within(refined.poses, other.poses)]
        if any(other.likelihood >= refined.likelihood for other in rivals):
            return
        beaten = [other for other in self.adjusted if _within(other.poses, refined.poses)]
        seen = self.empty.seen if refined.focal == self.empty.focal else pictures_at(scene, refined.focal)
        trial = replace(self.empty, focal=refined.focal, seen=seen, refined=refined)
        ok = confirmed(scene.silhouettes, trial)
        self.adjusted.append(refined)
        if ok:
            self.found = [one for one in self.found if not any(one.refined is other for other in beaten)] + [trial]

    def join(self) -> None:
        """Join groups without a common copy, those that explain most first."""
        tried: list[tuple[Refined, Refined]] = []
        while len(tried) < _MOST_JOINTS:
            ways = [
                (first, second)
                for k, first in enumerate(self.adjusted)
                for second in self.adjusted[:k]
                if not set(first.poses) & set(second.poses)
                and not any(first is one and second is other for one, other in tried)
                and not any(set(first.poses) | set(second.poses) <= set(one.poses) for one in self.found)
            ]
            if not ways:
                return
            first, second = max(ways, key=lambda way: way[0].likelihood + way[1].likelihood)
            tried.append((first, second))
            if first.likelihood < second.likelihood:
                first, second = second, first
            scene = self.scene
            for poses in joined_groups(
                scene.silhouettes, self.empty.seen, scene.features, scene.matches, self.empty.pairs,
                first.poses, second.poses, self.empty.focal, self.middle,
            ):  # fmt: skip
                self.carry(poses)


def adjusted_poses(
    scene: Scene,
    pairs: Mapping[Pair, TwoView],
    poses: Poses,
    focal: float,
    free: bool = False,
    prior: FocalPrior | None = None,
    resting: bool = False,
    up: np.ndarray | None = None,
) -> Refined | None:
    """The joint adjustment, on a plane if all copies seem to stand on one and it explains as much.

    Freely, turn and depth of a copy nearly make up for each other, and the way to the optimum is full of others. On a
    plane they do not. So copies that were sought on one, or seem to stand on one, are adjusted there first; then they
    are let free and put back, as long as that explains more.

    Args:
        up: ``[3]`` the normal of the plane on which the poses are, if they were sought on one.
    """

    def adjusted(at: Poses, focal: float, normal: np.ndarray | None) -> Refined | None:
        return refined_poses(scene.features, scene.matches, pairs, at, focal, scene.size, free, prior, normal)

    plane = resting_plane(poses) if up is None else None
    if plane is not None:
        poses, up = on_plane(poses, plane, scene.silhouettes.cube(poses, focal)[0]), plane.up
    best = None if up is None else adjusted(poses, focal, up)
    loose = adjusted(poses, focal, None) if best is None else adjusted(best.poses, best.focal, None)
    for _ in range(_ROUNDS):
        if loose is None or (best is not None and loose.likelihood < _GROWS * best.likelihood):
            break
        plane = resting_plane(loose.poses)
        if plane is None:
            break
        flat = on_plane(loose.poses, plane, loose.points.mean(axis=0))
        again = adjusted(flat, loose.focal, plane.up)
        if again is None or (best is not None and again.likelihood <= best.likelihood):
            break
        best = again
        loose = adjusted(best.poses, best.focal, None)
    if best is None or (loose is not None and not resting and best.likelihood < _ON_PLANE * loose.likelihood):
        return loose
    for _ in range(_ROUNDS):  # from better places more tracks hold together, and these fix the places
        plane = resting_plane(best.poses)
        again = None if plane is None else adjusted(best.poses, best.focal, plane.up)
        if again is None or again.likelihood <= best.likelihood:
            break
        grown, best = again.likelihood > _SETTLES * best.likelihood, again
        if not grown:
            break
    return best


def _within(poses: Poses, others: Poses) -> bool:
    """Whether the others have the same copies, and perhaps more, in the same poses."""
    return set(poses) <= set(others) and differing(poses, others) == []
