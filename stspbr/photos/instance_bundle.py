"""Bundle adjustment of the copies' poses: all copies, all points, one camera, and a kernel that outliers do not bend.

A copy fills few degrees of the photo, so that its camera is nearly an affine one: depth and turn of a pair nearly make
up for each other, and a handful of wrong matches within the mapper's threshold shifts both by degrees. Hence the kernel
of Cauchy on every observation. Poses can also be those of objects that stand on one plane: a turn and a place on it for
each, and three numbers for all.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from stspbr.photos.instance_motions import Bundle, FreeMotions, Motions, Observations

_STEPS = 60
_DONE = 1e-7  # relative decrease of the cost
_NOISE = 0.3  # pixels: of an observation, against which priors are weighed


@dataclass(frozen=True)
class FocalPrior:
    """What is known of a focal length that is adjusted: its value in pixels and the relative standard deviation."""

    focal: float
    deviation: float


@dataclass(frozen=True)
class Adjusted:
    """A bundle at its optimum.

    Attributes:
        bundle: it; cost: half the sum of the kernel's values, in pixels².
        deviations: ``[N, 2]`` standard deviations of the poses: degrees, and translation in the poses' units, both
            with what all copies have in common taken out.
        focal_deviation: in pixels; 0 if the focal length was held.
    """

    bundle: Bundle
    cost: float
    deviations: np.ndarray
    focal_deviation: float


def adjusted(
    bundle: Bundle,
    seen: Observations,
    scale: float,
    motions: Motions | None = None,
    free_focal: bool = False,
    prior: FocalPrior | None = None,
) -> Adjusted:
    """Levenberg and Marquardt's search with points eliminated (Triggs et al., Bundle Adjustment, 1999, section 6).

    Args:
        scale: of Cauchy's kernel, in pixels: what is farther off counts less and less.
        motions: of the poses; default: free ones.
        free_focal: the focal length is adjusted, too, held by ``prior`` if there is one.
    """
    motions = FreeMotions() if motions is None else motions
    damping, cost = 1e-4, _cost(bundle, seen, scale, prior)
    for _ in range(_STEPS):
        system = _System(bundle, seen, scale, motions, free_focal, prior)
        before = cost
        for _ in range(8):
            trial, next_motions = system.stepped(damping)
            value = _cost(trial, seen, scale, prior)
            if value < cost:
                bundle, motions, cost, damping = trial, next_motions, value, max(damping / 5.0, 1e-9)
                break
            damping *= 6.0
        if before - cost <= _DONE * before:
            break
    system = _System(bundle, seen, scale, motions, free_focal, prior)
    deviations, focal = system.deviations()
    return Adjusted(bundle, cost, deviations, focal)


def _cost(bundle: Bundle, seen: Observations, scale: float, prior: FocalPrior | None) -> float:
    square = (bundle.residuals(seen) ** 2).sum(axis=1)
    behind = bundle.depths(seen) <= 0
    value = 0.5 * scale**2 * float(np.log1p(square / scale**2).sum()) + 1e6 * float(behind.sum())
    if prior is not None:
        value += 0.5 * (_NOISE * (bundle.focal / prior.focal - 1.0) / prior.deviation) ** 2
    return value


class _System:
    """The normal equations at one place."""

    def __init__(
        self,
        bundle: Bundle,
        seen: Observations,
        scale: float,
        motions: Motions,
        free_focal: bool,
        prior: FocalPrior | None,
    ) -> None:
        self.bundle, self.motions, self.free = bundle, motions, free_focal
        copies, count = len(bundle.shifts), len(bundle.points)
        turned = np.einsum("mij,mj->mi", bundle.rotations[seen.copy], bundle.points[seen.point])
        local = turned + bundle.shifts[seen.copy]
        depth = np.maximum(local[:, 2], 1e-9)
        over = bundle.focal / depth
        slope = np.zeros((len(depth), 2, 3))
        slope[:, 0, 0] = slope[:, 1, 1] = over
        slope[:, :, 2] = -over[:, None] * local[:, :2] / depth[:, None]
        x, y, z = turned.T
        zero = np.zeros_like(x)
        skew = np.stack([zero, z, -y, -z, zero, x, y, -x, zero], axis=1).reshape(-1, 3, 3)  # −[turned]×
        by_pose = np.concatenate([slope @ skew, slope], axis=2)
        by_point = np.einsum("mij,mjk->mik", slope, bundle.rotations[seen.copy])
        error = bundle.residuals(seen)
        weight = 1.0 / (1.0 + (error**2).sum(axis=1) / scale**2)
        size = 6 * copies + 1
        self.left = np.zeros((size, size))
        self.right = np.zeros(size)
        by_focal = (local[:, :2] / depth[:, None])[..., None]
        full = np.zeros((copies, 6, 6))
        np.add.at(full, seen.copy, np.einsum("m,mia,mib->mab", weight, by_pose, by_pose))
        slope_pose, cross_focal = np.zeros((copies, 6)), np.zeros((copies, 6))
        np.add.at(slope_pose, seen.copy, np.einsum("m,mia,mi->ma", weight, by_pose, error))
        np.add.at(cross_focal, seen.copy, np.einsum("m,mia,mib->ma", weight, by_pose, by_focal))
        for k in range(copies):
            self.left[6 * k : 6 * k + 6, 6 * k : 6 * k + 6] = full[k]
        self.left[:-1, -1] = self.left[-1, :-1] = cross_focal.ravel()
        self.left[-1, -1] = float((weight[:, None] * by_focal[..., 0] ** 2).sum())
        self.right[:-1], self.right[-1] = slope_pose.ravel(), float((weight[:, None] * by_focal[..., 0] * error).sum())
        if prior is not None:
            width = prior.focal * prior.deviation / _NOISE
            self.left[-1, -1] += 1.0 / width**2
            self.right[-1] += (bundle.focal - prior.focal) / width**2
        self.own = np.zeros((count, 3, 3))
        self.own_right = np.zeros((count, 3))
        np.add.at(self.own, seen.point, np.einsum("m,mia,mib->mab", weight, by_point, by_point))
        np.add.at(self.own_right, seen.point, np.einsum("m,mia,mi->ma", weight, by_point, error))
        across = np.zeros((copies, count, 6, 3))
        np.add.at(across, (seen.copy, seen.point), np.einsum("m,mia,mib->mab", weight, by_pose, by_point))
        with_focal = np.zeros((count, 3))
        np.add.at(with_focal, seen.point, np.einsum("m,mia,mib->mb", weight, by_focal, by_point))
        self.across = np.concatenate([across.transpose(0, 2, 1, 3).reshape(6 * copies, count, 3), with_focal[None]])
        basis = motions.basis(bundle)
        self.basis = np.zeros((size, basis.shape[1] + free_focal))
        self.basis[:-1, : basis.shape[1]] = basis
        if free_focal:
            self.basis[-1, -1] = 1.0
        # what is left over where outliers count less: the observations' own deviation
        self.spread = float((weight * (error**2).sum(axis=1)).sum() / max(2.0 * weight.sum(), 1e-9)) ** 0.5

    def reduced(self, damping: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Left and right side without the points, in the motions' numbers; and what gives the points back."""
        own = self.own * (1.0 + damping * np.eye(3)) + 1e-9 * np.eye(3)
        solved = np.einsum("dpi,pij->dpj", self.across, np.linalg.inv(own))
        flat = solved.reshape(len(solved), -1)
        left = self.left - flat @ self.across.reshape(len(solved), -1).T
        right = self.right - flat @ self.own_right.ravel()
        return self.basis.T @ left @ self.basis, self.basis.T @ right, own

    def stepped(self, damping: float) -> tuple[Bundle, Motions]:
        """The bundle after one damped step, and its motions there."""
        left, right, own = self.reduced(damping)
        diagonal = np.einsum("dk,de,ek->k", self.basis, self.left, self.basis)
        step = -np.linalg.solve(left + np.diag(damping * diagonal + 1e-9), right)
        full = self.basis @ step
        moved = -np.linalg.solve(own, (self.own_right + np.einsum("dpi,d->pi", self.across, full))[..., None])[..., 0]
        bundle = replace(self.bundle, points=self.bundle.points + moved)
        if self.free:
            bundle = replace(bundle, focal=max(self.bundle.focal + float(step[-1]), 0.2 * self.bundle.focal))
            step = step[:-1]
        return self.motions.moved(bundle, step)

    def deviations(self) -> tuple[np.ndarray, float]:
        """Of poses ``[N, 2]`` and of the focal length; the seven motions that all share are no uncertainty."""
        left, _, _ = self.reduced(0.0)
        size = np.sqrt(np.maximum(np.diag(left), 1e-12))  # radians, lengths and pixels alike
        kept = _complement(self._common() * size[:, None])
        curved = kept.T @ (left / np.outer(size, size)) @ kept
        inverse = (
            kept @ np.linalg.pinv(curved, 1e-12, True) @ kept.T / np.outer(size, size) * max(self.spread, 0.1) ** 2
        )
        full = self.basis @ inverse @ self.basis.T
        variances = np.diag(full)[:-1].reshape(-1, 6).clip(min=0.0)
        turns, shifts = np.sqrt(variances[:, :3].sum(axis=1)), np.sqrt(variances[:, 3:].sum(axis=1))
        return np.stack([np.degrees(turns), shifts], axis=1), float(
            np.sqrt(max(full[-1, -1], 0.0))
        ) if self.free else 0.0

    def _common(self) -> np.ndarray:
        """``[K, C]``: steps that turn, shift and scale the object's own space, and so change no picture."""
        rotations, shifts = self.bundle.rotations, self.bundle.shifts
        none = np.zeros_like(rotations)
        columns = [np.concatenate([rotations, none], axis=1), np.concatenate([none, rotations], axis=1)]
        scaled = np.concatenate([np.zeros_like(shifts), shifts], axis=1)[..., None]
        every = np.concatenate([*columns, scaled], axis=2).reshape(-1, 7)
        every /= np.linalg.norm(every, axis=0)
        basis = self.basis[:-1, : self.basis.shape[1] - self.free]
        steps = np.linalg.lstsq(basis, every, rcond=None)[0]
        _, sizes, mixed = np.linalg.svd(every - basis @ steps)  # what the motions do not have is not common to them
        sizes = np.concatenate([sizes, np.zeros(len(mixed) - len(sizes))])
        out = steps @ mixed[sizes < 1e-6].T
        return np.concatenate([out, np.zeros((1, out.shape[1]))]) if self.free else out


def _complement(columns: np.ndarray) -> np.ndarray:
    """``[K, K − C]`` orthonormal columns at right angles to ``columns`` ``[K, C]``."""
    left, _, _ = np.linalg.svd(columns)
    return left[:, columns.shape[1] :]
