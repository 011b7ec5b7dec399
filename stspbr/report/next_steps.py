"""What to do next: at most five lines, each of which follows from figures of the run and names them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from stspbr.report.records import RunRecord

MOST = 5
_LACKING = 0.1  # share of the surface about which little is known, from which it is worth a photograph
_PRIOR = 0.02  # share of the surface whose metallic is mostly assumed, and called metal
_DROP = 0.003  # of the mean variance, as a fraction of the prior's: a photograph that gains less is not worth taking
_POOR = 24.0  # dB of held-out views
_SPREAD = 3.0  # a view's noise, in the median of all
_CHANNELS = ("albedo", "roughness", "metallic")

_Line = tuple[float, str]  # how grave it is, from 0 to 1, and what to do


def next_steps(record: RunRecord) -> list[str]:
    """What to do about the run's asset, the gravest first; empty where the figures ask for nothing."""
    found: list[_Line] = []
    rules: tuple[Callable[[RunRecord], list[_Line]], ...] = (_photographs, _metals, _views, _noisy, _errors)
    for rule in rules:
        found += rule(record)
    found.sort(key=lambda line: -line[0])
    return [text for _, text in found[:MOST]]


def _known(record: RunRecord) -> dict[str, Any]:
    return record.json(record.asset_stage, "confidence.json")


def _photographs(record: RunRecord) -> list[_Line]:
    """Surface about which little is known, and from where it would be seen best."""
    known = _known(record)
    channels = known.get("channels")
    if not isinstance(channels, dict):
        return []
    lacking = {name: channels.get(name, {}).get("share_below_0.3", 0.0) for name in _CHANNELS}
    worst = max(lacking, key=lambda name: lacking[name])
    photos = [photo for photo in known.get("next_photos") or [] if photo.get("drop", 0.0) >= _DROP]
    if lacking[worst] < _LACKING or not photos:
        return []
    listed = ", ".join(dict.fromkeys(photo["where"] for photo in photos))
    unseen = 1.0 - known.get("seen_share", 1.0)
    hidden = f" ({_percent(unseen)} is in no photograph)" if unseen > 0.01 else ""
    few = f"{len(photos)} more photograph{'s' if len(photos) > 1 else ''}"
    text = (
        f"Take {few}, from: {listed}. Of {_percent(lacking[worst])} of the surface{hidden} the photographs hardly say "
        f"what its {worst} is; `stspbr capture check --after` lists the angles."
    )
    return [(lacking[worst], text)]


def _metals(record: RunRecord) -> list[_Line]:
    flagged = _known(record).get("metallic_mostly_prior")
    if not isinstance(flagged, dict) or flagged.get("called_metal", 0.0) < _PRIOR:
        return []
    text = (
        f"Look at the metallic map: {_percent(flagged['called_metal'])} of the surface is called metal though that is "
        "mostly prior, not seen; `stspbr explain --channel metallic` says why."
    )
    return [(min(1.0, 3.0 * flagged["called_metal"]), text)]


def _views(record: RunRecord) -> list[_Line]:
    metrics = record.json(record.asset_stage, "metrics.json")
    held = (metrics.get("held_out") or {}).get("psnr_mean")
    if not isinstance(held, (int, float)) or held >= _POOR:
        return []
    worst = metrics["held_out"].get("psnr_min", held)
    text = (
        f"Check poses and masks: held-out views are met with {held:.1f} dB only (worst {worst:.1f}); "
        "`stspbr capture check` finds masks that do not fit."
    )
    return [(min(1.0, (_POOR - held) / 10.0 + 0.2), text)]


def _noisy(record: RunRecord) -> list[_Line]:
    """Single views that the result does not explain."""
    noise = {k: v for k, v in (_known(record).get("noise") or {}).items() if isinstance(v, (int, float))}
    if len(noise) < 4:
        return []
    middle = sorted(noise.values())[len(noise) // 2]
    bad = sorted((name for name, value in noise.items() if value > _SPREAD * middle), key=lambda name: -noise[name])
    if not bad:
        return []
    named = ", ".join(bad[:3]) + (", …" if len(bad) > 3 else "")
    times = noise[bad[0]] / middle
    text = (
        f"Look at {named}: the result misses {'it' if len(bad) == 1 else 'them'} by up to {times:.0f} times the usual; "
        "a wrong pose, a wrong mask or another exposure would do that."
    )
    return [(min(1.0, 0.3 + len(bad) / len(noise)), text)]


def _errors(record: RunRecord) -> list[_Line]:
    """What a comparison with the true asset says."""
    lit = ((record.errors or {}).get("material") or {}).get("lit")
    if not isinstance(lit, dict):
        return []
    rate = lit.get("false_metal_rate")
    if isinstance(rate, (int, float)) and rate > 0.02:
        text = (
            f"{_percent(rate)} of the dielectric surface is called metal: try "
            "`--set optimize.losses.metal_prior=100` in specialize and bake."
        )
        return [(min(1.0, 5.0 * rate), text)]
    return []


def _percent(share: float) -> str:
    return f"{100.0 * share:.0f} %" if share >= 0.1 else f"{100.0 * share:.1f} %"
