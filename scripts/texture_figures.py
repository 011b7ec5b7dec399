"""Figures of `stspbr texture`: the maps of prompts on made objects against what the words mean.

python scripts/texture_figures.py OUT [--prior FILE|bank|blind] [--prompts …] [--seeds 2] [--guidance 10] [--no-clamp] …
python scripts/texture_figures.py OUT --samples          what the prior's own pictures show, without any distiller

Prints one line per run and appends it to OUT/rows.jsonl; a run that is there already is not run again. At the end it
prints the acceptance figures of all runs of these settings (OUT/acceptance.json) and, with --picture, the objects under
a light that was never seen (OUT/pictures.png). The objects (jar, teapot, knob) and that light (procedural:demo) are
none of those that the shipped prior was trained on, or that the maps are distilled under.
"""

from __future__ import annotations

import argparse
import json
import time
from collections import defaultdict
from collections.abc import Sequence
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np

import stspbr
from stspbr.threads import set_threads

stspbr.prepare_process()

import torch  # noqa: E402

from stspbr.formats.images import read_image, write_png8  # noqa: E402
from stspbr.metrics.image import display  # noqa: E402
from stspbr.optimize.distill import Distillation  # noqa: E402
from stspbr.optimize.progress import SilentReporter  # noqa: E402
from stspbr.priors.bank import BankPrior  # noqa: E402
from stspbr.priors.lit_views import own_lights  # noqa: E402
from stspbr.priors.small import SmallPrior  # noqa: E402
from stspbr.priors.vocabulary import Vocabulary  # noqa: E402
from stspbr.procedural.by_name import procedural_asset  # noqa: E402
from stspbr.procedural.jar import demo_light  # noqa: E402
from stspbr.procedural.lamps import grey_light  # noqa: E402
from stspbr.render.asset_renderer import AssetRenderer  # noqa: E402
from stspbr.render.display import area_filtered  # noqa: E402
from stspbr.render.gbuffer import ViewBatch  # noqa: E402
from stspbr.render.prefilter import prefilter_latlong  # noqa: E402
from stspbr.scene import Asset  # noqa: E402
from stspbr.settings import TextureSettings  # noqa: E402
from stspbr.stages import texture  # noqa: E402
from stspbr.stages.prior import check_prior  # noqa: E402
from stspbr.stages.prompt_evaluation import prompt_errors  # noqa: E402
from stspbr.stages.relight import turntable  # noqa: E402
from stspbr.stages.session import Session  # noqa: E402
from stspbr.stages.texture_subject import Subject  # noqa: E402

PROMPTS = (
    "polished brass", "satin copper", "rough steel", "polished black ceramic", "rough clay", "satin red plastic",
    "white ceramic spotted with blue plastic", "brushed aluminium",
)  # fmt: skip
OBJECTS = ("demo", "teapot", "knob")
FINISHES = ("polished", "satin", "rough")
GOALS = {
    "bank": {"metallic": 0.10, "side": 1.0, "roughness": 0.08, "albedo": 0.06, "light": 0.10, "order": 1.0,
             "seeds": 0.03},
    "small": {"metallic": 0.15, "side": 0.95, "roughness": 0.12, "albedo": 0.10, "light": 0.15, "order": 0.90,
              "two": 0.75, "seeds": 0.06, "sharpness": 1.5, "coarse_psnr": 24.0},
}  # fmt: skip
AT_LEAST = frozenset({"side", "order", "two", "sharpness", "coarse_psnr"})


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
    parser.add_argument("--no-even", action="store_true", help="each texel follows the prior for itself")
    parser.add_argument("--saturation", type=float, default=0.05)
    parser.add_argument("--rate", type=float, default=0.03)
    parser.add_argument("--picture", type=int, default=96, help="side of the pictures; 0: none")
    parser.add_argument("--traced", type=int, default=0, help="paths per pixel of the pictures; 0: rasterised")
    parser.add_argument("--samples", action="store_true", help="read the prior's own pictures, and nothing else")
    given = parser.parse_args()
    set_threads(1)
    given.out.mkdir(parents=True, exist_ok=True)
    if given.samples:
        return samples(given)
    kept = given.out / "rows.jsonl"
    known = [json.loads(line) for line in kept.read_text().splitlines()] if kept.exists() else []
    rows, pictures = [], []
    for prompt in given.prompts:
        line = []
        for name in given.objects:
            for seed in range(given.seeds):
                key = {"prompt": prompt, "object": name, "seed": seed, "how": how(given)}
                picture = given.out / f"{prompt.replace(' ', '-')}-{name}-{seed}.png"
                found = next((row for row in known if all(row[k] == v for k, v in key.items())), None)
                if found is None:
                    found = key | one(given, prompt, name, seed, picture)
                    with kept.open("a") as file:
                        file.write(json.dumps(found) + "\n")
                    print(json.dumps(found), flush=True)
                rows.append(found)
                if seed == 0 and given.picture:
                    line.append(read_image(picture)[0])
        pictures += [np.concatenate(line, axis=1)] if line else []
    rows += [row for row in known if row["how"] == how(given) and row not in rows]  # of earlier calls
    table = acceptance(rows, GOALS["bank" if given.prior in ("bank", "blind") else "small"])
    (given.out / "acceptance.json").write_text(json.dumps(table, indent=1))
    for row in table:
        print(row)
    if pictures:
        half = (len(pictures) + 1) // 2
        left, right = (np.concatenate(rows) for rows in (pictures[:half], pictures[half:] or pictures[:half]))
        whole = np.concatenate([left, right], axis=1) if len(pictures) % 2 == 0 else np.concatenate(pictures)
        write_png8(given.out / "pictures.png", whole, srgb=True)


def how(given: argparse.Namespace) -> dict[str, Any]:
    """Whatever a run depends on besides prompt, object and seed."""
    names = ("prior", "steps", "side", "size", "views", "guidance", "survey", "no_clamp", "no_even",
             "saturation", "rate")  # fmt: skip
    return {name: getattr(given, name) for name in names}


def samples(given: argparse.Namespace) -> None:
    """Print how many of the prior's own pictures show what was asked for."""
    session = Session.open(given.out, seed=0, threads=1, quiet=True)
    for name in given.objects:
        readings = check_prior(
            session, SmallPrior.load(given.prior), demo_light(128), procedural_asset(f"procedural:{name}"), 2
        )
        shares = {
            key: float(np.mean([getattr(one, key) for one in readings]))
            for key in ("as_meant", "kind", "finish", "colour")
        }
        wrong = sorted({one.caption.text() for one in readings if not one.as_meant})
        print(json.dumps({"object": name, "pictures": len(readings), **shares, "wrong": wrong}), flush=True)


def one(given: argparse.Namespace, prompt: str, name: str, seed: int, picture: Path) -> dict[str, Any]:
    """Distil one prompt on one object, measure the maps, and take a picture of them under the unseen light."""
    session = Session.open(given.out, seed=seed, threads=1, quiet=True)
    guidance = given.guidance if given.guidance == "auto" else float(given.guidance)
    settings = TextureSettings(
        mesh=f"procedural:{name}", prompt=prompt, prior=given.prior, size=given.size, views=given.views,
        steps=[int(part) for part in given.steps.split(",")], guidance=guidance, clamp=not given.no_clamp,
        survey=given.survey, even=not given.no_even, saturation=given.saturation, rate=given.rate, turntable=1,
        checkpoint_every=10**6, preview_every=10**6,
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
    row = {"cpu_seconds": round(seconds, 1), "saturated": saturated(prompt, subject, problem), **found[names[0]]}
    if problem.coarse is not None:
        row |= finer(subject, problem)
    if given.picture:
        write_png8(picture, photographed(session, asset, given.picture, given.traced), srgb=False)
    return row


@torch.no_grad()
def saturated(prompt: str, subject: Subject, problem: Distillation) -> float:
    """The share of texels with a channel of albedo below 0.02 or above 0.98 that the words do not mean."""
    vocabulary = Vocabulary.read()
    low, high = (torch.as_tensor(v) for v in vocabulary.ranges(vocabulary.parse(prompt).first).albedo)
    beyond = []
    for own, (texel, _) in zip(problem.appearance.materials, subject.places, strict=True):
        albedo = own.albedo[0].flatten(0, 1)[texel].double()
        beyond.append((((albedo < 0.02) & (albedo < low)) | ((albedo > 0.98) & (albedo > high))).any(1))
    return float(torch.cat(beyond).double().mean())


@torch.no_grad()
def finer(subject: Subject, problem: Distillation) -> dict[str, float]:
    """Of a finer stage: its albedo's energy of the Laplacian by the coarse one's, and how alike pictures at 64² are."""
    assert problem.coarse is not None

    def energy(appearance) -> float:
        sums = []
        for own, texels in zip(appearance.materials, subject.texels, strict=True):
            a, m = own.albedo[0], texels.mask
            inner = m[1:-1, 1:-1] & m[:-2, 1:-1] & m[2:, 1:-1] & m[1:-1, :-2] & m[1:-1, 2:]
            around = a[:-2, 1:-1] + a[2:, 1:-1] + a[1:-1, :-2] + a[1:-1, 2:]
            sums.append((around - 4.0 * a[1:-1, 1:-1])[inner].square().flatten())
        return float(torch.cat(sums).mean())

    look = problem.views.draw(np.random.default_rng([problem.seed, 78]), 8)
    pictures = [
        area_filtered(problem.views.picture(look, own), problem.coarse_side)
        for own in (problem.appearance, problem.coarse)
    ]
    mask = area_filtered(problem.views.coverage(look)[..., None], problem.coarse_side)
    error = ((pictures[0] - pictures[1]).square() * mask).sum() / (3.0 * mask.sum())
    return {
        "sharpness": energy(problem.appearance) / max(energy(problem.coarse), 1e-12),
        "coarse_psnr": float(-10.0 * torch.log10(error)),
    }


def photographed(session: Session, asset: Asset, side: int, paths: int) -> np.ndarray:
    """``[side, side, 3]`` display values of the object under the light that was never seen; path-traced or not."""
    camera = turntable(asset, 3, side)[0].camera
    if paths:
        from stspbr.render.mitsuba_scene import render

        image, alpha = render(asset, demo_light(128), [camera], spp=paths)[0]
        return display(image) + 0.25 * (1.0 - alpha)
    demo = prefilter_latlong(demo_light(128), 128, session.run / ".cache")
    renderer = AssetRenderer(asset, session.backend, torch.device("cpu"))
    shown = renderer.render(ViewBatch.of([camera], [np.eye(4)], torch.device("cpu")), demo)
    image, alpha = shown["rgb"][0].numpy(), shown["alpha"][0].numpy()
    return display(image) + 0.25 * (1.0 - alpha)


def acceptance(rows: Sequence[dict[str, Any]], goals: dict[str, float]) -> list[dict[str, Any]]:
    """The figures of all runs together, with their goals, and whether they are met."""
    plain = [row for row in rows if "mean" in row]
    two = [row for row in rows if "shares" in row]
    figures: dict[str, float] = {}
    if plain:
        for name in ("metallic", "roughness", "albedo"):
            figures[name] = float(np.mean([row[name] for row in plain]))
        figures["side"] = float(np.mean([row["right_side"] for row in plain]))
        figures["light"] = float(np.mean([abs(row["light_in_albedo"]["correlation"]) for row in plain]))
        figures["spread"] = float(np.mean([row["light_in_albedo"]["spread"] for row in plain]))
    if two:
        figures["two"] = float(np.mean([row["shares"]["either"] for row in two]))
        figures["lesser"] = float(np.mean([min(row["shares"]["first"], row["shares"]["second"]) for row in two]))
    if (pairs := in_order(plain)) is not None:
        figures["order"] = pairs
    if (spread := over_seeds(plain)) is not None:
        figures["seeds"] = spread
    for name in ("sharpness", "coarse_psnr"):
        if found := [row[name] for row in rows if name in row]:
            figures[name] = float(np.mean(found))
    figures["saturated"] = float(np.mean([row["saturated"] for row in rows]))
    figures["cpu_seconds"] = float(np.mean([row["cpu_seconds"] for row in rows]))
    out = []
    for name, value in figures.items():
        goal = goals.get(name)
        met = None if goal is None else (value >= goal if name in AT_LEAST else value <= goal)
        out.append({"figure": name, "value": round(value, 4), "goal": goal, "met": met})
    return out


def in_order(rows: Sequence[dict[str, Any]]) -> float | None:
    """The share of pairs of finishes of one base, object and seed whose roughness is in the words' order."""
    by_base: dict[tuple, dict[str, float]] = defaultdict(dict)
    for row in rows:
        finish, _, base = row["prompt"].partition(" ")
        if finish in FINISHES:
            by_base[base, row["object"], row["seed"]][finish] = row["mean"]["roughness"]
    right = [
        found[a] < found[b]
        for found in by_base.values()
        for a, b in combinations([finish for finish in FINISHES if finish in found], 2)
    ]
    return float(np.mean(right)) if right else None


def over_seeds(rows: Sequence[dict[str, Any]]) -> float | None:
    """The largest of metallic's and roughness's standard deviations over seeds, averaged over prompts and objects."""
    groups = defaultdict(list)
    for row in rows:
        groups[row["prompt"], row["object"]].append((row["mean"]["metallic"], row["mean"]["roughness"]))
    several = [np.std(values, axis=0, ddof=1) for values in groups.values() if len(values) > 1]
    return float(np.mean(several, axis=0).max()) if several else None


if __name__ == "__main__":
    main()
