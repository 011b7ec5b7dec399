from __future__ import annotations

import pytest

from stspbr.notes import Notes


def test_one_line_per_kind_with_a_count_in_an_order_that_threads_cannot_change():
    notes = Notes()
    for name in ("d.png", "a.png", "c.png", "b.png", "a.png"):
        notes("is read as linear", name)
    notes("the up axis is a guess")
    notes("has a second layer", "b.exr")
    assert notes.lines() == [
        "the up axis is a guess",
        "4 files (a.png, b.png, c.png, …): is read as linear",
        "b.exr: has a second layer",
    ]


def test_the_lines_arrive_even_if_the_reading_fails():
    heard: list[str] = []
    with pytest.raises(ValueError), Notes.into(heard.append) as notes:
        notes("left out", "a.png")
        raise ValueError
    assert heard == ["a.png: left out"]
