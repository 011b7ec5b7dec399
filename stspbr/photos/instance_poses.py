"""The poses of equal objects in one photograph: features, pairs, mapping, proof by outlines and print, rescue."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from stspbr.errors import StspbrError
from stspbr.photos.instance_features import Features, instance_features, match, together
from stspbr.photos.instance_mapping import Model, map_copies, refined_model
from stspbr.photos.instance_pairs import FEW, Pair, TwoView, consistent, photo_camera, two_view
from stspbr.photos.instance_plane import RestingPlane, on_plane, resting_plane
from stspbr.photos.instance_proxy import Picture, Proxy, build_proxy, pictures
from stspbr.photos.instance_rescue import Answer, find_pose, proven, rescue_rotations
from stspbr.photos.instances import Instance
from stspbr.photos.silhouette_check import ENOUGH, Coherence, Silhouettes, verified
from stspbr.photos.structure_from_motion import quiet, require_pycolmap

FOCALS = (0.7, 1.0, 1.4, 2.0, 2.8)
"""Focal lengths that are tried if none is known, in the photo's longer side."""
_UNSURE_FOCAL = 0.03  # relative standard deviation of a focal length that is worth a warning
_FEWEST = 3
_PROOF_SIDE = 96  # pixels of the pictures that poses are proven on
_Say = Callable[[str], None]


@dataclass(frozen=True)
class PoseSearch:
    """How poses are sought.

    Attributes:
        focal: in pixels of the photo; None: it is sought.
        matcher: ``"sift"``: SIFT alone; ``"affine"``: pairs that it joins weakly are tried again with tilted views.
        resting: ``"any"``; ``"plane"``: all copies stand on one plane with the same side down.
        rescue: whether copies without a pose are sought by drawing.
        seed: of everything.
    """

    focal: float | None = None
    matcher: str = "affine"
    resting: str = "any"
    rescue: bool = True
    seed: int = 0


@dataclass
class FoundPoses:
    """What was found.

    Attributes:
        poses: ``camera_from_object`` ``[4, 4]`` rigid, OpenGL axes, by number of the copy; the scale is free.
        focal: in pixels of the photo; focal_deviation: its standard deviation, None: it was given.
        coherence: of the poses; points: ``[P, 3]`` sparse points in object space; error: their mean reprojection error.
        how: by number ``"registered"``, ``"rescued"`` or ``"rejected"``; why: the reason, for those without a pose.
        pairs: matches and inliers of the pairs of copies that were verified; cut: pairs that contradicted others.
        scores: by number overlap and likeness of the drawn object, and the likeness in the best other pose.
        deviations: by number, standard deviations of the pose: degrees, and translation in the poses' units.
        plane: what all copies stand on, if they do.
    """

    poses: dict[int, np.ndarray]
    focal: float
    focal_deviation: float | None
    coherence: Coherence
    points: np.ndarray
    error: float
    how: dict[int, str] = field(default_factory=dict)
    why: dict[int, str] = field(default_factory=dict)
    pairs: dict[Pair, tuple[int, int]] = field(default_factory=dict)
    cut: list[Pair] = field(default_factory=list)
    scores: dict[int, tuple[float, float, float]] = field(default_factory=dict)
    deviations: dict[int, tuple[float, float]] = field(default_factory=dict)
    plane: RestingPlane | None = None


def find_poses(
    display: np.ndarray, labels: np.ndarray, copies: list[Instance], search: PoseSearch, say: _Say = lambda line: None
) -> FoundPoses:
    """Find the poses of the copies that can be used.

    Args:
        display: ``[H, W]`` float32 luminance of the photo in [0, 1], display curve.
        labels: ``[H, W]`` int32.
        copies: at least three, none of them rejected.
        say: called with lines for people.

    Raises:
        StspbrError: pycolmap is missing, or fewer than three copies fit together.
    """
    pycolmap = require_pycolmap()
    with quiet(pycolmap):
        size = (display.shape[1], display.shape[0])
        features = _features(pycolmap, display, labels, copies, search, size, say)
        scene = _Scene(pycolmap, display, labels, copies, Silhouettes(labels, copies), size, search.seed)
        focals = [search.focal] if search.focal is not None else [factor * max(size) for factor in FOCALS]
        best = max((_at_focal(scene, features, focal) for focal in focals), key=lambda one: one.score)
        if search.focal is None and best.model is not None:
            focal, deviation, _ = refined_model(pycolmap, best.model, free=True)
            if 0.5 * best.focal < focal < 2.0 * best.focal:
                again = _at_focal(scene, features, focal)
                best = again if again.score >= 0.9 * best.score else best
            say(f"focal length {best.focal:.0f} ± {deviation:.0f} pixels, estimated")
            if deviation > _UNSURE_FOCAL * best.focal:
                say("warning: the focal length is uncertain: give --focal or --fov, if you know it")
        if best.model is None or best.coherence is None:
            raise _nothing(features, best, copies)
        _, deviation, deviations = refined_model(pycolmap, best.model, free=search.focal is None)
    out = FoundPoses(
        best.poses, best.focal, None if search.focal else deviation, best.coherence, best.model.points,
        best.model.error,
        why=dict(best.why), cut=best.cut, scores=best.scores, deviations=deviations,
        pairs={pair: (view.matches, len(view.inliers)) for pair, view in best.pairs.items()},
    )  # fmt: skip
    if search.rescue:
        _rescue(scene, best.seen, search, out, say)
    if not _proven(scene.silhouettes, out, best.seen):
        raise _nothing(features, best, copies)
    for copy in copies:
        if copy.number in out.poses:
            out.how.setdefault(copy.number, "registered")
        else:
            out.how[copy.number] = "rejected"
            out.why.setdefault(copy.number, _unmatched(copy.number, out.pairs))
    out.plane = resting_plane(out.poses)
    if search.resting == "plane" and out.plane is not None:
        out.poses = on_plane(out.poses, out.plane, out.coherence.centre)
        out.coherence = scene.silhouettes.check(out.poses, out.focal)
    return out


@dataclass
class _Scene:
    """What all tries share."""

    pycolmap: Any
    display: np.ndarray
    labels: np.ndarray
    copies: list[Instance]
    silhouettes: Silhouettes
    size: tuple[int, int]
    seed: int


@dataclass
class _Try:
    """The best model at one focal length."""

    focal: float
    pairs: dict[Pair, TwoView]
    cut: list[Pair]
    seen: dict[int, Picture]
    model: Model | None = None
    poses: dict[int, np.ndarray] = field(default_factory=dict)
    coherence: Coherence | None = None
    scores: dict[int, tuple[float, float, float]] = field(default_factory=dict)
    why: dict[int, str] = field(default_factory=dict)

    @property
    def score(self) -> float:
        """Copies, weighed by how well their masks and their print fit."""
        if self.coherence is None:
            return 0.0
        return self.coherence.score + sum(max(likeness, 0.0) for _, likeness, _ in self.scores.values())


def _features(
    pycolmap: Any,
    display: np.ndarray,
    labels: np.ndarray,
    copies: list[Instance],
    search: PoseSearch,
    size: tuple[int, int],
    say: _Say,
) -> dict[int, Features]:
    """The features of every copy, with those of tilted views where a pair needs them."""
    features = {copy.number: instance_features(display, labels, copy) for copy in copies}
    say(f"{sum(len(own.points) for own in features.values())} features on {len(copies)} copies")
    if search.matcher == "sift":
        return features
    focal = search.focal or FOCALS[1] * max(size)
    pairs = _pairs(pycolmap, features, copies, focal, size, search.seed)
    weak = [(a, b) for a in features for b in features if a < b and len(_inliers(pairs.get((a, b)))) < FEW]
    joined = {k for pair, view in pairs.items() if len(view.inliers) >= FEW for k in pair}
    needed = [copy for copy in copies if len(joined) < len(copies) or any(copy.number in pair for pair in weak)]
    if not weak or not needed:
        return features
    say(f"{len(weak)} pairs have fewer than {FEW} inliers: tilted views of {len(needed)} copies")
    for copy in needed:
        tilted = instance_features(display, labels, copy, "affine")
        features[copy.number] = together(features[copy.number], tilted)
    return features


def _inliers(view: TwoView | None) -> np.ndarray:
    return np.zeros((0, 2), np.int64) if view is None else view.inliers


def _pairs(
    pycolmap: Any,
    features: Mapping[int, Features],
    copies: Iterable[Instance],
    focal: float,
    size: tuple[int, int],
    seed: int,
) -> dict[Pair, TwoView]:
    camera = photo_camera(pycolmap, focal, size)
    areas = {copy.number: copy.pixels for copy in copies}
    out = {}
    for a in features:
        for b in features:
            if a < b:
                found = match(features[a], features[b])
                view = two_view(pycolmap, camera, features[a], features[b], found, (areas[a], areas[b]), seed)
                if view is not None:
                    out[a, b] = view
    return out


def _at_focal(scene: _Scene, features: Mapping[int, Features], focal: float) -> _Try:
    """The model with the most copies that hold together, at one focal length."""
    pairs = _pairs(scene.pycolmap, features, scene.copies, focal, scene.size, scene.seed)
    kept = consistent(pairs)
    seen = pictures(scene.display, scene.labels, scene.copies, focal, _PROOF_SIDE)
    out = _Try(focal, kept, sorted(set(pairs) - set(kept)), seen)
    for model in map_copies(scene.pycolmap, features, kept, focal, scene.size, scene.seed):
        if 2.0 * len(model.poses) <= out.score:
            continue
        poses, coherence = verified(scene.silhouettes, model.poses, focal)
        why = {
            number: f"incoherent: its mask does not fit the pose that its features suggest (needed: {ENOUGH:.0%} of it "
            "under the hull of the others): is it the same object?"
            for number in model.poses
            if number not in poses
        }
        trial = replace(out, model=model, poses=poses, coherence=coherence, why=why, scores={})
        if coherence is not None and _proven(scene.silhouettes, trial, seen) and trial.score > out.score:
            out = trial
    return out


def _proven(silhouettes: Silhouettes, found: _Try | FoundPoses, seen: dict[int, Picture]) -> bool:
    """Drop the copies against whose poses their print speaks, the worst first; whether enough are left."""
    while len(found.poses) >= _FEWEST:
        answers = {k: _leave_one_out(silhouettes, seen, found.poses, found.focal, k) for k in found.poses}
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


def _leave_one_out(
    silhouettes: Silhouettes, seen: dict[int, Picture], poses: Mapping[int, np.ndarray], focal: float, number: int
) -> Answer | None:
    proxy = build_proxy(silhouettes, seen, poses, focal, without=number)
    return None if proxy is None else proven(proxy, seen[number], poses[number])


def _rescue(scene: _Scene, seen: dict[int, Picture], search: PoseSearch, out: FoundPoses, say: _Say) -> None:
    """Seek the copies without a pose, those with the largest masks first."""
    missing = sorted((copy for copy in scene.copies if copy.number not in out.poses), key=lambda copy: -copy.pixels)
    plane = resting_plane(out.poses)
    if search.resting == "plane" and plane is None:
        say("warning: the copies that have poses do not stand on one plane: any pose is tried")
    for copy in missing:
        proxy: Proxy | None = build_proxy(scene.silhouettes, seen, out.poses, out.focal)
        if proxy is None:
            return
        known = list(out.poses.values())
        depth = float(np.median([-(pose[:3, :3] @ proxy.centre + pose[:3, 3])[2] for pose in known]))
        rotations = rescue_rotations([pose[:3, :3] for pose in known], None if plane is None else plane.up)
        up = None if plane is None else plane.up
        answer = find_pose(proxy, seen[copy.number], rotations, depth, up)
        if answer is None or not answer.sure:
            if answer is not None:
                out.why[copy.number] = (
                    f"{out.why[copy.number]}; {answer.doubt}" if copy.number in out.why else (answer.doubt)
                )
            continue
        trial = {**out.poses, copy.number: answer.pose}
        found = scene.silhouettes.check(trial, out.focal)
        if found.worst[1] < ENOUGH:
            out.why[copy.number] = f"incoherent: its mask fits the hull of the others by {found.worst[1]:.0%} at best"
            continue
        out.poses = dict(sorted(trial.items()))
        out.how[copy.number] = "rescued"
        out.why.pop(copy.number, None)
        say(
            f"copy {copy.number}: rescued by drawing (overlap {answer.score.overlap:.2f}, "
            f"likeness {answer.score.likeness:.2f})"
        )


def _unmatched(number: int, pairs: Mapping[Pair, tuple[int, int]]) -> str:
    own = {pair: counts for pair, counts in pairs.items() if number in pair}
    if not own:
        return "no other copy shows the same print from a side that is near enough: turn it, or add copies in between"
    pair, (_, inliers) = max(own.items(), key=lambda item: item[1][1])
    other = pair[0] if pair[1] == number else pair[1]
    return f"not registered: {inliers} matches with copy {other} at best, which fix no pose"


def _nothing(features: Mapping[int, Features], found: _Try, copies: list[Instance]) -> StspbrError:
    counts = sorted(len(own.points) for own in features.values())
    if counts[len(counts) // 2] < 100:
        return StspbrError(
            f"no poses: the copies have {counts[len(counts) // 2]} features at the median, too little print: "
            "photograph from nearer and sharply, or take a capture of one copy from all sides"
        )
    if found.model is None and not found.pairs:
        return StspbrError(
            f"no poses: no two of the {len(copies)} copies show the same print: turn neighbouring copies by less than "
            "40 degrees, and photograph from nearer"
        )
    return StspbrError(
        f"no poses: fewer than 3 of {len(copies)} copies fit together ({len(found.pairs)} pairs do): put more copies "
        "in the photo, turned by less than 40 degrees from one to the next; if they are not all the same object, leave "
        "the others out of the segmentation"
    )
