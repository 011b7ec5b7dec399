"""Make synthetic photographs: an asset on a table, path-traced and taken by a phone's camera, with bad masks.

    python examples/make_photo_set.py photos --asset procedural:demo --light procedural:demo
    stspbr capture photos my-run photos/images --masks photos/masks

or, with poses that are known up to a chosen error, without COLMAP:

    python examples/make_photo_set.py photos --renderer raster --size 160 120 --pose-noise 0.5 0.01
    stspbr capture nerfstudio my-run photos

Needs `pip install 'stspbr[reference]'`, unless --renderer raster. The truth (cameras, exposures, tone curve, exact
masks, maps, light) is written beside the photos.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from phone_camera import PhoneCamera

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
    parser.add_argument("--renderer", choices=("mitsuba", "raster"), default="mitsuba", help="raster: no table")
    parser.add_argument("--samples", type=int, default=64, help="paths per pixel")
    parser.add_argument("--mask-error", type=float, default=2.0, help="error of the masks' outlines in pixels")
    parser.add_argument(
        "--pose-noise",
        type=float,
        nargs=2,
        default=(0.0, 0.0),
        metavar=("DEGREES", "SHARE"),
        help="errors of the poses in transforms.json: rotation, and shift as a share of the distance",
    )
    parser.add_argument("--flash", type=float, default=0.0, help="a lamp on the camera, over the light's irradiance")
    parser.add_argument("--no-exif", action="store_true", help="the photos do not say how they were exposed")
    parser.add_argument("--seed", type=int, default=0)
    for name, own in PhoneCamera.__dataclass_fields__.items():
        parser.add_argument(
            f"--{name.replace('_', '-')}",
            type=float,
            default=own.default,
            help="of the camera, see examples/phone_camera.py",
        )
    given = parser.parse_args()
    camera = PhoneCamera(**{name: getattr(given, name) for name in PhoneCamera.__dataclass_fields__})
    chosen = PhotoSetOptions(given.views, tuple(given.size), renderer=given.renderer, samples=given.samples,
                             flash=given.flash,
                             phone=camera, exif=not given.no_exif, mask_error=given.mask_error,
                             pose_noise=tuple(given.pose_noise), seed=given.seed)  # fmt: skip
    main(given.folder, given.asset, given.light, chosen)
