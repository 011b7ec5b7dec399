"""Prior: train the small cascade on our own renders, and look at what a prior makes of a prompt."""

from __future__ import annotations

import hashlib
import json
import math
import shutil
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from stspbr.artifacts import Artifact
from stspbr.errors import StspbrError
from stspbr.files import write_file
from stspbr.formats.assets import read_asset
from stspbr.formats.images import write_png8
from stspbr.metrics.samples import Reading, read_samples
from stspbr.optimize.loop import Stopwatch, optimize
from stspbr.optimize.prior_training import BATCH, PriorTraining
from stspbr.priors.lit_views import LAMP_ROOMS, own_lights
from stspbr.priors.pictures import CHUNK, Studio
from stspbr.priors.sampling import sample
from stspbr.priors.small import PLANS, Plan, SmallPrior, save_prior
from stspbr.priors.vocabulary import Vocabulary
from stspbr.procedural.by_name import is_procedural, procedural_asset
from stspbr.procedural.jar import demo_light
from stspbr.procedural.lamps import grey_light
from stspbr.render.prefilter import PrefilteredLight, prefilter_latlong
from stspbr.scene import Asset, EnvironmentLight, Mesh
from stspbr.settings import OptimizeSettings, PriorTrainSettings, Rate, RateSettings
from stspbr.settings.schedules import PRESETS, Schedule
from stspbr.stages.session import Session, on_first_rank
from stspbr.stages.state import save_json

_SHARES = (0.6, 0.4)  # of the minutes, for the two nets
_MEASURED = 8  # steps that tell how many fit into the minutes
_LEVELS_SHOWN = (100, 300, 500, 700, 900, 980)


@on_first_rank
def run_prior_train(session: Session, settings: PriorTrainSettings) -> Artifact:
    """Train both nets of the cascade.

    Writes ``prior.safetensors`` (half precision, with its words), ``vocabulary.toml``, ``samples.png`` and
    ``metrics.json``: steps, pictures, and the held-out error of v by noise level, on a shape and a light that were
    never trained on.
    """
    vocabulary = Vocabulary.read(settings.vocabulary)
    extra = [] if settings.on_mesh is None else [load_mesh_asset(settings.on_mesh).mesh]
    lights = prefiltered_lights(session, own_lights())
    held = prefiltered_lights(session, [grey_light(demo_light(128))])
    steps = _steps(session, settings, vocabulary, lights)
    states, errors, pictures = [], {}, None
    plans = _plans(settings)
    for number, plan in enumerate(plans):
        training = _training(session, settings, vocabulary, lights, plan, number, extra)
        how = _optimize_settings(settings, steps[number])
        checkpoints = session.checkpoints(f"prior-{plan.side}", _work(settings, steps), [])
        with session.reporter("prior", how) as reporter:
            reporter.message(f"net of {plan.side}²: {steps[number]} steps of {BATCH} crops")
            optimize(
                training, how, reporter=reporter, checkpoints=checkpoints, resume=session.resume, device=session.device
            )
        # the last checkpoint stays until the artifact is whole, so that a kill in the second net costs no more than it
        checkpoints.save(_last(training, steps[number]))
        states.append(training.average.state_dict())
        judge = Studio(vocabulary, held, session.backend, session.device, 64, plan.side, [_held_out_mesh()])
        errors[str(plan.side)] = held_out_error(training, judge, settings.held_out, session.seed)
        if number == 0:
            pictures = _samples(training, judge)
    with session.create("prior", settings) as draft:
        save_prior(draft.path / "prior.safetensors", vocabulary, plans, states)
        write_file(draft.path / "vocabulary.toml", vocabulary.source)
        assert pictures is not None
        write_png8(draft.path / "samples.png", pictures, srgb=False)
        seen = {plan.side: CHUNK * (settings.pool + steps[k] // settings.refresh) for k, plan in enumerate(plans)}
        save_json(
            {
                "steps": steps,
                "pictures": seen,
                "held_out_v": errors,
                "lights": 3 + LAMP_ROOMS,
                "words": len(vocabulary.words),
            },
            draft.path / "metrics.json",
        )
    for place in (session.run / ".cache").glob("pictures-*"):
        shutil.rmtree(place, ignore_errors=True)
    for plan in plans:
        session.checkpoints(f"prior-{plan.side}", _work(settings, steps), []).clear()
    return draft.artifact


@torch.no_grad()
def held_out_error(training: PriorTraining, judge: Studio, chunks: int, seed: int) -> dict[str, float]:
    """Mean squared error of v of the averaged net, by noise level, on ``chunks`` chunks of the judge's pictures."""
    generator = torch.Generator(device=judge.device).manual_seed(seed)
    sums = dict.fromkeys(map(str, _LEVELS_SHOWN), 0.0)
    for number in range(chunks):
        pictures = judge.chunk(number, seed + 99)
        for level in _LEVELS_SHOWN:
            t = torch.full((CHUNK,), level, device=judge.device)
            sums[str(level)] += float(training.error(training.average, pictures, generator, t)[0].mean()) / chunks
    return sums


def run_prior_sample(
    session: Session, prior: SmallPrior, prompt: str, light: EnvironmentLight, asset: Asset, out: Path, count: int
) -> Path:
    """Pictures of ``prompt`` that the first net makes out of noise, above the white references that it was shown."""
    stage = prior.stages[0]
    studio = Studio(
        prior.vocabulary, prefiltered_lights(session, [grey_light(light)]), session.backend, session.device,
        stage.side, stage.side, [asset.mesh],
    )  # fmt: skip
    found, extra = sample(prior, [prompt] * count, studio, session.seed)
    assert extra.light is not None
    rows = [torch.cat(list(found), dim=1)]
    for channel in (0, 1):
        rows.append(torch.cat(list(extra.light[..., channel : channel + 1].expand(-1, -1, -1, 3)), dim=1))
    write_png8(out, torch.cat(rows).clamp(0.0, 1.0).cpu().numpy(), srgb=False)
    return out


def check_prior(
    session: Session, prior: SmallPrior, light: EnvironmentLight, asset: Asset, views: int
) -> list[Reading]:
    """What samples of every material look like on a mesh under a light, see ``read_samples``."""
    side = prior.stages[0].side
    studio = Studio(
        prior.vocabulary, prefiltered_lights(session, [grey_light(light)]), session.backend, session.device,
        side, side, [asset.mesh],
    )  # fmt: skip
    return read_samples(prior, studio, session.seed, views)


def prefiltered_lights(session: Session, lights: list[EnvironmentLight]) -> list[PrefilteredLight]:
    """The lights as the shading reads them, from the run's cache if they are there."""
    cache = session.run / ".cache"
    return [prefilter_latlong(light, 128, cache).to(session.device) for light in lights]


def load_mesh_asset(path: str) -> Asset:
    """A made object by its name, or what ``read_asset`` reads; StspbrError if it has no faces."""
    asset = procedural_asset(path) if is_procedural(path) else read_asset(path)
    if len(asset.mesh.faces) == 0:
        raise StspbrError(f"{path}: the mesh has no faces: there is nothing to texture")
    if not np.isfinite(asset.mesh.positions).all():
        raise StspbrError(f"{path}: some vertices are NaN or infinite: export the mesh again")
    return asset


def _held_out_mesh() -> Mesh:
    return procedural_asset("procedural:demo").mesh


def _training(
    session: Session,
    settings: PriorTrainSettings,
    vocabulary: Vocabulary,
    lights: list[PrefilteredLight],
    plan: Plan,
    number: int,
    extra: list[Mesh],
) -> PriorTraining:
    studio = Studio(vocabulary, lights, session.backend, session.device, 64, plan.side, more=extra)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(session.seed * 2 + number)
        net = plan.net(len(vocabulary.words)).to(session.device)
    # the words and the meshes decide what is on the pictures
    content = hashlib.sha256(vocabulary.source.encode() + b"".join(mesh.positions.tobytes() for mesh in extra))
    cache = session.run / ".cache" / f"pictures-{content.hexdigest()[:12]}-{plan.side}"
    return PriorTraining(plan, net, studio, session.seed * 2 + number, settings.pool, settings.refresh, cache)


def _plans(settings: PriorTrainSettings) -> list[Plan]:
    """The cascade, with or without light."""
    return [replace(plan, light=settings.light) for plan in PLANS]


def _steps(
    session: Session, settings: PriorTrainSettings, vocabulary: Vocabulary, lights: list[PrefilteredLight]
) -> list[int]:
    """Steps of the two nets: as given, or as many as fit into the minutes. They are kept for a resumed run."""
    if settings.steps:
        return (settings.steps * 2)[:2]
    kept = session.run / ".checkpoints" / "prior-steps.json"
    key = json.dumps([settings.model_dump(mode="json"), session.seed], sort_keys=True)
    if session.resume and kept.exists():
        stored = json.loads(kept.read_text(encoding="utf-8"))
        if stored["work"] == key:
            return stored["steps"]
    out = []
    for number, (plan, share) in enumerate(zip(_plans(settings), _SHARES, strict=True)):
        quick = settings.model_copy(update={"pool": 1, "refresh": 10**6})
        training = _training(session, quick, vocabulary, lights, plan, number, [])
        began = time.perf_counter()
        training.studio.chunk(0, 0)
        chunk = time.perf_counter() - began
        training.terms(0, 0.0, Stopwatch())
        began = time.perf_counter()
        for step in range(_MEASURED):
            training.terms(step, 0.0, Stopwatch())[0].value.backward()
        each = (time.perf_counter() - began) / _MEASURED + chunk / settings.refresh
        left = max(60.0 * settings.minutes * share - settings.pool * chunk, 0.0)
        out.append(max(20, int(left / each)))
    write_file(kept, json.dumps({"work": key, "steps": out}))
    return out


def _work(settings: PriorTrainSettings, steps: list[int]) -> PriorTrainSettings:
    """The settings that identify the work: with the steps that were measured."""
    return settings.model_copy(update={"steps": steps})


def _last(training: PriorTraining, steps: int) -> dict:
    """A checkpoint after the last step, from which a resumed loop runs none."""
    return {
        "problem": training.state(), "optimizer": torch.optim.Adam(training.net.parameters()).state_dict(),
        "step": steps, "threads": torch.get_num_threads(), "ranks": 1,
    }  # fmt: skip


def _optimize_settings(settings: PriorTrainSettings, steps: int) -> OptimizeSettings:
    falling: Schedule = [(k / 8, 0.5 + 0.5 * math.cos(math.pi * k / 8), "linear") for k in range(9)]
    none = Rate(rate=0.0, schedule=PRESETS["constant"])
    rates = RateSettings(
        geometry=none, appearance=none, reflectance=none, light=none, joint=Rate(rate=settings.rate, schedule=falling)
    )
    return OptimizeSettings(
        iterations=steps, rates=rates, checkpoint_every=settings.checkpoint_every,
        preview_every=settings.preview_every, log_every=settings.log_every,
    )  # fmt: skip


@torch.no_grad()
def _samples(training: PriorTraining, judge: Studio) -> np.ndarray:
    """Held-out pictures above what the net makes of them at three noise levels, ``[H, W, 3]``."""
    found = judge.chunk(0, training.seed + 99)
    generator = torch.Generator(device=judge.device).manual_seed(training.seed)
    rows: list[Tensor] = [found.picture[::3]]
    rows += [training.restored(training.average, found, level, generator)[::3] for level in (400, 700, 950)]
    return torch.cat([torch.cat(list(row), dim=1) for row in rows]).clamp(0.0, 1.0).cpu().numpy()
