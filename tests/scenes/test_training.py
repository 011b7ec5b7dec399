"""Generation and training as stages: resumable, deterministic, bit for bit; bad input is one line."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from stspbr.errors import StspbrError
from stspbr.neural.model import SceneModel
from stspbr.scenes.data import Batch, write_batch
from stspbr.settings.scene_files import load_scene_config, parse_scene_config
from stspbr.settings.scene_model import CHANNELS
from stspbr.settings.scenes import train_settings
from stspbr.stages.scenes_train import load_model, model_artifact, run_scenes_train
from stspbr.stages.session import Session


def tiny_config(**top):
    values = json.loads(load_scene_config("room_mini")[0].model_dump_json())
    generator = values["model"]["generators"][0]
    options = {"loss": ["logl1", "logssim"], "layers": 1, "hidden_units": 8, "propagate_buffers": True}
    representation = values["model"]["representations"][0]
    representation |= {"representation_dim": 12, "render_size": 16, "sharpening": 4, "final_sharpening": 2}
    generator |= {"render_size": 16, "settings": options}
    values |= {"batch_size": 3, "test_batch_size": 2, "views_per_scene": 3, "checkpoint_interval": 3}
    return parse_scene_config(values | top, "tiny")[0]


def write_data(folder, config, count=3):
    random = np.random.default_rng(4)
    for split in ("train", "test"):
        for number in range(count):
            shape = (config.batch_size, config.views_per_scene)
            buffers = {name: random.uniform(size=(*shape, CHANNELS[name], 16, 16)) for name in config.stored}
            buffers["beauty"] = buffers["normal"]  # what a pixel's network can learn
            poses = random.uniform(size=(*shape, 16)).astype(np.float32)
            factor = -1 if split == "test" else number % 3
            write_batch(folder / split / f"{number:09d}.npz", Batch(buffers, poses, factor))
    return parse_scene_config(
        config.model_dump() | {"train_data_dir": str(folder / "train"), "test_data_dir": str(folder / "test")}, "tiny"
    )[0]


def _train(run, config, steps=6, **session):
    settings = train_settings(config, steps, "config")
    return run_scenes_train(Session.open(run, device="cpu", threads=1, quiet=True, **session), settings)


def _weights(artifact):
    return load_model(artifact, torch.device("cpu")).state_dict()


def test_a_resumed_training_is_bit_identical_and_seeds_differ(tmp_path):
    config = write_data(tmp_path / "data", tiny_config())
    whole = _train(tmp_path / "whole", config)

    stopped = tmp_path / "stopped"
    original = SceneModel.losses
    calls = 0

    def failing(*arguments):
        nonlocal calls
        calls += 1
        if calls == 5:
            raise KeyboardInterrupt
        return original(*arguments)

    SceneModel.losses = failing
    try:
        with pytest.raises(KeyboardInterrupt):
            _train(stopped, config)
    finally:
        SceneModel.losses = original
    resumed = _train(stopped, config, resume=True)
    assert resumed.content_hash == whole.content_hash
    other = _train(tmp_path / "other", config, seed=1)
    first, second = _weights(whole), _weights(other)
    assert any(not torch.equal(first[name], second[name]) for name in first)
    metrics = json.loads(whole.file("metrics.json").read_text())
    assert metrics["steps"] == 6
    assert metrics["held_out"]["pictures"] == 9
    assert list((tmp_path / "whole/logs/scenes-model/previews").glob("scenes_*.png"))


def test_training_learns_what_is_there_to_learn(tmp_path):
    config = write_data(tmp_path / "data", tiny_config(learning_rate=1e-2, augment=False))
    first, later = (
        json.loads(_train(tmp_path / f"{steps}", config, steps).file("metrics.json").read_text())["held_out"]
        for steps in (1, 150)
    )
    assert later["psnr"] > first["psnr"] + 1.0


def test_bad_input_of_a_training_is_one_line(tmp_path):
    run = Session.open(tmp_path, device="cpu", threads=1, quiet=True)
    with pytest.raises(StspbrError, match="scenes generate"):
        run_scenes_train(run, train_settings(tiny_config(), 1))
    with pytest.raises(StspbrError, match="no train_data_dir"):
        run_scenes_train(run, train_settings(tiny_config(), 1, "config"))
    with pytest.raises(StspbrError, match="scenes train"):
        model_artifact(run)


def test_a_model_of_another_width_is_one_line(tmp_path):
    config = write_data(tmp_path / "data", tiny_config())
    artifact = _train(tmp_path / "run", config, 1)
    settings = json.loads(json.dumps(artifact.settings))
    settings["config"]["model"]["representations"][0]["representation_dim"] = 16
    artifact.manifest["settings"] = settings
    with pytest.raises(StspbrError, match=r"has the shape .* not .*of another model"):
        load_model(artifact, torch.device("cpu"))
