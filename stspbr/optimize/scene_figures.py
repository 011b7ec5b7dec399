"""How good a scene model is: pictures of held-out views, swaps of partitions, what a partition knows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from stspbr.colour import linear_to_srgb
from stspbr.neural.model import SceneModel, Views, averaged
from stspbr.scenes.data import Batches

_LEAST_ROWS = 8  # of a probe's fit, and of its test
_LEAST_GAIN = 0.05  # of the error before a swap: what observing the composed scene must bring, to compare with


def display(radiance: Tensor) -> np.ndarray:
    """Linear radiance ``[..., 3, S, S]``, sRGB-encoded and clipped to [0, 1]."""
    return linear_to_srgb(radiance.clamp(0.0, 1.0).cpu().numpy())


def psnr_of_each(truth: Tensor, predicted: Tensor) -> np.ndarray:
    """``[B]`` PSNR in dB of linear pictures ``[B, 3, S, S]`` after ``display``."""
    error = np.square(display(truth).astype(np.float64) - display(predicted)).mean(axis=(1, 2, 3))
    return -10.0 * np.log10(np.maximum(error, 1e-12))


@torch.no_grad()
def predicted(model: SceneModel, views: Views) -> tuple[Tensor, Tensor]:
    """Linear pictures ``[B, 3, S, S]`` of the last view, made of the others, and their truth."""
    picture = torch.expm1(model.picture(model.represent(views.chosen(slice(0, -1))), views.chosen(slice(-1, None))))
    return picture, averaged(views.buffers["beauty"][:, -1], picture.shape[-1])


@torch.no_grad()
def held_out(model: SceneModel, test: Batches, train: Batches) -> dict[str, float]:
    """Mean PSNR over the queries of all test scenes, and that of the mean picture of the training queries."""
    device = next(model.parameters()).device
    side, values, plain = model.output_side, [], []
    total, count = torch.zeros(3, side, side), 0
    for number in range(len(train)):
        queries = averaged(torch.from_numpy(train[number].buffers["beauty"][:, -1].astype(np.float32)), side)
        total, count = total + queries.sum(dim=0), count + len(queries)
    mean = total / max(count, 1)
    for number in range(len(test)):
        made, truth = predicted(model, test[number].views(device))
        values.append(psnr_of_each(truth, made))
        plain.append(psnr_of_each(truth.cpu(), mean.expand_as(truth)))
    found = np.concatenate(values)
    return {
        "psnr": float(found.mean()),
        "psnr_min": float(found.min()),
        "psnr_of_mean": float(np.concatenate(plain).mean()),
        "pictures": len(found),
    }


def swap_efficiency(error_before: float, error_swapped: float, error_of_truth: float) -> float | None:
    """(E_B − E_swap)/(E_B − E_true): 1 if a swap is as good as observing the composed scene, 0 if it does nothing.

    None if observing the composed scene itself takes less than a twentieth off the error: nothing can be gained.
    """
    gain = error_before - error_of_truth
    return (error_before - error_swapped) / gain if gain > _LEAST_GAIN * error_before else None


def probe_score(
    features: np.ndarray,
    targets: np.ndarray,
    train: Sequence[int],
    test: Sequence[int],
    known: np.ndarray | None = None,
) -> float:
    """R² on ``test`` of linear probes that were fitted on ``train``, their ridge chosen within ``train``.

    Args:
        features: ``[N, C]``; targets: ``[N, T]``; a target without variance is left out.
        known: ``[N, T]`` where a target means something; elsewhere it counts neither in the fit nor in the score.
    """
    known = np.ones(targets.shape, dtype=bool) if known is None else known
    scores: list[float] = []
    for pattern in np.unique(known, axis=1).T:
        columns = np.flatnonzero((known == pattern[:, None]).all(axis=0))
        rows, held = (np.array([k for k in part if pattern[k]], dtype=int) for part in (train, test))
        if min(len(rows), len(held)) >= _LEAST_ROWS:
            scores += _scores(features, targets[:, columns], rows, held)
    return float(np.mean(scores)) if scores else 0.0


def _scores(features: np.ndarray, targets: np.ndarray, rows: np.ndarray, held: np.ndarray) -> list[float]:
    """R² of each target that varies."""
    fit, check = rows[: int(0.75 * len(rows))], rows[int(0.75 * len(rows)) :]
    best = min((1e-3, 1e-2, 1e-1, 1.0, 10.0, 100.0), key=lambda ridge: _residual(features, targets, fit, check, ridge))
    residual = _residual(features, targets, rows, held, best, each=True)
    spread = np.square(targets[held] - targets[rows].mean(axis=0)).sum(axis=0)
    useful = spread > 1e-9
    return (1.0 - np.asarray(residual)[useful] / spread[useful]).tolist()


def _residual(
    features: np.ndarray, targets: np.ndarray, fit: np.ndarray, check: np.ndarray, ridge: float, each: bool = False
) -> Any:
    """The squared error per target, or its mean in units of the targets' own spread."""
    mean, deviation = features[fit].mean(axis=0), features[fit].std(axis=0) + 1e-6
    x, middle = (features - mean) / deviation, targets[fit].mean(axis=0)
    gram = x[fit].T @ x[fit] + ridge * len(fit) * np.eye(x.shape[1])
    weights = np.linalg.solve(gram, x[fit].T @ (targets[fit] - middle))
    left = np.square(targets[check] - middle - x[check] @ weights).sum(axis=0)
    return left if each else float((left / (np.square(targets[check] - middle).sum(axis=0) + 1e-9)).mean())
