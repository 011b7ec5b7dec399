"""Means and spreads over seeds, floors, and whether the method wins."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from stspbr.quality.configurations import CONFIGURATIONS, FLOOR, LENT
from stspbr.quality.ladder import TRACKS
from stspbr.quality.metrics import METRICS, Metric
from stspbr.quality.suite import ASSET_NAMES

BASELINE, METHOD_NAME = CONFIGURATIONS[0], CONFIGURATIONS[-1]
LEVEL = 0.05  # of the verdicts' test
_BESIDE: dict[str, dict[str, tuple[str, ...]]] = {
    "path": {"same": (FLOOR,), "noise": (METHOD_NAME, FLOOR), "path-off": (BASELINE, METHOD_NAME, FLOOR)},
    "noise": {"same": (METHOD_NAME, FLOOR)},
    "path-off": {"same": (FLOOR,)},
}  # by track: the other tracks whose rows stand beside its own, and which of them
Group = tuple[str, str, str, str]
"""Object, light map, track, light mode."""


@dataclass(frozen=True)
class Statistic:
    """Mean over ``n`` seeds and sample standard deviation (None for a single seed)."""

    mean: float
    spread: float | None
    n: int


@dataclass(frozen=True)
class Verdict:
    """The method against the baseline in one metric.

    Attributes:
        difference: method − baseline.
        spread: standard deviation of this difference between two runs, √(s² + s²); None with single seeds.
        p_value: of Welch's t-test, two-sided: how often equal means would differ as much; None with single seeds.
        outcome: ``better`` or ``worse`` at the level ``LEVEL``, ``within`` (what chance explains), ``equal``,
            ``unknown`` (single seeds: no test is possible) or ``absent`` (one of the two has no value).
        floor_ratio: the method's mean over the floor's; None without a floor, or if the floor prints as 0.
    """

    difference: float | None
    spread: float | None
    p_value: float | None
    outcome: str
    floor_ratio: float | None


def statistic(values: Iterable[float | None]) -> Statistic | None:
    """Mean and spread of the values that are not None; None if there are none."""
    found = [float(v) for v in values if v is not None]
    if not found:
        return None
    mean = math.fsum(found) / len(found)
    if len(found) == 1:
        return Statistic(mean, None, 1)
    return Statistic(mean, math.sqrt(math.fsum((v - mean) ** 2 for v in found) / (len(found) - 1)), len(found))


def judge(metric: Metric, method: Statistic | None, baseline: Statistic | None, floor: Statistic | None) -> Verdict:
    """Whether the method beats the baseline, by Welch's t-test over the seeds (unequal variances)."""
    from scipy.stats import ttest_ind_from_stats

    # a floor that prints as 0 is not used as a divisor
    divisor = floor.mean if floor is not None and floor.mean >= 10.0**-metric.digits else None
    ratio = method.mean / divisor if method and divisor else None
    if method is None or baseline is None:
        return Verdict(None, None, None, "absent", ratio)
    difference = method.mean - baseline.mean
    if method.spread is None or baseline.spread is None:
        return Verdict(difference, None, None, "equal" if difference == 0 else "unknown", ratio)
    spread, p_value = math.hypot(method.spread, baseline.spread), float(difference == 0)
    if spread > 0:  # else every seed gives the same, and no chance is left
        p_value = float(
            ttest_ind_from_stats(
                method.mean, method.spread, method.n, baseline.mean, baseline.spread, baseline.n, equal_var=False
            ).pvalue
        )
    if p_value > LEVEL:
        outcome = "equal" if difference == 0 else "within"
    else:
        outcome = "better" if (difference > 0) == metric.higher_is_better else "worse"
    return Verdict(difference, spread, p_value, outcome, ratio)


@dataclass
class Comparison:
    """All rows of one object under one light map on one track with the light known or learned.

    Attributes:
        rows: configuration to metric to statistic; ``floor`` is the floor of this track. Rows of other tracks of the
            same scene stand beside them, e.g. ``floor, same shading`` or ``ours, path-traced, transport off``.
        failures: configuration to the error lines of its failed jobs.
        verdicts: metric to the method's verdict; empty unless both method and baseline have rows.
        lent: the same against the baseline that is lent everything but separation.
    """

    group: Group
    rows: dict[str, dict[str, Statistic | None]]
    failures: dict[str, list[str]]
    verdicts: dict[str, Verdict]
    lent: dict[str, Verdict]


def compare(records: Sequence[Mapping[str, Any]]) -> list[Comparison]:
    """Group the jobs' records, in the order of each group's first record."""
    groups = dict.fromkeys(_group(r) for r in records if r["configuration"] != FLOOR)
    out = []
    for group in groups:
        mine = [r for r in records if _group(r) == group and r["configuration"] != FLOOR]
        names = sorted({r["configuration"] for r in mine}, key=CONFIGURATIONS.index)
        rows = {name: _statistics(r for r in mine if r["configuration"] == name) for name in names}
        failed = [r for r in mine if r["status"] != "done"]
        beside = {FLOOR: (FLOOR, group[2])}
        for track, configurations in _BESIDE.get(group[2], {}).items():
            beside |= {f"{name}, {TRACKS[track].label}": (name, track) for name in configurations}
        for label, (name, track) in beside.items():
            mode = "known" if name == FLOOR else group[3]
            found = [r for r in records if r["configuration"] == name and _group(r) == (*group[:2], track, mode)]
            if found:
                rows[label] = _statistics(found)
                failed += [{**r, "configuration": label} for r in found if r["status"] != "done"]
        failures: dict[str, list[str]] = {}
        for record in failed:
            failures.setdefault(record["configuration"], []).append(f"seed {record['seed']}: {record['error']}")
        out.append(Comparison(group, rows, failures, _verdicts(rows, BASELINE), _verdicts(rows, LENT)))
    return out


def count_outcomes(comparisons: Sequence[Comparison]) -> dict[str, int]:
    """The count of each outcome over the judged metrics of all comparisons."""
    counts = dict.fromkeys(("better", "within", "equal", "worse", "unknown", "absent"), 0)
    for comparison in comparisons:
        for metric in METRICS:
            if metric.judged and metric.name in comparison.verdicts:
                counts[comparison.verdicts[metric.name].outcome] += 1
    return counts


@dataclass(frozen=True)
class Target:
    """One limit that the method should meet in one group, and whether it does (None: not measured)."""

    what: str
    value: float | None
    limit: float
    met: bool | None


_KNOWN_LIGHT = {"false_metal": 2.0, "roughness_mae": 0.05, "metallic_mae": 0.03}
_ASSETS: dict[tuple[str, str], dict[str, float]] = {
    ("same", "known"): {"roughness_mae": 0.02, "metallic_mae": 0.01},
    ("path", "known"): {"roughness_mae": 0.03, "metallic_mae": 0.015},
    ("path", "learned"): {"roughness_mae": 0.05, "metallic_mae": 0.03, "albedo_psnr_scaled": 33.0, "relit": 32.0},
}  # of the user's assets, by track and light mode; and for all of them:
_ASSETS_FALSE_METAL = 0.5
_FLOOR_FACTOR = 1.5
_FLOORED = ("albedo_mae", "albedo_mae_scaled", "roughness_mae", "metallic_mae")
_STEP_RATIO = 1.1
_HIGHER = {metric.name for metric in METRICS if metric.higher_is_better}


def targets(comparison: Comparison) -> list[Target]:
    """The limits for this group, besides beating the baseline."""
    ours = comparison.rows.get(METHOD_NAME)
    if ours is None:
        return []
    labels = {metric.name: metric.label for metric in METRICS}
    name, _, track, mode = comparison.group
    out = []
    if name in ASSET_NAMES:
        limits = {"false_metal": _ASSETS_FALSE_METAL, **_ASSETS.get((track, mode), {})}
        out += [_target(labels[key], ours.get(key), limit, key in _HIGHER) for key, limit in limits.items()]
    elif (track, mode) == ("same", "known"):
        out += [_target(labels[name], ours.get(name), limit) for name, limit in _KNOWN_LIGHT.items()]
    if track == "path":
        floor = comparison.rows.get(FLOOR, {})
        for name in _FLOORED:
            if (lowest := floor.get(name)) is not None:
                out.append(_target(f"{labels[name]} (1.5 × floor)", ours.get(name), _FLOOR_FACTOR * lowest.mean))
    pace, other = ours.get("step_seconds"), comparison.rows.get(BASELINE, {}).get("step_seconds")
    if pace is not None and other is not None and other.mean > 0:
        out.append(_target("CPU s/step over joint's", Statistic(pace.mean / other.mean, None, pace.n), _STEP_RATIO))
    return out


def _target(what: str, value: Statistic | None, limit: float, higher_is_better: bool = False) -> Target:
    mean = None if value is None else value.mean
    met = None if mean is None else mean >= limit if higher_is_better else mean <= limit
    return Target(what, mean, limit, met)


def _verdicts(rows: Mapping[str, Mapping[str, Statistic | None]], baseline: str) -> dict[str, Verdict]:
    """The method's verdict against ``baseline`` by metric; empty unless both have rows."""
    if not {baseline, METHOD_NAME} <= rows.keys():
        return {}
    found = {m.name: [rows.get(n, {}).get(m.name) for n in (METHOD_NAME, baseline, FLOOR)] for m in METRICS}
    return {metric.name: judge(metric, *found[metric.name]) for metric in METRICS}


def _statistics(records: Iterable[Mapping[str, Any]]) -> dict[str, Statistic | None]:
    done = [r["values"] for r in records if r["status"] == "done"]
    return {metric.name: statistic(f.get(metric.name) for f in done) for metric in METRICS}


def _group(record: Mapping[str, Any]) -> Group:
    return record["object"], record["light"], record["track"], record["light_mode"]
