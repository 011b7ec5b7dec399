"""The poses of equal objects in one photograph: features, arrangements that hold together, and rescue by drawing."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np

from stspbr.errors import StspbrError
from stspbr.metrics.poses import pose_errors
from stspbr.photos.instance_bundle import FocalPrior
from stspbr.photos.instance_features import Features, Matches, instance_features, match, together, without_noise
from stspbr.photos.instance_focal import FOCALS, without_focal
from stspbr.photos.instance_groups import moved_group
from stspbr.photos.instance_models import FEWEST, Arrangement, Scene, prove, settled, symmetry, two_views
from stspbr.photos.instance_pairs import FEW, Pair
from stspbr.photos.instance_plane import RestingPlane, on_plane, resting_plane
from stspbr.photos.instance_proxy import Picture, Proxy, build_proxy
from stspbr.photos.instance_rescue import find_pose, mirror_fits, rescue_rotations
from stspbr.photos.instance_search import adjusted_poses, arrangements
from stspbr.photos.instance_static import moving_matches
from stspbr.photos.instance_symmetry import Symmetry
from stspbr.photos.instances import Instance
from stspbr.photos.silhouette_check import ENOUGH, Coherence, Silhouettes
from stspbr.photos.structure_from_motion import quiet, require_pycolmap

_FEW_INLIERS = 12  # observations that fix a copy's pose
_DRAWN = 8.0  # degrees that a drawn pose may be off
_Say = Callable[[str], None]


@dataclass(frozen=True)
class PoseSearch:
    """How poses are sought.

    Attributes:
        focal: in pixels of the photo; None: it is sought.
        focal_deviation: relative standard deviation of ``focal``; 0: it is exact; above, it is adjusted at last.
        matcher: ``"sift"``: SIFT alone; ``"affine"``: pairs that it joins weakly are tried again with tilted views.
        resting: ``"any"``; ``"plane"``: all copies stand on one plane with the same side down.
        symmetry: ``"auto"``: tested; ``"axial"``: every turn about one axis shows the same; ``"none"``: no turn does.
        rescue: whether copies without a pose are sought by drawing.
        seed: of everything.
    """

    focal: float | None = None
    focal_deviation: float = 0.0
    matcher: str = "affine"
    resting: str = "any"
    symmetry: str = "auto"
    rescue: bool = True
    seed: int = 0


@dataclass
class FoundPoses:
    """What was found.

    Attributes:
        poses: ``camera_from_object`` ``[4, 4]`` rigid, OpenGL axes, by number of the copy; the scale is free.
        focal: in pixels of the photo; focal_deviation: its standard deviation in pixels, None: it was given exactly.
        coherence: of the poses; points: ``[P, 3]`` in object space; error: their median reprojection error.
        how: by number ``"registered"``, ``"rescued"`` or ``"rejected"``; why: the reason, for those without a pose.
        pairs: matches and inliers of the pairs of copies that were verified; cut: pairs that contradicted others.
        scores: by number overlap and likeness of the drawn object, and the likeness in the best other pose.
        deviations: by number, standard deviations of the pose: degrees, and translation in the poses' units.
        plane: what all copies stand on, if they do.
        symmetry: turns of the object that the copies do not tell apart, if there are any.
        seen: the copies' pictures at the focal length.
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
    symmetry: Symmetry | None = None
    seen: dict[int, Picture] = field(default_factory=dict)


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
        display = without_noise(display, labels)
        scene = Scene(pycolmap, display, labels, copies, Silhouettes(labels, copies), size, search.seed)
        scene.features, matches = _features(scene, search, say)
        scene.matches = moving_matches(scene.features, matches, copies)
        best = _arranged(scene, search, say)
    if best.refined is None or best.coherence is None:
        raise _nothing(scene, best)
    refined = best.refined
    exact = search.focal is not None and search.focal_deviation == 0
    out = FoundPoses(
        best.poses, best.focal, None if exact else refined.focal_deviation, best.coherence, refined.points,
        refined.error, why=dict(best.why), cut=best.cut, scores=best.scores, deviations=refined.deviations,
        pairs={pair: (view.matches, refined.shared.get(pair, 0)) for pair, view in best.pairs.items()}, seen=best.seen,
    )  # fmt: skip
    if search.symmetry != "none":
        out.symmetry = symmetry(scene.silhouettes, out, search.symmetry == "axial")
        if out.symmetry is not None:
            say(f"the object is {out.symmetry.name} symmetric as far as the copies show: such turns are left open")
    if search.rescue:
        _rescue(scene, search, out, say)
        with quiet(pycolmap):
            _adjust_rescued(scene, best, out, search.resting == "plane")
    if not prove(scene.silhouettes, out):
        raise _nothing(scene, best)
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


def _arranged(scene: Scene, search: PoseSearch, say: _Say) -> Arrangement:
    """The arrangement that stands, with the focal length adjusted where it is not known exactly."""
    if search.focal is not None:
        prior = FocalPrior(search.focal, search.focal_deviation) if search.focal_deviation > 0 else None
        found = arrangements(scene, search.focal, prior is not None, prior, search.resting == "plane")
        return settled(scene.silhouettes, found)
    return without_focal(scene, search.resting == "plane", say)


def _features(scene: Scene, search: PoseSearch, say: _Say) -> tuple[dict[int, Features], dict[Pair, Matches]]:
    """The features of every copy, with those of tilted views where a pair needs them, and the matches of all pairs."""
    copies, photo = scene.copies, (scene.display, scene.labels)
    features = {copy.number: instance_features(*photo, copy) for copy in copies}
    say(f"{sum(len(own.points) for own in features.values())} features on {len(copies)} copies")
    every = [(a, b) for a in features for b in features if a < b]
    matches = {(a, b): match(features[a], features[b]) for a, b in every}
    if search.matcher == "sift":
        return features, matches
    focal = search.focal or FOCALS[1] * max(scene.size)
    pairs = two_views(scene.pycolmap, features, matches, copies, focal, scene.size, search.seed)
    strong = {pair for pair, view in pairs.items() if len(view.inliers) >= FEW}
    weak = [pair for pair in every if pair not in strong]
    needed = {k for pair in weak for k in pair}
    if not weak:
        return features, matches
    say(f"{len(weak)} pairs have fewer than {FEW} inliers: tilted views of {len(needed)} copies")
    for copy in copies:
        if copy.number in needed:
            features[copy.number] = together(features[copy.number], instance_features(*photo, copy, "affine"))
    # tilted views leave the numbers of the others as they are: strong pairs of plain features need no second match
    return features, matches | {(a, b): match(features[a], features[b]) for a, b in weak}


def _rescue(scene: Scene, search: PoseSearch, out: FoundPoses, say: _Say) -> None:
    """Seek the copies without a pose, those with the largest masks first."""
    seen = out.seen
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
        answer = find_pose(proxy, seen[copy.number], rotations, depth, up, out.symmetry)
        if answer is None or not answer.sure:
            if answer is not None:
                out.why[copy.number] = (
                    f"{out.why[copy.number]}; {answer.doubt}" if copy.number in out.why else (answer.doubt)
                )
            continue
        if mirror_fits(proxy, seen[copy.number], answer, rotations, depth, up):
            out.why[copy.number] = "its mirror image fits better: a left one among right ones is another object"
            continue
        pose = answer.pose if out.symmetry is None else out.symmetry.standard(answer.pose)
        trial = {**out.poses, copy.number: pose}
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


def _adjust_rescued(scene: Scene, best: Arrangement, out: FoundPoses, resting: bool) -> None:
    """Adjust the rescued copies together with the others, by the matches that their drawn poses let in.

    A copy whose matches stay few keeps the pose that drawing gave it.
    """
    rescued = [number for number, how in out.how.items() if how == "rescued"]
    if not rescued:
        return
    refined = adjusted_poses(scene, best.pairs, out.poses, out.focal, resting=resting)
    if refined is None:
        return
    weak = [number for number in rescued if refined.inliers.get(number, 0) < _FEW_INLIERS]
    common = pose_errors(*({k: p for k, p in poses.items() if k not in weak} for poses in (out.poses, refined.poses)))
    scale = float(np.cbrt(np.linalg.det(common.similarity[:3, :3])))
    own = common.similarity[:3, :3].T / scale, scale, common.similarity[:3, 3], np.zeros(3)
    kept = {number: pose for number, pose in out.poses.items() if number in weak}
    poses = dict(sorted({**refined.poses, **moved_group(kept, own)}.items()))
    moved = [k for k in rescued if k not in weak and common.rotations[k] > _DRAWN]
    coherence = scene.silhouettes.check(poses, out.focal)
    if moved or coherence.worst[1] < ENOUGH:  # matches by chance took a copy along
        return
    out.poses, out.coherence, out.points, out.error = poses, coherence, refined.points, refined.error
    out.deviations = {k: value for k, value in refined.deviations.items() if k not in weak}


def _unmatched(number: int, pairs: Mapping[Pair, tuple[int, int]]) -> str:
    own = {pair: counts for pair, counts in pairs.items() if number in pair}
    if not own:
        return "no other copy shows the same print from a side that is near enough: turn it, or add copies in between"
    pair, (_, inliers) = max(own.items(), key=lambda item: item[1][1])
    other = pair[0] if pair[1] == number else pair[1]
    return f"not registered: {inliers} matches with copy {other} at best, which fix no pose"


def _nothing(scene: Scene, found: Arrangement) -> StspbrError:
    count = len(scene.copies)
    counts = sorted(len(own.points) for own in scene.features.values())
    if counts[len(counts) // 2] < 100:
        return StspbrError(
            f"no poses: the copies have {counts[len(counts) // 2]} features at the median, too little print: "
            "photograph from nearer and sharply, or take a capture of one copy from all sides"
        )
    if not found.pairs:
        return StspbrError(
            f"no poses: no two of the {count} copies show the same print: turn neighbouring copies by less than "
            "40 degrees, and photograph from nearer"
        )
    if any(reason.startswith("ambiguous") for reason in found.why.values()):
        return StspbrError(
            f"no poses: two arrangements of the {count} copies explain the photo alike, and one of them is wrong: put "
            "more copies in, turned by less than 40 degrees from one to the next, or an object whose sides differ more"
        )
    return StspbrError(
        f"no poses: fewer than {FEWEST} of {count} copies fit together ({len(found.pairs)} pairs do): put more copies "
        "in the photo, turned by less than 40 degrees from one to the next; if they are not all the same object, leave "
        "the others out of the segmentation"
    )
