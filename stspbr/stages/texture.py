"""Texture: PBR maps of a given mesh from a text, by score distillation; the result is a bake."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from stspbr.artifacts import Artifact
from stspbr.errors import StspbrError
from stspbr.geometry.topology import mesh_report
from stspbr.optimize.appearance import MaterialMaps, TextureAppearance
from stspbr.optimize.deep_maps import DeepAppearance
from stspbr.optimize.distill import Distillation, Weights
from stspbr.optimize.loop import Stopwatch, optimize
from stspbr.optimize.progress import Reporting
from stspbr.optimize.texture_views import TextureViews
from stspbr.priors.bank import BankPrior
from stspbr.priors.floyd import FloydPrior
from stspbr.priors.lit_views import own_lights
from stspbr.priors.protocol import Prior
from stspbr.priors.small import SmallPrior, shipped
from stspbr.priors.vocabulary import Vocabulary
from stspbr.procedural.lamps import grey_light
from stspbr.scene import EnvironmentLight
from stspbr.settings import OptimizeSettings, PriorTrainSettings, Rate, RateSettings, TextureSettings
from stspbr.settings.schedules import Schedule
from stspbr.stages.baked_maps import dilated
from stspbr.stages.evaluate import load_lights
from stspbr.stages.fit import step_seconds
from stspbr.stages.prior import prefiltered_lights, run_prior_train
from stspbr.stages.session import Session, on_first_rank
from stspbr.stages.state import save_json
from stspbr.stages.texture_files import write_texture
from stspbr.stages.texture_subject import Subject, part_names, read_subject, textured
from stspbr.stages.texture_words import captions_of, conditions_of, even_parts, surveys
from stspbr.texture.atlas import TexelMap

_START = (0.5, 0.5, 0.5)  # albedo, roughness, metallic
_ROUGHNESS = (0.03, 1.0)
_FALLING: Schedule = [(0.0, 1.0, "exponential"), (1.0, 0.3, "exponential")]


@on_first_rank
def run_texture(session: Session, settings: TextureSettings) -> Artifact:
    """Distil maps and write them as the next version of ``bake``.

    Writes ``asset.glb``, ``obj/`` (OBJ, MTL and separate maps), ``light.hdr`` (the grey light of the first pictures),
    ``metrics.json``, ``progress/`` (views every so many steps) and ``turntable/<light>/`` under three lights.
    """
    subject = read_subject(session, settings)
    prior = load_prior(session, settings)
    lights, watch = _lights(settings), Stopwatch()
    steps = steps_of(settings, prior)
    with session.reporter("bake", _optimize_settings(settings, sum(steps))) as reporter:
        problem, skipped = distil(session, settings, subject, prior, lights, reporter, watch)
        with session.create("bake", settings) as draft:
            asset, coverage = textured(session, settings, subject, problem)
            write_texture(session, settings, asset, lights, steps, draft.path)
            metrics = {
                "mesh": mesh_report(subject.final_mesh.positions, subject.final_mesh.faces),
                "prior": {"name": prior.name, "licence": prior.licence, "stages": [one.side for one in prior.stages]},
                "prompts": dict(zip(part_names(subject), subject.prompts, strict=True)),
                "coverage": coverage,
                "new_uvs": [subject.given.materials[number].name for number in subject.renewed],
                "steps": steps,
                "skipped_steps": skipped,
            }
            save_json(metrics, draft.path / "metrics.json")
            draft.run.update({"seconds_per_step": step_seconds(watch)})
        for number in range(len(steps)):
            session.checkpoints("texture", _work(settings, subject, number), []).clear()
        unseen = 100 * coverage["unseen_share"]
        reporter.summary([f"wrote {draft.artifact.path}", f"{unseen:.1f} % of the texels are seen from nowhere"])
        return draft.artifact


def steps_of(settings: TextureSettings, prior: Prior) -> list[int]:
    """Steps at each of the prior's resolutions; StspbrError if there are none."""
    count = len(prior.stages)
    steps = (list(settings.steps) + [0] * count)[:count]
    if sum(steps) == 0:
        raise StspbrError("steps: at least one resolution needs a step")
    return steps


def distil(
    session: Session,
    settings: TextureSettings,
    subject: Subject,
    prior: Prior,
    lights: Sequence[EnvironmentLight],
    reporter: Reporting,
    watch: Stopwatch | None = None,
) -> tuple[Distillation, int]:
    """Distil the maps, resolution by resolution, each with an optimiser of its own.

    Returns:
        The last resolution's problem, which has the maps, and the number of steps that were left out.
    """
    conditions = conditions_of(prior, subject.prompts)
    patterned = any(caption.second is not None for caption in captions_of(prior, subject.prompts) or [])
    shown = prefiltered_lights(session, list(lights))
    stages, steps, problem = prior.stages, steps_of(settings, prior), None
    maps, done, skipped = _appearance(session, settings, subject, False), 0, 0
    for number, stage in enumerate(stages):
        if steps[number] == 0:
            continue
        views = TextureViews(subject.geometry.surface(), shown, session.backend, stage.side, soften=number == 0)
        fresh = _appearance(session, settings, subject, stage.learns_normals)
        frozen = _appearance(session, settings, subject, False) if "low" in stage.uses else None
        _copy(maps, fresh)
        if frozen is not None:
            _copy(maps, frozen)
        problem = Distillation(
            views, fresh, stage, conditions, torch.tensor(subject.part_of, device=session.device),
            guidance=prior.guidance[number] if settings.guidance == "auto" else (settings.guidance,) * 2,
            weights=_weights(settings), batch=settings.views if number == 0 else settings.fine_views,
            seed=session.seed, number=number, clamp=settings.clamp,
            coarse=frozen, coarse_side=stages[number - 1].side if number else stage.side,
            fill=[partial(_filled, texels=texels) for texels in subject.texels],
            even=even_parts(settings, subject, prior), pattern=number == 0 and patterned,
        )  # fmt: skip
        checkpoints = session.checkpoints("texture", _work(settings, subject, number), [])
        optimize(
            problem, _optimize_settings(settings, steps[number]), reporter=_Later(reporter, done),
            checkpoints=checkpoints, resume=session.resume, device=session.device, watch=watch,
            before=surveys(settings, subject, prior, problem, steps[number]),
        )  # fmt: skip
        done, maps, skipped = done + steps[number], fresh, skipped + int(problem.skipped)
    assert problem is not None
    problem.fill_gutters()
    return problem, skipped


def load_prior(session: Session, settings: TextureSettings) -> Prior:
    """The prior that the settings name."""
    if settings.prior == "bank":
        return BankPrior(Vocabulary.read())  # type: ignore[return-value]
    if settings.prior is not None and settings.prior.startswith("floyd:"):
        folder = Path(settings.prior.removeprefix("floyd:"))
        return FloydPrior(folder, session.run / ".cache", session.device, settings.accept_prior_licence)  # type: ignore[return-value]
    path: str | Path | None = settings.prior
    if path is None and not shipped():
        path = first_prior(session)
    return SmallPrior.load(path).to(session.device)  # type: ignore[return-value]


def first_prior(session: Session) -> Path:
    """The run's own prior where none is shipped: the newest, or one that is trained now."""
    wanted = PriorTrainSettings()
    found = session.store.find("prior", wanted.model_dump(mode="json"), [], session.seed)
    if found is None:
        session.say(f"there is no prior yet: training one for about {wanted.minutes:g} minutes, once for this run")
        found = run_prior_train(session, wanted)
    return found.file("prior.safetensors")


class _Later:
    """A reporter of a later resolution: its steps come after those of the earlier ones."""

    def __init__(self, reporter: Reporting, first: int) -> None:
        self._reporter, self._first = reporter, first
        self.message, self.summary = reporter.message, reporter.summary

    def expect(self, total_steps: int) -> None:
        self._reporter.expect(self._first + total_steps)

    def step(self, step: int, *rest: Any) -> None:
        self._reporter.step(self._first + step, *rest)

    def image(self, tag: str, array: Any, step: int) -> Any:
        return self._reporter.image(tag, array, self._first + step)


def _lights(settings: TextureSettings) -> list[EnvironmentLight]:
    """Grey lights to look under."""
    if not settings.lights:
        return own_lights()
    return [grey_light(light) for light in load_lights(settings.lights).values()]


def _appearance(session: Session, settings: TextureSettings, subject: Subject, normals: bool) -> TextureAppearance:
    """Maps as they begin."""
    side, device = (settings.size, settings.size), session.device
    albedo, roughness, metallic = _START
    maps = []
    for _ in subject.texels:
        reflectance = torch.tensor([roughness, metallic], device=device).expand(*side, 2)
        normal = torch.tensor([0.0, 0.0, 1.0], device=device).expand(*side, 3) if normals else None
        maps.append(MaterialMaps(torch.full((*side, 3), albedo, device=device), reflectance, normal))
    owner = subject.final_mesh.face_material
    others: dict[str, Any] = {
        "face_material": None if owner is None else torch.as_tensor(owner, dtype=torch.int64, device=device),
        "roughness_range": _ROUGHNESS,
        "joint": False,
        "backend": session.backend,
    }
    if settings.param == "dip":
        if settings.size % 16:
            raise StspbrError(f"--size {settings.size}: with --param dip a multiple of 16")
        return DeepAppearance(maps, session.seed, **others).to(device)
    return TextureAppearance(maps, learn_normal=normals, **others).to(device)


@torch.no_grad()
def _copy(source: TextureAppearance, target: TextureAppearance) -> None:
    """The maps of ``source`` for ``target``, which may have normal maps besides."""
    if isinstance(source, DeepAppearance) and isinstance(target, DeepAppearance):
        target.load_state_dict(source.state_dict())
    for one, other in zip(source.materials, target.materials, strict=True):
        other.albedo.copy_(one.albedo)
        other.reflectance.copy_(one.reflectance)
        if one.normal is not None and other.normal is not None:
            other.normal.copy_(one.normal)


def _filled(values: Tensor, texels: TexelMap) -> Tensor:
    return torch.as_tensor(dilated(values, texels), device=values.device)


def _weights(settings: TextureSettings) -> Weights:
    return Weights(
        settings.metallic_smoothness, settings.metallic_binary, settings.normal_flatness, settings.saturation
    )


def _optimize_settings(settings: TextureSettings, steps: int) -> OptimizeSettings:
    own, none = Rate(rate=settings.rate, schedule=_FALLING), Rate(rate=0.0)
    rates = RateSettings(geometry=none, appearance=own, reflectance=own, joint=own, light=none)
    return OptimizeSettings(
        iterations=steps, rates=rates, checkpoint_every=settings.checkpoint_every,
        preview_every=settings.preview_every, log_every=settings.log_every,
    )  # fmt: skip


def _work(settings: TextureSettings, subject: Subject, number: int) -> TextureSettings:
    """The settings that identify the work of one resolution, with the mesh's content in the place of its name."""
    import hashlib

    mesh = subject.final_mesh
    digest = hashlib.sha256(mesh.positions.tobytes() + mesh.faces.tobytes() + mesh.required("uvs").values.tobytes())
    return settings.model_copy(update={"mesh": f"{digest.hexdigest()}/{number}"})
