"""What is measured of one object: the maps' confidence against the truth, a view removed, five views added, time.

Each function takes a ``Case`` and returns plain values for its record.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.spatial import cKDTree

from stspbr.artifacts import Artifact
from stspbr.metrics.material_reader import SurfaceReader
from stspbr.metrics.relighting import frame_labels
from stspbr.metrics.sampling import surface_tree
from stspbr.optimize.appearance import TextureAppearance
from stspbr.optimize.guided_fill import CHANNELS as FILLS
from stspbr.optimize.guided_fill import guided_fill
from stspbr.optimize.loop import optimize
from stspbr.optimize.next_photos import DIRECTIONS, next_photos, sites
from stspbr.optimize.posterior import CHANNELS
from stspbr.optimize.progress import SilentReporter
from stspbr.optimize.reconstruction import Reconstruction
from stspbr.quality.confidence_cases import Case, RunCase
from stspbr.quality.confidence_checks import jacobian_figures, lamps_figures, rows_at, shares_off_by
from stspbr.quality.confidence_figures import by_confidence, correlations, factors, rank_figures
from stspbr.scene import Asset, Capture, Frame, Normalization
from stspbr.scene.camera import look_at
from stspbr.scene.directions import sphere_directions
from stspbr.settings import BakeSettings
from stspbr.stages.bake import BakeProblem, bake_problem
from stspbr.stages.baked_problem import reopened
from stspbr.stages.capture_mesh import load_light, render_views
from stspbr.stages.confidence_files import LOW, Confidence, confidence_of, settled, texels_of, write_confidence
from stspbr.stages.explain_removal import explain_removal
from stspbr.stages.explain_targets import Question
from stspbr.stages.session import Session
from stspbr.texture.atlas import TexelMap

_LOOKED_AT = 0.2  # of the usual weight of a texel in a view: below it, the view hardly shows it
_DRAWS = 3  # sets of five random views
_FIVE = 5


def ranks(case: Case | RunCase, home: Path, threads: int, arrays: Path) -> dict[str, Any]:
    """Stds against errors, the fill, lamps, shares and derivatives; std and error per texel are written to ``arrays``.

    The error is that of the maps as they were fitted, and of the filled ones as they are delivered; a run that was
    filled already is measured as it is.
    """
    session, artifact = case.run(home, threads)
    baked, problem = reopened(session, artifact)
    known = Confidence.of_finished(problem, artifact)
    truth = _Truth(case.truth(), baked.normalization)
    began = _maps(problem)
    fitted = truth.errors(problem, known.texels)
    posterior = rows_at(known.std, known.texels)
    filled, delivered, std = {}, fitted, rows_at(known.error_std(problem), known.texels)
    for channels in FILLS if _unfilled(artifact) else ():
        share = guided_fill(problem, known.std, known.texels, channels)
        filled[channels] = {"changed": share} | _fill_figures(posterior, fitted, truth.errors(problem, known.texels))
        if channels == "roughness":  # the default
            delivered = truth.errors(problem, known.texels)
            std = rows_at(known.error_std(problem), known.texels)
        _put_back(problem, began)
    arrays.parent.mkdir(parents=True, exist_ok=True)
    np.savez(arrays, std=std, error=delivered)
    return {
        "texels": len(std),
        "mean_error": _means(delivered),
        "ranks": rank_figures(std, delivered),
        "ranks_of_posterior": rank_figures(posterior, delivered),
        "ranks_without_fill": rank_figures(posterior, fitted) if filled else None,
        "factors": factors(std, delivered),
        "fill": filled,
        "lamps": lamps_figures(problem, baked, known, delivered[:, 3]),
        "shares_off_by": shares_off_by(known),
        "jacobian_off_by": jacobian_figures(problem, known.evidence),
    }


def removal(
    case: Case | RunCase, home: Path, threads: int, numbers: Sequence[int], orders: Sequence[str]
) -> dict[str, Any]:
    """What ``explain --without`` predicts for each of the views alone, against a new bake without it.

    Args:
        orders: of the other views in the new bake: ``same`` (the view's pixels are unknown, and nothing else differs)
            or ``new`` (the frame is left out, so that all draws differ, too, and chance is part of the change).
    """
    session, artifact = case.run(home, threads)
    baked, problem = reopened(session, artifact)
    known = Confidence.of_finished(problem, artifact)
    sides = [(own.shape[0], own.shape[1]) for own in known.information]
    # the new bakes are not filled, so that one with all views is compared with them
    today = _maps(problem if _unfilled(artifact) else _fitted(session, case.stage_settings("bake")).reconstruction)
    frames = baked.capture.split("train")
    rows = []
    for number in numbers:
        label = frame_labels(frames)[number]
        with tempfile.TemporaryDirectory() as folder:
            began = time.process_time()
            found = explain_removal(session, [label], Question(), "roughness", Path(folder))
            seconds = time.process_time() - began
        own = (known.evidence.seen.view == number)[:, None] * known.evidence.stands
        weight = known.evidence.reads.collected(own, sides)
        masks = [part[..., 0] > _LOOKED_AT * _usual(weight) for part in weight]
        predicted = _masked(found.change, masks)
        row: dict[str, Any] = {"view": label, "texels": len(predicted), "cpu_seconds": seconds}
        row["predicted_size"] = _sizes(predicted)
        for order in orders:
            changed = partial(_unknown if order == "same" else _without, name=frames[number].name)
            new = _maps(_fitted(session, case.stage_settings("bake"), changed).reconstruction)
            actual = _masked([b - a for a, b in zip(today, new, strict=True)], masks)
            pixels = [
                known.evidence.reads.lookup(maps)[own[:, 0] > 0].double().cpu().numpy()
                for maps in (found.change, [b - a for a, b in zip(today, new, strict=True)])
            ]
            row[order] = {
                "correlation": correlations(predicted, actual),
                "by_pixel": correlations(*pixels),
                "size": _sizes(actual),
            }
        rows.append(row)
    return {"views": rows}


def five(case: Case | RunCase, home: Path, threads: int, steps: int) -> dict[str, Any]:
    """Errors of bakes with five more views, those that confidence chooses or random ones, and of one without them.

    They are those over the whole surface, and over the weak one, of whose texels confidence was below 0.3 before.

    Args:
        steps: of each of these bakes.
    """
    session, artifact = case.run(home, threads)
    baked, problem = reopened(session, artifact)
    known = Confidence.of_finished(problem, artifact)
    points = sites(problem, known.evidence, known.information, known.texels)
    chosen = [photo.direction for photo in next_photos(problem, known.evidence, points, count=_FIVE)]
    sphere, rng = sphere_directions(DIRECTIONS), np.random.default_rng(0)
    sets = {"none": [], "chosen": chosen}
    sets |= {f"random {k}": list(sphere[rng.choice(DIRECTIONS, _FIVE, replace=False)]) for k in range(_DRAWS)}
    truth = _Truth(case.truth(), baked.normalization)
    settings = case.stage_settings("bake", f"optimize.iterations={steps}")
    places, sure = _points(problem, known.texels), torch.as_tensor(rows_at(known.std, known.texels))
    weak = {name: confidence_of(sure, name)[:, 0].numpy() < LOW for name in CHANNELS}
    every, weakly = {}, {}
    for name, directions in sets.items():
        more = _photographs(case, session, truth.asset, baked.capture, directions)
        again = _fitted(session, settings, partial(_with, more=more)).reconstruction
        own = texels_of(again)
        error = truth.errors(again, own)
        every[name] = _means(error)
        near = cKDTree(places).query(_points(again, own))[1]  # the mesh has other texels, as it was fitted anew
        weakly[name] = {key: float(error[weak[key][near]][:, list(own)].mean()) for key, own in CHANNELS.items()}
    return {
        "steps": steps,
        "directions": [list(map(float, d)) for d in chosen],
        "weak_share": {name: float(own.mean()) for name, own in weak.items()},
        "errors": every,
        "weak_errors": weakly,
    }


def timed(case: Case | RunCase, home: Path, threads: int) -> dict[str, Any]:
    """CPU seconds of a bake of default length: of confidence and fill, and of all."""
    session, _ = case.run(home, threads)
    default = BakeSettings().optimize.iterations
    settings = case.stage_settings("bake", f"optimize.iterations={default}", "confidence.maps=false")
    with tempfile.TemporaryDirectory() as folder:
        start = time.process_time()
        made = _fitted(session, settings)
        fitted = time.process_time()
        known, _ = settled(made.reconstruction, BakeSettings().confidence)
        assert known is not None
        write_confidence(Path(folder), made.reconstruction, known, ["material"])
        told = time.process_time()
        made.write(Path(folder))
        end = time.process_time()
    return {
        "steps": default,
        "pixels": len(known.evidence.seen),
        "confidence": told - fitted,
        "stage": end - start,
        "share": (told - fitted) / (end - start),
    }


@dataclass
class _Truth:
    """The asset that was photographed, in its own units."""

    asset: Asset
    normalization: Normalization

    def errors(self, problem: Reconstruction, texels: Sequence[TexelMap | None]) -> np.ndarray:
        """``[T, 5]``: absolute errors of a problem's maps at all texels, against the nearest point of the truth."""
        reader, tree = SurfaceReader(self.asset), surface_tree(self.asset.mesh)
        rows = []
        for own, values in zip(texels, _maps(problem), strict=True):
            if own is None:
                continue
            point = _points(problem, [own])
            face, barycentric, _ = tree.closest(point * self.normalization.scale + self.normalization.centre)
            true = reader.read(face, barycentric)
            columns = (true["albedo"], true["roughness"][:, None], true["metallic"][:, None])
            rows.append(np.abs(values.reshape(-1, 5)[own.texel].cpu().numpy() - np.concatenate(columns, axis=1)))
        return np.concatenate(rows)


def _unfilled(artifact: Artifact) -> bool:
    """Whether the maps of an artifact are as they were fitted."""
    return artifact.settings.get("confidence", {}).get("fill", "off") == "off"


def _points(problem: Reconstruction, texels: Sequence[TexelMap | None]) -> np.ndarray:
    """``[T, 3]``: where the texels lie."""
    surface = problem.geometry.surface()
    rows = [own.interpolate(surface.positions.detach(), surface.faces) for own in texels if own is not None]
    return torch.cat(rows).double().cpu().numpy()


def _fitted(session: Session, settings: Any, changed: Callable[[Capture], Capture] | None = None) -> BakeProblem:
    """A bake's problem after its fit, of which nothing is written."""
    parts = bake_problem(session, settings, *(() if changed is None else (changed,)))
    optimize(
        parts.reconstruction, settings.optimize, reporter=SilentReporter(), checkpoints=None, resume=False,
        device=session.device, before=parts.interludes,
    )  # fmt: skip
    parts.reconstruction.progress = 1.0
    return parts


def _photographs(
    case: Case | RunCase, session: Session, asset: Asset, capture: Capture, directions: Sequence[np.ndarray]
) -> list[Frame]:
    """Frames of the truth from these directions, at the usual distance, as the capture's are."""
    settings, train = case.capture_settings(), capture.split("train")
    low, high = asset.mesh.positions.min(axis=0), asset.mesh.positions.max(axis=0)
    centre = 0.5 * (low + high).astype(np.float64)
    away = float(np.median([np.linalg.norm(frame.camera.position - centre) for frame in train]))
    poses = [look_at(centre + away * np.asarray(direction), centre) for direction in directions]
    cameras = [replace(train[0].camera, camera_to_world=pose) for pose in poses]
    light = load_light(settings.light, settings.light_layout)
    images = render_views(session, settings, asset, light, cameras)
    return [
        Frame(f"images/extra_{k}.exr", camera, image, alpha, split="train")
        for k, (camera, (image, alpha)) in enumerate(zip(cameras, images, strict=True))
    ]


def _without(capture: Capture, name: str) -> Capture:
    return replace(capture, frames=[frame for frame in capture.frames if frame.name != name])


def _unknown(capture: Capture, name: str) -> Capture:
    frames = [
        frame.with_fields(known=np.zeros_like(frame.alpha)) if frame.name == name else frame for frame in capture.frames
    ]
    return replace(capture, frames=frames)


def _with(capture: Capture, more: list[Frame]) -> Capture:
    return replace(capture, frames=[*capture.frames, *more])


def _maps(problem: Reconstruction) -> list[torch.Tensor]:
    """``[H, W, 5]`` per material, copies."""
    assert isinstance(problem.appearance, TextureAppearance)
    return [
        torch.cat([own.albedo[0], own.reflectance[0, ..., :2]], dim=-1).detach().clone()
        for own in problem.appearance.materials
    ]


@torch.no_grad()
def _put_back(problem: Reconstruction, maps: Sequence[torch.Tensor]) -> None:
    assert isinstance(problem.appearance, TextureAppearance)
    for own, values in zip(problem.appearance.materials, maps, strict=True):
        own.albedo[0].copy_(values[..., :3])
        own.reflectance[0, ..., :2].copy_(values[..., 3:])


def _masked(maps: Sequence[torch.Tensor], masks: Sequence[torch.Tensor]) -> np.ndarray:
    return torch.cat([own[mask] for own, mask in zip(maps, masks, strict=True)]).double().cpu().numpy()


def _means(error: np.ndarray) -> dict[str, float]:
    return {name: float(error[:, list(own)].mean()) for name, own in CHANNELS.items()}


def _usual(weight: Sequence[torch.Tensor]) -> float:
    """The weight of a texel such that half of all weight lies on texels with more; filters give many a little."""
    every = torch.cat([part.reshape(-1) for part in weight]).sort(descending=True).values.double()
    sums = every.cumsum(0)
    return float(every[int(torch.searchsorted(sums, 0.5 * sums[-1]))])


def _sizes(change: np.ndarray) -> dict[str, float]:
    """Root mean squares by channel."""
    return {name: float(np.sqrt((change[:, list(own)] ** 2).mean())) for name, own in CHANNELS.items()}


def _fill_figures(std: np.ndarray, before: np.ndarray, after: np.ndarray) -> dict[str, Any]:
    out: dict[str, Any] = {}
    for name, own in CHANNELS.items():
        columns = list(own)
        sure = confidence_of(torch.as_tensor(std), name)[:, 0].numpy()
        out[name] = by_confidence(sure, before[:, columns].mean(axis=1), after[:, columns].mean(axis=1))
    return out
