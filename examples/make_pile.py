"""Make a synthetic photograph of equal objects on a table, with labels and the truth beside it.

    python examples/make_pile.py pile --asset procedural:label-can --copies 8
    stspbr capture duplicates my-run pile/photo.png --instances pile/labels.png

Needs `pip install 'stspbr[reference]'`. ``truth.json`` has the poses and the camera, ``asset.glb`` the object,
``light.exr`` the light.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from stspbr.files import write_file
from stspbr.formats.assets import read_asset
from stspbr.formats.gltf.writer import write_glb
from stspbr.formats.images import write_exr
from stspbr.procedural.pile import PileOptions, lay_pile, truth_of
from stspbr.render.pile_photo import photograph, photograph_quickly, write_photograph
from stspbr.stages.capture_mesh import load_light


def main(folder: Path, asset: str, light: str, options: PileOptions, samples: int | None) -> Path:
    """Make the pile and return the path of its ``truth.json``."""
    pile, environment = lay_pile(read_asset(asset), options), load_light(light)
    if samples is None:
        write_photograph(folder, *photograph_quickly(pile, environment))
    else:
        write_photograph(folder, *photograph(pile, environment, samples, seed=options.seed))
    write_glb(folder / "asset.glb", pile.asset)
    write_exr(folder / "light.exr", environment.radiance)
    write_file(folder / "truth.json", json.dumps(truth_of(pile), indent=1))
    return folder / "truth.json"


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--asset", default="procedural:label-can", help="GLB, glTF or OBJ; or procedural:crate, …")
    parser.add_argument("--light", default="procedural:studio", help="lat-long HDR or EXR; or procedural:demo, …")
    parser.add_argument("--copies", type=int, default=8)
    parser.add_argument("--poses", choices=("upright", "turned", "tumbled"), default="turned")
    parser.add_argument("--size", type=int, nargs=2, default=(1536, 1536), metavar=("WIDTH", "HEIGHT"))
    parser.add_argument("--elevation", type=float, default=40.0, help="of the camera, in degrees")
    parser.add_argument("--fov", type=float, default=40.0, help="of the longer side, in degrees")
    parser.add_argument("--spacing", type=float, default=1.3, help="of neighbours, in widths of the object")
    parser.add_argument("--samples", type=int, default=32, help="paths per pixel")
    parser.add_argument("--renderer", choices=("mitsuba", "raster"), default="mitsuba", help="raster: no shadows")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    chosen = PileOptions(given.copies, given.poses, tuple(given.size), given.elevation, given.fov, given.spacing,
                         given.seed)  # fmt: skip
    main(given.folder, given.asset, given.light, chosen, given.samples if given.renderer == "mitsuba" else None)
