"""Captures from duplicates against the truth: ``python -m stspbr.quality.duplicates``, or ``make quality-duplicates``.

Each pile is laid, path-traced and handed to the command's own search; its poses are compared with the true ones. A copy
counts as falsely accepted if its pose is kept and wrong by more than 10 degrees. ``--maps`` runs the recipe ``pile`` to
its maps instead, ``--turned`` compares turned lights with a fixed one, ``--wrong`` hands wrong poses to the tests.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from stspbr.errors import StspbrError
from stspbr.files import write_file
from stspbr.formats.assets import read_asset
from stspbr.metrics.poses import pose_errors
from stspbr.photos.instance_poses import FoundPoses, PoseSearch, find_poses
from stspbr.photos.instances import find_copies, require_copies
from stspbr.procedural.by_name import procedural_light
from stspbr.procedural.pile import Pile, PileOptions, lay_pile, mirrored, with_foreign
from stspbr.render.pile_photo import grey_display, photograph, photograph_quickly
from stspbr.threads import prepare_process

_WRONG = 10.0  # degrees


@dataclass(frozen=True)
class PileCase:
    """One pile.

    Attributes:
        asset: the object; options: how it lies; foreign: what stands in the place of the third copy.
    """

    asset: str
    options: PileOptions
    foreign: str | None = None


PILES = {
    "label": PileCase("procedural:label-can", PileOptions(8, "turned")),
    "anyhow": PileCase("procedural:label-can", PileOptions(8)),
    "crate": PileCase("procedural:crate", PileOptions(8, "tumbled")),
    "jar": PileCase("procedural:demo", PileOptions(6, "turned")),
    "dark": PileCase("procedural:candlestick", PileOptions(10, "tumbled")),
    "foreign": PileCase("procedural:label-can", PileOptions(8, "turned"), foreign="procedural:demo"),
    "mirror": PileCase("procedural:label-can", PileOptions(8, "turned"), foreign="mirrored"),
}


TURNED = (("demo", "studio"), ("label-can", "window"))
"""Objects and lights of ``--turned``."""


def laid(case: PileCase, seed: int, side: int) -> Pile:
    """The pile of a case with its own poses and size."""
    asset = read_asset(case.asset)
    options = PileOptions(case.options.copies, case.options.poses, (side, side), seed=seed)
    pile = lay_pile(asset, options)
    if case.foreign is None:
        return pile
    return with_foreign(pile, [(2, mirrored(asset) if case.foreign == "mirrored" else read_asset(case.foreign))])


def figures(pile: Pile, found: FoundPoses) -> dict[str, Any]:
    """What section "acceptance" asks of one pile."""
    camera = pile.camera.world_to_camera
    true = {k + 1: camera @ pose for k, pose in enumerate(pile.poses)}
    own = {k: pose for k, pose in found.poses.items() if k in true}
    errors = pose_errors(own, true)
    diagonal = float(np.linalg.norm(np.ptp(pile.asset.mesh.positions, axis=0)))
    turns, shifts = list(errors.rotations.values()), [value / diagonal for value in errors.translations.values()]
    return {
        "copies": len(true),
        "registered": len(own),
        "rescued": sum(how == "rescued" for how in found.how.values()),
        "rotation_mean": float(np.mean(turns)),
        "rotation_max": float(np.max(turns)),
        "translation_mean_of_diagonal": float(np.mean(shifts)),
        "translation_max_of_diagonal": float(np.max(shifts)),
        "focal_error": found.focal / pile.camera.fx - 1.0,
        "false_accepted": sum(turn > _WRONG for turn in turns) + len(set(found.poses) - set(true)),
        "rotations": errors.rotations,
        "coherence": found.coherence.shares,
        "scores": found.scores,
        "why": found.why,
    }


def measured(case: PileCase, seed: int, side: int, samples: int, known: bool, matcher: str) -> dict[str, Any]:
    """Lay, photograph and search one pile; ``samples`` 0: rasterised, without shadows and noise."""
    pile, light = laid(case, seed, side), procedural_light("procedural:studio")
    image, labels = photograph(pile, light, samples, seed=seed) if samples else photograph_quickly(pile, light)
    display = grey_display(image)
    start = time.monotonic()
    row: dict[str, Any] = {"seed": seed, "side": side, "samples": samples, "focal_known": known, "matcher": matcher}
    try:
        labels, copies = find_copies(labels)
        search = PoseSearch(pile.camera.fx if known else None, matcher=matcher, seed=seed)
        found = find_poses(display, labels, require_copies(copies, "labels"), search)
        row |= figures(pile, found)
    except StspbrError as error:
        row |= {"refused": str(error), "false_accepted": 0}
    return row | {"seconds": time.monotonic() - start, "options": asdict(case.options)}


def main() -> None:
    """Write one JSON line per pile, seed and focal length to ``--out``, and print it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("piles", nargs="*", default=list(PILES), help=f"some of {', '.join(PILES)}")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--side", type=int, help="of the photo in pixels; 3072, of --wrong 800, of --turned 128")
    parser.add_argument("--samples", type=int, default=64, help="paths per pixel; 0: rasterised")
    parser.add_argument("--matcher", choices=("sift", "affine"), default="affine")
    parser.add_argument("--focal", choices=("known", "unknown", "both"), default="both")
    parser.add_argument("--maps", action="store_true", help="the recipe pile whole, per seed; no search by itself")
    parser.add_argument("--turned", action="store_true", help="N turned lights against N cameras; no search")
    parser.add_argument(
        "--wrong", action="store_true", help="what the tests keep of wrong poses; rasterised, no search"
    )
    parser.add_argument("--set", action="append", default=[], dest="overrides", metavar="KEY=VALUE",
                        help="of the recipe, for --maps and --turned: coarse.optimize.iterations=150")  # fmt: skip
    parser.add_argument("--out", type=Path, default=Path("runs/duplicates.jsonl"))
    given = parser.parse_args()
    prepare_process()
    rows: list[str] = []
    for row in _rows(given):
        rows.append(json.dumps(row))
        sys.stdout.write(rows[-1] + "\n")
        sys.stdout.flush()
        write_file(given.out, "\n".join(rows) + "\n")


def _rows(given: argparse.Namespace) -> Iterator[dict[str, Any]]:
    home = given.out.with_suffix("")
    if given.maps:
        from stspbr.quality.pile_maps import from_pile_to_maps

        for seed in range(given.seeds):
            yield {"seed": seed} | from_pile_to_maps(home / f"maps-{seed}", [f"seed={seed}", *given.overrides])
    elif given.turned:
        from stspbr.quality.turned_lights import compared

        for asset, light in TURNED:
            for seed in range(given.seeds):
                place = home / f"turned-{asset}-{light}-{seed}"
                names = f"procedural:{asset}", f"procedural:{light}"
                yield compared(place, *names, side=given.side or 128, seed=seed, overrides=given.overrides)
    elif given.wrong:
        from stspbr.quality.wrong_poses import judged, summary

        rows = []
        for seed in range(given.seeds):
            own = judged(laid(PILES["label"], seed, given.side or 800), seed)
            rows += own
            yield {"seed": seed, "arrangements": own}
        yield {"summary": summary(rows)}
    else:
        for name in given.piles:
            for seed in range(given.seeds):
                for known in {"known": (True,), "unknown": (False,), "both": (True, False)}[given.focal]:
                    row = measured(PILES[name], seed, given.side or 3072, given.samples, known, given.matcher)
                    yield {"pile": name} | row


if __name__ == "__main__":
    main()
