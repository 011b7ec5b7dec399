"""Are wrong poses that look right kept? ``make quality-duplicates ARGS="--wrong --seeds 20"``.

The search adjusts each start to the matches, and judges what comes out by matches, outlines, print and the hull. Here
it gets wrong starts on purpose, such as it has had: two right groups that are joined in a wrong turn, and turns that
are all too small. The adjustment is the free one, which wrong poses survive best; of a can, outlines tell no turn. A
copy that is kept and more than ten degrees off was falsely accepted. The right poses are a start, too: to refuse
everything proves nothing. Print and masks are those of the rasterised pile; features are points of its surface, with
the noise that was measured on path-traced piles, and a sixth of them is printed twice.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np

from stspbr.metrics.poses import pose_errors
from stspbr.photos.instance_features import Features, match, without_noise
from stspbr.photos.instance_groups import linked
from stspbr.photos.instance_models import FEWEST, Arrangement, confirmed
from stspbr.photos.instance_proxy import pictures
from stspbr.photos.instance_tracks import refined_poses
from stspbr.photos.instances import find_copies
from stspbr.photos.silhouette_check import Silhouettes
from stspbr.procedural.by_name import procedural_light
from stspbr.procedural.pile import Pile
from stspbr.render.pile_photo import grey_display, photograph_quickly

WRONG = 10.0  # degrees from which a kept pose counts as wrong
_PROOF_SIDE = 96
_DRIFT = 0.9  # of the turns from one copy to the next
_POINTS, _NOISE, _TWICE = 900, 0.25, 1.0 / 6.0  # on the surface; pixels; share that is printed twice
Poses = dict[int, np.ndarray]


def judged(pile: Pile, seed: int) -> list[dict[str, Any]]:
    """What the search keeps of the right poses of a pile of standing copies, and of wrong starts.

    Returns:
        Per start its ``kind``, the worst error in degrees that it was ``given`` and that it was ``adjusted`` to, the
        share of points ``outside`` of the hull, how many copies were ``kept``, how many of these are ``wrong``, and the
        worst ``error`` among them.
    """
    image, labels = photograph_quickly(pile, procedural_light("procedural:studio"))
    display = grey_display(image)
    labels, copies = find_copies(labels)
    usable = [copy for copy in copies if not copy.rejected]
    camera = pile.camera
    size, middle = (camera.width, camera.height), 0.5 * np.array([camera.width, camera.height], np.float64)
    true = {copy.number: camera.world_to_camera @ pile.poses[copy.number - 1] for copy in usable}
    silhouettes = Silhouettes(labels, usable)
    seen = pictures(without_noise(display, labels), labels, usable, camera.fx, _PROOF_SIDE)
    features = surface_features(pile, true, labels, seed)
    matches = {(a, b): match(features[a], features[b]) for a in features for b in features if a < b}
    rows = []
    for kind, poses in starts(true, seed):
        row: dict[str, Any] = {"kind": kind, "given": _worst(poses, true), "adjusted": None, "outside": None}
        row |= {"kept": 0, "wrong": 0, "error": 0.0}
        rows.append(row)
        refined = refined_poses(features, matches, {}, poses, camera.fx, size)
        if refined is None:
            continue
        row["adjusted"] = _worst(refined.poses, true)
        for part in linked(features, matches, refined.poses, camera.fx, middle):
            own = replace(refined, poses={number: refined.poses[number] for number in part})
            trial = Arrangement(camera.fx, {}, [], seen, own)
            if len(part) >= FEWEST and confirmed(silhouettes, trial):
                turns = list(pose_errors(trial.poses, true).rotations.values())
                row["kept"] += len(turns)
                row["wrong"] += sum(turn > WRONG for turn in turns)
                row["error"] = max(row["error"], *turns)
            if len(part) == len(poses) and trial.coherence is not None:
                row["outside"] = silhouettes.outside(own.points, trial.coherence)
    return rows


def surface_features(pile: Pile, true: Poses, labels: np.ndarray, seed: int) -> dict[int, Features]:
    """Points of the surface where each copy shows them, with descriptors that are alike; some are printed twice."""
    rng = np.random.default_rng(seed)
    mesh = pile.asset.mesh
    corners = np.asarray(mesh.positions, np.float64)[mesh.faces]
    normals = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    area = np.linalg.norm(normals, axis=1)
    face = rng.choice(len(area), _POINTS, p=area / area.sum())
    shares = rng.dirichlet((1.0, 1.0, 1.0), _POINTS)
    places, facing = (corners[face] * shares[..., None]).sum(axis=1), normals[face] / area[face, None]
    printed = rng.normal(size=(_POINTS, 128))
    twice = rng.random(_POINTS) < _TWICE
    printed[twice] = printed[rng.permutation(_POINTS)[: int(twice.sum())]]
    camera, out = pile.camera, {}
    for number, pose in true.items():
        local = places @ pose[:3, :3].T + pose[:3, 3]
        towards = -((facing @ pose[:3, :3].T) * local).sum(axis=1) / np.linalg.norm(local, axis=1)
        pixels = np.stack([camera.cx - camera.fx * local[:, 0] / local[:, 2],
                           camera.cy + camera.fy * local[:, 1] / local[:, 2]], axis=1)  # fmt: skip
        row, column = np.floor(pixels.T[::-1]).astype(int)
        inside = (row >= 0) & (row < camera.height) & (column >= 0) & (column < camera.width)
        shown = inside & (labels[row.clip(0, camera.height - 1), column.clip(0, camera.width - 1)] == number)
        shown &= (towards > 0.25) & (rng.random(_POINTS) < 0.7)
        own = printed[shown] + 0.25 * rng.normal(size=(int(shown.sum()), 128))
        own /= np.linalg.norm(own, axis=1, keepdims=True)
        noisy = pixels[shown] + rng.normal(size=(len(own), 2)) * _NOISE
        out[number] = Features(noisy.astype(np.float32), own.astype(np.float32), np.arange(len(own)))
    return out


def starts(true: Poses, seed: int) -> Iterator[tuple[str, Poses]]:
    """The right poses of standing copies, and wrong ones by kind; places stay, the object's turns change."""
    rng = np.random.default_rng(seed)
    base = next(iter(true.values()))[:3, :3]
    yaws = {}
    for number, pose in true.items():
        turn = base.T @ pose[:3, :3]
        yaws[number] = float(np.arctan2(turn[0, 2], turn[0, 0]))
    order = _along(yaws)

    def turned(by: dict[int, float]) -> Poses:
        return {number: pose @ _about_up(by.get(number, 0.0)) for number, pose in true.items()}

    yield "right", dict(true)
    degrees = rng.uniform(20.0, 180.0)
    yield "joined", turned({number: np.radians(degrees) for number in order[: len(order) // 2]})
    since = {number: (yaws[number] - yaws[order[0]]) % (2.0 * np.pi) for number in order}
    yield "drift", turned({number: (_DRIFT - 1.0) * since[number] for number in order})


def _along(yaws: dict[int, float]) -> list[int]:
    """The copies in the order of their turns, from behind the largest gap on."""
    order = sorted(yaws, key=lambda number: yaws[number])
    gaps = [(yaws[b] - yaws[a]) % (2.0 * np.pi) for a, b in zip(order, order[1:] + order[:1], strict=True)]
    first = int(np.argmax(gaps)) + 1
    return order[first:] + order[:first]


def _worst(poses: Poses, true: Poses) -> float:
    return max(pose_errors(poses, true).rotations.values())


def summary(rows: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Over all arrangements of a kind: how many were judged, kept (three copies or more) and falsely accepted."""
    out = {}
    for kind in dict.fromkeys(row["kind"] for row in rows):
        own = [row for row in rows if row["kind"] == kind]
        out[kind] = {
            "judged": len(own),
            "kept": sum(row["kept"] > 0 for row in own),
            "copies_kept": sum(row["kept"] for row in own),
            "falsely_accepted": sum(row["wrong"] > 0 for row in own),
            "copies_wrong": sum(row["wrong"] for row in own),
        }
    return out


def _about_up(yaw: float) -> np.ndarray:
    """``[4, 4]`` a turn of the object about its own +Y."""
    out = np.eye(4)
    cos, sin = np.cos(yaw), np.sin(yaw)
    out[:3, :3] = [[cos, 0.0, sin], [0.0, 1.0, 0.0], [-sin, 0.0, cos]]
    return out
