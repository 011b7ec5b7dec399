"""What to do next follows from figures: none without cause, the gravest first, at most five."""

from __future__ import annotations

from pathlib import Path

from stspbr.report.next_steps import MOST, next_steps
from stspbr.report.records import RunRecord

GOOD = {
    "seen_share": 1.0,
    "channels": {name: {"median_std": 0.02, "share_below_0.3": 0.02} for name in ("albedo", "roughness", "metallic")},
    "metallic_mostly_prior": {"share": 0.05, "called_metal": 0.0},
    "noise": {f"view_{k}": 0.01 for k in range(12)},
    "next_photos": [{"where": "underside", "drop": 0.02}, {"where": "front", "drop": 0.01}],
}


class Known(RunRecord):
    """A record whose files are given."""

    def __init__(self, confidence=None, metrics=None, errors=None):
        super().__init__(Path("run"), "run", errors=errors)
        self.known = {"confidence.json": confidence or {}, "metrics.json": metrics or {}}

    def json(self, stage, name):
        return self.known.get(name, {})


def test_a_good_run_asks_for_nothing():
    assert next_steps(Known(GOOD, {"held_out": {"psnr_mean": 33.0}})) == []
    assert next_steps(Known()) == []


def test_weak_surface_asks_for_photographs_from_where_they_help():
    weak = GOOD | {"channels": GOOD["channels"] | {"roughness": {"share_below_0.3": 0.31}}, "seen_share": 0.8}
    (line,) = next_steps(Known(weak))
    assert "underside, front" in line and "31 %" in line and "roughness" in line and "20 % is in no photograph" in line
    # photographs that would gain nothing are not asked for
    assert next_steps(Known(weak | {"next_photos": [{"where": "front", "drop": 1e-4}]})) == []


def test_metal_that_is_mostly_prior_is_flagged():
    flagged = GOOD | {"metallic_mostly_prior": {"share": 0.2, "called_metal": 0.07}}
    (line,) = next_steps(Known(flagged))
    assert "7.0 %" in line and "metallic" in line


def test_views_that_are_missed():
    bad = GOOD | {"noise": GOOD["noise"] | {"view_3": 0.08}}
    (line,) = next_steps(Known(bad))
    assert "view_3" in line and "8 times" in line
    (line,) = next_steps(Known(GOOD, {"held_out": {"psnr_mean": 19.0, "psnr_min": 12.0}}))
    assert "19.0 dB" in line and "12.0" in line


def test_the_gravest_come_first_and_no_more_than_five():
    everything = GOOD | {
        "channels": GOOD["channels"] | {"albedo": {"share_below_0.3": 0.9}},
        "metallic_mostly_prior": {"share": 0.2, "called_metal": 0.03},
        "noise": GOOD["noise"] | {"view_3": 0.08},
    }
    errors = {"material": {"lit": {"false_metal_rate": 0.1}}}
    found = next_steps(Known(everything, {"held_out": {"psnr_mean": 19.0, "psnr_min": 12.0}}, errors))
    assert len(found) == MOST and found[0].startswith("Take 2 more photographs")
