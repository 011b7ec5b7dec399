"""A process's place in a torchrun job is what the environment says, and nonsense is said in one line."""

from __future__ import annotations

import pytest

from stspbr.errors import StspbrError
from stspbr.torchrun import Place, place

SECOND = {"RANK": "3", "WORLD_SIZE": "4", "LOCAL_RANK": "1", "LOCAL_WORLD_SIZE": "2", "MASTER_ADDR": "a",
          "MASTER_PORT": "1"}  # fmt: skip


def test_place_in_a_job():
    assert place(SECOND) == Place(3, 4, 1, 2)
    assert place({k: v for k, v in SECOND.items() if k != "LOCAL_WORLD_SIZE"}) == Place(3, 4, 1, 4)


@pytest.mark.parametrize("missing", ["RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT"])
def test_other_launchers_variables_make_no_job(missing):
    assert place({**SECOND, missing: ""}) == Place()
    assert place({}) == Place(0, 1, 0, 1)


@pytest.mark.parametrize("wrong", [{"RANK": "4"}, {"RANK": "x"}, {"LOCAL_RANK": "2"}, {"LOCAL_WORLD_SIZE": "5"}])
def test_nonsense_is_one_line(wrong):
    with pytest.raises(StspbrError, match="torchrun"):
        place({**SECOND, **wrong})
