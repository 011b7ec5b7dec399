"""Colour spaces of photographs: ICC profiles, Exif, and PNG's own chunks, against LittleCMS and published numbers."""

from __future__ import annotations

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image, ImageCms

from stspbr.colour import srgb_to_linear
from stspbr.errors import StspbrError
from stspbr.formats.icc import read_profile
from stspbr.formats.images import read_image, read_pixels
from stspbr.formats.primaries import D50, NAMED, SRGB, srgb_from_xyz, white_of, xyz_from
from stspbr.notes import Notes

SRGB_ICC = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
_BRADFORD = np.array([[0.8951, 0.2664, -0.1614], [-0.7502, 1.7135, 0.0367], [0.0389, -0.0685, 1.0296]])


def fixed(*values):
    return struct.pack(f">{len(values)}i", *(round(65536 * value) for value in values))


def profile(tags, space=b"RGB "):
    """A version 2 or 4 profile of the given tags."""
    text = b"desc" + bytes(4) + struct.pack(">I", 6) + b"Probe\0" + bytes(78)
    tags = {b"desc": text, b"wtpt": b"XYZ " + bytes(4) + fixed(*D50), b"cprt": b"text" + bytes(4) + b"none\0", **tags}
    body, table, at = b"", struct.pack(">I", len(tags)), 132 + 12 * len(tags)
    for name, value in tags.items():
        value += bytes(-len(value) % 4)
        table, body = table + struct.pack(">4sII", name, at + len(body), len(value)), body + value
    head = bytearray(128)
    struct.pack_into(">I", head, 0, at + len(body))
    head[8:12], head[12:16], head[16:20], head[20:24], head[36:40] = b"\2\x40\0\0", b"mntr", space, b"XYZ ", b"acsp"
    head[68:80] = fixed(*D50)
    return bytes(head) + table + body


def gamma_curve(gamma):
    return b"curv" + bytes(4) + struct.pack(">IH", 1, round(256 * gamma))


SRGB_CURVE = b"para" + bytes(4) + struct.pack(">HH", 3, 0) + fixed(2.4, 1 / 1.055, 0.055 / 1.055, 1 / 12.92, 0.04045)


def rgb_profile(name, curve):
    """The primaries adapted to D50, as profiles hold them."""
    adapt = np.linalg.inv(_BRADFORD) @ np.diag(_BRADFORD @ D50 / (_BRADFORD @ white_of(NAMED[name]))) @ _BRADFORD
    columns = adapt @ xyz_from(NAMED[name])
    tags = {bytes([c]) + b"XYZ": b"XYZ " + bytes(4) + fixed(*columns[:, k]) for k, c in enumerate(b"rgb")}
    return profile(tags | {bytes([c]) + b"TRC": curve for c in b"rgb"})


PROFILES = {
    "Display P3": rgb_profile("Display P3", SRGB_CURVE),
    "Adobe RGB": rgb_profile("Adobe RGB", gamma_curve(563 / 256)),
    "ProPhoto": rgb_profile("ProPhoto", gamma_curve(1.8)),
}


def picture(low=60, high=190, dtype=np.uint8):
    """Colours that are in sRGB's gamut, whatever the profile."""
    return np.random.default_rng(0).integers(low, high, (16, 16, 3)).astype(dtype)


def by_littlecms(path):
    image = Image.open(path)
    source = ImageCms.ImageCmsProfile(io.BytesIO(image.info["icc_profile"]))
    done = ImageCms.profileToProfile(image, source, ImageCms.createProfile("sRGB"), renderingIntent=1, outputMode="RGB")
    return np.asarray(done) / 255.0


@pytest.mark.parametrize("name", PROFILES)
@pytest.mark.parametrize("suffix", [".png", ".jpg", ".tif", ".webp"])
def test_profiles_are_applied_as_littlecms_does(tmp_path, name, suffix):
    path, notes = tmp_path / f"a{suffix}", Notes()
    options = {".jpg": {"quality": 98, "subsampling": 0}, ".webp": {"lossless": True}}.get(suffix, {})
    Image.fromarray(picture(110, 150)).save(path, icc_profile=PROFILES[name], **options)
    found, _, saturation = read_image(path, notes=notes)
    assert np.abs(found - srgb_to_linear(by_littlecms(path))).max() < 0.006 and saturation == 1
    assert notes.lines() == [f"a{suffix}: its colour profile (Probe) is converted to linear sRGB"]


def test_sixteen_bits_stay_sixteen(tmp_path):
    import OpenImageIO as oiio

    pixels = np.linspace(20000, 21000, 64).astype(np.uint16).reshape(8, 8, 1).repeat(3, -1)
    spec = oiio.ImageSpec(8, 8, 3, oiio.UINT16)
    spec.attribute("ICCProfile", f"uint8[{len(PROFILES['Adobe RGB'])}]", np.frombuffer(PROFILES["Adobe RGB"], np.uint8))
    for name in ("a.png", "a.tif"):
        out = oiio.ImageOutput.create(str(tmp_path / name))
        assert out.open(str(tmp_path / name), spec) and out.write_image(pixels) and out.close()
        assert read_image(tmp_path / name)[0] == pytest.approx((pixels / 65535) ** (563 / 256), rel=1e-3)


def test_colours_outside_of_srgb_keep_what_linear_light_holds(tmp_path):
    """Display P3's red is (1.2249, -0.042, -0.0196) in linear sRGB: above 1 is kept, below 0 is clipped and named."""
    notes = Notes()
    Image.new("RGB", (4, 4), (255, 0, 0)).save(tmp_path / "a.png", icc_profile=PROFILES["Display P3"])
    assert read_image(tmp_path / "a.png", notes=notes)[0][0, 0] == pytest.approx((1.2249, 0, 0), abs=2e-3)
    assert any("outside of sRGB's gamut" in line for line in notes.lines())


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".tif"])
@pytest.mark.parametrize("mode", ["L", "LA"])
def test_grey_profiles(tmp_path, suffix, mode):
    if mode == "LA" and suffix == ".jpg":
        pytest.skip("JPEG has no alpha")
    grey = profile({b"kTRC": gamma_curve(1.8)}, b"GRAY")
    Image.new(mode, (4, 4), 128 if mode == "L" else (128, 255)).save(tmp_path / f"a{suffix}", icc_profile=grey)
    assert read_image(tmp_path / f"a{suffix}")[0] == pytest.approx((128 / 255) ** 1.8, abs=2e-3)


def test_srgb_profiles_change_nothing(tmp_path):
    notes = Notes()
    for name, held in (("a.png", SRGB_ICC), ("b.png", None)):
        Image.fromarray(picture()).save(tmp_path / name, icc_profile=held)
    assert np.array_equal(read_image(tmp_path / "a.png", notes=notes)[0], read_image(tmp_path / "b.png")[0])
    assert notes.lines() == []


def test_data_maps_are_read_as_they_are_stored(tmp_path):
    Image.fromarray(picture()).save(tmp_path / "a.png", icc_profile=PROFILES["ProPhoto"])
    assert np.array_equal(np.rint(255 * read_pixels(tmp_path / "a.png")), picture())


LAB = ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB")).tobytes()


@pytest.mark.parametrize("held", [profile({b"kTRC": gamma_curve(2.0)}, b"GRAY"), PROFILES["ProPhoto"][:300], LAB])
@pytest.mark.parametrize("suffix", [".png", ".jpg"])
def test_profiles_that_cannot_be_used_are_named(tmp_path, held, suffix):
    path, notes = tmp_path / f"a{suffix}", Notes()
    Image.fromarray(picture()).save(path, icc_profile=held)
    Image.fromarray(picture()).save(tmp_path / f"plain{suffix}")
    assert np.array_equal(read_image(path, notes=notes)[0], read_image(tmp_path / f"plain{suffix}")[0])
    (line,) = notes.lines()
    assert "its colour profile cannot be used" in line and line.endswith("it is read as sRGB")


@pytest.mark.parametrize("form", range(5))
def test_parametric_curves(form):
    """ICC.1, table 67, on either side of the break."""
    g, a, b, c, d, e, f = 2.2, 0.9, 0.08, 0.1, 0.2, 0.05, 0.02
    count = (1, 3, 4, 5, 7)[form]
    held = b"para" + bytes(4) + struct.pack(">HH", form, 0) + fixed(*(g, a, b, c, d, e, f)[:count])
    (curve,) = read_profile(profile({b"kTRC": held}, b"GRAY")).curves
    high = [0.7**g, (a * 0.7 + b) ** g, (a * 0.7 + b) ** g + c, (a * 0.7 + b) ** g, (a * 0.7 + b) ** g + e][form]
    low = [0.1**g, (a * 0.1 + b) ** g, (a * 0.1 + b) ** g + c, c * 0.1, c * 0.1 + f][form]
    assert curve(np.array([0.1, 0.7])) == pytest.approx([low, high], abs=1e-4)


def test_adobe_rgb_by_exif(tmp_path):
    notes = Notes()
    for index, name in (("R03", "a.jpg"), ("R98", "b.jpg")):
        exif = Image.Exif()
        exif[0x8769] = {0xA001: 65535, 0xA005: {1: index}}
        Image.new("RGB", (16, 16), (120, 160, 80)).save(tmp_path / name, exif=exif, quality=100, subsampling=0)
    matrix = srgb_from_xyz(white_of(SRGB)) @ xyz_from(NAMED["Adobe RGB"])
    wanted = matrix @ (np.array([120, 160, 80]) / 255) ** (563 / 256)
    assert read_image(tmp_path / "a.jpg", notes=notes)[0].mean((0, 1)) == pytest.approx(wanted, abs=8e-3)
    assert notes.lines() == ["a.jpg: Adobe RGB (by its Exif) is converted to linear sRGB"]
    notes = Notes()
    read_image(tmp_path / "b.jpg", notes=notes)
    assert notes.lines() == [
        "b.jpg: its Exif has a colour space other than sRGB that no profile describes: it is read as sRGB"
    ]


@pytest.mark.parametrize("suffix", [".png", ".webp"])
def test_exif_of_other_files(tmp_path, suffix):
    exif = Image.Exif()
    exif[0x8769] = {0xA001: 2}
    for name, options in (("a", {"exif": exif}), ("b", {})):
        Image.new("RGB", (16, 16), (120, 160, 80)).save(tmp_path / f"{name}{suffix}", lossless=True, **options)
    matrix = srgb_from_xyz(white_of(SRGB)) @ xyz_from(NAMED["Adobe RGB"])
    wanted = matrix @ (np.array([120, 160, 80]) / 255) ** (563 / 256)
    assert read_image(tmp_path / f"a{suffix}")[0].mean((0, 1)) == pytest.approx(wanted, abs=1e-4)
    plain = srgb_to_linear(np.array([120, 160, 80]) / 255)
    assert read_image(tmp_path / f"b{suffix}")[0].mean((0, 1)) == pytest.approx(plain, abs=1e-4)


def with_chunks(path, *chunks):
    """A PNG of one colour with chunks before its pixels."""
    Image.new("RGB", (4, 4), (128, 64, 192)).save(path)
    data = path.read_bytes()
    added = b"".join(struct.pack(">I", len(v)) + k + v + struct.pack(">I", zlib.crc32(k + v)) for k, v in chunks)
    path.write_bytes(data[:33] + added + data[33:])
    return read_image(path)[0][0, 0]


def test_chunks_of_png(tmp_path):
    stored = np.array([128, 64, 192]) / 255
    gamma, path = struct.pack(">I", 100000), tmp_path / "a.png"
    p3 = np.array(NAMED["Display P3"])
    chrm = struct.pack(">8I", *(round(100000 * v) for v in (*p3[6:], *p3[:6])))
    matrix = srgb_from_xyz(white_of(SRGB)) @ xyz_from(p3)
    assert with_chunks(path, (b"gAMA", gamma)) == pytest.approx(stored, abs=1e-4)
    assert with_chunks(path, (b"gAMA", struct.pack(">I", 45455))) == pytest.approx(srgb_to_linear(stored), abs=1e-4)
    assert with_chunks(path, (b"sRGB", b"\0"), (b"gAMA", gamma)) == pytest.approx(srgb_to_linear(stored), abs=1e-4)
    turned = np.maximum(matrix @ srgb_to_linear(stored), 0)
    assert with_chunks(path, (b"cHRM", chrm)) == pytest.approx(turned, abs=1e-4)
    assert with_chunks(path, (b"cICP", bytes((12, 13, 0, 1)))) == pytest.approx(turned, abs=1e-4)
    with pytest.raises(StspbrError, match="coded for video .PQ"):
        with_chunks(path, (b"cICP", bytes((9, 16, 0, 1))))
