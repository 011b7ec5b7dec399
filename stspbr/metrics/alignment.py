"""Put an estimate onto its reference, rigidly or with a scale, from its own pose; only when asked for."""

from __future__ import annotations

import numpy as np

from stspbr.errors import StspbrError
from stspbr.metrics.sampling import diagonal, face_normals, sample_surface, surface_tree
from stspbr.scene.mesh import Mesh

MODES = ("none", "icp", "sim3")
KEPT = 0.9  # share of the pairs that an iteration keeps, the closest ones
_COARSE_STEPS, _FINE_STEPS = 8, 60


def align(reference: Mesh, estimate: Mesh, mode: str, samples: int = 20_000, seed: int = 0) -> tuple[np.ndarray, dict]:
    """The transform that maps the estimate onto the reference.

    Iterated closest points (Besl and McKay 1992) from the pose given, in both directions, so that neither a part
    nor a smaller copy fits by itself; the closest 90 % of the pairs count (Chetverikov et al. 2002). A few steps
    with the closed-form solution for point pairs (Umeyama 1991) are followed by point-to-plane steps (Chen and
    Medioni 1992) until nothing moves. It finds the pose nearby, not one that is half a turn away.

    Args:
        reference, estimate: meshes.
        mode: ``"none"`` (identity), ``"icp"`` (rotation and translation) or ``"sim3"`` (and a uniform scale).
        samples: points on either surface.
        seed: of the points.

    Returns:
        ``(matrix [4, 4] float64, report)``. The report holds ``mode``, ``matrix`` (rows), ``iterations``,
        ``converged``, ``rms_before`` and ``rms_after`` (of the closest distances that count, in the reference's
        unit), ``scale``, ``rotation_degrees`` and ``translation`` (how far the centre of the estimate's samples
        moves, ``[3]``). In mode "none" the rms are None: nothing is measured.

    Raises:
        StspbrError: an unknown mode, or a mesh that has no area or vertices that are not finite.
    """
    if mode not in MODES:
        raise StspbrError(f"alignment {mode!r} is unknown: give one of {', '.join(MODES)}")
    matrix = np.eye(4)
    if mode == "none":
        return matrix, _report(mode, matrix, np.zeros(3), 0, True, None, None)
    pairs = _Pairs(reference, estimate, samples, seed)
    scaled, length = mode == "sim3", diagonal(reference)
    found = pairs.at(matrix)
    before = best = _rms(found)
    iterations, converged = 0, best <= 1e-12 * length
    for _ in range(0 if converged else _COARSE_STEPS):
        trial = umeyama(found[0], found[1], scaled) @ matrix
        found = pairs.at(trial)
        iterations += 1
        gain, matrix, best = best - _rms(found), trial, _rms(found)
        if gain < 0.02 * best:
            break
    for _ in range(0 if converged else _FINE_STEPS):
        step = _plane_step(*found, scaled)
        trial = step @ matrix
        tried = pairs.at(trial)
        iterations += 1
        converged = _motion(step, found[0]) < 1e-6 * length
        if _rms(tried) > 1.05 * best and not converged:  # planes mislead far from the solution: points do not
            trial = umeyama(found[0], found[1], scaled) @ matrix
            tried = pairs.at(trial)
        matrix, found, best = trial, tried, _rms(tried)
        if converged:
            break
    return matrix, _report(mode, matrix, pairs.centre, iterations, converged, before, best)


def umeyama(source: np.ndarray, target: np.ndarray, scaled: bool) -> np.ndarray:
    """The rotation, translation and, if ``scaled``, scale that fit ``source`` to ``target`` best (Umeyama 1991).

    Args:
        source, target: ``[N, 3]`` pairs of points.

    Returns:
        ``[4, 4]`` float64; the rotation is proper.
    """
    mean_s, mean_t = source.mean(axis=0), target.mean(axis=0)
    s, t = source - mean_s, target - mean_t
    u, singular, vt = np.linalg.svd(t.T @ s / len(s))
    sign = np.array([1.0, 1.0, np.sign(np.linalg.det(u) * np.linalg.det(vt)) or 1.0])
    variance = float((s * s).sum() / len(s))
    scale = float((singular * sign).sum() / variance) if scaled and variance > 0 else 1.0
    out = np.eye(4)
    out[:3, :3] = scale * (u * sign) @ vt
    out[:3, 3] = mean_t - out[:3, :3] @ mean_s
    return out


class _Pairs:
    """Closest points between two sampled surfaces, for any pose of the estimate."""

    def __init__(self, reference: Mesh, estimate: Mesh, samples: int, seed: int):
        self._trees = surface_tree(reference), surface_tree(estimate)
        self._meshes = [np.asarray(m.positions, np.float64)[m.faces] for m in (reference, estimate)]
        self._normals = face_normals(reference), face_normals(estimate)
        self._reference_points, self._reference_faces, _ = sample_surface(reference, samples, seed)
        self._estimate_points, self._estimate_faces, _ = sample_surface(estimate, samples, seed + 1)
        self.centre = self._estimate_points.mean(axis=0)

    def at(self, matrix: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """``(estimate's points, reference's points, reference's normals)``, each ``[N, 3]`` where it stands then."""
        turn, inverse = matrix[:3, :3], np.linalg.inv(matrix)
        moved = self._estimate_points @ turn.T + matrix[:3, 3]
        face, weights, _ = self._trees[0].closest(moved)
        onto = np.einsum("nk,nkd->nd", weights, self._meshes[0][face])
        back = self._reference_points @ inverse[:3, :3].T + inverse[:3, 3]
        other, weights, _ = self._trees[1].closest(back)
        source = np.einsum("nk,nkd->nd", weights, self._meshes[1][other]) @ turn.T + matrix[:3, 3]
        points, targets = np.concatenate([moved, source]), np.concatenate([onto, self._reference_points])
        normals = np.concatenate([self._normals[0][face], self._normals[0][self._reference_faces]])
        own = np.concatenate([self._normals[1][self._estimate_faces], self._normals[1][other]]) @ turn.T
        facing = np.einsum("nk,nk->n", normals, own) > 0  # the other wall of a thin part is no partner
        if facing.sum() < 10:
            facing[:] = True
        points, targets, normals = points[facing], targets[facing], normals[facing]
        squared = ((points - targets) ** 2).sum(axis=1)
        kept = np.sort(np.argsort(squared, kind="stable")[: max(10, int(KEPT * len(squared)))])
        return points[kept], targets[kept], normals[kept]


def _rms(pairs: tuple[np.ndarray, np.ndarray, np.ndarray]) -> float:
    return float(np.sqrt(((pairs[0] - pairs[1]) ** 2).sum(axis=1).mean()))


def _plane_step(points: np.ndarray, targets: np.ndarray, normals: np.ndarray, scaled: bool) -> np.ndarray:
    """One Gauss-Newton step that reduces Σ (n·(p − q))² over rotation, translation and perhaps scale.

    Directions that the surface does not decide (a sphere's rotation) stay as they are.
    """
    centre = points.mean(axis=0)
    arm = points - centre
    size = float(np.sqrt((arm * arm).sum(axis=1).mean()))
    columns = [np.cross(arm, normals) / size, normals]
    if scaled:
        columns.append((arm * normals).sum(axis=1, keepdims=True) / size)
    jacobian = np.concatenate(columns, axis=1)
    residual = ((targets - points) * normals).sum(axis=1)
    values, vectors = np.linalg.eigh(jacobian.T @ jacobian)
    decided = values > 1e-6 * values[-1]
    step = vectors[:, decided] @ ((vectors[:, decided].T @ (jacobian.T @ residual)) / values[decided])
    scale = float(np.exp(step[6] / size)) if scaled else 1.0
    out = np.eye(4)
    out[:3, :3] = scale * _rotation(step[:3] / size)
    out[:3, 3] = centre + step[3:6] - out[:3, :3] @ centre
    return out


def _rotation(vector: np.ndarray) -> np.ndarray:
    """Rotation matrix of an axis times an angle in radians (Rodrigues)."""
    angle = float(np.linalg.norm(vector))
    if angle == 0.0:
        return np.eye(3)
    x, y, z = vector / angle
    cross = np.array([[0.0, -z, y], [z, 0.0, -x], [-y, x, 0.0]])
    return np.eye(3) + np.sin(angle) * cross + (1.0 - np.cos(angle)) * cross @ cross


def _motion(step: np.ndarray, points: np.ndarray) -> float:
    """The longest way that a step moves a point."""
    return float(np.linalg.norm(points @ step[:3, :3].T + step[:3, 3] - points, axis=1).max())


def _report(mode, matrix, centre, iterations, converged, before, after) -> dict:  # noqa: ANN001
    scale = float(np.cbrt(np.linalg.det(matrix[:3, :3])))
    turn = matrix[:3, :3] / scale
    sine = 0.5 * np.linalg.norm([turn[2, 1] - turn[1, 2], turn[0, 2] - turn[2, 0], turn[1, 0] - turn[0, 1]])
    return {
        "mode": mode,
        "matrix": matrix.tolist(),
        "iterations": iterations,
        "converged": bool(converged),
        "rms_before": before,
        "rms_after": after,
        "scale": scale,
        "rotation_degrees": float(np.degrees(np.arctan2(sine, 0.5 * (np.trace(turn) - 1.0)))),
        "translation": (matrix[:3, :3] @ centre + matrix[:3, 3] - centre).tolist(),
    }
