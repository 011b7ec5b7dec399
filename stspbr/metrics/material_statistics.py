"""From pairs of materials to values: means, shares, their standard errors, and whether these are small enough."""

from __future__ import annotations

import numpy as np

from stspbr.colour import luminance_of

LIT, DARK = 0.02, 0.1
"""``lit`` is above the one albedo luminance, ``dark`` below the other."""

ALBEDO_BANDS = (0.0, 0.02, 0.045, 0.08, 0.15, 1.0 / 3.0, 1.0)
"""Limits of the albedo luminance between which ``kinds_by_albedo`` counts metals and non-metals."""

_RELATIVE, _RATE = 0.01, 0.0005
_FLOOR = {"normal_angle_mean": 1e-4}

Values = dict[str, np.ndarray]


def albedo_scale(pair: tuple[Values, Values]) -> np.ndarray:
    """``[3]``: the factor per RGB channel on the second's albedo that fits the first's in the least-squares sense."""
    truth, guess = pair[0]["albedo"], pair[1]["albedo"]
    power = np.sum(guess**2, axis=0)
    return np.where(power > 0, np.sum(guess * truth, axis=0) / np.maximum(power, 1e-30), 1.0)


def regions(pair: tuple[Values, Values], scale: np.ndarray) -> dict[str, dict]:
    """Values over all pairs, over the lit and over the dark ones (by the truth's albedo luminance).

    Args:
        pair: truth and guess; each ``albedo [N, 3]``, ``roughness [N]``, ``metallic [N]``, ``normal [N, 3]``.
        scale: ``[3]`` of ``albedo_scale``.

    Returns:
        ``all``, ``lit``, ``dark``; each: ``count`` and, unless it is 0, ``albedo_mae``, ``albedo_psnr`` and the
        same two ``_scaled``; ``roughness_`` and ``metallic_`` ``mae``, ``rmse``, ``bias`` (guess − truth);
        ``false_metal_rate`` (share of dielectric points, true metallic < ½, whose guess is > ½),
        ``missed_metal_rate`` (the reverse); ``normal_angle_mean`` in degrees; and the standard errors of them all,
        ``…_se``. None if there are no such points.
    """
    luminance = luminance_of(pair[0]["albedo"])
    masks = {"all": np.ones(len(luminance), bool), "lit": luminance > LIT, "dark": luminance < DARK}
    return {name: _region(*pair, scale, mask) for name, mask in masks.items()}


def kinds_by_albedo(pair: tuple[Values, Values]) -> list[dict]:
    """Missed and false metal by the truth's albedo luminance, one entry per band of ``ALBEDO_BANDS``.

    Returns:
        per band ``albedo`` (its limits), ``metal`` and ``dielectric`` (counts of points, true metallic ≥ ½ and below),
        ``missed_metal_rate`` and ``false_metal_rate`` (None if there is no such point).
    """
    luminance, truth, guess = luminance_of(pair[0]["albedo"]), pair[0]["metallic"] >= 0.5, pair[1]["metallic"] > 0.5
    out = []
    for low, high in zip(ALBEDO_BANDS[:-1], ALBEDO_BANDS[1:], strict=True):
        inside = (luminance >= low) & ((luminance < high) | (high == ALBEDO_BANDS[-1]))
        metal, other = inside & truth, inside & ~truth
        entry: dict = {"albedo": [low, high], "metal": int(metal.sum()), "dielectric": int(other.sum())}
        entry["missed_metal_rate"] = float((~guess[metal]).mean()) if metal.any() else None
        entry["false_metal_rate"] = float(guess[other].mean()) if other.any() else None
        out.append(entry)
    return out


def unsettled(pair: tuple[Values, Values]) -> list[str]:
    """Names of the values of ``lit`` whose standard error is above 1 % (of rates: and above 0.0005)."""
    lit = regions(pair, albedo_scale(pair))["lit"]
    if lit["count"] == 0:
        return []
    out = []
    for name, value in lit.items():
        if not name.endswith(("_mae", "_mae_scaled", "_rmse", "_rate", "_mean")) or value is None:
            continue
        floor = _RATE if name.endswith("_rate") else _FLOOR.get(name, 1e-6)
        if lit[f"{name}_se"] > max(_RELATIVE * abs(value), floor):
            out.append(name)
    return out


def angles(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Angles in degrees ``[N]`` between unit vectors ``[N, 3]``, exact also near 0."""
    across = np.linalg.norm(np.cross(a, b), axis=-1)
    return np.degrees(np.arctan2(across, np.einsum("nk,nk->n", a, b)))


def _region(truth: Values, guess: Values, scale: np.ndarray, mask: np.ndarray) -> dict:
    out: dict = {"count": int(mask.sum())}
    if out["count"] == 0:
        return out
    everywhere = truth["albedo"], guess["albedo"]
    truth, guess = ({name: values[mask] for name, values in maps.items()} for maps in (truth, guess))
    error = guess["albedo"] - truth["albedo"]
    _put(out, "albedo_mae", np.abs(error).mean(axis=-1))
    _put_psnr(out, "albedo_psnr", (error**2).mean(axis=-1))
    error = scale * guess["albedo"] - truth["albedo"]
    _put(out, "albedo_mae_scaled", np.abs(error).mean(axis=-1))
    out["albedo_mae_scaled_se"] = _scaled_mae_se(error, guess["albedo"], scale, *everywhere, mask)
    _put_psnr(out, "albedo_psnr_scaled", (error**2).mean(axis=-1))
    for name in ("roughness", "metallic"):
        error = guess[name] - truth[name]
        _put(out, f"{name}_mae", np.abs(error))
        _put(out, f"{name}_bias", error)
        square, square_se = _mean(error**2)
        out[f"{name}_rmse"] = float(np.sqrt(square))
        out[f"{name}_rmse_se"] = float(square_se / (2.0 * np.sqrt(square))) if square > 0 else 0.0
    metal, guessed_metal = truth["metallic"] >= 0.5, guess["metallic"] > 0.5
    _put(out, "false_metal_rate", guessed_metal[~metal])
    _put(out, "missed_metal_rate", ~guessed_metal[metal])
    _put(out, "normal_angle_mean", angles(truth["normal"], guess["normal"]))
    return out


def _put(out: dict, name: str, values: np.ndarray) -> None:
    out[name], out[f"{name}_se"] = _mean(values) if len(values) else (None, None)


def _put_psnr(out: dict, name: str, squares: np.ndarray) -> None:
    """PSNR of linear values with peak 1; 200 dB stands for equality."""
    mean, error = _mean(squares)
    mean = max(mean, 1e-20)
    out[name], out[f"{name}_se"] = float(-10.0 * np.log10(mean)), float(10.0 / np.log(10.0) * error / mean)


def _mean(values: np.ndarray) -> tuple[float, float]:
    """Mean and its standard error."""
    return float(np.mean(values)), float(np.std(values) / np.sqrt(len(values)))


def _scaled_mae_se(error, guess, scale, all_truth, all_guess, mask) -> float:  # noqa: ANN001
    """Standard error of the MAE after scaling, the scale's own uncertainty included (delta method)."""
    share = len(error) / len(all_truth)
    slope = (np.sign(error) * guess).mean(axis=0) / 3.0  # of the MAE by each channel's scale
    power = np.maximum((all_guess**2).mean(axis=0), 1e-30)
    influence = (all_guess * (all_truth - scale * all_guess) / power) @ slope
    size = np.abs(error).mean(axis=-1)
    influence[mask] += (size - size.mean()) / share
    return float(np.std(influence) / np.sqrt(len(influence)))
