"""What a standard deviation is worth: its ranks, its scale and its shares, against known errors.

Rows are texels: ``std [N, 5]`` and ``error [N, 5]`` (absolute) of albedo (three), roughness and metallic.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from scipy.stats import rankdata, spearmanr

from stspbr.optimize.posterior import CHANNELS

WRONG = 0.2
"""Error of metallic from which its kind counts as wrong."""
_WITHIN = 0.95  # of the errors, that a factor brings within 2 std


def rank_figures(std: np.ndarray, error: np.ndarray) -> dict[str, dict[str, float | bool | None]]:
    """By channel: ``spearman``, and its ``ceiling`` if errors were drawn as the stds say; ``ratio`` of the mean errors
    of the worst and best fifth by std, ``monotone`` over the fifths; ``within``, the share of errors within 2 std; of
    metallic ``auc`` and ``wrong``, the share of wrong kinds.

    Albedo's std and error are means over its colours, except in ``within``. A figure that does not exist (no kind is
    wrong, or every std is equal) is None.
    """
    out: dict[str, dict[str, float | bool | None]] = {}
    for name, own in CHANNELS.items():
        columns = list(own)
        deviation, size = std[:, columns].mean(axis=1), error[:, columns].mean(axis=1)
        order = np.argsort(deviation, kind="stable")
        fifths = [float(part.mean()) for part in np.array_split(size[order], 5)]
        varied = np.ptp(deviation) > 0 and np.ptp(size) > 0
        out[name] = {
            "spearman": float(spearmanr(deviation, size)[0]) if varied else None,
            "ceiling": _drawn_spearman(std[:, columns]) if varied else None,
            "ratio": fifths[-1] / max(fifths[0], 1e-9),
            "monotone": bool(np.all(np.diff(fifths) >= 0)),
            "within": float((error[:, columns] <= 2.0 * std[:, columns]).mean()),
        }
        if name == "metallic":
            out[name] |= {"auc": area_under_curve(deviation, size > WRONG), "wrong": float((size > WRONG).mean())}
    return out


def _drawn_spearman(std: np.ndarray) -> float:
    """Spearman's correlation of stds ``[N, C]`` and the errors of Gaussians that have them, means over C of both.

    No std ranks one error better: what a Gaussian draws is a matter of chance.
    """
    errors = np.abs(np.random.default_rng(0).normal(size=std.shape)) * std
    return float(spearmanr(std.mean(axis=1), errors.mean(axis=1))[0])


def area_under_curve(score: np.ndarray, positive: np.ndarray) -> float | None:
    """How often a positive row has a higher score than another, ties as half; None without either kind."""
    count, others = int(positive.sum()), int((~positive).sum())
    if count == 0 or others == 0:
        return None
    ranks = rankdata(score)
    return float((ranks[positive].sum() - count * (count + 1) / 2.0) / (count * others))


def factors(std: np.ndarray, error: np.ndarray) -> dict[str, float]:
    """By channel: what its std must be multiplied with, so that 95 % of the errors lie within 2 std."""
    out = {}
    for name, own in CHANNELS.items():
        columns = list(own)
        out[name] = float(np.quantile(error[:, columns] / np.maximum(std[:, columns], 1e-12), _WITHIN) / 2.0)
    return out


def within(std: np.ndarray, error: np.ndarray, factor: Mapping[str, float]) -> dict[str, float]:
    """By channel: the share of errors within 2 std after these factors."""
    return {
        name: float((error[:, list(own)] <= 2.0 * factor[name] * std[:, list(own)]).mean())
        for name, own in CHANNELS.items()
    }


def correlations(one: np.ndarray, two: np.ndarray) -> dict[str, float | None]:
    """By channel: Pearson's correlation of two sets ``[N, 5]``; None if one of them does not vary."""
    out: dict[str, float | None] = {}
    for name, own in CHANNELS.items():
        a, b = one[:, list(own)].ravel(), two[:, list(own)].ravel()
        out[name] = float(np.corrcoef(a, b)[0, 1]) if np.ptp(a) > 0 and np.ptp(b) > 0 else None
    return out


def by_confidence(confidence: np.ndarray, before: np.ndarray, after: np.ndarray) -> list[dict[str, float]]:
    """Mean errors ``before`` and ``after`` (``[N]``) of texels by their confidence ``[N]``, and of all texels."""
    edges = ((-1.0, 0.1), (0.1, 0.3), (0.3, 0.6), (0.6, 2.0), (-1.0, 2.0))
    rows = []
    for low, high in edges:
        inside = (confidence >= low) & (confidence < high)
        if inside.any():
            means = float(before[inside].mean()), float(after[inside].mean())
            rows.append({"from": low, "to": high, "share": float(inside.mean()), "before": means[0], "after": means[1]})
    return rows
