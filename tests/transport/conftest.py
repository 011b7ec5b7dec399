"""What the tests of transport share."""

from __future__ import annotations

import pytest
import torch

from stspbr.render.backend import get_backend


@pytest.fixture
def texture():
    return get_backend("cpu", torch.device("cpu")).texture
