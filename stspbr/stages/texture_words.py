"""What the words of the prompts ask of the distiller: captions, parts that are even, and what is surveyed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import torch

from stspbr.optimize.distill import Distillation
from stspbr.optimize.even_parts import EvenPart
from stspbr.optimize.pattern_survey import Alone, survey_pattern
from stspbr.optimize.picture_survey import survey_pictures
from stspbr.priors.floyd import FloydPrior
from stspbr.priors.lit_views import VIEW_WORDS
from stspbr.priors.protocol import Condition, Prior
from stspbr.priors.vocabulary import Caption
from stspbr.settings import TextureSettings
from stspbr.stages.texture_subject import Subject


def conditions_of(prior: Prior, prompts: Sequence[str]) -> list[Callable[[Sequence[str]], Condition]]:
    """What encodes each part's prompt for a batch of view words; every caption is encoded once, before the steps."""
    if isinstance(prior, FloydPrior):
        prior.prepare(prompts, VIEW_WORDS)
    out: list[Callable[[Sequence[str]], Condition]] = []
    for prompt in prompts:
        table = {word: prior.encode([prompt], [word]) for word in VIEW_WORDS}

        def of(words: Sequence[str], table: dict[str, Condition] = table) -> Condition:
            rows = [table[word] for word in words]
            return Condition(torch.cat([row.text for row in rows]), torch.cat([row.empty for row in rows]))

        out.append(of)
    return out


def captions_of(prior: Prior, prompts: Sequence[str]) -> list[Caption] | None:
    """What the prompts mean, if the prior has a vocabulary."""
    vocabulary = getattr(prior, "vocabulary", None)
    return None if vocabulary is None else [vocabulary.parse(prompt) for prompt in prompts]


def even_parts(settings: TextureSettings, subject: Subject, prior: Prior) -> list[EvenPart]:
    """The parts that the words say are of one material all over; a net's maps are as the net makes them."""
    vocabulary, captions = getattr(prior, "vocabulary", None), captions_of(prior, subject.prompts)
    if not settings.even or settings.param == "dip" or vocabulary is None or captions is None:
        return []
    out = []
    for part, caption in enumerate(captions):
        if caption.second is None:
            materials = [number for number, own in enumerate(subject.part_of) if own == part]
            texels = [subject.places[number][0] for number in materials]
            out.append(EvenPart(materials, texels, vocabulary.patterns[caption.pattern] == "none"))
    return out


def surveys(
    settings: TextureSettings, subject: Subject, prior: Prior, problem: Distillation, steps: int
) -> dict[int, Callable[[], str]]:
    """When roughness and metallic are searched for; of priors that know the light, and maps of texels, alone.

    Where two materials show, the last search is after the last step (``steps``): whatever texels have drifted to by
    then, each is one of the two.
    """
    if settings.survey == 0 or settings.param == "dip" or not problem.stage.uses & {"light", "uniform"}:
        return {}
    if problem.number > 0:
        return {}  # the finer stage refines what the first one has decided
    captions = captions_of(prior, subject.prompts) or []
    plain = [caption.second is None for caption in captions]
    alone = [_alone(prior, caption) for caption in captions]

    def survey(step: int) -> str:
        said = []
        if any(plain) and step < steps:
            said.append(survey_pictures(problem, subject.places, plain, step))
        if not all(plain):
            said.append(survey_pattern(problem, subject.places, alone, step, step / steps))
        return "; ".join(said)

    marks = {int(steps * k / settings.survey) for k in range(1, settings.survey)} - {0}
    return {step: partial(survey, step) for step in sorted(marks if all(plain) else marks | {steps})}


def _alone(prior: Prior, caption: Caption) -> Alone | None:
    """What encodes each of the two materials of a caption by itself; None: it has one."""
    if caption.second is None:
        return None
    one, two = (conditions_of(prior, [Caption(own).text()])[0] for own in (caption.first, caption.second))
    return one, two
