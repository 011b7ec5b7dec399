"""Figures of `stspbr texture`: the maps of eight prompts on three objects against what the words mean.

python scripts/texture_figures.py OUT [--prior FILE|bank|blind] [--steps 120,0] [--guidance 10] [--no-clamp] …

Writes OUT/figures.json and prints one line per run. The objects (jar, teapot, knob) and the light of the pictures
(procedural:demo) are none of those that the shipped prior was trained on.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

import numpy as np

import stspbr
from stspbr.threads import set_threads

stspbr.prepare_process()

import torch  # noqa: E402

from stspbr.formats.images import write_png8  # noqa: E402
from stspbr.metrics.image import display  # noqa: E402
from stspbr.optimize.progress import SilentReporter  # noqa: E402
from stspbr.priors.bank import BankPrior  # noqa: E402
from stspbr.priors.lit_views import own_lights  # noqa: E402
from stspbr.priors.vocabulary import Vocabulary  # noqa: E402
from stspbr.procedural.jar import demo_light  # noqa: E402
from stspbr.procedural.lamps import grey_light  # noqa: E402
from stspbr.render.asset_renderer import AssetRenderer  # noqa: E402
from stspbr.render.gbuffer import ViewBatch  # noqa: E402
from stspbr.render.prefilter import prefilter_latlong  # noqa: E402
from stspbr.settings import TextureSettings  # noqa: E402
from stspbr.stages import texture  # noqa: E402
from stspbr.stages.prompt_evaluation import prompt_errors  # noqa: E402
from stspbr.stages.relight import turntable  # noqa: E402
from stspbr.stages.session import Session  # noqa: E402

PROMPTS = (
    "polished brass", "satin copper", "rough steel", "polished black ceramic", "rough clay", "satin red plastic",
    "white ceramic spotted with blue plastic", "brushed aluminium",
)  # fmt: skip
OBJECTS = ("demo", "teapot", "knob")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path)
    parser.add_argument(
        "--prior", help="a prior's file, bank, or blind: the bank without light; default: the shipped one"
    )
    parser.add_argument("--prompts", nargs="*", default=list(PROMPTS))
    parser.add_argument("--objects", nargs="*", default=list(OBJECTS))
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--steps", default="120,0")
    parser.add_argument("--side", type=int, default=32, help="of the bank's pictures")
    parser.add_argument("--size", type=int, default=64, help="of the maps")
    parser.add_argument("--views", type=int, default=4)
    parser.add_argument("--guidance", default="auto")
    parser.add_argument("--survey", type=int, default=4)
    parser.add_argument("--no-clamp", action="store_true")
    parser.add_argument("--saturation", type=float, default=0.05)
    parser.add_argument("--picture", type=int, default=96, help="side of the pictures; 0: none")
    given = parser.parse_args()
    set_threads(1)
    given.out.mkdir(parents=True, exist_ok=True)
    rows, pictures = [], []
    demo = prefilter_latlong(demo_light(128), 128, given.out / ".cache")
    for prompt in given.prompts:
        line = []
        for name in given.objects:
            for seed in range(given.seeds):
                row, picture = one(given, prompt, name, seed, demo)
                rows.append(row)
                print(json.dumps(row), flush=True)
                if seed == 0 and picture is not None:
                    line.append(picture)
            (given.out / "figures.json").write_text(json.dumps(rows, indent=1))
        if line:
            pictures.append(np.concatenate(line, axis=1))
            write_png8(given.out / "pictures.png", np.concatenate(pictures), srgb=False)


def one(given: argparse.Namespace, prompt: str, name: str, seed: int, demo) -> tuple[dict, np.ndarray | None]:
    session = Session.open(given.out, seed=seed, threads=1, quiet=True)
    guidance = given.guidance if given.guidance == "auto" else float(given.guidance)
    settings = TextureSettings(
        mesh=f"procedural:{name}", prompt=prompt, prior=given.prior, size=given.size, views=given.views,
        steps=[int(part) for part in given.steps.split(",")], guidance=guidance, clamp=not given.no_clamp,
        survey=given.survey, saturation=given.saturation, checkpoint_every=10**6, preview_every=10**6,
        rate=0.03, turntable=1,
    )  # fmt: skip
    subject = texture.read_subject(session, settings)
    if given.prior in ("bank", "blind"):
        prior = BankPrior(Vocabulary.read(), given.side, blind=given.prior == "blind")
    else:
        prior = texture.load_prior(session, settings)
    began = time.process_time()
    problem, _ = texture.distil(session, settings, subject, prior, own_lights(), SilentReporter())
    seconds = time.process_time() - began
    asset, _ = texture.textured(session, settings, subject, problem)
    names = texture.part_names(subject)
    found = prompt_errors(
        session, asset, dict(zip(names, subject.prompts, strict=True)), grey_light(demo_light(128)), 4000
    )
    albedo = np.concatenate([material.albedo.reshape(-1, 3) for material in asset.materials])
    saturated = float(((albedo < 0.02) | (albedo > 0.98)).any(1).mean())
    row = {"object": name, "seed": seed, "cpu_seconds": round(seconds, 1), "saturated": saturated, **found[names[0]]}
    if not given.picture:
        return row, None
    frame = turntable(asset, 3, given.picture)[0]
    renderer = AssetRenderer(asset, session.backend, torch.device("cpu"))
    shown = renderer.render(ViewBatch.of([frame.camera], [np.eye(4)], torch.device("cpu")), demo)
    image, alpha = shown["rgb"][0].numpy(), shown["alpha"][0].numpy()
    return row, display(image) + 0.25 * (1.0 - alpha)


if __name__ == "__main__":
    main()
