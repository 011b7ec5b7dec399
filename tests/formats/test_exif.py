"""Exif: what is written is read, eight orientations come out upright, and nonsense counts as absent."""

from __future__ import annotations

import math

import numpy as np
import pytest
from PIL import Image
from PIL.TiffImagePlugin import IFDRational

from stspbr.errors import StspbrError
from stspbr.formats.exif import read_exif, upright
from stspbr.formats.images import read_image, read_pixels

# how each orientation stores an upright picture (Exif 2.32, table of tag 274), by Pillow's own operations
STORED = {
    2: Image.Transpose.FLIP_LEFT_RIGHT, 3: Image.Transpose.ROTATE_180, 4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE, 6: Image.Transpose.ROTATE_90, 7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_270,
}  # fmt: skip


def picture() -> Image.Image:
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (6, 10, 3), dtype=np.uint8))


def save(path, tags=None, orientation=None, size=(400, 300)):
    exif = Image.Exif()
    if orientation is not None:
        exif[0x0112] = orientation
    exif[0x010F], exif[0x0110] = "Canon", "Canon EOS 5D"
    exif.get_ifd(0x8769).update(tags or {})
    Image.new("RGB", size).save(path, exif=exif)
    return path


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_orientation(tmp_path, orientation, suffix):
    image, exif = picture(), Image.Exif()
    exif[0x0112] = orientation
    stored = image.transpose(STORED[orientation]) if orientation in STORED else image
    stored.save(tmp_path / f"a{suffix}", exif=exif)
    found = read_exif(tmp_path / f"a{suffix}")
    assert (found.orientation, found.width, found.height) == (orientation, 10, 6)
    assert np.array_equal(upright(np.asarray(stored), orientation), np.asarray(image))
    rgb, _, _ = read_image(tmp_path / f"a{suffix}", upright=True)
    image.save(tmp_path / "upright.png")
    assert np.array_equal(rgb, read_image(tmp_path / "upright.png")[0])
    if suffix == ".png":  # data sets mean the pixels as they are stored
        assert np.array_equal(np.rint(read_pixels(tmp_path / "a.png") * 255), np.asarray(stored))


def test_focal_length_from_the_35mm_equivalent(tmp_path):
    found = read_exif(save(tmp_path / "a.jpg", {0xA405: 50, 0x920A: IFDRational(9)}, size=(400, 300)))
    assert found.focal == pytest.approx(50 / math.hypot(36, 24) * 500)
    turned = read_exif(save(tmp_path / "b.jpg", {0xA405: 50}, orientation=6, size=(400, 300)))
    assert (turned.width, turned.height, turned.focal) == (300, 400, pytest.approx(found.focal))


@pytest.mark.parametrize(("unit", "per_unit"), [(2, 4000.0), (3, 4000 / 2.54), (4, 4000 / 25.4), (None, 4000.0)])
def test_focal_length_from_the_focal_plane(tmp_path, unit, per_unit):
    tags = {0x920A: IFDRational(25.4), 0xA20E: IFDRational(per_unit), 0xA002: 800}
    tags |= {} if unit is None else {0xA210: unit}
    found = read_exif(save(tmp_path / "a.jpg", tags))
    assert found.focal == pytest.approx(4000 * 400 / 800, rel=1e-4)  # halved since it was taken


def test_exposure_and_camera(tmp_path):
    found = read_exif(save(tmp_path / "a.jpg", {0x829A: IFDRational(1, 50), 0x829D: IFDRational(4), 0x8827: 200}))
    assert found.exposure == pytest.approx(0.02 * 200 / 16) and found.camera == "Canon EOS 5D"
    apex = read_exif(save(tmp_path / "b.jpg", {0x9201: IFDRational(6), 0x9202: IFDRational(4), 0x8827: 100}))
    assert apex.exposure == pytest.approx(2**-6 * 100 / 4**2)


def test_silence_and_nonsense_are_none(tmp_path):
    Image.new("RGB", (4, 3)).save(tmp_path / "a.png")
    found = read_exif(tmp_path / "a.png")
    assert (found.orientation, found.focal, found.exposure, found.camera) == (1, None, None, None)
    tags = {0xA405: 0, 0x920A: IFDRational(5, 0), 0xA20E: IFDRational(100), 0x829A: IFDRational(1, 0), 0x8827: 100}
    found = read_exif(save(tmp_path / "b.jpg", tags, orientation=77))
    assert (found.orientation, found.focal, found.exposure) == (1, None, None)
    assert read_exif(save(tmp_path / "c.jpg", {0x829A: IFDRational(1, 50), 0x8827: 200})).exposure is None


def test_no_photograph(tmp_path):
    with pytest.raises(StspbrError, match="a.jpg does not exist"):
        read_exif(tmp_path / "a.jpg")
    (tmp_path / "b.jpg").write_text("hello")
    with pytest.raises(StspbrError, match="b.jpg is not an image"):
        read_exif(tmp_path / "b.jpg")
