"""How far a recovered environment light is from the true one: its map, what it does to surfaces, its main lights."""

from __future__ import annotations

from typing import Any

import numpy as np

from stspbr.colour import luminance_of
from stspbr.errors import StspbrError
from stspbr.scene.light import EnvironmentLight, direction_to_latlong, latlong_to_direction

_CELLS = (64, 128)  # the map that is convolved, 2.8° a cell
_ROWS = 32  # rows of directions that it is convolved at, with as many columns as there are cells
_FINEST = (128, 256)  # the map that main lights are looked for in; centroids are finer than its texels
_CAP = np.cos(np.radians(10.0))  # a main light is what lies within 10° of its middle
_APART = np.cos(np.radians(20.0))  # two main lights are farther apart than this
_WEAKEST = 0.1  # of the strongest one's energy
_MOST = 5


def light_error(truth: EnvironmentLight, estimate: EnvironmentLight) -> dict:
    """Compare two environment maps of any sizes; the estimate is resampled by solid angle onto the truth's texels.

    Three looks at the light, each an average over the sphere: ``full`` (the truth's resolution), ``blurred``
    (a smooth lobe of 10° half width) and ``irradiance`` (convolved with the cosine: all that a diffuse surface
    shows). In each:

    * ``scale`` ``[3]`` and ``common_scale``: the factors on the estimate that fit the truth best in the
      least-squares sense, per RGB channel and one for all.
    * ``relative_error``, ``relative_error_common``, ``relative_error_raw``: root of Σ(s·estimate − truth)² over
      Σ truth², with the scales per channel, with the common one, with none.
    * ``log_error``, ``log_error_common``: root mean square of log₂ ratios (stops) after the best offset per
      channel, or of all; both maps are lifted by a thousandth of their own mean radiance first.

    Returns:
        A dict that JSON can hold: the three looks; ``resolution`` (``truth``, ``estimate``: ``[H, W]``);
        ``mean_radiance`` of both (``[3]`` each); and ``directions``, the strongest lights of the truth, at most five
        (each is matched with one of the estimate's ten strongest):
        ``direction`` ``[3]`` (world), ``azimuth`` and ``elevation`` in degrees (0 is −Z, to +X; +Y is up),
        ``energy_share`` (of the truth's total luminance), ``angle`` (degrees to the light of the estimate that it
        is matched with), ``estimate_direction`` and ``energy_ratio`` (that light's share of the estimate's luminance
        over this one's share of the truth's), None where the estimate has no light left to match.
        ``direction_error`` is the mean of the angles weighted by energy; None without main lights (an even sky)
        or without a match.

    Raises:
        StspbrError: a map that is not ``[H, W, 3]``, negative or not finite, or a truth that is black.
    """
    a, b = (_radiance(light, name) for light, name in ((truth, "true light"), (estimate, "estimated light")))
    if a.max() <= 0.0:
        raise StspbrError("the true light is black everywhere: there is nothing to compare with")
    cells_a, cells_b = resample(a, *_CELLS), resample(b, *_CELLS)
    out: dict[str, Any] = {
        "resolution": {"truth": list(a.shape[:2]), "estimate": list(b.shape[:2])},
        "mean_radiance": {"truth": mean_radiance(a).tolist(), "estimate": mean_radiance(b).tolist()},
        "full": _difference(a, resample(b, *a.shape[:2])),
        "blurred": _difference(*(_convolved(cells, _lobe) for cells in (cells_a, cells_b))),
        "irradiance": _difference(*(_convolved(cells, lambda c: np.maximum(c, 0.0)) for cells in (cells_a, cells_b))),
    }
    totals = float(luminance_of(mean_radiance(a))), float(luminance_of(mean_radiance(b)))
    # Twice as many of the estimate, and weaker ones: the order of two lights of nearly equal energy is chance.
    out["directions"] = _matched(main_lights(truth), main_lights(estimate, 2 * _MOST, _WEAKEST / 2), totals)
    met = [light for light in out["directions"] if light["angle"] is not None]
    energy = sum(light["energy_share"] for light in met)
    out["direction_error"] = sum(m["angle"] * m["energy_share"] for m in met) / energy if met else None
    return out


def main_lights(
    light: EnvironmentLight, most: int = _MOST, weakest: float = _WEAKEST
) -> list[tuple[np.ndarray, float]]:
    """The strongest concentrated lights of a map, strongest first, at most ``most``.

    What exceeds the sky's median luminance is summed within 10° of every direction; the largest sum is taken,
    moved to the centroid of what it holds, and the rest is searched beyond 20° of it, down to ``weakest`` of the
    first one's energy.

    Returns:
        ``(unit direction [3], energy)`` each: luminance above the median times solid angle, as a mean over the sphere.
    """
    luminance = luminance_of(_radiance(light, "light"))
    if luminance.shape[0] > _FINEST[0]:
        luminance = resample(luminance[..., None], *_FINEST)[..., 0]
    direction, weight = _directions(*luminance.shape)
    flat = luminance.reshape(-1)
    order = np.argsort(flat, kind="stable")
    middle = order[np.searchsorted(np.cumsum(weight[order]), 0.5)]
    energy = weight * np.maximum(flat - flat[middle], 0.0)
    cells = resample(energy.reshape(*luminance.shape, 1) / weight.reshape(*luminance.shape, 1), *_CELLS)
    targets, _ = _directions(_ROWS, cells.shape[1])
    sums = _convolved(cells, lambda cosine: (cosine >= _CAP).astype(np.float64))[..., 0].reshape(-1)
    found: list[tuple[np.ndarray, float]] = []
    free = np.ones(len(targets), bool)
    while len(found) < most and free.any():
        best = int(np.argmax(np.where(free, sums, -1.0)))
        if sums[best] <= 1e-6 * (weight @ flat):
            break
        centre = _centroid(targets[best], direction, energy)
        free &= targets @ targets[best] < _APART
        if any(centre @ other > _APART for other, _ in found):
            continue  # it slid into a light that has been found
        free &= targets @ centre < _APART
        found.append((centre, float(energy[direction @ centre >= _CAP].sum())))
    found.sort(key=lambda one: -one[1])
    return [one for one in found if one[1] >= weakest * found[0][1]]


def resample(radiance: np.ndarray, height: int, width: int) -> np.ndarray:
    """A lat-long map ``[H, W, C]`` at another size: every texel is the mean over its solid angle, so energy stays."""
    rows = _overlap(radiance.shape[0], height, lambda v: -np.cos(np.pi * v))
    columns = _overlap(radiance.shape[1], width, lambda u: u)
    out = np.tensordot(rows, np.asarray(radiance, dtype=np.float64), axes=(1, 0))
    return np.ascontiguousarray(np.tensordot(columns, out, axes=(1, 1)).transpose(1, 0, 2))


def _overlap(old: int, new: int, measure) -> np.ndarray:  # noqa: ANN001
    """``[new, old]``: the share of each new interval of [0, 1] that lies in each old one, in the measure's terms."""
    if old == new:
        return np.eye(new)
    a, b = np.arange(old + 1) / old, np.arange(new + 1) / new
    low = np.maximum(a[None, :-1], b[:-1, None])
    high = np.minimum(a[None, 1:], b[1:, None])
    share = np.where(high > low, measure(high) - measure(low), 0.0)
    return share / share.sum(axis=1, keepdims=True)


def _directions(height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    """Directions ``[H·W, 3]`` of a map's texels, and their shares ``[H·W]`` of the sphere."""
    v, u = (np.arange(height) + 0.5) / height, (np.arange(width) + 0.5) / width
    uv = np.stack(np.broadcast_arrays(u[None, :], v[:, None]), axis=-1)
    return latlong_to_direction(uv).reshape(-1, 3), np.repeat(_row_weights(height) / width, width)


def _row_weights(height: int) -> np.ndarray:
    """Share of the sphere of each row; sums to 1."""
    return -0.5 * np.diff(np.cos(np.pi * np.arange(height + 1) / height))


def mean_radiance(radiance: np.ndarray) -> np.ndarray:
    """``[3]``: the mean of a lat-long map over the sphere."""
    return _row_weights(len(radiance)) @ radiance.mean(axis=1)


def _difference(truth: np.ndarray, estimate: np.ndarray) -> dict:
    """The metrics of one look, of maps ``[H, W, 3]`` of one size."""
    height, width, _ = truth.shape
    weight = np.repeat(_row_weights(height) / width, width)[:, None]
    truth, estimate = truth.reshape(-1, 3), estimate.reshape(-1, 3)
    power, shared = (weight * estimate**2).sum(axis=0), (weight * estimate * truth).sum(axis=0)
    scale = np.where(power > 0.0, shared / np.maximum(power, 1e-300), 1.0)
    common = float(shared.sum() / power.sum()) if power.sum() > 0.0 else 1.0
    out = {"scale": scale.tolist(), "common_scale": common}
    total = (weight * truth**2).sum()
    for suffix, factor in (("", scale), ("_common", common), ("_raw", 1.0)):
        error = (weight * (factor * estimate - truth) ** 2).sum()
        out[f"relative_error{suffix}"] = float(np.sqrt(error / total))
    stops = _stops(estimate, weight) - _stops(truth, weight)
    per_channel = (weight * stops).sum(axis=0)
    for suffix, offset in (("", per_channel), ("_common", per_channel.mean())):
        out[f"log_error{suffix}"] = float(np.sqrt((weight * (stops - offset) ** 2).sum() / 3.0))
    return out


def _stops(values: np.ndarray, weight: np.ndarray) -> np.ndarray:
    lift = 1e-3 * float((weight * values).sum() / 3.0)
    return np.log2(values + (lift if lift > 0.0 else 1.0))


def _convolved(cells: np.ndarray, kernel) -> np.ndarray:  # noqa: ANN001
    """``[32, w, C]`` means of a map, weighted by ``kernel(cosine)`` around each direction.

    Between two rows the kernel depends on the difference of azimuths alone: a product of Fourier series.
    """
    height, width, _ = cells.shape
    to, of = (np.arange(_ROWS) + 0.5) * np.pi / _ROWS, (np.arange(height) + 0.5) * np.pi / height
    turn = np.cos(2.0 * np.pi * np.arange(width) / width)
    high, flat = np.cos(to)[:, None] * np.cos(of), np.sin(to)[:, None] * np.sin(of)
    around = kernel(high[..., None] + flat[..., None] * turn) * (_row_weights(height) / width)[:, None]
    series = np.einsum("ijf,jfc->ifc", np.fft.rfft(around, axis=2), np.fft.rfft(cells, axis=1))
    return np.fft.irfft(series, n=width, axis=1) / around.sum(axis=(1, 2))[:, None, None]


def _lobe(cosine: np.ndarray) -> np.ndarray:
    """A von Mises-Fisher lobe that is half as high 10° from its middle."""
    return np.exp(np.log(2.0) / (1.0 - _CAP) * (cosine - 1.0))


def _centroid(start: np.ndarray, direction: np.ndarray, energy: np.ndarray) -> np.ndarray:
    """The middle of the energy within the cap, by mean shift."""
    centre = start
    for _ in range(30):
        inside = direction @ centre >= _CAP
        total = energy[inside] @ direction[inside]
        length = float(np.linalg.norm(total))
        if length == 0.0:
            break
        before, centre = centre, total / length
        if np.linalg.norm(centre - before) < 1e-6:
            break
    return centre


def _matched(truth: list, estimate: list, totals: tuple[float, float]) -> list[dict]:
    """Each true light with one of the estimate's: the pairing with the least energy-weighted sum of angles."""
    from scipy.optimize import linear_sum_assignment

    partner: dict[int, int] = {}
    if truth and estimate:
        cosine = np.array([[np.clip(t @ e, -1.0, 1.0) for e, _ in estimate] for t, _ in truth])
        cost = np.arccos(cosine) * np.array([energy for _, energy in truth])[:, None]
        partner = dict(zip(*(index.tolist() for index in linear_sum_assignment(cost)), strict=True))
    out = []
    for k, (direction, energy) in enumerate(truth):
        u, v = direction_to_latlong(direction)
        metrics = {
            "direction": direction.tolist(),
            "azimuth": float((u - 0.5) * 360.0),
            "elevation": float(90.0 - 180.0 * v),
            "energy_share": energy / totals[0],
            "angle": None,
            "estimate_direction": None,
            "energy_ratio": None,
        }
        if k in partner:
            other, other_energy = estimate[partner[k]]
            metrics["angle"] = _angle(direction, other)
            metrics["estimate_direction"] = other.tolist()
            metrics["energy_ratio"] = (other_energy / totals[1]) / (energy / totals[0])
        out.append(metrics)
    return out


def _angle(a: np.ndarray, b: np.ndarray) -> float:
    """Degrees between unit vectors; exact for small angles too."""
    return float(np.degrees(2.0 * np.arctan2(np.linalg.norm(a - b), np.linalg.norm(a + b))))


def _radiance(light: EnvironmentLight, name: str) -> np.ndarray:
    radiance = np.asarray(light.radiance, dtype=np.float64)
    if radiance.ndim != 3 or radiance.shape[2] != 3 or radiance.size == 0:
        raise StspbrError(f"the {name} has shape {radiance.shape}: a lat-long map is [H, W, 3]")
    if not np.isfinite(radiance).all() or (radiance < 0.0).any():
        raise StspbrError(f"the {name} has pixels that are negative or not finite: clean the map")
    return radiance
