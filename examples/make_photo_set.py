"""Make synthetic photographs: an asset on a table, path-traced, with noise, blur, exposures, JPEG and bad masks.

    python examples/make_photo_set.py photos --asset procedural:demo --light procedural:demo
    stspbr capture photos my-run photos/images --masks photos/masks

Needs `pip install 'stspbr[reference]'`. The truth (cameras, exposures, exact masks) is written beside the photos.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from photo_set import PhotoSetOptions, make_photo_set
from stspbr.formats.assets import read_asset
from stspbr.stages.capture_mesh import load_light


def main(folder: Path, asset: str, light: str, options: PhotoSetOptions) -> Path:
    """Make the set and return the path of its ``truth.json``."""

    def log(done: int, total: int) -> None:
        print(f"\r{done} of {total} photos", end="\n" if done == total else "", flush=True)

    return make_photo_set(folder, read_asset(asset), load_light(light), options, log)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--asset", default="procedural:demo", help="GLB, glTF or OBJ; or procedural:demo, …")
    parser.add_argument("--light", default="procedural:demo", help="lat-long HDR or EXR; or procedural:demo, …")
    parser.add_argument("--views", type=int, default=30)
    parser.add_argument("--size", type=int, nargs=2, default=(512, 384), metavar=("WIDTH", "HEIGHT"))
    parser.add_argument("--samples", type=int, default=64, help="paths per pixel")
    parser.add_argument("--mask-error", type=float, default=2.0, help="error of the masks' outlines in pixels")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    chosen = PhotoSetOptions(given.views, tuple(given.size), samples=given.samples, mask_error=given.mask_error,
                             seed=given.seed)  # fmt: skip
    main(given.folder, given.asset, given.light, chosen)
