"""Image files: exact values, every bit, and broken bytes that are named."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from stspbr.colour import linear_to_srgb, srgb_to_linear
from stspbr.errors import StspbrError
from stspbr.files import atomic_path
from stspbr.formats.images import encode_png, read_image, read_pixels, write_exr, write_hdr, write_png8, write_png16
from stspbr.formats.rgbe import decode_rgbe, encode_rgbe

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


def test_tiff_that_cannot_be_had(tmp_path):
    tifffile = pytest.importorskip("tifffile")
    tifffile.imwrite(tmp_path / "f.tif", ramp(3, 4, 1)[..., 0], photometric="minisblack")
    with pytest.raises(StspbrError, match="f.tif is a TIFF of floating-point or 32-bit numbers"):
        read_image(tmp_path / "f.tif")
    tifffile.imwrite(tmp_path / "p.tif", ramp().astype(np.uint16), photometric="rgb", planarconfig="separate")
    with pytest.raises(StspbrError, match="p.tif is a TIFF of 16 bits in planes"):
        read_image(tmp_path / "p.tif")


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


def test_exr_grey_and_cropped_window(tmp_path):
    import OpenEXR

    grey = ramp(3, 4, 1)[..., 0].copy()
    corner = np.array
    header = {
        "compression": OpenEXR.ZIP_COMPRESSION,
        "type": OpenEXR.scanlineimage,
        "displayWindow": (corner([0, 0], np.int32), corner([5, 7], np.int32)),
        "dataWindow": (corner([1, 2], np.int32), corner([4, 4], np.int32)),
    }
    OpenEXR.File(header, {"Y": grey}).write(str(tmp_path / "a.exr"))
    rgb, alpha, _ = read_image(tmp_path / "a.exr")
    expected = np.zeros((8, 6), np.float32)
    expected[2:5, 1:5] = grey
    assert alpha is None and np.array_equal(rgb, np.repeat(expected[..., None], 3, axis=-1))


def test_rgbe_known_bytes():
    # (128, 64, 32, exponent 129) is 128·2⁻⁷, 64·2⁻⁷, 32·2⁻⁷
    header = b"#?RADIANCE\nFORMAT=32-bit_rle_rgbe\n\n-Y 1 +X 2\n"
    image = decode_rgbe(header + bytes((128, 64, 32, 129, 9, 9, 9, 0)))
    assert image.tolist() == [[[1.0, 0.5, 0.25], [0.0, 0.0, 0.0]]]
    assert encode_rgbe(image)[-8:] == bytes((128, 64, 32, 129, 0, 0, 0, 0))
    exposed = decode_rgbe(header.replace(b"\n\n", b"\nEXPOSURE=2\n\n") + bytes((128, 64, 32, 129, 0, 0, 0, 0)))
    assert exposed[0, 0].tolist() == [0.5, 0.25, 0.125]
    repeated = decode_rgbe(header.replace(b"+X 2", b"+X 5") + bytes((128, 64, 32, 129, 1, 1, 1, 4)))
    assert repeated.tolist() == [[[1.0, 0.5, 0.25]] * 5]


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
    assert decode_rgbe(encode_rgbe(edge)) == pytest.approx(1.0)


def test_hdr_rejects_what_it_cannot_hold(tmp_path):
    for bad in (np.nan, np.inf, -1.0):
        with pytest.raises(StspbrError, match="finite values"):
            write_hdr(tmp_path / "a.hdr", np.full((2, 2, 3), bad))


@pytest.mark.parametrize("suffix", [".png", ".16.png", ".jpg", ".exr", ".hdr"])
@pytest.mark.parametrize("keep", [0, 0.05, 0.5, 0.9])
def test_truncated_files_are_named(tmp_path, suffix, keep):
    path = tmp_path / f"shot{suffix}"
    image = np.random.default_rng(1).random((24, 24, 3)).astype(np.float32)
    if suffix == ".jpg":
        Image.fromarray((image * 255).astype(np.uint8)).save(path)
    else:
        {".png": lambda: write_png8(path, image, srgb=True), ".16.png": lambda: write_png16(path, image, srgb=True),
         ".exr": lambda: write_exr(path, image), ".hdr": lambda: write_hdr(path, image)}[suffix]()  # fmt: skip
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * keep)])
    with pytest.raises(StspbrError, match=f"shot{suffix}.*(truncated|no PNG)") as caught:
        read_image(path)
    assert "\n" not in str(caught.value)


def test_missing_file_and_no_image(tmp_path):
    with pytest.raises(StspbrError, match="gone.png does not exist"):
        read_image(tmp_path / "gone.png")
    (tmp_path / "a.png").write_text("hello")
    with pytest.raises(StspbrError, match="a.png is no PNG, JPEG or TIFF"):
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
