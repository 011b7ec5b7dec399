"""Compose scenes with a trained model: light of scene A, shapes of B, materials of C, beside the path-traced truth.

    stspbr run scenes-mini
    python examples/compose_scenes.py runs/scenes-mini --rows 3

Needs the extra reference, and a run with a trained model.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from stspbr.stages.scenes_render import compose
from stspbr.stages.session import Session


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", type=Path, help="folder of a run with a trained model")
    parser.add_argument("--scenes", type=int, nargs=3, default=(0, 1, 2), help="numbers of test scenes: A, B and C")
    parser.add_argument("--rows", type=int, default=1, help="how many compositions, each of the next three scenes")
    parser.add_argument("--spp", type=int, default=256, help="paths per pixel of the truth")
    options = parser.parse_args()
    light, shapes, materials = options.scenes
    found = compose(Session.open(options.run, device="cpu"), (light, shapes, materials), options.rows, options.spp)
    for line in found.lines():
        print(line)


if __name__ == "__main__":
    main()
