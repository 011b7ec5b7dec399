"""OpenEXR: which layer is the image, and how its colours become linear sRGB."""

from __future__ import annotations

import struct

import numpy as np
import pytest

from stspbr.errors import StspbrError
from stspbr.formats.images import image_size, read_image
from stspbr.notes import Notes

OpenEXR = pytest.importorskip("OpenEXR")
ZIP = {"compression": OpenEXR.ZIP_COMPRESSION, "type": OpenEXR.scanlineimage}


def flat(value, dtype=np.float32, size=(6, 8)):
    return np.full(size, value, dtype)


def rgb(colour, prefix="", names="RGB", dtype=np.float32):
    return {prefix + name: flat(value, dtype) for name, value in zip(names, colour, strict=True)}


BEAUTY, ALBEDO = (0.5, 0.25, 0.125), (0.9, 0.8, 0.7)


def write(path, channels, **header):
    OpenEXR.File({**ZIP, **header}, channels).write(str(path))
    return path


def parts(path, *named, **headers):
    OpenEXR.File([OpenEXR.Part({**ZIP, **headers.get(name, {})}, held, name) for name, held in named]).write(str(path))
    return path


def mean(path, notes=None, **options):
    return read_image(path, notes=notes, **options)[0].mean((0, 1))


@pytest.mark.parametrize(
    "channels",
    [
        rgb(ALBEDO, "albedo.") | rgb(BEAUTY),
        rgb(ALBEDO, "ViewLayer.DiffCol.") | rgb(BEAUTY, "ViewLayer.Combined.") | {"ViewLayer.Combined.A": flat(1)},
        rgb(ALBEDO, "ViewLayer.Combined.") | rgb(BEAUTY, "Composite.Combined."),
        rgb(ALBEDO, "Albedo.") | rgb(BEAUTY, "beauty."),
        rgb(ALBEDO, "normal.") | rgb(BEAUTY, "render."),
        {"Y": flat(0.1)} | rgb(BEAUTY, "rgba."),
        rgb(BEAUTY, names=("red", "green", "blue")),
        {"Z": flat(7)} | rgb(BEAUTY),
    ],
)
def test_the_beauty_is_read_whatever_lies_beside_it(tmp_path, channels):
    assert mean(write(tmp_path / "a.exr", channels)) == pytest.approx(BEAUTY, abs=1e-6)


@pytest.mark.parametrize("name", ["C", "rgba", "beauty", "Combined"])
def test_parts(tmp_path, name):
    path = parts(tmp_path / "a.exr", ("albedo", rgb(ALBEDO)), (name, rgb(BEAUTY)), ("depth", {"Z": flat(3)}))
    notes = Notes()
    assert mean(path, notes) == pytest.approx(BEAUTY, abs=1e-6)
    assert notes.lines() == [f"a.exr: layer {name} is read, others are left out (albedo): --layer NAME chooses"]
    assert mean(path, layer="Albedo") == pytest.approx(ALBEDO, abs=1e-6)


def test_layers_that_could_all_be_meant_are_named(tmp_path):
    path = write(tmp_path / "a.exr", rgb(BEAUTY, "key.") | rgb(ALBEDO, "fill."))
    with pytest.raises(StspbrError, match=r"none is named as the beauty \(fill, key\): choose with --layer NAME"):
        read_image(path)
    with pytest.raises(StspbrError, match="has no layer rim: choose one of fill, key"):
        read_image(path, layer="rim")
    assert mean(path, layer="key") == pytest.approx(BEAUTY, abs=1e-6)


def test_one_image_is_no_choice(tmp_path):
    notes = Notes()
    assert mean(write(tmp_path / "a.exr", rgb(BEAUTY, "diffuse.")), notes) == pytest.approx(BEAUTY, abs=1e-6)
    assert notes.lines() == []


def test_the_y_of_a_vector_is_no_luminance(tmp_path):
    with pytest.raises(StspbrError, match=r"has no channels R, G, B or Y \(it has: X, Y, Z\)"):
        read_image(write(tmp_path / "a.exr", rgb(BEAUTY, names="XYZ")))


@pytest.mark.parametrize("in_parts", [False, True])
def test_views(tmp_path, in_parts):
    if in_parts:
        views = {"rgba.left": {"view": "left"}, "rgba.right": {"view": "right"}}
        path = parts(tmp_path / "a.exr", ("rgba.left", rgb(BEAUTY)), ("rgba.right", rgb(ALBEDO)), **views)
    else:
        beauty = rgb(BEAUTY) | {"A": flat(1)}
        path = write(tmp_path / "a.exr", beauty | rgb(ALBEDO, "right."), multiView=["left", "right"])
    notes = Notes()
    assert mean(path, notes) == pytest.approx(BEAUTY, abs=1e-6)
    assert notes.lines() == ["a.exr: view left is read, others are left out (right): --layer NAME chooses"]
    assert mean(path, layer="right") == pytest.approx(ALBEDO, abs=1e-6)


AP1 = (0.713, 0.293, 0.165, 0.83, 0.128, 0.044, 0.32168, 0.33767)
PUBLISHED = {  # primaries, and the matrix to linear sRGB as the ACES and Rec. 2020 documents have it
    "ACES AP1 (ACEScg)": (
        AP1,
        [[1.70505, -0.62179, -0.08326], [-0.13026, 1.14080, -0.01055], [-0.02400, -0.12897, 1.15297]],
    ),
    "ACES AP0": (
        (0.7347, 0.2653, 0.0, 1.0, 0.0001, -0.077, 0.32168, 0.33767),
        [[2.52169, -1.13413, -0.38756], [-0.27648, 1.37272, -0.09624], [-0.01538, -0.15298, 1.16835]],
    ),
    "Rec. 2020": (
        (0.708, 0.292, 0.17, 0.797, 0.131, 0.046, 0.3127, 0.329),
        [[1.66049, -0.58764, -0.07285], [-0.12455, 1.13290, -0.00835], [-0.01815, -0.10058, 1.11873]],
    ),
    "Display P3": (
        (0.68, 0.32, 0.265, 0.69, 0.15, 0.06, 0.3127, 0.329),
        [[1.22494, -0.22494, 0], [-0.04206, 1.04206, 0], [-0.01964, -0.07864, 1.09828]],
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", PUBLISHED)
def test_primaries(tmp_path, name):
    chromaticities, matrix = PUBLISHED[name]
    stored, notes = np.array([0.36, 0.30, 0.24]), Notes()
    path = write(tmp_path / "a.exr", rgb(stored), chromaticities=chromaticities)
    assert mean(path, notes) == pytest.approx(np.array(matrix) @ stored, abs=2e-4)
    assert notes.lines() == [f"a.exr: colours in {name} are converted to sRGB's primaries"]


def test_colours_outside_of_the_gamut_are_named(tmp_path):
    notes = Notes()
    path = write(tmp_path / "a.exr", rgb((0.0, 1.0, 0.0)), chromaticities=AP1)
    assert mean(path, notes)[0] == 0 and mean(path)[1] > 1
    assert (
        "a.exr: colours outside of sRGB's gamut are clipped: channels that would be negative become 0" in notes.lines()
    )


def test_srgb_primaries_are_no_news(tmp_path):
    notes = Notes()
    path = write(tmp_path / "a.exr", rgb(BEAUTY), chromaticities=(0.64, 0.33, 0.3, 0.6, 0.15, 0.06, 0.3127, 0.329))
    assert mean(path, notes) == pytest.approx(BEAUTY, abs=1e-6) and notes.lines() == []


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.uint32])
@pytest.mark.parametrize("kind", [OpenEXR.scanlineimage, OpenEXR.tiledimage])
def test_types_and_tiles(tmp_path, dtype, kind):
    tiles = {"tiles": OpenEXR.TileDescription()} if kind == OpenEXR.tiledimage else {}
    path = write(tmp_path / "a.exr", rgb((3, 2, 1), dtype=dtype), type=kind, **tiles)
    assert mean(path) == pytest.approx((3, 2, 1))


def half_exr(path, channels, size):
    """A file of half floats from ``channels`` (array, sampling): OpenEXR's own module writes no subsampling."""

    def attribute(name, kind, value):
        return name.encode() + b"\0" + kind.encode() + b"\0" + struct.pack("<i", len(value)) + value

    width, height = size
    held = sorted(channels.items())
    listed = b"".join(n.encode() + b"\0" + struct.pack("<iIii", 1, 0, step, step) for n, (_, step) in held) + b"\0"
    window = struct.pack("<4i", 0, 0, width - 1, height - 1)
    head = struct.pack("<ii", 20000630, 2) + attribute("channels", "chlist", listed)
    head += attribute("compression", "compression", b"\0") + attribute("lineOrder", "lineOrder", b"\0")
    head += attribute("dataWindow", "box2i", window) + attribute("displayWindow", "box2i", window)
    head += attribute("pixelAspectRatio", "float", struct.pack("<f", 1))
    head += (
        attribute("screenWindowCenter", "v2f", bytes(8)) + attribute("screenWindowWidth", "float", b"\0\0\x80?") + b"\0"
    )
    rows = [
        b"".join(a[y // step].astype("<f2").tobytes() for _, (a, step) in held if y % step == 0) for y in range(height)
    ]
    at, table = len(head) + 8 * height, b""
    for row in rows:
        table, at = table + struct.pack("<Q", at), at + 8 + len(row)
    path.write_bytes(head + table + b"".join(struct.pack("<ii", y, len(row)) + row for y, row in enumerate(rows)))
    return path


@pytest.mark.parametrize("step", [1, 2])
def test_luminance_and_chroma(tmp_path, step):
    """Chroma rises to the right, which bilinear chroma reproduces between its samples."""
    x = np.arange(16.0)
    red, blue = 0.2 + 0.01 * x, -0.3 + 0.01 * x
    luminance = np.full((8, 16), 0.5)
    chroma = {"RY": red, "BY": blue}
    channels = {name: (np.tile(row[::step], (8 // step, 1)), step) for name, row in chroma.items()}
    path = half_exr(tmp_path / "a.exr", {"Y": (luminance, 1), **channels}, (16, 8))
    found = read_image(path)[0]
    assert image_size(path) == (16, 8)
    wanted = np.stack([0.5 * (1 + red), 0.5 - 0.5 * (0.2126 * red + 0.0722 * blue) / 0.7152, 0.5 * (1 + blue)], -1)
    assert np.abs(found[:, :14] - wanted[:14]).max() < 1e-3
    if step == 2:
        with pytest.raises(StspbrError, match="has no layer beauty"):
            read_image(path, layer="beauty")


def test_data_windows(tmp_path):
    inner = rgb(BEAUTY, dtype=np.float16)
    windows = {"dataWindow": ((2, 1), (9, 6)), "displayWindow": ((0, 0), (11, 8))}
    path = write(
        tmp_path / "a.exr",
        {k: np.ascontiguousarray(v) for k, v in inner.items()},
        **{key: tuple(np.array(corner, np.int32) for corner in value) for key, value in windows.items()},
    )
    image = read_image(path)[0]
    assert image.shape == (9, 12, 3) and image_size(path) == (12, 9)
    assert image[1:7, 2:10].mean((0, 1)) == pytest.approx(BEAUTY, abs=1e-3) and image.sum() == pytest.approx(
        image[1:7, 2:10].sum()
    )


def test_pixels_that_are_not_square_are_named(tmp_path):
    notes = Notes()
    mean(write(tmp_path / "a.exr", rgb(BEAUTY), pixelAspectRatio=2.0), notes)
    assert notes.lines() == ["a.exr: the pixel aspect ratio 2 is left out: pixels stay as they are stored"]
