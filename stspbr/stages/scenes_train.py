"""Scenes train: fit encoders and generators to a data set."""

from __future__ import annotations

import time
from pathlib import Path

import torch

from stspbr.artifacts import Artifact
from stspbr.errors import StspbrError
from stspbr.neural.model import SceneModel, parameter_count
from stspbr.neural.partitions import FACTORS
from stspbr.optimize.loop import optimize
from stspbr.optimize.scene_figures import held_out
from stspbr.optimize.scene_loop import SceneTraining
from stspbr.scenes.data import Batches
from stspbr.settings import SceneConfig, SceneTrainSettings, parse_settings
from stspbr.stages.scenes_generate import STAGE as DATA
from stspbr.stages.session import Session
from stspbr.stages.state import load_module_state, save_json, save_state

STAGE = "scenes-model"


def run_scenes_train(session: Session, settings: SceneTrainSettings) -> Artifact:
    """Train a model; writes ``model.safetensors``, ``config.json``, ``widths.json`` and ``metrics.json``."""
    config = settings.config
    parents = [data_artifact(session)] if settings.data == "run" else []
    folder = parents[0].path if parents else None
    train = data_of(config, "train", folder)
    test = test_of(config, folder)
    _ = train[0]  # what cannot be read is an error before the first step
    seed = session.seed if config.seed < 0 else config.seed
    model = SceneModel(config, torch.Generator().manual_seed(seed))
    problem = SceneTraining(model, train, test, settings, seed, session.device, session.ranks)
    checkpoints = session.checkpoints(STAGE, settings, parents)
    began = time.monotonic()
    with session.reporter(STAGE, settings) as reporter:
        reporter.message(f"{parameter_count(model) / 1e6:.2f} million weights, {len(train)} training batches")
        watch = optimize(
            problem,
            settings,
            reporter=reporter,
            checkpoints=checkpoints,
            resume=session.resume,
            device=session.device,
            ranks=session.ranks,
        )

        def finish() -> Artifact:
            with session.create(STAGE, settings, parents) as draft:
                metrics = write_model(draft.path, model, train, test)
                draft.run.update(
                    seconds=time.monotonic() - began,
                    cpu_seconds=watch.totals["cpu"],
                    processes=session.ranks.size,
                )
            checkpoints.clear()
            lines = [f"wrote {draft.artifact.path}: {', '.join(draft.artifact.files)}"]
            if "held_out" in metrics:
                found = metrics["held_out"]
                lines.append(
                    f"held-out PSNR {found['psnr']:.2f} dB over {found['pictures']} pictures; "
                    f"the mean picture has {found['psnr_of_mean']:.2f} dB"
                )
            shares = ", ".join(f"{name} {share:.2f}" for name, share in metrics["widths"][0]["shares"].items())
            reporter.summary([*lines, f"widths: {shares}"])
            return draft.artifact

        return session.ranks.first(finish)


def write_model(folder: Path, model: SceneModel, train: Batches, test: Batches | None) -> dict:
    """The payload of a trained model, and its figures."""
    save_state(model, folder / "model.safetensors")
    save_json(model.config.model_dump(mode="json"), folder / "config.json")
    widths = [
        {
            "shares": dict(zip((*FACTORS, "empty"), part.shares().tolist(), strict=False)),
            "ranges": dict(zip((*FACTORS, "empty"), map(list, part.ranges()), strict=False)),
        }
        for part in model.every_partition
    ]
    metrics: dict = {"widths": widths, "parameters": parameter_count(model), "steps": int(model.trained)}
    if test is not None:
        metrics["held_out"] = held_out(model, test, train)
    save_json({"widths": widths}, folder / "widths.json")
    save_json(metrics, folder / "metrics.json")
    return metrics


def data_artifact(session: Session) -> Artifact:
    """The run's newest data set, or the one that ``--from`` names."""
    if not (session.run / DATA).is_dir() and not session.versions.get(DATA):
        raise StspbrError(f"{session.run}: there are no scenes here: run `stspbr scenes generate` first")
    return session.parent(DATA)


def data_of(config: SceneConfig, split: str, folder: Path | None) -> Batches:
    """The batches of a split: in ``folder``, or where the configuration says."""
    named = config.train_data_dir if split == "train" else config.test_data_dir
    if folder is None and not named:
        raise StspbrError(f"--data config: the configuration has no {split}_data_dir")
    place = Path(named) if folder is None else folder / split
    return Batches(place, [*config.passes, *(["beauty"] if "beauty" not in config.passes else [])], config.sizes[-1])


def test_of(config: SceneConfig, folder: Path | None) -> Batches | None:
    """The test batches; None if there are none."""
    place = Path(config.test_data_dir) if folder is None else folder / "test"
    known = folder is not None or config.test_data_dir
    return data_of(config, "test", folder) if known and any(place.glob("*.npz")) else None


def model_artifact(session: Session) -> Artifact:
    """The run's newest trained model, or the one that ``--from`` names."""
    if not (session.run / STAGE).is_dir():
        raise StspbrError(f"{session.run}: there is no trained model here: run `stspbr scenes train` first")
    return session.parent(STAGE)


def load_model(artifact: Artifact, device: torch.device) -> SceneModel:
    """A trained model.

    Raises:
        StspbrError: its weights are damaged or of another width than its configuration.
    """
    config = parse_settings(SceneConfig, artifact.settings["config"], f"{artifact.path}: settings")
    model = SceneModel(config)
    load_module_state(model, artifact.file("model.safetensors"))
    return model.to(device).eval()
