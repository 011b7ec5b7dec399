"""Training the small prior: pictures by number, resuming bit for bit, the file that comes out."""

from __future__ import annotations

import json

import pytest
import torch

from stspbr.errors import StspbrError
from stspbr.priors.small import SmallPrior
from stspbr.settings import PriorTrainSettings
from stspbr.stages import prior as stage
from stspbr.stages.session import Session

SETTINGS = PriorTrainSettings(steps=[4, 2], pool=1, refresh=2, held_out=1, checkpoint_every=2, log_every=1)


@pytest.fixture(autouse=True)
def few(monkeypatch):
    """Two lights instead of eight, and the error at two noise levels instead of six."""
    lights = stage.own_lights()[3:5]
    monkeypatch.setattr(stage, "own_lights", lambda: lights)
    monkeypatch.setattr(stage, "_LEVELS_SHOWN", (300, 900))


def test_a_resumed_training_is_the_uninterrupted_one(tmp_path, monkeypatch):
    whole = stage.run_prior_train(Session.open(tmp_path / "a", threads=1, quiet=True), SETTINGS)
    found = json.loads(whole.file("metrics.json").read_text())
    assert found["steps"] == [4, 2] and set(found["held_out_v"]) == {"64", "128"}
    assert all(set(errors) == {"300", "900"} for errors in found["held_out_v"].values())
    session = Session.open(tmp_path / "b", threads=1, quiet=True)
    real = stage.PriorTraining.terms

    def killed(self, step, *rest):
        if self.plan.low and step == 1:
            raise KeyboardInterrupt
        return real(self, step, *rest)

    monkeypatch.setattr(stage.PriorTraining, "terms", killed)
    with pytest.raises(KeyboardInterrupt):
        stage.run_prior_train(session, SETTINGS)
    monkeypatch.setattr(stage.PriorTraining, "terms", real)
    session.resume = True
    resumed = stage.run_prior_train(session, SETTINGS)
    for name in ("prior.safetensors", "metrics.json", "samples.png"):
        assert resumed.file(name).read_bytes() == whole.file(name).read_bytes(), name
    loaded = SmallPrior.load(whole.file("prior.safetensors"))
    assert [one.side for one in loaded.stages] == [64, 128]
    assert "low" in loaded.stages[1].uses and not loaded.stages[0].learns_normals


def test_a_file_that_is_no_prior_is_one_line(tmp_path):
    from safetensors.torch import save_file

    save_file({"x": torch.zeros(1)}, str(tmp_path / "x.safetensors"))
    (tmp_path / "y.safetensors").write_bytes(b"no")
    for name in ("x.safetensors", "y.safetensors", "z.safetensors"):
        with pytest.raises(StspbrError, match=name):
            SmallPrior.load(tmp_path / name)
