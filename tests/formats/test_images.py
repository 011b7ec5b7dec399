"""Image files: exact values, every bit, and broken bytes that are named."""

from __future__ import annotations

import os
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, features

from stspbr.colour import linear_to_srgb, srgb_to_linear
from stspbr.errors import StspbrError
from stspbr.files import atomic_path
from stspbr.formats.images import encode_png, read_image, read_pixels, write_exr, write_hdr, write_png8, write_png16
from stspbr.formats.rgbe import encode_rgbe
from stspbr.notes import Notes

ENVS = Path(__file__).parents[2] / "../shared/assets/envs"


def ramp(height=5, width=9, channels=3):
    """No two values alike, so that a shifted, flipped or swapped image cannot pass."""
    return np.arange(height * width * channels, dtype=np.float32).reshape(height, width, channels)


def test_srgb_curve_at_known_points():
    # 8-bit 128 and 188 of IEC 61966-2-1, and both sides of the join
    assert srgb_to_linear(np.array([0, 128 / 255, 188 / 255, 1])) == pytest.approx(
        [0, 0.2158605, 0.5028865, 1], abs=1e-6
    )
    assert srgb_to_linear(np.array(0.04)) == pytest.approx(0.04 / 12.92)
    values = np.linspace(-0.1, 2.0, 4001)
    assert linear_to_srgb(srgb_to_linear(values)) == pytest.approx(values, abs=1e-6)


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
@pytest.mark.parametrize("bits", [8, 16])
def test_png_keeps_every_bit(tmp_path, bits, channels):
    top = 2**bits - 1
    stored = (ramp(7, 11, channels) * 2711) % (top + 1)
    alpha = stored[..., -1:] / top if channels in (2, 4) else None
    colour = stored[..., : channels - 1 if channels in (2, 4) else channels] / top
    (write_png8 if bits == 8 else write_png16)(tmp_path / "a.png", colour, srgb=False, alpha=alpha)
    assert np.array_equal(np.rint(read_pixels(tmp_path / "a.png") * top), stored)
    if bits == 8:  # Pillow as the judge of the file itself
        assert np.array_equal(np.asarray(Image.open(tmp_path / "a.png")).reshape(stored.shape), stored)


def test_pillow_agrees_on_16_bit_grey(tmp_path):
    stored = (ramp(4, 6, 1) * 2711) % 65536
    write_png16(tmp_path / "a.png", stored / 65535, srgb=False)
    assert np.array_equal(np.asarray(Image.open(tmp_path / "a.png")), stored[..., 0])


def test_colour_is_srgb_encoded_only_when_asked(tmp_path):
    linear = np.full((2, 2, 3), 0.2158605, np.float32)
    write_png8(tmp_path / "colour.png", linear, srgb=True)
    write_png8(tmp_path / "data.png", linear, srgb=False)
    assert np.asarray(Image.open(tmp_path / "colour.png"))[0, 0, 0] == 128
    assert np.asarray(Image.open(tmp_path / "data.png"))[0, 0, 0] == 55
    rgb, alpha, saturation = read_image(tmp_path / "colour.png")
    assert rgb == pytest.approx(linear, abs=1e-6) and alpha is None and saturation == 1.0


def test_png_alpha_is_straight_and_reading_premultiplies(tmp_path):
    pixels = np.array([[[188, 0, 0, 255], [188, 0, 0, 51]]], np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    rgb, alpha, _ = read_image(tmp_path / "a.png")
    assert alpha[0, :, 0] == pytest.approx([1.0, 0.2])
    assert rgb[0, :, 0] == pytest.approx([0.5028865, 0.2 * 0.5028865], abs=1e-6)
    assert np.array_equal(np.rint(read_pixels(tmp_path / "a.png") * 255), pixels)


@pytest.mark.parametrize("mode", ["P", "1", "L", "CMYK"])
def test_odd_image_modes(tmp_path, mode):
    grey = np.full((4, 4, 3), 255, np.uint8)
    Image.fromarray(grey).convert(mode).save(tmp_path / ("a.jpg" if mode == "CMYK" else "a.png"))
    rgb, _, _ = read_image(next(tmp_path.iterdir()))
    assert rgb.shape == (4, 4, 3) and rgb == pytest.approx(1.0)


def test_jpeg(tmp_path):
    pixels = np.zeros((16, 32, 3), np.uint8)
    pixels[:8, :, 0], pixels[8:, :, 2] = 188, 128
    Image.fromarray(pixels).save(tmp_path / "a.jpeg", quality=100, subsampling=0)
    rgb, alpha, saturation = read_image(tmp_path / "a.jpeg")
    assert alpha is None and saturation == 1.0
    assert rgb[2, 5] == pytest.approx([0.503, 0, 0], abs=0.01) and rgb[13, 5] == pytest.approx([0, 0, 0.216], abs=0.01)


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("compression", [None, "zlib"])
@pytest.mark.parametrize("channels", [1, 3, 4])
@pytest.mark.parametrize("kind", [np.uint8, np.uint16])
def test_tiff_keeps_every_bit(tmp_path, order, compression, channels, kind):
    tifffile = pytest.importorskip("tifffile")  # which scikit-image brings
    stored = ((ramp(7, 11, channels) * 2711) % np.iinfo(kind).max).astype(kind)
    tifffile.imwrite(tmp_path / "a.tif", stored if channels > 1 else stored[..., 0], byteorder=order,
                     compression=compression, photometric="minisblack" if channels == 1 else "rgb",
                     extrasamples=["unassalpha"] if channels == 4 else None)  # fmt: skip
    assert np.array_equal(np.rint(read_pixels(tmp_path / "a.tif") * np.iinfo(kind).max), stored)
    rgb, alpha, saturation = read_image(tmp_path / "a.tif")
    assert rgb.shape == (7, 11, 3) and (alpha is not None) == (channels == 4) and saturation == 1.0


@pytest.mark.parametrize("kind", [np.uint8, np.uint16])
def test_tiff_in_planes_and_with_premultiplied_alpha(tmp_path, kind):
    tifffile = pytest.importorskip("tifffile")
    top = np.iinfo(kind).max
    stored = ((ramp() * 2711) % top).astype(kind)
    tifffile.imwrite(tmp_path / "p.tif", np.moveaxis(stored, 2, 0), photometric="rgb", planarconfig="separate")
    assert np.array_equal(np.rint(read_pixels(tmp_path / "p.tif") * top), stored)
    # half covered: the stored half of a value is the value
    pixels = np.full((2, 2, 4), top // 5, kind)
    pixels[..., 3], pixels[0, 0] = top // 2, 0
    tifffile.imwrite(tmp_path / "a.tif", pixels, photometric="rgb", extrasamples=["assocalpha"])
    read = read_pixels(tmp_path / "a.tif")
    assert read[1, 1] == pytest.approx([0.4, 0.4, 0.4, 0.5], abs=3 / top) and read[0, 0].tolist() == [0, 0, 0, 0]


@pytest.mark.parametrize("kind", [np.float16, np.float32, np.float64])
def test_tiff_of_floats_is_linear(tmp_path, kind):
    tifffile = pytest.importorskip("tifffile")
    stored = (ramp() * 3 - 7).astype(kind)
    tifffile.imwrite(tmp_path / "f.tif", stored, photometric="rgb")
    rgb, alpha, saturation = read_image(tmp_path / "f.tif")
    assert np.array_equal(rgb, stored) and alpha is None and saturation == float("inf")
    tifffile.imwrite(tmp_path / "i.tif", np.ones((3, 4), np.uint32), photometric="minisblack")
    with pytest.raises(StspbrError, match="i.tif holds numbers of type uint"):
        read_image(tmp_path / "i.tif")


@pytest.mark.parametrize("suffix", [".bmp", ".tga", ".webp", ".pcx"])
def test_other_kinds(tmp_path, suffix):
    """OpenImageIO lacks PCX: imageio reads it."""
    pixels = ((ramp() * 7) % 256).astype(np.uint8)
    Image.fromarray(pixels).save(tmp_path / f"a{suffix}", **({"lossless": True} if suffix == ".webp" else {}))
    assert np.array_equal(np.rint(read_pixels(tmp_path / f"a{suffix}") * 255), pixels)
    assert np.array_equal(np.rint(read_pixels((tmp_path / f"a{suffix}").read_bytes()) * 255), pixels)
    assert read_image(tmp_path / f"a{suffix}")[0] == pytest.approx(srgb_to_linear(pixels / 255), abs=1e-6)


@pytest.mark.parametrize("suffix", [".bmp", ".tga", ".webp"])
def test_alpha_of_other_kinds_is_straight(tmp_path, suffix):
    pixels = np.random.default_rng(0).integers(0, 256, (6, 8, 4)).astype(np.uint8)
    pixels[0, 0, 3] = 0
    options = {"lossless": True, "exact": True} if suffix == ".webp" else {}
    Image.fromarray(pixels).save(tmp_path / f"a{suffix}", **options)
    assert np.array_equal(np.rint(read_pixels(tmp_path / f"a{suffix}") * 255), pixels)


@pytest.mark.skipif(not features.check("avif"), reason="this Pillow has no AVIF")
def test_avif_by_imageio(tmp_path):
    pixels = np.zeros((32, 48, 4), np.uint8)
    pixels[:16, :, 0], pixels[16:, :, 2], pixels[..., 3] = 188, 128, 255
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(pixels).save(tmp_path / "opaque.avif", quality=95, exif=exif)
    rgb, alpha, saturation = read_image(tmp_path / "opaque.avif")
    assert alpha is None and saturation == 1.0 and rgb[2, 5] == pytest.approx([0.503, 0, 0], abs=0.03)
    assert read_image(tmp_path / "opaque.avif", upright=True)[0].shape == (48, 32, 3)
    pixels[:, :24, 3] = 0
    Image.fromarray(pixels).save(tmp_path / "cut.avif", quality=95)
    assert read_image(tmp_path / "cut.avif")[1][4, ::47, 0] == pytest.approx([0, 1], abs=0.03)


def test_exr_round_trip(tmp_path):
    image, alpha = ramp() * 300, ramp(channels=1) / 45
    write_exr(tmp_path / "a.exr", image, alpha=alpha)
    rgb, coverage, saturation = read_image(tmp_path / "a.exr")
    assert np.array_equal(rgb, image) and np.array_equal(coverage, alpha) and saturation == float("inf")
    write_exr(tmp_path / "b.exr", image, half=True)
    rgb, coverage, _ = read_image(tmp_path / "b.exr")
    assert coverage is None and np.array_equal(rgb, image.astype(np.float16).astype(np.float32))
    with pytest.raises(StspbrError, match="does not fit half"):
        write_exr(tmp_path / "c.exr", image + 1e5, half=True)
    assert not (tmp_path / "c.exr").exists()


@pytest.mark.parametrize("half", [False, True])
def test_exr_as_openexr_reads_it(tmp_path, half):
    OpenEXR = pytest.importorskip("OpenEXR")
    image = np.random.default_rng(0).normal(0, 100, (9, 7, 3)).astype(np.float32)
    image[0, 0] = np.inf, np.nan, 1e-6
    image = image[1:] if half else image
    for name in ("a.exr", "b.exr"):
        write_exr(tmp_path / name, image, half=half)
    assert (tmp_path / "a.exr").read_bytes() == (tmp_path / "b.exr").read_bytes()
    with OpenEXR.File(str(tmp_path / "a.exr")) as file:
        pixels, header = file.channels()["RGB"].pixels.copy(), dict(file.header())
    np.testing.assert_array_equal(pixels, image.astype(np.float16 if half else np.float32))
    assert header["compression"] == OpenEXR.ZIP_COMPRESSION and "capDate" not in header  # no time of writing


def test_exr_layers(tmp_path):
    OpenEXR = pytest.importorskip("OpenEXR")
    header = {"compression": OpenEXR.ZIP_COMPRESSION, "type": OpenEXR.scanlineimage}
    values = iter(np.random.default_rng(0).normal(size=(20, 4, 5)).astype(np.float32))

    def written(*names):
        held = {name: next(values) for name in names}
        OpenEXR.File(header, held | {"id": np.ones((4, 5), np.uint32)}).write(str(tmp_path / "a.exr"))
        return [held[name] for name in names]

    beauty = written("View.R", "View.G", "View.B", "View.A", "View.Z")
    assert np.array_equal(read_pixels(tmp_path / "a.exr"), np.stack(beauty[:4], -1))
    image = written("R", "G", "B", "diffuse.R", "diffuse.G", "diffuse.B", "N.X")  # the image itself is no layer
    assert np.array_equal(read_pixels(tmp_path / "a.exr"), np.stack(image[:3], -1))
    written("X", "Z")
    with pytest.raises(StspbrError, match=r"a.exr has no channels R, G, B or Y \(it has: .*X"):
        read_image(tmp_path / "a.exr")


@pytest.mark.parametrize("corner", [(1, 2), (-2, -1), (4, 6), (9, 2), (0, -9)])
def test_exr_grey_and_cropped_window(tmp_path, corner):
    OpenEXR = pytest.importorskip("OpenEXR")
    grey, (x, y) = ramp(3, 4, 1)[..., 0] + 1, corner
    window = np.array
    header = {
        "compression": OpenEXR.ZIP_COMPRESSION,
        "type": OpenEXR.scanlineimage,
        "displayWindow": (window([5, 5], np.int32), window([10, 12], np.int32)),
        "dataWindow": (window([5 + x, 5 + y], np.int32), window([8 + x, 7 + y], np.int32)),
    }
    OpenEXR.File(header, {"Y": grey.copy()}).write(str(tmp_path / "a.exr"))
    rgb, alpha, _ = read_image(tmp_path / "a.exr")
    wide = np.zeros((28, 26), np.float32)  # the display window with a margin of 10 all round
    wide[10 + y : 13 + y, 10 + x : 14 + x] = grey
    assert alpha is None and np.array_equal(rgb, np.repeat(wide[10:18, 10:16, None], 3, axis=-1))


def test_rgbe_known_bytes():
    # (128, 64, 32, exponent 129) is 128·2⁻⁷, 64·2⁻⁷, 32·2⁻⁷
    header = b"#?RADIANCE\nFORMAT=32-bit_rle_rgbe\n\n-Y 1 +X 2\n"
    image = read_pixels(header + bytes((128, 64, 32, 129, 9, 9, 9, 0)))
    assert image.tolist() == [[[1.0, 0.5, 0.25], [0.0, 0.0, 0.0]]]
    assert encode_rgbe(image)[-8:] == bytes((128, 64, 32, 129, 0, 0, 0, 0))
    lines = b"\nEXPOSURE=4\nEXPOSURE= 0.5\n\n"
    exposed = read_pixels(header.replace(b"\n\n", lines) + bytes((128, 64, 32, 129, 0, 0, 0, 0)))
    assert exposed[0, 0].tolist() == [0.5, 0.25, 0.125]


def test_hdr_upside_down_and_mirrored():
    image = np.random.default_rng(0).random((6, 20, 3)).astype(np.float32)
    data, straight = encode_rgbe(image), read_pixels(encode_rgbe(image))
    assert np.array_equal(read_pixels(data.replace(b"-Y 6 +X 20", b"+Y 6 +X 20")), straight[::-1])
    assert np.array_equal(read_pixels(data.replace(b"-Y 6 +X 20", b"-Y 6 -X 20")), straight[:, ::-1])


@pytest.mark.parametrize("width", [1, 7, 8, 300])
def test_hdr_round_trip_is_exact_after_the_first(tmp_path, width):
    rng = np.random.default_rng(0)
    image = np.exp(rng.normal(0, 4, (6, width, 3))).astype(np.float32)
    image[1:3], image[4, : width // 2] = 0.0, 2.5  # runs
    write_hdr(tmp_path / "a.hdr", image)
    once, alpha, saturation = read_image(tmp_path / "a.hdr")
    assert alpha is None and saturation == float("inf")
    assert (np.abs(once - image) <= image.max(axis=-1, keepdims=True) / 256).all()
    write_hdr(tmp_path / "b.hdr", once)
    assert np.array_equal(read_image(tmp_path / "b.hdr")[0], once)
    # 255.7 of 256 rounds up into the next exponent, not over the edge
    edge = np.full((1, width, 3), 0.99999, np.float32)
    assert read_pixels(encode_rgbe(edge)) == pytest.approx(1.0)


def test_hdr_rejects_what_it_cannot_hold(tmp_path):
    for bad in (np.nan, np.inf, -1.0):
        with pytest.raises(StspbrError, match="finite values"):
            write_hdr(tmp_path / "a.hdr", np.full((2, 2, 3), bad))


@pytest.mark.parametrize("suffix", [".png", ".16.png", ".jpg", ".tif", ".webp", ".exr", ".hdr"])
@pytest.mark.parametrize("keep", [0, 0.05, 0.5, 0.9])
def test_truncated_files_are_named(tmp_path, capfd, suffix, keep):
    path = tmp_path / f"shot{suffix}"
    image = np.random.default_rng(1).random((24, 24, 3)).astype(np.float32)
    if suffix in (".jpg", ".tif", ".webp"):
        Image.fromarray((image * 255).astype(np.uint8)).save(path)
    else:
        {".png": lambda: write_png8(path, image, srgb=True), ".16.png": lambda: write_png16(path, image, srgb=True),
         ".exr": lambda: write_exr(path, image), ".hdr": lambda: write_hdr(path, image)}[suffix]()  # fmt: skip
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * keep)])
    with pytest.raises(StspbrError, match=f"shot{suffix} is truncated or corrupt") as caught:
        read_image(path)
    assert "\n" not in str(caught.value) and capfd.readouterr() == ("", "")
    with pytest.raises(StspbrError, match="the texture of it is truncated or corrupt"):
        read_pixels(path.read_bytes(), "the texture of it")


def test_damaged_png_is_named_and_nothing_printed(tmp_path, capfd):
    write_png8(tmp_path / "a.png", np.random.default_rng(1).random((24, 24, 3)), srgb=True)
    data = bytearray((tmp_path / "a.png").read_bytes())
    data[len(data) // 2] ^= 255
    (tmp_path / "a.png").write_bytes(data)
    with pytest.raises(StspbrError, match="a.png is truncated or corrupt"):
        read_image(tmp_path / "a.png")
    assert capfd.readouterr() == ("", "")


def test_missing_file_and_no_image(tmp_path):
    with pytest.raises(StspbrError, match="gone.png does not exist"):
        read_image(tmp_path / "gone.png")
    (tmp_path / "a.png").write_text("hello")
    with pytest.raises(StspbrError, match="a.png is truncated or corrupt, or not an image"):
        read_image(tmp_path / "a.png")


def test_the_same_pixels_give_the_same_bytes():
    image = ramp() / 135
    assert encode_png(image, bits=8, srgb=True) == encode_png(image.copy(), bits=8, srgb=True)
    assert encode_rgbe(image) == encode_rgbe(image.copy())


def test_a_failed_write_leaves_the_old_file(tmp_path):
    path = tmp_path / "deep" / "a.txt"
    with atomic_path(path) as temporary:
        temporary.write_text("old")
    with pytest.raises(RuntimeError), atomic_path(path) as temporary:
        temporary.write_text("half")
        raise RuntimeError
    assert path.read_text() == "old" and os.listdir(path.parent) == ["a.txt"]


@pytest.mark.skipif(not (ENVS / "studio_small_03_1k.hdr").exists(), reason="needs ../shared/assets/envs")
def test_a_real_light():
    radiance, alpha, _ = read_image(ENVS / "studio_small_03_1k.hdr")
    assert radiance.shape == (512, 1024, 3) and alpha is None
    assert np.isfinite(radiance).all() and radiance.min() >= 0 and radiance.max() > 10


def test_further_pages_are_named(tmp_path):
    pages = [Image.new("RGB", (4, 4), (value, 0, 0)) for value in (10, 200)]
    pages[0].save(tmp_path / "a.tif", save_all=True, append_images=pages[1:])
    notes = Notes()
    assert read_image(tmp_path / "a.tif", notes=notes)[0].max() < 0.01
    assert notes.lines() == ["a.tif: of several pages or pictures the first is read"]


def test_a_file_cannot_hold_what_it_promises(tmp_path):
    """A PNG of 60000 x 60000 pixels in a hundred bytes: refused before memory is asked for."""
    data = bytearray(encode_png(np.zeros((4, 4, 3)), bits=8, srgb=False))
    data[16:24] = struct.pack(">II", 60000, 60000)
    data[29:33] = struct.pack(">I", zlib.crc32(data[12:29]))
    (tmp_path / "a.png").write_bytes(data)
    with pytest.raises(StspbrError, match="claims a 10299 MB image|cannot hold 60000x60000 pixels"):
        read_image(tmp_path / "a.png")


@pytest.mark.parametrize("suffix", ["webp", "png", "gif"])
def test_of_an_animation_the_first_picture_is_read(tmp_path, suffix):
    pictures = [Image.new("RGBA", (6, 4), colour) for colour in ((255, 0, 0, 255), (0, 0, 255, 255))]
    pictures[0].putpixel((0, 0), (0, 255, 0, 0))
    pictures[0].save(tmp_path / f"a.{suffix}", save_all=True, append_images=pictures[1:], lossless=True)
    notes = Notes()
    image, alpha, _ = read_image(tmp_path / f"a.{suffix}", notes=notes)
    assert alpha[0, 0, 0] == 0 and alpha[1:].min() == 1 and image[1:].reshape(-1, 3).tolist() == [[1, 0, 0]] * 18
    assert notes.lines() == [f"a.{suffix}: of several pages or pictures the first is read"]


def test_negative_values_of_lossy_compression_become_0(tmp_path):
    pixels = np.full((4, 4, 3), 0.5)
    pixels[0, 0] = -4e-5
    notes = Notes()
    write_exr(tmp_path / "a.exr", pixels)
    assert read_image(tmp_path / "a.exr", notes=notes)[0].min() == 0
    assert "of lossy compression, become 0" in notes.lines()[0]
    write_exr(tmp_path / "b.exr", pixels * 100)
    pixels[0, 0] = -0.01
    write_exr(tmp_path / "c.exr", pixels)
    assert read_image(tmp_path / "b.exr")[0].min() == 0 and read_image(tmp_path / "c.exr")[0].min() == np.float32(-0.01)
