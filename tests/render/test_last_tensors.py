"""What is kept of the tensor seen last, and when it is made anew."""

from __future__ import annotations

import torch

from stspbr.render.last_tensors import OfLastTensors


def test_made_anew_for_another_tensor_a_write_or_another_argument():
    made = []

    def total(tensor, factor=1):
        made.append(factor)
        return int(tensor.sum()) * factor

    kept = OfLastTensors(total)
    tensor = torch.arange(4)
    assert [kept(tensor), kept(tensor)] == [6, 6] and len(made) == 1
    assert kept(tensor, 2) == 12 and len(made) == 2
    tensor[0] = 5
    assert kept(tensor, 2) == 22 and len(made) == 3
    equal = tensor.clone()
    assert kept(equal, 2) == 22 and len(made) == 4
    place = equal.data_ptr()
    del equal
    again = torch.zeros(4, dtype=torch.int64)  # perhaps in the same memory
    assert kept(again, 2) == 0 and place
    with torch.inference_mode():
        own = torch.ones(3)
        assert kept(own) == 3
        own[0] = 4
        assert kept(own) == 6


def test_several_are_kept_while_they_live():
    made = []
    kept = OfLastTensors(lambda tensor: made.append(len(tensor)) or len(tensor), 2)
    one, two, three = torch.zeros(1), torch.zeros(2), torch.zeros(3)
    assert [kept(t) for t in (one, two, one, two)] == [1, 2, 1, 2] and made == [1, 2]
    kept(three)  # the oldest, one, goes
    assert [kept(two), kept(three), kept(one)] == [2, 3, 1] and made == [1, 2, 3, 1]
    del one
    kept(two)
    assert kept(three) == 3 and made == [1, 2, 3, 1, 2]  # what is dead takes no place
    assert len(kept._seen) == 2
