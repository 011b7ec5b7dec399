"""One view over several stages: shares by what was expected, the time left by the pace so far."""

from __future__ import annotations

import pytest

from stspbr.optimize.whole_progress import WholeProgress, duration


def test_shares_and_time_left():
    now = [0.0]
    whole = WholeProgress({"capture": 100.0, "coarse": 300.0}, clock=lambda: now[0])
    assert (whole.share, whole.seconds_left) == (0.0, pytest.approx(400.0))
    whole.start("capture")
    now[0] = 25.0
    whole.at(0.5)
    assert whole.share == pytest.approx(0.125) and whole.seconds_left == pytest.approx(0.5 * 350.0)
    whole.done(worked=True)
    whole.start("coarse")
    now[0] = 200.0
    whole.at(0.5)
    assert whole.share == pytest.approx(0.625)
    assert whole.seconds_left == pytest.approx(150.0 * 200.0 / 250.0)
    assert whole.text().startswith("stage 2 of 2, 62 % of all, ")


def test_a_stage_that_was_there_says_nothing_about_the_pace():
    now = [0.0]
    whole = WholeProgress({"capture": 100.0, "coarse": 300.0}, clock=lambda: now[0])
    whole.start("capture")
    now[0] = 0.1
    whole.done(worked=False)
    whole.start("coarse")
    assert whole.seconds_left == pytest.approx(300.0) and whole.share == pytest.approx(0.25)
    whole.start("unpack-orm")  # that nobody expected
    whole.done(worked=True)
    assert whole.seconds_left >= 0.0


@pytest.mark.parametrize(("seconds", "text"), [(5.4, "5 s"), (65, "1 min 05 s"), (3700, "1 h 01 min")])
def test_durations(seconds, text):
    assert duration(seconds) == text
